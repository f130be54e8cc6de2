"""Where figures of a run go: CSV files in the run folder always, DVCLive beside them by default."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Protocol

from fschemas.publish import publish_bytes


class Tracker(Protocol):
    """Receives the figures of a run."""

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Add a row to `training` or `validation`."""
        ...

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: those steps will be done again."""
        ...


class CsvTracker:
    """`training.csv` and `validation.csv`: one row a log, the columns of the first row, fit for `dvc plots`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Append a row; a new file starts with the header."""
        path = self.folder / f"{series}.csv"
        row = {"step": step, **{name: f"{value:.6g}" for name, value in values.items()}}
        is_new = not path.exists()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def rewind(self, step: int) -> None:
        """Keep whole rows up to `step`."""
        for path in self.folder.glob("*.csv"):
            if path.stem not in ("training", "validation"):
                continue
            header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
            kept = [row for row in rows if row.endswith("\n") and row.split(",")[0].isdigit() and int(row.split(",")[0]) <= step]
            publish_bytes(path, "".join([header, *kept]).encode())


class DvcliveTracker:
    """DVCLive in `dvclive/`: it draws the curves of `dvc plots` and of its Studio; experiments stay DVC's own business."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("DVCLIVE_LOGLEVEL", "ERROR")
        os.environ.setdefault("DVC_NO_ANALYTICS", "true")
        from dvclive import Live

        self.live = Live(dir=str(folder / "dvclive"), resume=True, save_dvc_exp=False, dvcyaml=None, report=None)

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Log the values under `series/`."""
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(f"{series}/{name}", value)
        self.live.make_summary()

    def rewind(self, step: int) -> None:
        """DVCLive appends; its plots take the last value of a repeated step."""


class Trackers:
    """Several trackers as one; none on processes that do not write."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Log to each."""
        for tracker in self.trackers:
            tracker.log(series, step, values)

    def rewind(self, step: int) -> None:
        """Rewind each."""
        for tracker in self.trackers:
            tracker.rewind(step)

"""Metric loggers: CSV files in the run folder, always written, and DVCLive by default."""

import csv
import os
from pathlib import Path
from typing import Protocol

from fschemas.failures import IntegrityError
from fschemas.publish import publish_bytes
from ftrain.data.csv_text import csv_bytes, csv_rows, plain_text


class Tracker(Protocol):
    """Logs the metrics of a run."""

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Add a row to `training` or `validation`."""
        ...

    def rewind(self, step: int, *, validated: bool = True) -> None:
        """Discard rows after `step`, which will be repeated, and the validation of `step` unless `validated`."""
        ...


class CsvTracker:
    """`training.csv` and `validation.csv`, for `dvc plots`: one row per log, one column per metric."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Append a row; a metric that is not in the file yet gets a new column."""
        path = self.folder / f"{series}.csv"
        row = {"step": str(step), **{name: f"{value:.6g}" for name, value in values.items()}}
        rows = [row]
        columns = list(row)
        if path.exists():
            lines = _text_of(path).splitlines()
            columns = [plain_text(name) for name in next(csv.reader(lines), [])]
            if row.keys() - set(columns):
                rows = [*csv.DictReader(lines, columns), row][1:]
                columns += [name for name in row if name not in columns]
                publish_bytes(path, csv_bytes(columns, _in_order(columns, rows)))
                return
        content = _in_order(columns, rows)
        appended = csv_rows(content) if path.exists() else csv_bytes(columns, content)
        with open(path, "ab") as file:
            file.write(appended)

    def rewind(self, step: int, *, validated: bool = True) -> None:
        """Keep complete rows up to `step`."""
        _rewind_file(self.folder / "training.csv", step, ",")
        _rewind_file(self.folder / "validation.csv", step if validated else step - 1, ",")


class DvcliveTracker:
    """DVCLive in `dvclive/`, for `dvc plots` and DVC Studio. DVC itself manages experiments."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("DVCLIVE_LOGLEVEL", "ERROR")
        os.environ.setdefault("DVC_NO_ANALYTICS", "true")
        from dvclive.live import Live

        self.folder = folder / "dvclive"
        self.live = Live(dir=str(self.folder), resume=True, save_dvc_exp=False, dvcyaml=None, report=None)
        if self.live._dvc_repo is not None:  # noqa: SLF001 - it has read the commit and keeps Git packs open
            self.live._dvc_repo.close()  # noqa: SLF001

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Log the values as `series/<name>`."""
        self.live.step = step
        for name, value in values.items():
            # The DVCLive summary nests names at slashes: `map` cannot be both a number and the parent of
            # `map/skirt_length`.
            self.live.log_metric(f"{series}/{name.replace('/', '.')}", value)
        self.live.make_summary()

    def rewind(self, step: int, *, validated: bool = True) -> None:
        """Keep complete rows up to `step` in each file."""
        series = self.folder / "plots/metrics"
        for path in sorted(series.glob("**/*.tsv")):
            is_validation = path.relative_to(series).parts[0] == "validation"
            _rewind_file(path, step - 1 if is_validation and not validated else step, "\t")


class Trackers:
    """Several trackers combined; none on ranks that do not write files."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Log the values with each tracker."""
        for tracker in self.trackers:
            tracker.log(series, step, values)

    def rewind(self, step: int, *, validated: bool = True) -> None:
        """Rewind each tracker."""
        for tracker in self.trackers:
            tracker.rewind(step, validated=validated)


def _in_order(columns: list[str], rows: list[dict[str, str]]) -> list[list[str]]:
    return [[row.get(name) or "" for name in columns] for row in rows]


def _rewind_file(path: Path, step: int, separator: str) -> None:
    """Keep the header and complete rows with a step (first column) up to `step`; delete a file without rows."""
    if not path.is_file():
        return
    content = _text_of(path)
    header, *rows = content.splitlines(keepends=True) or [""]
    steps = [row.split(separator)[0] for row in rows]
    kept = [row for row, at in zip(rows, steps, strict=True) if row.endswith("\n") and at.isdigit() and int(at) <= step]
    if not kept:
        path.unlink()
    elif len(kept) < len(rows):
        publish_bytes(path, "".join([header, *kept]).encode())


def _text_of(path: Path) -> str:
    """Read a file of metrics. Raises `IntegrityError` if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{path}: not UTF-8 (byte {error.start}); restore the file, or remove it to start a new log"
        ) from None

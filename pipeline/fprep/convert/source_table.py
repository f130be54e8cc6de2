"""The source table of a shard set: opened, validated, and optionally with predicted boxes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from fprep.convert.report import REPORT_FILE, REPORT_SHAPE
from fschemas.failures import FashionkitError, IntegrityError, UsageError
from fschemas.folders import require_folder
from fschemas.json_file import SEAL, parse_json, read_json
from fschemas.publish import sha256_of
from fschemas.table_file import read_metadata, read_table
from fschemas.tables import COLUMN_GROUPS, BoxColumns, SampleTable, table_named

_PREDICTIONS = "predictions.jsonl"
_REPEAT = "run `ftrain predict` again"


@dataclass(frozen=True)
class SourceTable:
    """An open table: path, digest, metadata and rows. `boxes_digest` is the digest of predicted boxes, or ""."""

    path: Path
    sha256: str
    metadata: dict[str, Any]
    frame: pl.DataFrame
    boxes_digest: str = ""

    @classmethod
    def open(cls, location: Path) -> SourceTable:
        """Read a table file or the table in a folder.

        Raises `UsageError` if missing, `IntegrityError` for invalid rows.
        """
        path = table_path(location)
        check_table_digest(path)
        metadata, frame = read_metadata(path), pl.DataFrame(read_table(path))
        table = table_named(str(metadata.get("table")))
        missing = [name for name in table.column_names() if name not in frame.columns]
        if missing or not table.is_valid(frame, cast=True):
            broken = f"rows break the rules of {table.__name__}"
            what = f"columns {', '.join(missing)} are missing" if missing else broken
            raise IntegrityError(f"{path}: {what}; run `fprep convert` again")
        return cls(path, sha256_of(path), metadata, frame)

    def with_predicted_boxes(self, predictions: Sequence[Path]) -> SourceTable:
        """Return the table with its boxes replaced by predicted ones, so that models can crop to the garment.

        `predictions` are `predictions.jsonl` files (or their folders) of `ftrain predict` on shards of this table. Raises
        `UsageError` if an image has no predicted box or its box lies outside the image.
        """
        boxes = _predicted_boxes([path / _PREDICTIONS if path.is_dir() else path for path in predictions])
        keys = self.frame["key"].to_list()
        missing = [key for key in keys if key not in boxes]
        if missing:
            files = ", ".join(str(path) for path in predictions)
            raise UsageError(
                f"{files}: no box for {len(missing)} of {len(keys)} images of {self.path}, such as {missing[0]}; "
                "predict every split of its shards with a model that finds boxes"
            )
        found = pl.Series("box", [boxes[key] for key in keys], pl.List(pl.Float32))
        frame = self.frame.with_columns(found)
        groups = [name for name in COLUMN_GROUPS if name == "box" or name in self.metadata["column_groups"]]
        accepted, _ = BoxColumns.filter(frame.select(BoxColumns.column_names()), cast=True)
        if len(accepted) < len(frame):
            wrong = frame.filter(~pl.col("key").is_in(accepted["key"].to_list()))["key"][0]
            raise UsageError(
                f"the box {boxes[wrong]} of {wrong} is empty or extends beyond the image; use a better model"
            )
        digest = hashlib.sha256(json.dumps([boxes[key] for key in keys]).encode()).hexdigest()
        metadata = {**self.metadata, "table": "+".join(groups), "column_groups": groups}
        return replace(self, metadata=metadata, frame=frame, boxes_digest=digest)

    @property
    def annotation_columns(self) -> tuple[str, ...]:
        """Columns of the sample annotations, in table order."""
        return tuple(name for name in self.frame.columns if name not in SampleTable.column_names())

    @property
    def flip_index(self) -> tuple[int, ...]:
        """Flip index of the landmark set; empty for a table without landmarks."""
        landmark_set: dict[str, Any] | None = self.metadata.get("landmark_set")
        return tuple(landmark_set["partners"]) if landmark_set else ()

    def raw_root(self, images: Path | None) -> Path:
        """Return the folder of the images. Raises `UsageError` if it does not exist."""
        root = images or self.path.parent / str(self.metadata.get("raw_root", ""))
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder for the images of {self.path}; pass it with --images")
        return root

    def rows(self, numbers: tuple[int, ...]) -> list[dict[str, Any]]:
        """Return `selected` as dicts."""
        return self.selected(numbers).to_dicts()

    def selected(self, numbers: tuple[int, ...]) -> pl.DataFrame:
        """Return rows in plain types, 32-bit floats as the shortest decimal that round-trips: 12.3, not 12.30000019."""
        frame = self.frame[list(numbers)]
        short = pl.element().cast(pl.String).cast(pl.Float64)
        shortest = [pl.col(name).list.eval(short) for name, kind in frame.schema.items() if kind == pl.List(pl.Float32)]
        nested = [name for name, kind in frame.schema.items() if kind == pl.List(pl.List(pl.Float32))]
        shortest += [pl.col(name).list.eval(pl.element().list.eval(short)) for name in nested]
        shortest.append(pl.col(pl.Float32).cast(pl.String).cast(pl.Float64))
        shortest.append(pl.col(pl.Enum, pl.Categorical).cast(pl.String))
        return frame.with_columns(shortest)


def table_path(location: Path) -> Path:
    """Return the path of a table, given the file or its folder. Raises `UsageError` for another kind of folder."""
    if not location.is_dir():
        return location
    require_folder(location, "table")
    return location / "table.parquet"


def check_table_digest(table: Path) -> None:
    """Raise `IntegrityError` if the report next to a table has another digest for it.

    Needed because Parquet page checksums do not cover names, types and metadata.
    """
    report = table.with_name(REPORT_FILE)
    try:
        expected = read_json(report, REPORT_SHAPE, sealed=True, remedy="run `fprep convert` again").get("table_sha256")
    except UsageError:  # no report
        return
    if expected and table.exists() and sha256_of(table) != expected:
        raise IntegrityError(
            f"{table}: not the table of the {report.name} next to it (SHA-256 differs); run `fprep convert` again"
        )


def _predicted_boxes(files: Sequence[Path]) -> dict[str, list[float]]:
    """Return boxes by key; predictions without a box (unreadable images) are skipped.

    Raises `IntegrityError` for a line that does not match its digest, `UsageError` for other files than those of
    `ftrain predict`.
    """
    boxes: dict[str, list[float]] = {}
    for path in files:
        if not path.is_file():
            raise UsageError(f"{path}: no such file; write one with `ftrain predict RUN SHARDS --out FOLDER`")
        if not path.stat().st_size:
            raise IntegrityError(f"{path}: empty; {_REPEAT}")
        is_sealed = False
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                is_sealed |= SEAL.encode() in line  # the key name itself may be damaged
                try:
                    shape, source = {"key?": str, "box?": [float]}, f"{path}:{number}"
                    prediction = parse_json(line, shape, sealed=True, source=source, remedy=_REPEAT)
                    if "box" in prediction:
                        boxes[prediction["key"]] = [float(edge) for edge in prediction["box"]]
                except (FashionkitError, KeyError) as error:
                    if is_sealed and isinstance(error, IntegrityError):
                        raise
                    raise UsageError(
                        f"{path}:{number}: not a prediction of `ftrain predict` over a shard set"
                    ) from None
    return boxes

"""The table that a shard set is made of: opened, checked, and if asked for with boxes that a model found."""

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

_ANSWERS = "predictions.jsonl"
_REPEAT = "run `ftrain predict` again"


@dataclass(frozen=True)
class SourceTable:
    """An opened table: where it is, its digest, its metadata and its rows; `boxes_digest` of boxes that are not its own."""

    path: Path
    sha256: str
    metadata: dict[str, Any]
    frame: pl.DataFrame
    boxes_digest: str = ""

    @classmethod
    def open(cls, place: Path) -> SourceTable:
        """Read a table or the one in a folder; raises `UsageError` when missing, `IntegrityError` for broken rows."""
        path = table_path(place)
        check_table_digest(path)
        metadata, frame = read_metadata(path), pl.DataFrame(read_table(path))
        table = table_named(str(metadata.get("table")))
        missing = [name for name in table.column_names() if name not in frame.columns]
        if missing or not table.is_valid(frame, cast=True):
            broken = f"rows break the rules of {table.__name__}"
            what = f"columns {', '.join(missing)} are missing" if missing else broken
            raise IntegrityError(f"{path}: {what}; run `fprep convert` again")
        return cls(path, sha256_of(path), metadata, frame)

    def with_found_boxes(self, answers: Sequence[Path]) -> SourceTable:
        """The table with boxes that a model found in place of its own, so that networks can look at the garment alone.

        `answers` are `predictions.jsonl` of `ftrain predict` over shards of this table, or their folders. Raises `UsageError` where
        an image has no box there, or one that does not lie in it.
        """
        boxes = _found_boxes([path / _ANSWERS if path.is_dir() else path for path in answers])
        keys = self.frame["key"].to_list()
        missing = [key for key in keys if key not in boxes]
        if missing:
            files = ", ".join(str(path) for path in answers)
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
            raise UsageError(f"the box {boxes[wrong]} of {wrong} is empty or leaves the image; use a better model")
        digest = hashlib.sha256(json.dumps([boxes[key] for key in keys]).encode()).hexdigest()
        metadata = {**self.metadata, "table": "+".join(groups), "column_groups": groups}
        return replace(self, metadata=metadata, frame=frame, boxes_digest=digest)

    @property
    def annotation_columns(self) -> tuple[str, ...]:
        """Columns that go into the annotation of a sample, in the table's order."""
        return tuple(name for name in self.frame.columns if name not in SampleTable.column_names())

    @property
    def partners(self) -> tuple[int, ...]:
        """Left-right partners of the landmark set; empty for a table without landmarks."""
        landmark_set: dict[str, Any] | None = self.metadata.get("landmark_set")
        return tuple(landmark_set["partners"]) if landmark_set else ()

    def raw_root(self, images: Path | None) -> Path:
        """Where the images are; raises `UsageError` when there is no such folder."""
        root = images or self.path.parent / str(self.metadata.get("raw_root", ""))
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder for the images of {self.path}; name it with --images")
        return root

    def rows(self, numbers: tuple[int, ...]) -> list[dict[str, Any]]:
        """`selected` as dicts."""
        return self.selected(numbers).to_dicts()

    def selected(self, numbers: tuple[int, ...]) -> pl.DataFrame:
        """Rows in plain types; 32-bit floats as the shortest decimal that gives them back: 12.3 and not 12.30000019."""
        frame = self.frame[list(numbers)]
        short = pl.element().cast(pl.String).cast(pl.Float64)
        shortest = [pl.col(name).list.eval(short) for name, kind in frame.schema.items() if kind == pl.List(pl.Float32)]
        nested = [name for name, kind in frame.schema.items() if kind == pl.List(pl.List(pl.Float32))]
        shortest += [pl.col(name).list.eval(pl.element().list.eval(short)) for name in nested]
        shortest.append(pl.col(pl.Float32).cast(pl.String).cast(pl.Float64))
        shortest.append(pl.col(pl.Enum, pl.Categorical).cast(pl.String))
        return frame.with_columns(shortest)


def table_path(place: Path) -> Path:
    """The table at a place, a file or the folder that holds it; raises `UsageError` for a folder of another kind."""
    if not place.is_dir():
        return place
    require_folder(place, "table", missing="no such table; write it with `fprep convert`")
    return place / "table.parquet"


def check_table_digest(table: Path) -> None:
    """Raise `IntegrityError` where the report beside a table, if there is one, names another.

    Page checksums do not cover names, types and metadata of a table.
    """
    report = table.with_name(REPORT_FILE)
    try:
        expected = read_json(report, REPORT_SHAPE, sealed=True, remedy="run `fprep convert` again").get("table_sha256")
    except UsageError:  # there is none
        return
    if expected and table.exists() and sha256_of(table) != expected:
        raise IntegrityError(
            f"{table}: not the table of the {report.name} beside it (SHA-256 differs); run `fprep convert` again"
        )


def _found_boxes(files: Sequence[Path]) -> dict[str, list[float]]:
    """Boxes by key; answers without a box (images that could not be read) are left out.

    Raises `IntegrityError` for a line that does not bear its digest, `UsageError` for what `ftrain predict` did not write.
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
                is_sealed |= SEAL.encode() in line  # its name may be what was damaged
                try:
                    shape, place = {"key?": str, "box?": [float]}, f"{path}:{number}"
                    answer = parse_json(line, shape, sealed=True, place=place, remedy=_REPEAT)
                    if "box" in answer:
                        boxes[answer["key"]] = [float(edge) for edge in answer["box"]]
                except (FashionkitError, KeyError) as error:
                    if is_sealed and isinstance(error, IntegrityError):
                        raise
                    raise UsageError(f"{path}:{number}: not an answer of `ftrain predict` over a shard set") from None
    return boxes

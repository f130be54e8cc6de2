"""One run of `fprep convert` over the rows: reader, images, evidence, duplicates, splits, rules."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from fprep.convert.evidence import Evidence, share_rows
from fprep.convert.group_split import near_rows, split_by_groups
from fprep.convert.report import ConvertReport, account, compare_totals, recognized
from fprep.convert.row_images import (
    compare_size,
    find_images,
    inspect_images,
    note_assumed_orientation,
    note_unfollowed_links,
    orientations_of,
)
from fprep.convert.rules import broken_rules, count_warnings, describe
from fprep.convert.splits import IDENTITY, cut_train, duplicate_rows, shares_to_cut, unique_keys, warn_empty_splits
from fprep.images.check import ImageFacts
from fprep.raw.folder import RawFolder
from fprep.raw.spill import SPILL_ROW
from fprep.readers.class_names import warn_similar_names
from fprep.readers.orientation import ASSUMED, EXIF_ORIENTATION, to_upright
from fprep.readers.reader import BOX_TEXT, IMAGE_COLUMNS, Reader, columns_of
from fprep.readers.units import CoordinateFormat, to_pixels
from fschemas.progress import Progress
from fschemas.tables import COLUMN_GROUPS, SampleTable, table_class
from fschemas.wording import count

_ROWS_AT_ONCE = 16384  # if wide columns are spilled to disk
_LOOK_AT = 8  # with spilled columns, evidence samples blocks 1/8 as large, 8 times as far apart


class Conversion:
    """One run over the rows. `frame` holds the rows kept so far; `rows` yields them with their spilled columns."""

    def __init__(
        self, reader: Reader, raw: RawFolder, report: ConvertReport, progress: Progress, group_split: bool
    ) -> None:
        self.reader, self.raw, self.report, self.progress, self.group_split = reader, raw, report, progress, group_split
        self.frame = pl.DataFrame()
        self.wanted_splits: dict[str, float] = {}
        self.written = CoordinateFormat.of(raw.mapping)
        reader.orientation_of(raw.mapping)

    def run(self, images: str, val_share: float, test_share: float, workers: int, limit: int | None) -> None:
        """Read and check everything. See `fprep.convert.command.convert` for the arguments."""
        schema = self._read(limit)
        if images == "none":
            self.frame = find_images(self.raw, self.frame)
        else:
            self._check_images(decode=images == "full", workers=workers)
        self._check_evidence()
        self.frame = to_upright(self.frame)
        if "box" in self.frame.columns:
            self._fill_boxes()
        self._drop_duplicates()
        if self.group_split:
            self._split_by_groups(self.raw.root if images != "none" else None, val_share, test_share, workers)
        else:
            self._cut_splits(val_share, test_share)
        keys = unique_keys(self.frame["key"].to_list(), self.frame["image"].to_list())
        internal = [name for name in (SPILL_ROW, EXIF_ORIENTATION, BOX_TEXT) if name in self.frame.columns]
        kept = [pl.col(name).cast(kind) for name, kind in schema.items()]
        self.frame = self.frame.with_columns(pl.Series("key", keys, pl.String)).select(*kept, *internal)
        self._check_rules()
        count_warnings(self.frame, self.reader, self.raw)
        warn_similar_names(self.frame, self.raw)
        warn_empty_splits(self.frame, self.raw, self.wanted_splits)
        self.report.variants = recognized(self.reader, self.raw)
        compare_totals(self.report, self.raw, dict(self.reader.totals))
        account(self.report, self.raw, self.frame)

    def _read(self, limit: int | None) -> dict[str, pl.DataType]:
        """Read the rows, at most `limit`, without repeated ones; return the columns of the table that are not spilled."""
        self.progress("read", 0, 1)
        frame = self.reader.read(self.raw).collect()
        note_unfollowed_links(self.raw)
        if self.reader.any_groups:
            landmarks = self.raw.landmark_set or self.reader.landmark_set if "garment" in frame.columns else None
            groups = self.raw.column_groups or COLUMN_GROUPS
            table = table_class(*(group for group in groups if set(COLUMN_GROUPS[group]) <= set(frame.columns)))
            instances = self.reader.instances or self.raw.instances
            self.reader = replace(self.reader, table=table, landmark_set=landmarks, instances=instances)
        spill = self.raw.spill.schema if self.raw.spill else {}
        schema = {name: kind for name, kind in columns_of(self.reader.table).items() if name not in spill}
        missing = {name: kind for name, kind in schema.items() if name not in frame.columns}
        self.frame = frame.with_columns(pl.lit(None, kind).alias(name) for name, kind in missing.items())
        self.progress("read", 1, 1)
        if limit is not None and limit < len(self.frame):
            chosen = {index * len(self.frame) // limit for index in range(limit)}
            self._leave_out([index for index in range(len(self.frame)) if index not in chosen])
            self.raw.notes.append(f"--limit {limit}: the other rows are left out")
        self._drop_repeated_rows()
        return schema

    def rows(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (number of preceding rows, rows with all columns of the table) in blocks."""
        schema = columns_of(self.reader.table)
        if self.raw.spill is None:
            yield 0, self.frame.select(*schema)
            return
        for start in range(0, len(self.frame), _ROWS_AT_ONCE):
            narrow = self.frame[start : start + _ROWS_AT_ONCE]
            wide = to_upright(self._spilled(narrow))
            rows = narrow.hstack([wide[name] for name in self.raw.spill.schema])
            yield start, rows.select(pl.col(name).cast(kind) for name, kind in schema.items())

    def _spilled(self, narrow: pl.DataFrame) -> pl.DataFrame:
        """Return the spilled columns of these rows, plus the columns that rotation to upright needs."""
        assert self.raw.spill is not None
        names = ("width", "height", EXIF_ORIENTATION, ASSUMED, "image_orientation")
        sizes = narrow.select(name for name in names if name in narrow.columns)
        return self.raw.spill.read(narrow[SPILL_ROW]).hstack(sizes)

    def _reject(
        self, index: int, rule: str, message: str, column: str, found: str, rules: tuple[str, ...] = ()
    ) -> None:
        row = self._line(index)
        points = self.reader.landmark_set.names if self.reader.landmark_set else ()
        location = self.raw.location(row, "landmark" if column in points else column)
        self.raw.reject(row, rule, message, location=location, column=column, found=found, rules=rules)

    def _line(self, index: int) -> Any:
        return self.raw.line(self.frame["source_file"][index], self.frame["source_line"][index])

    def _keep(self, dropped: set[int]) -> None:
        keep = [index not in dropped for index in range(len(self.frame))]
        self.frame = self.frame.filter(pl.Series(keep, dtype=pl.Boolean)) if dropped else self.frame

    def _leave_out(self, indices: Sequence[int]) -> None:
        for file in self.frame[list(indices), "source_file"]:
            self.raw.account(file, "left_out")
        self._keep(set(indices))

    def _drop_repeated_rows(self) -> None:
        again = self.frame.select(pl.col("image").is_duplicated().arg_true()).to_series()
        twins = self.frame.select("image", "source_file", "source_line")[again]
        seen: dict[tuple[str, bytes], tuple[int, str]] = {}
        dropped: set[int] = set()
        for index, (image, file, line) in zip(again.to_list(), twins.iter_rows(), strict=True):
            if file not in self.raw.files:  # a document contains one row
                continue
            first, location = seen.setdefault((image, self.raw.line(file, line).content), (index, f"{file}:{line}"))
            if first != index:
                self._reject(index, "duplicate_row", f"duplicate of {location}", "", image)
                dropped.add(index)
        self._keep(dropped)

    def _check_images(self, *, decode: bool, workers: int) -> None:
        progress = functools.partial(self.progress, "images")
        self.frame, facts = inspect_images(self.raw, self.frame, decode=decode, workers=workers, progress=progress)
        sizes = self.frame.select("width", "height").rows()  # as stated by the annotations
        facts = [compare_size(fact, *size) if size[0] else fact for fact, size in zip(facts, sizes, strict=True)]
        applied, assumed = orientations_of(self.frame, self.raw, self.reader, facts, sizes)
        kinds = columns_of(SampleTable)
        self.frame = self.frame.with_columns(
            *(pl.Series(name, [getattr(fact, name.removeprefix("image_")) for fact in facts], kinds[name]) for name in IMAGE_COLUMNS),
            pl.Series(EXIF_ORIENTATION, applied, pl.Int8), pl.Series(ASSUMED, assumed, pl.Boolean),
        )  # fmt: skip
        facts = self._leave_out_bare_lists(facts)
        for index, (name, fact) in enumerate(zip(self.frame["image"].to_list(), facts, strict=True)):
            if fact.rule:
                self._reject(index, fact.rule, f"{name}: {fact.message}", "image", fact.found or name)
            for rule in fact.warnings:
                self.raw.warn(rule, name)
        self._keep({index for index, fact in enumerate(facts) if fact.rule})
        note_assumed_orientation(self.frame, self.raw, self.reader)

    def _check_evidence(self) -> None:
        """Refuse a table with coordinates in another unit or form, and reject single rows that have them."""
        self.frame = to_pixels(self.frame, self.written)
        evidence = Evidence()
        evidence.add(self.frame)
        if self.raw.spill is not None:
            for start in range(0, len(self.frame), _ROWS_AT_ONCE * _LOOK_AT):
                evidence.add(self._spilled(self.frame[start : start + _ROWS_AT_ONCE // _LOOK_AT]))
        form = self.raw.mapping.get("box-form") or self.raw.box_form
        note = evidence.evaluate(self.reader, form, self.reader.orientation_of(self.raw.mapping))
        self.frame = self.frame.drop(ASSUMED, strict=False)
        self.raw.notes += [note] if note else []
        dropped: set[int] = set()
        for column, rows in share_rows(self.frame).items():
            for index in (set(rows.arg_true().to_list()) - dropped) if rows.any() else ():
                what = "the box lies" if column == "box" else "all landmarks lie"
                message = f"{what} within 0 to 1, unlike those of other rows: shares of the image instead of pixels"
                self._reject(index, "not_pixels", message, column, str(self.frame[column][index].to_list())[:100])
                dropped.add(index)
        self._keep(dropped)

    def _leave_out_bare_lists(self, facts: list[ImageFacts]) -> list[ImageFacts]:
        """Leave out lists of unlabeled images none of which exists: these archives were not unpacked."""
        splits, files = self.frame["split"].to_list(), self.frame["source_file"].to_list()
        if all(split == "unlabeled" for split in splits):
            return facts
        bare = {file for file, split in zip(files, splits, strict=True) if split == "unlabeled"}
        bare -= {file for file, fact in zip(files, facts, strict=True) if fact.rule != "missing_image"}
        for file in sorted(bare):
            self.raw.notes.append(f"{file}: left out: {count(files.count(file), 'name')} without label and image")
        dropped = [index for index, file in enumerate(files) if file in bare]
        self._leave_out(dropped)
        return [fact for fact, file in zip(facts, files, strict=True) if file not in bare]

    def _fill_boxes(self) -> None:
        """Use the whole image as the box of rows without labels, if the image size is known."""
        unknown = (self.frame["box"].is_null() & self.frame["width"].is_null()).arg_true().to_list()
        if unknown:
            self.raw.notes.append(f"left out: {count(len(unknown), 'row')} without a box, of images of unknown size")
            self._leave_out(unknown)
        corners = [pl.lit(0.0), pl.lit(0.0), pl.col("width") - 1, pl.col("height") - 1]
        whole = pl.concat_list([corner.cast(pl.Float32) for corner in corners])
        self.frame = self.frame.with_columns(pl.col("box").fill_null(whole))

    def _drop_duplicates(self) -> None:
        """Drop all rows of an image copy. If the reader has `instances`, several rows of one image are kept."""
        images, splits = self.frame["image"], self.frame["split"]
        dropped = duplicate_rows(self.frame, instances=self.reader.instances)
        for index, first, rule in dropped:
            kept = f"{self._line(first)} ({images[first]}, {splits[first]})"
            what = "is held out of training at" if rule == "leaked_image" else "is already used at"
            self._reject(index, rule, f"the image {images[index]} {what} {kept}", "image", images[index])
        self.frame = self.frame.with_columns(pl.coalesce("group", IDENTITY).alias("group"))
        self._keep({index for index, _, _ in dropped})

    def _split_by_groups(self, root: Path | None, val_share: float, test_share: float, workers: int) -> None:
        """Re-split the rows, and drop near-duplicates of rows in a more held-out split."""
        progress = functools.partial(self.progress, "looks")
        pairs = near_rows(self.frame, root, self.raw.follow_links, workers, progress) if root else []
        cut = split_by_groups(self.frame, val_share=val_share, test_share=test_share, pairs=pairs)
        self.raw.notes.append(cut.note)
        images = self.frame["image"]
        for index, other in cut.twins:
            message = f"the image {images[index]} looks like {images[other]}, which is held out ({cut.splits[other]})"
            self._reject(index, "leaked_twin", message, "image", images[index])
        columns = pl.Series("split", cut.splits, pl.String), pl.Series("group", cut.groups, pl.String)
        self.frame = self.frame.with_columns(columns)
        self._keep({index for index, _ in cut.twins})
        self._expect_splits({"val": val_share, "test": test_share})

    def _expect_splits(self, shares: dict[str, float]) -> None:
        self.wanted_splits = {split: share for split, share in shares.items() if share > 0}
        self.wanted_splits |= {"train": 1 - sum(shares.values())} if self.wanted_splits else {}

    def _cut_splits(self, val_share: float, test_share: float) -> None:
        if self.reader.splits == "given" or self.raw.splits_are_given:
            return
        splits, groups = self.frame["split"].to_list(), self.frame["group"].to_list()
        shares = shares_to_cut(splits, val_share=val_share, test_share=test_share)
        self._expect_splits({split: share for split, share in shares.items() if "train" in splits})
        cut = cut_train(groups, val_share=shares["val"], test_share=shares["test"])
        splits = [new if old == "train" else old for old, new in zip(splits, cut, strict=True)]
        self.frame = self.frame.with_columns(pl.Series("split", splits, pl.String))

    def _check_rules(self) -> None:
        self.progress("check", 0, 1)
        again = self.frame["key"].is_duplicated().arg_true()
        broken: set[int] = set()
        for start, part in self.rows():
            found = broken_rules(part, self.reader)
            for index in again.filter((again >= start) & (again < start + len(part))):
                rules = found.setdefault(index - start, [])
                rules += [] if "duplicate_key" in rules else ["duplicate_key"]
            for index, rules in sorted(found.items()):
                as_read = [name for name in (EXIF_ORIENTATION, BOX_TEXT) if name in self.frame.columns]
                row = part.row(index, named=True) | {name: self.frame[name][start + index] for name in as_read}
                column, message, value = describe(rules[0], row, self.reader, self.written)
                self._reject(start + index, rules[0], message, column, value, tuple(rules))
            broken |= {start + index for index in found}
        self._keep(broken)
        self.progress("check", 1, 1)

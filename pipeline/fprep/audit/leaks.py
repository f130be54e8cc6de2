"""Duplicates and leaks between train, val and test, in one table or across several.

A held-out image, item or group in train is an error; a test image, item or group in val is a warning.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from fprep.audit.findings import Findings, RowRef
from fprep.audit.tables import AuditTable, Images
from fprep.convert.splits import PRIORITY
from fprep.near_duplicates.pairs import NearPairs
from fprep.readers.reader import short_hash
from fschemas.splits import HELD_OUT


def find_image_problems(refs: Sequence[RowRef], images: Images, findings: Findings) -> None:
    """Report images that are missing, damaged, blank or different from the table."""
    changed = "has changed since the table was written"
    descriptions = {"missing": "is missing", "unreadable": "cannot be decoded", "changed": changed}
    for row, problem in images.problems:
        severity = "warning" if problem == "missing" else "error"
        findings.add(f"image_{problem}", severity, f"{refs[row].image} {descriptions[problem]}", refs[row])
    for row in np.flatnonzero(images.blank[images.of_row]).tolist():
        findings.add("image_blank", "warning", f"{refs[row].image} is blank", refs[row])


def find_identical(refs: Sequence[RowRef], images: Images, findings: Findings) -> list[tuple[int, int]]:
    """Report rows with identical images under two names or in two tables; return pairs of row indices.

    Each image is represented by its row in the most binding split, to which the others are compared. Several garments
    of one image are rows with the same image path in one table: these are not duplicates, but must not be in different
    splits either.
    """
    twins: list[tuple[int, int]] = []
    for members in _rows_by_number(images.of_row).values():
        ordered = sorted(members, key=lambda row: (PRIORITY[refs[row].side], row))
        first = refs[ordered[0]]
        for row in ordered[1:]:
            ref = refs[row]
            same_name = (ref.number, ref.image) == (first.number, first.image)
            if not same_name:
                twins.append((row, ordered[0]))
            severity = _leak_severity(ref, first)
            if severity:
                what = f"{_usage(ref)}, and is {first.split} as {first.image}{_of_table(ref, first)}"
                findings.add("leak_identical", severity, what, ref, first, distance=0)
            elif not same_name:
                what = f"{ref.image} is the same file as {first.image}{_of_table(ref, first)}"
                severity = "info" if ref.number != first.number else "warning"
                findings.add("duplicate_identical", severity, what, ref, first, distance=0)
    return twins


def find_same_paths(refs: Sequence[RowRef], rows: pl.DataFrame, findings: Findings) -> None:
    """Report images with the same path in one family of benchmarks, if the bytes of one of them are unknown."""
    if rows["table"].n_unique() < 2 or not (rows["sha256"] == "").any():
        return
    unique = rows.with_row_index("index").unique(["table", "image"], keep="first", maintain_order=True)
    unique = unique.select("index", "table", "family", "image", "side", "sha256")
    pairs = unique.join(unique, on=["family", "image"], suffix="_other").filter(
        pl.col("table") != pl.col("table_other"), (pl.col("sha256") == "") | (pl.col("sha256_other") == ""),
        pl.col("side").is_in(["train", "val"]), pl.col("side_other").is_in(HELD_OUT),
    )  # fmt: skip
    pairs = pairs.sort("index", "index_other")
    for row, other_row in pairs.select("index", "index_other").iter_rows():
        ref, other = refs[row], refs[other_row]
        severity = _leak_severity(ref, other)
        if severity:
            what = f"{_usage(ref)}, and is {other.split}{_of_table(ref, other)} under the same path"
            findings.add("leak_identical", severity, what, ref, other, distance=0)


def find_near(
    refs: Sequence[RowRef], images: Images, pairs: NearPairs, findings: Findings
) -> list[tuple[int, int, int]]:
    """Report near-identical images, one finding per row about its nearest match; return (row, row, bits apart)."""
    members = _rows_by_number(images.of_row)
    twins: list[tuple[int, int, int]] = []
    seen: dict[tuple[int, bool], int] = {}
    order = np.lexsort((pairs.second, pairs.first, pairs.distance))
    for index in order.tolist():
        distance, flipped = int(pairs.distance[index]), bool(pairs.flipped[index])
        sides = [members[int(column[index])] for column in (pairs.first, pairs.second)]
        a, b = (sorted(numbers, key=lambda row: (PRIORITY[refs[row].side], row)) for numbers in sides)
        if not flipped:
            twins.append((a[0], b[0], distance))
        # The most binding row of one image against the least binding labeled row of the other, both ways.
        options = [(_last_labeled(a, refs), b[0]), (_last_labeled(b, refs), a[0])]
        row, other_row = min(options, key=lambda option: _urgency(refs[option[0]], refs[option[1]]))
        ref, other = refs[row], refs[other_row]
        severity = _leak_severity(ref, other)
        if (row, bool(severity)) in seen:
            continue
        seen[row, bool(severity)] = index
        alike = f"{'a flipped copy of' if flipped else 'nearly the same image as'} {other.image}"
        if severity:
            what = f"{_usage(ref)} and is {alike}, which is {other.split}{_of_table(ref, other)}"
            findings.add("leak_near", severity, what, ref, other, distance=distance)
        else:
            what = f"{ref.image} is {alike}{_of_table(ref, other)}"
            findings.add("duplicate_near", "info", what, ref, other, distance=distance)
    return twins


def find_shared_groups(refs: Sequence[RowRef], rows: pl.DataFrame, findings: Findings) -> None:
    """Report items and groups in several splits, one finding each.

    Names are compared within a data set, and those that contain a folder within a family of benchmarks.
    """
    reported: set[tuple[str, ...]] = set()
    for column in ("item", "group"):
        has_folder = pl.col(column).str.contains("/", literal=True)
        named = rows.with_row_index("index").filter((pl.col(column) != "") & (pl.col("side") != "unlabeled"))
        found = (
            named.with_columns(scope=pl.when(has_folder).then("family").otherwise("dataset"))
            .group_by("scope", column, maintain_order=True)
            .agg(
                *(pl.col("index").filter(pl.col("side") == side).first().alias(side) for side in ("train", "val", "test")),
                *((pl.col("side") == side).sum().alias(f"num_{side}") for side in ("train", "val", "test")),
                pl.col("image").first().alias("image"), pl.col("image").n_unique().alias("images"), pl.col("sha256").first(),
            )
            .filter(pl.sum_horizontal(pl.col(f"num_{side}") > 0 for side in ("train", "val", "test")) > 1)
        )  # fmt: skip
        for row in found.iter_rows(named=True):
            present = [side for side in ("train", "val", "test") if row[f"num_{side}"]]
            ref, other = refs[row[present[0]]], refs[row[present[-1]]]
            signature = (ref.table, ref.key, other.table, other.key)
            is_image = row[column] in (row["image"], row["sha256"])  # reported as such
            if signature in reported or is_image:
                continue
            reported.add(signature)
            counts = " and ".join(f"{row[f'num_{side}']} in {side}" for side in present)
            severity = "error" if "train" in present else "warning"
            name = row[column] if len(row[column]) <= 60 else f"{row[column][:50]}… ({short_hash(row[column])})"
            what = f"the {column} {name} has {counts}{_of_table(ref, other)}"
            findings.add(f"leak_{column}", severity, what, ref, other)


def find_coarse_leaks(
    tables: Sequence[AuditTable], refs: Sequence[RowRef], rows: pl.DataFrame, findings: Findings
) -> None:
    """Report training rows held out by the coarse benchmark: errors if its table is audited too, else warnings."""
    is_held = (pl.col("side") == "train") & pl.col("coarse_split").is_in(["val", "test"])
    held = rows.with_row_index("index").filter(is_held).select("index", "coarse_split")
    for row, coarse in held.iter_rows():
        ref = refs[row]
        family = tables[ref.number].family
        is_audited = any(number != ref.number and table.family == family for number, table in enumerate(tables))
        what = f"{ref.image} is in train here, but in {coarse} of the Category and Attribute benchmark"
        findings.add("leak_coarse_split", "error" if is_audited else "warning", what, ref, other_split=coarse)


def _rows_by_number(numbers: np.ndarray) -> dict[int, list[int]]:
    order = np.argsort(numbers, kind="stable")
    values, starts = np.unique(numbers[order], return_index=True)
    return dict(zip(values.tolist(), (piece.tolist() for piece in np.split(order, starts[1:])), strict=True))


def _last_labeled(ordered: list[int], refs: Sequence[RowRef]) -> int:
    labeled = [row for row in ordered if refs[row].side != "unlabeled"]
    return (labeled or ordered)[-1]


def _urgency(ref: RowRef, other: RowRef) -> tuple[int, int, int, str]:
    """Sort key: errors, then warnings, then others, where the later row is the one to remove."""
    rank = {"error": 0, "warning": 1, "": 2}[_leak_severity(ref, other)]
    return rank, -PRIORITY[ref.side], -ref.number, "" if ref.key > other.key else "~"


def _leak_severity(ref: RowRef, other: RowRef) -> str:
    if ref.side == "train" and other.side in HELD_OUT:
        return "error"
    return "warning" if ref.side == "val" and other.side == "test" else ""


def _usage(ref: RowRef) -> str:
    return f"{ref.image} is {'trained on' if ref.side == 'train' else ref.split}"


def _of_table(ref: RowRef, other: RowRef) -> str:
    return f" of {other.table}" if ref.number != other.number else ""

"""Sections of numbers: rows, splits and classes, attributes, other labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from fprep.report.charts import Bar, bars, legend, panel, shares
from fprep.report.data import CLASS_COLUMNS, PageData, counts_by_split, flat, texts
from fprep.report.html import Markup, Section, details, element, escape, join, percent, table
from fschemas.wording import count

# Color classes of the style sheet, by what they stand for.
_ACCOUNTS = (
    ("kept", "good", "kept"), ("rejected", "bad", "rejected"), ("superseded", "quiet1", "superseded"),
    ("left_out", "quiet2", "left out"), ("joined", "quiet3", "joined to other rows"), ("header", "quiet4", "headers"),
    ("blank", "quiet5", "blank"),
)  # fmt: skip
_LABELS = {
    "garment": "Garments", "category": "Categories", "style": "Styles", "substyle": "Second styles", "domain": "Who took the image",
    "gender": "Genders", "pose": "Views", "color": "Colors", "variation": "Pose and zoom", "coarse_split": "Split in the coarse benchmark",
}  # fmt: skip
_NOTHING = ("", "unknown")
_NUM_FILES = 200
_MAX_IDS = 1 << 15


def split_color(data: PageData, split: str) -> str:
    """The CSS class of a split's color."""
    return f"split{data.splits.index(split) + 1}"


def rows_section(data: PageData) -> Section | None:
    """What became of every line, in all and per file, and the published totals."""
    report = data.report
    if not report.get("lines"):
        return None
    parts = [(color, int(report.get(key, 0)), name) for key, color, name in _ACCOUNTS]
    what = element("p", f"{count(report['lines'], 'line')} of raw files, each accounted for once.", class_="faint")
    blocks = [what, shares(parts), _totals(report), _files(report)]
    return Section("rows", "What became of the lines", join(block for block in blocks if block))


def _totals(report: dict[str, Any]) -> Markup | None:
    totals: dict[str, dict[str, int]] = report.get("totals") or {}
    if not totals:
        return None
    rows = [
        (name, count(entry["found"]), count(entry["published"]), percent(entry["found"], entry["published"]))
        for name, entry in totals.items()
    ]
    differ = sum(entry["found"] != entry["published"] for entry in totals.values())
    state = "all as published" if not differ else f"{differ} of {len(totals)} differ"
    head = ("part", "found", "published", "share")
    return details(f"Published totals: {state}", table(head, rows, numbers=(1, 2, 3)), open_=len(totals) <= 6)


def _files(report: dict[str, Any]) -> Markup | None:
    files: dict[str, dict[str, int]] = report.get("files") or {}
    used = [(key, name) for key, _, name in _ACCOUNTS if any(entry.get(key) for entry in files.values())]
    rows = [
        (name, count(entry["lines"]), *(count(entry.get(key, 0)) if entry.get(key) else "" for key, _ in used))
        for name, entry in list(files.items())[:_NUM_FILES]
    ]
    head = ("file", "lines", *(name for _, name in used))
    return (
        details(f"Each of {count(len(files), 'file')}", table(head, rows, numbers=range(1, len(head)), codes=(0,)))
        if rows
        else None
    )


def split_section(data: PageData) -> Section:
    """Rows per split, and per class and split."""
    numbers = dict(texts(data.frame, "split").value_counts().rows())
    parts = [(split_color(data, split), numbers[split], split) for split in data.splits]
    blocks = [shares(parts)]
    columns = [name for name in _LABELS if data.has(name)]
    filled = [name for name in columns if not texts(data.frame, name).is_in(_NOTHING).all()]
    if "category" in filled and "garment" in filled and (data.frame["category"] == data.frame["garment"]).all():
        columns.remove("garment")
        filled.remove("garment")
    charts = [_label_chart(data, name) for name in sorted(filled, key=lambda name: name != data.class_column())]
    if data.has("garments"):
        charts.append(_part_chart(data))
    if charts:
        blocks.append(element("div", *charts, class_="panels"))
    empty = [_LABELS[name].lower() for name in columns if name not in filled]
    if empty:
        blocks.append(element("p", f"No row states: {', '.join(empty)}.", class_="faint"))
    return Section("classes", "Splits and classes", join(blocks))


def _label_chart(data: PageData, column: str) -> Markup:
    counts = counts_by_split(data, column)
    rows = [
        Bar(value, [(split_color(data, split), by_split[split], f"{split} {count(by_split[split])}")
                    for split in data.splits if split in by_split], count(sum(by_split.values())))
        for value, by_split in counts
    ]  # fmt: skip
    named = [(value, sum(by_split.values())) for value, by_split in counts if value not in _NOTHING]
    stated = sum(number for _, number in named)
    note = count(len(named), "value")
    if column in CLASS_COLUMNS:  # the baseline that a classifier has to beat
        note += f"; always guessing “{named[0][0]}” is right in {percent(named[0][1], stated)}"
    if stated < len(data.frame):
        note += f"; stated in {percent(stated, len(data.frame))} of the rows"
    return panel(_LABELS[column], bars(rows, shown=20), note)


def _part_chart(data: PageData) -> Markup:
    lists = data.frame.select("garments", texts(data.frame, "split").alias("split"))
    pairs = lists.explode("garments").drop_nulls().group_by("garments", "split").len().rows()
    counts: dict[str, dict[str, int]] = {}
    for name, split, number in pairs:
        counts.setdefault(name, {})[split] = number
    ordered = sorted(counts.items(), key=lambda entry: (-sum(entry[1].values()), entry[0]))
    rows = [
        Bar(name, [(split_color(data, split), by_split[split], f"{split} {count(by_split[split])}")
                   for split in data.splits if split in by_split], count(sum(by_split.values())))
        for name, by_split in ordered
    ]  # fmt: skip
    without = int((data.frame["garments"].list.len() == 0).sum())
    note = f"garments of an image may be several; {count(without, 'image')} without any"
    return panel("Garments in the images", bars(rows, shown=20), note)


def attribute_section(data: PageData) -> Section | None:
    """Positives, possible and unknown ones per attribute, in the groups of the vocabulary."""
    if not data.has("attributes_positive", "attributes_unknown"):
        return None
    values: list[str] = data.vocabulary("attributes").get("values") or []
    kinds = [
        "attributes_positive",
        "attributes_unknown",
        *(["attributes_maybe"] if data.has("attributes_maybe") else []),
    ]
    numbers = {kind: _count_ids(data.frame[kind], len(values)) for kind in kinds}
    size = max(len(entry) for entry in numbers.values())
    names = [values[index] if index < len(values) else f"#{index}" for index in range(size)]
    groups: dict[str, list[int]] = data.vocabulary("attributes").get("groups") or {}
    grouped = {index for members in groups.values() for index in members}
    rest = [index for index in range(size) if index not in grouped]
    if rest:
        groups = {**groups, ("other" if groups else ""): rest}
    is_used = np.zeros(size, bool)
    for kind in kinds:
        if kind != "attributes_unknown":
            is_used[: len(numbers[kind])] |= numbers[kind] > 0
    unused = [
        f"{group or 'attributes'} ({len(members)})" for group, members in groups.items() if not is_used[members].any()
    ]
    charts = [
        _attribute_chart(data, group, members, names, numbers)
        for group, members in groups.items()
        if is_used[members].any()
    ]
    positives = data.frame["attributes_positive"].list.len()
    mean = float(positives.mean() or 0)  # pyright: ignore[reportArgumentType]
    said = f"{count(size, 'attribute')}; {mean:.1f} positive ones per image, {count(int((positives == 0).sum()), 'image')} without any"
    entries = [
        ("positive", "positive"),
        *([("maybe", "possible (“maybe”)")] if "attributes_maybe" in numbers else []),
        ("unknown", "unknown"),
    ]
    entries.append(("track", "known to be absent"))
    how = "Behind a bar: count · share of the images where it is known."
    body = [element("p", f"{said}. {how}", class_="faint"), legend(entries), element("div", *charts, class_="panels")]
    if unused:
        body.append(element("p", escape(f"In no image: {', '.join(unused)}.", 4000), class_="faint"))
    return Section("attributes", "Attributes", join(body))


def _count_ids(lists: pl.Series, size: int) -> np.ndarray:
    """How often each id occurs, int64, at least `size` of them."""
    counts = np.zeros(size, np.int64)
    for piece in flat(lists):
        more = np.bincount(piece.cast(pl.Int64).to_numpy().clip(0, _MAX_IDS), minlength=size)
        if len(more) > len(counts):
            counts = np.pad(counts, (0, len(more) - len(counts)))
        counts += more
    return counts


def _attribute_chart(
    data: PageData, group: str, members: list[int], names: list[str], numbers: dict[str, np.ndarray]
) -> Markup:
    kinds = (("attributes_positive", "positive"), ("attributes_maybe", "maybe"), ("attributes_unknown", "unknown"))
    found = {
        index: {
            kind: int(numbers[column][index]) if index < len(numbers[column]) else 0
            for column, kind in kinds
            if column in numbers
        }
        for index in members
    }
    # What is unknown of every member alike belongs to the group: it would hide the rest behind a long hatched bar.
    known = len(data.frame) - min(entry["unknown"] for entry in found.values())
    for entry in found.values():
        entry["unknown"] -= len(data.frame) - known
    ordered = sorted(members, key=lambda index: (-found[index]["positive"], -found[index].get("maybe", 0), index))
    longest = max(entry["positive"] + entry.get("maybe", 0) for entry in found.values())
    rare = longest < known / 4  # bars as long as all images would show nothing: the most frequent one fills the track
    lines = [
        Bar(
            names[index].removeprefix(f"{group}/"),
            [
                (kind, number, f"{kind} {count(number)}")
                for kind, number in found[index].items()
                if not (rare and kind == "unknown")
            ],
            f"{count(found[index]['positive'])} · {percent(found[index]['positive'], known - found[index]['unknown'])}",
        )
        for index in ordered
    ]
    never = sum(not entry["positive"] for entry in found.values())
    notes = [
        f"known in {count(known, 'image')}" if known < len(data.frame) else "",
        f"{never} never positive" if never else "",
        "a full track is the most frequent one" if rare else "",
    ]
    note = "; ".join(note for note in notes if note)
    shown = min(20, max(1, len(lines) - never))
    return panel(group or "all", bars(lines, whole=None if rare else float(known), shown=shown), note)

"""Sections with numbers: rows, splits and classes, attributes, and other labels."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from fprep.report.charts import Bar, Panel
from fprep.report.data import CLASS_COLUMNS, PageData, counts_by_split, flat, sorted_by_total, texts
from fprep.report.page import Section, percent, section
from fschemas.wording import count

# Color classes of the style sheet, by meaning.
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
_ATTRIBUTE_LEGEND = (
    ("positive", "positive"),
    ("maybe", "possible (“maybe”)"),
    ("unknown", "unknown"),
    ("track", "known to be absent"),
)
_KINDS = {"attributes_positive": "positive", "attributes_maybe": "maybe", "attributes_unknown": "unknown"}


def rows_section(data: PageData) -> Section | None:
    """The account of every line, in total and per file, and the published totals."""
    report = data.report
    if not report.get("lines"):
        return None
    published: dict[str, dict[str, int]] = report.get("totals") or {}
    numbers = [(name, entry["found"], entry["published"]) for name, entry in published.items()]
    totals = [(name, count(found), count(all_), percent(found, all_)) for name, found, all_ in numbers]
    files: dict[str, dict[str, int]] = report.get("files") or {}
    used = {key: name for key, _, name in _ACCOUNTS if any(entry.get(key) for entry in files.values())}
    lines = [
        (name, count(entry["lines"]), *(count(entry[key]) if entry.get(key) else "" for key in used))
        for name, entry in list(files.items())[:_NUM_FILES]
    ]
    return section(
        "rows", "Lines of the raw files", report=report, totals=totals, files=lines, num_files=len(files),
        num_different=sum(found != all_ for _, found, all_ in numbers),
        accounts=[(color, int(report.get(key, 0)), name) for key, color, name in _ACCOUNTS], head=("file", "lines", *used.values()),
    )  # fmt: skip


def split_section(data: PageData) -> Section:
    """Rows per split, and per class and split."""
    numbers = dict(texts(data.frame, "split").value_counts().rows())
    columns = [name for name in _LABELS if data.has(name)]
    filled = [name for name in columns if not texts(data.frame, name).is_in(_NOTHING).all()]
    if "category" in filled and "garment" in filled and (data.frame["category"] == data.frame["garment"]).all():
        columns.remove("garment")
        filled.remove("garment")
    charts = [_label_chart(data, name) for name in sorted(filled, key=lambda name: name != data.class_column())]
    if data.has("garments"):
        charts.append(_garments_chart(data))
    empty = ", ".join(_LABELS[name].lower() for name in columns if name not in filled)
    return section("classes", "Splits and classes", splits=_by_split(data, numbers), charts=charts, empty=empty)


def _by_split(data: PageData, numbers: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Return the parts of a bar: color, rows and name of each split."""
    return [(f"split{index + 1}", numbers[split], split) for index, split in enumerate(data.splits) if split in numbers]


def _bars_by_split(data: PageData, counts: list[tuple[str, dict[str, int]]]) -> list[Bar]:
    return [Bar(value, _by_split(data, by_split), count(sum(by_split.values()))) for value, by_split in counts]


def _label_chart(data: PageData, column: str) -> Panel:
    counts = counts_by_split(data, column)
    named = [(value, sum(by_split.values())) for value, by_split in counts if value not in _NOTHING]
    stated = sum(number for _, number in named)
    note = count(len(named), "value")
    if column in CLASS_COLUMNS:  # the majority baseline
        note += f"; always predicting “{named[0][0]}” is correct for {percent(named[0][1], stated)}"
    if stated < len(data.frame):
        note += f"; known for {percent(stated, len(data.frame))} of the rows"
    return Panel(_LABELS[column], _bars_by_split(data, counts), note, shown=20)


def _garments_chart(data: PageData) -> Panel:
    lists = data.frame.select(pl.col("garments").alias("value"), texts(data.frame, "split").alias("split"))
    rows = _bars_by_split(data, sorted_by_total(lists.explode("value").drop_nulls()))
    without = int((data.frame["garments"].list.len() == 0).sum())
    note = f"an image may show several; {count(without, 'image')} without any"
    return Panel("Garments in the images", rows, note, shown=20)


def attribute_section(data: PageData) -> Section | None:
    """Positive, possible and unknown rows per attribute, by group of the vocabulary."""
    if not data.has("attributes_positive", "attributes_unknown"):
        return None
    vocabulary = data.vocabulary("attributes")
    values: list[str] = vocabulary.get("values") or []
    numbers = {kind: _count_ids(data.frame[column], len(values)) for column, kind in _KINDS.items() if data.has(column)}
    size = max(map(len, numbers.values()))
    numbers = {kind: np.pad(counts, (0, size - len(counts))) for kind, counts in numbers.items()}
    names = [values[index] if index < len(values) else f"#{index}" for index in range(size)]
    groups: dict[str, list[int]] = vocabulary.get("groups") or {}
    grouped = {index for members in groups.values() for index in members}
    if rest := [index for index in range(size) if index not in grouped]:
        groups = {**groups, ("other" if groups else ""): rest}
    is_used = sum(counts for kind, counts in numbers.items() if kind != "unknown") > np.zeros(size)
    used = [group for group, members in groups.items() if is_used[members].any()]
    positives = data.frame["attributes_positive"].list.len()
    without = count(int((positives == 0).sum()), "image")
    return section(
        "attributes", "Attributes", entries=[entry for entry in _ATTRIBUTE_LEGEND if entry[0] in (*numbers, "track")],
        note=f"{count(size, 'attribute')}; {positives.mean() or 0:.1f} positive ones per image, {without} without any",
        charts=[_attribute_chart(len(data.frame), group, groups[group], names, numbers) for group in used],
        unused=", ".join(f"{group or 'attributes'} ({len(groups[group])})" for group in groups if group not in used),
    )  # fmt: skip


def _count_ids(lists: pl.Series, size: int) -> np.ndarray:
    counts = np.zeros(size, np.int64)
    for piece in flat(lists):
        more = np.bincount(piece.cast(pl.Int64).to_numpy().clip(0, _MAX_IDS), minlength=size)
        counts = np.pad(counts, (0, max(0, len(more) - len(counts))))
        counts[: len(more)] += more
    return counts


def _attribute_chart(
    num_rows: int, group: str, members: list[int], names: list[str], numbers: dict[str, np.ndarray]
) -> Panel:
    found = {index: {kind: int(counts[index]) for kind, counts in numbers.items()} for index in members}
    # Rows unknown for all members are attributed to the group: their hatched bars would dwarf the others.
    known = num_rows - min(entry["unknown"] for entry in found.values())
    for entry in found.values():
        entry["unknown"] -= num_rows - known
    ordered = sorted(members, key=lambda index: (-found[index]["positive"], -found[index].get("maybe", 0), index))
    longest = max(entry["positive"] + entry.get("maybe", 0) for entry in found.values())
    rare = longest < known / 4  # bars scaled to all images would be invisible, so the most frequent one fills the track
    rows: list[Bar] = []
    for index in ordered:
        parts = [(kind, number, kind) for kind, number in found[index].items() if not (rare and kind == "unknown")]
        positive = found[index]["positive"]
        text = f"{count(positive)} · {percent(positive, known - found[index]['unknown'])}"
        rows.append(Bar(names[index].removeprefix(f"{group}/"), parts, text))
    never = sum(not entry["positive"] for entry in found.values())
    notes = [
        f"known in {count(known, 'image')}" if known < num_rows else "",
        f"{never} never positive" if never else "",
        "a full track is the most frequent one" if rare else "",
    ]
    note = "; ".join(note for note in notes if note)
    shown = min(20, max(1, len(rows) - never))
    return Panel(group or "all", rows, note, whole=0 if rare else known, shown=shown)

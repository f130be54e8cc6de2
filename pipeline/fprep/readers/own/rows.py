"""Several rows of one image in a user's own table: additional labels, additional garments, or contradictions.

None is dropped as a duplicate: rows with other boxes or products are garments and stay rows, rows with other labels
become attributes of one row, repeated rows are joined to the first, and contradictory rows are rejected.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fprep.raw.file import RawLine
from fprep.raw.folder import RawFolder
from fschemas.wording import count

ROW_MEANINGS = ("image", "label", "garment")  # values of `--map rows=`
LABEL_KEYS = ("category", "style")
_MIN_SHARE = 0.05  # share of images with several labels, above which a row is assumed to be a label


@dataclass
class OwnRow:
    """A row of the table.

    Fields: line, image as written, single values by key, box (x1, y1, x2, y2 or []), values of the attribute columns,
    and the box as written. `labels` has all values of the keys in LABEL_KEYS, one each until rows are joined.
    """

    line: RawLine
    image: str
    values: dict[str, str]
    box: list[float]
    attributes: list[list[str]]
    box_text: str = ""
    labels: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def merge_rows(raw: RawFolder, rows: list[OwnRow], meaning: str) -> tuple[list[OwnRow], list[str]]:
    """Return the remaining rows, and the keys of LABEL_KEYS that became attributes: images have several values of them.

    `meaning` is one of ROW_MEANINGS, or "" to infer it. Joined and rejected rows are accounted for.
    """
    of_image: dict[str, dict[bytes, OwnRow]] = {}
    for row in rows:  # the conversion rejects identical lines itself
        of_image.setdefault(row.image, {}).setdefault(row.line.content, row)
    again = [list(found.values()) for found in of_image.values() if len(found) > 1]
    if not again or meaning == "image":
        return rows, []
    garments = meaning == "garment" or (not meaning and any(map(_are_garments, again)))
    raw.instances = garments
    by_unit: dict[Any, list[OwnRow]] = {}
    for row in (row for members in again for row in members):
        by_unit.setdefault((row.image, garments and _garment(row)), []).append(row)
    units = list(by_unit.values())
    label_keys = [key for key in LABEL_KEYS if meaning == "label" or (not meaning and _is_label(units, key, len(rows)))]
    label_keys = [key for key in label_keys if any(row.values.get(key) for row in rows)]
    gone: dict[int, str] = {}
    for members in again if garments else []:
        gone |= _reject_all(raw, members[0], members[1:], ["split"])
    for first, *others in units:
        alike = [row for row in others if id(row) not in gone]
        keys = [key for key in first.values if key not in label_keys]
        gone |= _reject_all(raw, first, alike, [*keys, "box"])
        for row in alike:
            if id(row) not in gone:
                _join(first, row)
                raw.account(row.line.file, "joined")
                gone[id(row)] = "joined"
    file, such = again[0][0].line.file, f"(such as {again[0][0].image})"
    if garments:
        several = f"{count(len(again), 'image')} with several rows of other boxes or products {such}"
        raw.notes.append(f"{file}: {several}: a row is a garment")
    if label_keys:
        raw.notes.append(
            f"{file}: images have several rows with other labels {such}: a row is a label, and the column of the "
            f"{' and '.join(label_keys)} becomes attributes; --map rows=image uses only the first row of an image"
        )
    if num_joined := list(gone.values()).count("joined"):
        what = "garment" if garments else "image"
        raw.notes.append(f"{file}: {count(num_joined, 'row')} joined with the first row of the same {what}")
    return [row for row in rows if id(row) not in gone], label_keys


def _are_garments(members: Sequence[OwnRow]) -> bool:
    """Return whether rows of one image have several boxes or products."""
    return any(len({value for value in values if value}) > 1 for values in zip(*map(_garment, members), strict=True))


def _garment(row: OwnRow) -> tuple[tuple[float, ...], str]:
    return tuple(row.box), row.values.get("item", "")


def _is_label(units: Sequence[Sequence[OwnRow]], key: str, num_rows: int) -> bool:
    """Return whether enough images have several values of a key to conclude that a row is a label."""
    several = sum(len({row.values.get(key, "") for row in unit} - {""}) > 1 for unit in units)
    num_units = num_rows - sum(len(unit) - 1 for unit in units)
    return several > 0 and several >= _MIN_SHARE * num_units


def _reject_all(raw: RawFolder, first: OwnRow, others: Iterable[OwnRow], keys: Sequence[str]) -> dict[int, str]:
    """Reject rows that contradict earlier rows of the same image; return their ids."""
    rejected: dict[int, str] = {}
    known = {key: _value(first, key) for key in keys}
    for row in others:
        key = next((key for key in keys if known[key] and _value(row, key) not in ("", known[key])), None)
        if key is None:
            known = {key: value or _value(row, key) for key, value in known.items()}
            continue
        message = f"the {key} of {row.image} is {_value(row, key)!r}, but {known[key]!r} in a row before (such as line {first.line.number})"
        hint = "; --map rows=label treats both as labels" if key in LABEL_KEYS else ""
        raw.reject(row.line, "conflicting_rows", message + hint, column=key, found=_value(row, key))
        rejected[id(row)] = "rejected"
    return rejected


def _value(row: OwnRow, key: str) -> str:
    return " ".join(f"{number:g}" for number in row.box) if key == "box" else row.values.get(key, "")


def _join(first: OwnRow, row: OwnRow) -> None:
    for key in LABEL_KEYS:
        first.labels.setdefault(key, [first.values.get(key, "")]).append(row.values.get(key, ""))
    for key, value in row.values.items():
        first.values[key] = first.values.get(key) or value
    if not first.box:
        first.box, first.box_text = row.box, row.box_text
    first.attributes = [[*values, *more] for values, more in zip(first.attributes, row.attributes, strict=True)]


def joined_groups(images: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return groups such that rows of one image share a group: that of its first row with one."""
    parents: dict[str, str] = {}

    def root(group: str) -> str:
        while parents.setdefault(group, group) != group:
            group = parents[group]
        return group

    of_image: dict[str, str] = {}
    for image, group in zip(images, groups, strict=True):
        if group:
            first = root(of_image.setdefault(image, group))
            parents[root(group)] = first
    return [root(of_image[image]) if image in of_image else "" for image in images]

"""Label conflicts: identical or near-identical images with different labels."""

from collections.abc import Sequence
from typing import Any

from fprep.audit.findings import Findings, RowRef
from fprep.audit.tables import AuditTable

_NAMES = ("category", "garment", "style")
_ATTRIBUTES = ("attributes_positive", "attributes_unknown", "attributes_maybe")
_MAX_NAMED = 5  # maximum number of attributes in a message


class ImageLabels:
    """Labels of images, merged over the rows (one per garment) of an image."""

    def __init__(self, tables: Sequence[AuditTable], refs: Sequence[RowRef]) -> None:
        self.tables, self.refs = tables, refs
        self.columns: dict[str, list[Any]] = {name: [] for name in (*_NAMES, "substyle", *_ATTRIBUTES)}
        for frame in (table.frame for table in tables):
            for name, values in self.columns.items():
                values.extend(frame[name].to_list() if name in frame.columns else [""] * len(frame))
        self.rows_of_image: dict[tuple[int, str], list[int]] = {}
        for row, ref in enumerate(refs):
            self.rows_of_image.setdefault((ref.number, ref.image), []).append(row)

    def values(self, row: int, column: str) -> set[Any]:
        """Return all values of the image of a row; for a list column, the union of its lists."""
        found: set[Any] = set()
        for other in self.rows_of_image[self.refs[row].number, self.refs[row].image]:
            value = self.columns[column][other]
            found |= set(value) if isinstance(value, list) else {value}
        return found - {""}

    def vocabulary(self, row: int) -> dict[str, Any]:
        """Return the attribute vocabulary of the table of this row."""
        return self.tables[self.refs[row].number].metadata.get("vocabularies", {}).get("attributes") or {}


def find_conflicts(labels: ImageLabels, pairs: Sequence[tuple[int, int, int]], findings: Findings) -> None:
    """Report label conflicts in pairs (row, row, Hamming distance)."""
    for row, other_row, distance in pairs:
        ref, other = labels.refs[row], labels.refs[other_row]
        if "unlabeled" in (ref.side, other.side):
            continue
        both = f"{ref.image} and {other.image}"
        for column in _NAMES:
            values, others = labels.values(row, column), labels.values(other_row, column)
            if column == "style":  # a sub-style equal to the other's style is not a conflict
                values, others = values | labels.values(row, "substyle"), others | labels.values(other_row, "substyle")
            if values and others and not values & others:
                one, two = (" / ".join(sorted(names)) for names in (values, others))
                what = f"{both}: {column} is {one} against {two}"
                findings.add(f"conflict_{column}", "warning", what, ref, other, distance=distance)
        if conflict := _attribute_conflict(labels, row, other_row):
            findings.add("conflict_attributes", "warning", f"{both}: {conflict}", ref, other, distance=distance)


def _attribute_conflict(labels: ImageLabels, row: int, other_row: int) -> str:
    """Describe attributes positive in one image and negative in the other; "" if there are none."""
    vocabulary = labels.vocabulary(row)
    if not vocabulary or vocabulary != labels.vocabulary(other_row):
        return ""
    positive, unknown, maybe = (labels.values(row, column) for column in _ATTRIBUTES)
    other_positive, other_unknown, other_maybe = (labels.values(other_row, column) for column in _ATTRIBUTES)
    if not vocabulary.get("exclusive"):
        only = positive - other_positive - other_unknown - other_maybe
        other_only = other_positive - positive - unknown - maybe
        if not only and not other_only:
            return ""
        names = vocabulary["values"]
        return f"only the first has {_named(only, names)}, only the second {_named(other_only, names)}"
    differing: list[str] = []
    for group, members in vocabulary["groups"].items():
        here, there = positive & set(members), other_positive & set(members)
        if here and there and not here & (there | other_maybe) and not there & maybe:
            names = vocabulary["values"]
            differing.append(f"{group} is {_named(here, names)} against {_named(there, names)}")
    return "; ".join(differing)


def _named(ids: set[int], names: Sequence[str]) -> str:
    found = [names[number] for number in sorted(ids)]
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return ", ".join(found[:_MAX_NAMED]) + more or "nothing"

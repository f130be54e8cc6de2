"""Plan for arbitrary COCO files: column groups, vocabularies, and the landmark set that matches the keypoints."""

import re
from collections.abc import Sequence
from typing import cast

from fprep.raw.folder import RawFolder
from fprep.readers.coco.file import CocoFile, Entry
from fprep.readers.coco.rows import Plan
from fprep.readers.own.conventions import Spellings, plain
from fprep.readers.units import BOX_FORMS
from fschemas.landmarks import LANDMARK_SETS, LandmarkSet
from fschemas.vocabularies import Vocabulary, vocabulary, vocabulary_names


def spelled(name: str) -> str:
    """Normalize a category name: `long_sleeved_shirt`, used by another conversion, becomes `long sleeve top`."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return "".join("sleeve" if word == "sleeved" else word for word in words).replace("sleeveshirt", "sleevetop")


def make_plan(raw: RawFolder, files: Sequence[CocoFile]) -> Plan:
    """Return the common column groups and vocabularies of all files, and store the vocabularies."""
    annotations = [entry for file in files for entry in file.annotations]
    spellings, entries = Spellings(), [entry for file in files for entry in file.categories.values()]
    names = list(dict.fromkeys(spellings.plain("category", str(entry.get("name", ""))) for entry in entries))
    spellings.note(raw)
    raw.vocabularies["category"] = _known("category", tuple(name for name in names if name), {})
    groups = ["category", "box"]
    if any(isinstance(entry.get("segmentation"), list) and entry["segmentation"] for entry in annotations):
        groups.append("polygons")
    attributes = None
    if any(file.attributes for file in files) and any("attribute_ids" in entry for entry in annotations):
        attributes = raw.vocabularies["attributes"] = _attributes(files)
        groups.append("attributes")
    landmarks, garments = None, dict[str, tuple[str, tuple[int, ...]]]()
    if any(entry.get("keypoints") for entry in annotations):
        used = {file.category_name(entry) or "" for file in files for entry in file.annotations} - {""}
        landmarks, garments = _match_keypoints(files, used)
        if landmarks is None:
            known = ", ".join(LANDMARK_SETS)
            raw.notes.append(f"keypoints are left out: their names are not those of a known landmark set ({known})")
        else:
            groups.append("landmarks")
            raw.landmark_set = landmarks
    form = raw.option("box-form", BOX_FORMS, "size")
    raw.box_form = form
    pixels = raw.mapping.get("unit", "pixel") == "pixel"
    return Plan(tuple(groups), form, pixels, None, landmarks, garments, attributes)


def _known(kind: str, values: tuple[str, ...], groups: dict[str, tuple[int, ...]]) -> Vocabulary:
    """Return the known vocabulary with these values in this order, else a new one."""
    for name in vocabulary_names():
        if vocabulary(name).values == values:
            return vocabulary(name)
    return Vocabulary(f"coco-{kind}", values, groups)


def _attributes(files: Sequence[CocoFile]) -> Vocabulary:
    values: dict[str, int] = {}
    groups: dict[str, list[int]] = {}
    for entry in (entry for file in files for entry in file.attributes.values()):
        name, group = plain(str(entry.get("name", ""))), plain(str(entry.get("supercategory") or ""))
        if name not in values:
            values[name] = len(values)
            groups.setdefault(group, []).append(values[name])
    groups.pop("", None)
    return _known("attributes", tuple(values), {group: tuple(members) for group, members in groups.items()})


def _match_keypoints(
    files: Sequence[CocoFile], used: set[str]
) -> tuple[LandmarkSet | None, dict[str, tuple[str, tuple[int, ...]]]]:
    """Return the landmark set whose landmarks occur in all used categories.

    Also returns, by category, its garment and the landmark index of each keypoint.
    """
    categories = {plain(str(entry.get("name", ""))): entry for file in files for entry in file.categories.values()}
    for landmarks in LANDMARK_SETS.values():
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name in used:
            match = _match_category(name, categories.get(plain(name), {}), landmarks)
            if match is None:
                break
            found[name] = match
        else:
            if found:
                return landmarks, found
    return None, {}


def _match_category(name: str, category: Entry, landmarks: LandmarkSet) -> tuple[str, tuple[int, ...]] | None:
    points: object = category.get("keypoints")
    if not isinstance(points, list) or not points:
        return None
    numbers = {point.lower(): index for index, point in enumerate(landmarks.names)}
    words = [str(point).strip().lower() for point in cast("list[object]", points)]
    by_name = {spelled(garment): garment for garment in landmarks.garments}
    garment = by_name.get(spelled(name))
    if garment is not None and words == [str(number) for number in range(1, len(landmarks) + 1)]:
        return garment, tuple(range(len(landmarks)))  # numbered keypoints, as many as the garment has landmarks
    indices = tuple(numbers.get(word, -1) for word in words)
    if -1 in indices or len(set(indices)) < len(indices):
        return None
    if garment is None:
        garment = next((known for known, valid in landmarks.garments.items() if set(valid) == set(indices)), None)
    return None if garment is None else (garment, indices)

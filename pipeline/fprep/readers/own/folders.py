"""Reader for a user's own images in folders, one folder per class or product. No annotation file; one row per image.

    fprep convert folders shop/ table/ --map category=last-word --map item=folder

Without `--map`, the class is the name of the folder with the image, and the item is that folder. If the top-level
folders are called train, val and test (or validation, query, gallery …), they are the splits; otherwise the data set is
split. Items must not straddle splits if some class has several. If each class has only one folder, folders are classes
rather than products, and each image is independent.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl

from fprep.raw.folder import MISNAMED, RawFolder, RawLine, document_pattern
from fprep.readers.own.conventions import SPLIT_NAMES, Spellings, add_vocabulary, last_word
from fprep.readers.reader import reader, safe_key
from fschemas import wording
from fschemas.failures import UsageError
from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.tables import SampleTable
from fschemas.walk import readable

Parts = tuple[str, ...]

_SOURCES: dict[str, Callable[[Parts], str]] = {
    "folder": lambda parts: parts[-1] if parts else "",
    "last-word": lambda parts: last_word(parts[-1]) if parts else "",
    "parent": lambda parts: parts[-2] if len(parts) > 1 else "",
    "top": lambda parts: parts[0] if parts else "",
    "path": "/".join,
    "none": lambda _: "",
}
_WHERE = "folder, last-word (of the folder's name), parent, top, path or none"


@reader(
    name="folders",
    table=SampleTable,
    variants={"images": ("**/*.[jJpPwWgGbB][pPnNeEiIfFmM]*",)},
    splits="cut",
    any_groups=True,
    mapping={
        "category": f"what the class is called after: {_WHERE}; default folder",
        "item": f"what is one product: {_WHERE}; default folder",
        "style": f"what the style is called after: {_WHERE}; default none",
        "group": f"what must not straddle splits: {_WHERE}; default the item",
        "split": "top: the topmost folder is the split; none: it is not; default top where it can be",
    },
    paper="none: a user's own images",
    license="that of the images; the converter knows none",
    citation="none: a user's own images",
)
def folders(raw: RawFolder) -> pl.LazyFrame:
    """Read one row per image, with the mapped columns category, item and style."""
    defaults = {"category": "folder", "item": "folder", "style": "none"}
    sources = {key: raw.option(key, _SOURCES, default) for key, default in defaults.items()}
    images, misnamed = _walk_images(raw)
    if not images and not misnamed:
        raise raw.nothing_found("no image below (by its name: .jpg, .png, .webp …); choose the folder of your images")
    for pattern, count in Counter(map(document_pattern, [*images, *misnamed])).items():
        raw.count_documents(pattern, count)
    for name in misnamed:
        raw.reject(RawLine(name, 1, 0, b""), "bad_name", MISNAMED, column="image", found=name)
    spellings = Spellings()
    parts = [tuple(spellings.plain("folder", name) for name in image.split("/")[:-1]) for image in images]
    spellings.note(raw)
    splits = _splits(raw, parts)
    if splits is not None:
        parts = [each[1:] for each in parts]
    named = {key: _path_or_name(key, source) for key, source in sources.items() if source != "none"}
    columns = {key: [name_of(each) for each in parts] for key, name_of in named.items()}
    columns |= {"substyle": [""] * len(images)} if "style" in columns else {}
    for key in ("category", "style"):
        if key in columns:
            add_vocabulary(raw, key, "folders", columns[key])
            unnamed = columns[key].count("")
            if unnamed:
                raw.notes.append(f"no folder gives the {key} of {wording.count(unnamed, 'image')}, where it is unknown")
    frame = pl.DataFrame({
        "key": [safe_key(image.rpartition(".")[0].replace("/", "-")) for image in images],
        "image": images,
        "split": splits or ["train"] * len(images),
        "group": pl.Series(_groups(raw, parts, columns), dtype=pl.String),
        "source_file": images,
        "source_line": pl.Series([1] * len(images), dtype=pl.Int32),
        **columns,
    })  # fmt: skip
    return frame.lazy()


def _path_or_name(key: str, source: str) -> Callable[[Parts], str]:
    """Return how to name a folder: by its name, but items and groups by path, to distinguish equal names."""
    return _SOURCES["path" if source == "folder" and key in ("item", "group") else source]


def _splits(raw: RawFolder, parts: list[Parts]) -> list[str] | None:
    """Return the split of each image by its top-level folder, None if these are not splits."""
    wanted = raw.option("split", ("", "top", "none"), "")
    if wanted == "none":
        return None
    names = {each[0] if each else "" for each in parts}
    unknown = sorted(name for name in names if name.casefold() not in SPLIT_NAMES)
    if not unknown:
        raw.notes.append(f"splits are those of the folders {', '.join(sorted(names))}")
        return [SPLIT_NAMES[each[0].casefold()] for each in parts]
    if wanted:
        known = ", ".join(SPLIT_NAMES)
        raise UsageError(f"--map split=top: the folder {unknown[0]!r} is not a split; expected {known}")
    return None


def _groups(raw: RawFolder, parts: list[Parts], columns: dict[str, list[str]]) -> list[str | None]:
    if "group" in raw.mapping:
        group = _path_or_name("group", raw.option("group", _SOURCES, ""))
        return [group(each) or None for each in parts]
    items, categories = columns.get("item"), columns.get("category")
    if items is None:
        return [None] * len(parts)
    if categories is not None and len(set(zip(categories, items, strict=True))) == len(set(categories)):
        raw.notes.append(
            "each class is one folder: splits are cut by image; --map group=folder if folders are products"
        )
        return [None] * len(parts)
    return [item or None for item in items]


def _walk_images(raw: RawFolder) -> tuple[list[str], list[str]]:
    """Return the sorted paths from the root of all images, and of those with non-UTF-8 names.

    Files without an image extension are counted in a note.
    """
    found, misnamed = set[str](), set[str]()
    others = Counter[str]()
    for given in raw.given:
        single = [(given.parent, [], [given.name])]
        for here, _, files in single if given.is_file() else raw.walk(given):
            prefix = raw.prefix_of(here)
            is_text = prefix.isascii() or prefix[:-1] == here.relative_to(raw.root).as_posix()
            for name in files:
                shown = name if name.isascii() else readable(name)
                end = Path(shown).suffix.lower()
                if end not in IMAGE_EXTENSIONS and not given.is_file():
                    others[end or "without an extension"] += 1
                else:
                    (found if is_text and shown == name else misnamed).add(prefix + shown)
    if others:
        kinds = ", ".join(f"{count} {end}" for end, count in sorted(others.items())[:6])
        files = wording.count(sum(others.values()), "file")
        raw.notes.append(f"ignored: {files} that are not images by their names: {kinds}")
    return sorted(found), sorted(misnamed)

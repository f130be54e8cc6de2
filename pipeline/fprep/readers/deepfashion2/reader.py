"""Reader for DeepFashion2: one JSON document per image, one row per garment.

Documents are `<split>/annos/000001.json` next to `<split>/image/000001.jpg`. A document contains source, pair_id and
item1 … itemN, sometimes with gaps. Box, landmarks (294 in 13 categories) and polygons are 0-based pixels. Garments with
the same pair and the same style above 0 are one item; style 0 is not an item. A pair must not straddle splits. The COCO
conversion by the data set's tools (one JSON file per split) is read if there are no documents.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from fprep.raw.folder import MAX_LINE, MISNAMED, RawFolder, RawLine, document_pattern
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.raw.safe_open import OpenError
from fprep.readers.coco.exported import read_rows
from fprep.readers.coco.file import CocoFile, image_prefix, is_coco_among, read_coco, split_named
from fprep.readers.coco.rows import stated_size
from fprep.readers.deepfashion2.items import Garment, Garments, domain_of, item_numbers, read_annotation, read_item
from fprep.readers.json_document import Problem, parse_document, whole_number_of
from fprep.readers.reader import IMAGE_COLUMNS, columns_of, frame_of, reader, safe_key
from fprep.readers.signature import Signature
from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION2_294
from fschemas.tables import table_class
from fschemas.vocabularies import vocabulary
from fschemas.walk import list_folder, readable

_TABLE = table_class("category", "landmarks", "box", "polygons", "item", "domain")
_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_COLUMNS = [name for name in columns_of(_TABLE) if name not in IMAGE_COLUMNS]
_NO_ROWS = frame_of(_TABLE, {name: [] for name in _COLUMNS})
_CHUNK = 4096  # documents that are converted to columns at once


@reader(
    name="deepfashion2",
    table=_TABLE,
    landmark_set=DEEPFASHION2_294,
    vocabularies={"category": vocabulary("deepfashion2-category-13")},
    signatures=(
        Signature(r"\d+\.json", rb'"(pair_id|item\d+)"\s*:', "labels of an image"),
        Signature(
            r".*deepfash?ion_?2.*\.json",
            rb'"(info|images|annotations|categories|licenses)"\s*:',
            "COCO conversion",
            rows=True,
        ),
    ),
    collects="documents",
    variants={"documents": ("**/annos/*.json",), "coco": ("**/*.json",)},
    totals={"train-images": 191961, "val-images": 32153},
    instances=True,
    paper="Ge et al., DeepFashion2: A Versatile Benchmark for Detection, Pose Estimation, Segmentation and Re-Identification "
    "of Clothing Images, CVPR 2019",
    license="non-commercial research only; the archives need a password, available from the authors on request",
    citation="@inproceedings{ge2019deepfashion2, title={DeepFashion2: A Versatile Benchmark for Detection, Pose Estimation, "
    "Segmentation and Re-Identification of Clothing Images}, author={Ge, Yuying and Zhang, Ruimao and Wu, Lingyun and Wang, "
    "Xiaogang and Tang, Xiaoou and Luo, Ping}, booktitle={CVPR}, year={2019}}",
)
def deepfashion2(raw: RawFolder) -> pl.LazyFrame:
    """Read the rows of all garments.

    `source_line` is the number of the item in its document, or of the annotation in a COCO file.
    """
    folders, files = _annotations(raw)
    frames = [_NO_ROWS]
    for folder in folders:
        frames += _read_folder(raw, folder)
    for path in files:
        if folders:
            raw.notes.append(f"{raw.name_of(path)}: a COCO conversion next to the documents it was made from; not read")
        else:
            frames.append(_read_coco(raw, path))
    return pl.concat(frames, how="diagonal").lazy()


def _annotations(raw: RawFolder) -> tuple[list[Path], list[Path]]:
    """Return folders of documents and COCO files, at most four folders deep; image folders are skipped."""
    folders: dict[Path, None] = {}
    files: dict[Path, None] = {}
    for given in raw.given:
        if given.is_file():
            files[given] = None
            continue
        for here, names, entries in raw.walk(given):
            if here.name == "annos":
                folders[here] = None
                names.clear()
                continue
            deep = len(here.relative_to(given).parts) >= 4
            names[:] = [] if deep else [name for name in names if name not in ("image", "images")]
            jsons = [here / name for name in entries if name.endswith(".json")]
            files |= dict.fromkeys(path for path in jsons if is_coco_among(raw, path))
    if not folders and not files:
        raise raw.nothing_found("no DeepFashion2 annotation here; expected train/annos/000001.json and train/image")
    return sorted(folders), sorted(files)


def _read_folder(raw: RawFolder, folder: Path) -> Iterator[pl.DataFrame]:
    home = folder.parent
    if not home.is_relative_to(raw.root):
        raise UsageError(f"{folder}: the images are next to this folder; choose its parent")
    split = _SPLITS.get(home.name, "")
    if not split:
        raw.notes.append(f"{raw.name_of(folder)}: the folder {home.name!r} is not a split; its rows go into train")
        split = "train"
    image_folder = home / ("images" if (home / "images").is_dir() and not (home / "image").is_dir() else "image")
    names = iter([name for name in list_folder(folder).files if name.endswith(".json")])
    prefix, found = f"{raw.name_of(image_folder)}/", 0
    while chunk := list(islice(names, _CHUNK)):
        garments = Garments()
        for name in chunk:
            _read_document(raw, folder / name, f"{prefix}{readable(name[:-5])}.jpg", split, garments)
        found += len(chunk)
        if len(garments):
            yield frame_of(_TABLE, garments.columns())
    raw.totals[f"{split}-images"] += found
    if not found:
        raise UsageError(f"{raw.name_of(folder)}: no JSON document in it; unpack the annotation archive again")


def _read_document(raw: RawFolder, path: Path, image: str, split: str, garments: Garments) -> None:
    name = raw.name_of(path)
    content, document = _document(raw, path)
    numbers, strange = ({}, []) if isinstance(document, Problem) else item_numbers(document)
    first_free = max(numbers, default=0) + 1
    misnamed = dict(enumerate(strange, start=first_free))  # objects that should be items are numbered after the others
    count = len(numbers) + len(misnamed)
    is_blank = not count and isinstance(document, dict)
    raw.count_documents(document_pattern(name), max(1, count), "blank" if is_blank else "")
    location = RawLine(name, 1, 0, content[: MAX_LINE + 1])
    if isinstance(document, Problem):
        return raw.reject(location, *document)
    if not count:
        return raw.warn("no_garment", name)
    for number, key in misnamed.items():
        message = f"{key[:40]!r} is an object, but garments are called item1, item2 and so on"
        raw.reject(
            RawLine(name, number, 0, location.content), "unknown_key", message, location=location, found=key[:40]
        )
    domain, pair = domain_of(document), whole_number_of(document, "pair_id")
    for number, key in numbers.items():
        columns = {"image": image, "split": split, "domain": domain, "source_file": name, "source_line": number}
        columns["key"] = safe_key(f"{split}-{path.stem}-{number}")
        problem = _add(garments, read_item(document[key]), pair, columns)
        if problem is not None:
            raw.reject(RawLine(name, number, 0, location.content), *problem.within(key), location=location)
    return None


def _add(
    garments: Garments,
    garment: Garment | Problem,
    pair: int | Problem | None,
    columns: dict[str, Any],
    prefix: str = "",
) -> Problem | None:
    """Add a garment, or return the first problem: of the image, the domain, the pair or the garment."""
    split, wrong_path = columns["split"], image_path_problem(columns["image"])
    parts = (Problem(*wrong_path, "image", columns["image"]) if wrong_path else None, columns["domain"], pair, garment)
    problem = next((part for part in parts if isinstance(part, Problem)), None)
    if problem is not None:
        return problem
    assert isinstance(garment, Garment)
    has_item = pair is not None and garment.style > 0
    columns |= {"image": prefix + columns["image"], "group": None if pair is None else f"{split}-{pair}"}
    garments.add(garment, **columns, item=f"{split}-{pair}-{garment.style}" if has_item else "")
    return None


def _document(raw: RawFolder, path: Path) -> tuple[bytes, dict[str, Any] | Problem]:
    """Return the bytes and content of a document, or the problem in them or in its name."""
    if raw.name_of(path) != path.relative_to(raw.root).as_posix():
        return b"", Problem("bad_name", MISNAMED)
    try:
        content = raw.read_document(path, MAX_LINE)
    except OpenError as problem:
        return b"", Problem("unreadable_file", problem.message)
    if len(content) > MAX_LINE:
        return content, Problem("line_too_long", f"more than {MAX_LINE} bytes")
    return content, parse_document(content)


def _read_coco(raw: RawFolder, path: Path) -> pl.DataFrame:
    """Return the rows of a COCO file; one written by `fprep export` has all columns of the original table."""
    file = read_coco(raw, path)
    if file.labels is not None:
        return _conform_exported(read_rows(raw, [file]), file)
    name = file.name
    split = split_named(name) or "train"
    paths = {number: clean_path(str(entry.get("file_name", ""))) for number, entry in file.images.items()}
    prefix = image_prefix(raw, path, list(paths.values()))
    raw.count_documents(document_pattern(name), len(file.annotations))
    raw.totals[f"{split}-images"] += len(paths)
    garments, location = Garments(), raw.line(name, 1)
    for number, entry in enumerate(file.annotations, start=1):
        image_id = str(entry.get("image_id"))
        image = paths.get(image_id, "")
        width, height = stated_size(file.images.get(image_id, {}))
        columns = {"image": image, "split": split, "domain": "unknown", "source_file": name, "source_line": number}
        columns |= {"key": safe_key(f"{split}-{Path(image).stem}-{number}"), "width": width, "height": height}
        garment = read_annotation(entry, file.category_name(entry) if file.categories else None)
        pair = whole_number_of({"pair_id": 0} | entry, "pair_id") or None
        problem = _add(garments, garment, pair, columns, prefix)
        if problem is not None:
            row = RawLine(name, number, 0, location.content)
            raw.reject(row, *problem.within(f"annotation {number}"), location=location)
    return frame_of(_TABLE, garments.columns()) if len(garments) else _NO_ROWS


def _conform_exported(frame: pl.DataFrame, file: CocoFile) -> pl.DataFrame:
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        raise UsageError(f"{file.name}: an export of a table without {missing[0]}; convert it with the reader coco")
    return frame_of(_TABLE, {name: frame[name] for name in (*_COLUMNS, "width", "height")})

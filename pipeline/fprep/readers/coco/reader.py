"""COCO files of any program: a row a garment, with its category, box, outlines, attributes, and points of a known landmark set.

    fprep convert coco my-set/ table/            # annotations and images below one folder

Categories have the names that the file gives them, ids are whatever the file says, and keys may come in any order. Splits are those
that file or folder names say (`instances_val2017.json`, `valid/_annotations.coco.json`). Points are read where the categories name
those of a landmark set that we know. `fprep export --to coco` writes more than COCO has a place for, and comes back as the same table.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.coco.file import is_coco_among, read_coco
from fprep.readers.coco.tables import read_rows
from fprep.readers.reader import reader
from fprep.readers.units import PLACE_KEYS
from fschemas.tables import SampleTable

_MAX_DEPTH = 5


@reader(
    name="coco",
    table=SampleTable,
    variants={"coco": ("**/*.json",)},
    splits="cut",
    any_groups=True,
    instances=True,
    orientation="upright",
    mapping={
        "box-form": "size (default: x, y, width, height), corners (x1, y1, x2, y2) or center (x, y of the center, width, height)",
        **PLACE_KEYS,
    },
    paper="Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014 (the format)",
    license="that of the images; the converter knows none",
    citation="none: the format is COCO's, the images are your own",
)
def coco(raw: RawFolder) -> pl.LazyFrame:
    """Rows of all annotations. `source_line` is the number of the annotation in its file."""
    paths = coco_files(raw)
    if not paths:
        raise raw.nothing_found("no COCO file here; expected a JSON file with images, annotations and categories")
    return read_rows(raw, [read_coco(raw, path) for path in paths]).lazy()


def coco_files(raw: RawFolder) -> list[Path]:
    """The COCO files among what was given and at most five folders below, by name."""
    found: dict[Path, None] = {}
    for given in raw.given:
        if given.is_file():
            found |= {given: None} if given.suffix.lower() == ".json" else {}
            continue
        for here, names, entries in raw.walk(given):
            deep = len(here.relative_to(given).parts) >= _MAX_DEPTH
            names[:] = [] if deep else names
            jsons = [name for name in entries if name.lower().endswith(".json")]
            found |= dict.fromkeys(here / name for name in jsons if is_coco_among(raw, here / name))
    return sorted(found)

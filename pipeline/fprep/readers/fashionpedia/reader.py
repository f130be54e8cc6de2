"""Fashionpedia: garments and garment parts with a category, attributes, a box and an outline, in two COCO files.

    instances_attributes_train2020.json   46 categories, 294 attributes; images in train/
    instances_attributes_val2020.json     images in test/, beside those of the unlabeled test set

The other files of the release, `attributes_*2020.json` (labels of whole images) and `info_test2020.json`, are not read.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.coco.file import coco_files, read_coco
from fprep.readers.coco.rows import Annotations, Plan, frame_of_rows
from fprep.readers.reader import reader
from fprep.readers.signature import Signature
from fschemas.tables import table_class
from fschemas.vocabularies import read_vocabulary

_GROUPS = ("category", "box", "polygons", "attributes")
_CATEGORIES = read_vocabulary(Path(__file__).with_name("fashionpedia-category-46.txt"))
_ATTRIBUTES = read_vocabulary(Path(__file__).with_name("fashionpedia-attribute-294.txt"))


@reader(
    name="fashionpedia",
    table=table_class(*_GROUPS),
    vocabularies={"category": _CATEGORIES, "attributes": _ATTRIBUTES},
    variants={"release": ("**/instances_attributes_*2020.json",)},
    signatures=(
        Signature(r"instances_attributes_(train|val)2020\.json", b"", "garments and parts", rows=True),
        Signature(r"(attributes_(train|val)|info_test)2020\.json", b"", "whole images, which are not read"),
    ),
    collects="files",
    instances=True,
    orientation="upright",
    paper="Jia et al., Fashionpedia: Ontology, Segmentation, and an Attribute Localization Dataset, ECCV 2020",
    license="annotations: CC BY 4.0; images: those of their owners on Flickr and free-license photo sites",
    citation="@inproceedings{jia2020fashionpedia, title={Fashionpedia: Ontology, Segmentation, and an Attribute Localization "
    "Dataset}, author={Jia, Menglin and Shi, Mengyun and Sirotenko, Mikhail and Cui, Yin and Cardie, Claire and Hariharan, "
    "Bharath and Adam, Hartwig and Belongie, Serge}, booktitle={ECCV}, year={2020}}",
)
def fashionpedia(raw: RawFolder) -> pl.LazyFrame:
    """Return one row per annotation; the split is that in the name of the file."""
    plan = Plan(_GROUPS, categories=_CATEGORIES, attributes=_ATTRIBUTES)
    files = [read_coco(raw, path) for path in coco_files(raw, "instances_attributes_*.json")]
    return frame_of_rows([row for file in files for row in Annotations(raw, file, plan).rows()], plan).lazy()

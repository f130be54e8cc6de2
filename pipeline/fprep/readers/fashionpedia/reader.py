"""Fashionpedia: garments and garment parts with a category, attributes, a box and an outline, in two COCO files.

    instances_attributes_train2020.json   46 categories, 294 attributes; images in train/
    instances_attributes_val2020.json     images in test/, next to those of the unlabeled test set

The other files of the release, `attributes_*2020.json` (labels of whole images) and `info_test2020.json`, are not read.
"""

from pathlib import Path

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.coco.rows import Plan, read_planned
from fprep.readers.reader import reader
from fprep.readers.signature import Signature
from fschemas.vocabularies import read_vocabulary

_FOLDER = Path(__file__).parent
_PLAN = Plan(
    ("category", "box", "polygons", "attributes"),
    categories=read_vocabulary(_FOLDER / "fashionpedia-category-46.txt"),
    attributes=read_vocabulary(_FOLDER / "fashionpedia-attribute-294.txt"),
)


@reader(
    name="fashionpedia",
    table=_PLAN.table,
    vocabularies=_PLAN.vocabularies,
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
    return read_planned(raw, _PLAN, "instances_attributes_*.json").lazy()

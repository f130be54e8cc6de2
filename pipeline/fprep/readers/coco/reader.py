"""Reader for COCO files of any program: one row per garment with category, box, outlines, attributes, landmarks.

    fprep convert coco my-set/ table/            # annotations and images below one folder

Category names, ids and key order are those of the file. Splits come from file or folder names
(`instances_val2017.json`, `valid/_annotations.coco.json`). Keypoints are read if the categories define those of a known
landmark set. Files of `fprep export --to coco` contain more than COCO fields and are read back as the same table.
"""

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.coco.exported import read_rows
from fprep.readers.coco.file import coco_files, read_coco
from fprep.readers.reader import reader
from fprep.readers.signature import Signature
from fprep.readers.units import COORDINATE_KEYS
from fschemas.tables import SampleTable


@reader(
    name="coco",
    table=SampleTable,
    signatures=(
        Signature(
            r".*\.json",
            rb'\A\s*\{\s*"(info|images|annotations|categories|licenses|attributes|type)"\s*:',
            "a COCO file",
            rows=True,
            fallback=True,
        ),
    ),
    collects="files",
    variants={"coco": ("**/*.json",)},
    splits="cut",
    any_groups=True,
    instances=True,
    orientation="upright",
    mapping={
        "box-form": "size (default: x, y, width, height), corners (x1, y1, x2, y2) or center (x, y of the center, width, height)",
        **COORDINATE_KEYS,
    },
    paper="Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014 (the format)",
    license="that of the images; the converter knows none",
    citation="none: the format is COCO's, the images are your own",
)
def coco(raw: RawFolder) -> pl.LazyFrame:
    """Read the rows of all annotations. `source_line` is the number of the annotation in its file."""
    return read_rows(raw, [read_coco(raw, path) for path in coco_files(raw)]).lazy()

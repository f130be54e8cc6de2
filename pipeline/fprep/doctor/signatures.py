"""Signatures of released annotation files: name and first bytes, because several data sets use the same names.

A signature also records the location of the file in the release and its content, so that missing files can be
described. Sources: the READMEs of the DeepFashion benchmarks (Liu et al., CVPR 2016), the FashionAI challenge (Tianchi
2018), K-Fashion (AI-Hub), ASEN (Dong et al., IEEE TIP 2021) and DeepFashion2 (Ge et al., CVPR 2019).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fprep.raw.dialect import with_commas

HEAD = 4096  # bytes read from each file
CATEGORY, FINE, INSHOP = "deepfashion-category", "deepfashion-fine", "deepfashion-inshop"
CONSUMER, LANDMARKS, DEEPFASHION2 = "deepfashion-consumer2shop", "deepfashion-landmarks", "deepfashion2"
KEYPOINTS, ATTRIBUTES, KFASHION, ASEN = "fashionai-keypoints", "fashionai-attributes", "kfashion", "kfashion-asen"
COCO = "coco"


@dataclass(frozen=True)
class Signature:
    """One kind of file of the data set of `reader` ("" if there is none; then `gives` describes the data set).

    `name` is a regular expression for the whole file name in lower case, `head` one for the first bytes. `location` is the
    path in the release, "" if the name is arbitrary. `rows`: its lines contain image paths. `layout` distinguishes
    alternative files of a release. `crlf` and `bom`: the released file has them. `widths`: possible numbers of columns
    of a table, which is compared in its comma-separated form.
    """

    reader: str
    name: str
    head: bytes
    gives: str
    location: str = ""
    rows: bool = False
    layout: str = ""
    crlf: bool = False
    bom: bool = False
    widths: tuple[int, ...] = ()

    @cached_property
    def _name(self) -> re.Pattern[str]:
        return re.compile(self.name)

    @cached_property
    def _head(self) -> re.Pattern[bytes]:
        return re.compile(self.head, re.MULTILINE)

    def fits(self, name: str, head: bytes) -> bool:
        """Whether a file of this name starts as expected. `head` is UTF-8 without byte order mark."""
        if self._name.fullmatch(name.lower()) is None:
            return False
        return self._head.search(with_commas(head, self.widths) if self.widths else head) is not None


def _list(
    reader: str, stem: str, head: bytes, gives: str, folder: str = "Anno", *, rows: bool = False, crlf: bool = False,
    bom: bool = False,
) -> Signature:  # fmt: skip
    name = rf"{stem}(__.*|[ _-]?\(?\d\)?|_cleaned|_new)?\.(txt|csv)"
    return Signature(reader, name, head, gives, f"{folder}/{stem}.txt", rows=rows, crlf=crlf, bom=bom)


def _fine(layout: str, folder: str, path: bytes) -> list[Signature]:
    found: list[Signature] = []
    numbers = rb"\A(?!.*[A-Za-z/])\s*-?\d"
    words = {"official": "landmarks", "course": "landmards"}
    for split in ("train", "val", "test"):
        found.append(
            Signature(
                FINE, f"{split}\\.txt", path, f"names of {split}", f"{folder}/{split}.txt", rows=True, layout=layout
            )
        )
        ends = {"attr": "attributes", "bbox": "boxes", words[layout]: "landmarks"}
        ends |= {"cate": "categories"} if layout == "official" else {}
        for end, gives in ends.items() if split != "test" or layout == "official" else ():
            location = f"{folder}/{split}_{end}.txt"
            found.append(
                Signature(FINE, f"{split}_{end}\\.txt", numbers, f"{gives} of {split}", location, layout=layout)
            )
    return found


_TWO_LEVELS = rb"^img[^/\s]*/[^/\s]+/img_\d{8}\.jpg"
_FLAT = rb"^img[^/\s]*/img_\d{8}\.jpg"
_SHOP = rb"^img[^/\s]*/(WOMEN|MEN)/"
_ITEMS = rb"^id_\d{8}\s+-?[01]\b"  # in two data sets; the neighboring files decide
_STREET = rb"^img[^/\s]*/(TOPS|DRESSES|CLOTHING|TROUSERS)/"

SIGNATURES: tuple[Signature, ...] = (
    _list(CATEGORY, "list_category_cloth", rb"category_name\s+category_type", "names of the categories", "Anno_coarse"),
    _list(CATEGORY, "list_category_img", _TWO_LEVELS, "categories", "Anno_coarse", rows=True),
    _list(CATEGORY, "list_attr_cloth", rb"\A1000\s|\Aattribute_name\s+attribute_type\s+a-line", "names of the attributes",
          "Anno_coarse"),
    _list(CATEGORY, "list_attr_img", _TWO_LEVELS, "attributes", "Anno_coarse", rows=True),
    _list(CATEGORY, "list_bbox", _TWO_LEVELS, "boxes", "Anno_coarse", rows=True),
    _list(CATEGORY, "list_landmarks", _TWO_LEVELS, "landmarks", "Anno_coarse", rows=True),
    _list(CATEGORY, "list_eval_partition", _TWO_LEVELS, "splits", "Eval", rows=True),
    *_fine("official", "Anno_fine", rb"\Aimg/[^/\s]+/img_\d{8}\.jpg\s*$"),
    *_fine("course", "split", rb"\Aimg/\d{5}\.jpg\s*$"),
    Signature(FINE, r"list_attr_cloth\.txt", rb"\A26\s", "names of the attributes"),
    _list(INSHOP, "list_eval_partition", _SHOP, "items and splits", "Eval", rows=True),
    _list(INSHOP, "list_bbox_inshop", _SHOP, "boxes and poses", rows=True),
    _list(INSHOP, "list_landmarks_inshop", _SHOP, "landmarks", rows=True),
    _list(INSHOP, "list_item_inshop", rb"^id_\d{8}", "the items"),
    Signature(INSHOP, r"list_description_inshop(__.*)?\.json", rb'"description"', "descriptions", "Anno/list_description_inshop.json"),
    _list(INSHOP, "list_attr_cloth", rb"^attribute_name\s*$", "names of the attributes", "Anno/attributes"),
    _list(INSHOP, "list_attr_items", _ITEMS, "attributes", "Anno/attributes"),
    _list(INSHOP, "list_color_cloth", _SHOP, "colors", "Anno/attributes", rows=True),
    _list(CONSUMER, "list_eval_partition", _STREET, "pairs and splits", "Eval", rows=True),
    _list(CONSUMER, "list_bbox_consumer2shop", rb"", "boxes and who took the image", rows=True),
    _list(CONSUMER, "list_landmarks_consumer2shop", rb"", "landmarks", rows=True),
    _list(CONSUMER, "list_item_consumer2shop", rb"^id_\d{8}", "the items"),
    _list(CONSUMER, "list_attr_cloth", rb"attribute_name \((Chinese|English)\)", "names of the attributes", crlf=True, bom=True),
    _list(CONSUMER, "list_attr_type", rb"", "groups of the attributes", crlf=True),
    _list(CONSUMER, "list_attr_items", _ITEMS, "attributes"),
    _list(LANDMARKS, "list_bbox", _FLAT, "boxes", rows=True),
    _list(LANDMARKS, "list_landmarks", _FLAT, "landmarks", rows=True),
    _list(LANDMARKS, "list_joints", _FLAT, "joints", rows=True),
    _list(LANDMARKS, "list_eval_partition", _FLAT, "splits", "Eval", rows=True),
    Signature(KEYPOINTS, r".*\.csv", rb"\Aimage_id,image_category|^Images/(blouse|outwear|dress|skirt|trousers)/[^,]+,", "rows",
              rows=True, widths=(2, 26)),
    Signature(ATTRIBUTES, r".*\.csv", rb"^[^,\n]*,[a-z]+_(length|design)_labels,", "rows", rows=True, widths=(3, 4)),
    Signature(KFASHION, r".*\.json", "이미지 정보|데이터셋 정보".encode() + rb"|\\uc774\\ubbf8\\uc9c0 \\uc815\\ubcf4", "labels of an image"),
    *(Signature(ASEN, rf"{kind}_(train|valid|test)\w*\.txt", head, gives, rows=kind == "filenames")
      for kind, head, gives in (("filenames", rb"^.+/.+\.(jpe?g|png)\s*$", "names"), ("label", rb"\A\d+ \d+ \d+", "labels"),
                                ("query", rb"\A\d+ \d+ \d+", "queries"), ("candidate", rb"\A\d+ \d+ \d+", "candidates"))),
    Signature(ASEN, r"meta.*\.json", rb'"ATTRIBUTES|"fname_list"|"attributes"\s*:', "names of the attributes", crlf=True),
    Signature(DEEPFASHION2, r"\d+\.json", rb'"(pair_id|item\d+)"\s*:', "labels of an image"),
    Signature(DEEPFASHION2, r".*deepfash?ion_?2.*\.json", rb'"(info|images|annotations|categories|licenses)"\s*:', "COCO conversion",
              rows=True),
    Signature("fashionpedia", r"instances_attributes_(train|val)2020\.json", rb"\A\s*\{", "garments with attributes", rows=True),
    Signature(COCO, r".*\.json", rb'\A\s*\{\s*"(info|images|annotations|categories|licenses|attributes|type)"\s*:', "a COCO file", rows=True),
)  # fmt: skip

# Folders that contain annotation files; the root of the data set is above them.
LABEL_FOLDERS = {
    "anno", "anno_coarse", "anno_fine", "eval", "attributes", "segmentation", "annotations", "tests", "split", "annos", "labels",
    "라벨링데이터", "라벨링 데이터",
}  # fmt: skip
# Folders that contain the label folders; readers use them as splits.
SPLIT_FOLDERS = {"training", "validation", "train", "val", "test"}
IMAGE_FOLDERS = {"img", "imgs", "image", "images", "img_highres", "원천데이터", "원천 데이터"}
# Readers that accept any number of archives or documents below one folder.
COLLECTIVE = {KEYPOINTS, ATTRIBUTES, KFASHION, DEEPFASHION2, COCO}
DOCUMENTS = {KFASHION, DEEPFASHION2}  # one file per image, in one folder per split
# Long side, in pixels, of the images that the coordinates refer to.
LONG_SIDE = {CATEGORY: 301, INSHOP: 256, CONSUMER: 301, LANDMARKS: 512, KEYPOINTS: 512}


def recognize(path: Path, head: bytes) -> tuple[Signature, ...]:
    """Return the first matching signature and equivalent ones of other data sets; empty for an unknown file."""
    fitting = [signature for signature in SIGNATURES if signature.fits(path.name, head)]
    return tuple(entry for entry in fitting if (entry.name, entry.head) == (fitting[0].name, fitting[0].head))

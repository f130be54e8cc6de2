"""Signatures of the list files of the DeepFashion benchmarks; several use the same names."""

from fprep.readers.signature import Signature


def _list(
    stem: str,
    head: bytes,
    gives: str,
    folder: str = "Anno",
    *,
    rows: bool = False,
    crlf: bool = False,
    bom: bool = False,
) -> Signature:
    name = rf"{stem}(__.*|[ _-]?\(?\d\)?|_cleaned|_new)?\.(txt|csv)"
    return Signature(name, head, gives, f"{folder}/{stem}.txt", rows=rows, crlf=crlf, bom=bom)


def _fine(layout: str, folder: str, path: bytes) -> list[Signature]:
    found: list[Signature] = []
    numbers = rb"\A(?!.*[A-Za-z/])\s*-?\d"
    words = {"official": "landmarks", "course": "landmards"}
    for split in ("train", "val", "test"):
        found.append(
            Signature(f"{split}\\.txt", path, f"names of {split}", f"{folder}/{split}.txt", rows=True, layout=layout)
        )
        ends = {"attr": "attributes", "bbox": "boxes", words[layout]: "landmarks"}
        ends |= {"cate": "categories"} if layout == "official" else {}
        for end, gives in ends.items() if split != "test" or layout == "official" else ():
            location = f"{folder}/{split}_{end}.txt"
            found.append(Signature(f"{split}_{end}\\.txt", numbers, f"{gives} of {split}", location, layout=layout))
    return found


_TWO_LEVELS = rb"^img[^/\s]*/[^/\s]+/img_\d{8}\.jpg"
_FLAT = rb"^img[^/\s]*/img_\d{8}\.jpg"
_SHOP = rb"^img[^/\s]*/(WOMEN|MEN)/"
_ITEMS = rb"^id_\d{8}\s+-?[01]\b"  # in two data sets; the neighboring files decide
_STREET = rb"^img[^/\s]*/(TOPS|DRESSES|CLOTHING|TROUSERS)/"

CATEGORY = (
    _list("list_category_cloth", rb"category_name\s+category_type", "names of the categories", "Anno_coarse"),
    _list("list_category_img", _TWO_LEVELS, "categories", "Anno_coarse", rows=True),
    _list("list_attr_cloth", rb"\A1000\s|\Aattribute_name\s+attribute_type\s+a-line", "names of the attributes",
          "Anno_coarse"),
    _list("list_attr_img", _TWO_LEVELS, "attributes", "Anno_coarse", rows=True),
    _list("list_bbox", _TWO_LEVELS, "boxes", "Anno_coarse", rows=True),
    _list("list_landmarks", _TWO_LEVELS, "landmarks", "Anno_coarse", rows=True),
    _list("list_eval_partition", _TWO_LEVELS, "splits", "Eval", rows=True),
)  # fmt: skip
FINE = (
    *_fine("official", "Anno_fine", rb"\Aimg/[^/\s]+/img_\d{8}\.jpg\s*$"),
    *_fine("course", "split", rb"\Aimg/\d{5}\.jpg\s*$"),
    Signature(r"list_attr_cloth\.txt", rb"\A26\s", "names of the attributes"),
)  # fmt: skip
INSHOP = (
    _list("list_eval_partition", _SHOP, "items and splits", "Eval", rows=True),
    _list("list_bbox_inshop", _SHOP, "boxes and poses", rows=True),
    _list("list_landmarks_inshop", _SHOP, "landmarks", rows=True),
    _list("list_item_inshop", rb"^id_\d{8}", "the items"),
    Signature(r"list_description_inshop(__.*)?\.json", rb'"description"', "descriptions", "Anno/list_description_inshop.json"),
    _list("list_attr_cloth", rb"^attribute_name\s*$", "names of the attributes", "Anno/attributes"),
    _list("list_attr_items", _ITEMS, "attributes", "Anno/attributes"),
    _list("list_color_cloth", _SHOP, "colors", "Anno/attributes", rows=True),
)  # fmt: skip
CONSUMER2SHOP = (
    _list("list_eval_partition", _STREET, "pairs and splits", "Eval", rows=True),
    _list("list_bbox_consumer2shop", rb"", "boxes and who took the image", rows=True),
    _list("list_landmarks_consumer2shop", rb"", "landmarks", rows=True),
    _list("list_item_consumer2shop", rb"^id_\d{8}", "the items"),
    _list("list_attr_cloth", rb"attribute_name \((Chinese|English)\)", "names of the attributes", crlf=True, bom=True),
    _list("list_attr_type", rb"", "groups of the attributes", crlf=True),
    _list("list_attr_items", _ITEMS, "attributes"),
)  # fmt: skip
LANDMARKS = (
    _list("list_bbox", _FLAT, "boxes", rows=True),
    _list("list_landmarks", _FLAT, "landmarks", rows=True),
    _list("list_joints", _FLAT, "joints", rows=True),
    _list("list_eval_partition", _FLAT, "splits", "Eval", rows=True),
)  # fmt: skip

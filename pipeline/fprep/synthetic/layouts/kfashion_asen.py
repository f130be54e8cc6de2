"""Sample of K-Fashion in the text layout of ASEN (Ma et al., AAAI 2020).

Its files are lists of names, labels, queries and candidates. The only attribute is the style, with three visually
distinct classes: 0 plain without color (black, white, gray), 1 plain in a color, 2 printed. As in the re-release, the
folder of a style holds images of several classes, so it does not reveal the class.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from fprep.synthetic.defects import Flaw, Line, ListSpoiler
from fprep.synthetic.files import write_image, write_text
from fprep.synthetic.garments.items import Item, pick
from fprep.synthetic.garments.palette import ACHROMATIC
from fprep.synthetic.garments.people import draw_person
from fprep.synthetic.garments.shoot import VIEWS, photograph
from fprep.synthetic.layouts.kfashion import STYLE_OF_LOOK, identifier_of, outfit_of
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, draw_groups, map_groups, shuffled
from fschemas.vocabularies import vocabulary

ROOT, META = "data/Kfashion", "data/meta.json"
_SIDE = 320
_VIEWS = {"shop": 3.0, "any": 2.0, "street": 2.0, "home": 1.0}

Named = tuple[str, int, bool]  # path, class, whether it is for validation


def class_of(outfit: Sequence[Item]) -> int:
    """Return 0 (plain, no color), 1 (plain, colored) or 2 (printed), by the garment that covers most of the body."""
    item = next((item for item in outfit if item.category in ("dress", "blouse")), outfit[0])
    if item.print != "plain" or item.design.motif != "none":
        return 2
    return 0 if item.color in ACHROMATIC else 1


def _render_shoot(folder: Path, request: Request, shoot: Group) -> list[Named]:
    look, outfit = outfit_of(request.seed, shoot.number)
    wearer, is_valid = draw_person(chance(request.seed, 112, shoot.number)), shoot.number % 8 in (2, 5, 7)
    rows: list[Named] = []
    for index in range(shoot.count):
        path = f"{STYLE_OF_LOOK[look]}/{identifier_of(shoot.first + index)}.jpg"
        if request.with_images:
            generator = chance(request.seed, 117, shoot.number, index)
            shot = photograph(outfit, generator, VIEWS[pick(generator, _VIEWS)], _SIDE, wearer)
            write_image(folder / ROOT / "train/images" / path, shot.image)
        rows.append((path, class_of(outfit), is_valid))
    return rows


def _write(folder: Path, request: Request) -> dict[str, int]:
    found = map_groups(folder, request, _render_shoot, draw_groups(request, 1, 5))
    generator = chance(request.seed, 118)
    rows = shuffled([row for group in found for row in group], generator)
    write_text(folder / META, _meta(), newline="\r\n")
    lists: dict[str, list[str]] = {}
    for split, is_valid in (("train", False), ("valid", True)):
        chosen = [row for row in rows if row[2] is is_valid]
        lists[f"filenames_{split}"] = [path for path, _, _ in chosen]
        lists[f"label_{split}"] = [f"{index} 0 {style}" for index, (_, style, _) in enumerate(chosen)]
    lines = shuffled(lists["label_valid"], generator)
    num_candidates = (len(lines) + 4) // 5
    lists |= {"candidate_valid": lines[:num_candidates], "query_valid": lines[num_candidates:]}
    for name, texts in lists.items():
        write_text(folder / ROOT / f"{name}.txt", texts)
    names = {"train": "filenames_train", "valid": "label_valid", "query": "query_valid", "candidate": "candidate_valid"}
    return {name: len(lists[file]) for name, file in names.items()}


def _insert_defects(folder: Path, request: Request, _counts: dict[str, int]) -> list[Defect]:
    """Insert defects into training rows; row i of the labels belongs to row i of the names."""
    files = {"names": f"{ROOT}/filenames_train.txt", "labels": f"{ROOT}/label_train.txt"}
    spoiler = ListSpoiler(folder, request.seed, files, f"{ROOT}/train/images")
    for rule, text in (("unknown_attribute", "0 3"), ("unknown_attribute", "7 0"), ("bad_label", "0 one")):
        row = spoiler.take("names")
        index = spoiler.lines["names"].index(row)
        label = spoiler.lines["labels"][index]
        label.text = f"{index} {text}"
        spoiler.mark("labels", label, Flaw(rule, f"the label is {text!r}"), row.text)
    beyond = len(spoiler.lines["names"]) + 1000
    defect = Defect(files["labels"], None, None, "unknown_image", "an index beyond the list of names")
    spoiler.lines["labels"].append(Line(f"{beyond} 0 1", defect))
    spoiler.spoil_images("names", ("missing_image", "zero_byte_image"))
    spoiler.change("names", (Flaw("path_escape", "a path that leaves the tree"), r"^.+", "../../../escape.jpg"))
    return spoiler.finish()


def _meta() -> list[str]:
    """Return version 2 of `meta.json`, indented by tabs; it lists test files that the re-release lacks."""
    words = vocabulary("fashionai-attribute-54")
    fashionai = [{"name": name, "num": len(members)} for name, members in words.groups.items()]
    sizes = {"texture": 156, "fabric": 218, "shape": 180, "part": 216, "style": 230}
    attributes = {
        "FashionAI": fashionai,
        "DeepFashion": [{"name": f"{name}-related", "num": size} for name, size in sizes.items()],
        "Kfashion": [{"name": "style", "num": 3}],
    }
    files: dict[str, object] = {"train": {"fname_list": "filenames_train.txt", "label_file": "label_train.txt"}}
    for split in ("valid", "test"):
        roles = {"query": f"query_{split}.txt", "candidate": f"candidate_{split}.txt"}
        files[split] = {"fname_list": f"filenames_{split}.txt", "label_file": roles}
    meta = {name: {"attributes": found, **files} for name, found in attributes.items()}
    return json.dumps(meta, indent="\t").split("\n")


LAYOUT = Layout(published=252_949, write=_write, insert_defects=_insert_defects, least_for_defects=40)

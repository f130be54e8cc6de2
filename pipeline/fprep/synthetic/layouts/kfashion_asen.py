"""Sample of K-Fashion in the text layout of ASEN (Ma et al., AAAI 2020): lists of names, labels, queries and candidates.

One attribute, the style, in three classes that can be seen: 0 plain without color (black, white, grey), 1 plain in a color, 2 with a
print. A folder of a style holds images of several classes, as in the re-release; so the folder does not tell the class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fprep.synthetic.garments.items import Item, pick
from fprep.synthetic.garments.palette import ACHROMATIC
from fprep.synthetic.garments.people import draw_person
from fprep.synthetic.garments.shoot import VIEWS, photograph
from fprep.synthetic.layouts.kfashion import identifier_of, outfit_of
from fprep.synthetic.layouts.kfashion_words import STYLE_OF_LOOK
from fprep.synthetic.layouts.tree import (
    Defect,
    Progress,
    Request,
    chance,
    draw_groups,
    group_sizes,
    sample_folder,
    write_defects,
    write_image,
    write_text,
)  # fmt: skip
from fschemas.vocabularies import vocabulary

PUBLISHED_IMAGES = 252_949  # 159,732 for training and 93,217 for validation
MIN_IMAGES_FOR_DEFECTS = 40
ROOT, META = "data/Kfashion", "data/meta.json"
_SIDE = 320
_VIEW_WEIGHTS = {"shop": 3.0, "any": 2.0, "street": 2.0, "home": 1.0}

Named = tuple[str, int, bool]  # path, class, is it for validation


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a sample of `images` images and return how many lines each list has.

    Raises `UsageError` for an occupied folder or too few images.
    """
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request, MIN_IMAGES_FOR_DEFECTS if defects else 1) as folder:
        first, sessions = 0, list[tuple[int, int, int]]()
        for number, count in enumerate(group_sizes(request, 1, 5)):
            sessions.append((number, first, count))
            first += count
        draw = partial(_draw_session, folder if with_images else None, seed)
        rows: list[Named] = []
        for found in draw_groups(request, draw, sessions, [count for _, _, count in sessions]):
            rows += found
        return _write_lists(folder, rows, request)


def class_of(outfit: Sequence[Item]) -> int:
    """0 plain and colorless, 1 plain and colored, 2 printed, by the piece that covers most."""
    item = next((item for item in outfit if item.category in ("dress", "blouse")), outfit[0])
    if item.print != "plain" or item.design.motif != "none":
        return 2
    return 0 if item.color in ACHROMATIC else 1


def _draw_session(folder: Path | None, seed: int, session: tuple[int, int, int]) -> list[Named]:
    number, first, count = session
    look, outfit = outfit_of(seed, number)
    wearer, is_valid = draw_person(chance(seed, 112, number)), number % 8 in (2, 5, 7)
    rows: list[Named] = []
    for index in range(count):
        path = f"{STYLE_OF_LOOK[look]}/{identifier_of(first + index)}.jpg"
        if folder is not None:
            generator = chance(seed, 117, number, index)
            shot = photograph(outfit, generator, VIEWS[pick(generator, _VIEW_WEIGHTS)], _SIDE, wearer)
            write_image(folder / ROOT / "train/images" / path, shot.image)
        rows.append((path, class_of(outfit), is_valid))
    return rows


def _write_lists(folder: Path, rows: list[Named], request: Request) -> dict[str, int]:
    generator = chance(request.seed, 118)
    rows = [rows[place] for place in generator.permutation(len(rows)).tolist()]
    train, valid = ([row for row in rows if row[2] is side] for side in (False, True))
    write_text(folder / META, _meta(), newline="\r\n")
    root = folder / ROOT
    labels = [f"{place} 0 {style}" for place, (_, style, _) in enumerate(train)]
    names = [path for path, _, _ in train]
    planted = _plant(names, labels, folder) if request.defects else []
    write_text(root / "filenames_train.txt", names)
    write_text(root / "label_train.txt", labels)
    write_text(root / "filenames_valid.txt", [path for path, _, _ in valid])
    lines = [f"{place} 0 {style}" for place, (_, style, _) in enumerate(valid)]
    write_text(root / "label_valid.txt", lines)
    order = generator.permutation(len(lines)).tolist()
    num_candidates = (len(lines) + 4) // 5
    write_text(root / "candidate_valid.txt", [lines[place] for place in order[:num_candidates]])
    write_text(root / "query_valid.txt", [lines[place] for place in order[num_candidates:]])
    if request.defects:
        write_defects(folder, planted)
    counts = {
        "train": len(names),
        "valid": len(valid),
        "query": len(order) - num_candidates,
        "candidate": num_candidates,
    }
    return counts | ({"defects": len(planted)} if request.defects else {})


def _plant(names: list[str], labels: list[str], folder: Path) -> list[Defect]:
    """Spoil the last training rows."""
    list_of_names, list_of_labels = f"{ROOT}/filenames_train.txt", f"{ROOT}/label_train.txt"
    last = len(names)
    planted: list[Defect] = []
    for back, rule, text in (
        (1, "unknown_attribute", "0 3"),
        (2, "unknown_attribute", "7 0"),
        (3, "bad_label", "0 one"),
    ):
        labels[last - back] = f"{last - back} {text}"
        image = (
            names[last - back] if rule == "unknown_attribute" else None
        )  # a line that cannot be read concerns no image
        planted.append(Defect(list_of_labels, last - back + 1, image, rule, f"the label is {text!r}"))
    labels.append(f"{last + 1000} 0 1")
    planted.append(Defect(list_of_labels, last + 1, None, "unknown_image", "a place beyond the list of names"))
    (folder / ROOT / "train/images" / names[last - 4]).unlink()
    planted.append(Defect(list_of_names, last - 3, names[last - 4], "missing_image", "the file was deleted"))
    (folder / ROOT / "train/images" / names[last - 5]).write_bytes(b"")
    planted.append(Defect(list_of_names, last - 4, names[last - 5], "zero_byte_image", "the file is empty"))
    names[last - 6] = "../../../escape.jpg"
    planted.append(Defect(list_of_names, last - 5, names[last - 6], "path_escape", "a path that leaves the tree"))
    return planted


def _meta() -> list[str]:
    """`meta.json` in its second version, indented by tabs; it names test files that the re-release does not have."""
    words = vocabulary("fashionai-attribute-54")
    fashionai = [{"name": name, "num": len(places)} for name, places in words.groups.items()]
    sizes = {
        "texture-related": 156,
        "fabric-related": 218,
        "shape-related": 180,
        "part-related": 216,
        "style-related": 230,
    }
    attributes = {
        "FashionAI": fashionai,
        "DeepFashion": [{"name": name, "num": size} for name, size in sizes.items()],
        "Kfashion": [{"name": "style", "num": 3}],
    }
    files: dict[str, object] = {"train": {"fname_list": "filenames_train.txt", "label_file": "label_train.txt"}}
    for split in ("valid", "test"):
        roles = {"query": f"query_{split}.txt", "candidate": f"candidate_{split}.txt"}
        files[split] = {"fname_list": f"filenames_{split}.txt", "label_file": roles}
    return json.dumps({name: {"attributes": found, **files} for name, found in attributes.items()}, indent="\t").split(
        "\n"
    )

"""Ultralytics YOLO pose: `images/<split>/`, `labels/<split>/` and `data.yaml`.

A label line is `class cx cy w h` followed by `x y v` per keypoint, relative to the size of the image as displayed. The
origin is the corner of the top left pixel, so coordinates remain exact after resizing: x = (pixel center + 0.5) /
width. Keypoints with v = 0 are `0 0 0`.
"""

from pathlib import Path
from typing import Any

import yaml

from fprep.export.geometry import Instance, class_names, instances
from fprep.export.job import UNLABELED, ExportJob, image_suffix
from fschemas import wording
from fschemas.names import output_name
from fschemas.publish import publish_bytes
from fschemas.splits import QUERY_SPLITS

_DIGITS = 7  # decimals of a relative coordinate: a thousandth of a pixel at a width of 10,000


def write(job: ExportJob, folder: Path) -> None:
    """Write images (links or copies), labels and data.yaml."""
    job.need("landmarks", "coco, label-studio or hf")
    job.need_sizes()
    ids = {name: number for number, name in enumerate(class_names(job))}
    splits = [split for split in job.splits if split != UNLABELED]
    for split in splits:
        (folder / "labels" / split).mkdir(parents=True)
        for rows in job.images(split):
            found = [instance for row in rows for instance in instances(row)]
            name = output_name(rows[0]["key"])
            job.add_image(rows[0], Path("images", split, name + image_suffix(rows[0])), folder, copy=job.options.copy)
            lines = "".join(f"{label_line(instance, ids)}\n" for instance in found)
            (folder / "labels" / split / f"{name}.txt").write_text(lines, encoding="utf-8")
            job.count("images")
            job.count("labels", len(found))
    if UNLABELED in job.splits:
        what = wording.count(len(job.splits[UNLABELED]), "image")
        job.notes.append(f"left out: {what} without labels, which this layout would treat as images without garments")
    publish_bytes(folder / "data.yaml", _data(job, splits, ids).encode())


def label_line(instance: Instance, ids: dict[str, int]) -> str:
    """Return the label line of a garment, without line ending."""
    width, height = instance.row["width"], instance.row["height"]
    x1, y1, x2, y2 = instance.box
    box = ((x1 + x2) / 2, width), ((y1 + y2) / 2, height), (x2 - x1, width), (y2 - y1, height)
    numbers = [str(ids[instance.label]), *(_share(value, size) for value, size in box)]
    for x, y, v in instance.keypoints:
        numbers += [_share(x + 0.5, width), _share(y + 0.5, height), str(v)] if v else ["0", "0", "0"]
    return " ".join(numbers)


def _share(value: float, size: int) -> str:
    return f"{min(max(value / size, 0.0), 1.0):.{_DIGITS}g}"


def _data(job: ExportJob, splits: list[str], ids: dict[str, int]) -> str:
    landmark_set = job.landmark_set
    assert landmark_set is not None
    held_out = [split for split in ("val", "test", *reversed(QUERY_SPLITS), "train") if split in splits]
    if held_out and held_out[0] != "val":
        job.notes.append(f"data.yaml: there is no val split, so val is {held_out[0]}")
    paths: dict[str, Any] = {split: f"images/{split}" for split in splits}
    if held_out:
        paths = {
            "train": f"images/{'train' if 'train' in splits else held_out[0]}",
            "val": f"images/{held_out[0]}",
        } | paths
    data = paths | {
        "kpt_shape": [len(landmark_set["points"]), 3],
        "flip_idx": landmark_set["partners"],
        "names": {number: name for name, number in ids.items()},
        "kpt_names": {number: list(landmark_set["points"]) for number in ids.values()},
    }
    head = f"# {job.name}. Paths are relative to this file. License: {' '.join(str(job.metadata.get('license')).split())}\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)

"""Reader for DeepFashion Fashion Landmark Detection.

123,016 images with box, 8 landmarks, variation and, since v1.1, 14 joints. Rows are those of
`Eval/list_eval_partition.txt`; `Anno/list_bbox.txt`, `list_landmarks.txt` and `list_joints.txt` are joined by path.
Boxes and landmarks are 1-based pixels and become pixel centers (1 becomes 0). Visibility is 0 visible, 1 occluded, 2
truncated; a joint is 0 visible or 1 invisible. The README does not name the joints, so they are numbered.
"""

import numpy as np
import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion import signatures
from fprep.readers.deepfashion.landmark_rows import CODES, LandmarkRows
from fprep.readers.deepfashion.lists import ListFile, join_lists, read_list
from fprep.readers.deepfashion.tree import Benchmark, benchmark_reader, find_benchmarks, image_paths, read_partition
from fschemas.landmarks import Visibility
from fschemas.tables import table_class
from fschemas.vocabularies import Vocabulary

NUM_JOINTS = 14
_JOINTS = Vocabulary("deepfashion-joint-14", tuple(f"joint_{number}" for number in range(1, NUM_JOINTS + 1)))


@benchmark_reader(
    name="deepfashion-landmarks",
    table=table_class("box", "landmarks", "variation", "joints"),
    signatures=signatures.LANDMARKS,
    image_side=512,
    variants={
        "version 1.1 (with joints)": ("**/list_landmarks.txt", "**/list_joints.txt", "**/list_eval_partition.txt"),
        "version 1.0": ("**/list_landmarks.txt", "**/list_bbox.txt", "**/list_eval_partition.txt"),
    },
    totals={"images": 123016},
    paper="Liu et al., Fashion Landmark Detection in the Wild, ECCV 2016",
    citation="@inproceedings{liu2016fashionlandmark, title={Fashion Landmark Detection in the Wild}, "
    "author={Liu, Ziwei and Yan, Sijie and Luo, Ping and Wang, Xiaogang and Tang, Xiaoou}, booktitle={ECCV}, year={2016}}",
)
def deepfashion_landmarks(raw: RawFolder) -> pl.LazyFrame:
    """Read every Landmark Detection folder found, with the column groups of its lists."""
    benchmarks = find_benchmarks(raw, ("list_landmarks.txt",), excluded=("list_category_img.txt", "list_attr_img.txt"))
    return pl.concat([_read(raw, benchmark) for benchmark in benchmarks], how="diagonal").lazy()


def _read(raw: RawFolder, benchmark: Benchmark) -> pl.DataFrame:
    rows = read_partition(raw, benchmark)
    lists = {"landmark": read_list(raw, benchmark.lists / "list_landmarks.txt", numbers=None)}
    benchmark.note_missing(raw, ("list_bbox.txt", "list_joints.txt"))
    if (path := benchmark.file("list_bbox.txt")) is not None:
        lists["box"] = read_list(raw, path, numbers=4)
    joints = None
    if (path := benchmark.file("list_joints.txt")) is not None:
        lists["joint"] = read_list(raw, path, numbers=None)
        joints = _Joints(raw, lists["joint"])
    landmarks = LandmarkRows(raw, lists["landmark"])
    kept, indices = join_lists(raw, rows, lists, optional=("joint",))
    columns = landmarks.columns(indices["landmark"])
    if "box" in lists:
        columns["box"] = lists["box"].boxes(indices["box"])
    if joints is not None:
        columns |= joints.columns(indices["joint"])
        raw.vocabularies["joint"] = _JOINTS
        raw.notes.append("joints are called by their number: the README of the release does not name them")
        for row in kept[indices["joint"] < 0].tolist():
            raw.warn("missing_row", f"{rows.line(row)}: not in {lists['joint'].file.name}")
    names = rows.names.gather(kept)
    columns |= {"image": image_paths(raw, benchmark.home, names), "split": rows.words[1].gather(kept)}
    return rows.frame(kept, columns)


class _Joints:
    """Joints of the N rows of a list; problems of rows are added to it.

    `points` is N + 1 x 14 x 2 in pixel centers, 0 if absent, `visibility` N + 1 x 14. The last entry, index -1, is for
    images without a row.
    """

    def __init__(self, raw: RawFolder, listed: ListFile) -> None:
        num_leading = listed.counts - 3 * NUM_JOINTS  # clothes type and variation type, if present
        fits = (num_leading >= 0) & (num_leading <= 2)
        counts, expected = listed.counts, f"clothes type, variation type and {3 * NUM_JOINTS} for {NUM_JOINTS} joints"
        listed.require(fits, "wrong_columns", lambda row: f"{counts[row]} numbers, expected {expected}", counts)
        numbers = listed.matrix(2 + 3 * NUM_JOINTS)
        first = np.where(fits, num_leading, 0)
        triples = np.take_along_axis(numbers, first[:, None] + np.arange(3 * NUM_JOINTS), 1).reshape(-1, NUM_JOINTS, 3)
        states, positions = triples[:, :, 0], triples[:, :, 1:]
        known = (states >= 0) & (states < len(CODES))
        message = "the visibility of joint {number} is {value}, expected 0 or 1"
        listed.require_each(known, states, "bad_visibility", message)
        codes = CODES[np.clip(states, 0, len(CODES) - 1)]
        codes[(positions == 0).all(2)] = Visibility.ABSENT
        present = codes >= Visibility.OCCLUDED
        for row in np.flatnonzero((states == 2).any(1) & known.all(1)).tolist():  # a code used for landmarks only
            raw.warn("joint_cut_off", listed.line(row))
        self.visibility = np.concatenate([codes, np.zeros((1, NUM_JOINTS), np.int8)])
        self.points = np.zeros((len(listed) + 1, NUM_JOINTS, 2), np.float32)
        self.points[:-1] = np.where(present[:, :, None], positions - 1, 0)

    def columns(self, indices: np.ndarray) -> dict[str, pl.Series]:
        """Return the columns of the group joints for these row indices."""
        x, y = self.points[indices, :, 0], self.points[indices, :, 1]
        columns = {"joint_x": x, "joint_y": y, "joint_visibility": self.visibility[indices]}
        return {name: pl.Series(values).arr.to_list() for name, values in columns.items()}

"""Detection of folder types by their content: outputs of commands, raw data of a reader, or images.

Only regular files are opened, and at most a few KiB of each are read.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fschemas.failures import FashionkitError
from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.regular_file import open_regular

_BEGIN = 1 << 16  # bytes read of a file
_LIST = 10_000  # maximum number of names read of a folder
# A file with such an error is not recognized. Other disk errors do not identify the folder, and are raised.
_NOT_OURS = (FileNotFoundError, NotADirectoryError, PermissionError, FashionkitError)
_FOLDERS = 50  # maximum number of subfolders searched for raw data
# Left by operating systems, Git, DVC and killed commands; a folder without other names is empty.
_IGNORED = re.compile(
    r"\.tmp\..*|\..*\.lock|\.git(ignore|keep|attributes)|\.dvcignore|\.nfs.*|\.fuse_hidden.*|\.DS_Store|\._.*|\.directory|"
    r"Thumbs\.db|desktop\.ini|lost\+found"
)
_SHARD = re.compile(r"[a-z_]+-\d{6,}\.(tar|json)")


@dataclass(frozen=True)
class FolderKind:
    """A type of folder: its name, its name in messages, the files that its command writes, and a predicate."""

    name: str
    words: str
    contents: tuple[str, ...]
    is_one: Callable[[Path], bool]


def _json_has(path: Path, *keys: str, form: str = "") -> bool:
    """Whether a JSON object has these keys and this format; of a large file only the first bytes are read."""
    text = _begin(path)
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return all(f'"{key}"' in text for key in keys) and form in text and bool(keys or form)
    if not isinstance(value, dict):
        return False
    found = cast("dict[str, object]", value)
    return all(key in found for key in keys) and str(found.get("format", "")).startswith(form)


def _begin(path: Path) -> str:
    return _bytes_of(path).decode("utf-8", "replace")


def _bytes_of(path: Path, last: int = 0) -> bytes:
    """Return the first bytes of a file, or the `last` ones; none if it is missing or cannot be opened."""
    try:
        if not path.is_file():  # usually missing; never open what is not a file
            return b""
        with open_regular(path) as file:
            if last:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last))
            return file.read(last or _BEGIN)
    except _NOT_OURS:
        return b""


def _is_table_file(path: Path) -> bool:
    """Whether a Parquet file contains this package's metadata, which is in its last bytes."""
    end = _bytes_of(path, last=1 << 22)
    return end.endswith(b"PAR1") and b"fashionkit" in end


def _is_run(path: Path) -> bool:
    if any(name.startswith("step-") for name in names_in(path / "checkpoints")):
        return True
    return "task:" in _begin(path / "config.yaml") and (path / "dataset.json").is_file()


def _is_shard_set(path: Path) -> bool:
    if (path / "config.yaml").exists() or (path / "checkpoints").exists():
        return False
    records = names_in(path / "meta")
    return _json_has(path / "dataset.json", form="fashionkit-shards") or any(map(_SHARD.fullmatch, records))


def _is_table(path: Path) -> bool:
    has_table = _is_table_file(path / "table.parquet") or _is_table_file(path / "rejected.parquet")
    return has_table or _json_has(path / "report.json", "rejected_by_rule")


def _is_audit(path: Path) -> bool:
    return _is_table_file(path / "audit.parquet") or _json_has(path / "splits.lock.json", form="fashionkit-split-lock")


def _is_index(path: Path) -> bool:
    has_files = (path / "features.npy").is_file() and _is_table_file(path / "items.parquet")
    return has_files or _json_has(path / "index.json", form="fashionkit-index")


def _is_evaluation(path: Path) -> bool:
    reports = (path / "report.json", path / "metrics.json")
    has_summary = re.match(r"\w+ at step \d+: ", _begin(path / "summary.txt")) is not None
    return has_summary or any(_json_has(report, "task", "checkpoint_step") for report in reports)


def _is_data_export(path: Path) -> bool:
    export = path / "export.json"
    return _json_has(export, "export", "to") or _json_has(export, "id", "table_sha256")


_KINDS = (
    FolderKind("run", "a run folder",
               ("config.yaml", "dataset.json", "checkpoints", "metrics.json", "receipt.json", "training.csv", "validation.csv",
                "dvclive", "tensorboard", "mlruns", "mlflow*", "evaluation", "*.sha256", "digests.json"), _is_run),
    FolderKind("shards", "a shard set",
               ("dataset.json", "index.parquet", "README.md", "meta", "train-*.tar", "val*-*.tar", "test*-*.tar", "query-*.tar",
                "gallery-*.tar", "unlabeled-*.tar"), _is_shard_set),
    FolderKind("audit", "an audit", ("audit.parquet", "audit.txt", "splits.lock.json"), _is_audit),
    FolderKind("table", "a table folder", ("table.parquet", "rejected.parquet", "report.json"), _is_table),
    FolderKind("index", "a search index", ("index.json", "features.npy", "colors.npy", "items.parquet", "approximate.faiss"), _is_index),
    FolderKind("evaluation", "an evaluation",
               ("metrics.json", "report.json", "summary.txt", "*.csv", "predictions.png", "plots"), _is_evaluation),
    FolderKind("predictions", "a folder of predictions", ("predictions.jsonl", "overlays"),
               lambda path: re.match(r'\{"(image|key)": ', _begin(path / "predictions.jsonl")) is not None),
    FolderKind("query", "a folder of search results", ("results.jsonl", "sheets"),
               lambda path: re.match(r'\{"image": ', _begin(path / "results.jsonl")) is not None),
    FolderKind("description", "a description of an image", ("description.json", "description.jpg"),
               lambda path: _json_has(path / "description.json", "image", "answers")),
    FolderKind("comparison", "a comparison of runs", ("comparison.csv", "comparison.json", "comparison.png"),
               lambda path: _json_has(path / "comparison.json", "runs", "metrics")),
    FolderKind("model", "an exported model", ("export.json", "model.onnx", "model.pt2"),
               lambda path: _json_has(path / "export.json", "kind", form="fashionkit-export")),
    FolderKind("export", "an exported data set", ("export.json",), _is_data_export),
    FolderKind("sample", "sample data of `fprep sample`", (), lambda path: "by `fprep sample`" in _begin(path / "SYNTHETIC.txt")),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in _KINDS}

# Files and folders that identify raw data, in the folder itself or up to two levels below; the first match counts.
_RAW_MARKS = (
    ("deepfashion-inshop", ("list_item_inshop.txt", "list_bbox_inshop.txt", "list_description_inshop.json")),
    ("deepfashion-consumer2shop", ("list_item_consumer2shop.txt", "list_bbox_consumer2shop.txt")),
    ("deepfashion-category", ("list_category_img.txt", "list_category_cloth.txt", "Anno_coarse")),
    ("deepfashion-fine", ("Anno_fine",)),
    ("deepfashion-landmarks", ("list_landmarks.txt", "list_joints.txt")),
    ("kfashion", ("라벨링데이터", "원천데이터")),
    ("kfashion-asen", ("filenames_train.txt", "candidate_test.txt")),
    ("deepfashion2", ("annos+image",)),
    ("fashionai-keypoints",
     ("fashionAI_key_points_train_20180227", "fashionAI_key_points_test_a_20180227", "blouse+dress+skirt")),
    ("fashionai-attributes", ("skirt_length_labels+sleeve_length_labels", "coat_length_labels+collar_design_labels")),
)  # fmt: skip


def kind_of_folder(path: Path) -> FolderKind | None:
    """Output type of a folder; None for any other folder, for a file and for a missing path."""
    return next((kind for kind in _KINDS if kind.is_one(path)), None) if path.is_dir() else None


def raw_data_of(path: Path) -> str | None:
    """Reader of the raw data in a folder, or up to two levels below it, by file names; None if unknown."""
    level = [path]
    for _ in range(3):
        names = {name for folder in level for name in names_in(folder)}
        for reader, marks in _RAW_MARKS:
            if any(names.issuperset(mark.split("+")) for mark in marks):
                return reader
        below = (folder / name for folder in level for name in sorted(names_in(folder)) if "." not in name)
        level = list(
            itertools.islice((folder for folder in below if folder.is_dir() and not folder.is_symlink()), _FOLDERS)
        )
    return None


def what_is(path: Path) -> str:
    """Describe a path in words that follow "this is": `a run folder`, `raw data of deepfashion-category`."""
    if not path.exists():
        return "a broken link" if path.is_symlink() else "nothing"
    if not path.is_dir():
        return "a file"
    kind = kind_of_folder(path)
    if kind is not None:
        return kind.words
    names = foreign_names(path)
    if not names:
        return "an empty folder"
    reader = raw_data_of(path)
    if reader is not None:
        return f"raw data of {reader}"
    images = sum(name.lower().endswith(IMAGE_EXTENSIONS) for name in names)
    if images:
        return f"a folder of images ({images if len(names) < _LIST else f'more than {images}'})"
    return f"a folder with other things ({names[0]!r}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"


def foreign_names(path: Path) -> list[str]:
    """Sorted names in a folder, at most 10,000, without leftovers of systems and killed commands."""
    return sorted(name for name in names_in(path) if not _IGNORED.fullmatch(name))


def names_in(path: Path) -> Collection[str]:
    """Unsorted names in a folder, at most 10,000; empty if it cannot be listed."""
    names: list[str] = []
    with suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) >= _LIST:
                break
    return names

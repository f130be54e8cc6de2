"""No command blocks on a pipe or reads a device: every path must be a regular file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fschemas.failures import FashionkitError, UsageError
from fschemas.publish import sha256_of
from fschemas.shard_set import ShardSet
from fschemas.table_file import read_metadata, read_table
from ftrain.data.split_lock import lock_digest
from ftrain.data.user_images import ImageError, find_images, read_image
from ftrain.fit.run_folder import RunFolder
from ftrain.layers.weights import read_weights
from ftrain.search.index_file import IndexFolder
from ftrain.use.submit import read_test_list

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "--init-from of safetensors": ("w.safetensors", read_weights),
    "--init-from of PyTorch": ("w.pth", read_weights),
    "--lock": ("splits.lock.json", lambda path: lock_digest(str(path))),
    "submit": ("test.csv", read_test_list),
    "an image": ("a.jpg", read_image),
    "a digest": ("table.parquet", sha256_of),
    "a table": ("table.parquet", read_table),
    "its metadata": ("table.parquet", read_metadata),
    "config.yaml of a run": ("config.yaml", lambda path: RunFolder(path.parent).config()),
    "dataset.json of a run": ("dataset.json", lambda path: RunFolder(path.parent).dataset()),
    "dataset.json of a shard set": ("dataset.json", lambda path: ShardSet.open(path.parent)),
    "index.json": ("index.json", lambda path: IndexFolder.open(path.parent)),
}


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_a_device_is_refused(tmp_path: Path, reader: str, kind: str) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(FashionkitError, match=r"pipe|device|regular"):
        read(path)


def test_pipes_and_devices_in_a_folder_of_images_are_passed_by(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="no images"):
        find_images([tmp_path])
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(ImageError, match="regular"):
            read_image(tmp_path / name)

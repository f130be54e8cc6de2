"""Check that third-party loaders read a shard set correctly: `datasets` (streaming) and plain `webdataset`, offline."""

import importlib
import importlib.util
import json
import os
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from fschemas.wording import count

# (location, problem, whether the check was run)
Result = tuple[str, str, bool]


def check_loaders(
    shards: Path, metadata: dict[str, Any], keys: dict[str, list[str]], limit: int | None
) -> Iterator[Result]:
    """Compare the keys (in order) and annotations of every split with the output of two loaders.

    `keys` are the expected sample keys by split, in the order of the shards. `limit` is the maximum number of samples
    per split (None: all).
    """
    with _plainly_named(shards) as links:
        for name, load in (("webdataset", _webdataset), ("datasets", _datasets)):
            if importlib.util.find_spec(name) is None:
                yield name, f"not installed, so this check was skipped; pip install {name}", False
                continue
            for split in metadata["splits"]:
                yield from _compare(name, load, links, metadata, split, keys.get(split, []), limit)


@contextmanager
def _plainly_named(shards: Path) -> Generator[Path]:
    """Yield a temporary folder of links to the files of the set.

    Loaders interpret `[v2]`, `#3`, `?`, `*` or `::` in a path as a pattern or URL.
    """
    with tempfile.TemporaryDirectory(prefix="fprep-lint-") as folder:
        for path in sorted(shards.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                Path(folder, path.name).symlink_to(path.resolve())
        yield Path(folder)


def _compare(
    name: str,
    load: Callable[[Path, dict[str, Any], str], Iterable[tuple[str, object]]],
    shards: Path,
    metadata: dict[str, Any],
    split: str,
    keys: list[str],
    limit: int | None,
) -> Iterator[Result]:
    found: list[str] = []
    location = f"{name} on {split}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for key, annotation_key in islice(load(shards, metadata, split), limit):
                found.append(key)
                if annotation_key != key:
                    yield location, f"sample {key} has the annotation of {annotation_key}", True
    except Exception as error:  # noqa: BLE001 - a loader may raise anything on a damaged set
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        is_absent = isinstance(error, ImportError | OSError | NotImplementedError) and not found
        if is_absent and _can_be_read(shards, metadata, split):
            yield location, f"cannot be started ({words}), so this check was skipped", False
        else:
            yield location, f"fails after {count(len(found), 'sample')}: {words}", True
        return
    expected = keys[:limit]
    if len(found) != len(expected):
        yield location, f"yields {count(len(found), 'sample')} instead of {len(expected)}", True
    elif found != expected:
        first = next(number for number, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
        yield location, f"yields {found[first]} instead of {expected[first]} as sample {first}", True


def _can_be_read(shards: Path, metadata: dict[str, Any], split: str) -> bool:
    """Whether the first shard of a split is a readable tar archive. If not, the set is broken, not the loader."""
    try:
        first = next(entry["name"] for entry in metadata["shards"] if entry["split"] == split)
        with tarfile.open(shards / first) as archive:
            return archive.next() is not None
    except (OSError, tarfile.TarError, StopIteration):
        return False


def _webdataset(shards: Path, metadata: dict[str, Any], split: str) -> Iterator[tuple[str, object]]:
    webdataset: Any = importlib.import_module("webdataset")
    paths = [str(shards / entry["name"]) for entry in metadata["shards"] if entry["split"] == split]
    for sample in webdataset.WebDataset(paths, shardshuffle=False):
        yield _checked(sample["__key__"], sample["jpg"]), json.loads(sample["json"])["key"]


def _datasets(shards: Path, metadata: dict[str, Any], split: str) -> Iterator[tuple[str, object]]:  # noqa: ARG001
    with tempfile.TemporaryDirectory() as cache:
        # Read when `datasets` is imported.
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_DATASETS_CACHE=cache)
        datasets: Any = importlib.import_module("datasets")
        samples = datasets.load_dataset(str(shards.resolve()), split=split, streaming=True, cache_dir=cache)
        for sample in samples.cast_column("jpg", datasets.Image(decode=False)):
            yield _checked(sample["__key__"], sample["jpg"]["bytes"]), sample["json"]["key"]


def _checked(key: str, image: bytes) -> str:
    if not image.startswith(b"\xff\xd8"):
        raise ValueError(f"sample {key} has no image")
    return key

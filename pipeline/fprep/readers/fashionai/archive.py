"""Shared by the FashionAI readers: the search for CSV files, license and citation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fprep.raw.folder import RawFolder, real_path
from fprep.readers.reader import Reader

_MAX_DEPTH = 4  # levels of folders to search

fashionai_reader = partial(
    Reader,
    splits="cut",
    collects="files",
    license="Tianchi terms of the FashionAI challenge: research use, no redistribution",
    citation="@inproceedings{zou2019fashionai, title={FashionAI: A Hierarchical Dataset for Fashion Understanding}, "
    "author={Zou, Xingxing and Kong, Xiangheng and Wong, Waikeung and Wang, Congde and Liu, Yuguang and Cao, Yang}, "
    "booktitle={CVPR Workshops}, year={2019}}",
)


def annotation_files(raw: RawFolder, is_annotation: Callable[[Path], bool], missing: str) -> list[Path]:
    """Return the given files, and the annotation files in the given folders; image folders are skipped.

    Raises `UsageError` with the message `missing` if there are none.
    """
    found: dict[Path, Path] = {}
    for given in raw.given:
        for here, folders, files in raw.walk(given) if given.is_dir() else ():
            deep = len(here.relative_to(given).parts) >= _MAX_DEPTH
            folders[:] = [] if deep else [name for name in folders if name != "Images"]
            candidates = (here / name for name in files if name.endswith(".csv"))
            found |= {real_path(path): path for path in candidates if is_annotation(path)}
        found |= {given: given} if given.is_file() else {}
    if not found:
        raise raw.nothing_found(missing)
    return sorted(found.values())

"""Lists and images of DeepFashion's Category and Attribute and Landmark benchmarks on disk, and their word lists."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from fprep.raw.file import is_file
from fprep.raw.fingerprints import known_version
from fprep.raw.folder import RawFolder, text_problem
from fprep.readers.deepfashion.lists import ListFile, read_rows
from fprep.readers.reader import Reader
from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8
from fschemas.vocabularies import Vocabulary

benchmark_reader = partial(
    Reader,
    landmark_set=DEEPFASHION_8,
    origin=1,
    any_groups=True,
    paper="Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations, CVPR 2016",
    license="non-commercial research and educational purposes only (README of the DeepFashion benchmarks)",
    citation="@inproceedings{liu2016deepfashion, title={DeepFashion: Powering Robust Clothes Recognition and Retrieval "
    "with Rich Annotations}, author={Liu, Ziwei and Luo, Ping and Qiu, Shi and Wang, Xiaogang and Tang, Xiaoou}, "
    "booktitle={CVPR}, year={2016}}",
)

PARTITION = "list_eval_partition.txt"
SPLITS = ("train", "val", "test")
_ANNOTATION = ("Anno_coarse", "Anno", "anno", "Anno/Anno_coarse", ".")
# Folders for `img/` of the lists: as intended, inside the archive's folder, nested twice, or named by the download.
_IMAGES = ("img", "Img/img", "img/img", "Img/img/img", "img-001/img", "img-001", "Img")
NUM_PROBES = 16  # images of a list that are searched on disk


@dataclass(frozen=True)
class Benchmark:
    """A folder with lists, the partition that belongs to it, and the folder that image paths are relative to."""

    lists: Path
    partition: Path
    home: Path

    def file(self, name: str) -> Path | None:
        """Return the path of a list, None if it does not exist."""
        return path if is_file(path := self.lists / name) else None

    def note_missing(self, raw: RawFolder, names: Iterable[str]) -> None:
        """Note the lists that do not exist."""
        if missing := [name for name in names if self.file(name) is None]:
            raw.notes.append(f"{raw.name_of(self.lists)}: {', '.join(missing)} missing; the table is written without")


def find_benchmarks(raw: RawFolder, needed: Collection[str], excluded: Collection[str] = ()) -> list[Benchmark]:
    """Find folders with one of the `needed` lists and none of the `excluded`, which belong to another benchmark.

    Searches the given folders and one level below. Raises `UsageError` if there are none, or one lacks a partition.
    """
    folders: dict[Path, None] = {}
    for given in [given for given in raw.given if given.is_dir()]:
        below = raw.folders_in(given)
        for home in (given, *below):
            choices = [home / name for name in _ANNOTATION]
            found = [path for path in choices if _holds(path, needed) and not _holds(path, excluded)]
            folders |= dict.fromkeys(found[:1])
    if not folders:
        names = " or ".join(needed)
        raise raw.nothing_found(f"no {names} here; choose the folder that contains Anno or Anno_coarse, Eval and Img")
    return [_benchmark(raw, folder) for folder in folders]


def _holds(folder: Path, names: Collection[str]) -> bool:
    return any(is_file(folder / name) for name in names)


def _benchmark(raw: RawFolder, lists: Path) -> Benchmark:
    above = lists.parent.parent if lists.parent.name == "Anno" else lists.parent
    folders = [above / "Eval", above / "eval", above, lists / "Eval", lists]
    folders += [*raw.given, *(given / "Eval" for given in raw.given)]
    found = [path for folder in folders if is_file(path := folder / PARTITION) and is_given(raw, path)]
    if not found:
        raise UsageError(
            f"{raw.name_of(lists)}: Eval/{PARTITION} is missing, which lists the splits; "
            "restore it from the archive, or choose the folder above"
        )
    return Benchmark(lists, found[0], above if above.is_relative_to(raw.root) else lists)


def is_given(raw: RawFolder, path: Path) -> bool:
    """Return whether a path is inside one of the given folders."""
    return any(Path(os.path.normpath(path)).is_relative_to(given) for given in raw.given)


def read_partition(raw: RawFolder, benchmark: Benchmark) -> ListFile:
    """Read the rows of a benchmark: image and split. Raises `UsageError` for a list without rows."""
    rows = read_rows(raw, benchmark.partition, words=2)
    splits = rows.words[1]
    rows.require_known(splits, SPLITS, "unknown_split", "evaluation status")
    raw.totals["images"] += len(rows)
    for split in SPLITS:
        raw.totals[split] += int((splits == split).sum())
    return rows


def image_paths(raw: RawFolder, home: Path, names: pl.Series) -> pl.Series:
    """Return paths relative to the root for names in the lists, by probing where the images were unpacked."""
    base = raw.prefix_of(home)
    inside = names.str.starts_with("img/")
    if not inside.any():
        return names if not base else (pl.Series([base]) + names)
    rest = names.filter(inside).str.slice(len("img/"))
    probes = evenly_spread(rest, NUM_PROBES)
    folders = [folder for folder in _IMAGES if (home / folder).is_dir()]
    full = [folder for folder in folders if any(raw.has_image(home / folder, probe) for probe in probes)]
    front = pl.lit(f"{base}{(full or ['img'])[0]}/")
    paths = pl.when(inside).then(front + pl.col("name").str.slice(len("img/"))).otherwise(pl.lit(base) + pl.col("name"))
    return pl.DataFrame({"name": names}).select(paths).to_series()


def evenly_spread(names: pl.Series, count: int) -> list[str]:
    """Return at most `count` of the names, evenly spaced from the first to the last."""
    return names.gather(np.unique(np.linspace(0, len(names) - 1, count).astype(int))).to_list() if len(names) else []


def warn_of_case(raw: RawFolder, names: pl.Series) -> None:
    """Warn about folders that differ only in case, which overwrite each other on case-insensitive file systems."""
    folders = names.str.replace(r"/[^/]*$", "").unique().sort()
    alike = folders.to_frame("folder").with_columns(pl.col("folder").str.to_lowercase().alias("lower"))
    by_lower = alike.group_by("lower", maintain_order=True).agg("folder")
    for twins in by_lower.filter(pl.col("folder").list.len() > 1)["folder"]:
        raw.warn("folders_differ_in_case", " and ".join(twins.to_list()))


def check_words(raw: RawFolder, path: Path | None, words: Vocabulary, what: str, kinds: Sequence[str]) -> None:
    """Compare a list of names and types with the released one in `words`; ids in other lists are its row numbers.

    `kinds` are the groups of `words` in the order of the type numbers, 1 first. A copy with the same names in the same
    order is accepted with a warning, whatever its form. Raises `UsageError` for another list.
    """
    if path is None:
        raw.notes.append(f"list_{what}_cloth.txt is missing; the ids of the released list are assumed")
        return
    file = raw.open_file(path)
    version = known_version(path)
    edited = f"; it is a copy that somebody edited: {version.edited}" if version is not None and version.edited else ""
    remedy = f"{edited}; restore the file from the archive: ids in the other lists count the rows of the released one"
    types = {member: number for number, kind in enumerate(kinds, start=1) for member in words.groups[kind]}
    count: str | None = None
    names: list[str] = []
    for line in file.lines():
        if (problem := text_problem(line)) is not None:
            raise UsageError(f"{line}: {problem[1]}{remedy}")
        name, _, kind = line.content.decode().strip(" \t").replace("\t", " ").rpartition(" ")
        name = name.strip(" ")
        if count is None and not names and kind.isdigit() and not name:
            count = kind
            file.accounts["header"] += 1
        elif not names and not kind.isdigit():
            file.accounts["header"] += 1
        else:
            number = len(names)
            expected = (words.values[number], str(types[number])) if number < len(words) else ("", "")
            if (name, kind) != expected:
                raise UsageError(
                    f"{line}: {name[:60]!r} of type {kind[:9]}, expected {expected[0]!r} of type {expected[1]}{remedy}"
                )
            names.append(name)
            file.accounts["joined"] += 1
    if len(names) != len(words):
        raise UsageError(f"{file.name}: {len(names)} names, the released list has {len(words)}{remedy}")
    if count != str(len(words)) or edited:
        raw.warn("edited_list", f"{file.name}: its names are those of the released list, its form is not{edited}")

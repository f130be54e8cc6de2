"""Broken annotation files of every reader, and trees with unexpected entries."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign.bench import Bench
from tests.faults.campaign.trial import check
from tests.faults.harness import INTEGRITY, REJECTED, USAGE
from tests.fprep.readers.mutations import ANNOTATION_SUFFIXES, MUTATIONS
from tests.trees import tree_of

from fprep.readers.registry import readers
from fschemas.table_file import read_table

# A mutation of one line that leaves the other lines intact must not affect their rows.
_ONE_LINE = ("number", "add-column", "latin-1", "unicode-space")


@dataclass(frozen=True)
class RawFiles:
    """A mutation of `tests.fprep.readers.mutations`, or an unexpected entry in the tree, for each reader."""

    name: str = "raw-files"
    about: str = "a broken annotation file (17 kinds of damage) or an unexpected entry (pipe, link, device, odd name) in a raw tree"
    promise: str = "one-sentence error with exit code 2, 5, or 3 if no row is left; or a table with the good rows, and the bad ones rejected with a reason"

    def cases(self) -> Sequence[str]:
        """All readers."""
        return sorted(readers())

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Break a copy of the reader's tree and convert it."""
        raw, out = folder / "raw", folder / "out"
        shutil.copytree(tree_of(case), raw)
        whole = self._whole(case, bench, raw, out)
        kind = draw.choice([*MUTATIONS, *_ENTRIES])
        if kind in MUTATIONS:
            where = _mutate(raw, kind, draw)
        else:
            parent = draw.choice([raw, *sorted(path for path in raw.rglob("*") if path.is_dir())])
            _ENTRIES[kind](parent)
            where = f"{kind} in {parent.relative_to(raw)}"
        outcome = bench.fprep(*self._arguments(case, raw, out))
        check(
            outcome.code in (0, USAGE, REJECTED, INTEGRITY), f"{where}: exit code {outcome.code}: {outcome.err.strip()}"
        )
        if outcome.code != 0:
            check(len(outcome.err.strip().splitlines()) == 1, f"{where}: more than a sentence: {outcome.err}")
            check(kind in MUTATIONS, f"{where}: refused the whole tree: {outcome.err.strip()}")
            return
        rejected = read_table(out / "rejected.parquet").to_pylist()
        check(all(row["rule"] and row["message"] for row in rejected), f"{where}: a rejected row without a reason")
        lost = whole - _keys(out)
        if kind in _ONE_LINE or kind in _ENTRIES:
            check(len(lost) <= max(2 * (kind in MUTATIONS), len(rejected)), f"{where}: lost {sorted(lost)[:3]}")

    def _arguments(self, case: str, raw: Path, out: Path) -> Sequence[object]:
        return ["convert", case, raw, out, "--check-images", "none", "--workers", 1, "--max-rejected", 1, "-q"]

    def _whole(self, case: str, bench: Bench, raw: Path, out: Path) -> set[str]:
        """Keys of the undamaged tree, computed once."""
        key = f"rows of {case}"
        if key not in bench.known:
            outcome = bench.fprep(*self._arguments(case, raw, out))
            check(outcome.code == 0, f"undamaged: {outcome.err}")
            bench.known[key] = _keys(out)
            shutil.rmtree(out)
        return bench.known[key]


def _keys(out: Path) -> set[str]:
    return set(read_table(out / "table.parquet").column("key").to_pylist())


def _mutate(raw: Path, kind: str, draw: random.Random) -> str:
    files = sorted(
        path for path in raw.rglob("*") if path.suffix in ANNOTATION_SUFFIXES and path.is_file() and path.stat().st_size
    )
    path = draw.choice([path for path in files if path.name != "expected.json"])
    path.write_bytes(MUTATIONS[kind](path.read_bytes(), draw))
    return f"{kind} in {path.relative_to(raw)}"


def _file(name: str, content: bytes = b"junk") -> Callable[[Path], None]:
    return lambda parent: (parent / name).write_bytes(content) and None


def _link(name: str, target: str) -> Callable[[Path], None]:
    return lambda parent: (parent / name).symlink_to(target)


_ENTRIES: dict[str, Callable[[Path], None]] = {
    "pipe": lambda parent: os.mkfifo(parent / "pipe.jpg"),
    "pipe-annotation": lambda parent: os.mkfifo(parent / "pipe.json"),
    "link-to-itself": _link("loop.jpg", "loop.jpg"),
    "link-to-parent": _link("again", ".."),
    "link-to-root": _link("root", "/"),
    "link-to-zero": _link("zero.jpg", "/dev/zero"),
    "dangling-link": _link("gone.jpg", "nowhere.jpg"),
    "name-not-utf-8": lambda parent: (
        Path(os.fsdecode(os.fsencode(parent) + b"/\xff\xfe.jpg")).write_bytes(b"junk") and None
    ),
    "apple-double": _file("._image.jpg"),
    "apple-double-annotation": _file("._annotation.json"),
    "ds-store": _file(".DS_Store"),
    "thumbs-db": _file("Thumbs.db"),
    "desktop-ini": _file("desktop.ini"),
    "editor-backup": _file("list.txt~"),
    "swap-file": _file(".list.txt.swp"),
    "macosx-folder": lambda parent: (parent / "__MACOSX").mkdir(),
}

"""The tiny raw trees of `tests/raw`: one per reader, with every quirk of its format and the expected result.

python -m tests.trees my-dataset    # writes the counts and shard digests of its tree to expected.json; check them
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from fprep.convert.command import convert
from fprep.readers.reader import Reader
from fprep.shard.command import shard

TREES = Path(__file__).parent / "raw"
_COUNTS = (
    "lines", "kept", "rejected", "left_out", "joined", "header", "blank", "superseded", "rejected_by_rule", "splits", "warnings",
)  # fmt: skip


def tree_of(reader: Reader | str) -> Path:
    """The tree of a reader, given as object or name."""
    name = reader if isinstance(reader, str) else reader.name
    return TREES / name.replace("-", "_")


def shard_digests(table: Path, out: Path) -> dict[str, str]:
    """Write the shards of a table to `out` and return the first 16 hex digits of the SHA-256 of each, by file name."""
    shard(table, out, workers=1)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in sorted(out.glob("*.tar"))}


def write_expected(name: str) -> None:
    """Write `expected.json` of a reader's tree: the entries of `report.json` it has (at first, all counts), and digests."""
    path = tree_of(name) / "expected.json"
    with tempfile.TemporaryDirectory() as out:
        report = convert(name, [tree_of(name)], Path(out, "table"), max_rejected=1.0, workers=1).to_json()
        digests = shard_digests(Path(out, "table"), Path(out, "shards"))
    names = json.loads(path.read_text()) if path.exists() else [entry for entry in _COUNTS if report[entry]]
    counts = {entry: report[entry] for entry in names if entry != "shards"}
    path.write_text(json.dumps({**counts, "shards": digests}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_expected(sys.argv[1])

"""The tiny raw trees of `tests/raw`: one per reader, with every quirk of its format and the expected result."""

from pathlib import Path

from fprep.readers.reader import Reader

TREES = Path(__file__).parent / "raw"


def tree_of(reader: Reader | str) -> Path:
    """The tree of a reader, given as object or name."""
    name = reader if isinstance(reader, str) else reader.name
    return TREES / name.replace("-", "_")

"""The tiny raw trees of `tests/raw`: one for each reader, with every quirk of its format and what must come out."""

from pathlib import Path

from fprep.readers.reader import Reader

TREES = Path(__file__).parent / "raw"


def tree_of(reader: Reader | str) -> Path:
    """The tree of a reader, given as such or by its name."""
    name = reader if isinstance(reader, str) else reader.name
    return TREES / name.replace("-", "_")

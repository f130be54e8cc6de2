"""All signatures of the readers, and the folder names that usual layouts have in common."""

import functools
from pathlib import Path

from fprep.readers.registry import readers
from fprep.readers.signature import Signature

# Folders that contain annotation files; the root of the data set is above them.
LABEL_FOLDERS = {
    "anno", "anno_coarse", "anno_fine", "eval", "attributes", "segmentation", "annotations", "tests", "split", "annos", "labels",
    "라벨링데이터", "라벨링 데이터",
}  # fmt: skip
# Folders that contain the label folders; readers use them as splits.
SPLIT_FOLDERS = {"training", "validation", "train", "val", "test"}
IMAGE_FOLDERS = {"img", "imgs", "image", "images", "img_highres", "원천데이터", "원천 데이터"}


@functools.cache
def signatures() -> tuple[Signature, ...]:
    """Return the signatures of all readers: those with a head first, fallbacks last."""
    found = [signature for reader in readers().values() for signature in reader.signatures]
    return tuple(sorted(found, key=lambda signature: (signature.fallback, not signature.head)))


def recognize(path: Path, head: bytes) -> tuple[Signature, ...]:
    """Return the first matching signature and equivalent ones of other data sets; empty for an unknown file."""
    fitting = [signature for signature in signatures() if signature.fits(path.name, head)]
    return tuple(entry for entry in fitting if (entry.name, entry.head) == (fitting[0].name, fitting[0].head))

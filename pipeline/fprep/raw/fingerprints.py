"""Fingerprints of released annotation files, to distinguish official files from edited copies.

A git blob id is the SHA-1 of `blob <size>\\0` and the bytes, so copies in public repositories can be compared without a
download. Sources: blob ids in public repositories; if two unrelated ones agree, the bytes are the released ones.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fingerprint:
    """A known version of a file.

    `git_blob` may be abbreviated to its first digits. `edited` describes the changes of an edited copy, "" for the
    released file. `reader` is the reader of the data set.
    """

    reader: str
    git_blob: str
    num_bytes: int | None = None
    sha256: str = ""
    edited: str = ""


_CATEGORY, _INSHOP, _CONSUMER = "deepfashion-category", "deepfashion-inshop", "deepfashion-consumer2shop"

# File name -> known versions; files of different data sets may share a name.
FINGERPRINTS: dict[str, tuple[Fingerprint, ...]] = {
    "list_category_cloth.txt": (
        Fingerprint(_CATEGORY, "b7170bbb72f97c56aa350d37289c963eeef1914a", 882,
                    "ec4a1be64f61c5f6ce2113df602b6eca3f27c14a67694cdad78d83654a15ab81"),
        Fingerprint(_CATEGORY, "b541186a415a40eb7497fbeb24c9fac2acf7918f", edited="the count line is missing and the columns are separated by tabs"),
        Fingerprint(_CATEGORY, "4d0a48dc1486490242087b7f3440ae2bd1efaec6", edited="the count line is empty"),
        Fingerprint(_CATEGORY, "dd0aaa434056a31e37667ed6071aaf239812ecd9", edited="46 of the 50 categories are left, under a count line that says 50"),
    ),
    "list_category_img.txt": (Fingerprint(_CATEGORY, "c5398de834d639e1968c6d571cf489df34ed0100"),),
    "list_attr_cloth.txt": (
        Fingerprint(_CATEGORY, "05aa3a080fe833a1a4d6fb6ff21b5f6c293e0870", 31541,
                    "d134504a06fb74ad2253cd1dbde464567e229fd7c09555baf8778ed5a4d0a19a"),
        Fingerprint(_CONSUMER, "828da2ae40c2d9b84ce12e87f90b1cb4a5ce8840", 25582,
                    "a4b9e9b2a45fbf6b8c710ac2ce8c0628704b8f58bd5abb7f2fd53d896c282df5"),
    ),
    "list_attr_type.txt": (
        Fingerprint(_CONSUMER, "606b611c855cf5b6f9b3a81317b3d4d35f59c72a", 1012,
                    "ad328165c97c2d0c14943f76e71142a8a2a211c4e52bc2f017bdc81b15ab2dbe"),
    ),
    "list_eval_partition.txt": (
        Fingerprint(_INSHOP, "1306f7b4c207b63e5d2fbdf43fce49625ea3f7e1", 5007683,
                    "cfada103c44df866db5e2ee9ecc2301ca691a4d0cdb3c875fe4051b62570894c"),
        Fingerprint(_CONSUMER, "c9e7d71d"),
        Fingerprint(_CONSUMER, "c16ffbc5", edited="another version than the released one circulates under this name"),
    ),
    "list_item_inshop.txt": (
        Fingerprint(_INSHOP, "772d4d07d336ed5ec925e68e546eded7d964d6ae", 95789,
                    "baec1d27df27f68bca7236113e9e9782b3f3574191e8d053a86462f2bb9a263e"),
    ),
    "list_bbox_inshop.txt": (
        Fingerprint(_INSHOP, "5055aa5b8d40ddf50331296859fae6eeb9a42f1f",
                    sha256="b1a67bf2b1bb22ce57b63238dfabfd987f21ef85e93448f01735148f5848f440"),
    ),
    "list_landmarks_inshop.txt": (Fingerprint(_INSHOP, "6a12ba27c21873cf92412ec0934b14d5c9353a7e"),),
    "list_description_inshop.json": (Fingerprint(_INSHOP, "95305aaefcd476d951ac8600197ea16dc9c86c85"),),
    "list_item_consumer2shop.txt": (
        Fingerprint(_CONSUMER, "8d458717d207df88ab61fb41b134d9b697890313", 406578,
                    "d49a85929d402b7d1a1bcaa063afd6480186d649ac42f76ebb2ff1a6e1601bea"),
    ),
    "list_bbox_consumer2shop.txt": (Fingerprint(_CONSUMER, "564e52ae"),),
    "list_landmarks_consumer2shop.txt": (Fingerprint(_CONSUMER, "2b0f8259"),),
    "list_attr_items.txt": (Fingerprint(_CONSUMER, "40432052"),),
}  # fmt: skip


def git_blob(path: Path) -> str:
    """Return the git blob id of a file: 40 hex digits. Raises `OSError`."""
    with open(path, "rb") as file:
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
        while content := file.read(1 << 20):
            digest.update(content)
    return digest.hexdigest()


def known_version(path: Path) -> Fingerprint | None:
    """Return the known version of a file, by its name and bytes; None if it is unknown."""
    versions = FINGERPRINTS.get(path.name, ())
    if not versions:
        return None
    blob = git_blob(path)
    return next((version for version in versions if blob.startswith(version.git_blob)), None)

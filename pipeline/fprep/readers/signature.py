"""Signatures of annotation files, by which `fprep doctor` recognizes a data set: file name and first bytes.

Several data sets use the same names. A signature also records the location of the file in the release and its content,
so that missing files can be described. Sources: the READMEs of the DeepFashion benchmarks (Liu et al., CVPR 2016), the
FashionAI challenge (Tianchi 2018), K-Fashion (AI-Hub), ASEN (Dong et al., IEEE TIP 2021) and DeepFashion2 (Ge et al.,
CVPR 2019).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

from fprep.raw.dialect import with_commas

HEAD = 4096  # bytes read from each file


@dataclass(frozen=True)
class Signature:
    """One kind of file of the data set of `reader`, which the reader sets.

    `name` is a regular expression for the whole file name in lower case, `head` one for the first bytes, `gives` the
    content of the file. `location` is the path in the release, "" if the name is arbitrary. `rows`: its lines contain
    image paths. `layout` distinguishes alternative files of a release. `crlf` and `bom`: the released file has them.
    `widths`: possible numbers of columns of a table, which is compared in its comma-separated form. A `fallback` fits
    only files that no signature of another data set fits.
    """

    name: str
    head: bytes
    gives: str
    location: str = ""
    rows: bool = False
    layout: str = ""
    crlf: bool = False
    bom: bool = False
    widths: tuple[int, ...] = ()
    fallback: bool = False
    reader: str = ""

    @cached_property
    def _name(self) -> re.Pattern[str]:
        return re.compile(self.name)

    @cached_property
    def _head(self) -> re.Pattern[bytes]:
        return re.compile(self.head, re.MULTILINE)

    def fits(self, name: str, head: bytes) -> bool:
        """Whether a file of this name starts as expected. `head` is UTF-8 without byte order mark."""
        if self._name.fullmatch(name.lower()) is None:
            return False
        return self._head.search(with_commas(head, self.widths) if self.widths else head) is not None


def signatures_of(patterns: Iterable[str]) -> tuple[Signature, ...]:
    """Return signatures by name alone, for a reader that declares none but the patterns of its variants.

    A pattern whose file name has no letter or digit before the first dot, such as `**/*.json`, yields none.
    """
    names = dict.fromkeys(pattern.rpartition("/")[2].lower() for pattern in patterns)
    telling = [name for name in names if any(character.isalnum() for character in name.partition(".")[0])]
    return tuple(Signature(translate(name), b"", "annotations", rows=True) for name in telling)

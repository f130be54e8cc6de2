"""The first bytes of annotation files: encoding, line endings, files that are not annotations, and known versions."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fprep.doctor.finding import Finding
from fprep.raw.dialect import HEAD as TABLE_HEAD
from fprep.raw.file import ends_in_cr, foreign_encoding, is_text, with_line_feeds
from fprep.raw.fingerprints import FINGERPRINTS, git_blob
from fprep.readers.signature import HEAD, Signature
from fschemas.failures import UsageError
from fschemas.regular_file import open_regular
from fschemas.walk import is_utf8, readable

_SAMPLE = TABLE_HEAD
_MAX_FINGERPRINTED = 64 << 20  # bytes
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Head:
    """The start of a file.

    `raw` are the bytes. `sample` is the same in UTF-8 without byte order mark and with LF line endings, as far as it
    could be decoded. `text` is the beginning of `sample`.
    """

    raw: bytes
    sample: bytes
    num_bytes: int

    @property
    def text(self) -> bytes:
        """The bytes that signatures are compared with."""
        return self.sample[:HEAD]


def read_head(path: Path, size: int = _SAMPLE) -> Head | None:
    """Return the first `size` bytes of a regular file, or None if it is not one or cannot be read."""
    try:
        with open_regular(path) as file:
            raw = file.read(size + len(_BOM))
            num_bytes = os.fstat(file.fileno()).st_size
    except (OSError, UsageError):
        return None
    text = raw.removeprefix(_BOM)
    if raw[:2] in _UTF16:
        text = raw.decode("utf-16", errors="replace").encode()
    return Head(raw, with_line_feeds(text[:size]), num_bytes)


def inspect_head(path: Path, head: Head, signature: Signature | None) -> Iterator[Finding]:
    """Yield problems with the bytes of a file."""
    raw = head.raw
    if not raw.strip(b" \t\r\n" + _BOM):
        yield Finding("problem", "empty", path, f"{head.num_bytes} bytes and no content; restore it from the archive")
    elif raw.startswith(b"version https://git-lfs.github.com/spec"):
        yield Finding("problem", "lfs-pointer", path, "a Git LFS pointer, not the file; fetch it with `git lfs pull`")
    elif raw.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        message = "a web page, not the file: the download was refused; download it again"
        yield Finding("problem", "web-page", path, message)
    elif raw[:2] in _UTF16 or b"\0" in raw[:64]:
        message = f"UTF-16; convert it to UTF-8: `iconv -f UTF-16 -t UTF-8 {path.name}` into a new file"
        yield Finding("problem", "utf-16", path, message)
    else:
        yield from _encoding(path, head, signature)


def _encoding(path: Path, head: Head, signature: Signature | None) -> Iterator[Finding]:
    raw = head.raw
    has_bom, has_crlf = raw.startswith(_BOM), b"\r\n" in raw and not ends_in_cr(raw)
    if has_bom and not (signature and signature.bom):
        yield Finding("note", "bom", path, "begins with a byte order mark, unlike the release; the reader accepts this")
    if has_crlf and not (signature and signature.crlf):
        message = "lines end in CRLF instead of LF, as Windows programs write them; the reader accepts this"
        yield Finding("note", "crlf", path, message)
    if signature and signature.bom and not has_bom:
        yield Finding("note", "bom", path, "has no byte order mark, unlike the release: it was saved again")
    if ends_in_cr(raw):
        message = "lines end in CR, as old Macs and Excel for Mac write them; the reader accepts this"
        yield Finding("note", "cr", path, message)
    whole = len(raw) == head.num_bytes
    if not is_text(raw, "utf-8", whole):
        encoding = foreign_encoding(raw, whole=whole)
        what = f"not UTF-8, looks like {encoding}; convert it to UTF-8 with `iconv -f {encoding.partition(' ')[0]}`"
        yield Finding("problem", "not-utf-8", path, what if encoding else "not UTF-8; restore it from the archive")


def compare_version(path: Path, head: Head, signature: Signature) -> Finding | None:
    """Check whether a file is the released one, a known edited copy, or neither; None if no version is known."""
    name = signature.location.rpartition("/")[2] or path.name
    versions = [version for version in FINGERPRINTS.get(name, ()) if version.reader == signature.reader]
    if not versions or head.num_bytes > _MAX_FINGERPRINTED:
        return None
    blob = git_blob(path)
    for version in versions:
        if blob.startswith(version.git_blob):
            if not version.edited:
                return Finding("good", "released", path, f"the released file (git blob {blob[:8]}): {signature.gives}")
            message = f"a known edited copy: {version.edited}; restore it from the archive"
            return Finding("warning", "edited", path, message)
    released = next((version for version in versions if not version.edited), None)
    if released is None:
        return None
    size = f", {released.num_bytes} bytes" if released.num_bytes else ""
    blobs = f"its git blob is {blob[:8]} ({head.num_bytes} bytes), in the release {released.git_blob[:8]}{size}"
    message = f"not the released file: {blobs}; it was edited or truncated, or is from another release"
    return Finding("warning", "edited", path, message)


def inspect_name(path: Path) -> Finding | None:
    """Return the problem with the name of a file or folder, or None."""
    name = path.name
    if not is_utf8(name):
        message = f"the name '{readable(name)}' is not UTF-8; unpack again with `unzip -O cp949`"
        return Finding("problem", "name-bytes", path, message)
    if name.isascii():
        return None
    if not unicodedata.is_normalized("NFC", name):
        message = "the name is decomposed (NFD), as macOS unpacks; names are compared composed (NFC)"
        return Finding("note", "nfd", path, message)
    try:
        meant = name.encode("cp437").decode("cp949")
    except UnicodeError:
        return None
    if any("가" <= character <= "힣" for character in meant):
        message = f"the name was damaged by unzip and means {meant!r}; unpack with `unzip -O cp949`"
        return Finding("problem", "name-bytes", path, message)
    return None

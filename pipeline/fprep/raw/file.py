"""An annotation file: strict lines of bytes, split only at LF or CRLF, addressable by number.

A file with CRs but without LF has the line ends of classic Mac OS (Excel's "CSV (Macintosh)") and is split at CRs.
"""

import errno
import io
import shlex
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fschemas.failures import UsageError
from fschemas.regular_file import kind_of, open_regular

MAX_LINE = 1 << 20  # bytes; longer lines are rejected
MAX_IN_MEMORY = 1 << 27  # bytes; larger files are read in blocks and not kept
MAX_FILE = 1 << 31  # maximum bytes of an annotation file
BLOCK = 1 << 21  # bytes; more than MAX_LINE
_LF, _CR = 10, 13
_BOM = b"\xef\xbb\xbf"
_LONGEST_GUESS = 1 << 14  # bytes of a line


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line: file (relative to the raw root), 1-based number, byte offset, and bytes without the line end."""

    file: str
    number: int
    offset: int
    content: bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(slots=True)
class Block:
    """Consecutive lines as an array of bytes, valid until the next block is requested.

    Line `first_line + i` (1-based in the file) is `content[starts[i]:ends[i]]`, without its LF. If the line ends are
    `guessed`, there is an LF at each of them, but a line may contain more: call `count_lines` if you find one.
    """

    first_line: int
    content: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    guessed: bool = False

    def count_lines(self) -> None:
        """Find all line ends."""
        first = self.starts[:1]
        self.ends, self.guessed = _line_ends(self.content, np.empty(len(self.content), bool)), False
        self.starts = np.concatenate([first, self.ends[:-1] + 1])


class RawFile:
    """An annotation file, addressable by line number. Raises `UsageError` if it cannot be UTF-8 text.

    Files above MAX_IN_MEMORY stay on disk: they are read in blocks, and single lines are read again.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._stamp = stamp_of(path, name)
        self._content = read_unchanged(path, name) if self._stamp[0] <= MAX_IN_MEMORY else None
        self.has_cr = False  # lines end in CR alone, which lines and blocks return as LF in `content`
        head = self._content if self._content is not None else self._read(0, BLOCK)
        if not head:
            raise UsageError(f"{name}: the file is empty; restore it from the archive")
        is_utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
        if is_utf16 or b"\0" in head[:64]:
            save = (
                f"save it as UTF-8 (`iconv -f UTF-16 -t UTF-8 {shlex.quote(name)}` into a new file) and run this again"
            )
            remedy = save if is_utf16 else "restore it from the archive"
            raise UsageError(f"{name}: UTF-16 or binary, but UTF-8 text was expected; {remedy}")
        self.has_cr = ends_in_cr(head)
        if self.has_cr and self._content is not None:
            self._content = head = with_line_feeds(self._content)
        self.has_bom = head.startswith(_BOM)
        self.has_crlf = b"\r\n" in head  # for a large file: in its first block
        self.accounts = Counter[str]()
        self._index: tuple[np.ndarray, np.ndarray] | None = None  # byte offsets of line starts and line ends

    def head(self, size: int) -> bytes:
        """Return the first bytes, without byte order mark and with LF in place of lone CRs."""
        return self._read(0, size + 3).removeprefix(_BOM)[:size]

    def __len__(self) -> int:
        return len(self._lines()[0])

    def line(self, number: int) -> RawLine:
        """Return the line with this 1-based number."""
        starts, ends = self._lines()
        start, end = int(starts[number - 1]), int(ends[number - 1])
        content = self._read(start, min(end - start, MAX_LINE + 1))
        return RawLine(self.name, number, start, content[:-1] if content.endswith(b"\r") else content)

    def lines(self) -> Iterator[RawLine]:
        """Yield all non-blank lines; blank ones are accounted for."""
        for number in range(1, len(self) + 1):
            line = self.line(number)
            if line.content.strip(b" \t\r"):
                yield line
            else:
                self.accounts["blank"] += 1

    def blocks(self, *, guess: bool = False) -> Iterator[Block]:
        """Yield all lines in blocks of some thousands, for array-based readers.

        A line above MAX_LINE is truncated, in its own block. With `guess`, line ends are guessed for blocks with
        seemingly equal line lengths, which saves a pass.
        """
        starts: list[np.ndarray] = []
        ends: list[np.ndarray] = []
        number, flags = 1, np.empty(BLOCK, bool)
        for offset, content in self._pieces() if self._content is None else _slices(self._content):
            guessed = _guess_line_ends(content) if guess and offset else None
            line_ends = _line_ends(content, flags[: len(content)]) if guessed is None else guessed
            line_starts = np.concatenate(([3 if self.has_bom and not offset else 0], line_ends[:-1] + 1))
            block = Block(number, content, line_starts, line_ends, guessed is not None)
            yield block
            starts.append(block.starts + offset)
            ends.append(block.ends + offset)
            number += len(block.starts)
        self._index = np.concatenate(starts), np.concatenate(ends)

    def _lines(self) -> tuple[np.ndarray, np.ndarray]:
        if self._index is None:
            for _ in self.blocks():
                pass
        assert self._index is not None
        return self._index

    def _read(self, start: int, size: int) -> bytes:
        if self._content is not None:
            return self._content[start : start + size]
        with open(self.path, "rb") as file:
            file.seek(start)
            content = file.read(size)
        check_stamp(self._stamp, self.path, self.name)
        return content.replace(b"\r", b"\n") if self.has_cr else content

    def _pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield whole lines of a file on disk with their offset, in a reused buffer."""
        buffer = bytearray(BLOCK)
        view, array = memoryview(buffer), np.frombuffer(buffer, np.uint8)
        offset = rest = 0
        with open(self.path, "rb", buffering=0) as file:
            while size := file.readinto(view[rest:]):
                filled = rest + size
                if self.has_cr:
                    new = array[rest:filled]
                    new[new == _CR] = _LF
                last = buffer.rfind(b"\n", 0, filled) + 1
                if last:
                    yield offset, array[:last]
                    offset, rest = offset + last, filled - last
                    view[:rest] = bytes(view[last:filled])
                elif filled < BLOCK:
                    rest = filled
                else:
                    yield offset, array[: MAX_LINE + 1]
                    offset, rest = _next_line(file, offset + filled, b"\r" if self.has_cr else b"\n"), 0
        check_stamp(self._stamp, self.path, self.name)
        if rest:
            yield offset, array[:rest]


def stamp_of(path: Path, name: str) -> tuple[int, int]:
    """Return size and modification time. Raises `UsageError` if it is not a regular file, or too large."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UsageError(f"{name}: a link that leads to itself; restore the file from the archive") from None
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would block forever
        raise UsageError(f"{name}: {kind_of(found.st_mode)}, but must be a regular file; restore it from the archive")
    if found.st_size > MAX_FILE:
        raise UsageError(f"{name}: {found.st_size} bytes are more than an annotation file may have ({MAX_FILE})")
    return found.st_size, found.st_mtime_ns


def check_stamp(stamp: tuple[int, int], path: Path, name: str) -> None:
    """Raise `UsageError` if a file has changed since `stamp_of`."""
    if stamp_of(path, name) != stamp:
        raise UsageError(f"{name}: the file changed while it was read; rerun once it has stopped changing")


def read_unchanged(path: Path, name: str) -> bytes:
    """Return the bytes of a file.

    Raises `UsageError` if it is not a regular file, too large, or modified while being read.
    """
    size, modified = stamp_of(path, name)
    with open_regular(path) as file:
        content = file.read(MAX_FILE + 1)
    check_stamp((size if len(content) == size else -1, modified), path, name)
    return content


def is_file(path: Path) -> bool:
    """Return whether an annotation file exists at a path.

    Raises `UsageError` if the path exists but cannot be read, e.g. a broken link: without the labels of that file, the
    table would look complete.
    """
    if path.is_file():
        return True
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISLNK(mode):
        try:
            mode = path.stat().st_mode
        except OSError as error:
            where = "itself" if error.errno == errno.ELOOP else f"{path.readlink()}, which does not exist"
            raise UsageError(
                f"{path}: a link to {where}; restore the file (where DVC manages it, `dvc checkout`)"
            ) from None
    raise UsageError(f"{path}: {kind_of(mode)}, but must be a regular file; restore it from the archive")


def ends_in_cr(head: bytes) -> bool:
    """Return whether lines end in CR alone: there is no LF in these first bytes, except perhaps at the very end."""
    body = head.rstrip(b"\r\n")
    return b"\r" in body and b"\n" not in body


def with_line_feeds(content: bytes) -> bytes:
    """Replace CR and CRLF line ends by LF. For lone CRs, the length stays the same."""
    return content.replace(b"\r", b"\n") if ends_in_cr(content) else content.replace(b"\r\n", b"\n")


def is_text(raw: bytes, encoding: str, whole: bool = False) -> bool:
    """Return whether bytes decode as `encoding`. The last character may be cut off unless this is the `whole` file."""
    for cut in range(1 if whole else 4):
        try:
            raw[: len(raw) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
        return True
    return False


def foreign_encoding(head: bytes, *, whole: bool = False) -> str:
    """Return the likely encoding (`iconv` name) of a file that is not UTF-8, from its first bytes; "" if unknown."""
    encodings = (("cp949", "CP949 (Korean Windows)"), ("gb18030", "GB18030 (Chinese Windows)"))
    return next((name for encoding, name in encodings if is_text(head, encoding, whole)), "")


def encoding_problem(content: bytes) -> str:
    """Return the problem with a whole document that should be UTF-8, "" if there is none."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16, but UTF-8 was expected; save it as UTF-8"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        encoding = foreign_encoding(content, whole=True)
        looks = f"; the file looks like {encoding}: save it as UTF-8" if encoding else ""
        return f"byte 0x{content[error.start]:02x} at position {error.start + 1} is not UTF-8{looks}"
    return ""


def _line_ends(content: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Return the line ends: LFs and the end of `content`. `flags` is a scratch array with as many bools."""
    line_ends = np.flatnonzero(np.equal(content, _LF, out=flags))
    whole = len(line_ends) and line_ends[-1] == len(content) - 1
    return line_ends if whole else np.append(line_ends, len(content))


def _guess_line_ends(content: np.ndarray) -> np.ndarray | None:
    """Return the line ends if all lines are as long as the first; None if they cannot be."""
    step = int((content[:_LONGEST_GUESS] == _LF).argmax()) + 1
    if len(content) % step or not (content[step - 1 :: step] == _LF).all():
        return None
    return np.arange(step - 1, len(content), step)


def _slices(content: bytes) -> Iterator[tuple[int, np.ndarray]]:
    """Yield whole lines of a file in memory with their offset, about BLOCK bytes at a time."""
    array, start = np.frombuffer(content, np.uint8), 0
    while start < len(content):
        end = content.rfind(b"\n", start, start + BLOCK) + 1 if len(content) - start > BLOCK else len(content)
        if end:
            yield start, array[start:end]
        else:
            yield start, array[start : start + MAX_LINE + 1]
            end = content.find(b"\n", start + BLOCK) + 1 or len(content)
        start = end


def _next_line(file: io.FileIO, offset: int, line_end: bytes) -> int:
    """Seek past the next line end and return that offset, or the end of the file."""
    while content := file.read(BLOCK):
        if (position := content.find(line_end)) >= 0:
            return file.seek(offset + position + 1)
        offset += len(content)
    return offset

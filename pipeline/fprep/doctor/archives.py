"""Archives that have not been unpacked: their directory is read, and nothing is written."""

import bz2
import gzip
import io
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fprep.doctor.finding import Finding
from fprep.doctor.scan import is_image
from fprep.doctor.signatures import signatures
from fschemas.wording import count

_ARCHIVE = re.compile(r".*\.(zip|tar|tgz|tar\.gz|tar\.xz|7z|rar|gz)|.*\.(zip|7z)\.\d{3}|.*\.z\d\d", re.IGNORECASE)
_TAR = re.compile(r"\.(tar|tgz|tar\.gz|tar\.xz)$", re.IGNORECASE)
_UNFINISHED = (".part", ".crdownload", ".aria2", ".download", ".filepart")
_MAX_MEMBERS = 100_000  # entries of a Zip file whose directory is read
_MAX_TAR = 200  # members read from a tar file, which has no directory
_MAX_UNPACKED = 1 << 26  # bytes decompressed from a compressed tar file to read member names
_MAX_HEADER = 1 << 20  # bytes; longer member names are invalid
_DAMAGED = (
    OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError, struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip


def inspect_archive(path: Path) -> Iterator[Finding]:
    """Yield findings about an archive or an unfinished download; nothing for other files."""
    if path.suffix.lower() in _UNFINISHED:
        yield Finding("warning", "unfinished", path, "an unfinished download; let it finish or remove it")
    if not _ARCHIVE.fullmatch(path.name):
        return
    if re.search(r"\.(z\d\d|\d{3})$", path.name, re.IGNORECASE):
        message = "a part of a split archive; join the parts (`zip -s 0`, or `cat` them) and unpack"
        yield Finding("warning", "zipped", path, message)
        return
    names, what = _members(path)
    command = "unzip" if path.suffix.lower() == ".zip" else "unpack"
    if "damaged" in what:
        yield Finding("problem", "zip-damaged", path, f"{what}; download it again")
        return
    escaping = next((name for name in names if name.startswith("/") or ".." in PurePosixPath(name).parts), None)
    if escaping is not None:
        what += f", but the name {escaping!r} is outside the folder: unpack it where nothing can be overwritten"
    yield Finding("warning", "zipped", path, f"still packed{what}{_holds(names)}; {command} it here")


def _members(path: Path) -> tuple[list[str], str]:
    """Return the names of files in an archive, as many as are cheap to read, and a remark."""
    try:
        if zipfile.is_zipfile(path):
            number = _num_members(path)
            if number > _MAX_MEMBERS:
                return [], f", {number} members"
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
            is_locked = any(member.flag_bits & 1 for member in members)
            locked = ", locked with a password that the authors send" if is_locked else ""
            return [member.filename for member in members], f", {count(len(members), 'file')}{locked}"
        if path.suffix.lower() == ".zip":
            return [], "a damaged or unfinished zip archive: its directory at the end is missing"
        return (_names_in_tar(path), "") if _TAR.search(path.name) else ([], "")
    except _DAMAGED as error:
        return [], f"a damaged archive ({type(error).__name__})"


class _Begin(io.RawIOBase):
    """The start of a tar archive, decompressed on demand and in bounded amounts."""

    def __init__(self, path: Path, reach: int | None) -> None:
        packers = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
        self._file, self._reach = packers.get(path.suffix.lower(), open)(path, "rb"), reach

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a name that is too long")
        return self._file.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if self._reach is not None and position > self._reach:
            raise StopIteration
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def _names_in_tar(path: Path) -> list[str]:
    names: list[str] = []
    is_packed = path.suffix.lower() != ".tar"
    with _Begin(path, _MAX_UNPACKED if is_packed else None) as begin:
        try:
            with tarfile.open(fileobj=begin, mode="r:") as archive:
                while len(names) < _MAX_TAR and (member := archive.next()) is not None:
                    names.append(member.name)
        except StopIteration:
            pass  # reading further members would decompress too much data
    return names


def _num_members(path: Path) -> int:
    """Return the number of entries according to the end record of a Zip file (65535: at least that many)."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 66_000))
        tail = file.read()
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or len(tail) < position + 12:
        return 0
    (number,) = struct.unpack("<H", tail[position + 10 : position + 12])
    return _MAX_MEMBERS + 1 if number == 0xFFFF else number


def _holds(names: list[str]) -> str:
    lasts = {PurePosixPath(name).name.lower() for name in names}
    telling = [entry for entry in signatures() if entry.location]
    known = sorted({entry.reader for entry in telling if PurePosixPath(entry.location).name.lower() in lasts})
    images = sum(map(is_image, names))
    parts = [f"{count(images, 'image')} such as {next(n for n in names if is_image(n))}"] if images else []
    parts += [f"annotation files of {' or '.join(known)}"] if known else []
    others = len(names) - images
    if not known and others and names:
        parts.append(f"other files such as {next(name for name in names if not is_image(name))}")
    return f", holds {' and '.join(parts)}" if parts else ""

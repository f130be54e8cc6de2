"""Safe opening of files in a raw folder: no links out of it unless allowed, no pipes or devices, no blocking.

All commands (`convert`, `shard`, `audit`, `report`, `export`) open images and annotation documents through this module.
"""

import errno
import functools
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fschemas.regular_file import kind_of
from fschemas.walk import is_below, is_stored_by_content

FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
HOW_TO_FOLLOW = "if you trust the folder, follow its links with --follow-links"


class OpenError(Exception):
    """Raised for a file that is not opened.

    `rule` is `missing_image`, `path_escape`, `image_not_a_file` or `unreadable_image`; `message` excludes the name;
    `found` is the value found.
    """

    def __init__(self, rule: str, message: str, found: str) -> None:
        super().__init__(message)
        self.rule, self.message, self.found = rule, message, found


@dataclass(frozen=True, slots=True)
class Opened:
    """An open regular file: its descriptor, its size in bytes, and whether it is outside the root, by a link."""

    descriptor: int
    size: int
    outside: bool = False


def open_inside(root: str, name: str, *, follow_links: bool = False) -> Opened:
    """Open the regular file `root/name`; `root` is a real path, without links.

    Links that stay inside are followed, and so are links into a content-addressed store (see
    `fschemas.walk.is_stored_by_content`); others that leave the root only with `follow_links`. Raises `OpenError`, and
    `OSError` for an I/O error of the disk.
    """
    if "\0" in name:
        raise OpenError("missing_image", "no file has a name with a zero byte", repr(name))
    folder, _, last = name.rpartition("/")
    real = _real_folder(root, folder)
    inside = is_below(real, root)
    descriptor, outside = -1, False
    if inside:
        try:
            descriptor = os.open(os.path.join(real, last), FLAGS)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise_unopened(error, name)
    if descriptor < 0:  # a link, in the folder's path or at the file itself: its target may still be inside
        path = os.path.realpath(os.path.join(root, name))
        outside = not is_below(path, root)
        if outside and not os.path.lexists(path):  # no option would help
            raise OpenError("missing_image", f"a link to {path}, which does not exist", name)
        if outside and not follow_links and not is_stored_by_content(path):
            message = f"a symbolic link leads out of the raw root, to {path}; {HOW_TO_FOLLOW}"
            raise OpenError("path_escape", message, name)
        try:
            descriptor = os.open(path, FLAGS)
        except OSError as error:
            if error.errno == errno.ENOENT and Path(root, name).is_symlink():
                raise OpenError("missing_image", f"a link to {path}, which does not exist", name) from None
            raise_unopened(error, name)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return Opened(descriptor, status.st_size, outside)
    os.close(descriptor)
    raise OpenError("image_not_a_file", f"not a regular file but {kind_of(status.st_mode)}", name)


def follows_links(metadata: Mapping[str, Any]) -> bool:
    """Return whether a table was converted with `--follow-links`, which then also applies to later commands."""
    options: Mapping[str, Any] = metadata.get("options") or {}
    return options.get("follow_links") is True


def read_all(descriptor: int, size: int) -> bytes:
    """Return all bytes of an open file of about `size` bytes, plus one if it has grown."""
    content = os.read(descriptor, size + 1)
    while 0 < len(content) < size:  # Linux reads at most 2 GiB at once, network file systems less
        more = os.read(descriptor, size - len(content))
        if not more:
            break
        content += more
    return content


def raise_unopened(error: OSError, name: str) -> NoReturn:
    """Raise `OpenError` for an error of the file itself; raise any other error unchanged."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        raise OpenError("missing_image", "the image is missing", name) from None
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR):
        raise OpenError("image_not_a_file", "not a regular file but a link loop, socket or device", name) from None
    if error.errno in (errno.EACCES, errno.EPERM):
        raise OpenError("unreadable_image", "permission to read the image was denied", name) from None
    raise error


@functools.lru_cache(maxsize=4096)
def _real_folder(root: str, folder: str) -> str:
    return os.path.realpath(os.path.join(root, folder))

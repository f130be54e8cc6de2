"""Thumbnails for a page: read as for a shard set, reduced and encoded as JPEG. A bad image becomes a message.

Imported by worker processes, so polars is not imported here.
"""

import base64
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from fprep.engine import map_tasks
from fprep.images.check import check_image
from fprep.shard.sample import Facts, decode, read_image
from fschemas.failures import IntegrityError

LONG_SIDE = 340  # long side in pixels
QUALITY = 76


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG of `width` x `height` pixels and the size of the image as displayed, or a `problem`."""

    content: bytes = b""
    width: int = 0
    height: int = 0
    full_width: int = 0
    full_height: int = 0
    problem: str = ""

    @property
    def address(self) -> str:
        """The image as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.content).decode()}"


def thumbnails(
    root: Path, tasks: Sequence[tuple[str, str | None]], progress: Callable[[int, int], None], *, follow_links: bool
) -> list[Thumbnail]:
    """Create thumbnails of (path below `root`, digest or None) in workers, which malicious files may crash."""

    def crashed(_: tuple[str, str | None], reason: str) -> Thumbnail:
        return Thumbnail(problem=f"the image decoder failed ({reason})")

    work = functools.partial(thumbnail, os.path.realpath(root), follow_links=follow_links)
    return list(map_tasks(work, tasks, crashed=crashed, progress=progress))


def thumbnail(root: str, task: tuple[str, str | None], *, follow_links: bool = False) -> Thumbnail:
    """Create the thumbnail of one (path, digest). Bad images do not raise; I/O errors of the disk do."""
    name, sha256 = task
    found = check_image(root, name, decode=False, follow_links=follow_links)
    if found.rule:
        return Thumbnail(problem=found.message)
    facts = Facts.of(found)
    scale = min(1.0, LONG_SIDE / max(facts.width, facts.height))
    target = max(1, round(facts.width * scale)), max(1, round(facts.height * scale))
    try:
        content = read_image(Path(root), name, None, follow_links=follow_links)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            return Thumbnail(problem="the image has changed since convert (SHA-256 differs)")
        image = decode(content, facts, target, Path(name))
    except IntegrityError:  # its message may contain a memory address
        return Thumbnail(problem="the image cannot be decoded")
    small = simplejpeg.encode_jpeg(np.ascontiguousarray(image), QUALITY, "RGB", "420", fastdct=False)
    return Thumbnail(small, *target, facts.width, facts.height)

"""A shard: a plain WebDataset tar with `<key>.jpg` and `<key>.json` per sample, and the record that verifies it.

The tar is a pure function of its samples (ustar headers, fixed owner, mode and time). It is hashed while it is written
and published before its record, so a record always refers to a finished tar.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fschemas.failures import FashionkitError
from fschemas.json_file import COUNT, read_json, seal
from fschemas.names import DIGEST
from fschemas.publish import publish, publish_bytes, sha256_of

RECORD_FOLDER = "meta"
_BLOCK = tarfile.BLOCKSIZE
_ANNOTATION = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_RECORD_SHAPE = {
    "plan_id": str, "name": str, "split": str, "bytes": COUNT, "sha256": DIGEST, "samples": [[(str, COUNT)]],
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Key (ASCII, no dots), JPEG bytes and annotation, with the same JSON keys in every sample of a set."""

    key: str
    image: bytes
    annotation: dict[str, Any]


class Member(NamedTuple):
    """Position of a tar member's content in bytes, and its CRC-32."""

    offset: int
    size: int
    crc: int


@dataclass(frozen=True)
class ShardRecord:
    """Content of `meta/<name>.json`: plan id and digest of a shard, and the positions of its samples."""

    plan_id: str
    name: str
    split: str
    bytes: int
    sha256: str
    keys: tuple[str, ...]
    images: tuple[Member, ...]
    annotations: tuple[Member, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, one short list per sample."""
        members = zip(self.keys, self.images, self.annotations, strict=True)
        samples = [[key, *image, *annotation] for key, image, annotation in members]
        return {name: getattr(self, name) for name in _RECORD_SHAPE if name != "samples"} | {"samples": samples}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ShardRecord:
        """Invert `to_json`. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        samples, facts = value["samples"], {name: value[name] for name in _RECORD_SHAPE if name != "samples"}
        images, annotations = (tuple(Member(*map(int, sample[at : at + 3])) for sample in samples) for at in (1, 4))
        return cls(**facts, keys=tuple(str(sample[0]) for sample in samples), images=images, annotations=annotations)


def shard_name(split: str, number: int) -> str:
    """File name of a shard: `train-000012.tar`."""
    return f"{split}-{number:06d}.tar"


def record_path(folder: Path, name: str) -> Path:
    """Path of a record: `meta/train-000012.json`, as Hugging Face loads JSON files next to tars as data."""
    return folder / RECORD_FOLDER / f"{name.removesuffix('.tar')}.json"


def write_shard(folder: Path, name: str, split: str, plan_id: str, samples: Iterable[Sample]) -> ShardRecord:
    """Publish the tar `folder/name`, then its record."""
    keys: list[str] = []
    images: list[Member] = []
    annotations: list[Member] = []
    digest = hashlib.sha256()
    position = 0
    with publish(folder / name) as temporary, open(temporary, "wb", buffering=1 << 20) as file:
        for sample in samples:
            text = _ANNOTATION.encode(sample.annotation).encode()
            for suffix, content, members in ((".jpg", sample.image, images), (".json", text, annotations)):
                header = _header(sample.key + suffix, len(content))
                padding = bytes(-len(content) % _BLOCK)
                members.append(Member(position + _BLOCK, len(content), zlib.crc32(content)))
                for part in (header, content, padding):
                    digest.update(part)
                    file.write(part)
                position += _BLOCK + len(content) + len(padding)
            keys.append(sample.key)
        end = b"\0" * (2 * _BLOCK)
        digest.update(end)
        file.write(end)
        position += len(end)
    record = ShardRecord(
        plan_id, name, split, position, digest.hexdigest(), tuple(keys), tuple(images), tuple(annotations)
    )
    publish_bytes(record_path(folder, name), json.dumps(seal(record.to_json()), separators=(",", ":")).encode() + b"\n")
    return record


def read_record(folder: Path, name: str) -> ShardRecord | None:
    """Read the record of a shard; None if it is missing or damaged, so that the shard has to be written again.

    Disk errors (`OSError`) are not caught.
    """
    try:
        return ShardRecord.from_json(read_json(record_path(folder, name), _RECORD_SHAPE, sealed=True))
    except (TypeError, ValueError, IndexError):  # FashionkitError is a ValueError
        return None


def is_finished(folder: Path, name: str, plan_id: str, *, digests: bool = True) -> ShardRecord | None:
    """Return the record if its plan id matches and the tar has the recorded size and, with `digests`, SHA-256."""
    record = read_record(folder, name)
    if record is None or record.plan_id != plan_id or record.name != name:
        return None
    try:
        whole = os.stat(folder / name).st_size == record.bytes and (
            not digests or sha256_of(folder / name) == record.sha256
        )
    except (FileNotFoundError, FashionkitError):
        return None
    return record if whole else None


def _header(name: str, size: int) -> bytes:
    """The ustar header of a file of `size` bytes, at most 8 GiB: that of `tarfile`, at a tenth of its cost.

    The checksum is the sum of the bytes, with spaces in its own place.
    """
    named, octal = name.encode("ascii"), b"%011o" % size
    checksum = _CHECKSUM + sum(named) + sum(octal)
    return b"%b%b%b%b%06o%b" % (
        named,
        _TEMPLATE[len(named) : 124],
        octal,
        _TEMPLATE[135:148],
        checksum,
        _TEMPLATE[154:],
    )


def _template() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


_TEMPLATE = _template()  # without a name, and with a size of eleven zeros at byte 124
_CHECKSUM = int(_TEMPLATE[148:154], 8) - sum(_TEMPLATE[124:135])

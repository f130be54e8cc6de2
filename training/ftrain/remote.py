"""Shard sets behind a URL: files come through a bounded local cache, checked by digest before they get their name."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fschemas.failures import EnvironmentProblem, IntegrityError, UsageError
from fschemas.publish import publish, sha256_of
from fschemas.shard_set import DATASET_FILE, INDEX_FILE, ShardSet

_ATTEMPTS = 4


@dataclass
class RemoteFiles:
    """Files under `url` (any fsspec scheme), kept in `cache` up to `budget` bytes; the least recently used shard goes first."""

    url: str
    cache: Path
    budget: int
    digests: dict[str, str] = field(default_factory=dict[str, str])

    def path(self, name: str) -> Path:
        """The local copy of a file, fetched now if it is not there; raises `IntegrityError` when its digest differs."""
        local = self.cache / name
        if local.exists():
            os.utime(local)
            return local
        self._fetch(name, local)
        self._evict(keep=name)
        return local

    def learn(self, metadata: dict[str, Any]) -> None:
        """Take the digests that dataset.json states."""
        self.digests = {shard["name"]: shard["sha256"] for shard in metadata["shards"]}
        self.digests[INDEX_FILE] = metadata["index"]["sha256"]

    def _fetch(self, name: str, local: Path) -> None:
        import fsspec

        problem: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                with publish(local) as temporary:
                    with fsspec.open(f"{self.url}/{name}", "rb") as source, open(temporary, "wb") as target:
                        while block := source.read(1 << 22):  # type: ignore[attr-defined]
                            target.write(block)
                    expected = self.digests.get(name)
                    if expected is not None and sha256_of(temporary) != expected:
                        raise IntegrityError(f"{self.url}/{name}: SHA-256 differs from {DATASET_FILE}; upload the shard set again")
                return
            except FileNotFoundError:
                raise UsageError(f"{self.url}/{name}: no such object; upload a shard set that `fprep lint` accepts") from None
            except (OSError, IntegrityError) as error:
                problem = error
        if isinstance(problem, IntegrityError):
            raise problem
        raise EnvironmentProblem(f"{self.url}/{name}: cannot be read after {_ATTEMPTS} attempts ({problem})") from problem

    def _evict(self, keep: str) -> None:
        shards = sorted(self.cache.glob("*.tar"), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in shards)
        for path in shards:
            if total <= self.budget:
                return
            if path.name != keep:
                total -= path.stat().st_size
                path.unlink(missing_ok=True)


def open_shards(place: str, *, cache: Path | None = None, budget: int = 64 << 30) -> ShardSet:
    """Open a shard set in a folder or behind a URL such as `s3://bucket/set`."""
    if "://" not in place:
        return ShardSet.open(Path(place))
    url = place.rstrip("/")
    folder = cache or Path(os.environ.get("FASHIONKIT_CACHE", Path(tempfile.gettempdir()) / "fashionkit-cache"))
    files = RemoteFiles(url, folder / hashlib.sha256(url.encode()).hexdigest()[:16], budget)
    stale = files.cache / DATASET_FILE
    stale.unlink(missing_ok=True)  # the small file is fetched anew: it says whether the rest still holds
    try:
        files.learn(json.loads(files.path(DATASET_FILE).read_bytes()))
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{url}/{DATASET_FILE}: not the description of a shard set; upload it again") from None
    for name, digest in files.digests.items():
        local = files.cache / name
        if local.exists() and sha256_of(local) != digest:
            local.unlink()
    return ShardSet.open(url, files)

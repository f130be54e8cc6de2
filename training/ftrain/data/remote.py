"""Shard sets at a URL, read through a size-limited local cache whose files are verified by digest.

The cache is addressed by content (`<sha256>.tar`). A set that was uploaded again therefore never mixes with its old
version, sets that share shards also share them in the cache, and one size limit covers all sets.
"""

import hashlib
import os
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from fschemas.failures import EnvironmentProblem, FashionkitError, IntegrityError, UsageError
from fschemas.publish import TEMPORARY_PREFIX, is_being_written, publish, remove_leftovers_of, sha256_of
from fschemas.shard_index import INDEX_FILE
from fschemas.shard_set import DATASET_FILE, ShardSet, read_dataset_file

_ATTEMPTS = 4
_PAUSE = 0.5  # seconds before the second attempt, doubled before each later one
_GRACE = 30.0  # seconds within which a returned file must be opened
_ABANDONED = 3600.0  # seconds after which a partial download counts as abandoned


@dataclass
class RemoteFiles:
    """Files below `url` (any fsspec scheme), cached in `cache` up to `budget` bytes, least recently used evicted first.

    A file that was returned within the last 30 seconds is never evicted, because it may not be open yet.
    """

    url: str
    cache: Path
    budget: int
    digests: dict[str, str] = field(default_factory=dict[str, str])
    _checked: set[str] = field(default_factory=set[str], repr=False)

    def path(self, name: str) -> Path:
        """Local copy of a file, downloaded if missing or damaged. Raises `IntegrityError` if its digest differs."""
        if name not in self.digests:  # dataset.json holds the digests of all other files: each reader downloads it once
            local = self.cache / f"{hashlib.sha256(self.url.encode()).hexdigest()}.json"
            if name not in self._checked:
                self._fetch(name, local, None)
                self._checked.add(name)
            return local
        digest = self.digests[name]
        local = self.cache / f"{digest}{Path(name).suffix}"
        try:
            os.utime(local)
            if digest in self._checked or sha256_of(local) == digest:
                self._checked.add(digest)
                return local
        except FileNotFoundError:
            pass
        self._fetch(name, local, digest)
        self._checked.add(digest)
        self._evict()
        return local

    def _fetch(self, name: str, local: Path, digest: str | None) -> None:
        import fsspec

        url = f"{self.url}/{name}"
        problem: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            try:
                remove_leftovers_of(local)
                with publish(local) as temporary:
                    with fsspec.open(url, "rb") as source, open(temporary, "wb") as file:
                        shutil.copyfileobj(source, file, 1 << 22)  # type: ignore[arg-type]
                    if digest is not None and sha256_of(temporary) != digest:
                        raise IntegrityError(f"{url}: SHA-256 differs from {DATASET_FILE}; upload the shard set again")
                return
            except IntegrityError as error:  # truncated download, or really a different file
                problem = error
            except Exception as error:  # noqa: BLE001 - each protocol has its own errors
                problem = _of_protocol(error)
                if isinstance(problem, FileNotFoundError):
                    raise UsageError(f"{url}: no such object; upload a shard set that `fprep lint` accepts") from None
                if isinstance(problem, FashionkitError | ImportError):
                    raise problem from None
                if "Protocol not known" in str(problem):
                    raise UsageError(f"{url}: fsspec knows no protocol {url.partition('://')[0]!r}") from None
        if isinstance(problem, IntegrityError):
            raise problem
        raise EnvironmentProblem(
            f"{url}: cannot be read after {_ATTEMPTS} attempts ({problem}); check the network and the disk"
        )

    def _evict(self) -> None:
        now = time.time_ns() / 1e9
        present: list[tuple[float, int, Path]] = []
        for path in [*self.cache.glob("*.tar"), *self.cache.glob(f"{TEMPORARY_PREFIX}*")]:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process evicts too
            if not path.name.startswith(TEMPORARY_PREFIX):
                present.append((status.st_mtime, status.st_size, path))
            elif now - status.st_mtime > _ABANDONED and not is_being_written(path):
                path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in present)
        for used, size, path in sorted(present):
            if total <= self.budget or now - used < _GRACE:
                return
            total -= size
            path.unlink(missing_ok=True)


def _of_protocol(error: Exception) -> Exception:
    """The error raised by the protocol, without the local path that `publish` prepends: users know only the URL.

    fsspec reports an unreachable server as a missing file; the real reason is the cause of that error.
    """
    cause = error.__cause__
    if isinstance(error, EnvironmentProblem) and isinstance(cause, Exception):
        return _of_protocol(cause)
    if isinstance(error, FileNotFoundError) and isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        return cause
    return error


def open_shards(location: str, *, cache: Path | None = None, budget: int = 64 << 30) -> ShardSet:
    """Open a shard set in a folder or at a URL such as `s3://bucket/set`.

    The cache is `cache`, `$FASHIONKIT_CACHE`, or a folder in the temporary directory; `budget` limits its size in
    bytes.
    """
    if "://" not in location:
        return ShardSet.open(Path(location))
    folder = cache or Path(os.environ.get("FASHIONKIT_CACHE", Path(tempfile.gettempdir()) / "fashionkit-cache"))
    files = RemoteFiles(location.rstrip("/"), folder, budget)
    metadata = read_dataset_file(files.path(DATASET_FILE), files.url)
    files.digests = {shard["name"]: shard["sha256"] for shard in metadata["shards"]}
    files.digests[INDEX_FILE] = metadata["index"]["sha256"]
    return ShardSet.open(files.url, files.path)

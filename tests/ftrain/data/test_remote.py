"""Remote shard sets: same samples, bounded cache, digests checked before renaming, retries, changed sets detected."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.streams import training_batches
from tests.ftrain.tiny.task import TinyEncoder
from tests.ftrain.tiny_task import make_trainer
from tests.shard_sets import write_shard_set

from fschemas.failures import EnvironmentProblem, IntegrityError, Terminated, UsageError
from fschemas.publish import sha256_of
from fschemas.shard_set import ShardSet
from ftrain.data import remote
from ftrain.data.plan import TrainingPlan, Windowed
from ftrain.data.remote import open_shards
from ftrain.data.stream import Batch


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serve a folder, count requests, and apply `faults` to the first responses for a path."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.requests, self.faults = root, Counter[str](), dict[str, list[str]]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        place = self.server.root / self.path.lstrip("/")
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if body and faults else ""
        if fault == "503" or not place.is_file():
            self.send_error(503 if fault else 404)
            return
        content = place.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        if fault == "flip":
            content = content[:700] + bytes([content[700] ^ 1]) + content[701:]
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
        if fault == "cut":
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(shard_folder: Path) -> Iterator[Server]:
    with Server(shard_folder) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSE", 0.0)


def batches_of(shards: ShardSet, workers: int = 0) -> list[Batch]:
    plan = TrainingPlan(shards.rows("train"), 8, 3, Windowed(shards.columns["shard"], 2))
    stream = training_batches(shards, TinyEncoder(), plan, positions=np.arange(8), start=0, stop=10, workers=workers)
    return [{name: tensor.clone() for name, tensor in batch.items()} for batch in stream]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in b)


def shards_in(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.tar"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("scheme", ["file", "http"])
def test_remote_batches_are_the_local_ones(
    server: Server, shard_folder: Path, shards: ShardSet, tmp_path: Path, scheme: str, workers: int
) -> None:
    url = f"file://{shard_folder}" if scheme == "file" else server.url
    opened = open_shards(f"{url}/", cache=tmp_path)
    assert opened.plan_id == shards.plan_id
    assert shards_in(tmp_path) == [], "nothing is fetched before it is read"
    assert same(batches_of(opened, workers), batches_of(shards))
    names = {shard["sha256"] for shard in shards.metadata["shards"] if shard["split"] == "train"}
    assert {path.stem for path in shards_in(tmp_path)} == names
    assert all(sha256_of(path) == path.stem for path in shards_in(tmp_path))
    assert not list(tmp_path.glob(".tmp.*"))


def test_a_second_reader_fetches_only_the_description(server: Server, tmp_path: Path) -> None:
    batches_of(open_shards(server.url, cache=tmp_path))
    first = Counter(server.requests)
    batches_of(open_shards(server.url, cache=tmp_path))
    assert server.requests - first == Counter({"/dataset.json": 1})
    assert max(count for path, count in first.items() if path.endswith(".tar")) == 1


def test_the_cache_is_bounded(
    shard_folder: Path, shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used shards are evicted."""
    monkeypatch.setattr(remote, "_GRACE", 0.0)
    sizes = {shard["name"]: shard["bytes"] for shard in shards.metadata["shards"]}
    budget = 3 * max(sizes.values())
    opened = open_shards(f"file://{shard_folder}", cache=tmp_path, budget=budget)
    files: Any = opened.path_of.__self__
    high = 0
    for name in list(sizes) * 2:
        assert sha256_of(files.path(name)) == files.digests[name]
        high = max(high, sum(path.stat().st_size for path in shards_in(tmp_path)))
    assert high <= budget
    assert len(shards_in(tmp_path)) == 3
    assert same(batches_of(opened), batches_of(shards))


def test_what_is_in_use_is_not_evicted(shard_folder: Path, tmp_path: Path) -> None:
    """Another process has just requested the path and is about to open it."""
    opened = open_shards(f"file://{shard_folder}", cache=tmp_path, budget=1)
    files: Any = opened.path_of.__self__
    paths = [files.path(f"train-{number:06d}.tar") for number in range(3)]
    assert all(path.exists() for path in paths)
    os.utime(paths[0], (0, 0))
    files.path("train-000003.tar")
    assert [path.exists() for path in paths] == [False, True, True]


def test_abandoned_downloads_are_removed(shard_folder: Path, tmp_path: Path) -> None:
    old, young = tmp_path / ".tmp.x.tar.1", tmp_path / ".tmp.x.tar.2"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (0, 0))
    files: Any = open_shards(f"file://{shard_folder}", cache=tmp_path).path_of.__self__
    files.path("train-000000.tar")
    assert not old.exists()
    assert young.exists(), "somebody may still be writing it"


@pytest.mark.parametrize("fault", ["cut", "flip", "503"])
def test_a_torn_download_is_tried_again(server: Server, shards: ShardSet, tmp_path: Path, fault: str) -> None:
    for name in ("index.parquet", "train-000002.tar"):
        server.faults[f"/{name}"] = [fault, fault]
    assert same(batches_of(open_shards(server.url, cache=tmp_path)), batches_of(shards))
    assert server.requests["/train-000002.tar"] == 3
    assert all(sha256_of(path) == path.stem for path in shards_in(tmp_path))


@pytest.mark.parametrize(("fault", "error", "words"), [
    ("flip", IntegrityError, r"train-000002\.tar: SHA-256 differs from dataset\.json; upload the shard set again"),
    ("503", EnvironmentProblem, r"train-000002\.tar: cannot be read after 4 attempts \(503.*check the network"),
])  # fmt: skip
@pytest.mark.parametrize("workers", [0, 1])
def test_what_stays_broken_is_an_error(
    server: Server, tmp_path: Path, fault: str, error: Any, words: str, workers: int
) -> None:
    server.faults["/train-000002.tar"] = [fault] * 50
    with pytest.raises(error, match=words):
        batches_of(open_shards(server.url, cache=tmp_path), workers)
    assert not list(tmp_path.glob(".tmp.*"))
    assert server.requests["/train-000002.tar"] == 4


def test_no_server_and_no_set(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere/dataset\.json: no such object"):
        open_shards(f"{server.url}/nowhere", cache=tmp_path)
    server.faults["/dataset.json"] = ["503"] * 9
    with pytest.raises(EnvironmentProblem, match="cannot be read after 4 attempts"):
        open_shards(server.url, cache=tmp_path)
    with socket.socket() as closed:  # bound and not listening: every connection is refused
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(EnvironmentProblem, match=r"cannot be read after 4 attempts \(Cannot connect"):
            open_shards(f"http://127.0.0.1:{closed.getsockname()[1]}", cache=tmp_path)
    with pytest.raises(UsageError, match="fsspec knows no protocol 'nothing'"):
        open_shards("nothing://set", cache=tmp_path)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"not JSON", b'{"shards": 1, "index": 2}'])
def test_a_description_that_is_none(shard_folder: Path, tmp_path: Path, content: bytes) -> None:
    copy = Path(shutil.copytree(shard_folder, tmp_path / "set"))
    (copy / "dataset.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"set/dataset\.json: .*; run `fprep shard` again"):
        open_shards(f"file://{copy}", cache=tmp_path / "cache")


def test_a_damaged_cached_file_is_fetched_again(shard_folder: Path, shards: ShardSet, tmp_path: Path) -> None:
    batches_of(open_shards(f"file://{shard_folder}", cache=tmp_path))
    for path in (*shards_in(tmp_path), *tmp_path.glob("*.parquet")):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert same(batches_of(open_shards(f"file://{shard_folder}", cache=tmp_path)), batches_of(shards))


def test_a_set_uploaded_anew_is_not_mixed_with_its_old_self(tmp_path: Path) -> None:
    """Same URL, same shard names, different content."""
    bucket = write_shard_set(tmp_path / "bucket", {"train": 16, "val": 3})
    url = f"file://{bucket}"
    batches_of(open_shards(url, cache=tmp_path / "cache"))
    shutil.rmtree(bucket)
    write_shard_set(bucket, {"val": 5, "train": 24})
    again = open_shards(url, cache=tmp_path / "cache")
    assert same(batches_of(again), batches_of(ShardSet.open(bucket)))


def test_a_stop_is_not_taken_for_a_bad_network(
    shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Any = open_shards(f"file://{shard_folder}", cache=tmp_path).path_of.__self__
    calls: list[str] = []

    def stop(place: str, mode: str) -> None:
        calls.append(place)
        raise Terminated("stopped")

    monkeypatch.setattr("fsspec.open", stop)
    with pytest.raises(Terminated):
        files.path("train-000000.tar")
    assert len(calls) == 1


def test_a_run_from_a_url_ends_like_a_local_one(server: Server, shard_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "workers": 2, "sampler": "windowed"}
    remote_set = open_shards(server.url, cache=tmp_path / "cache", budget=1)
    one = make_trainer(remote_set, tmp_path / "remote", **options).train()
    other = make_trainer(shard_folder, tmp_path / "local", **options).train()
    assert one == other

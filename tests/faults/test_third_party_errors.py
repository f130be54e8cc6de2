"""Errors of third-party libraries give one message and the right exit code; most are raised by the library itself."""

from __future__ import annotations

import gzip
import io
import os
import re
import resource
import signal
import socket
import ssl
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fschemas.failures import EnvironmentProblem, ExitCode, explain
from fschemas.publish import publish
from fschemas.third_party import known_errors

ENVIRONMENT, INTEGRITY, USAGE = ExitCode.ENVIRONMENT, ExitCode.INTEGRITY, ExitCode.USAGE
BIG = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)


@contextmanager
def full_disk():
    """Limit the file size to 4 kB to simulate a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def on_full_disk(write: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        with full_disk():
            write()

    return run


def throw(kind: str, message: str) -> Callable[[], Any]:
    """Raise an error of a class of that name, for cases that need a GPU, a network or a missing package."""

    def run() -> None:
        module, _, name = kind.rpartition(".")
        raise type(name, (Exception,), {"__module__": module, "__qualname__": name})(message)

    return run


def a_pickle() -> None:
    torch.save({"run": os.getcwd}, "pickle.pt")
    torch.load("pickle.pt", weights_only=True)


def a_cut_weight_file() -> None:
    torch.save({"a": torch.zeros(500)}, "cut.pt")
    os.truncate("cut.pt", 300)
    torch.load("cut.pt", weights_only=True)


def cut_image() -> None:
    from PIL import Image

    text = io.BytesIO()
    Image.fromarray(BIG).save(text, "JPEG")
    Image.open(io.BytesIO(text.getvalue()[:5000])).load()


def faiss_index() -> Any:
    import faiss

    index = faiss.IndexFlatL2(8)
    index.add(np.zeros((500, 8), np.float32))
    return index


def write_faiss() -> None:
    import faiss

    faiss.write_index(faiss_index(), "a.faiss")


def read_faiss() -> None:
    import faiss

    faiss.read_index("junk")


def few_for_faiss() -> None:
    import faiss

    faiss.index_factory(8, "IVF64,Flat").train(np.zeros((10, 8), np.float32))


def open_url(url: str) -> Callable[[], Any]:
    def run() -> None:
        import fsspec

        fsspec.open(url).open()

    return run


def write_arrow() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": np.arange(10_000)}), "a.parquet", compression=None)


def read_arrow() -> None:
    import pyarrow.parquet as pq

    pq.ParquetFile("junk")


def arrow_memory() -> None:
    import pyarrow as pa

    pa.allocate_buffer(10**17)


def write_polars() -> None:
    import polars as pl

    pl.DataFrame({"a": np.random.default_rng(0).random(10_000)}).write_parquet("p.parquet")


def read_polars() -> None:
    import polars as pl

    pl.read_parquet("junk")


def polars_column() -> None:
    import polars as pl

    pl.DataFrame({"a": [1]}).select("b")


def open_image() -> None:
    from PIL import Image

    Image.open("junk")


def huge_resize() -> None:
    import cv2

    cv2.resize(np.zeros((10, 10), np.uint8), (2**30, 2**30))


def empty_resize() -> None:
    import cv2

    cv2.resize(np.zeros((0, 0), np.uint8), (10, 10))


def odd_ending() -> None:
    import cv2

    cv2.imwrite("a.foo", BIG)


def safetensors_of(write: bool) -> Callable[[], Any]:
    def run() -> None:
        from safetensors.torch import load_file, save_file

        if write:
            save_file({"a": torch.zeros(10_000)}, "a.safetensors")
        load_file("junk")

    return run


def create(name: str) -> Callable[[], Any]:
    def run() -> None:
        import timm

        timm.create_model(name)

    return run


def onnx_file() -> None:
    import onnx

    onnx.load("junk")


def onnx_check() -> None:
    import onnx

    onnx.checker.check_model(onnx.ModelProto())


def ort_session(name: str) -> Callable[[], Any]:
    def run() -> None:
        import onnxruntime

        onnxruntime.InferenceSession(name)

    return run


def dvclive_value() -> None:
    from dvclive.live import Live

    Live(dir="live", save_dvc_exp=False, dvcyaml=None, report=None).log_metric("a", object())  # type: ignore[arg-type]


def dvc_read() -> None:
    from dvc.repo import Repo

    Repo(str(Path.cwd()))


def rendezvous() -> None:
    torch.distributed.init_process_group(
        "gloo", init_method="tcp://127.0.0.1:1", rank=1, world_size=2, timeout=timedelta(milliseconds=20)
    )


def wrong_weights() -> None:
    torch.nn.Linear(3, 4).load_state_dict(torch.nn.Linear(3, 5).state_dict())


def numpy_pickle() -> None:
    np.save("o.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.load("o.npy")


def compiled() -> None:
    raise RuntimeError("cannot compile") from type(
        "InvalidCxxCompiler", (RuntimeError,), {"__module__": "torch._inductor.exc"}
    )("No working C++ compiler found")


RAISED: dict[str, tuple[Callable[[], Any], ExitCode, str]] = {
    # torch
    "torch: memory of the CPU": (lambda: torch.empty(10**16), ENVIRONMENT, "out of memory"),
    "torch: memory of a GPU": (
        throw("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …"), ENVIRONMENT, "smaller batches",
    ),
    "torch: cuBLAS": (lambda: _raise(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling …")), ENVIRONMENT, "memory"),
    "torch: cuDNN": (lambda: _raise(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")), ENVIRONMENT, "the GPU reports"),
    "torch: kernels": (
        throw("torch.AcceleratorError", "CUDA error: no kernel image is available for execution on the device"), ENVIRONMENT, "a build",
    ),
    "torch: pickle": (a_pickle, INTEGRITY, "it is refused: store it as safetensors"),
    "torch: cut file": (a_cut_weight_file, INTEGRITY, "damaged"),
    "torch: full disk": (on_full_disk(lambda: torch.save(torch.zeros(10**5), "b.pt")), ENVIRONMENT, "free some space"),
    "torch: weights of another network": (wrong_weights, INTEGRITY, "do not fit the network Linear: .*size mismatch for weight"),
    "torch: batch of one": (lambda: torch.nn.BatchNorm1d(3)(torch.zeros(1, 3)), USAGE, "larger batches"),
    "torch: input too small": (lambda: torch.nn.Conv2d(1, 1, 9)(torch.zeros(1, 1, 3, 3)), USAGE, "larger model.input_size"),
    "torch: nobody to meet": (rendezvous, ENVIRONMENT, "lost each other"),
    "torch: NCCL": (
        throw("torch.distributed.DistBackendError", "NCCL error in: ../NCCLUtils.hpp:275, unhandled cuda error"), ENVIRONMENT, "lost",
    ),
    "torch: gloo": (
        lambda: _raise(RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.1.1]:1")), ENVIRONMENT,
        "lost each other",
    ),
    "torch: variables of torchrun": (
        lambda: torch.distributed.init_process_group("gloo", rank=-1, world_size=-1), USAGE, "RANK is not set; start .* with torchrun",
    ),
    "torch: DataLoader": (
        lambda: _raise(RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")), ENVIRONMENT, "use fewer workers",
    ),
    "torch: descriptors": (lambda: _raise(RuntimeError("received 0 items of ancdata")), ENVIRONMENT, "too many open files"),
    "torch: no compiler": (compiled, ENVIRONMENT, "without --compile"),
    "torch: compiling": (throw("torch._dynamo.exc.Unsupported", "call_function …"), ENVIRONMENT, "without --compile"),
    "python: threads": (lambda: _raise(RuntimeError("can't start new thread")), ENVIRONMENT, "threads"),
    # tensor and array files
    "safetensors: damaged": (safetensors_of(write=False), INTEGRITY, "safetensors file is damaged"),
    "safetensors: full disk": (on_full_disk(safetensors_of(write=True)), ENVIRONMENT, "larger than allowed|free some space"),
    "numpy: full disk": (on_full_disk(lambda: np.arange(10**5).tofile("a.bin")), ENVIRONMENT, "free some space"),
    "numpy: memory": (lambda: np.zeros(10**15), ENVIRONMENT, "out of memory"),
    "numpy: objects": (numpy_pickle, INTEGRITY, "damaged"),
    "numpy: no array": (lambda: np.load("junk.npy"), INTEGRITY, "damaged"),
    "faiss: full disk": (on_full_disk(write_faiss), ENVIRONMENT, "larger than allowed"),
    "faiss: damaged": (read_faiss, INTEGRITY, "build the index again"),
    "faiss: too few": (few_for_faiss, USAGE, "--kind exact"),
    # storage
    "fsspec: protocol": (open_url("foo://a/b"), USAGE, "foo:// is no storage"),
    "fsspec: no package": (
        lambda: _raise(ImportError("Install s3fs to access S3")), ENVIRONMENT, "a package for this storage is missing .*s3fs",
    ),
    "fsspec: no server": (open_url("http://127.0.0.1:1/x"), ENVIRONMENT, "cannot be reached .*127.0.0.1"),
    "fsspec: nothing there": (open_url("memory://none"), USAGE, "no such file"),
    "botocore": (throw("botocore.exceptions.NoCredentialsError", "Unable to locate credentials"), ENVIRONMENT, "credentials"),
    "network: name": (lambda: _raise(socket.gaierror(-2, "Name or service not known")), ENVIRONMENT, "check the address"),
    "network: TLS": (lambda: _raise(ssl.SSLError(1, "certificate verify failed")), ENVIRONMENT, "certificate verify failed"),
    "network: refused": (lambda: urllib.request.urlopen("http://127.0.0.1:1/"), ENVIRONMENT, "refused"),
    "hub": (throw("huggingface_hub.errors.RepositoryNotFoundError", "404"), ENVIRONMENT, "the Hugging Face hub"),
    # tables
    "pyarrow: full disk": (on_full_disk(write_arrow), ENVIRONMENT, "larger than allowed"),
    "pyarrow: damaged": (read_arrow, INTEGRITY, "Parquet table is damaged"),
    "pyarrow: memory": (arrow_memory, ENVIRONMENT, "out of memory"),
    "polars: full disk": (on_full_disk(write_polars), ENVIRONMENT, "larger than allowed"),
    "polars: damaged": (read_polars, INTEGRITY, "damaged"),
    "polars: column": (polars_column, INTEGRITY, "a table lacks"),
    # images
    "Pillow: no image": (open_image, INTEGRITY, "an image file cannot be read"),
    "Pillow: cut": (cut_image, INTEGRITY, "an image file cannot be read"),
    "OpenCV: memory": (huge_resize, ENVIRONMENT, "out of memory"),
    "OpenCV: empty": (empty_resize, INTEGRITY, "an image file cannot be read"),
    "OpenCV: ending": (odd_ending, USAGE, ".png or .jpg"),
    # models
    "timm: name": (create("resnet5"), USAGE, "timm knows no network resnet5"),
    "timm: tag": (create("resnet18.foo"), USAGE, "timm has no such weights"),
    "onnx: no model": (onnx_file, INTEGRITY, "ONNX model is damaged"),
    "onnx: bad model": (onnx_check, INTEGRITY, "ir_version"),
    "onnxruntime: no model": (ort_session("junk"), INTEGRITY, "ONNX Runtime cannot run the model"),
    "onnxruntime: missing": (ort_session("none.onnx"), USAGE, "no such ONNX model"),
    "torch.onnx": (throw("torch.onnx.errors.UnsupportedOperatorError", "aten::foo"), USAGE, "cannot be exported"),
    # trackers
    "DVCLive: value": (dvclive_value, ENVIRONMENT, "--tracker none"),
    "DVC: no repository": (dvc_read, ENVIRONMENT, "dvc status"),
    "mlflow": (throw("mlflow.exceptions.MlflowException", "API request failed"), ENVIRONMENT, "MLFLOW_TRACKING_URI"),
    # Python's standard library
    "tar": (partial(tarfile.open, "junk"), INTEGRITY, "damaged"),
    "zip": (lambda: zipfile.ZipFile("junk"), INTEGRITY, "damaged"),
    "zlib": (lambda: zlib.decompress(b"junk"), INTEGRITY, "damaged"),
    "gzip": (lambda: gzip.decompress(b"junk"), INTEGRITY, "damaged"),
    "a text": (b"\xff".decode, INTEGRITY, "not UTF-8"),
    "a name": ("\udc80".encode, USAGE, "not valid UTF-8"),
    "NUL": (lambda: Path("a\0b").read_bytes(), USAGE, "NUL"),
    "pool": (throw("concurrent.futures.process.BrokenProcessPool", "terminated abruptly"), ENVIRONMENT, "fewer workers"),
    "time": (lambda: _raise(TimeoutError("timed out")), ENVIRONMENT, "timed out"),
}  # fmt: skip


def _raise(error: BaseException) -> None:
    raise error


@pytest.fixture
def junk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of unknown format."""
    for name in ("junk", "junk.npy"):
        (tmp_path / name).write_bytes(b"junk" * 50)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RAISED)
def test_one_sentence_and_exit_code(junk: Path, name: str) -> None:
    raising, code, words = RAISED[name]
    with pytest.raises(Exception) as raised:
        raising()
    told = explain(raised.value)
    assert told is not None, f"{type(raised.value).__module__}.{type(raised.value).__qualname__}: {raised.value}"
    assert told[0] == code, told

    assert re.search(words, told[1]), told
    assert "\n" not in told[1]
    assert len(told[1]) < 420
    assert "weights_only" not in told[1]
    assert "\x1b" not in told[1]


def test_every_library_of_the_table_is_tried() -> None:
    tried = {name.partition(":")[0] for name in RAISED}
    assert {"torch", "safetensors", "faiss", "fsspec", "timm", "OpenCV", "Pillow", "numpy", "pyarrow", "polars", "DVCLive", "DVC",
            "onnx", "onnxruntime", "mlflow"} <= tried & {known["library"] for known in known_errors()}  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        TypeError("b"),
        AssertionError("c"),
        RuntimeError("d"),
        ValueError("e"),
        AttributeError("f"),
        IndexError(),
    ],
)
def test_our_own_faults_stay_faults(error: Exception) -> None:
    assert explain(error) is None


def test_what_is_published_on_a_full_disk_names_its_place(junk: Path) -> None:
    with (
        full_disk(),
        pytest.raises(EnvironmentProblem, match=r"array\.npy: .*free some space"),
        publish(junk / "array.npy") as path,
    ):
        np.arange(10**5).tofile(path)
    assert not (junk / "array.npy").exists()
    assert sorted(path.name for path in junk.iterdir()) == ["junk", "junk.npy"]

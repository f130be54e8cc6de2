"""Facts about this machine for `ftrain doctor`, measured in a few seconds on little data, as JSON values.

Sizes are in bytes, times in seconds, rates per second. Nothing is left on the disk.
"""

import os
import platform
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
import torch.cuda.nccl as torch_nccl

from fschemas.cores import available_cores, cpu_quota, memory_limit
from fschemas.extras import EXTRAS
from ftrain.data.image import decode

_SHAPES = ((300, 17_000), (512, 47_000))  # side in pixels and bytes of images of DeepFashion and of FashionAI
_SECONDS = 0.3  # per measurement
_DISK_BYTES, _BLOCK, _SYNCS = 1 << 26, 1 << 20, 9
_PACKAGES = ("torch", "torchvision", "timm", "simplejpeg", "opencv-python-headless")
_DRIVER = Path("/proc/driver/nvidia/version")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - its size is read; nothing is written
OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def machine_facts(folder: Path) -> dict[str, Any]:
    """Return the facts by section. `folder` is on the disk to measure."""
    return {
        "cores": {"usable": available_cores(), "visible": os.cpu_count() or 1, "quota": cpu_quota(), "model": _cpu_model()},
        "memory": memory_facts(),
        "decoding": [{"pixels": side, **decode_rate([jpeg_of(side, size)])} for side, size in _SHAPES],
        "disk": disk_facts(folder),
        "devices": device_facts(),
        "software": software_facts(),
        "openmp": {"threads": torch.get_num_threads(), **{name: os.environ.get(name) for name in OPENMP}},
        "missing_extras": {
            extra: missing for extra, modules in EXTRAS.items() if (missing := [name for name in modules if find_spec(name) is None])
        },
    }  # fmt: skip


def memory_facts() -> dict[str, Any]:
    """Total and available memory within the limit of the cgroup, and free space in /dev/shm (None if there is none)."""
    size, limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), memory_limit()
    total = size if limit is None else min(size, limit)
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    if (meminfo := Path("/proc/meminfo")).exists():  # counts caches that the kernel would free
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    shared = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else None
    return {"total": total, "available": min(total, available), "limit": limit, "shared_free": shared}


def jpeg_of(side: int, size: int) -> bytes:
    """Return a synthetic JPEG of `side` x `side` pixels and about `size` bytes: decoding costs what its bytes cost."""
    generator = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 9, side))[:, None, None] * np.sin(np.linspace(0, 7, side))[None, :, None]
    smooth, noise = 128 + 90 * waves * np.array([1.0, 0.6, 0.3]), generator.standard_normal((side, side, 1))
    low, high, jpeg = 0.0, 64.0, b""
    for _ in range(7):  # more noise, more bytes
        amount = (low + high) / 2
        jpeg = simplejpeg.encode_jpeg(np.clip(smooth + amount * noise, 0, 255).astype(np.uint8), quality=85)
        low, high = (amount, high) if len(jpeg) < size else (low, amount)
    return jpeg


def decode_rate(jpegs: list[bytes]) -> dict[str, Any]:
    """Decode images repeatedly, as training does: mean size and images per second of CPU time of one core."""
    decode(jpegs[0])
    start, images = time.process_time(), 0
    while (spent := time.process_time() - start) < _SECONDS:
        for jpeg in jpegs:
            decode(jpeg)
        images += len(jpegs)
    return {"bytes": round(statistics.mean(map(len, jpegs))), "images_per_core_second": images / spent}


def disk_facts(folder: Path) -> dict[str, Any]:
    """Free space, sequential rates and the median time of a small fsync, in a file without a name.

    The file has up to 64 MiB and is written for at most a second, fsync included. Without permission to write or
    space, the rates are None and `problem` has the reason.
    """
    facts: dict[str, Any] = {"folder": str(folder.resolve()), "free": shutil.disk_usage(folder).free, "problem": None}
    block = np.random.default_rng(0).bytes(_BLOCK)
    facts |= {"write_rate": None, "read_rate": None, "sync_seconds": None}
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            syncs: list[float] = []
            for _ in range(_SYNCS):
                file.write(block[:4096])
                syncs.append(_seconds(lambda: os.fsync(file.fileno())))
            start, size = time.perf_counter(), 0
            while size < _DISK_BYTES and time.perf_counter() - start < 1:
                size += file.write(block)
            os.fsync(file.fileno())
            written = time.perf_counter() - start
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # read from the disk, if the system heeds it
            file.seek(0)
            read = _seconds(lambda: [None for _ in iter(lambda: file.read(_BLOCK), b"")])
    except OSError as error:
        return {**facts, "problem": error.strerror or str(error)}
    return {**facts, "write_rate": size / written, "read_rate": size / read, "sync_seconds": statistics.median(syncs)}


def device_facts() -> list[dict[str, Any]]:
    """The CPU, then each GPU that torch finds: memory, bfloat16 support, and floating-point operations per second.

    `problem` is why a device cannot be used, or None.
    """
    flags = _cpu_info("flags").split()
    devices: list[dict[str, Any]] = [
        {"device": "cpu", "name": _cpu_model(), "bf16": any(name in flags for name in ("avx512_bf16", "amx_bf16"))}
    ]
    with warnings.catch_warnings(record=True) as told:  # torch warns about a driver that is too old
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    for number in range(torch.cuda.device_count() if available else 0):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        devices.append({
            "device": f"cuda:{number}", "name": properties.name, "capability": f"{properties.major}.{properties.minor}",
            "memory": total, "free": free, "bf16": properties.major >= 8,
        })  # fmt: skip
    if not available and _DRIVER.exists():
        reason = str(told[0].message).splitlines()[0] if told else "torch finds no GPU"
        devices.append({"device": "cuda", "name": "NVIDIA driver", "bf16": False, "problem": reason})
    return [{"problem": None, **device, **_computing(device)} for device in devices]


def _computing(device: dict[str, Any]) -> dict[str, Any]:
    """Rate of matrix products by type, if the device can be used."""
    if "problem" in device:
        return {}
    rates: dict[str, float] = {}
    side = 1024 if device["device"] == "cpu" else 8192
    try:
        for dtype in (torch.float32, *([torch.bfloat16] if device["bf16"] else [])):
            matrix = torch.full((side, side), 0.5, dtype=dtype, device=device["device"])

            def multiply(matrix: torch.Tensor = matrix) -> None:
                float((matrix @ matrix)[0, 0])  # waits for the device

            multiply()
            repeats = 1 + int(_SECONDS / max(1e-3, _seconds(multiply)))
            seconds = min(_seconds(multiply) for _ in range(min(repeats, 20)))
            rates[str(dtype).removeprefix("torch.")] = 2 * side**3 / seconds
    except RuntimeError as error:
        return {"problem": " ".join(str(error).split())[:200]}
    return {"flops": rates}


def software_facts() -> dict[str, Any]:
    """Versions of the packages and libraries that matter; None for what is not installed."""
    versions: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    has_cuda = torch.version.cuda is not None
    nccl = torch_nccl.version() if has_cuda and torch.distributed.is_nccl_available() else None
    driver = _DRIVER.read_text(encoding="utf-8").splitlines()[0] if _DRIVER.exists() else ""
    words = [word for word in driver.split() if word[0].isdigit()]
    return {
        **versions,
        "cuda": torch.version.cuda,
        "cudnn": _dotted(torch.backends.cudnn.version()) if has_cuda else None,
        "nccl": ".".join(map(str, nccl)) if nccl else None,
        "driver": words[0] if words else None,
    }


def _dotted(number: int | None) -> str | None:
    """Version of cuDNN (9 and later) as text: 91002 is 9.10.2."""
    return None if number is None else f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _cpu_model() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(name: str) -> str:
    """A field of the first core in /proc/cpuinfo; "" elsewhere than on Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() == name), "")

"""Facts of a machine: sizes of synthetic JPEG, disks that cannot be written, a device that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import simplejpeg
import torch

from ftrain.use import machine


@pytest.mark.parametrize(("side", "size"), [(300, 17_000), (512, 47_000)])
def test_a_synthetic_jpeg_has_the_requested_size(side: int, size: int) -> None:
    jpeg = machine.jpeg_of(side, size)
    assert simplejpeg.decode_jpeg(jpeg).shape == (side, side, 3)
    assert len(jpeg) == pytest.approx(size, rel=0.15)


def test_decoding_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_SECONDS", 0.01)
    found = machine.decode_rate([machine.jpeg_of(64, 2000)] * 3)
    assert found["bytes"] > 0
    assert 100 < found["images_per_core_second"] < 1e6


def test_a_disk_is_measured_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_DISK_BYTES", 4 << 20)
    found = machine.disk_facts(tmp_path)
    assert found["problem"] is None
    assert min(found["write_rate"], found["read_rate"], found["sync_seconds"], found["free"]) > 0
    assert not list(tmp_path.iterdir())


def test_a_disk_that_cannot_be_written_is_a_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", refuse)
    found = machine.disk_facts(tmp_path)
    assert found["problem"] == "No space left on device"
    assert found["write_rate"] is None


def test_a_device_that_cannot_compute_is_a_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*sizes: object, **kind: object) -> None:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(torch, "full", refuse)
    (cpu,) = machine.device_facts()
    assert cpu["problem"] == "no kernel image is available"


def test_memory_is_limited_by_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_limit", lambda: 10_000_000)
    found = machine.memory_facts()
    assert found["total"] == found["limit"] == 10_000_000
    assert found["available"] <= 10_000_000

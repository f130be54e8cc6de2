"""Decoding cost is bounded before an image is decoded: in convert, in shards and for a user's images."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fprep.images.check import check_image
from fprep.lint.samples import _decoded_size
from fschemas import image_limits
from fschemas.image_limits import MAX_SCANS, TooMuchError, check_jpeg, count_segments, within
from ftrain.data import user_images as images
from ftrain.data.image import decode, decode_exactly
from ftrain.data.user_images import ImageError, read_image


def jpeg_of_scans(scans: int, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    """A progressive JPEG with its last scan repeated, `scans` in all."""
    file = io.BytesIO()
    Image.new("RGB", size, (90, 140, 30)).save(file, "JPEG", progressive=True, **options)  # type: ignore[arg-type]
    content = file.getvalue()
    last = content.rfind(b"\xff\xda")
    return content[:-2] + content[last:-2] * (scans - content.count(b"\xff\xda")) + b"\xff\xd9"


def png_of_chunks(count: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    content, chunk = file.getvalue(), struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    return content[:33] + chunk * count + content[33:]


def jpeg_of_comments(count: int) -> bytes:
    content = jpeg_of_scans(10)
    return content[:2] + b"\xff\xfe\x00\x02" * count + content[2:]


def jpeg_of_fill_bytes(count: int) -> bytes:
    content = jpeg_of_scans(10)
    return content[:2] + b"\xff" * count + content[2:]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "scans.jpg": lambda: jpeg_of_scans(4000),
    "large.jpg": lambda: jpeg_of_scans(90, (6000, 5000), quality=20),
    "segments.jpg": lambda: jpeg_of_comments(200_000),
    "fill.jpg": lambda: jpeg_of_fill_bytes(400_000),
    "chunks.png": lambda: png_of_chunks(200_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_image_that_is_too_large_is_refused_at_once_everywhere(tmp_path: Path, name: str) -> None:
    content = HOSTILE[name]()
    (tmp_path / name).write_bytes(content)
    start = time.perf_counter()
    facts = check_image(str(tmp_path), name, decode=True)
    with pytest.raises(ImageError, match="too many"):
        read_image(tmp_path / name)
    assert facts.rule == "image_too_large"
    if name in ("scans.jpg", "large.jpg"):
        for read in (decode, decode_exactly, lambda content: decode(content, 8)):
            with pytest.raises(TooMuchError, match="scans"):
                read(content)
        assert _decoded_size(content) is None
    assert time.perf_counter() - start < 8


def test_images_as_cameras_and_optimizers_write_them_pass(tmp_path: Path) -> None:
    content = jpeg_of_scans(10)
    (tmp_path / "a.jpg").write_bytes(content)
    (tmp_path / "b.jpg").write_bytes(jpeg_of_scans(MAX_SCANS))
    assert check_image(str(tmp_path), "a.jpg", decode=True).rule == ""
    assert read_image(tmp_path / "a.jpg").shape == decode(content).shape == (48, 64, 3)
    assert read_image(tmp_path / "b.jpg").shape == (48, 64, 3)
    with pytest.raises(TooMuchError, match=f"{MAX_SCANS + 1} scans"):
        check_jpeg(jpeg_of_scans(MAX_SCANS + 1), 64, 48)


def test_metadata_of_a_camera_are_few() -> None:
    assert count_segments(jpeg_of_scans(10)) < 10
    assert count_segments(png_of_chunks(3)) == 6
    assert count_segments(b"GIF89a") == 0


def test_a_decoder_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    (tmp_path / "a.jpg").write_bytes(jpeg_of_scans(10))
    monkeypatch.setattr(images, "_decode", lambda content: stuck.wait(60))
    monkeypatch.setattr(images, "within", lambda work: within(work, 0.05))
    with pytest.raises(ImageError, match="no answer for 0 seconds"):
        read_image(tmp_path / "a.jpg")
    stuck.set()


def test_work_in_time_gives_its_result_or_its_error() -> None:
    assert within(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 // 0)
    assert image_limits.SECONDS == 60

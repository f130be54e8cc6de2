"""Every kind of image file gets its result, truncated JPEGs are found, and a crashing decoder affects nothing else."""

import io
import os
import signal
import socket
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from fprep.engine import map_tasks
from fprep.images.check import ImageFacts, check_image, check_images
from fschemas.failures import EnvironmentProblem


def image(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size).convert(mode)


def encoded(kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    image(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    end = b"\0\0\0\0IEND" + zlib.crc32(b"IEND").to_bytes(4, "big")
    data = b"\0\0\0\x0aIDAT" + zlib.compress(b"\0" * 2)[:10].ljust(10, b"\0")
    data += zlib.crc32(data[4:]).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + body + zlib.crc32(body).to_bytes(4, "big") + data + end


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


GOOD = {
    "plain.jpg": (encoded(), "RGB", ()),
    "progressive.jpg": (encoded(progressive=True), "RGB", ()),
    "rgb_coded.jpg": (encoded(keep_rgb=True), "RGB", ()),
    "trailing_zip.jpg": (encoded() + b"PK\3\4" + b"x" * 90, "RGB", ()),
    "upper.JPG": (encoded(), "RGB", ()),
    "gray.jpg": (encoded(mode="L"), "L", ("grayscale_image",)),
    "cmyk.jpg": (encoded(mode="CMYK"), "CMYK", ("cmyk_image",)),
    "rotated.jpg": (encoded(exif=exif(3)), "RGB", ("exif_orientation",)),
    "nonsense_orientation.jpg": (encoded(exif=exif(9)), "RGB", ()),
    "png_named.jpg": (encoded("PNG"), "RGB", ("wrong_extension",)),
    "palette.png": (encoded("PNG", "P"), "P", ()),
    "plain.webp": (encoded("WEBP"), "RGB", ()),
    "plain.bmp": (encoded("BMP"), "RGB", ()),
    "still.gif": (encoded("GIF", "P"), "P", ()),
    "animated.gif": (
        encoded("GIF", "P", save_all=True, append_images=[Image.new("P", (40, 24))]),
        "P",
        ("animated_image",),
    ),
}

BAD = {
    "empty.jpg": (b"", "zero_byte_image"),
    "page.jpg": (b"<html><body>404</body></html>", "not_an_image"),
    "pdf.jpg": (b"%PDF-1.4 ...", "not_an_image"),
    "magic_only.jpg": (b"\xff\xd8\xff", "truncated_image"),
    "magic_and_text.jpg": (b"\xff\xd8\xff\xe0\0\x02" + b"this is not an image at all" * 9, "not_an_image"),
    "cut.jpg": (encoded()[:-200], "truncated_image"),
    "cut_in_header.jpg": (encoded()[:100], "truncated_image"),
    "cut_behind_thumbnail.jpg": (encoded(exif=exif(1), comment=b"\xff\xd8\xff\xd9")[:-40], "truncated_image"),
    "cut.png": (encoded("PNG")[:-5], "truncated_image"),
    "cut.webp": (encoded("WEBP")[:-30], "truncated_image"),
    "cut.bmp": (encoded("BMP")[:-30], "truncated_image"),
    "bomb.png": (png_header(13000, 13000), "image_too_large"),
    "long.png": (png_header(20000, 10), "image_too_large"),
    "huge.png": (png_header(60000, 60000), "image_too_large"),
    "dot.png": (png_header(1, 1), "image_too_small"),
}


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("name", GOOD)
def test_good_kinds(tmp_path, name, decode):
    content, mode, warnings = GOOD[name]
    (tmp_path / name).write_bytes(content)
    facts = check_image(str(tmp_path), name, decode=decode)
    assert (facts.rule, facts.mode, facts.warnings) == ("", mode, warnings)
    assert (facts.width, facts.height) == (40, 24)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_bad_kinds(tmp_path, name, decode):
    content, rule = BAD[name]
    (tmp_path / name).write_bytes(content)
    facts = check_image(str(tmp_path), name, decode=decode)
    assert facts.rule == rule, facts
    assert facts.message


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_size_is_the_displayed_one(tmp_path, orientation):
    (tmp_path / "a.jpg").write_bytes(encoded(exif=exif(orientation)))
    facts = check_image(str(tmp_path), "a.jpg", decode=False)
    assert (facts.width, facts.height, facts.orientation) == (24, 40, orientation)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"restart_marker_blocks": 2}]
)
def test_every_cut_jpeg_is_found(tmp_path, options, decode):
    content = encoded(**options)
    for length in [*range(1, len(content), 9), *range(len(content) - 40, len(content))]:
        (tmp_path / "cut.jpg").write_bytes(content[:length])
        assert check_image(str(tmp_path), "cut.jpg", decode=decode).rule in ("truncated_image", "not_an_image"), length


def test_missing_middle_is_found_by_decoding(tmp_path):
    content = encoded(quality=95)
    middle = len(content) * 2 // 3
    (tmp_path / "a.jpg").write_bytes(content[:middle] + content[middle + 150 :])
    assert check_image(str(tmp_path), "a.jpg", decode=True).rule == "truncated_image"


def test_what_is_no_regular_file(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(encoded())
    (root / "inside.jpg").write_bytes(encoded())
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "out.jpg").symlink_to(outside)
    (root / "link.jpg").symlink_to("inside.jpg")
    (root / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket.jpg"))
    with open(root / "large.jpg", "wb") as file:
        file.truncate((64 << 20) + 1)
    started = time.monotonic()
    verdicts = {path.name: check_image(str(root), path.name, decode=True).rule for path in root.iterdir()}
    assert time.monotonic() - started < 5, "a pipe or device blocked"
    assert verdicts == {
        "inside.jpg": "", "link.jpg": "", "folder.jpg": "image_not_a_file", "pipe.jpg": "image_not_a_file",
        "loop.jpg": "image_not_a_file", "out.jpg": "path_escape", "device.jpg": "path_escape",
        "socket.jpg": "image_not_a_file", "large.jpg": "image_too_large",
    }  # fmt: skip
    assert check_image(str(root), "gone.jpg", decode=True).rule == "missing_image"
    assert check_image(str(root), "inside.jpg/gone.jpg", decode=True).rule == "missing_image"
    assert check_image(str(root), "x" * 300 + ".jpg", decode=True).rule == "missing_image"


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_do_not_depend_on_workers(tmp_path, workers):
    names = list(GOOD) + list(BAD)
    for name in names:
        (tmp_path / name).write_bytes((GOOD.get(name) or BAD[name])[0])
    seen: list[tuple[int, int]] = []
    facts = check_images(
        str(tmp_path), names * 3, decode=True, workers=workers, progress=lambda done, total: seen.append((done, total))
    )
    assert facts == [check_image(str(tmp_path), name, decode=True) for name in names] * 3
    assert seen[-1] == (3 * len(names), 3 * len(names))


def test_dying_worker_costs_one_task():
    tasks = [signal.SIGCHLD] * 40 + [signal.SIGSEGV] + [signal.SIGCHLD] * 40 + [signal.SIGKILL]
    answers = list(
        map_tasks(signal.raise_signal, tasks, crashed=lambda task, reason: f"{task.name}: {reason}", workers=2)
    )
    assert [answer for answer in answers if answer] == [
        "SIGSEGV: the process died with signal 11", "SIGKILL: the process died with signal 9",
    ]  # fmt: skip
    assert [index for index, answer in enumerate(answers) if answer] == [40, 81]


def test_hanging_worker_is_noticed():
    started = time.monotonic()
    answers = map_tasks(time.sleep, [0, 0, 60, 0], crashed=lambda task, reason: (task, reason), workers=2, timeout=1.0)
    assert list(answers) == [None, None, (60, "no response for 1 seconds"), None]
    assert time.monotonic() - started < 15


def test_exception_in_a_worker_is_raised_here():
    with pytest.raises(ValueError, match="negative"):
        list(map_tasks(time.sleep, [0, -1], crashed=lambda task, reason: None))


def test_worker_that_cannot_start_is_no_verdict_on_images(tmp_path, monkeypatch):
    monkeypatch.setattr("fprep.engine.local._serve", os.abort)  # takes no arguments, so every worker gets a TypeError
    with pytest.raises(EnvironmentProblem, match="a worker cannot start"):
        check_images(str(tmp_path), ["a.jpg"], decode=True)


def test_facts_of_a_refused_image_are_empty():
    facts = ImageFacts("missing_image", "gone")
    assert facts.width is None
    assert facts.sha256 is None

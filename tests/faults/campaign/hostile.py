"""Hostile images and model files: decompression bombs, damage, pipes, pickles, and names that escape their folder."""

from __future__ import annotations

import io
import json
import os
import pickle  # noqa: TID251 - a pickle that must never be loaded
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tests.faults.campaign.bench import Bench
from tests.faults.campaign.trial import check
from tests.faults.harness import INTEGRITY, USAGE
from tests.faults.jobs import snapshot

_SECONDS = 20.0  # for a command with one hostile image, on a busy machine
_IMAGE_COMMANDS = ("convert", "predict", "describe", "query", "doctor")


@dataclass(frozen=True)
class HostileImages:
    """A damaged, enormous or fake image next to good ones."""

    name: str = "hostile-images"
    about: str = (
        "a damaged image, a decompression bomb, or something that is not an image or not a file, next to a good image"
    )
    promise: str = "one-sentence error or a rejected row within 20 seconds; the good image is processed"

    def cases(self) -> Sequence[str]:
        """Commands that decode unchecked images."""
        return _IMAGE_COMMANDS

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Place a hostile image next to a good one."""
        kind = draw.choice(list(IMAGES))
        images, out = folder / "images" / "dress", folder / "out"
        images.mkdir(parents=True)
        shutil.copy(bench.photo, images / "good.jpg")
        bad = images / draw.choice(["bad.jpg", "bad.png", "bad.webp"])
        IMAGES[kind](bad, bench.photo.read_bytes(), draw)
        cpu = ["--device", "cpu"]
        if case == "convert":
            outcome = bench.fprep("convert", "folders", images.parent, out, "--workers", 1, "--max-rejected", 1, "-q")
        elif case == "doctor":
            outcome = bench.fprep("doctor", images.parent)
        elif case == "predict":
            outcome = bench.ftrain("predict", bench.run("category"), images, "--out", out, *cpu)
        elif case == "describe":
            outcome = bench.ftrain("describe", bad, bench.run("category"), "--out", out, *cpu)
        else:
            outcome = bench.ftrain("query", bench.root / "index", bad, "--out", out, "--top", 3, *cpu)
        check(outcome.seconds < _SECONDS, f"{kind}: {outcome.seconds:.0f} s")
        check(outcome.code in (0, USAGE, 3, INTEGRITY), f"{kind}: exit code {outcome.code}: {outcome.err.strip()}")
        check("internal error" not in outcome.err, f"{kind}: {outcome.err.strip()}")
        if case == "convert":
            check(outcome.code == 0, f"{kind}: exit code {outcome.code}: {outcome.err.strip()}")
        if case == "predict" and outcome.code != USAGE:
            answers = (out / "predictions.jsonl").read_text(encoding="utf-8")
            check("good.jpg" in answers, f"{kind}: the good image has no answer")


def _truncated(path: Path, good: bytes, draw: random.Random) -> None:
    path.write_bytes(good[: draw.randrange(1, len(good))])


def _flipped(path: Path, good: bytes, draw: random.Random) -> None:
    content = bytearray(good)
    for _ in range(draw.choice([1, 10, 100])):
        content[draw.randrange(2, len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _garbage(path: Path, good: bytes, draw: random.Random) -> None:
    path.write_bytes(draw.choice([b"", b"\xff\xd8\xff", b"<html>", b"%PDF-1.7", b"GIF89a", draw.randbytes(5000)]))


def _png_bomb(path: Path, good: bytes, draw: random.Random) -> None:
    side = draw.choice([13_000, 30_000, 2**31 - 1])
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1_000_000)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def _many_scans(path: Path, good: bytes, draw: random.Random) -> None:
    """A progressive JPEG with a repeated last scan: small on disk, slow to decode."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((1024, 1024, 3), np.uint8)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")
    path.write_bytes(content[:last] + content[last:-2] * draw.choice([200, 4000]) + b"\xff\xd9")


def _large(path: Path, good: bytes, draw: random.Random) -> None:
    shape = draw.choice([(1, 60_000), (9_000, 9_000), (3, 3)])
    Image.new("L", shape).save(path, "JPEG" if shape[0] != 9_000 else "PNG")


def _animation(path: Path, good: bytes, draw: random.Random) -> None:
    frames = [Image.new("P", (64, 64), color) for color in range(50)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def _odd_mode(path: Path, good: bytes, draw: random.Random) -> None:
    mode, kind = draw.choice(
        [("CMYK", "JPEG"), ("L", "JPEG"), ("LA", "PNG"), ("I;16", "PNG"), ("1", "PNG"), ("RGBA", "WEBP")]
    )
    Image.new(mode, (64, 64)).save(path, kind)


def _exif(path: Path, good: bytes, draw: random.Random) -> None:
    exif = Image.Exif()
    exif[0x0112] = draw.choice([0, 3, 6, 8, 9, 60_000])
    exif[0x010E] = "x" * draw.choice([10, 60_000])
    Image.open(io.BytesIO(good)).save(path, "JPEG", exif=exif)


def _pipe(path: Path, good: bytes, draw: random.Random) -> None:
    os.mkfifo(path)


def _link(path: Path, good: bytes, draw: random.Random) -> None:
    path.symlink_to(draw.choice(["/dev/zero", "/", "nowhere", path.name, "/proc/self/mem"]))


IMAGES: dict[str, Callable[[Path, bytes, random.Random], None]] = {
    "truncated": _truncated, "flipped bits": _flipped, "garbage": _garbage, "PNG bomb": _png_bomb, "many scans": _many_scans,
    "odd size": _large, "animation": _animation, "odd mode": _odd_mode, "odd EXIF": _exif, "pipe": _pipe, "link": _link,
}  # fmt: skip


class _Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.canary),)


_MODEL_COMMANDS = ("predict", "evaluate", "resume", "init-from", "query")


@dataclass(frozen=True)
class HostileModels:
    """Untrusted run folders, weight files and indices."""

    name: str = "hostile-models"
    about: str = "a run, a weight file or an index with a pickle, an absurd header, wrong types, deep JSON, a YAML bomb, links or `../`"
    promise: str = (
        "one-sentence error with exit code 2, 4 or 5; no code is executed, and nothing is written outside the output"
    )

    def cases(self) -> Sequence[str]:
        """Commands that open runs, weights or indices."""
        return _MODEL_COMMANDS

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Plant something in a copy and open it."""
        canary, place, out = folder / "canary", folder / "place", folder / "out"
        cpu = ["--device", "cpu"]
        if case == "init-from":
            kind = draw.choice(list(WEIGHTS))
            WEIGHTS[kind](place, canary, draw)
            outcome = bench.ftrain(*bench.training("category", out), "--init-from", place)
        else:
            source = bench.root / "index" if case == "query" else bench.run("category")
            shutil.copytree(source, place)
            kind, target = draw.choice(list(DOCUMENTS)), _document(place, draw)
            DOCUMENTS[kind](target, canary, draw)
            kind = f"{kind} in {target.relative_to(place)}"
            run, shards = bench.run("retrieval"), bench.shards("deepfashion-inshop")
            arguments: dict[str, Sequence[object]] = {
                "predict": ["predict", place, bench.photo, "--out", out, *cpu],
                "evaluate": [
                    "evaluate",
                    place,
                    bench.shards("deepfashion-category"),
                    "--out",
                    out,
                    "--workers",
                    0,
                    *cpu,
                ],
                "resume": bench.training("category", place, steps=5),
                "query": ["query", place, bench.photo, "--out", out, "--run", run, "--shards", shards, *cpu],
            }
            outcome = bench.ftrain(*arguments[case])
        check(outcome.seconds < _SECONDS, f"{kind}: {outcome.seconds:.0f} s")
        check(not canary.exists(), f"{kind}: code ran")
        check("internal error" not in outcome.err, f"{kind}: {outcome.err.strip()}")
        allowed = (
            (0, USAGE, 3, 4, INTEGRITY)
            if case == "resume" or "training" in kind or "metrics" in kind
            else (USAGE, 4, INTEGRITY)
        )
        check(
            outcome.code in allowed or (outcome.code == 0 and _not_read(kind)),
            f"{kind}: exit code {outcome.code}: {outcome.err.strip()}",
        )
        others = {
            name
            for name in snapshot(folder)
            if not name.startswith(("out/", "place/", "place.superseded", ".", "place"))
        }
        check(not others, f"{kind}: written outside the output: {sorted(others)[:3]}")


_LAST = "step-00000004"
_UNREAD = (
    "receipt.json",
    "metrics.json",
    "training.csv",
    "validation.csv",
    "best.json",
    "LATEST",
    "optimizer",
    "dvclive",
)


def _not_read(kind: str) -> bool:
    """Whether the command does not read the file: notes, and all checkpoints but the last."""
    return any(name in kind for name in _UNREAD) or ("step-" in kind and _LAST not in kind)


def _document(place: Path, draw: random.Random) -> Path:
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    return draw.choice(
        [path for path in files if path.suffix in (".json", ".yaml", ".safetensors", ".npy") or path.name.isupper()]
    )


def _pickled(path: Path, canary: Path, draw: random.Random) -> None:
    path.write_bytes(pickle.dumps(_Payload(canary), draw.choice([0, 2, 4])))


def _zipped_pickle(path: Path, canary: Path, draw: random.Random) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Payload(canary), 2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def _huge_header(path: Path, canary: Path, draw: random.Random) -> None:
    path.write_bytes(struct.pack("<Q", draw.choice([2**63, 2**31, 99_999_999])) + b"{}")


def _lying_header(path: Path, canary: Path, draw: random.Random) -> None:
    header = json.dumps(
        {"weight": {"dtype": "F32", "shape": [draw.choice([2**40, 7]), 4], "data_offsets": [0, 16]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)


def _deep(path: Path, canary: Path, draw: random.Random) -> None:
    path.write_bytes(draw.choice([b"[" * 200_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000]))


def _yaml_bomb(path: Path, canary: Path, draw: random.Random) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join(9 * [f'*a{level - 1}'])}]" for level in range(1, 10)]
    path.write_text("\n".join(lines))


def _yaml_object(path: Path, canary: Path, draw: random.Random) -> None:
    path.write_text(f"!!python/object/apply:os.mkdir ['{canary}']\n")


def _not_utf8(path: Path, canary: Path, draw: random.Random) -> None:
    path.write_bytes(b'{"name": "\xff\xfe"}')


def _other_types(path: Path, canary: Path, draw: random.Random) -> None:
    path.write_text(
        draw.choice(["[]", "null", "7", '"text"', "{}", "NaN", '{"files": [], "digests": 3, "samples": "x"}'])
    )


def _escaping(path: Path, canary: Path, draw: random.Random) -> None:
    path.write_text((path.name.isupper() and "../../pwned") or '{"name": "../../pwned", "key": "/etc/passwd"}')


def _special(path: Path, canary: Path, draw: random.Random) -> None:
    path.unlink(missing_ok=True)
    if draw.random() < 0.5:
        os.mkfifo(path)
    else:
        path.symlink_to(draw.choice(["/dev/zero", "/dev/null", path.name]))


DOCUMENTS: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "a pickle": _pickled, "a huge header": _huge_header, "a lying header": _lying_header, "deep nesting": _deep,
    "a YAML bomb": _yaml_bomb, "a YAML object": _yaml_object, "bytes that are not UTF-8": _not_utf8, "other types": _other_types,
    "a name that leads outside": _escaping, "a pipe, device or loop": _special,
}  # fmt: skip
WEIGHTS = {
    "a pickle": _pickled, "a zipped pickle": _zipped_pickle, "a huge header": _huge_header, "a lying header": _lying_header,
    "deep nesting": _deep, "a pipe, device or loop": _special,
}  # fmt: skip

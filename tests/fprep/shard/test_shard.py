"""`fprep shard`: same bytes for any number of workers, resumable, no stale files, and landmarks on their pixels."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from tests.small_tables import bright_spot, row_of, spot_center, write_rows, write_small_table

from fprep.shard import writing as shard_workers
from fprep.shard.command import shard
from fprep.shard.sample import SampleMaker
from fschemas.failures import EnvironmentProblem, IntegrityError, UsageError
from fschemas.publish import exclusive, sha256_of
from fschemas.shard import Sample, ShardRecord, record_path, write_shard
from fschemas.shard_index import POSITION_COLUMNS
from fschemas.shard_set import DATASET_FILE, ShardSet

COUNTS = {"train": 13, "val": 5, "query": 2, "gallery": 3}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_small_table(tmp_path, COUNTS)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(table: Path, out: Path, **options: Any) -> dict[str, Any]:
    return shard(table, out, **{"shard_samples": 4, "workers": 1, **options})


def test_content(table: Path, tmp_path: Path) -> None:
    summary = run(table, tmp_path / "out")
    shards = ShardSet.open(tmp_path / "out", digests=True)
    assert summary["splits"] == COUNTS
    assert summary["shards"] == 4 + 2 + 1 + 1
    assert summary["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert {name: len(shards.rows(name)) for name in COUNTS} == COUNTS
    assert set(shards.columns) == {*POSITION_COLUMNS, "garment"}
    shards.require(("landmarks", "box", "attributes"))
    originals = {path.read_bytes() for path in (tmp_path / "raw/img").iterdir()}
    orders = set[tuple[str, ...]]()
    for row in range(len(shards)):
        image, annotation = shards.read(row)
        assert image in originals
        assert annotation["key"] == shards.columns["key"][row]
        assert image == (tmp_path / "raw" / annotation["image"]).read_bytes()
        assert all(type(value) is float for value in annotation["landmark_x"] + annotation["box"])
        orders.add(tuple(annotation))
    assert orders == {(
        "key", "split", "group", "width", "height", "image", "copy", "garment", "landmark_x", "landmark_y",
        "landmark_visibility", "box", "attributes_positive", "attributes_unknown",
    )}  # fmt: skip
    shards.close()


def test_coordinates_are_those_of_the_table(tmp_path: Path) -> None:
    content = simplejpeg.encode_jpeg(bright_spot(40, 40, 12, 9))
    values = {
        "landmark_x": [12.3, 7.0] + [0.0] * 6,
        "landmark_y": [1 / 3, 9.0] + [0.0] * 6,
        "landmark_visibility": [2, 1] + [0] * 6,
    }
    run(write_rows(tmp_path, [row_of(tmp_path / "raw", 0, "train", content, (40, 40), **values)]), tmp_path / "out")
    text = (tmp_path / "out/train-000000.tar").read_bytes()
    assert b'"landmark_x":[12.3,7.0,0.0,' in text
    _, annotation = ShardSet.open(tmp_path / "out").read(0)
    assert np.float32(annotation["landmark_y"][0]) == np.float32(1 / 3)


@pytest.mark.parametrize(
    ("options", "samples", "counts"),
    [
        ({"size": 32}, 23, (1, 2)),
        pytest.param({"copies": 1, "augment": "strong"}, 36, (1, 2, 3), marks=pytest.mark.slow),
    ],
)
def test_bytes_do_not_depend_on_workers_or_place(
    table: Path, tmp_path: Path, options: dict[str, Any], samples: int, counts: tuple[int, ...]
) -> None:
    trees: list[dict[str, bytes]] = []
    for workers in counts:
        calls: list[tuple[int, int]] = []
        out = tmp_path / f"out{workers}"
        run(
            table,
            out,
            workers=workers,
            progress=lambda done, total, calls=calls: calls.append((done, total)),
            **options,
        )
        assert calls[-1] == (samples, samples)
        assert calls == sorted(calls)
        trees.append(tree(out))
    assert all(other == trees[0] for other in trees)
    assert not any(str(tmp_path).encode() in content or b"out1" in content for content in trees[0].values())


@pytest.mark.parametrize(
    "lost", ["train-000001.tar", "meta/train-000001.json", DATASET_FILE, "index.parquet", "README.md"]
)
def test_resume_writes_only_what_is_lost(
    table: Path, tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(table, out)
    before = tree(out)
    (out / lost).unlink()
    written: list[str] = []
    monkeypatch.setattr(shard_workers, "write_shard", lambda *args: written.append(args[1]) or write_shard(*args))
    summary = run(table, out)
    assert written == (["train-000001.tar"] if "train" in lost else [])
    assert summary["reused"] == 8 - len(written)
    assert tree(out) == before


def test_rerun_of_a_finished_set_does_nothing(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not run(table, out)["unchanged"]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert run(table, out)["unchanged"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(28, "No space left on device")])
def test_failure_on_the_way_leaves_no_finished_set(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    out = tmp_path / "out"
    run(table, out)
    old = tree(out)
    made: list[str] = []
    make = SampleMaker.__call__

    def failing(maker: SampleMaker, row: dict[str, Any], copy: int = 0) -> Sample:
        made.append(row["key"])
        if len(made) == 11:
            raise error
        return make(maker, row, copy)

    monkeypatch.setattr(SampleMaker, "__call__", failing)
    with pytest.raises(type(error)):
        run(table, out, seed=1)
    assert not (out / DATASET_FILE).exists()
    assert not list(out.rglob(".tmp.*"))
    with pytest.raises(UsageError, match="no finished shard set"):
        ShardSet.open(out)
    monkeypatch.undo()
    assert run(table, out, seed=1)["reused"] == 3  # of 4, 3 and 3 samples
    run(table, tmp_path / "fresh", seed=1)
    assert tree(out) == tree(tmp_path / "fresh")
    assert tree(out)["train-000000.tar"] != old["train-000000.tar"]


def test_old_record_never_vouches_for_a_new_tar(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    run(table, out)

    def killed_after_the_tar(folder: Path, name: str, *rest: Any) -> Any:
        assert not record_path(folder, name).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_workers, "write_shard", killed_after_the_tar)
    with pytest.raises(KeyboardInterrupt):
        run(table, out, seed=1)


def test_changed_options_leave_nothing_stale(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(table, out, shard_samples=2)
    (out / "meta/.tmp.train-000000.json.77").write_bytes(b"half")
    (out / ".tmp.train-000000.tar.77").write_bytes(b"half")
    run(table, out, shard_samples=10, splits=("train",))
    run(table, tmp_path / "fresh", shard_samples=10, splits=("train",))
    assert tree(out) == tree(tmp_path / "fresh")


def test_shards_of_a_split_differ_by_one_sample_at_most(table: Path, tmp_path: Path) -> None:
    run(table, tmp_path / "out", shard_samples=6)
    metadata = json.loads((tmp_path / "out" / DATASET_FILE).read_text())
    assert [entry["samples"] for entry in metadata["shards"] if entry["split"] == "train"] == [5, 4, 4]


def test_seed_and_split_order(table: Path, tmp_path: Path) -> None:
    run(table, tmp_path / "a")
    run(table, tmp_path / "b", seed=1)
    keys = [ShardSet.open(tmp_path / name).columns["key"].tolist() for name in "ab"]
    assert sorted(keys[0]) == sorted(keys[1])
    assert keys[0] != keys[1]
    assert keys[0][:13] != sorted(keys[0][:13])


def test_limit_takes_so_many_rows_a_split(table: Path, tmp_path: Path) -> None:
    assert run(table, tmp_path / "out", limit=3)["splits"] == {"train": 3, "val": 3, "query": 2, "gallery": 3}


def test_dry_run_writes_nothing(table: Path, tmp_path: Path) -> None:
    summary = run(table, tmp_path / "out", dry_run=True)
    assert summary["splits"] == COUNTS
    assert summary["shards"] == 8
    assert not (tmp_path / "out").exists()


def test_copies_only_of_training_images(table: Path, tmp_path: Path) -> None:
    summary = run(table, tmp_path / "out", copies=2, augment="geometric")
    shards = ShardSet.open(tmp_path / "out")
    assert summary["splits"] == {**COUNTS, "train": 39}
    copies, keys = shards.columns["copy"], shards.columns["key"]
    assert set(shards.columns["split"][copies > 0]) == {"train"}
    assert sorted(key for key in keys if key.startswith("k0003")) == ["k0003", "k0003-a1", "k0003-a2"]
    images = {shards.read(row)[0] for row in range(len(shards))}
    assert len(images) == len(shards)
    for row in np.flatnonzero(copies > 0):
        image, annotation = shards.read(int(row))
        assert simplejpeg.decode_jpeg_header(image)[:2] == (annotation["height"], annotation["width"])
        assert annotation["copy"] == int(keys[row][-1])


@pytest.mark.parametrize(("width", "height"), [(160, 96), (161, 97), (400, 320), (97, 161)])
def test_size_moves_points_with_the_pixels(tmp_path: Path, width: int, height: int) -> None:
    x, y = width * 0.3, height * 0.6
    pixels = bright_spot(width, height, x, y, radius=width / 30)
    row = row_of(
        tmp_path / "raw", 0, "train", simplejpeg.encode_jpeg(pixels, 98), (width, height),
        landmark_x=[x] + [0.0] * 7, landmark_y=[y] + [0.0] * 7, landmark_visibility=[2] + [0] * 7, box=[-1.0, 0.0, width, y],
    )  # fmt: skip
    run(write_rows(tmp_path, [row]), tmp_path / "out", size=40)
    image, annotation = ShardSet.open(tmp_path / "out").read(0)
    small = simplejpeg.decode_jpeg(image)
    assert small.shape[1::-1] == (annotation["width"], annotation["height"])
    assert max(small.shape) == 40
    found = (annotation["landmark_x"][0], annotation["landmark_y"][0])
    assert found == pytest.approx(spot_center(small), abs=0.03)
    assert found == pytest.approx(
        ((x + 0.5) * small.shape[1] / width - 0.5, (y + 0.5) * small.shape[0] / height - 0.5), abs=1e-4
    )
    assert annotation["landmark_x"][1:] == [0.0] * 7
    assert annotation["box"][2] == pytest.approx((width + 0.5) * small.shape[1] / width - 0.5, abs=1e-4)


def test_size_never_enlarges(table: Path, tmp_path: Path) -> None:
    run(table, tmp_path / "a", size=500)
    run(table, tmp_path / "b")
    assert tree(tmp_path / "a")["train-000000.tar"] == tree(tmp_path / "b")["train-000000.tar"]


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _other_format(name: str) -> tuple[bytes, dict[str, Any], tuple[int, int, int]]:
    """Content, metadata and the expected color of the left half in the shard (the right half is white)."""
    plain = Image.new("RGB", (48, 32), (255, 255, 255))
    plain.paste((200, 30, 30), (0, 0, 24, 32))
    clear = plain.convert("RGBA")
    clear.paste((9, 9, 9, 0), (24, 0, 48, 32))
    grey16 = Image.fromarray(np.hstack([np.full((32, 24), 100 * 257, np.uint16), np.full((32, 24), 65535, np.uint16)]))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    red, grey = (200, 30, 30), (100, 100, 100)
    return {
        "png": (_encoded(plain, "PNG"), {"image_format": "PNG"}, red),
        "webp": (_encoded(plain, "WEBP", lossless=True), {"image_format": "WEBP"}, red),
        "bmp": (_encoded(plain, "BMP"), {"image_format": "BMP"}, red),
        "gif": (_encoded(plain.quantize(8), "GIF"), {"image_format": "GIF", "image_mode": "P"}, red),
        "transparent": (_encoded(clear, "PNG"), {"image_format": "PNG", "image_mode": "RGBA"}, red),
        "16 bit": (_encoded(grey16, "PNG"), {"image_format": "PNG", "image_mode": "I;16"}, grey),
        "cmyk": (_encoded(plain.convert("CMYK"), "JPEG", quality=98), {"image_mode": "CMYK"}, red),
        "turned": (_encoded(turned, "JPEG", quality=98, exif=exif), {"image_orientation": 6}, red),
    }[name]


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", ["png", "webp", "bmp", "gif", "transparent", "16 bit", "cmyk", "turned"])
def test_other_formats_become_upright_rgb_jpegs(tmp_path: Path, name: str, checked: bool) -> None:
    content, facts, color = _other_format(name)
    rows = [row_of(tmp_path / "raw", 0, "train", content, (48, 32), **facts)]
    run(write_rows(tmp_path, rows, checked=checked), tmp_path / "out")
    image, annotation = ShardSet.open(tmp_path / "out").read(0)
    pixels = np.asarray(Image.open(io.BytesIO(image)))
    assert pixels.shape == (32, 48, 3)
    assert (annotation["width"], annotation["height"]) == (48, 32)
    assert np.abs(pixels[:, 2:20].astype(int) - color).max() <= 6
    assert np.abs(pixels[:, 28:46].astype(int) - 255).max() <= 6
    assert Image.open(io.BytesIO(image)).getexif().get(0x0112, 1) == 1


def test_unchecked_rows_keep_original_bytes(tmp_path: Path) -> None:
    run(write_small_table(tmp_path / "a", {"train": 5}, checked=False), tmp_path / "out")
    shards = ShardSet.open(tmp_path / "out")
    for row in range(5):
        image, annotation = shards.read(row)
        assert image == (tmp_path / "a/raw" / annotation["image"]).read_bytes()
        assert annotation["width"] >= 40


@pytest.mark.parametrize(
    ("checked", "damage", "message"),
    [
        (
            True,
            lambda path: path.write_bytes(path.read_bytes() + b"x"),
            "changed since convert.*run `fprep convert` again",
        ),
        (True, lambda path: path.unlink(), "the image is missing.*run `fprep convert` again"),
        (False, lambda path: path.write_bytes(path.read_bytes()[:200]), "truncated|cut|missing"),
        (False, lambda path: path.write_bytes(b"<html>"), "not a JPEG"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_wrong_images_are_named(tmp_path: Path, checked: bool, damage: Any, message: str, workers: int) -> None:
    table = write_small_table(tmp_path, {"train": 6}, checked=checked)
    damage(tmp_path / "raw/img/0004.jpg")
    with pytest.raises(IntegrityError, match=message) as caught:
        run(table, tmp_path / "out", workers=workers)
    assert "0004.jpg" in str(caught.value)
    assert not (tmp_path / "out" / DATASET_FILE).exists()


def test_point_outside_an_unchecked_image(tmp_path: Path) -> None:
    content = simplejpeg.encode_jpeg(bright_spot(40, 40, 12, 9))
    values = {"landmark_x": [300.0] * 8, "landmark_visibility": [2] * 8}
    rows = [row_of(tmp_path / "raw", 0, "train", content, (400, 400), **values, box=[1.0, 1.0, 9.0, 9.0])]
    with pytest.raises(IntegrityError, match=r"list.txt:1: a landmark or box lies outside img/0000.jpg \(40 x 40\)"):
        run(write_rows(tmp_path, rows, checked=False), tmp_path / "out")


class _DyingWriter(shard_workers._ShardWriter):
    def __call__(self, task: Any) -> Any:
        os._exit(9)


def test_dead_worker_names_its_shard(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_workers, "_ShardWriter", _DyingWriter)
    with pytest.raises(EnvironmentProblem, match=r"train-00000\d.tar"):
        run(table, tmp_path / "out", workers=2)
    assert not (tmp_path / "out" / DATASET_FILE).exists()


def _running(group: int) -> list[str]:
    """Processes of a process group, without zombies."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group, *_ = path.read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if int(process_group) == group and state != "Z":
            found.append(path.parent.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_kill_leaves_whole_shards_and_no_set(tmp_path: Path) -> None:
    table, out = write_small_table(tmp_path, {"train": 300}), tmp_path / "out"
    script = "import sys; from pathlib import Path; from fprep.shard.command import shard; "
    script += "shard(Path(sys.argv[1]), Path(sys.argv[2]), shard_samples=4, workers=2)"
    process = subprocess.Popen([sys.executable, "-c", script, str(table), str(out)], start_new_session=True)
    while len(list(out.glob("meta/*.json"))) < 5:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while _running(process.pid):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)
    assert not (out / DATASET_FILE).exists()
    for path in out.glob("meta/train-*.json"):
        record = ShardRecord.from_json(json.loads(path.read_bytes()))
        assert sha256_of(out / record.name) == record.sha256
    num_finished = len(list(out.glob("meta/train-*.json")))
    assert run(table, out)["reused"] == num_finished
    run(table, tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


def test_second_writer_is_refused(table: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "out"), pytest.raises(EnvironmentProblem, match="is writing here"):
        run(table, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": 1}, "--copies needs a recipe"),
        ({"augment": "lite"}, "unknown recipe .lite."),
        ({"copies": 1, "augment": "lite"}, "unknown recipe .lite."),
        ({"splits": ("test",)}, "no rows in test; the splits with rows are train, val"),
        ({"size": 4}, "--size is 4"),
        ({"quality": 101}, "--quality is 101"),
        ({"shard_samples": 0}, "--shard-samples is 0"),
        ({"images": Path("/nowhere")}, "--images"),
    ],
)
def test_wrong_options(table: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(table, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_missing_table_and_foreign_output(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such table"):
        run(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("my notes")
    with pytest.raises(UsageError, match="a folder with other things"):
        run(table, tmp_path / "mine")
    assert (tmp_path / "mine/README.md").read_text() == "my notes"


@pytest.mark.parametrize(("key", "message"), [("k0000-a1", "occurs twice"), ("x" * 93, "longer than 94")])
def test_keys_that_clash(tmp_path: Path, key: str, message: str) -> None:
    content = simplejpeg.encode_jpeg(bright_spot(40, 40, 12, 9))
    rows = [row_of(tmp_path / "raw", number, "train", content, (40, 40)) for number in range(2)]
    rows[1]["key"] = key
    with pytest.raises(UsageError, match=message):
        run(write_rows(tmp_path, rows), tmp_path / "out", copies=1, augment="light")


def test_longest_key_fits_a_header(tmp_path: Path) -> None:
    content = simplejpeg.encode_jpeg(bright_spot(40, 40, 12, 9))
    row = row_of(tmp_path / "raw", 0, "train", content, (40, 40), key="x" * 94)
    run(write_rows(tmp_path, [row]), tmp_path / "out")
    assert ShardSet.open(tmp_path / "out").read(0)[1]["key"] == "x" * 94

"""Command-line errors for wrong arguments, files and paths: one message, the right exit code, no traceback."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.harness import Forge, leftovers, skip_without_root
from tests.faults.jobs import snapshot
from tests.small_tables import write_small_table
from tests.trees import TREES

from fschemas.publish import exclusive
from fschemas.table_file import read_table

NOBODY = 65534
TRAIN = "fashionAI_key_points_train_20180227"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("table"), {"train": 4, "val": 2})


def sentence(err: str) -> str:
    """The single message on stderr."""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith(("fprep: ", "ftrain: "))
    return lines[0]


@pytest.mark.parametrize(("arguments", "words"), [
    (["convert", "fashionai-keypoint", "TREES", "OUT"], "unknown reader 'fashionai-keypoint'; did you mean fashionai-keypoints?"),
    (["sample", "fashionai-keypoint", "OUT"], "no synthetic data for 'fashionai-keypoint'; did you mean fashionai-keypoints?"),
    (["shard", "TABLE", "OUT", "--copies", 1, "--augment", "ligth"], "unknown recipe 'ligth'; did you mean light?"),
    (["shard", "TABLE", "OUT", "--copies", 1, "--augment", "no.yaml"], "no.yaml: no such recipe file"),
    (["shard", "TABLE", "OUT", "--copies", 1], "--copies needs a recipe; choose one"),
    (["shard", "TABLE", "OUT", "--size", 3], "--size is 3, but must be 8 to 16384"),
    (["shard", "TABLE", "OUT", "--images", "nowhere"], "nowhere: no such folder"),
    (["shard", "nowhere", "OUT"], "nowhere: no such table; write it with `fprep convert`"),
    (["convert", "deepfashion-fine", "nowhere", "OUT"], "nowhere: no such file or folder"),
    (["convert", "deepfashion-fine", "TREES"], "convert needs at least one raw folder and the folder to write"),
    (["convert", "fashionai-keypoints", "TREES", "OUT"], "deepfashion_fine: no"),
    (["convert", "deepfashion-fine", "TREES", "OUT", "--val-share", 0.6, "--test-share", 0.6], "leave some rows"),
    (["convert", "deepfashion-fine", "TREES", "FILE"], "file: this is a file"),
    (["convert", "deepfashion-fine", "TREES", "FILE/below"], "file/below: a part of the path is a file, not a folder"),
    (["shard", "TABLE", "FILE"], "file: this is a file"),
    (["shard", "TABLE", "FILE/below"], "file/below: a part of the path is a file, not a folder"),
    (["shard", "TABLE", "TREES"], "deepfashion_fine: this is a folder with other things"),
    (["lint", "nowhere"], "nowhere: no finished shard set here (dataset.json is missing)"),
])  # fmt: skip
def test_usage(forge: Forge, table: Path, tmp_path: Path, arguments: list[object], words: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    places = {"TREES": TREES / "deepfashion_fine", "OUT": tmp_path / "out", "TABLE": table, "FILE": tmp_path / "file"}
    places["FILE/below"] = tmp_path / "file/below"
    outcome = forge.cli(*(places.get(str(argument), argument) for argument in arguments))
    assert outcome.code == 2, outcome.err
    assert words in sentence(outcome.err)
    assert [name for name in snapshot(tmp_path) if not name.endswith(".lock")] == ["file"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["shard", "a", "b", "--shard-sample", 3], "--shard-samples"),
    (["shrd", "a", "b"], "Did you mean 'shard'"),
    (["convert", "x", "a", "b", "--check-images", "ful"], "'header', 'full', 'none'"),
    (["shard", "a", "b", "--workers", "two"], "valid integer"),
])  # fmt: skip
def test_usage_that_the_parser_sees(forge: Forge, arguments: list[object], words: str) -> None:
    outcome = forge.cli(*arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert len(outcome.err.splitlines()) <= 6


def test_bad_rows_and_images(forge: Forge, tmp_path: Path) -> None:
    """Exit code 3; good rows are converted, and rejected.parquet lists all others with location and reason."""
    shutil.copytree(TREES / "fashionai_keypoints", tmp_path / "raw")
    images = tmp_path / "raw" / TRAIN / "Images"
    annotation = tmp_path / "raw" / TRAIN / "Annotations/train.csv"
    header, *rows = annotation.read_text().splitlines()
    good = [row for row in rows if (images.parent / row.split(",")[0]).is_file()][:5]
    kept = forge.cli("convert", "fashionai-keypoints", tmp_path / "raw", tmp_path / "before", "--max-rejected", 1)
    assert kept.code == 0
    names = [row.split(",")[0].removeprefix("Images/") for row in good]
    (images / names[0]).unlink()
    (images / names[1]).write_bytes((images / names[1]).read_bytes()[:-200])
    (images / names[2]).write_bytes(b"")
    good[3] = good[3].replace(",skirt,", ",shirt,", 1) if ",skirt," in good[3] else good[3].replace(",", ",x", 1)
    first = next(cell for cell in good[4].split(",")[2:] if not cell.startswith("-1"))
    good[4] = good[4].replace(first, f"9{first}", 1)
    wrong = good[4].rsplit(",", 1)[0].replace("Images/", "Images/x", 1)
    annotation.write_text("\n".join([header, *good, wrong]) + "\n")
    outcome = forge.cli("convert", "fashionai-keypoints", tmp_path / "raw", tmp_path / "out", "--quiet")
    assert outcome.code == 3, outcome.err
    assert "6 of" in sentence(outcome.err)
    rejected = read_table(tmp_path / "out/rejected.parquet").to_pylist()
    found = {row["source_line"]: row["rule"] for row in rejected if row["source_file"].endswith("train.csv")}
    assert found == {
        2: "missing_image", 3: "truncated_image", 4: "zero_byte_image", 5: "unknown_category", 6: "point_outside",
        7: "wrong_columns",
    }  # fmt: skip
    assert all(row["message"] and row["raw"] for row in rejected)
    assert read_table(tmp_path / "out/table.parquet").num_rows > 0


@pytest.mark.parametrize(("content", "words"), [
    (b"a,b,c\n1,2,3\n", "train.csv:1: column 1 of the header is 'a', expected 'image_id'"),
    (b"", "train.csv: the file is empty"),
    ("image_id".encode("utf-16"), "train.csv: UTF-16 or binary"),
])  # fmt: skip
def test_file_of_another_shape(forge: Forge, tmp_path: Path, content: bytes, words: str) -> None:
    annotation = tmp_path / "raw" / TRAIN / "Annotations/train.csv"
    annotation.parent.mkdir(parents=True)
    annotation.write_bytes(content)
    outcome = forge.cli("convert", "fashionai-keypoints", tmp_path / "raw", tmp_path / "out", "--check-images", "none")
    assert outcome.code == 2
    assert words in sentence(outcome.err)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def flip(path: Path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(("damage", "words"), [
    (lambda out: flip(out / "train-000000.tar", 700), "train-000000.tar"),
    (lambda out: flip(out / "index.parquet", 100), "index.parquet: SHA-256 differs"),
    (lambda out: (out / "val-000000.tar").unlink(), "val-000000.tar: missing"),
    (lambda out: (out / "dataset.json").write_text("{"), "dataset.json: not readable"),
])  # fmt: skip
def test_damaged_shard_set(
    forge: Forge, table: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    assert forge.run("shard", table=str(table), out=str(tmp_path / "out")).error is None
    assert forge.cli("lint", tmp_path / "out", "--no-loaders").code == 0
    damage(tmp_path / "out")
    outcome = forge.cli("lint", tmp_path / "out", "--no-loaders", "-q")
    assert outcome.code == 5
    assert words in outcome.out + sentence(outcome.err)


def test_damaged_table(forge: Forge, tmp_path: Path) -> None:
    """Bits flipped anywhere, including names and metadata, which have no checksum in Parquet, and truncation."""
    assert forge.cli(*_arguments("convert", TREES / "deepfashion_fine", Path(), tmp_path / "made")).code == 0
    table = tmp_path / "made/table.parquet"
    sound = table.read_bytes()
    shard = (
        "shard",
        tmp_path / "made",
        tmp_path / "out",
        "--workers",
        1,
        "--images",
        TREES / "deepfashion_fine",
        "--quiet",
    )
    for where in (0, len(sound) // 3, len(sound) - 3000, len(sound) - 200, len(sound) - 1):
        flip(table, where)
        outcome = forge.cli(*shard)
        table.write_bytes(sound)
        assert outcome.code == 5, f"bit flipped at byte {where}"
        assert f"{table}: not the table of the report.json next to it" in sentence(outcome.err)
    table.write_bytes(sound[:-1])
    assert forge.cli(*shard).code == 5
    table.write_bytes(sound)
    assert not (tmp_path / "out").exists()
    assert forge.cli(*shard, "--dry-run").code == 0


@pytest.mark.parametrize("content", [b"x", b"", b"PAR1" * 20])
def test_table_that_is_none(forge: Forge, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.parquet").write_bytes(content)
    outcome = forge.cli("shard", tmp_path, tmp_path / "out")
    assert outcome.code == 5
    assert "not a readable Parquet table" in sentence(outcome.err)


@pytest.mark.parametrize("command", ["convert", "shard"])
def test_lock_held(forge: Forge, table: Path, tmp_path: Path, command: str) -> None:
    with exclusive(tmp_path / "out"):
        outcome = forge.cli(*_arguments(command, TREES / "deepfashion_fine", table, tmp_path / "out"))
    assert outcome.code == 4
    assert f"{tmp_path / 'out'}: process {os.getpid()} on " in sentence(outcome.err)
    assert outcome.seconds < 10
    assert not list((tmp_path / "out").iterdir())
    assert forge.cli(*_arguments(command, TREES / "deepfashion_fine", table, tmp_path / "out")).code == 0


def _arguments(command: str, raw: Path, table: Path, out: Path) -> list[object]:
    if command == "shard":
        return ["shard", table, out, "--workers", 1, "--shard-samples", 1, "--quiet"]
    return ["convert", "deepfashion-fine", raw, out, "--check-images", "none", "--max-rejected", 1, "--quiet"]


@pytest.fixture
def open_folder(table: Path) -> Iterator[Path]:
    """A world-readable folder with a raw tree and a table; pytest's own is closed to other users."""
    skip_without_root()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(table.parents[1], folder / "made")
        (folder / "made").chmod(0o755)
        shutil.copytree(TREES / "deepfashion_fine", folder / "raw")
        yield folder


@pytest.mark.parametrize("command", ["convert", "shard"])
@pytest.mark.parametrize("place", ["out", "new", "shared/finished"])
def test_not_writable(forge: Forge, open_folder: Path, command: str, place: str) -> None:
    (open_folder / "out").mkdir()
    (open_folder / "shared").mkdir()
    os.chown(open_folder / "shared", NOBODY, NOBODY)  # so that only the folder below is closed
    table = open_folder / "made/table/table.parquet"
    if place == "shared/finished":
        assert forge.cli(*_arguments(command, open_folder / "raw", table, open_folder / place)).code == 0
        (open_folder / "shared/.finished.lock").unlink()
    before = snapshot(open_folder)
    outcome = forge.cli(*_arguments(command, open_folder / "raw", table, open_folder / place), uid=NOBODY)
    if command == "shard" and place == "shared/finished":
        assert outcome.code in (0, 4)  # nothing needs to be written
    else:
        assert outcome.code == 4
    if outcome.code:
        assert str(open_folder / place) in sentence(outcome.err)
    after = snapshot(open_folder)
    assert {name: after[name] for name in before} == before
    assert leftovers(open_folder) == []


@pytest.mark.parametrize("command", ["convert", "shard"])
def test_folder_of_ours_in_a_parent_of_others(forge: Forge, open_folder: Path, command: str) -> None:
    """A volume in a container: no lock next to the folder, but one writer only."""
    out = open_folder / "out"
    out.mkdir()
    os.chown(out, NOBODY, NOBODY)
    arguments = _arguments(command, open_folder / "raw", open_folder / "made/table/table.parquet", out)
    descriptor = os.open(out, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    held = forge.cli(*arguments, uid=NOBODY)
    os.close(descriptor)
    assert held.code == 4
    assert "another process is writing here" in sentence(held.err)
    assert forge.cli(*arguments, uid=NOBODY).code == 0


def test_unreadable_input(forge: Forge, open_folder: Path) -> None:
    (open_folder / "out").mkdir()
    os.chown(open_folder / "out", NOBODY, NOBODY)
    (open_folder / "raw/split/train.txt").chmod(0)
    arguments = _arguments("convert", open_folder / "raw", Path(), open_folder / "out")
    outcome = forge.cli(*arguments, uid=NOBODY)
    assert outcome.code == 4
    assert "raw/split/train.txt: permission denied" in sentence(outcome.err)


@pytest.mark.parametrize(("target", "code"), [("/dev/full", 4), ("closed pipe", 141)])
def test_output_that_nobody_takes(target: str, code: int) -> None:
    """The real console script: `fprep readers > /dev/full` and `fprep readers | true`."""
    script = Path(sys.executable).with_name("fprep")
    read, write = os.pipe()
    os.close(read)
    descriptor = os.open(target, os.O_WRONLY) if target == "/dev/full" else write
    done = subprocess.run([script, "readers"], stdout=descriptor, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    if descriptor != write:
        os.close(descriptor)
    assert done.returncode == code, done.stderr
    assert done.stderr == (
        "" if code == 141 else "fprep: the disk is full; free some space and run the command again\n"
    )


def test_closed_terminal(tmp_path: Path, table: Path) -> None:
    """A closed progress stream does not end unfinished work with exit code 0."""
    script = Path(sys.executable).with_name("fprep")
    arguments = [script, "shard", table, tmp_path / "out", "--workers", "1", "--shard-samples", "1"]
    read, write = os.pipe()
    process = subprocess.Popen(arguments, stdout=write, stderr=write)
    os.close(write)
    os.close(read)
    code = process.wait(120)
    assert code == 141
    assert leftovers(tmp_path) == []


def test_early_signal(table: Path, tmp_path: Path) -> None:
    """The real console script, interrupted during start-up: default or handled exit, and nothing published."""
    script = Path(sys.executable).with_name("fprep")
    process = subprocess.Popen([script, "shard", table, tmp_path / "out"], stderr=subprocess.PIPE, text=True)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (143, -signal.SIGTERM)
    assert "Traceback" not in err
    assert not (tmp_path / "out/dataset.json").exists()

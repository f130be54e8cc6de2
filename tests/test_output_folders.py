"""No command writes into an unrelated folder: all commands over all kinds of folders, and the name of each kind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from tests.shard_sets import write_shard_set
from tests.small_tables import write_small_table
from typer.testing import CliRunner

import fprep.cli
import ftrain.cli
from fprep.doctor.command import doctor
from fschemas.failures import ExitCode, explain
from fschemas.folder_kinds import kind_of_folder, what_is
from fschemas.folders import claim_output
from fschemas.publish import exclusive
from fschemas.shard_set import ShardSet
from fschemas.table_file import write_table
from ftrain.tasks import task_names

OUT = "OUT"
# Arguments of every command that writes a folder, and the kinds of folders that it accepts besides an empty one.
FOLDER_COMMANDS = {
    "sample": (["fprep", "sample", "fashionai-keypoints", OUT, "--num-images", "4"], ()),
    "convert": (["fprep", "convert", "folders", "RAW", OUT, "-q"], ("table", "audit")),
    "shard": (["fprep", "shard", "TABLE", OUT, "-q"], ("shards",)),
    "audit": (["fprep", "audit", "TABLE", "--out", OUT, "-q"], ("table", "audit")),
    "fprep export": (["fprep", "export", "TABLE", OUT, "--to", "coco", "-q"], ()),
    **{name: (["ftrain", name, "SHARDS", "--run", OUT], ("run",)) for name in ("category", "fashionnet", "keypoints", "retrieval", "style")},
    "evaluate": (["ftrain", "evaluate", "RUN", "SHARDS", "--out", OUT], ("evaluation",)),
    "predict": (["ftrain", "predict", "RUN", "PHOTO", "--out", OUT], ("predictions",)),
    "predict shards": (["ftrain", "predict", "RUN", "SHARDS", "--out", OUT], ("predictions",)),
    "describe": (["ftrain", "describe", "PHOTO", "RUN", "--out", OUT], ("description",)),
    "index": (["ftrain", "index", "RUN", "SHARDS", OUT], ("index",)),
    "query": (["ftrain", "query", "INDEX", "PHOTO", "--out", OUT], ("query",)),
    "join": (["ftrain", "join", "SHARDS", "RUN", "--run", OUT], ("run",)),
    "compare": (["ftrain", "compare", "RUN", "RUN", "--out", OUT], ("comparison",)),
    "ftrain export": (["ftrain", "export", "RUN", OUT, "--to", "torch-export"], ("model",)),
}  # fmt: skip
FILE_COMMANDS = {"report": ["fprep", "report", "TABLE", OUT, "-q"], "submit": ["ftrain", "submit", "RUN", "TEST", OUT]}
# Typical files of each kind.
MARKS: dict[str, dict[str, object]] = {
    "run": {"config.yaml": "task: category\n", "dataset.json": {"format": "fashionkit-shards/1"}, "checkpoints/step-00000001/state.json": {}},
    "shards": {"dataset.json": {"format": "fashionkit-shards/1"}, "index.parquet": "", "train-000000.tar": "", "meta/train-000000.json": {}},
    "table": {"table.parquet": lambda: pa.table({"key": ["a"]}), "report.json": {"reader": "csv", "rejected_by_rule": {}}},
    "audit": {"audit.parquet": lambda: pa.table({"kind": ["leak"]}), "audit.txt": "fine"},
    "index": {"index.json": {"format": "fashionkit-index/2"}, "features.npy": ""},
    "evaluation": {"summary.txt": "category at step 12: 3 samples of test of x\n", "metrics.json": {"samples": 3}},
    "predictions": {"predictions.jsonl": {"image": "a.jpg"}, "overlays/a.jpg": ""},
    "query": {"results.jsonl": {"image": "a.jpg"}, "sheets/a.png": ""},
    "description": {"description.json": {"image": "a.jpg", "answers": []}},
    "comparison": {"comparison.json": {"runs": [], "metrics": []}, "comparison.csv": "what\n"},
    "model": {"export.json": {"format": "fashionkit-export/1", "kind": "onnx"}, "model.onnx": ""},
    "export": {"export.json": {"export": "fashionkit-export/1", "to": "coco"}, "annotations/train.json": {}},
    "sample": {"SYNTHETIC.txt": "Synthetic garments, rendered by `fprep sample`.", "list.txt": ""},
    "raw data": {"Anno_coarse/list_category_img.txt": "2\n", "img/a.jpg": ""},
    "images": {"a.jpg": "", "b.PNG": ""},
    "hidden": {".secret": "x"},
    "one's own": {"thesis.doc": "years of work", "plots/figure.png": ""},
}  # fmt: skip
WORDS = {
    "run": "a run folder", "shards": "a shard set", "table": "a table folder", "audit": "an audit", "index": "a search index",
    "evaluation": "an evaluation", "predictions": "a folder of predictions", "query": "a folder of search results",
    "description": "a description of an image", "comparison": "a comparison of runs", "model": "an exported model", "export": "an exported data set",
    "sample": "sample data of `fprep sample`", "raw data": "raw data of deepfashion-category", "images": "a folder of images (2)",
    "hidden": "a folder with other things ('.secret')", "one's own": "a folder with other things ('plots' and 1 more)",
}  # fmt: skip


def write_folder(folder: Path, kind: str) -> Path:
    for name, content in MARKS[kind].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            write_table(path, content())
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def snapshot(folder: Path) -> dict[str, object]:
    """Everything below a folder: content and time of files, targets of links."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (
            status.st_mode,
            status.st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
    return found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Valid inputs, as far as commands check them before their output."""
    home = tmp_path_factory.mktemp("inputs")
    (home / "raw/dress").mkdir(parents=True)
    (home / "raw/dress/a.jpg").write_bytes(simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8)))
    (home / "test.csv").write_text("image_id,image_category\n")
    return {
        "RAW": home / "raw", "TABLE": write_small_table(home, {"train": 2}), "SHARDS": write_shard_set(home / "set", {"train": 4}),
        "RUN": write_folder(home / "run", "run"), "INDEX": write_folder(home / "index", "index"),
        "PHOTO": home / "raw/dress/a.jpg", "TEST": home / "test.csv",
    }  # fmt: skip


def call(arguments: list[str], places: dict[str, Path], out: Path) -> tuple[int, str]:
    """Exit code and message of a command, run in this process."""
    program, *rest = arguments
    app = {"fprep": fprep.cli.app, "ftrain": ftrain.cli.app}[program]
    result = CliRunner().invoke(app, [str({**places, OUT: out}.get(word, word)) for word in rest])
    told = explain(result.exception) if result.exception else None
    return (int(told[0]), told[1]) if told else (result.exit_code, f"{result.output} {result.exception!r}")


@pytest.mark.parametrize("kind", MARKS)
def test_kinds_are_known(tmp_path, kind):
    folder = write_folder(tmp_path / "folder", kind)
    assert what_is(folder) == WORDS[kind]
    found = kind_of_folder(folder)
    assert (found.name if found else None) == (kind if kind in list(MARKS)[:13] else None)


TASKS_BUT_ONE = set(task_names()) - {"category"}


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, marks=[pytest.mark.slow] * (command in TASKS_BUT_ONE)) for command in FOLDER_COMMANDS],
)
def test_a_folder_of_anything_else_stays_as_it_is(tmp_path, places, command):
    arguments, own = FOLDER_COMMANDS[command]
    for kind in MARKS:
        if kind in own or (kind, command) in (("export", "fprep export"), ("sample", "sample")):
            continue
        folder = write_folder(tmp_path / kind / "folder", kind)
        before = snapshot(tmp_path)
        code, words = call(arguments, places, folder)
        assert code == ExitCode.USAGE, (kind, words)
        assert f"{folder}: this is {WORDS[kind]}, which " in words
        assert words.endswith("would be mixed with; choose another output folder")
        assert snapshot(tmp_path) == before, kind


@pytest.mark.parametrize("command", FILE_COMMANDS)
def test_a_file_of_anything_else_stays_as_it_is(tmp_path, places, command):
    for kind in MARKS:
        folder = write_folder(tmp_path / kind / "folder", kind)
        before = snapshot(tmp_path)
        for place in (folder, *(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)):
            code, words = call(FILE_COMMANDS[command], places, place)
            assert code == ExitCode.USAGE, (place, words)
            assert str(place) in words
        assert snapshot(tmp_path) == before, kind


@pytest.mark.parametrize("command", [*FOLDER_COMMANDS, *FILE_COMMANDS])
@pytest.mark.parametrize("kind", ["shards", "index", "model", "export"])
def test_nothing_is_written_inside_of_a_closed_folder(tmp_path, places, command, kind):
    arguments = FILE_COMMANDS[command] if command in FILE_COMMANDS else FOLDER_COMMANDS[command][0]
    folder = write_folder(tmp_path / "folder", kind)
    before = snapshot(tmp_path)
    code, words = call(arguments, places, folder / "deep/down")
    assert code == ExitCode.USAGE, words
    assert f"is inside {folder}, which is {WORDS[kind]}" in words
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("command", [*FOLDER_COMMANDS, *FILE_COMMANDS])
def test_a_link_that_leads_nowhere_is_refused(tmp_path, places, command):
    arguments = FILE_COMMANDS[command] if command in FILE_COMMANDS else FOLDER_COMMANDS[command][0]
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    before = snapshot(tmp_path)
    for name in ("link", "link/below", "loop"):
        code, words = call(arguments, places, tmp_path / name)
        assert code == ExitCode.USAGE, words
        assert f"{tmp_path / name.split('/')[0]}: a link to " in words
        assert "which does not exist; make that folder, or choose another output" in words
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("command", ["convert", "shard", "audit", "fprep export", "sample"])
def test_a_link_to_a_folder_is_that_folder(tmp_path, places, command):
    (tmp_path / "disk/real").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/real")
    for _ in range(2 if command != "sample" else 1):
        code, words = call(FOLDER_COMMANDS[command][0], places, tmp_path / "link")
        assert code == 0, words
    assert (tmp_path / "link").is_symlink()
    assert kind_of_folder(tmp_path / "disk/real") is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


@pytest.mark.parametrize("kind", list(MARKS)[:12])
def test_its_own_kind_leftovers_and_what_systems_leave_are_taken(tmp_path, kind):
    assert claim_output(tmp_path / "missing", kind) == tmp_path / "missing"
    assert claim_output(write_folder(tmp_path / "own", kind), kind) == tmp_path / "own"
    (tmp_path / "own/notes.txt").write_text("what I saw")  # user file, next to fashionkit's
    assert claim_output(tmp_path / "own", kind) == tmp_path / "own"
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in (".gitignore", ".DS_Store", "._x", "Thumbs.db", ".tmp.index.json.1234", ".below.lock"):
        (begun / name).write_text("")
    assert claim_output(begun, kind) == begun
    assert claim_output(Path(os.path.relpath(begun)), kind) == Path(os.path.relpath(begun))


def test_what_an_interrupted_command_left_is_its_own(tmp_path):
    """Before the kind of a folder can be recognized, the lock next to it shows that the command created it."""
    folder = tmp_path / "out"
    with exclusive(folder):
        (folder / "plots").mkdir()
        (folder / "plots/points.csv").write_text("point,ne\n")
    assert claim_output(folder, "evaluation") == folder
    shutil.rmtree(folder / "plots")
    (folder / "overlays").mkdir()
    assert claim_output(folder, "predictions") == folder
    with pytest.raises(ValueError, match="which an evaluation would be mixed with"):
        claim_output(folder, "evaluation")


@pytest.mark.parametrize(("arguments", "words"), [
    (["ftrain", "category", "RUN", "--run", OUT], "RUN: this is a run folder, but a shard set is needed here; perhaps the arguments are swapped"),
    (["ftrain", "evaluate", "SHARDS", "RUN", "--out", OUT], "SHARDS: this is a shard set, but a run folder is needed here; perhaps the arguments"),
    (["ftrain", "evaluate", "SHARDS", "SHARDS", "--out", OUT], "SHARDS: this is a shard set, but a run folder is needed here"),
    (["ftrain", "evaluate", "TABLE", "SHARDS", "--out", OUT], "TABLE: this is a table folder, but a run folder is needed here"),
    (["ftrain", "predict", "SHARDS", "PHOTO", "--out", OUT], "SHARDS: this is a shard set, but a run folder"),
    (["ftrain", "predict", "RUN", "TABLE", "--out", OUT], "TABLE: this is a table folder, and there are no images in it"),
    (["ftrain", "describe", "PHOTO", "SHARDS", "--out", OUT], "SHARDS: this is a shard set, but a run folder"),
    (["ftrain", "index", "RUN", "RUN", OUT], "RUN: this is a run folder, but a shard set"),
    (["ftrain", "index", "SHARDS", "SHARDS", OUT], "SHARDS: this is a shard set, but a run folder"),
    (["ftrain", "query", "RUN", "PHOTO", "--out", OUT], "RUN: this is a run folder, but a search index is needed here; index with it"),
    (["ftrain", "query", "SHARDS", "PHOTO", "--out", OUT], "SHARDS: this is a shard set, but a search index"),
    (["ftrain", "join", "RUN", "SHARDS", "--run", OUT], "RUN: this is a run folder, but a shard set"),
    (["ftrain", "export", "SHARDS", OUT, "--to", "torch-export"], "SHARDS: this is a shard set, but a run folder"),
    (["ftrain", "summary", "SHARDS"], "SHARDS: this is a shard set, but a run folder"),
    (["ftrain", "keypoints", "RAWDATA", "--run", OUT], "a shard set is needed here; convert it with `fprep convert deepfashion-category`, then `fprep shard`"),
    (["ftrain", "style", "TABLE", "--run", OUT], "TABLE: this is a table folder, but a shard set is needed here; write its shards"),
    (["fprep", "shard", "SHARDS", OUT], "SHARDS: this is a shard set, but a table folder is needed here"),
    (["fprep", "shard", "RAWDATA", OUT], "this is raw data of deepfashion-category, but a table folder is needed here; convert it"),
    (["fprep", "export", "RUN", OUT, "--to", "coco"], "RUN: this is a run folder, but a table folder"),
    (["fprep", "audit", "SHARDS", "--out", OUT], "SHARDS: this is a shard set, but a table folder"),
    (["fprep", "report", "INDEX", "PAGE"], "INDEX: this is a search index, but a table folder"),
    (["fprep", "lint", "TABLE"], "TABLE: this is a table folder, but a shard set"),
    (["fprep", "lint", "RUN"], "RUN: this is a run folder, but a shard set"),
    (["fprep", "convert", "csv", "RUN", OUT, "-q"], "RUN: this is a run folder, not raw data"),
    (["fprep", "convert", "folders", "SHARDS", OUT, "-q"], "SHARDS: this is a shard set, not raw data"),
])  # fmt: skip
def test_a_wrong_folder_is_called_what_it_is(tmp_path, places, arguments, words):
    raw = write_folder(tmp_path / "rawdata", "raw data")
    given = {**places, "TABLE": places["TABLE"].parent, "RAWDATA": raw, "PAGE": tmp_path / "page.html"}
    code, said = call(arguments, given, tmp_path / "out")
    assert code == ExitCode.USAGE, said
    for name, place in sorted(given.items(), key=lambda item: -len(str(item[1]))):
        said = said.replace(str(place), name)
    assert words in said


def test_doctor_reports_what_we_have_written(places):
    for name, words in (("RUN", "a run folder"), ("SHARDS", "a shard set"), ("INDEX", "a search index")):
        said = [finding.message for finding in doctor(places[name]).findings]
        assert f"this is {words}, written by fprep or ftrain" in said


def test_shard_sets_of_tests_are_known(places):
    assert kind_of_folder(places["SHARDS"]).name == "shards"
    assert kind_of_folder(places["TABLE"].parent).name == "table"
    assert len(ShardSet.open(places["SHARDS"])) == 4

"""One flipped bit in any byte that affects a result: exit code 5 or the same result, never anything else."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ftrain import search_runs
from tests.ftrain.known_tasks import use_tasks
from tests.shard_sets import write_label_set
from tests.small_tables import write_small_table
from tests.trees import tree_of

from fprep.audit.command import audit
from fprep.audit.split_lock import LOCK_FILE, SplitLock
from fprep.convert.command import convert
from fprep.convert.source_table import SourceTable
from fprep.export.command import export
from fprep.lint.command import lint
from fprep.shard.command import shard
from fschemas.failures import ExitCode, IntegrityError, UsageError, explain
from fschemas.json_file import SEAL, seal
from fschemas.publish import publish_sealed
from fschemas.shard import read_record
from fschemas.shard_set import ShardSet
from ftrain.data.split_lock import lock_digest
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.config import resolve
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.prediction_file import publish_predictions
from ftrain.search.build import build_index, weights_digest
from ftrain.search.index_file import IndexFolder
from ftrain.tasks.task import Task, build_task
from ftrain.use import compare as compare_module

RAW = tree_of("folders")
SMALL, SAMPLED = 600, 150  # bytes; of a file longer than the first, this many are sampled


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds of outputs.

    `table` with its report and lock, `set`, `run` with two checkpoints (the older is the best), `index`, `answers` of a
    model that predicts boxes for `boxed`, its `export`, and the runs `evaluated` and `validated`.
    """
    folder = tmp_path_factory.mktemp("damage")
    convert("folders", [RAW], folder / "table", check_images="none", max_rejected=1.0, workers=1)
    audit([folder / "table"], lock=True, near=False)
    write_label_set(folder / "set", {"train": 5, "query": 4, "gallery": 5}, items=3)
    with pytest.MonkeyPatch.context() as patch:
        use_tasks(patch, find)
        write_run(folder / "run", ShardSet.open(folder / "set"))
        build_index(folder / "run", str(folder / "set"), folder / "index", workers=0, device="cpu")
    boxed = write_small_table(folder / "boxed", {"train": 4, "test": 2})
    (folder / "answers").mkdir()
    keys = SourceTable.open(boxed).frame["key"].to_list()
    answers = [{"key": key, "box": [2.5, 3.0, 20.25, 21.0 + number]} for number, key in enumerate(keys)]
    publish_predictions(folder / "answers/predictions.jsonl", answers, "overlays", "overlay")
    export(boxed, folder / "export", "coco")
    for name in ("evaluated", "validated"):
        shutil.copytree(folder / "run", folder / name)
        (folder / name / "validation.csv").write_text("step,accuracy\n3,1.0\n6,0.5\n")
    (folder / "evaluated/evaluation").mkdir()
    metrics = {"accuracy": 0.75, "accuracy_low": 0.5, "accuracy_high": 0.875}
    report = {
        "task": "likes",
        "dataset": "squares",
        "split": "test",
        "samples": 8,
        "checkpoint_step": 3,
        "model": metrics,
    }
    publish_sealed(folder / "evaluated/evaluation/report.json", report)
    return folder


def write_run(folder: Path, shards: ShardSet) -> None:
    config = resolve({"task": "likes", "model": {}, "fit": {}}, "the test")
    run = RunFolder(folder)
    folder.mkdir()
    run.start(config, shards, "auto")
    task = build_task(config, shards.metadata)
    for step in (3, 6):
        task.gain.data.fill_(float(step))  # type: ignore[union-attr]
        state = TrainingState(step=step, plan_id=shards.plan_id, config_digest=config.digest)
        state.best = {"metric": "accuracy", "value": 1.0, "step": 3}
        checkpoint.save_checkpoint(run.checkpoints, state, {"model": task.state_dict()}, keep=2)
    checkpoint.mark_best(run.checkpoints, state)


@pytest.fixture(autouse=True)
def _the_small_task_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tasks(monkeypatch, find)
    monkeypatch.setattr(compare_module, "find_task", find)


def find(name: str) -> type[Task]:
    """Stand-in for `ftrain.tasks.task.find_task`."""
    if name != "likes":
        raise UsageError(f"unknown task {name!r}")
    return search_runs.Likes


def read_set(folder: Path) -> Any:
    opened = ShardSet.open(folder / "set")
    samples = [opened.read(row) for row in range(len(opened))]
    opened.close()
    return known(opened.metadata), {name: column.tolist() for name, column in opened.columns.items()}, samples


def read_run(folder: Path) -> Any:
    run = RunFolder(folder / "run")
    task, config, state = run.load()
    return weights_digest(task), config, state, known(run.dataset())


def read_index(folder: Path) -> Any:
    index = IndexFolder.open(folder / "index")
    return (
        known(index.metadata),
        index.features.deep.tobytes(),
        {name: column.tolist() for name, column in index.items.items()},
    )


def read_table(folder: Path) -> Any:
    source = SourceTable.open(folder / "table")
    return source.frame.to_dicts(), source.metadata, source.sha256


def read_lock(folder: Path) -> Any:
    lock = SplitLock.read(folder / "table")
    return lock.images, lock.groups, lock_digest(str(folder / "table" / LOCK_FILE))


@functools.cache
def open_once(table: Path) -> SourceTable:
    return SourceTable.open(table)


def read_answers(folder: Path) -> Any:
    found = open_once(folder / "boxed/table").with_predicted_boxes([folder / "answers"])
    return found.frame["box"].to_list(), found.boxes_digest


def read_comparison(folder: Path) -> Any:
    return compare_module.compare_runs([folder / "evaluated", folder / "validated"])


def read_export(folder: Path) -> Any:
    return export(folder / "boxed/table", folder / "export", "coco")["unchanged"]


def known(document: dict[str, Any]) -> dict[str, Any]:
    """The document without its digest, whose name may be damaged."""
    digests = {name: seal({key: value for key, value in document.items() if key != name})[SEAL] for name in document}
    return {name: value for name, value in document.items() if value != digests[name]}


FILES: dict[str, Callable[[Path], Any]] = {
    "set/dataset.json": read_set, "set/index.parquet": read_set, "set/train-000000.tar": read_set,
    "run/config.yaml": read_run, "run/dataset.json": read_run, "run/checkpoints/BEST": read_run, "run/checkpoints/LATEST": read_run,
    "run/checkpoints/step-00000003/state.json": read_run, "run/checkpoints/step-00000003/model.safetensors": read_run,
    "run/checkpoints/step-00000006/state.json": read_run, "run/checkpoints/step-00000006/model.safetensors": read_run,
    "index/index.json": read_index, "index/features.npy": read_index, "index/items.parquet": read_index,
    "table/report.json": read_table, "table/table.parquet": read_table, f"table/{LOCK_FILE}": read_lock,
    "answers/predictions.jsonl": read_answers, "evaluated/evaluation/report.json": read_comparison,
    "validated/checkpoints/best.json": read_comparison, "export/export.json": read_export,
    "export/annotations/train.json": read_export,
}  # fmt: skip
KIND = ("export/export.json", "answers/predictions.jsonl")  # without these files, the kind of their folder is unknown


SLOW = "export/export.json"  # a whole export for each of its bytes


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == SLOW)) for name in FILES])
def test_a_flipped_bit_is_noticed_or_changes_nothing(work: Path, name: str) -> None:
    path, read = work / name, FILES[name]
    content, expected = path.read_bytes(), read(work)
    places = range(len(content))
    if len(content) > SMALL:
        generator = np.random.default_rng(len(content))
        ends = {*range(20), *range(len(content) - 20, len(content))}
        places = sorted(ends | set(generator.choice(len(content), SAMPLED, replace=False).tolist()))
    try:
        for place in places:
            flipped = bytes([content[place] ^ (1 << place % 8)])
            path.write_bytes(content[:place] + flipped + content[place + 1 :])
            _expect_integrity_or(expected, lambda: read(work), f"{name}: bit {place % 8} of byte {place}")
        for size in (0, 1, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            # Truncated at a line: every image of the table without prediction is reported.
            also = (ExitCode.USAGE,) if name in KIND and (size < 2 or content[size - 1 : size] == b"\n") else ()
            _expect_integrity_or(expected, lambda: read(work), f"{name}: cut to {size} bytes", also)
    finally:
        path.write_bytes(content)
    assert read(work) == expected


def _expect_integrity_or(expected: Any, read: Callable[[], Any], what: str, also: Collection[ExitCode] = ()) -> None:
    try:
        found = read()
    except Exception as error:
        found = explain(error) or (1, f"{type(error).__name__}: {error}")
    else:
        assert found == expected, f"{what}: another result"
        return
    assert found[0] in {ExitCode.INTEGRITY, *also}, f"{what}: exit {found[0]}: {found[1]}"


@pytest.mark.parametrize("name", ["run/config.yaml", "run/dataset.json"])
def test_a_lost_file_of_a_run_is_damage(work: Path, name: str) -> None:
    path = work / name
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(IntegrityError, match="missing"):
            RunFolder(work / "run").load()
    finally:
        path.write_bytes(content)


def test_a_lost_pointer_is_found_again_in_the_state(work: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(work / "run", tmp_path / "run")))
    (run.checkpoints / "BEST").unlink()
    assert run.load()[2].step == 3
    (run.checkpoints / "BEST").write_text("step-00000006\n")
    with pytest.raises(IntegrityError, match="is not the name of a checkpoint and its digest"):
        run.load()
    shutil.rmtree(run.checkpoints / "step-00000003")
    (run.checkpoints / "BEST").unlink()
    with pytest.raises(IntegrityError):
        run.load()


def test_a_damaged_newest_checkpoint_is_not_replaced_by_an_older_one_in_silence(work: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(work / "run", tmp_path / "run")))
    (run.checkpoints / "step-00000006/model.safetensors").write_bytes(b"?")
    with pytest.raises(IntegrityError, match="choose an intact one with --checkpoint step-00000003"):
        run.load("latest")
    assert run.load("step-00000003")[2].step == 3


def test_a_checkpoint_under_another_name_is_refused(work: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(work / "run", tmp_path / "run")))
    shutil.rmtree(run.checkpoints / "step-00000003")
    (run.checkpoints / "step-00000006").rename(run.checkpoints / "step-00000003")
    with pytest.raises(IntegrityError, match="belongs to step 6"):
        run.load()


def test_training_does_not_start_anew_over_a_damaged_configuration(work: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(work / "run", tmp_path / "run")))
    shards, config = ShardSet.open(work / "set"), run.config()
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 10", "epochs: 18"))
    with pytest.raises(IntegrityError, match="changed since the run was trained"):
        run.start(config, shards, "auto")
    assert not (tmp_path / "run.superseded-1").exists()


def test_lint_reports_that_a_description_was_changed(work: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(work / "set", tmp_path / "set"))
    path = folder / "dataset.json"
    path.write_bytes(path.read_bytes().replace(b'"category"', b'"catdgory"', 1))
    (found,) = lint(folder, loaders=False)
    assert "checksum does not match its content" in found.problem


@pytest.mark.parametrize("damaged", ["train-000000.tar", "meta/train-000000.json"])
def test_a_kept_shard_is_read_before_it_counts(tmp_path: Path, damaged: str) -> None:
    from tests.small_tables import write_small_table

    table = write_small_table(tmp_path, {"train": 6, "val": 2})
    shard(table, tmp_path / "set", shard_samples=3, workers=1)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    (tmp_path / "set/dataset.json").unlink()
    content = bytearray((tmp_path / "set" / damaged).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "set" / damaged).write_bytes(content)
    assert shard(table, tmp_path / "set", shard_samples=3, workers=1)["reused"] == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == expected
    assert read_record(tmp_path / "set", "train-000000.tar") is not None
    content = bytearray((tmp_path / "set/train-000001.tar").read_bytes())
    content[1200] ^= 4  # of a finished set
    (tmp_path / "set/train-000001.tar").write_bytes(content)
    assert shard(table, tmp_path / "set", shard_samples=3, workers=1)["reused"] == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == expected

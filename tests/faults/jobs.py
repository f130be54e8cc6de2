"""Jobs of the trials: library calls of the commands, small checkpoints, publishing itself, and whole command lines."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from tests.faults.layer import Layer

from fschemas.failures import explain


def snapshot(folder: Path) -> dict[str, str]:
    """Digests of all files in a folder except temporary ones."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".tmp." not in str(path.relative_to(folder))
    }


def convert(raw: str, out: str, reader: str = "deepfashion-fine", **options: Any) -> None:
    """The library call of `fprep convert`."""
    from fprep.convert.command import convert as run

    run(reader, [Path(raw)], Path(out), **{"check_images": "none", "max_rejected": 1.0, "workers": 1, **options})


def shard(table: str, out: str, **options: Any) -> None:
    """The library call of `fprep shard`."""
    from fprep.shard.command import shard as run

    run(Path(table), Path(out), **{"shard_samples": 3, "workers": 1, **options})


def publishing(out: str, version: int, count: int = 2) -> dict[str, list[str]]:
    """Publish files, JSON and a folder through `fschemas.publish`."""
    from fschemas.publish import exclusive, publish, publish_bytes, publish_json, remove_leftovers

    folder = Path(out)
    with exclusive(folder):
        remove_leftovers(folder)
        for number in range(count):
            publish_bytes(folder / f"file-{number}", bytes([version]) * (30_000 + number))
        if not (folder / f"tree-{version}").exists():
            with publish(folder / f"tree-{version}") as temporary:
                (temporary / "below").mkdir(parents=True)
                (temporary / "below/leaf").write_text(f"leaf {version}")
                (temporary / "state").write_bytes(b"x" * 50_000)
        publish_json(folder / "last.json", {"version": version})
    return {}


def checkpoints(out: str, steps: int, keep: int = 2, *, background: bool = False) -> dict[str, list[str]]:
    """Training without a model: save every step, evaluate every second one, resume from the newest checkpoint.

    Returns all digests that each file had after any of the calls. In the `background`, a step ends before its save.
    """
    import torch

    from fschemas.publish import exclusive
    from ftrain.fit import checkpoint
    from ftrain.fit.checkpoint_state import TrainingState, amend_state
    from ftrain.fit.checkpoint_writer import CheckpointWriter

    folder, history = Path(out), dict[str, set[str]]()
    with exclusive(folder), CheckpointWriter(folder, torch.device("cpu"), keep=keep) as writer:
        checkpoint.clean(folder, keep=keep)
        found = checkpoint.newest(folder)
        state = found[1] if found else TrainingState(plan_id="plan", config_digest="config")
        while state.step < steps or state.validation_due:
            if not state.validation_due:
                state.step += 1
                state.validation_due = state.step % 2 == 0
                generator = torch.Generator().manual_seed(state.step)
                tensors = {
                    name: {"weight": torch.randn(40, 50, generator=generator)} for name in ("model", "optimizer")
                }
                if background:
                    writer.wait()
                    _note(folder, history)
                    writer.save(state, tensors)
                else:
                    checkpoint.save_checkpoint(folder, state, tensors, keep=keep)
                    _note(folder, history)
            if state.validation_due:
                value = [0.2, 0.5, 0.3, 0.4][state.step // 2 % 4]
                if not state.best or value < state.best["value"]:
                    state.best = {"metric": "error", "value": value, "step": state.step}
                state.validation_due = False
                writer.wait()
                _note(folder, history)
                amend_state(folder, state)
                _note(folder, history)
                checkpoint.mark_best(folder, state)
                checkpoint.retain(folder, state, keep)
                _note(folder, history)
        writer.wait()
        _note(folder, history)
    return {name: sorted(digests) for name, digests in history.items()}


def cli(command: str, arguments: list[str]) -> None:
    """A console script, called through its entry point."""
    if command == "ftrain":
        from ftrain.cli import main
    else:
        from fprep.cli import main
    sys.argv = [command, *arguments]
    main()


def read_table(place: str) -> str:
    """Digest of everything that later commands read from a table folder."""
    from fschemas.table_file import read_metadata
    from fschemas.table_file import read_table as read

    path = Path(place)
    parts = [
        (read(path / name).to_pylist(), read_metadata(path / name)) for name in ("table.parquet", "rejected.parquet")
    ]
    return _digest(parts)


def read_shards(place: str) -> str:
    """Digest of everything that a trainer reads from a shard set."""
    from fschemas.shard_set import ShardSet

    shards = ShardSet.open(place)
    metadata = {name: value for name, value in shards.metadata.items() if name not in ("shards", "index")}
    columns = {name: values.tolist() for name, values in shards.columns.items()}
    return _digest([metadata, columns, [shards.read(row) for row in range(len(shards))]])


def read_run(place: str) -> str:
    """Digest of everything that evaluation, prediction and resuming read from a run folder."""
    from ftrain.fit.run_folder import RunFolder

    run = RunFolder(Path(place))
    digests = []
    for which in ("best", "latest"):
        task, config, state = run.load(which)
        weights = {name: tensor.numpy().tobytes() for name, tensor in task.state_dict().items()}
        digests.append(_digest([weights, config.model_dump(mode="json"), state.step, state.ledger, state.best]))
    dataset = run.dataset()
    return _digest([digests, dataset])


def read_index(place: str) -> str:
    """Digest of everything that a query reads from an index."""
    from ftrain.search.index_file import IndexFolder

    index = IndexFolder.open(Path(place))
    deep, color = index.features.deep, index.features.color
    arrays = [deep.tobytes(), None if color is None else color.tobytes()]
    index.searcher()
    return _digest([arrays, index.metadata, {name: values.tolist() for name, values in index.items.items()}])


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


JOBS = {
    "convert": convert, "shard": shard, "publish": publishing, "checkpoints": checkpoints, "cli": cli,
    "read_table": read_table, "read_shards": read_shards, "read_run": read_run, "read_index": read_index,
}  # fmt: skip


def answer(job: str, arguments: dict[str, Any], layer: Layer | None = None) -> tuple[Any, dict[str, Any] | None]:
    """Return the result of a job, or its error; with a fault layer if given."""
    try:
        if layer is not None:
            layer.install()
        return JOBS[job](**arguments), None
    except SystemExit:
        raise
    except BaseException as error:
        code, sentence = explain(error) or (1, repr(error))
        return None, {"type": type(error).__name__, "code": int(code), "sentence": sentence}
    finally:
        if layer is not None:
            layer.uninstall()


def _note(folder: Path, history: dict[str, set[str]]) -> None:
    for name, digest in snapshot(folder).items():
        history.setdefault(name, set()).add(digest)

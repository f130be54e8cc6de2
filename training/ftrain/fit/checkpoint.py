"""Checkpoints: one folder per step with safetensors and JSON (no pickle), published atomically and verified by digest.

`checkpoints/step-00000123/` holds model, EMA and optimizer tensors and `state.json`. The files `LATEST` and `BEST`
contain folder names. A damaged checkpoint is set aside with a reason, and the previous one is used.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fschemas.failures import IntegrityError, NonFiniteError
from fschemas.names import CHECKPOINT_NAME
from fschemas.publish import publish, publish_bytes, publish_sealed, set_filename, sha256_of, withdraw, withdraw_folder
from fschemas.regular_file import read_regular
from ftrain.fit.checkpoint_state import STATE_FILE, TrainingState, read_state, sealed, step_folder
from ftrain.fit.tensor_file import TensorFile

CONFIG_FILE, DATASET_FILE = "config.yaml", "dataset.json"  # files of the run; checkpoints hold their digests
LATEST_FILE, BEST_FILE, BEST_METRIC_FILE = "LATEST", "BEST", "best.json"

Tensors = dict[str, dict[str, torch.Tensor]]  # file stem -> name -> tensor


def save_checkpoint(folder: Path, state: TrainingState, tensors: Tensors, *, keep: int) -> Path:
    """Publish a checkpoint, point LATEST to it and delete all but the newest `keep` and the best.

    Raises `NonFiniteError` and saves nothing if a tensor contains NaN or infinity.
    """
    files = {file: TensorFile(named) for file, named in tensors.items()}
    for file, named in tensors.items():
        files[file].copy(named)
    note_files(folder, state)
    return write_checkpoint(folder, state, files, keep=keep)


def note_files(folder: Path, state: TrainingState) -> None:
    """Store the digests of the files of the run in its state, unless it has them."""
    files = [folder.parent / name for name in (CONFIG_FILE, DATASET_FILE)]
    state.files = state.files or {file.name: sha256_of(file) for file in files if file.exists()}


def write_checkpoint(folder: Path, state: TrainingState, files: Mapping[str, TensorFile], *, keep: int) -> Path:
    """`save_checkpoint` of tensors that were copied; `files` by stem."""
    target = folder / step_folder(state.step)
    if not target.exists():  # the state of a step is unique, and damaged checkpoints were set aside
        with publish(target) as temporary:
            temporary.mkdir()
            digests = {
                f"{file}.safetensors": _write(files[file], temporary, target, file, state.step) for file in files
            }
            (temporary / STATE_FILE).write_bytes(sealed(state, dict(sorted(digests.items()))))
    _point(folder / LATEST_FILE, target.name)
    retain(folder, state, keep)
    return target


def _write(content: TensorFile, temporary: Path, target: Path, file: str, step: int) -> str:
    """Write a file into the temporary folder of a checkpoint; return its SHA-256. Errors name the final file."""
    name = f"{file}.safetensors"
    try:
        return content.write(temporary / name)
    except OSError as error:
        set_filename(error, target / name)
        raise
    except NonFiniteError as error:
        raise NonFiniteError(
            f"step {step}: {file} {error}; the last good checkpoint is kept; lower fit.learning_rate or fix the data"
        ) from None


def retain(folder: Path, state: TrainingState, keep: int) -> None:
    """Delete all checkpoints except the newest `keep` and the best."""
    present = sorted(path for path in folder.glob("step-*") if path.is_dir())
    best = step_folder(state.best["step"]) if state.best else None
    for path in present[:-keep]:
        if path.name != best:
            withdraw_folder(path)


def discard(folder: Path) -> None:
    """Delete all checkpoints of a folder, each atomically, and the pointers to them."""
    for name in (LATEST_FILE, BEST_FILE, BEST_METRIC_FILE):
        if (folder / name).exists():
            withdraw(folder / name)
    for path in sorted(folder.glob("step-*")):
        withdraw_folder(path)


def mark_best(folder: Path, state: TrainingState) -> None:
    """Point BEST to the checkpoint with the best validation metric so far; remove BEST if there is none."""
    if not state.best:
        (folder / BEST_FILE).unlink(missing_ok=True)
        (folder / BEST_METRIC_FILE).unlink(missing_ok=True)
    elif not _points(folder / BEST_FILE, _signed(step_folder(state.best["step"]))):
        # Before the pointer: while that is old, both are written again.
        publish_sealed(folder / BEST_METRIC_FILE, state.best)
        _point(folder / BEST_FILE, _signed(step_folder(state.best["step"])))


def _point(pointer: Path, name: str) -> None:
    """Write the name of a checkpoint into a pointer file."""
    if not _points(pointer, name):
        publish_bytes(pointer, name.encode() + b"\n")


def _signed(name: str) -> str:
    """Return the name followed by its digest, so that a flipped bit in a pointer cannot select other weights."""
    return f"{name} {hashlib.sha256(name.encode()).hexdigest()}"


def _points(pointer: Path, name: str) -> bool:
    return pointer.is_file() and pointer.read_bytes() == name.encode() + b"\n"


def clean(folder: Path, *, keep: int) -> list[str]:
    """Prepare a folder of checkpoints for resuming; return which damaged ones were set aside, and why.

    The caller must hold the run folder, which has already removed leftovers of killed saves. Damaged checkpoints newer
    than the last valid one are renamed to `damaged-…`, LATEST and BEST are updated, and deletions that the last save
    could not finish are completed. Raises `IntegrityError` if there are checkpoints and all are damaged.
    """
    if not folder.exists():
        return []
    found = newest(folder)
    if found is None:
        return []
    intact, state, reasons = found
    for path in folder.glob("step-*"):
        if path.name > intact.name:
            aside = path.with_name(f"damaged-{path.name}")
            if aside.exists():
                shutil.rmtree(aside)
            path.rename(aside)
    _point(folder / LATEST_FILE, intact.name)
    mark_best(folder, state)
    retain(folder, state, keep)
    return reasons


def check(path: Path) -> TrainingState:
    """Read and verify a checkpoint folder. Raises `IntegrityError` with the reason if it is damaged."""
    state, digests = read_state(path)
    for name, digest in digests.items():
        if not (path / name).exists() or sha256_of(path / name) != digest:
            raise IntegrityError(f"{path}/{name}: missing or changed (SHA-256 differs from {STATE_FILE})")
    return state


def check_file(folder: Path, name: str) -> None:
    """Verify a file of the run folder above `folder` by its digest in the newest checkpoint with a valid state.

    Raises `IntegrityError` if the file is missing or was changed; passes if no checkpoint holds its digest.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            digest = read_state(path)[0].files.get(name)
        except IntegrityError:
            continue
        file = folder.parent / name
        if digest is not None and not (file.is_file() and sha256_of(file) == digest):
            what = "changed since the run was trained" if file.exists() else "missing"
            raise IntegrityError(
                f"{file}: {what} (checkpoints/{path.name} holds its SHA-256); restore it from a copy of the run"
            )
        return


def load_tensors(path: Path, file: str) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file of a checkpoint by name; empty if the file does not exist."""
    tensors = path / f"{file}.safetensors"
    if not tensors.exists():
        return {}
    try:
        return load_file(tensors)
    except SafetensorError as error:
        raise IntegrityError(f"{tensors}: not a safetensors file ({error})") from None


def newest(folder: Path) -> tuple[Path, TrainingState, list[str]] | None:
    """Newest valid checkpoint, its state and the reasons for skipping newer ones; None if there are no checkpoints.

    Raises `IntegrityError` if there are checkpoints and all are damaged: a run never silently starts from scratch.
    """
    reasons: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return path, check(path), reasons
        except IntegrityError as error:
            reasons.append(f"skipped {path.name}: {error}")
    if reasons:
        raise IntegrityError(f"{folder}: no intact checkpoint ({reasons[0]}); restore one or train into another folder")
    return None


def best(folder: Path) -> Path | None:
    """Checkpoint with the best validation metric, or None.

    Without the pointer file, e.g. if the run was killed before writing it, the state of the newest checkpoint
    determines the best one. Raises `IntegrityError` if the checkpoint is missing or the pointer is damaged.
    """
    pointer = folder / BEST_FILE
    if not pointer.exists():
        named = _best_of_newest(folder)
        if named is not None and not named.is_dir():
            raise IntegrityError(f"{named}: the best checkpoint is missing; choose another with --checkpoint")
        return named
    text = read_regular(pointer, 1000).decode("utf-8", "replace").strip()
    name = text.partition(" ")[0]
    if not CHECKPOINT_NAME.fullmatch(name) or text != _signed(name):
        raise IntegrityError(
            f"{pointer}: {text[:80]!r} is not the name of a checkpoint and its digest; restore it, or choose one with --checkpoint"
        )
    if not (folder / name).is_dir():
        raise IntegrityError(f"{pointer}: names {name}, which is missing; choose another with --checkpoint")
    return folder / name


def _best_of_newest(folder: Path) -> Path | None:
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            state, _ = read_state(path)
        except IntegrityError:
            continue
        return folder / step_folder(state.best["step"]) if "step" in state.best else None
    return None


def pack_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """State tensors of the optimizer by parameter name: `<parameter>|<entry>`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}|{entry}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for parameter, entries in optimizer.state.items()
        for entry, value in entries.items()
        if value is not None
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load tensors from `pack_optimizer` into the optimizer.

    Moments get the memory layout of their parameter, because it affects the last bits of an update. `step` counters
    go to the same device, as fused optimizers require.
    """
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, entry = key.rsplit("|", 1)
        parameter = parameters[name]
        is_moment = tensor.shape == parameter.shape and entry != "step"
        like = parameter if is_moment else tensor
        empty = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device, requires_grad=False)
        optimizer.state[parameter][entry] = empty.copy_(tensor)


def load_weights(task: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state dict into a task. Raises `IntegrityError` with the first tensor that does not fit."""
    own = task.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise IntegrityError(f"{path}: tensor {name} is {'missing' if name in own else 'unknown to this model'}")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
            remedy = "it belongs to another model or landmark set"
            raise IntegrityError(f"{path}: tensor {name} has shape {shapes}; {remedy}")
    task.load_state_dict(tensors)

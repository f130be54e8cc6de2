"""Checkpoints: a folder a step with safetensors and JSON, published whole, checked by digest, never a pickle.

`checkpoints/step-00000123/` holds model, average and optimizer tensors and `state.json`; `LATEST` and `BEST` name folders.
A damaged checkpoint is skipped with a reason and the one before it is used.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fschemas.failures import IntegrityError, NonFiniteError
from fschemas.publish import publish, publish_bytes, publish_json, remove_leftovers, sha256_of
from ftrain.plan import EMPTY_LEDGER

FORMAT = "fashionkit-checkpoint/1"
STATE_FILE = "state.json"


@dataclass
class TrainingState:
    """Where a run stands. `step` optimizer steps are done; random states follow from seed and step alone."""

    step: int = 0
    ledger: str = EMPTY_LEDGER  # running SHA-256 of the consumed rows
    seed: int = 0
    plan_id: str = ""
    config_digest: str = ""
    learning_rate: float = 0.0
    best: dict[str, Any] = field(default_factory=dict[str, Any])  # {"metric", "value", "step"}


Tensors = dict[str, dict[str, torch.Tensor]]  # file stem -> name -> tensor


def step_folder(step: int) -> str:
    """`step-00000123`."""
    return f"step-{step:08d}"


def save_checkpoint(folder: Path, state: TrainingState, tensors: Tensors, *, keep: int) -> Path:
    """Publish a checkpoint, point LATEST to it and delete older ones, all but `keep` and the best.

    Raises `NonFiniteError` instead of saving when a tensor holds NaN or infinity.
    """
    for file, named in tensors.items():
        for name, tensor in named.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise NonFiniteError(f"step {state.step}: {file} {name} is not finite; the last good checkpoint is kept")
    target = folder / step_folder(state.step)
    if not target.exists():
        with publish(target) as temporary:
            temporary.mkdir()
            for file, named in tensors.items():
                save_file({name: t.detach().contiguous().cpu() for name, t in named.items()}, temporary / f"{file}.safetensors")
            digests = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
            note = {"format": FORMAT, **asdict(state), "finite": True, "digests": digests}
            (temporary / STATE_FILE).write_text(json.dumps(note, indent=2, allow_nan=False) + "\n")
    publish_bytes(folder / "LATEST", target.name.encode() + b"\n")
    _retain(folder, state, keep)
    return target


def _retain(folder: Path, state: TrainingState, keep: int) -> None:
    present = sorted(path for path in folder.glob("step-*") if path.is_dir())
    best = step_folder(state.best["step"]) if state.best else None
    for path in present[:-keep]:
        if path.name != best:
            shutil.rmtree(path)


def mark_best(folder: Path, state: TrainingState) -> None:
    """Point BEST to the checkpoint of the best validation so far."""
    publish_bytes(folder / "BEST", step_folder(state.best["step"]).encode() + b"\n")
    publish_json(folder / "best.json", state.best)


def clean(folder: Path) -> None:
    """Remove what a killed save left behind; call it while holding the run folder."""
    if folder.exists():
        remove_leftovers(folder)


def check(path: Path) -> TrainingState:
    """Read and verify a checkpoint folder; raises `IntegrityError` saying what is wrong."""
    try:
        note = json.loads((path / STATE_FILE).read_bytes())
        digests, kind, finite = note.pop("digests"), note.pop("format"), note.pop("finite")
        state = TrainingState(**note)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}/{STATE_FILE}: not readable ({error})") from None
    if kind != FORMAT or not finite:
        raise IntegrityError(f"{path}/{STATE_FILE}: format {kind!r}, finite {finite}; expected {FORMAT!r} and true")
    for name, digest in digests.items():
        if not (path / name).exists() or sha256_of(path / name) != digest:
            raise IntegrityError(f"{path}/{name}: missing or changed (SHA-256 differs from {STATE_FILE})")
    return state


def load_tensors(path: Path, file: str) -> dict[str, torch.Tensor]:
    """The tensors of one safetensors file of a checkpoint; empty when the checkpoint has none."""
    place = path / f"{file}.safetensors"
    if not place.exists():
        return {}
    try:
        return load_file(place)
    except SafetensorError as error:
        raise IntegrityError(f"{place}: not a safetensors file ({error})") from None


def newest(folder: Path) -> tuple[Path, TrainingState, list[str]] | None:
    """The newest sound checkpoint, its state and why newer ones were skipped; None where there is none at all.

    Raises `IntegrityError` when there are checkpoints and all are damaged: a run never starts from scratch in silence.
    """
    reasons: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return path, check(path), reasons
        except IntegrityError as error:
            reasons.append(f"skipped {path.name}: {error}")
    if reasons:
        raise IntegrityError(f"{folder}: no sound checkpoint ({reasons[0]}); restore one or train into another folder")
    return None


def best(folder: Path) -> Path | None:
    """The checkpoint of the best validation, or None."""
    pointer = folder / "BEST"
    return folder / pointer.read_text().strip() if pointer.exists() else None


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
    """The inverse of `pack_optimizer`; `step` counters stay on the CPU, where torch wants them."""
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, entry = key.rsplit("|", 1)
        parameter = parameters[name]
        optimizer.state[parameter][entry] = tensor if entry == "step" else tensor.to(parameter.device)

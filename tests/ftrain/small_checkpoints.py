"""Small checkpoints for tests of saving and loading."""

from __future__ import annotations

from pathlib import Path

import torch

from ftrain.fit import checkpoint
from ftrain.fit.checkpoint import save_checkpoint
from ftrain.fit.checkpoint_state import TrainingState

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")


def tensors(value: float = 0.5) -> checkpoint.Tensors:
    moments = {"weight|exp_avg": torch.full((3, 2), value / 3), "weight|step": torch.tensor(4.0)}
    model = {"weight": torch.full((3, 2), value), "count": torch.tensor(7)}
    return {"model": model, "ema": {"module.weight": torch.full((3, 2), value / 2)}, "optimizer": moments}


def save(folder: Path, step: int, keep: int = 3, best: int | None = None, value: float = 0.5) -> Path:
    state = TrainingState(step=step, plan_id="p", config_digest="c", learning_rate=0.1 + step)
    if best is not None:
        state.best = {"metric": "ne", "value": 0.25, "step": best}
    return save_checkpoint(folder, state, tensors(value), keep=keep)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))

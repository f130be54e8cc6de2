"""Checkpoints: complete or absent, damage always detected, the last intact ones always kept."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ftrain.small_checkpoints import FILES, save, steps, tensors
from torch import nn

from fschemas.failures import IntegrityError, NonFiniteError
from fschemas.json_file import seal
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint import check, clean, load_tensors, newest, save_checkpoint
from ftrain.fit.checkpoint_state import TrainingState, amend_state, step_folder


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = save(tmp_path, 12, best=5)
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    state = check(path)
    assert state == TrainingState(
        step=12, plan_id="p", config_digest="c", learning_rate=12.1, best={"metric": "ne", "value": 0.25, "step": 5}
    )
    for file, named in tensors().items():
        loaded = load_tensors(path, file)
        assert loaded.keys() == named.keys()
        assert all(
            torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in named.items()
        )
    assert load_tensors(path, "other") == {}
    assert (tmp_path / "LATEST").read_text() == "step-00000012\n"
    assert not list(tmp_path.glob(".tmp.*"))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["first", "middle", "last", "cut", "emptied", "missing"])
def test_damage_is_noticed_and_the_one_before_is_used(tmp_path: Path, file: str, damage: str) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / file
    content = bytearray(path.read_bytes())
    if damage in ("first", "middle", "last"):
        content[{"first": 0, "middle": len(content) // 2, "last": -1}[damage]] ^= 1
    path.write_bytes(content[:-3] if damage == "cut" else b"" if damage == "emptied" else content)
    if damage == "missing":
        path.unlink()
    found = newest(tmp_path)
    assert found is not None
    assert found[0].name == step_folder(1)
    assert len(found[2]) == 1
    assert found[2][0].startswith(f"skipped step-00000002: {path}")


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), file=st.sampled_from(FILES))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_noticed(tmp_path: Path, place: float, bit: int, file: str) -> None:
    path = save(tmp_path, 1) / file
    sound = path.read_bytes()
    content = bytearray(sound)
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        with pytest.raises(IntegrityError, match=file):
            check(path.parent)
    finally:
        path.write_bytes(sound)


def test_all_damaged_is_an_error_never_a_silent_new_start(tmp_path: Path) -> None:
    assert newest(tmp_path / "nothing") is None
    for step in (1, 2):
        (save(tmp_path, step) / "model.safetensors").write_bytes(b"")
    for function in (newest, partial(clean, keep=3)):
        with pytest.raises(
            IntegrityError, match=r"no intact checkpoint \(skipped step-00000002: .*restore one or train into"
        ):
            function(tmp_path)
    assert steps(tmp_path) == [1, 2], "nothing was thrown away"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "fashionkit-checkpoint/0"}, {"finite": False}, {"finite": 1}, {"unknown": 1}, {"step": 3}, {"ledger": "00"},
        {"seal": "0" * 64}, {"digests": {}},
    ],
)  # fmt: skip
def test_a_state_that_was_edited_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = save(tmp_path, 2) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}, indent=2) + "\n")
    with pytest.raises(IntegrityError, match=r"state\.json"):
        check(path.parent)


# --- retention --------------------------------------------------------------------------------------------------------


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step, keep=2, best=3 if step >= 3 else None)
    assert steps(tmp_path) == [3, 6, 7]
    assert not list(tmp_path.glob(".tmp.*"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("file", ["model", "ema", "optimizer"])
def test_nothing_good_is_deleted_for_a_nan(tmp_path: Path, bad: float, file: str) -> None:
    save(tmp_path, 1, keep=1)
    poisoned = tensors()
    next(iter(poisoned[file].values())).view(-1)[-1] = bad
    with pytest.raises(NonFiniteError, match=rf"step 2: {file} .* is not finite; the last good checkpoint is kept"):
        save_checkpoint(tmp_path, TrainingState(step=2), poisoned, keep=1)
    assert steps(tmp_path) == [1]
    assert (tmp_path / "LATEST").read_text() == "step-00000001\n"
    check(tmp_path / step_folder(1))


def test_best_points_to_the_best(tmp_path: Path) -> None:
    assert checkpoint.best(tmp_path) is None
    save(tmp_path, 1, best=1)
    state = TrainingState(step=1, best={"metric": "ne", "value": 0.25, "step": 1})
    checkpoint.mark_best(tmp_path, state)
    assert checkpoint.best(tmp_path) == tmp_path / step_folder(1)
    assert json.loads((tmp_path / "best.json").read_text()) == seal(state.best)
    checkpoint.mark_best(tmp_path, TrainingState(step=1))
    assert not (tmp_path / "BEST").exists()
    assert not (tmp_path / "best.json").exists()
    assert checkpoint.best(tmp_path) == tmp_path / step_folder(1)  # as recorded in the state of the newest
    save(tmp_path, 2)
    assert checkpoint.best(tmp_path) is None


def test_amending_replaces_the_state_alone(tmp_path: Path) -> None:
    path = save(tmp_path, 4)
    before = {file: (path / file).read_bytes() for file in FILES}
    state = replace(check(path), best={"metric": "ne", "value": 0.125, "step": 4})
    amend_state(tmp_path, state)
    assert check(path) == state
    assert [file for file in FILES if (path / file).read_bytes() != before[file]] == ["state.json"]


def test_damaged_ones_are_set_aside_so_that_their_step_can_be_saved_again(tmp_path: Path) -> None:
    """Otherwise the damaged folder would block the intact checkpoint of the same step forever."""
    for step in (1, 2, 3):
        save(tmp_path, step)
    for _ in range(2):
        for step in (2, 3):
            (tmp_path / step_folder(step) / "model.safetensors").write_bytes(b"")
        assert [reason.split(":")[0] for reason in clean(tmp_path, keep=3)] == [
            "skipped step-00000003",
            "skipped step-00000002",
        ]
        assert steps(tmp_path) == [1]
        assert (tmp_path / "LATEST").read_text() == "step-00000001\n"
        assert (tmp_path / "damaged-step-00000002").is_dir()
        for step in (2, 3):
            check(save(tmp_path, step))


def test_cleaning_sets_right_what_a_kill_left(tmp_path: Path) -> None:
    save(tmp_path, 1, best=1)
    save(tmp_path, 2, best=1)
    (tmp_path / "LATEST").write_text("step-00000001\n")
    assert clean(tmp_path, keep=3) == []
    assert checkpoint.best(tmp_path) == tmp_path / step_folder(1)
    assert (tmp_path / "LATEST").read_text() == "step-00000002\n"
    assert clean(tmp_path / "nothing", keep=3) == []


def test_what_a_failed_save_did_not_delete_is_deleted_when_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, best=1, keep=2)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("ftrain.fit.checkpoint.shutil.rmtree", fail)
        patch.setattr(Path, "rename", lambda path, _: fail(path))
        with pytest.raises(OSError, match="Input/output error"):
            save(tmp_path, 4, best=1, keep=2)
    assert steps(tmp_path) == [1, 2, 3, 4]
    assert clean(tmp_path, keep=2) == []
    assert steps(tmp_path) == [1, 3, 4]
    assert clean(tmp_path, keep=2) == []
    assert steps(tmp_path) == [1, 3, 4]


# --- the optimizer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_an_optimizer_goes_on_as_if_nothing_had_happened(kind: str) -> None:
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if kind == "sgd":
            return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def advance(model: nn.Module, optimizer: torch.optim.Optimizer, start: int, stop: int) -> None:
        for step in range(start, stop):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)).square().mean().backward()
            optimizer.step()

    one, optimizer = make()
    advance(one, optimizer, 0, 3)
    other, restored = make()
    other.load_state_dict(one.state_dict())
    packed = {name: tensor.contiguous().clone() for name, tensor in checkpoint.pack_optimizer(optimizer, one).items()}
    checkpoint.unpack_optimizer(restored, other, packed)
    for before, after in zip(one.parameters(), other.parameters(), strict=True):
        for entry, value in optimizer.state[before].items():
            assert torch.equal(restored.state[after][entry], value)
            assert restored.state[after][entry].stride() == value.stride(), "the layout decides how sums are vectorised"
    advance(one, optimizer, 3, 6)
    advance(other, restored, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

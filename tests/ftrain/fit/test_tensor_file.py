"""Files written from copies: the bytes of safetensors, and no NaN in any type."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fschemas.failures import NonFiniteError
from ftrain.fit import tensor_file
from ftrain.fit.tensor_file import TensorFile

DTYPES = [
    torch.float32, torch.bool, torch.int64, torch.uint8, torch.bfloat16, torch.int16, torch.float64, torch.float16, torch.int8,
    torch.int32,
]  # fmt: skip


def mixed() -> dict[str, torch.Tensor]:
    """All types and layouts, in an order that is not that of a file."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{name}.{str(dtype)[6:]}": (torch.rand(shape, generator=generator) * 9).to(dtype)
        for dtype in DTYPES
        for name, shape in (("b", (3, 5)), ("a", ()), ('é|"x', (1,)))
    }
    image = torch.randn(4, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last)
    return {**tensors, "conv": image, "empty": torch.zeros(0, 3), "part": image[:, 1:].permute(0, 2, 3, 1)}


@pytest.mark.parametrize("block", [8, 64, 1 << 20])
def test_the_bytes_are_those_of_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(tensor_file, "_BLOCK", block)
    tensors = mixed()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "expected")
    file = TensorFile(tensors)
    for _ in range(2):  # the memory is reused
        file.copy(tensors)
        digest = file.write(tmp_path / "found")
        content = (tmp_path / "found").read_bytes()
        assert content == (tmp_path / "expected").read_bytes()
        assert digest == hashlib.sha256(content).hexdigest()
    loaded = load_file(tmp_path / "found")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_file_without_tensors(tmp_path: Path) -> None:
    save_file({}, tmp_path / "expected")
    TensorFile({}).write(tmp_path / "found")
    assert (tmp_path / "found").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_copy_does_not_follow_its_source(tmp_path: Path) -> None:
    tensors = {"weight": torch.ones(3, requires_grad=True)}
    file = TensorFile(tensors)
    file.copy(tensors)
    tensors["weight"].data.fill_(7)
    file.write(tmp_path / "file")
    assert load_file(tmp_path / "file")["weight"].tolist() == [1, 1, 1]


def test_other_tensors_do_not_fit() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(1)}
    file = TensorFile(tensors)
    assert file.fits(dict(reversed(tensors.items())))
    for other in ({"a": tensors["a"]}, {**tensors, "c": torch.zeros(1)}, {**tensors, "a": torch.zeros(3, 2)}):
        assert not file.fits(other)
    assert not file.fits({**tensors, "b": torch.zeros(1, dtype=torch.float64)})


@pytest.mark.parametrize("value", [float("nan"), float("-nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype.is_floating_point])
def test_the_tensor_with_a_nan_is_named(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    largest = torch.finfo(dtype).max
    tensors = {name: torch.full((size,), largest, dtype=dtype) for name, size in (("a", 3), ("b", 5), ("c", 1))}
    tensors["n"] = torch.full((9,), -1, dtype=torch.int64)  # all bits set, as in NaN
    file = TensorFile(tensors)
    file.copy(tensors)
    file.write(tmp_path / "file")
    for name, place in (("a", 0), ("b", 0), ("b", 4), ("c", 0)):
        changed = {**tensors, name: tensors[name].clone()}
        changed[name][place] = value
        file.copy(changed)
        with pytest.raises(NonFiniteError, match=rf"^{name} is not finite$"):
            file.write(tmp_path / "file")

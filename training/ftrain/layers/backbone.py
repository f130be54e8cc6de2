"""timm networks as feature pyramids, with the pixel statistics they were trained with."""

import difflib
import math
import sys
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models._features import FeatureGetterNet
from timm.models._manipulate import group_parameters
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig
from ftrain.layers.weights import HUB, backbone_weights, pixel_statistics
from ftrain.lazy_imports import timm_with


class Normalize(nn.Module):
    """Normalize uint8 B, H, W, 3 to float B, 3, H, W (channels_last) with the pixel statistics of a backbone."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        mean, std = pixel_statistics(config.backbone, config.weights)
        saved = config.weights.startswith(HUB)  # timm does not know them, and a run must not need the hub's cache
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=saved)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=saved)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Normalize images, uint8 B, H, W, 3, to float32 B, 3, H, W."""
        return (image.permute(0, 3, 1, 2).float() - self.mean) / self.std


class Backbone(nn.Module):
    """A timm network that maps uint8 B, H, W, 3 to feature maps at `strides`, finest first.

    Without `strides`, the only map is the network's last one, of any stride. `widths` holds the number of channels of
    each map. Raises `UsageError` for an unknown network, a network without these strides or for other image sizes, and
    for weights that are unavailable or do not fit.
    """

    def __init__(self, config: BackboneConfig, strides: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.normalize = Normalize(config)
        self.features, self.levels = feature_pyramid(config, strides)
        self.widths = self.levels.widths

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one feature map B, width, H / stride, W / stride per stride."""
        normalized = self.normalize(image)
        return self.levels(self.features(normalized), normalized)


class FeatureLevels(nn.Module):
    """The outputs of a timm network at `strides` (None: the last one), as B, C, H, W.

    A plain vision transformer has a single stride. Others are built from its last map by the simple feature pyramid of
    ViTDet (Li et al., ECCV 2022): finer maps by transposed convolutions that halve the channels, coarser ones by pooling.
    Unlike there, pooling takes the average, so that the mean of a coarse map is the mean of the patch tokens, and the
    final convolutions are left to the heads, which begin with their own. Patches of 14 pixels are resampled to 16.
    """

    def __init__(self, config: BackboneConfig, network: nn.Module, strides: tuple[int, ...] | None) -> None:
        super().__init__()
        reductions, channels = strides_of(network), channels_of(network)
        self._name, self._strides = config.backbone, strides or ()
        self._channels_last_output = gives_channels_last(network)
        self._cells = 0  # per side, if the patches are resampled
        self.built = nn.ModuleList()
        if strides is None or not is_plain(network):
            strides = strides or (reductions[-1],)
            self.outputs, self.widths = outputs_at(config.backbone, network, strides)
            return
        patch, width = reductions[-1], channels[-1]
        own = 2 ** round(math.log2(patch))
        self._cells = 0 if own == patch else config.input_size // own
        self.outputs = (len(reductions) - 1,)
        self.widths = tuple(max(1, width * min(stride, own) // own) for stride in strides)
        self.built.extend(_level(width, own, stride) for stride in strides)

    def forward(self, features: list[Tensor], image: Tensor) -> list[Tensor]:
        """Return one map B, width, H / stride, W / stride per stride from the outputs of the network for B, 3, H, W.

        Raises `UsageError` if the maps have another size, because cells would be at other places of the image.
        """
        maps = self._maps(features)
        for level, stride in zip(maps, self._strides, strict=False):
            if [side * stride for side in level.shape[2:]] != list(image.shape[2:]):
                sizes = " x ".join(map(str, image.shape[2:])), " x ".join(map(str, level.shape[2:]))
                raise UsageError(
                    f"backbone {self._name!r} has {sizes[1]} cells at stride {stride} for images of {sizes[0]} pixels; choose another "
                    "model.input_size or model.backbone"
                )
        return maps

    def _maps(self, features: list[Tensor]) -> list[Tensor]:
        maps = [features[output] for output in self.outputs]
        if self._channels_last_output:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        if not self.built:
            return maps
        if self._cells:
            maps = [F.interpolate(maps[0], (self._cells, self._cells), mode="bilinear", align_corners=False)]
        return [level(maps[0]) for level in self.built]


def _level(width: int, own: int, stride: int) -> nn.Module:
    """Map B, `width`, h, w of stride `own` to the map of `stride`."""
    if stride >= own:
        return nn.AvgPool2d(stride // own) if stride > own else nn.Identity()
    layers: list[nn.Module] = []
    while own > stride:
        if layers:
            layers += [LayerNorm2d(width), nn.GELU()]
        layers.append(nn.ConvTranspose2d(width, max(1, width // 2), kernel_size=2, stride=2))
        own, width = own // 2, max(1, width // 2)
    return nn.Sequential(*layers)


def feature_pyramid(config: BackboneConfig, strides: tuple[int, ...] | None) -> tuple[nn.Module, FeatureLevels]:
    """Create the timm network of a configuration, with its weights, and the maps at `strides` from its outputs."""
    network = feature_network(config, strides)
    levels = FeatureLevels(config, network, strides)
    state = backbone_weights(config.backbone, config.weights)
    if state is not None:
        load_backbone_state(network, fitting_state(config, network, state))
    return network, levels


def feature_network(config: BackboneConfig, strides: tuple[int, ...] | None) -> nn.Module:
    """Create the timm network of a configuration as a list of its feature maps, with new weights.

    A network with position embeddings or windows is built for `input_size`. A plain vision transformer returns its last
    map, after the final normalization and without class and register tokens.
    """
    name = config.backbone
    timm = timm_with(name)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names all of them"
        raise UsageError(f"timm has no backbone {name!r}; {hint}")
    sized = _is_sized(name)
    with torch.device("meta") if sized else nullcontext():  # what it returns decides how it is built
        network = _created(config, features_only=True)
    if is_plain(network):
        _check_patch(config, strides_of(network)[-1])
        network = FeatureGetterNet(_created(config, num_classes=0), out_indices=(-1,), norm=True)
    elif isinstance(network, FeatureGetterNet) and strides is not None:  # without what follows the last of them
        network = _created(config, features_only=True, out_indices=outputs_at(name, network, strides)[0])
    elif sized:
        network = _created(config, features_only=True)
    if config.gradient_checkpointing:
        _checkpoint(name, network)
    network.config = config  # pyright: ignore[reportArgumentType] - for `layer_heights`
    return network


def is_plain(network: nn.Module) -> bool:
    """Whether all layers of a timm network have the same stride, as in a plain vision transformer."""
    return isinstance(network, FeatureGetterNet) and len(set(strides_of(network))) == 1


def strides_of(network: nn.Module) -> list[int]:
    """Strides of the outputs of a timm network."""
    return network.feature_info.reduction()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]


def channels_of(network: nn.Module) -> list[int]:
    """Numbers of channels of the outputs of a timm network."""
    return network.feature_info.channels()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]


def gives_channels_last(backbone: nn.Module) -> bool:
    """Whether the features have shape B, H, W, C, as in Swin."""
    return str(getattr(backbone, "output_fmt", "")).endswith("NHWC")


def _is_sized(name: str) -> bool:
    """Whether timm builds a network for one image size, because of its position embeddings or windows."""
    settings = timm_with(name).get_pretrained_cfg(name)
    return settings is not None and settings.fixed_input_size


# Key of the configuration and its value without effect, for each argument of timm's networks that not all take.
_OPTIONAL = {"patch_size": "model.patch_size=0", "drop_path_rate": "model.drop_path=0"}


def _created(config: BackboneConfig, **options: Any) -> nn.Module:
    """Create the timm network of a configuration."""
    name, size = config.backbone, config.input_size
    options |= {"patch_size": config.patch_size or None, "drop_path_rate": config.drop_path or None}
    if _is_sized(name):
        options["img_size"] = size
    try:
        return timm_with(name).create_model(name, pretrained=False, **options)
    except (RuntimeError, AttributeError, TypeError, AssertionError, ValueError) as error:
        for option, key in _OPTIONAL.items():
            if options[option] and option in str(error):
                raise UsageError(f"backbone {name!r} has no such option; set {key}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"timm cannot build the backbone {name!r} with feature maps for images of {size} x {size} pixels ({reason}); choose another "
            "model.backbone or model.input_size"
        ) from error


def _check_patch(config: BackboneConfig, patch: int) -> None:
    if config.input_size % patch:
        step = math.lcm(patch, 32)
        near = max(1, round(config.input_size / step)) * step
        raise UsageError(
            f"model.input_size={config.input_size} is not a multiple of the {patch} pixels of a patch of {config.backbone!r}; choose "
            f"{near}, or resample its patches with model.patch_size=16"
        )


def _checkpoint(name: str, network: nn.Module) -> None:
    """Recompute activations in the backward pass instead of keeping them."""
    model: Any = network.model if isinstance(network, FeatureGetterNet) else network
    try:
        model.set_grad_checkpointing()
    except (AttributeError, AssertionError):
        raise UsageError(
            f"backbone {name!r} has no gradient checkpointing; set model.gradient_checkpointing=false"
        ) from None


def outputs_at(name: str, backbone: nn.Module, wanted: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of the outputs at the `wanted` strides (the deepest of each) and their numbers of channels."""
    strides, widths = strides_of(backbone), channels_of(backbone)
    deepest = {stride: output for output, stride in enumerate(strides)}
    missing = [stride for stride in wanted if stride not in deepest]
    if missing:
        raise UsageError(f"backbone {name!r} has features at strides {strides}, none at {missing}; choose another")
    outputs = tuple(deepest[stride] for stride in wanted)
    return outputs, tuple(widths[output] for output in outputs)


def load_backbone_state(backbone: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights into a features-only backbone; surplus entries, such as those of a classifier, are ignored.

    timm joins some module names with `_` where the classifier has `.` (`stages_0` for `stages.0`); both are accepted.
    Raises `UsageError` if a weight is missing or has a different shape.
    """
    given = {plain_name(name): value for name, value in state.items()}
    chosen: dict[str, Tensor] = {}
    for name, own in backbone.state_dict().items():
        value = given.get(plain_name(name))
        if value is None and name.endswith("num_batches_tracked"):
            value = own  # missing in the oldest torchvision files
        if value is None:
            raise UsageError(f"the weights have no {name}; use the weights of the same timm backbone")
        if value.shape != own.shape:
            shapes = f"{tuple(value.shape)} instead of {tuple(own.shape)}"
            raise UsageError(f"weight {name} has shape {shapes}; use the weights of the same timm backbone")
        chosen[name] = value
    backbone.load_state_dict(chosen)


def fitting_state(config: BackboneConfig, network: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return pretrained weights with timm's names, resampled to the image and patch size of the network.

    Weights that fit as they are remain as they are. Others pass through the converter of their family in timm, which
    knows the names of the publishers and resamples patches, position embeddings and tables of relative positions.
    """
    own = {plain_name(name): tensor.shape for name, tensor in network.state_dict().items()}
    given = {plain_name(name): tensor.shape for name, tensor in state.items()}
    if all(given.get(name) == shape for name, shape in own.items() if not name.endswith("num_batches_tracked")):
        return state
    with torch.device("meta"):
        whole = _created(config)
    convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    prefix = getattr(whole, "num_prefix_tokens", 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm resamples tables with deprecated indexing
            converted = dict(state if convert is None else convert(dict(state), whole))
        for name, tensor in converted.items():  # of families whose converter leaves them, such as Hiera
            shape = own.get(plain_name(name), tensor.shape)
            if name.endswith("pos_embed") and shape[1] != tensor.shape[1]:
                side = math.isqrt(shape[1] - prefix)
                converted[name] = resample_abs_pos_embed(tensor, [side, side], num_prefix_tokens=prefix)
    except Exception:  # noqa: BLE001 - timm raises anything for another network; loading will say what is missing
        return state
    return converted


def plain_name(name: str) -> str:
    """A tensor's name without the prefix of timm's wrappers, and with `_` for `.`."""
    return name.replace(".", "_").removeprefix("model_").removeprefix("body_")


def parameter_layers(config: BackboneConfig) -> dict[str, int]:
    """Layer of each parameter of the whole timm network, from 0 (stem) to that of the classifier, by `plain_name`."""
    with torch.device("meta"):
        whole: Any = _created(config)
    try:
        layers: Any = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
    except AttributeError:
        raise UsageError(f"timm does not list the layers of {config.backbone!r}; set fit.layer_lr_decay=1") from None
    return {plain_name(name): layer for name, layer in layers.items()}


def timm_networks(module: nn.Module) -> dict[str, nn.Module]:
    """The outermost timm networks of a module by name; without timm networks, the modules named backbone."""
    modules = [(name, part) for name, part in module.named_modules() if name]
    networks = {name: part for name, part in modules if hasattr(part, "feature_info")}
    found = networks or {name: part for name, part in modules if name.rpartition(".")[2] == "backbone"}
    return {name: part for name, part in found.items() if not any(name.startswith(f"{outer}.") for outer in found)}

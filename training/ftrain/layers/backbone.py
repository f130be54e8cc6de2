"""timm networks as feature pyramids, with the pixel statistics they were trained with."""

import difflib
from collections.abc import Mapping

from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.layers.weights import backbone_weights, pixel_statistics
from ftrain.lazy_imports import timm_with


class Normalize(nn.Module):
    """Normalize uint8 B, H, W, 3 to float B, 3, H, W (channels_last) with the pixel statistics of a backbone."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        mean, std = pixel_statistics(backbone)
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Normalize images, uint8 B, H, W, 3, to float32 B, 3, H, W."""
        return (image.permute(0, 3, 1, 2).float() - self.mean) / self.std


class Backbone(nn.Module):
    """A timm network that maps uint8 B, H, W, 3 to feature maps at `strides`, finest first.

    `weights` is `none`, `imagenet` or a file, as in `layers.weights`. `widths` holds the number of channels of each
    feature map. Raises `UsageError` for an unknown network, a network without these strides, or weights that do not
    fit.
    """

    def __init__(self, name: str, weights: str = "none", strides: tuple[int, ...] = (32,)) -> None:
        super().__init__()
        self.normalize = Normalize(name)
        self.features = feature_backbone(name)
        self.outputs, self.widths = outputs_at(name, self.features, strides)
        self._channels_last_output = gives_channels_last(self.features)
        state = backbone_weights(name, weights)
        if state is not None:
            load_backbone_state(self.features, state)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one feature map B, width, H / stride, W / stride per stride."""
        features = self.features(self.normalize(image))
        chosen = [features[output] for output in self.outputs]
        return [level.permute(0, 3, 1, 2) for level in chosen] if self._channels_last_output else chosen


def gives_channels_last(backbone: nn.Module) -> bool:
    """Whether the features have shape B, H, W, C, as in Swin."""
    return str(getattr(backbone, "output_fmt", "")).endswith("NHWC")


def feature_backbone(name: str) -> nn.Module:
    """Create the timm backbone `name` as a feature pyramid with new weights."""
    timm = timm_with(name)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names all of them"
        raise UsageError(f"timm has no backbone {name!r}; {hint}")
    try:
        return timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
        raise UsageError(f"backbone {name!r} has no feature pyramid ({error}); try resnet18") from error


def outputs_at(name: str, backbone: nn.Module, wanted: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of the outputs at the `wanted` strides (the deepest of each) and their numbers of channels."""
    strides: list[int] = backbone.feature_info.reduction()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    widths: list[int] = backbone.feature_info.channels()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
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
    given = {name.replace(".", "_"): value for name, value in state.items()}
    chosen: dict[str, Tensor] = {}
    for name, own in backbone.state_dict().items():
        value = given.get(name.replace(".", "_"))
        if value is None and name.endswith("num_batches_tracked"):
            value = own  # missing in the oldest torchvision files
        if value is None:
            raise UsageError(f"the weights have no {name}; use the weights of the same timm backbone")
        if value.shape != own.shape:
            shapes = f"{tuple(value.shape)} instead of {tuple(own.shape)}"
            raise UsageError(f"weight {name} has shape {shapes}; use the weights of the same timm backbone")
        chosen[name] = value
    backbone.load_state_dict(chosen)

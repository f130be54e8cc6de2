"""An ensemble of keypoints runs: the mean of their heat maps.

Backbones, input sizes and widths may differ. `ftrain join` (see `ftrain.search.join`) creates it without training;
evaluate, predict, describe and submit accept it like any other run. FashionAI's HiKapok: two networks of 4.27 and 4.24%
NE, together 4.07%.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import Views
from ftrain.data.stream import Batch
from ftrain.tasks.keypoints.config import KeypointsConfig
from ftrain.tasks.keypoints.task import Keypoints


class JoinedKeypointsConfig(KeypointsConfig):
    """The members, and what they share: the crop, and how maps are decoded. `input_size` is that of the largest."""

    members: tuple[KeypointsConfig, ...] = Field(min_length=2)


class JoinedKeypoints(Keypoints):
    """Keypoints runs whose heat maps are averaged."""

    Config = JoinedKeypointsConfig

    def build_networks(self) -> None:
        """Create the members."""
        assert isinstance(self.config, JoinedKeypointsConfig)
        self.members = nn.ModuleList([Keypoints(config, self.dataset) for config in self.config.members])
        self.requires_grad_(False)

    @property
    def tasks(self) -> tuple[Keypoints, ...]:
        """The members, in the order in which they were joined; none while they are being created."""
        return tuple(getattr(self, "members", ()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Raise `UsageError`: joined runs are not trained."""
        del batch
        raise UsageError("joined runs are not trained; train the runs, then join them again")

    def heat_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the members' maps and the logarithm of their mean garment probabilities.

        `image` is uint8 B, S, S, 3, as for the largest member; smaller ones see it shrunk, and their maps are enlarged.
        """
        maps, probabilities = [], []
        for task in self.tasks:
            of_task, garment_scores = task.heat_maps(_shrunk(image, task.config.input_size))
            maps.append(_enlarged(of_task.float(), self.config.input_size // 4))
            probabilities.append(garment_scores.float().softmax(dim=1))
        return torch.stack(maps).mean(dim=0), torch.stack(probabilities).mean(dim=0).log()

    def set_tta(self, views: Views | bool | None) -> None:
        """Set the views of each member: on, off, or as configured."""
        super().set_tta(views)
        for task in self.tasks:
            task.set_tta(views)


def joined_config(configs: list[KeypointsConfig]) -> JoinedKeypointsConfig:
    """Configuration of the joined runs.

    Raises `UsageError` unless all are of the same garment and crop in the same way, so that their maps show the same.
    """
    if len(configs) < 2:
        raise UsageError("one keypoints run cannot be joined; add another")
    first = configs[0]
    for key in ("garment", "crop", "box_margin"):
        values = {getattr(config, key) for config in configs}
        if len(values) > 1:
            found = ", ".join(sorted(map(str, values)))
            raise UsageError(f"keypoints runs with different model.{key} ({found}) cannot be joined; choose others")
    shared = {**first.model_dump(mode="json"), "input_size": max(config.input_size for config in configs)}
    members = [config.model_dump(mode="json") for config in configs]
    return JoinedKeypointsConfig.model_validate({**shared, "members": members})


def _shrunk(image: Tensor, size: int) -> Tensor:
    """Resize square images B, S, S, 3 to `size`; pixel centers keep their position in the image."""
    if image.shape[1] == size:
        return image
    planes = image.permute(0, 3, 1, 2).float()
    return F.interpolate(planes, size=(size, size), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def _enlarged(maps: Tensor, size: int) -> Tensor:
    if maps.shape[-1] == size:
        return maps
    return F.interpolate(maps, size=(size, size), mode="bicubic", align_corners=False)

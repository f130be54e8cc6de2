"""What a configuration is made of: frozen pydantic models of a task, of a view, of the training and of a run.

Nothing here imports torch, so that a wrong name or value is answered at once.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

Mining = Literal["batch_hard", "semi_hard", "all"]  # which triplets count
Distance = Literal["cosine", "euclidean"]

# The string below a field is its help in `ftrain config show`.
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class TaskConfig(BaseModel):
    """Base of the frozen `model` section of a task."""

    model_config = _STRICT

    def groups_to_view(self) -> tuple[str, ...]:
        """Column groups without which a sample cannot be placed before the network."""
        return ()


NotNegative = Annotated[float, Field(ge=0)]


class Stage(TaskConfig):
    """A stretch of a run: parameters whose names start with one of `freeze` are not trained; learning rates are
    scaled and losses weighted."""

    until: float = Field(1.0, gt=0, le=1)
    """Share of the steps at which the stage ends."""
    freeze: tuple[str, ...] = ()
    """Prefixes of parameter names that are not trained."""
    lr_scale: float = Field(1.0, ge=0)
    """Multiplies the learning rate."""
    lr_scales: dict[str, NotNegative] = {}
    """Multiplies the learning rate of parameters by prefix of their name; of several prefixes the longest counts."""
    loss_weights: dict[str, NotNegative] = {}
    """Weight of each part of the loss; 1 if not given."""


class ViewConfig(TaskConfig):
    """What a network is shown. A task's own configuration extends this one."""

    input_size: int = Field(128, ge=32, le=4096, multiple_of=32)
    """Side of the square input, pixels."""
    crop: Literal["image", "box"] = "image"
    """What fills the input: the image, or the bounding box of the annotation."""
    box_margin: float = Field(0.1, ge=0)
    """Added around the box, as a share of its longer side."""
    rotation: float = Field(15.0, ge=0)
    """Augmentation: largest rotation either way, degrees."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Augmentation: range of the scale factor."""
    translate: float = Field(0.08, ge=0)
    """Augmentation: largest shift either way, as a share of the input size."""
    flip: float = Field(0.5, ge=0, le=1)
    """Augmentation: probability of a horizontal flip."""
    color_jitter: float = Field(0.3, ge=0, lt=1)
    """Augmentation: brightness, contrast and saturation are multiplied by 1 ± this."""
    random_erase: float = Field(0.0, ge=0, le=1)
    """Augmentation: probability that a random rectangle is grayed (Zhong et al., AAAI 2020)."""

    @field_validator("scale")
    @classmethod
    def _is_a_range(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError("a range of two numbers above 0, the smaller one first")
        return scale

    def groups_to_view(self) -> tuple[str, ...]:
        """The box, where that is looked at."""
        return ("box",) if self.crop == "box" else ()


class FitConfig(BaseModel):
    """How a task is trained. Defaults are those of a small run on a CPU."""

    model_config = _STRICT

    epochs: float = Field(10, gt=0, le=1e6)
    """Passes over the training split; fractions are possible."""
    batch_size: int = Field(32, ge=1)
    """Samples of a step, over all processes."""
    micro_batches: int = Field(1, ge=1)
    """Parts of a batch that go through the network one after the other, to save memory."""
    exact: bool = False
    """Sum micro-batches in index order, so that the number of processes does not change a bit."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate, reached after the warmup."""
    backbone_lr_scale: float = Field(1.0, ge=0)
    """Multiplies the learning rate of parameters named backbone.*."""
    layer_lr_decay: float = Field(1.0, gt=0, le=1)
    """Multiplies the learning rate once more for each layer from the head down; 1 is off."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay of matrices; biases and norms have none."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises linearly."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warmup: cosine to 0, or constant."""
    max_grad_norm: float = Field(10.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay of the exponential moving average of the weights; 0 is off."""
    amp: Literal["none", "bf16"] = "none"
    """Mixed precision: none, or bfloat16."""
    compile: bool = False
    """Compile the model with torch.compile."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of initial weights, order and augmentation."""
    sampler: Literal["shuffled", "windowed", "balanced", "identities"] = "shuffled"
    """Order: shuffled, windowed (a few shards at a time), balanced (classes equally often) or identities (P x K)."""
    samples_per_identity: int = Field(4, ge=2)
    """K of the sampler `identities`: images of each identity in a batch."""
    validate_every: float = Field(1.0, gt=0, le=1e9)
    """Epochs between validations."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(25, ge=1)
    """Steps between lines of the log."""
    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints to keep, besides the best."""
    stages: tuple[Stage, ...] = Field((Stage.model_validate({}),), min_length=1)
    """Stretches of the run with their own frozen parameters, learning rates and loss weights."""


class RunConfig(BaseModel):
    """Everything that decides the weights of a run, as config.yaml keeps it."""

    model_config = _STRICT

    task: str
    """Name of the task."""
    model: dict[str, Any]
    """The task: network, input, losses."""
    fit: FitConfig = Field(default_factory=lambda: FitConfig.model_validate({}))
    """How it is trained."""
    train_split: str = "train"
    """Split to train on."""
    validation_split: str = "val"
    """Split that chooses the best checkpoint; none: the last checkpoint counts as the best."""
    hold_out: float = Field(0.1, gt=0, lt=1)
    """Share of the training groups that validate if the set has no validation split."""
    lock: str = ""
    """Split lock (a file, or its digest) that the shards must carry; empty asks for none."""

    @property
    def digest(self) -> str:
        """SHA-256 over the values, whatever their order in a file. A lock refuses shards, but changes no weight."""
        values = self.model_dump(mode="json", exclude={"lock"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The text of config.yaml."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

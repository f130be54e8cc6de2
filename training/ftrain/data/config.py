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


class TaskConfig(BaseModel):
    """Base of the frozen `model` section of a task."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def groups_to_view(self) -> tuple[str, ...]:
        """Column groups without which a sample cannot be placed before the network."""
        return ()


NotNegative = Annotated[float, Field(ge=0)]


class Stage(TaskConfig):
    """A stretch of a run: parameters whose names start with one of `freeze` are not trained; learning rates are
    scaled and losses weighted."""

    until: float = Field(1.0, gt=0, le=1)  # share of the steps at which the stage ends
    freeze: tuple[str, ...] = ()
    lr_scale: float = Field(1.0, ge=0)
    # Multiplies `rate` for parameters whose names start so; of several such names the longest counts.
    lr_scales: dict[str, NotNegative] = {}
    loss_weights: dict[str, NotNegative] = {}  # weight of each part of the loss; 1 where not named


class ViewConfig(TaskConfig):
    """What a network is shown. A task's own configuration extends this one."""

    input_size: int = Field(128, ge=32, le=4096, multiple_of=32)  # pixels, square
    crop: Literal["image", "box"] = "image"  # what fills the square: the image, or the box of the annotation
    box_margin: float = Field(0.1, ge=0)  # around the box, share of its longer side
    rotation: float = Field(15.0, ge=0)  # degrees, uniform in ±
    scale: tuple[float, float] = (0.8, 1.25)
    translate: float = Field(0.08, ge=0)  # of the input size, uniform in ±
    flip: float = Field(0.5, ge=0, le=1)  # probability
    color_jitter: float = Field(0.3, ge=0, lt=1)  # brightness, contrast and saturation are drawn from 1 ± color
    random_erase: float = Field(
        0.0, ge=0, le=1
    )  # probability that a random rectangle is greyed (Zhong et al., AAAI 2020)

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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: float = Field(10, gt=0, le=1e6)
    batch_size: int = Field(32, ge=1)  # over all processes
    micro_batches: int = Field(1, ge=1)  # parts of a batch that go through the network one after the other
    exact: bool = False  # sum micro-batches in index order, so that the number of processes does not change a bit
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    backbone_lr_scale: float = Field(1.0, ge=0)  # multiplies the rate of parameters named backbone.*
    layer_lr_decay: float = Field(
        1.0, gt=0, le=1
    )  # multiplies it once more for each layer from the head down; 1 is off
    weight_decay: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)  # sgd
    warmup: float = Field(0.05, ge=0, lt=1)  # share of the steps
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: float = Field(10.0, gt=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)  # decay of the exponential moving average of weights; 0 is off
    amp: Literal["none", "bf16"] = "none"
    compile: bool = False
    seed: int = Field(0, ge=0, lt=2**63)
    # windowed: a few shards at a time; balanced: every class equally often; identities: P identities with K images each
    sampler: Literal["shuffled", "windowed", "balanced", "identities"] = "shuffled"
    samples_per_identity: int = Field(4, ge=2)  # K of the sampler `identities`
    validate_every: float = Field(1.0, gt=0, le=1e9)  # epochs
    checkpoint_every: int = Field(100, ge=1)  # steps
    log_every: int = Field(25, ge=1)  # steps
    keep_checkpoints: int = Field(2, ge=1)  # besides the best
    stages: tuple[Stage, ...] = Field((Stage.model_validate({}),), min_length=1)


class RunConfig(BaseModel):
    """Everything that decides the weights of a run, as config.yaml keeps it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str
    model: dict[str, Any]
    fit: FitConfig = Field(default_factory=lambda: FitConfig.model_validate({}))
    train_split: str = "train"
    validation_split: str = (
        "val"  # "none": nothing evaluates the run while it trains, and its last checkpoint counts as the best
    )
    hold_out: float = Field(
        0.1, gt=0, lt=1
    )  # share of the training groups that validate where the set has no such split
    lock: str = ""  # digest of the split lock (or its file) that the shards must carry; empty asks for none

    @property
    def digest(self) -> str:
        """SHA-256 over the values, whatever their order in a file. A lock refuses shards, but changes no weight."""
        values = self.model_dump(mode="json", exclude={"lock"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The text of config.yaml."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

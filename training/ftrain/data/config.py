"""Configuration models: frozen pydantic classes of a task, a view, the training loop and a run.

Nothing here imports torch, so that a wrong key or value is reported immediately.
"""

import hashlib
import json
import math
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Mining = Literal["batch_hard", "semi_hard", "all"]  # triplets that contribute to the loss
Distance = Literal["cosine", "euclidean"]

# The string below a field is its help text in `ftrain config show`.
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class TaskConfig(BaseModel):
    """Base of the frozen `model` section of a task."""

    model_config = _STRICT

    def groups_to_view(self) -> tuple[str, ...]:
        """Column groups without which a sample cannot be cropped for the network."""
        return ()


NotNegative = Annotated[float, Field(ge=0)]


class Stage(TaskConfig):
    """A stage of a run: its frozen parameters, learning rate factors and loss weights."""

    until: float = Field(1.0, gt=0, le=1)
    """Fraction of the steps at which the stage ends."""
    freeze: tuple[str, ...] = ()
    """Prefixes of the names of parameters that are frozen."""
    lr_scale: float = Field(1.0, ge=0)
    """Multiplies the learning rate."""
    lr_scales: dict[str, NotNegative] = {}
    """Multiplies the learning rate of parameters by name prefix; the longest matching prefix counts."""
    loss_weights: dict[str, NotNegative] = {}
    """Weight of each loss term; 1 by default."""


class Views(TaskConfig):
    """Views averaged by test-time augmentation, in addition to the plain image."""

    flip: bool = False
    """Also flip each view left to right."""
    rotations: tuple[float, ...] = ()
    """Rotate by these angles, degrees; positive angles rotate the y axis toward the x axis."""
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = ()
    """Enlarge around the center by these factors."""


class ViewConfig(TaskConfig):
    """Input of the network and its augmentation. Base of the configurations of image tasks."""

    input_size: int = Field(128, ge=32, le=4096, multiple_of=32)
    """Side of the square input, pixels."""
    crop: Literal["image", "box"] = "image"
    """Region that fills the input: the image, or the annotated bounding box."""
    box_margin: float = Field(0.1, ge=0)
    """Margin around the box, as a fraction of its longer side."""
    rotation: float = Field(15.0, ge=0)
    """Augmentation: maximum rotation in either direction, degrees."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Augmentation: range of the scale factor."""
    translate: float = Field(0.08, ge=0)
    """Augmentation: maximum shift in either direction, as a fraction of the input size."""
    flip: float = Field(0.5, ge=0, le=1)
    """Augmentation: probability of a horizontal flip."""
    crop_area: tuple[float, float] = (1.0, 1.0)
    """Augmentation: random resized crop, range of its share of the area; [1, 1] disables it (Szegedy et al., CVPR 2015)."""
    crop_aspect: tuple[float, float] = (0.75, 4 / 3)
    """Augmentation: range of the aspect ratio (width / height) of the random resized crop, which fills the input."""
    color_jitter: float = Field(0.3, ge=0, lt=1)
    """Augmentation: brightness, contrast and saturation are multiplied by 1 ± this."""
    color_operations: int = Field(0, ge=0, le=10)
    """Augmentation: number of random color operations per image (Cubuk et al., NeurIPS 2020); 0 disables them."""
    color_magnitude: float = Field(0.3, ge=0, le=1)
    """Augmentation: strength of the random color operations, relative to the strongest of the paper."""
    random_erase: float = Field(0.0, ge=0, le=1)
    """Augmentation: probability that a random rectangle is grayed (Zhong et al., AAAI 2020)."""

    @field_validator("scale", "crop_area", "crop_aspect")
    @classmethod
    def _is_a_range(cls, given: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        most = 1.0 if info.field_name == "crop_area" else math.inf
        if not 0 < given[0] <= given[1] <= most:
            raise ValueError(f"must be a range (low, high) with 0 < low <= high{' <= 1' if most == 1 else ''}")
        return given

    def groups_to_view(self) -> tuple[str, ...]:
        """The box group if the input is cropped to the bounding box."""
        return ("box",) if self.crop == "box" else ()


class BackboneConfig(ViewConfig):
    """Backbone of the network, and test-time augmentation."""

    backbone: str = "resnet18"
    """timm name of the network, with its tag if it has one."""
    weights: str = "none"
    """Initial weights of the backbone: none, imagenet (timm's default), a tag of timm, hf-hub:NAME, or a path."""
    patch_size: int = Field(0, ge=0, le=64)
    """Side of a patch of a vision transformer, pixels; pretrained patches are resampled. 0: as published."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth: probability that the last residual block is skipped, rising linearly from 0 at the first."""
    gradient_checkpointing: bool = False
    """Recompute the activations of the backbone in the backward pass, which saves memory and costs time."""
    tta: Views = Views()
    """Test-time augmentation, unless `--tta` or `--no-tta` is given."""

    @field_validator("patch_size")
    @classmethod
    def _not_tiny(cls, given: int) -> int:
        if 0 < given < 4:
            raise ValueError("0 or at least 4; the cost grows with the square of the number of patches")
        return given

    @field_validator("tta", mode="before")
    @classmethod
    def _keep_other_views(cls, given: Any) -> Any:
        default = cls.model_fields["tta"].default.model_dump()
        return {**default, **given} if isinstance(given, dict) else given


class SoftmaxConfig(BackboneConfig):
    """Softmax losses."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the softmax losses."""


class ImageLabelConfig(SoftmaxConfig):
    """Losses on labels of the whole image, some of which are rare."""

    logit_adjustment: float = Field(0.0, ge=0)
    """Weight of the log class frequencies in the classification loss, for rare classes; 1: balanced softmax."""
    mixup: float = Field(0.0, ge=0, le=100)
    """Augmentation: alpha of mixup, which adds two images (Zhang et al., ICLR 2018); 0 disables it."""
    cutmix: float = Field(0.0, ge=0, le=100)
    """Augmentation: alpha of CutMix, which pastes a part of another image (Yun et al., ICCV 2019); 0 disables it."""


class TripletConfig(SoftmaxConfig):
    """Losses on classes and on triplets of images."""

    triplet_margin: float = Field(0.2, ge=0)
    """Margin of the triplet loss."""
    mining: Mining = "batch_hard"
    """Triplets of a batch: the hardest one of each image, semi-hard ones (Schroff et al., CVPR 2015), or all."""


class FitConfig(BaseModel):
    """Configuration of the training loop. The defaults suit a small run on a CPU."""

    model_config = _STRICT

    epochs: float = Field(10, gt=0, le=1e6)
    """Passes over the training split; may be fractional."""
    batch_size: int = Field(32, ge=1)
    """Samples per step, over all processes."""
    micro_batches: int = Field(1, ge=1)
    """Micro-batches per step, computed one after the other to save memory."""
    exact: bool = False
    """Sum micro-batches in index order, so that results are bit-identical for any number of processes."""
    sync_batch_norm: bool = True
    """Batch normalization uses the statistics of all processes; no effect with one process or with `exact`."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate, reached after the warmup."""
    backbone_lr_scale: float = Field(1.0, ge=0)
    """Multiplies the learning rate of the backbone, but not of layers added to it."""
    layer_lr_decay: float = Field(1.0, gt=0, le=1)
    """Each layer of the backbone has this times the learning rate of the layer above; 1 disables it."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay; not applied to biases and normalization layers."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    """Fraction of the steps over which the learning rate rises linearly."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warmup: cosine to 0, or constant."""
    max_grad_norm: float = Field(10.0, gt=0)
    """Maximum norm of the gradient (clipping)."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay of the exponential moving average of the weights; 0 disables it."""
    amp: Literal["none", "bf16", "fp16"] = "none"
    """Mixed precision: none, bfloat16, or float16 with scaled gradients for GPUs without bfloat16."""
    tf32: bool = True
    """Multiply float32 numbers as TensorFloat32 on GPUs: 10 bits of precision instead of 23."""
    compile: bool = False
    """Compile the model with torch.compile."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of initial weights, sample order and augmentation."""
    sampler: Literal["shuffled", "windowed", "balanced", "square_root", "identities", "auto"] = "shuffled"
    """Order; balanced: all classes equally often; square_root: between; identities: P x K; auto: P x K if there are items."""
    samples_per_identity: int = Field(4, ge=2)
    """K of the samplers `identities` and `auto`: images per identity in a batch."""
    across_domains: bool = False
    """With `identities`: every identity of a batch has images of all its domains (consumer and shop)."""
    mixture: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Weights of several shard sets in each batch, in their order; empty: in proportion to their training images."""
    validate_every_epochs: float = Field(1.0, gt=0, le=1e9)
    """Epochs between validations."""
    checkpoint_every_steps: int = Field(100, ge=1)
    """Steps between checkpoints."""
    log_every_steps: int = Field(25, ge=1)
    """Steps between log lines."""
    keep_checkpoints: int = Field(2, ge=1)
    """Number of most recent checkpoints to keep, besides the best."""
    stages: tuple[Stage, ...] = Field((Stage.model_validate({}),), min_length=1)
    """Stages of the run, each with its frozen parameters, learning rate factors and loss weights."""


class RunConfig(BaseModel):
    """Everything that determines the weights of a run, as stored in config.yaml."""

    model_config = _STRICT

    task: str
    """Name of the task."""
    model: dict[str, Any]
    """Configuration of the task: network, input, losses."""
    fit: FitConfig = Field(default_factory=lambda: FitConfig.model_validate({}))
    """Configuration of the training loop."""
    train_split: str = "train"
    """Split to train on."""
    validation_split: str = "val"
    """Split that selects the checkpoint; holdout: part of train; auto: val beside a test split, else holdout; none: use the last."""
    hold_out: float = Field(0.1, gt=0, lt=1)
    """Fraction of the training groups held out for validation with `holdout`, or without a validation split."""
    split_lock: str = ""
    """Split lock (a file, or its digest) that the shards must carry; empty: not required."""

    @property
    def digest(self) -> str:
        """SHA-256 of the values, independent of their order.

        Excludes `split_lock`, which does not affect the weights, and `fit.tf32` as long as it is as in runs without it.
        """
        values = self.model_dump(mode="json", exclude={"split_lock"})
        if self.fit.tf32:
            del values["fit"]["tf32"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """Return the text of config.yaml."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

"""Random and tiny networks of every family of timm, registered under names of their own.

They have the structure of their family: registers and patches of 14 pixels (DINOv2), pooling by attention (SigLIP),
rotary position embeddings (DINOv3), windows (Swin), mask units (Hiera).
"""

from __future__ import annotations

from collections import deque
from typing import Any

import timm
import torch
from timm.models import register_model
from timm.models._pretrained import DefaultCfg

default_cfgs: dict[str, DefaultCfg] = {}  # read by timm's register_model


def tiny(base: str, **overrides: Any) -> str:
    """Register a variant of a timm network and return its name."""
    name = f"tiny_{base}"

    def create(pretrained: bool = False, **given: Any) -> torch.nn.Module:
        return timm.create_model(base, pretrained=pretrained, **{**overrides, **given})

    create.__name__, create.__module__ = name, __name__
    default_cfgs[name] = DefaultCfg(deque([""]), {"": timm.get_pretrained_cfg(base)})
    register_model(create)
    return name


_VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
FAMILIES: dict[str, tuple[str, int]] = {  # network and input size
    "cnn": ("test_resnet", 64),
    "convnext": ("test_convnext", 64),
    "swin": (tiny("swin_tiny_patch4_window7_224", embed_dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4)), 64),
    "vit": ("test_vit", 64),
    "dinov2": (tiny("vit_small_patch14_reg4_dinov2", **_VIT), 224),
    "siglip": (tiny("vit_base_patch16_siglip_224", **_VIT), 64),
    "dinov3": (tiny("vit_small_patch16_dinov3", **_VIT), 64),
    "hiera": (tiny("hiera_tiny_224", embed_dim=16, stages=(1, 1, 2, 1), num_heads=1), 64),
}

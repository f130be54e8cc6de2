"""Augmented copies by albumentations recipes: pixels, landmarks, boxes and visibility stay consistent.

A recipe is data: albumentations class names and their arguments. Randomness is keyed by (seed, key, copy, draw), so a
copy does not depend on the process that makes it. Spatial transforms are allowed only if they were measured to move
keypoints with the pixels to within 0.001 pixels, in pixel-center coordinates (albumentations 2.0.8). Its resizing
transforms are off by half a pixel times (scale - 1), its distortions by a pixel or more, and some blurs shift the image
but not the keypoints.
"""

import hashlib
import os
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from fprep.shard.geometry import Geometry
from fschemas.failures import UsageError, did_you_mean
from fschemas.landmarks import Visibility
from fschemas.yaml_file import read_yaml

DRAWS = 20  # attempts to keep the box in the image; then the copy is left unaugmented
_ABSENT = Visibility.ABSENT.value
_FILL = [124, 116, 104]  # ImageNet mean, fills the area that a rotation uncovers

_COLOR: dict[str, Any] = {
    "ColorJitter": {"brightness": [0.8, 1.2], "contrast": [0.8, 1.2], "saturation": [0.8, 1.2], "hue": [-0.03, 0.03],
                    "p": 0.8}
}  # fmt: skip
_FLIP: dict[str, Any] = {"HorizontalFlip": {"p": 0.5}}

RECIPES: dict[str, list[dict[str, Any]]] = {
    "light": [
        _COLOR,
        {"GaussianBlur": {"blur_limit": 0, "sigma_limit": [0.3, 1.5], "p": 0.2}},
        {"GaussNoise": {"std_range": [0.01, 0.04], "p": 0.3}},
        {"ImageCompression": {"quality_range": [50, 95], "p": 0.3}},
    ],
    "geometric": [
        _FLIP,
        {"Affine": {"rotate": [-30, 30], "scale": [0.8, 1.2], "translate_percent": [-0.06, 0.06], "keep_ratio": True,
                    "fill": _FILL, "p": 0.9}},
        _COLOR,
    ],
    "strong": [
        _FLIP,
        {"Affine": {"rotate": [-45, 45], "scale": [0.65, 1.35], "translate_percent": [-0.1, 0.1], "shear": [-8, 8],
                    "keep_ratio": True, "fill": _FILL, "p": 0.9}},
        {"Perspective": {"scale": [0.02, 0.08], "fill": _FILL, "p": 0.3}},
        {"ColorJitter": {"brightness": [0.6, 1.4], "contrast": [0.6, 1.4], "saturation": [0.5, 1.5],
                         "hue": [-0.08, 0.08], "p": 0.9}},
        {"ToGray": {"p": 0.1}},
        {"GaussianBlur": {"blur_limit": 0, "sigma_limit": [0.3, 2.5], "p": 0.3}},
        {"GaussNoise": {"std_range": [0.02, 0.08], "p": 0.4}},
        {"ImageCompression": {"quality_range": [30, 90], "p": 0.5}},
    ],
}  # fmt: skip

EXACT_SPATIAL = (
    "Affine", "CenterCrop", "Crop", "D4", "HorizontalFlip", "NoOp", "Pad", "PadIfNeeded", "Perspective", "RandomCrop",
    "RandomCropFromBorders", "RandomRotate90", "Rotate", "SafeRotate", "SquareSymmetry", "Transpose", "VerticalFlip",
)  # fmt: skip
# Measured: these shift the image by up to 1 to 5 pixels.
_SHIFTING = ("Downscale", "GlassBlur", "MotionBlur", "ZoomBlur")
_NOT_IMAGES = ("FromFloat", "Normalize", "ToFloat", "ToTensor3D", "ToTensorV2")


@dataclass(frozen=True)
class Recipe:
    """An augmentation recipe: its name and transforms, each mapping one albumentations class name to its arguments."""

    name: str
    transforms: tuple[dict[str, dict[str, Any]], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, including the albumentations version, for the plan of a shard set."""
        return {"name": self.name, "transforms": list(self.transforms), "albumentations": _albumentations().__version__}


def load_recipe(name: str) -> Recipe:
    """Load and validate a built-in recipe by name, or one from a YAML file. Raises `UsageError`.

    The file is a list of albumentations class names, with or without arguments: `- Rotate: {limit: 20, p: 0.5}`.
    """
    if name in RECIPES:
        return Recipe(name, tuple(RECIPES[name]))
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        guess = did_you_mean(name, RECIPES)
        raise UsageError(f"unknown recipe {name!r}; {guess}choose from {', '.join(RECIPES)}, or pass a YAML file")
    if not path.exists():
        raise UsageError(f"{path}: no such recipe file; known recipes are {', '.join(RECIPES)}")
    content = read_yaml(path)
    if not isinstance(content, list) or not content:
        raise UsageError(f"{path}: expected a list of transforms, with lines such as `- Rotate: {{limit: 20, p: 0.5}}`")
    transforms = tuple(_entry(path, number, entry) for number, entry in enumerate(cast("list[object]", content), 1))
    recipe = Recipe(path.stem, transforms)
    for number, transform in enumerate(transforms, 1):
        _build(transform, f"{path}: transform {number}")
    return recipe


class Augmenter:
    """Applies a recipe to images. `flip_index` is the flip index of the landmark set, empty if there are no landmarks."""

    def __init__(self, recipe: Recipe, flip_index: tuple[int, ...], seed: int) -> None:
        self.recipe, self.flip_index, self.seed = recipe, flip_index, seed
        library = _albumentations()
        self._transforms = [_build(transform, f"recipe {recipe.name}") for transform in recipe.transforms]
        keypoints = library.KeypointParams(format="xy", remove_invisible=False)
        # Compose warns if no transform accepts keypoints; NoOp does.
        self._compose = library.Compose([*self._transforms, library.NoOp()], keypoint_params=keypoints)

    def __call__(self, pixels: np.ndarray, geometry: Geometry, key: str, copy: int) -> tuple[np.ndarray, Geometry]:
        """Return an augmented copy of an image, uint8 RGB (H, W, 3), and of its geometry.

        Landmarks that leave the image become absent. The box becomes the axis-aligned hull of its transformed corners,
        clipped to the image. A draw that leaves less than one pixel of its width or height is repeated; after 20 draws
        the image is returned unchanged. If the image is flipped, left and right landmarks are swapped. Raises
        `UsageError` if the recipe cannot be applied.
        """
        for draw in range(DRAWS):
            moved_pixels, moved, flipped = self._draw(pixels, geometry, f"{self.seed}/{key}/{copy}/{draw}")
            moved = _inside(moved, moved_pixels.shape[1], moved_pixels.shape[0])
            if moved is not None and flipped and self.flip_index:
                order = np.array(self.flip_index)
                moved = replace(moved, landmarks=moved.landmarks[order], visibility=moved.visibility[order])
            if moved is not None:
                return moved_pixels, moved
        return pixels, geometry

    def _draw(self, pixels: np.ndarray, geometry: Geometry, name: str) -> tuple[np.ndarray, Geometry, bool]:
        height, width = pixels.shape[:2]
        # Separate seeds: with one seed, two flips of probability 0.5 would always happen together.
        for number, transform in enumerate(self._transforms):
            digest = hashlib.blake2b(f"{name}/{number}".encode(), digest_size=4).digest()
            seed = int.from_bytes(digest, "little")
            transform.py_random.seed(seed)
            transform.random_generator = np.random.default_rng(seed)
        across, along = width / 2, height / 2
        markers = np.array([[across, along], [1.5 * across, along], [across, 1.5 * along]])
        corners = geometry.corners
        sent = np.concatenate([markers, corners, geometry.landmarks, geometry.others]).astype(np.float32)
        try:
            result = self._compose(image=pixels, keypoints=sent)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - transforms raise all kinds of exceptions
            detail = " ".join(str(error).split())
            where = f"recipe {self.recipe.name}: cannot be applied to {name}"
            raise UsageError(f"{where} ({detail}); fix the recipe") from None
        moved_pixels, moved = result["image"], np.asarray(result["keypoints"], np.float64)
        if moved_pixels.dtype != np.uint8 or moved_pixels.ndim != 3 or moved_pixels.shape[2] != 3:
            remedy = "remove the transform that changes the type"
            raise UsageError(f"recipe {self.recipe.name}: does not return an 8-bit RGB image; {remedy}")
        assert len(moved) == len(sent)
        (x, y), (right_x, right_y), (down_x, down_y) = moved[:3].tolist()
        flipped = (right_x - x) * (down_y - y) < (right_y - y) * (down_x - x)
        box = None if geometry.box is None else np.concatenate([moved[3:7].min(axis=0), moved[3:7].max(axis=0)])
        points, count = moved[3 + len(corners) :], len(geometry.landmarks)
        return moved_pixels, Geometry(points[:count], geometry.visibility, box, points[count:]), flipped


def _inside(geometry: Geometry, width: int, height: int) -> Geometry | None:
    """Mark landmarks outside the image as absent, with the one-pixel tolerance of tables.

    Returns None if less than one pixel of the box is left in either direction.
    """
    box = geometry.box
    if box is not None:
        box = np.minimum(np.maximum(box, 0), [width - 1, height - 1, width - 1, height - 1])
        x1, y1, x2, y2 = box.tolist()
        if x2 - x1 < 1 or y2 - y1 < 1:
            return None
    known = geometry.has_coordinates
    x, y = geometry.landmarks.T
    outside = (x < -1) | (y < -1) | (x > width) | (y > height)
    visibility = np.where(known & outside, _ABSENT, geometry.visibility)
    landmarks = np.where((known & ~outside)[:, None], geometry.landmarks, 0.0)
    return Geometry(landmarks, visibility, box, geometry.others)


def _albumentations() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise it checks for a newer version online
    # Prevents it from importing torch, which takes seconds and half a gigabyte per worker.
    cast("dict[str, object]", sys.modules).setdefault("albumentations.pytorch", None)
    import albumentations

    return albumentations


def _entry(path: Path, number: int, entry: object) -> dict[str, dict[str, Any]]:
    if isinstance(entry, str):
        return {entry: {}}
    if isinstance(entry, dict) and len(cast("dict[object, object]", entry)) == 1:
        [(name, arguments)] = cast("dict[object, object]", entry).items()
        if isinstance(name, str) and (arguments is None or isinstance(arguments, dict)):
            return {name: cast("dict[str, Any]", arguments or {})}
    raise UsageError(f"{path}: transform {number} ({entry!r}) is not `Name` or `Name: {{argument: value}}`; fix it")


def _build(transform: dict[str, dict[str, Any]], source: str) -> Any:
    """Build the albumentations transform. Names are looked up in its top-level namespace only."""
    library = _albumentations()
    [(name, arguments)] = transform.items()
    found = getattr(library, name, None)
    if not isinstance(found, type) or not issubclass(found, library.BasicTransform):
        raise UsageError(f"{source}: albumentations has no transform {name!r}; see its documentation for the names")
    moves_pixels = not issubclass(found, library.ImageOnlyTransform)
    if (moves_pixels and name not in EXACT_SPATIAL) or name in _SHIFTING + _NOT_IMAGES:
        raise UsageError(
            f"{source}: {name} does not move keypoints with their pixels, or does not return an image; "
            f"of the transforms that move pixels use {', '.join(EXACT_SPATIAL)}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns of unknown arguments
            return found(**{key: _tuples(value) for key, value in arguments.items()})
    except (TypeError, ValueError, UserWarning) as error:
        raise UsageError(f"{source}: {name}: {' '.join(str(error).split())}; fix its arguments") from None


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in cast("list[object]", value)) if isinstance(value, list) else value

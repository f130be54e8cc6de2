"""Views that the device renders are those of the data workers, within rounding, and wait for nothing."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from tests.shard_sets import label_sample
from torch.utils._python_dispatch import TorchDispatchMode

from fschemas.landmarks import DEEPFASHION_8
from ftrain.data.color_operations import COLOR_OPERATIONS
from ftrain.data.config import ViewConfig
from ftrain.data.device_view import canvas_inputs, operation_inputs, render_batch
from ftrain.data.image import Recipe, fit_matrix, render
from ftrain.data.stream import RawSample
from ftrain.data.view import landmarks_in_view, view_of_sample

SIDE = 96  # of the views
# Gray levels. Both ways round after each step, so colors multiply differences of one level.
MEAN, MAX = 0.1, 3


def config(**settings: Any) -> ViewConfig:
    return ViewConfig.model_validate({"input_size": SIDE, **settings})


def photograph(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Shapes with sharp edges, texture and saturated colors."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (width // 3, height // 2), min(width, height) // 4, (255, 0, 0), 3)
    cv2.rectangle(image, (width // 2, height // 3), (width - 5, height - 9), (0, 40, 255), -1)
    return image


def samples(*, canvas: int | None = None) -> list[RawSample]:
    """Samples of several shapes; one must be reduced in the decoder, one in the decoder and after it."""
    found: list[RawSample] = []
    for number, (width, height) in enumerate([(90, 120), (300, 200), (64, 64), (777, 1023), (3001, 1700)]):
        note = label_sample(number, "train", DEEPFASHION_8, items=8).annotation
        box = [0.2 * width, 0.1 * height, 0.9 * width, 0.8 * height]
        jpeg = simplejpeg.encode_jpeg(photograph(width, height, number), 92, colorsubsampling="420")
        found.append(RawSample(number, jpeg, {**note, "width": width, "height": height, "box": box}, canvas=canvas))
    return found


def stacked(inputs: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.stack([one[name] for one in inputs])) for name in inputs[0]}


@pytest.mark.parametrize("side", [2 * SIDE, 3 * SIDE])
@pytest.mark.parametrize(
    "settings",
    [
        {"rotation": 0.0, "scale": (1.0, 1.0), "translate": 0.0, "flip": 0.0, "color_jitter": 0.0},
        {"rotation": 30.0, "color_jitter": 0.0},
        {"crop": "box", "flip": 1.0, "scale": (0.3, 3.0)},
        {"crop_area": (0.2, 0.8), "random_erase": 1.0},
        {"translate": 2.0, "rotation": 180.0},
        {"color_operations": 2, "color_jitter": 0.0},
    ],
    ids="-".join,
)
def test_both_ways_give_the_same_image(settings: dict[str, Any], side: int) -> None:
    view_config = config(**settings)
    for seed in range(3):
        views = [
            [
                view_of_sample(view_config, sample, np.random.default_rng((seed, sample.row)))
                for sample in samples(canvas=canvas)
            ]
            for canvas in (None, side)
        ]
        for plain, view in zip(*views, strict=True):
            np.testing.assert_array_equal(view.matrix, plain.matrix)
            assert view.flipped == plain.flipped
        rendered = render_batch(stacked([view.inputs for view in views[1]]), SIDE)
        assert rendered.keys() == {"image"}
        expected = np.stack([view.image for view in views[0]])
        error = np.abs(rendered["image"].numpy().astype(int) - expected)
        if side == 3 * SIDE:  # otherwise, parts of images may be shrunk once more
            assert error.max() <= (MAX if "color_operations" not in settings else 255)
        assert error.mean() < (MEAN if side == 3 * SIDE else 1.0), (seed, error.mean(axis=(1, 2, 3)))


@pytest.mark.parametrize("operation", range(len(COLOR_OPERATIONS)))
@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.0, 0.3, 1.0])
def test_color_operations_are_those_of_the_workers(operation: int, strength: float) -> None:
    """Here on an image that both ways sample exactly."""
    image = photograph(SIDE, SIDE)
    jpeg = simplejpeg.encode_jpeg(image, 95, colorsubsampling="444")
    recipe = Recipe(fit_matrix(SIDE, SIDE, SIDE), operations=((operation, strength),))
    inputs = canvas_inputs(jpeg, recipe, SIDE, SIDE + 7) | operation_inputs(recipe, 1)
    found = render_batch(stacked([inputs]), SIDE)["image"][0].numpy().astype(int)
    assert np.abs(found - render(jpeg, recipe, SIDE)).max() <= 1


def test_old_content_of_a_slot_does_not_matter() -> None:
    view_config = config(rotation=30.0)
    images: list[torch.Tensor] = []
    for level in (0, 255):
        inputs: list[dict[str, np.ndarray]] = []
        for sample in samples(canvas=2 * SIDE):
            slot = np.full((2 * SIDE, 2 * SIDE, 3), level, np.uint8)
            view = view_of_sample(view_config, replace(sample, out=slot), np.random.default_rng(sample.row))
            assert view.inputs["image"] is slot
            inputs.append(view.inputs)
        images.append(render_batch(stacked(inputs), SIDE)["image"])
    assert torch.equal(*images)


@pytest.mark.parametrize("canvas", [None, 2 * SIDE])
def test_landmarks_lie_on_their_markers(canvas: int | None) -> None:
    """Each landmark is a colored dot; after a random view, the dot is where the landmark has moved."""
    view_config = config(crop="box", rotation=40.0, flip=0.5, scale=(0.7, 1.2), color_jitter=0.0)
    colors = [color for color in itertools.product((0, 255), repeat=3) if len(set(color)) > 1]
    found = 0
    for number, factor in itertools.product(range(6), (1, 3)):
        width, height = 150 * factor, 190 * factor
        image = np.full((height, width, 3), 128, np.uint8)
        note = label_sample(2, "train", DEEPFASHION_8, items=8).annotation
        x, y = np.random.default_rng(number).permutation(np.arange(20, 140, 15))[:8], np.arange(20, 180, 20)
        note |= {"width": width, "height": height, "box": [0.0, 0.0, width - 1.0, height - 1.0]}
        note |= {"landmark_x": (x * factor).tolist(), "landmark_y": (y * factor).tolist()}
        for place, color in zip(zip(x, y, strict=True), colors, strict=False):
            cv2.circle(image, tuple(int(value) * factor for value in place), 5 * factor, color, -1)
        sample = RawSample(0, simplejpeg.encode_jpeg(image, 98, colorsubsampling="444"), note, canvas=canvas)
        view = view_of_sample(view_config, sample, np.random.default_rng(number))
        inputs = stacked([view.inputs])
        pixels = (inputs if canvas is None else render_batch(inputs, SIDE))["image"][0].numpy().astype(float)
        points = landmarks_in_view(note, DEEPFASHION_8, view)["keypoints"]
        order = list(DEEPFASHION_8.flip_index) if view.flipped else range(8)
        for point, name in zip(points, order, strict=True):
            if name < len(colors) and (point > 5).all() and (point < SIDE - 6).all():
                near = np.abs(pixels - colors[name]).sum(axis=2) < 150
                rows, columns = np.nonzero(near)
                close = np.hypot(columns - point[0], rows - point[1]) < 6
                assert close.any()
                center = columns[close].mean(), rows[close].mean()
                assert np.hypot(*(center - point)) < 0.5, (number, factor, name)
                found += 1
    assert found > 30


def views_to_render(**settings: Any) -> dict[str, torch.Tensor]:
    view_config = config(random_erase=1.0, color_operations=2, **settings)
    found = [
        view_of_sample(view_config, sample, np.random.default_rng(sample.row)).inputs
        for sample in samples(canvas=2 * SIDE)
    ]
    return stacked(found)


class Operations(TorchDispatchMode):
    """Counts operations that depend on values, so that a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = (
            [index for index in args[1] if index is not None and index.dtype == torch.bool] if name == "index" else []
        )
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item") or masks:
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


def test_rendering_reads_nothing_back() -> None:
    batch = views_to_render()
    with Operations() as operations:
        render_batch(batch, SIDE)
    assert not operations.waits


def test_rendering_compiles_to_one_graph() -> None:
    batch = views_to_render()
    compiled = torch.compile(render_batch, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(batch, SIDE)["image"], render_batch(batch, SIDE)["image"])


def test_lower_precision_of_the_model_does_not_apply() -> None:
    batch = views_to_render()
    with torch.autocast("cpu", torch.bfloat16):
        image = render_batch(batch, SIDE)["image"]
    assert torch.equal(image, render_batch(batch, SIDE)["image"])

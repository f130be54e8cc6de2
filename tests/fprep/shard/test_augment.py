"""Augmentation: landmarks stay on their pixels, flips swap counterparts, draws depend on seed, key and copy only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.small_tables import bright_spot, spot_center

from fprep.shard.augment import EXACT_SPATIAL, RECIPES, Augmenter, Recipe, load_recipe
from fprep.shard.geometry import Geometry, geometry_of, write_geometry
from fschemas.failures import UsageError
from fschemas.landmarks import FASHIONAI_24, Visibility

WIDTH, HEIGHT = 161, 121
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Affine": {"rotate": [-30, 30], "scale": [0.7, 1.3], "translate_percent": [-0.06, 0.06], "shear": [-8, 8]},
    "CenterCrop": {"height": 100, "width": 140},
    "Crop": {"x_min": 10, "y_min": 7, "x_max": 150, "y_max": 110},
    "Pad": {"padding": 9},
    "PadIfNeeded": {"min_height": 200, "min_width": 180},
    "RandomCrop": {"height": 110, "width": 150},
    "Rotate": {"limit": [-40, 40]},
    "SafeRotate": {"limit": [-40, 40]},
}


def augmenter(*transforms: dict[str, dict[str, Any]], flip_index: tuple[int, ...] = (), seed: int = 0) -> Augmenter:
    return Augmenter(Recipe("test", tuple(transforms)), flip_index, seed)


def one_point(x: float, y: float, box: tuple[float, ...] | None = None) -> Geometry:
    return Geometry(np.array([[x, y]]), np.array([2]), None if box is None else np.array(box))


@pytest.mark.parametrize("name", EXACT_SPATIAL)
def test_bright_pixel_follows_its_keypoint(name: str) -> None:
    augment = augmenter({name: {**_ARGUMENTS.get(name, {}), "p": 1.0}})
    generator = np.random.default_rng(3)
    for copy in range(12):
        x, y = generator.uniform(60, 100), generator.uniform(50, 75)
        image, moved = augment(bright_spot(WIDTH, HEIGHT, x, y, radius=2.0), one_point(x, y), "k", copy)
        assert spot_center(image) == pytest.approx(moved.landmarks[0], abs=0.03 if name != "Perspective" else 0.08)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_keep_points_on_pixels(recipe: str) -> None:
    augment = Augmenter(load_recipe(recipe), (), 0)
    for copy in range(20):
        image, moved = augment(bright_spot(WIDTH, HEIGHT, 85, 55, radius=4.0), one_point(85, 55), "k", copy)
        assert moved.visibility[0] == Visibility.VISIBLE
        # noise and compression of the strong recipe blur the centroid; half a pixel would show in the mean
        assert _brightest(image) == pytest.approx(moved.landmarks[0], abs=1.0)


def _brightest(image: np.ndarray) -> tuple[float, float]:
    """Centroid of the bright spot; pixels far from the brightest one (noise, filled corners) are ignored."""
    import cv2

    smooth = cv2.GaussianBlur(image.mean(axis=2), (0, 0), 2.0)
    smooth[smooth < 0] = 0
    y, x = np.unravel_index(np.argmax(smooth - cv2.GaussianBlur(smooth, (0, 0), 12.0)), smooth.shape)
    rows, columns = np.mgrid[-6:7, -6:7]
    patch = smooth[y - 6 : y + 7, x - 6 : x + 7]
    weights = np.clip(patch - patch.min() - 0.5 * np.ptp(patch), 0, None)
    return float(x + (weights * columns).sum() / weights.sum()), float(y + (weights * rows).sum() / weights.sum())


@pytest.mark.parametrize(
    ("name", "mirrors"),
    [("HorizontalFlip", True), ("VerticalFlip", True), ("Transpose", True), ("Rotate", False), ("NoOp", False)],
)
def test_mirror_swaps_partners(name: str, mirrors: bool) -> None:
    num_points = len(FASHIONAI_24)
    valid = FASHIONAI_24.valid_landmarks("blouse")
    visibility = np.full(num_points, Visibility.NOT_APPLICABLE.value)
    visibility[list(valid)] = [2, 1, 0, 2, 2, 1, 2, 2, 2, 1, 2, 0, 2]
    points = np.random.default_rng(0).uniform(40, 80, (num_points, 2)) * (visibility[:, None] > 0)
    augment = augmenter({name: {"p": 1.0}}, flip_index=FASHIONAI_24.flip_index)
    _, moved = augment(np.zeros((HEIGHT, WIDTH, 3), np.uint8), Geometry(points, visibility, None), "k", 1)
    order = list(FASHIONAI_24.flip_index) if mirrors else list(range(num_points))
    assert moved.visibility.tolist() == visibility[order].tolist()
    if name == "HorizontalFlip":
        expected = np.where(visibility[:, None] > 0, (WIDTH - 1, 0) + points * (-1, 1), 0)[order]
        assert moved.landmarks == pytest.approx(expected, abs=1e-4)


def test_two_mirrors_make_none() -> None:
    augment = augmenter({"HorizontalFlip": {"p": 1.0}}, {"VerticalFlip": {"p": 1.0}}, flip_index=(1, 0))
    geometry = Geometry(np.array([[10.0, 20.0], [0.0, 0.0]]), np.array([2, 0]), None)
    _, moved = augment(np.zeros((50, 60, 3), np.uint8), geometry, "k", 1)
    assert moved.landmarks.tolist() == [[49.0, 29.0], [0.0, 0.0]]
    assert moved.visibility.tolist() == [2, 0]


def test_points_that_leave_become_absent_and_the_box_is_clipped() -> None:
    augment = augmenter({"Crop": {"x_min": 20, "y_min": 10, "x_max": 60, "y_max": 50, "p": 1.0}})
    points = np.array([[30.0, 30.0], [10.0, 30.0], [0.0, 0.0], [40.0, 60.0], [0.0, 0.0], [60.0, 30.0]])
    visibility = np.array([2, 2, 0, 1, -1, 1])
    _, moved = augment(
        np.zeros((80, 90, 3), np.uint8), Geometry(points, visibility, np.array([5.0, 20.0, 50.0, 70.0])), "k", 1
    )
    assert moved.visibility.tolist() == [2, 0, 0, 0, -1, 1]  # the last is on the border, within the tolerance of tables
    assert moved.landmarks.tolist() == [[10.0, 20.0], [0, 0], [0, 0], [0, 0], [0, 0], [40.0, 20.0]]
    assert moved.box is not None
    assert moved.box.tolist() == [0.0, 10.0, 30.0, 39.0]


def test_box_is_the_hull_of_its_corners() -> None:
    augment = augmenter({"Rotate": {"limit": [90, 90], "p": 1.0}})
    _, moved = augment(np.zeros((81, 81, 3), np.uint8), one_point(40, 40, (30.0, 20.0, 50.0, 45.0)), "k", 1)
    assert moved.box == pytest.approx(np.array([20.0, 30.0, 45.0, 50.0]), abs=1e-4)


def test_copy_stays_as_it_is_when_every_draw_loses_the_box() -> None:
    augment = augmenter({"Crop": {"x_min": 40, "y_min": 40, "x_max": 60, "y_max": 60, "p": 1.0}})
    image = np.zeros((80, 90, 3), np.uint8)
    unmoved, moved = augment(image, one_point(5, 5, (1.0, 1.0, 10.0, 10.0)), "k", 1)
    assert unmoved.shape == image.shape
    assert moved.landmarks.tolist() == [[5.0, 5.0]]


def test_draw_depends_on_seed_key_and_copy_alone() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    names = [("a", 1), ("b", 1), ("a", 2), ("c", 7)]
    first, second = (Augmenter(load_recipe("strong"), (), 5) for _ in range(2))
    one = {name: first(image, one_point(20, 20), *name) for name in names}
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    two = {name: second(image, one_point(20, 20), *name) for name in reversed(names)}
    for name in names:
        assert np.array_equal(one[name][0], two[name][0])
        assert np.array_equal(one[name][1].landmarks, two[name][1].landmarks)
    assert len({image.tobytes() for image, _ in one.values()}) == len(names)
    other_seed, _ = Augmenter(load_recipe("strong"), (), 6)(image, one_point(20, 20), "a", 1)
    assert not np.array_equal(other_seed, one["a", 1][0])


def test_transforms_draw_independently() -> None:
    """Compose in albumentations 2.0.8 seeds all transforms alike: two flips would always occur together."""
    augment = augmenter({"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}})
    image = np.zeros((21, 31, 3), np.uint8)
    places = [tuple(augment(image, one_point(3, 4), "k", copy)[1].landmarks[0]) for copy in range(200)]
    for place in ((3, 4), (27, 4), (3, 16), (27, 16)):
        assert 30 <= places.count(place) <= 70


def test_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "mild.yaml"
    path.write_text("- HorizontalFlip\n- Rotate: {limit: [-5, 5], p: 0.5}\n- CLAHE:\n")
    recipe = load_recipe(str(path))
    assert recipe.name == "mild"
    assert recipe.transforms == ({"HorizontalFlip": {}}, {"Rotate": {"limit": [-5, 5], "p": 0.5}}, {"CLAHE": {}})
    assert recipe.to_json()["albumentations"] == "2.0.8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- Resize: {height: 3, width: 3}", "Resize does not move keypoints with their pixels"),
        ("- ElasticTransform", "ElasticTransform does not move"),
        ("- MotionBlur", "MotionBlur does not move"),
        ("- Normalize", "or does not return an image"),
        ("- Compose", "no transform 'Compose'"),
        ("- os.system: {command: ls}", "no transform 'os.system'"),
        ("- random_utils", "no transform"),
        ("- Rotate: {limt: 5}", "transform 1: Rotate: .*limt"),
        ("- HorizontalFlip\n- Rotate: {limit: wide}", "transform 2: Rotate"),
        ("- Rotate: 5", "is not `Name`"),
        ("Rotate: {limit: 5}", "expected a list"),
        ("", "expected a list"),
        ("- {", "not valid YAML"),
        ("- !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_wrong_recipe_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(str(path))
    assert "recipe.yaml" in str(caught.value)


def test_recipe_that_cannot_be_applied() -> None:
    with pytest.raises(UsageError, match="recipe test: cannot be applied"):
        augmenter({"RandomCrop": {"height": 500, "width": 500, "p": 1.0}})(
            np.zeros((9, 9, 3), np.uint8), one_point(1, 1), "k", 1
        )


def test_unknown_and_missing_recipes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown recipe 'mirror'; choose from light, geometric, strong"):
        load_recipe("mirror")
    with pytest.raises(UsageError, match="no such recipe file"):
        load_recipe(str(tmp_path / "none.yaml"))


ROW = {
    "width": 90, "height": 80, "joint_x": [10.0, 0.0], "joint_y": [20.0, 0.0], "joint_visibility": [2, 0],
    "polygons": [[1.0, 2.0, 30.0, 2.0, 30.0, 40.0]], "garments": ["top", "bottom"], "garment_boxes": [5.0, 5.0, 20.0, 30.0, 80.0, 70.0, 89.0, 79.0],
    "garment_polygons": [[6.0, 6.0, 19.0, 7.0, 8.0, 29.0], []],
}  # fmt: skip


def test_outlines_joints_and_garment_boxes_are_resized() -> None:
    annotation = {**ROW, "width": 45, "height": 40}
    write_geometry(annotation, geometry_of(ROW).resized(0.5, 0.5), is_copy=False)
    assert annotation["joint_x"] == [4.75, 0.0]
    assert annotation["joint_visibility"] == [2, 0]
    assert annotation["polygons"] == [[0.25, 0.75, 14.75, 0.75, 14.75, 19.75]]
    assert annotation["garment_polygons"] == [[2.75, 2.75, 9.25, 3.25, 3.75, 14.25], []]
    assert annotation["garment_boxes"] == [2.25, 2.25, 9.75, 14.75, 39.75, 34.75, 44.0, 39.0]


def test_copies_lose_joints_and_garments_outside() -> None:
    annotation = {**ROW}
    moved = geometry_of(ROW)
    moved.others[:] += [-25.0, 0.0]  # the first garment leaves on the left
    write_geometry(annotation, moved, is_copy=True)
    assert annotation["joint_visibility"] == [0, 0]
    assert annotation["joint_x"] == [0.0, 0.0]
    assert annotation["garments"] == ["bottom"]
    assert annotation["garment_boxes"] == [55.0, 70.0, 64.0, 79.0]
    assert annotation["garment_polygons"] == [[]]
    assert annotation["polygons"] == [[-24.0, 2.0, 5.0, 2.0, 5.0, 40.0]]


def test_flipped_outlines() -> None:
    augment = Augmenter(Recipe("mirror", ({"HorizontalFlip": {"p": 1.0}},)), (), 0)
    _, moved = augment(np.zeros((80, 90, 3), np.uint8), geometry_of(ROW), "k", 1)
    annotation = {**ROW}
    write_geometry(annotation, moved, is_copy=True)
    assert annotation["garment_boxes"] == [69.0, 5.0, 84.0, 30.0, 0.0, 70.0, 9.0, 79.0]
    assert annotation["polygons"] == [[88.0, 2.0, 59.0, 2.0, 59.0, 40.0]]

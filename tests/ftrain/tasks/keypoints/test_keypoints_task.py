"""The keypoint task: geometry of the encoder, trained channels, predictions, test-time augmentation."""

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from tests.ftrain.keypoint_runs import tiny_task
from tests.shard_sets import draw_sample

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility
from ftrain.data.config import Views
from ftrain.data.image import warp, warp_image
from ftrain.data.stream import RawSample
from ftrain.layers.affine import rotate
from ftrain.layers.heatmap import decode, flip_maps, gaussian_targets
from ftrain.tasks.keypoints.config import KeypointsConfig
from ftrain.tasks.keypoints.task import KeypointEncoder, Keypoints
from ftrain.tasks.task import task_function

SETS = (DEEPFASHION_8, FASHIONAI_24)
TROUSERS = list(FASHIONAI_24.garments).index("trousers")


def dataset_of(landmarks):
    return {"landmark_set": landmarks.to_json(), "vocabularies": {}}


def batch_of(task, numbers, landmarks, generator=None):
    """Encoded synthetic samples as a batch."""
    samples = [draw_sample(number, "train", landmarks) for number in numbers]
    encoded = [task.encoder(RawSample(0, sample.image, sample.annotation), generator) for sample in samples]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}


def spot(width, height, place):
    """JPEG bytes: a bright square of 7 pixels around `place` on black."""
    image = np.zeros((height, width, 3), np.uint8)
    x, y = place
    image[y - 3 : y + 4, x - 3 : x + 4] = 255
    return simplejpeg.encode_jpeg(image, quality=98)


def landmark_sample(jpeg, size, truth, visibility):
    garment = next(iter(DEEPFASHION_8.garments))
    places = {"landmark_x": truth[:, 0], "landmark_y": truth[:, 1], "landmark_visibility": visibility}
    return RawSample(0, jpeg, {"width": size[0], "height": size[1], "garment": garment, **places})


def center_of_light(image, border=128):
    """Centroid of pixels brighter than the gray padding."""
    light = np.clip(image.astype(float).mean(axis=2) - border - 4, 0, None)
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()


@pytest.mark.parametrize("size", [(160, 120), (97, 131), (40, 64)])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_a_bright_spot_stays_under_its_point(size, mirror):
    config = KeypointsConfig(
        input_size=128, flip=mirror, color_jitter=0.0, rotation=40.0, scale=(0.7, 1.4), translate=0.1
    )
    encoder = KeypointEncoder(config, DEEPFASHION_8)
    generator, compared = np.random.default_rng(0), 0
    for _ in range(40):
        place = generator.integers(5, np.array(size) - 5)
        point = int(generator.integers(8))
        truth, seen = np.zeros((8, 2), np.float32), np.full(8, Visibility.ABSENT.value, np.int8)
        truth[point], seen[point] = place, Visibility.VISIBLE
        encoded = encoder(landmark_sample(spot(*size, place), size, truth, seen), generator)
        moved = DEEPFASHION_8.flip_index[point] if mirror else point
        assert encoded["keypoint_visibility"][moved] == Visibility.VISIBLE
        assert (encoded["keypoint_visibility"] == Visibility.VISIBLE).sum() == 1
        assert encoded["target"][point].tolist() == place.tolist()
        expected = encoded["keypoints"][moved]
        if np.all((expected > 10) & (expected < 117)):
            assert np.abs(center_of_light(encoded["image"]) - expected).max() < 0.5
            compared += 1
    assert compared > 10


def test_mirroring_a_mirrored_sample_gives_the_sample():
    sample = draw_sample(0, "train", DEEPFASHION_8)
    note, partners = sample.annotation, list(DEEPFASHION_8.flip_index)
    truth = np.stack([note["landmark_x"], note["landmark_y"]], axis=-1).astype(np.float32)
    seen = np.array(note["landmark_visibility"], np.int8)
    flipped_truth = truth.copy()
    flipped_truth[:, 0] = note["width"] - 1 - truth[:, 0]
    image = np.ascontiguousarray(simplejpeg.decode_jpeg(sample.image, "RGB")[:, ::-1])
    jpeg = simplejpeg.encode_jpeg(image, quality=100, colorsubsampling="444")
    still = {"rotation": 0.0, "scale": (1.0, 1.0), "translate": 0.0, "color_jitter": 0.0}
    size = note["width"], note["height"]
    plain = KeypointEncoder(KeypointsConfig(**still), DEEPFASHION_8)(
        landmark_sample(sample.image, size, truth, seen), None
    )
    flipping = KeypointEncoder(KeypointsConfig(**still, flip=1.0), DEEPFASHION_8)
    flipped = landmark_sample(jpeg, size, flipped_truth[partners], seen[partners])
    twice = flipping(flipped, np.random.default_rng(0))
    assert np.abs(twice["image"].astype(int) - plain["image"]).mean() < 2
    has = seen >= Visibility.OCCLUDED
    np.testing.assert_allclose(twice["keypoints"][has], plain["keypoints"][has], atol=1e-4)
    assert twice["keypoint_visibility"].tolist() == plain["keypoint_visibility"].tolist()


def test_a_decoded_image_warps_like_its_jpeg_and_a_sliver_warps_at_all():
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8), (0, 0), 3)
    jpeg = simplejpeg.encode_jpeg(image, quality=95)
    matrix = np.array([[0.9, -0.2, 5.0], [0.2, 0.9, 3.0]])
    np.testing.assert_array_equal(warp(jpeg, matrix, 64), warp_image(simplejpeg.decode_jpeg(jpeg, "RGB"), matrix, 64))
    sliver = np.full((2, 3000, 3), 200, np.uint8)
    task = tiny_task(dataset_of(DEEPFASHION_8))
    assert task.encode_image(sliver)["image"].shape == (64, 64, 3)
    assert task.encode_image(sliver[:1, :1])["image"].max() > 190


@pytest.mark.parametrize(("number", "landmarks"), [(4, FASHIONAI_24), (3, FASHIONAI_24), (0, DEEPFASHION_8)])
def test_only_points_of_the_garment_that_are_labeled_learn(number, landmarks):
    task = tiny_task(dataset_of(landmarks), ohkm_fraction=1.0).train()
    batch = batch_of(task, [number, number + len(landmarks.garments)], landmarks)
    garment = list(landmarks.garments)[int(batch["garment"][0])]
    valid = list(landmarks.valid_landmarks(garment))
    batch["keypoint_visibility"][:, valid[0]] = Visibility.ABSENT
    batch["keypoint_visibility"][:, valid[1:]] = Visibility.VISIBLE
    batch["keypoints"][:, valid[0]] = 30.0  # must have no effect
    invalid = [point for point in range(len(landmarks)) if point not in valid]
    batch["keypoint_visibility"][:, invalid[:1]] = Visibility.VISIBLE  # a wrong label of an invalid keypoint
    task(batch)["loss"].backward()
    layers = [
        m for m in task.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None and m.kernel_size == (3, 3)
    ]
    heads = [layer for layer in layers if layer.out_channels == len(landmarks)]
    assert len(heads) == 5  # four levels of GlobalNet, and RefineNet
    for head in heads:
        learns = head.weight.grad.flatten(1).abs().amax(dim=1) > 0
        assert learns.nonzero().flatten().tolist() == valid[1:]
    if garment == "trousers":
        assert valid[-1] == 23


def test_a_batch_without_any_labeled_point_has_a_finite_loss():
    task = tiny_task(dataset_of(DEEPFASHION_8)).train()
    batch = batch_of(task, [0, 1], DEEPFASHION_8)
    batch["keypoint_visibility"][:] = Visibility.ABSENT
    losses = task(batch)
    losses["loss"].backward()
    assert losses["global"] == losses["refined"] == 0
    assert torch.isfinite(losses["loss"])


def test_it_learns_eight_squares_by_heart(one_thread):
    torch.manual_seed(0)
    config = KeypointsConfig(backbone="test_efficientnet", channels=16, input_size=64, tta={"flip": False})
    task = Keypoints(config, dataset_of(DEEPFASHION_8)).train()
    batch = batch_of(task, range(8), DEEPFASHION_8)
    optimizer = torch.optim.AdamW(task.parameters(), 5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        task(batch)["loss"].backward()
        optimizer.step()
    # Batch statistics, as in training: eight images are too few for running averages.
    with torch.no_grad():
        results = task.predict(batch)
    measured = task_function(task, "compute_metrics")(task, {name: value.numpy() for name, value in results.items()})
    assert measured["ne"] < 0.03
    assert measured["garment_accuracy"] == 1.0


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angles", [(), (-10.0, 10.0)])
def test_predictions_of_perfect_maps_are_the_truth_in_pixels_of_the_source(flip, angles, monkeypatch):
    task = tiny_task(dataset_of(DEEPFASHION_8), tta={"flip": flip, "rotations": angles})
    batch = batch_of(task, range(6), DEEPFASHION_8)
    with_points = batch["visibility"] >= Visibility.OCCLUDED
    perfect = gaussian_targets(batch["keypoints"], with_points, (16, 16), 4, 1.4)
    plain = task.normalize(batch["image"])
    views = {angle: rotate(plain, angle) if angle else plain for angle in (0.0, *angles)}

    def maps_of(image):
        for angle, view in views.items():
            maps = rotate(perfect, angle) if angle else perfect
            if torch.equal(image, view):
                return maps, torch.zeros(6, 3)
            if flip and torch.equal(image, view.flip(3)):
                return flip_maps(maps, DEEPFASHION_8.flip_index), torch.zeros(6, 3)
        raise AssertionError("an unknown view")

    class Maps:
        def __init__(self, refined):
            self.refined = refined

    monkeypatch.setattr(task, "_maps", lambda image: (Maps(maps_of(image)[0]), maps_of(image)[1]))
    results = task.predict(batch)
    inner = with_points & ((batch["keypoints"] > 8) & (batch["keypoints"] < 55)).all(dim=2)
    assert inner.sum() > 10
    error = (results["points"] - batch["target"]).abs().amax(dim=2)[inner]
    assert error.max() < (0.6 if angles else 0.15)
    assert results["scores"][inner].min() > (0.6 if angles else 0.85)


def test_the_position_of_the_first_cell_shifts_every_prediction():
    tasks = [
        tiny_task(dataset_of(DEEPFASHION_8), **({} if shift is None else {"pixel_shift": shift}))
        for shift in (None, 1.5, 0.0)
    ]
    batch = batch_of(tasks[0], range(4), DEEPFASHION_8)
    default, same, corner = (task.predict(batch)["points"] for task in tasks)
    assert torch.equal(default, same)
    size = batch["size"][:, None]
    inside = ((default > 2) & (default < size - 3) & (corner > 0)).all(dim=2)
    expected = (1.5 * batch["size"].amax(dim=1) / 64)[:, None, None].expand_as(default)
    torch.testing.assert_close((default - corner)[inside], expected[inside], atol=1e-3, rtol=0)


def test_predictions_lie_inside_the_image():
    task = tiny_task(dataset_of(DEEPFASHION_8), seed=3)
    batch = batch_of(task, range(12), DEEPFASHION_8)
    points, size = task.predict(batch)["points"], batch["size"][:, None, :]
    assert (points >= 0).all()
    assert (points <= size - 1).all()


def test_turning_moves_images_and_maps_alike_and_y_towards_x():
    image, places = torch.zeros(4, 1, 64, 64), torch.tensor([[32.0, 50.0], [45.0, 20.0], [20.0, 33.0], [31.5, 12.0]])
    image = gaussian_targets(places[:, None], torch.ones(4, 1), (64, 64), 1, 2.0)
    maps = gaussian_targets(places[:, None], torch.ones(4, 1), (16, 16), 4, 1.4)
    for angle in (-25.0, 10.0, 90.0):
        radians = np.deg2rad(angle)
        x, y = (places - 31.5).T
        expected = (
            torch.stack([x * np.cos(radians) + y * np.sin(radians), y * np.cos(radians) - x * np.sin(radians)], 1)
            + 31.5
        )
        for values, stride in ((image, 1), (maps, 4)):
            found, _ = decode(rotate(values, angle), stride)
            assert (found[:, 0] - expected).abs().max() < 0.35
    there_and_back = rotate(rotate(image, 10.0), -10.0)
    assert (decode(there_and_back, 1)[0][:, 0] - places).abs().max() < 0.1
    assert (
        decode(rotate(image, 90.0), 1)[0][0, 0] - torch.tensor([50.0, 31.0])
    ).abs().max() < 0.1  # from below to the right


def test_turned_views_are_chosen_and_keep_shapes():
    task = tiny_task(dataset_of(FASHIONAI_24))
    batch = batch_of(task, range(3), FASHIONAI_24)
    plain = task.predict(batch)
    task.set_tta(True)
    assert task.views == Views(flip=True, rotations=(-10.0, 10.0))
    turned = task.predict(batch)
    assert {name: value.shape for name, value in plain.items()} == {name: value.shape for name, value in turned.items()}
    assert not torch.equal(plain["scores"], turned["scores"])
    task.set_tta(None)
    assert torch.equal(plain["points"], task.predict(batch)["points"])
    task.set_tta(False)  # one plain view: flips are left out too
    alone = tiny_task(dataset_of(FASHIONAI_24), tta={"flip": False})
    assert torch.equal(alone.predict(batch)["points"], task.predict(batch)["points"])
    own = tiny_task(dataset_of(FASHIONAI_24), tta={"rotations": (5.0,)})
    for choice, angles in ((None, (5.0,)), (True, (5.0,)), (False, ())):
        own.set_tta(choice)
        assert own.views == Views(flip=choice is not False, rotations=angles)
    scaled = tiny_task(dataset_of(FASHIONAI_24), tta={"scales": (1.2,)})
    scaled.set_tta(True)  # all views, also those that only the configuration names
    assert scaled.views == Views(flip=True, rotations=(-10.0, 10.0), scales=(1.2,))


def test_cells_that_a_turned_view_does_not_show_are_averaged_over_the_others(monkeypatch):
    task = tiny_task(dataset_of(DEEPFASHION_8), tta={"rotations": (30.0, -30.0), "flip": False})
    monkeypatch.setattr(task, "_view", lambda image: (torch.ones(1, 8, 16, 16), torch.zeros(1, 3)))
    averaged, _ = task._averaged_maps(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(averaged, torch.ones(1, 8, 16, 16))


def test_a_model_of_one_garment_takes_its_rows_only():
    columns, rows = {"garment": np.array(["dress", "skirt", "dress", "blouse"])}, np.array([0, 1, 2, 3])
    assert Keypoints.rows_of_interest(KeypointsConfig(), columns, rows).tolist() == [0, 1, 2, 3]
    assert Keypoints.rows_of_interest(KeypointsConfig(garment="dress"), columns, rows).tolist() == [0, 2]
    with pytest.raises(UsageError, match="no 'trousers'"):
        Keypoints.rows_of_interest(KeypointsConfig(garment="trousers"), columns, rows)
    with pytest.raises(UsageError, match="no garment 'sock'"):
        tiny_task(dataset_of(FASHIONAI_24), garment="sock")


@pytest.mark.parametrize(
    ("model", "category", "message"),
    [
        ({}, "sock", "no garment 'sock'"),
        ({"garment": "dress"}, "skirt", "trained for dress only"),
        ({"garment_loss_weight": 0.0}, None, "choose one with --garment"),
    ],
)
def test_a_category_that_cannot_be_predicted_is_refused(model, category, message):
    task = tiny_task(dataset_of(FASHIONAI_24), **model)
    with pytest.raises(UsageError, match=message):
        task_function(task, "check_category")(task, category)


def test_an_answer_holds_the_points_of_its_garment():
    task = tiny_task(dataset_of(FASHIONAI_24))
    scores = np.array([[0.1, 0.2, 0.1, 0.1, 0.5]], np.float32)
    points = np.arange(48, dtype=np.float32).reshape(1, 24, 2)
    results = {"points": points, "scores": np.ones((1, 24)), "garment_scores": scores, "size": np.array([[90.0, 60.0]])}
    named, told = (
        task_function(task, "describe")(task, results, 0),
        task_function(task, "describe")(task, results, 0, "skirt"),
    )
    assert (named["garment"], named["garment_score"]) == ("trousers", 0.5)
    assert [point["name"] for point in named["points"]] == [
        FASHIONAI_24.names[k] for k in FASHIONAI_24.garments["trousers"]
    ]
    assert (told["garment"], told["garment_score"], len(told["points"])) == ("skirt", 0.1, 4)
    assert told["points"][0] == {"name": "waistband_left", "x": 30.0, "y": 31.0, "score": 1.0}
    assert (told["width"], told["height"]) == (90, 60)


@pytest.mark.slow
@pytest.mark.parametrize("landmarks", SETS, ids=lambda landmarks: landmarks.name)
def test_it_trains_under_bfloat16_and_compiled(landmarks, caplog):
    caplog.set_level("WARNING")  # dynamo logs thousands of lines
    task = tiny_task(dataset_of(landmarks)).train()
    batch = batch_of(task, range(2), landmarks, np.random.default_rng(0))
    expected = task(batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        half = task(batch)["loss"]
    half.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in task.parameters())
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)
    torch._dynamo.reset()
    compiled = torch.compile(task, backend="eager", fullgraph=True)  # without graph breaks, which are silently slow
    torch.testing.assert_close(compiled(batch)["loss"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": ["other"]}, "has changed since the shard set was written"),
        ({"name": "hands-21"}, "unknown landmark set"),
        (None, "no landmarks"),
    ],
)
def test_a_foreign_landmark_set_is_refused(change, message):
    stored = None if change is None else {**DEEPFASHION_8.to_json(), **change}
    with pytest.raises(UsageError, match=message):
        Keypoints(KeypointsConfig(), {"landmark_set": stored})

"""FashionNet: its parameter table, the gradients of each loss, report and predictions, and bugs of the original."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from tests.ftrain.tiny_task import ALONE
from tests.shard_sets import LABELS, draw_sample, write_label_set, write_shard_set

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility
from fschemas.shard_set import ShardSet
from ftrain.data.stream import RawSample
from ftrain.data.types import EvaluatedSplit, Rows
from ftrain.data.view import item_number
from ftrain.fit.config import resolve
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.splits import Splits
from ftrain.tasks.fashionnet.config import FashionNetConfig, NetworkConfig
from ftrain.tasks.fashionnet.landmark_pooling import visibility_classes
from ftrain.tasks.fashionnet.metrics import FashionNetLabels, classes_of, compute_metrics, visibility_metrics
from ftrain.tasks.fashionnet.network import FashionNetwork, Heads
from ftrain.tasks.fashionnet.report import report, summary
from ftrain.tasks.fashionnet.task import FashionNet, FashionNetEncoder
from ftrain.tasks.task import task_function

TINY = {"backbone": "test_efficientnet", "input_size": 64}
PUBLISHED = {
    "backbone": "vgg16", "input_size": 224, "trunk_stride": 8, "fc_input": "flatten", "norm": False, "pose_dims": (1024, 1024),
    "landmark_head": "regression", "local_channels": 0, "visibility_gate": "hard", "local_dim": 1024, "global_dim": 4096, "fusion_dim": 4096,
}  # fmt: skip
NOTEBOOKS = {
    **PUBLISHED,
    "norm": True,
    "pose_dims": (4096, 4096),
    "fusion_dim": 0,
    "visibility_gate": "none",
    "window_size": 4 / 28,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A set for retrieval: training items, queries and a gallery."""
    counts = {"train": 40, "query": 16, "gallery": 16}
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("shop") / "set", counts))


def task_of(shards, **model):
    torch.manual_seed(0)
    return FashionNet(FashionNetConfig(**{**TINY, **model}), shards.metadata).eval()


def batch_of(task, shards, number=6, generator=None):
    rows = [int(row) for row in shards.rows("train")[:number]]
    encoded = [task.encoder(RawSample(row, *shards.read(row)), generator) for row in rows]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}


def on_meta(values, heads):
    with torch.device("meta"):
        return FashionNetwork(NetworkConfig(**values), heads)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def dense(inputs, outputs):
    return inputs * outputs + outputs


def test_the_network_of_the_notebooks_has_the_parameters_that_they_print():
    network = on_meta(NOTEBOOKS, Heads(points=8, category=23, attributes=463, auxiliary=23))
    statistics = sum(
        2 * m.num_features for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d)
    )  # Keras counts them
    assert count(network) + statistics == 263_682_917
    assert count(network) - count(network.backbone) == 256_021_029  # the trunk is frozen
    assert dense(25_088, 4096) * 2 > 0.75 * count(network)  # the two layers that a `pool` neck does not need


def test_the_published_network_has_the_layers_of_the_paper():
    network = on_meta(PUBLISHED, Heads(points=8, category=50, attributes=1000, embedding=128))
    trunk = sum(
        9 * a * b + b
        for a, b in ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512))
    )
    trunk += 2 * (9 * 512 * 512 + 512)
    deep, size = 3 * (9 * 512 * 512 + 512), 7 * 7 * 512
    assert count(network.backbone) == trunk == 7_635_264
    assert count(network.pose.backbone) == count(network.whole.backbone) == deep
    assert count(network.pose) - deep == dense(size, 1024) + dense(1024, 1024) + dense(1024, 8 * 2) + dense(1024, 8 * 3)
    assert count(network.local) == dense(8 * 512 * 2 * 2, 1024)
    assert count(network.whole) - deep == dense(size, 4096)
    assert count(network.fusion) == dense(4096 + 1024, 4096) + dense(4096, 50) + dense(4096, 1000) + dense(4096, 128)


@pytest.mark.parametrize(("categories", "attributes"), [(50, 1000), (23, 463)])
def test_heads_are_as_wide_as_the_vocabularies(categories, attributes):
    def vocabulary(size):
        return {"name": "v", "values": [str(number) for number in range(size)], "groups": {}, "exclusive": False}

    dataset = {
        "landmark_set": DEEPFASHION_8.to_json(), "column_groups": ["category", "attributes", "landmarks"],
        "vocabularies": {"category": vocabulary(categories), "attributes": vocabulary(attributes)},
    }  # fmt: skip
    fusion = FashionNet(FashionNetConfig(**TINY), dataset).network.fusion
    assert (fusion.category.out_features, fusion.attributes.out_features, fusion.embedding) == (
        categories,
        attributes,
        None,
    )


@pytest.mark.parametrize("points", ["regression", "heatmap"])
def test_only_landmarks_with_coordinates_are_placed_and_the_others_are_absent(shop, points):
    """The original trained missing landmarks as visible at (0, 0)."""
    task = task_of(shop, landmark_head=points, targets=("category", "attributes")).train()
    batch = batch_of(task, shop)
    batch["keypoint_visibility"][:] = Visibility.ABSENT.value
    batch["keypoints"][:] = 0.0
    batch["keypoint_visibility"][:, 3] = Visibility.OCCLUDED.value
    batch["keypoints"][:, 3] = 20.0
    losses = task(batch)
    (losses["landmarks"] + losses["maps"]).backward(retain_graph=True)
    layer = task.network.pose.places if points == "regression" else task.network.pose.decoder.maps
    learns = layer.weight.grad.reshape(8, -1).abs().amax(dim=1) > 0
    assert learns.nonzero().flatten().tolist() == [3]
    task.zero_grad()
    losses["visibility"].backward()
    away = -task.network.pose.visibility.bias.grad.view(8, 3)  # direction of the bias update
    assert (away[:, 2] > 0).tolist() == [point != 3 for point in range(8)]
    assert away[3].argmax() == 1


def test_what_an_augmentation_cuts_off_is_absent(shop):
    task = task_of(shop)
    batch = batch_of(task, shop)
    batch["keypoint_visibility"][:] = Visibility.VISIBLE.value
    batch["keypoints"][:] = 30.0
    plain = task(batch)
    batch["keypoints"][:, 0] = -5.0
    cut = task(batch)
    pose = task.network(batch["image"]).pose
    shares = pose.visibility.log_softmax(dim=2)
    expected = plain["visibility"] + ((shares[:, 0, 0] - shares[:, 0, 2]).sum() / (len(shares) * 8))
    torch.testing.assert_close(cut["visibility"], expected)
    far = ((pose.points[:, 1:] - 30) / 6.4).square().sum(dim=2)
    torch.testing.assert_close(cut["landmarks"], (far + 1e-6).sqrt().mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("points", ["regression", "heatmap"])
def test_the_places_that_are_pooled_are_the_ones_that_are_evaluated(shop, points, monkeypatch):
    """The original pooled at raw logits, while its loss used their sigmoid."""
    import ftrain.tasks.fashionnet.network

    pooled_at = []
    original = ftrain.tasks.fashionnet.network.pool_landmarks

    def spy(features, points, gate, **options):
        pooled_at.append(points)
        return original(features, points, gate, **options)

    monkeypatch.setattr(ftrain.tasks.fashionnet.network, "pool_landmarks", spy)
    task = task_of(shop, landmark_head=points)
    with torch.no_grad():
        pose = task.network(batch_of(task, shop)["image"]).pose
    assert pooled_at[0] is pose.points
    assert pose.points.min() > -0.5
    assert pose.points.max() < 63.5
    assert pose.points.std() < 20  # initially the center
    torch.testing.assert_close(pose.points.mean(), torch.tensor(31.5), rtol=0, atol=4)


def test_attributes_and_category_do_not_move_landmarks(shop):
    task = task_of(shop, landmark_head="regression").train()
    losses = task(batch_of(task, shop))
    (losses["attributes"] + losses["category"] + losses["triplet"]).backward()
    pose = task.network.pose
    assert pose.places.weight.grad is None
    assert pose.visibility.weight.grad is None
    assert task.network.local.layer.weight.grad.abs().sum() > 0


def test_positive_attributes_weigh_as_much_as_their_many_negatives(shop):
    """The original weighted positives by their own frequency, and so hardly at all."""
    task = task_of(shop, targets=("attributes",)).train()
    batch = batch_of(task, shop, 2)
    batch["attributes"][:] = 0
    batch["attributes"][:, 0] = 1
    batch["attributes"][:, -1] = -1
    head = task.network.fusion.attributes
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    task(batch)["attributes"].backward()
    pull = -head.bias.grad
    assert pull[0] == pytest.approx(-float(pull[1:-1].sum()), rel=1e-5)
    assert float(pull[0]) > 0
    assert (pull[1:-1] < 0).all()
    assert pull[-1] == 0  # unknown


def test_unknown_labels_teach_nothing(shop):
    task = task_of(shop, auxiliary_category_loss=True).train()
    batch = batch_of(task, shop)
    batch["category"][:] = -1
    batch["attributes"][:] = -1
    batch["item"][:] = -1
    losses = task(batch)
    assert all(losses[name].item() == 0 for name in ("category", "auxiliary", "attributes", "triplet"))
    losses["loss"].backward()
    assert (task.network.fusion.category.weight.grad == 0).all()


def test_two_images_of_an_item_attract_and_an_unknown_item_does_not(shop):
    task = task_of(shop).train()
    batch = batch_of(task, shop, 4)
    batch["item"] = torch.tensor([item_number("a"), item_number("a"), item_number("b"), item_number("")])
    loss = task(batch)["triplet"]
    assert loss.item() > 0
    batch["item"] = torch.tensor([item_number("a"), item_number("c"), item_number("b"), item_number("")])
    assert task(batch)["triplet"].item() == 0
    assert item_number("") == -1
    assert item_number("a") == item_number("a") != item_number("b")


def test_images_are_mirrored_but_never_upside_down():
    config = FashionNetConfig(**TINY)
    names = {"": -1, **{name: number for number, name in enumerate(LABELS["category"]["values"])}}
    encoder = FashionNetEncoder(config, DEEPFASHION_8, {}, 0, has_items=False)
    sample, generator = draw_sample(2, "train", DEEPFASHION_8), np.random.default_rng(0)
    matrices = np.stack(
        [encoder(RawSample(0, sample.image, sample.annotation), generator)["matrix"] for _ in range(60)]
    )
    assert (matrices[:, 1, 1] > 0).all()
    assert 15 < (matrices[:, 0, 0] < 0).sum() < 45
    assert names[""] == -1


@pytest.mark.parametrize("points", ["regression", "heatmap"])
def test_with_mirrored_views_a_mirrored_image_has_mirrored_landmarks(shop, points):
    task = task_of(shop, landmark_head=points, tta={"flip": True})
    batch = batch_of(task, shop)
    batch["matrix"] = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(6, 2, 3)
    batch["size"] = torch.full((6, 2), 64.0)
    flipped = {**batch, "image": batch["image"].flip(2)}
    with torch.no_grad():
        plain, other = task.predict(batch), task.predict(flipped)
    partners = list(DEEPFASHION_8.flip_index)
    assert not torch.allclose(plain["points"], other["points"])
    expected = plain["points"][:, partners] * torch.tensor([-1.0, 1.0]) + torch.tensor([63.0, 0.0])
    torch.testing.assert_close(other["points"], expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(other["visibility_scores"], plain["visibility_scores"][:, partners])
    for name in ("category_scores", "attribute_scores", "embedding"):
        torch.testing.assert_close(other[name], plain[name])
    torch.testing.assert_close(plain["embedding"].norm(dim=1), torch.ones(6))
    task.set_tta(False)
    assert not torch.allclose(task.predict(batch)["points"], plain["points"])


def test_queries_and_gallery_are_evaluated_but_never_learned_or_validated_on(shop):
    task = task_of(shop)
    config = resolve({"task": "fashionnet", "model": TINY, "hold_out": 0.4}, "the test")
    splits = Splits(task, config, shop)
    training, validation, test = splits.training(), splits.evaluated("val"), splits.evaluated("test")
    split, group = (shop.columns[name] for name in ("split", "group"))
    assert set(split[training]) | set(split[validation]) == {"train"}
    assert set(split[test]) == {"query", "gallery"}
    assert not set(group[training]) & set(group[validation])
    assert FashionNet.splits_of("test", ("train", "test", "query", "gallery")) == ("test",)


def test_balanced_batches_are_balanced_by_category_though_there_are_items(shop):
    task, rows = task_of(shop), Rows(shop, shop.rows("train"))
    assert task.labels_to_sample(rows) is shop.columns["category"]
    assert task.labels_to_sample(rows, identities=True) is shop.columns["item"]


def test_heads_are_there_where_the_set_has_labels(tmp_path, shop):
    bare = ShardSet.open(
        write_label_set(tmp_path / "a", {"train": 8}, exclusive=True, without=("category", "item", "style"))
    )
    task = task_of(bare)
    fusion = task.network.fusion
    assert (fusion.category, fusion.embedding) == (None, None)
    assert len(task.groups)
    batch = batch_of(task, bare)
    losses = task(batch)
    assert {"category", "triplet"} <= losses.keys()  # so that stages can weight them for any set
    answered = task.predict(batch)
    assert not {"category_scores", "embedding"} & answered.keys()
    for members in task.groups:
        torch.testing.assert_close(answered["attribute_scores"][:, members].sum(dim=1), torch.ones(6))
    assert task.untrained() is None
    assert task.labels_to_sample(Rows(bare, bare.rows("train"))) is None
    other = task_of(shop, targets=("attributes", "embedding")).network.fusion
    assert other.category is None
    assert other.embedding is not None


@pytest.mark.parametrize(
    ("write", "model", "message"),
    [
        (write_shard_set, {}, "needs category or attributes besides landmarks, but the shard set has landmarks"),
        (partial(write_label_set, without=("landmarks",)), {}, "has no landmarks; the task fashionnet needs them"),
        (write_label_set, {"targets": []}, "leaves nothing but landmarks to learn"),
        (write_label_set, {"backbone": "hrnet_w18_small"}, "cannot be cut after stride 16"),
    ],
)
def test_a_set_or_network_that_does_not_fit_is_refused_in_a_sentence(tmp_path, write, model, message):
    shards = ShardSet.open(write(tmp_path / "set", {"train": 8}))
    with pytest.raises(UsageError, match=message):
        task_of(shards, **model)


def oracle(task, shards, split):
    """Predictions of a perfect model, and its evaluated split."""
    rows = np.sort(np.concatenate([shards.rows(name) for name in task.splits_of(split, shards.metadata["splits"])]))
    results = results_of_split(task, shards, rows, ALONE, 8, 0)
    untrained = {**results, "embedding": np.random.default_rng(0).normal(size=results["embedding"].shape)}
    names = list(shards.metadata["vocabularies"]["category"]["values"])
    results["points"] = results["target"]
    results["visibility_scores"] = np.eye(3, dtype=np.float32)[classes_of(results["visibility"])]
    results["category_scores"] = np.eye(len(names), dtype=np.float32)[results["category"]]
    results["attribute_scores"] = results["attributes"].astype(np.float32)
    _, items = np.unique(results["item"], return_inverse=True)
    results["embedding"] = np.eye(items.max() + 1, dtype=np.float32)[items]
    return EvaluatedSplit(results, shards, split, shards.rows("train"), untrained)


def test_a_perfect_model_is_reported_as_one_and_the_floors_are_not(shop, tmp_path):
    task = task_of(shop)
    evaluated = oracle(task, shop, "test")
    metrics = report(task, evaluated, tmp_path)
    model = metrics["model"]
    assert model["ne"] == 0
    for name in ("visibility_accuracy", "top_1", "macro_f1", "attributes_recall_5_micro", "hit_1", "pck_10"):
        assert model[name] == 1, name
    assert model["queries"] == 16
    assert model["gallery"] == 16
    assert metrics["untrained"]["hit_1"] < 1
    assert metrics["majority"]["top_1"] < 1
    assert metrics["majority"]["visibility_accuracy"] < 1
    assert metrics["mean_pose"]["ne"] > 0.1
    assert not metrics["collapse"]["collapsed"]
    assert {"category", "attributes"} <= set(metrics["slices"])
    json.dumps(metrics, allow_nan=False)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {
        "images.csv",
        "predictions.png",
        "plots/category.csv",
        "plots/attributes.png",
        "plots/detection_curve.csv",
    } <= files
    lines = list(summary(metrics))
    assert any("item hit@1" in line and "100.00%" in line for line in lines)
    assert compute_metrics(task, evaluated.results)["quality"] == pytest.approx(1, abs=0.01)


def test_a_constant_answer_is_a_collapse(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("ftrain.tasks.fashionnet.report.prediction_sheet", lambda *_: b"")
    task = task_of(shop)
    evaluated = oracle(task, shop, "test")
    evaluated.results["category_scores"][:] = np.eye(1, evaluated.results["category_scores"].shape[1], 1)
    metrics = report(task, evaluated, tmp_path / "category")
    assert metrics["collapse"]["collapsed"]
    assert metrics["collapse"]["answer"] == task.labels.categories[1]
    evaluated = oracle(task, shop, "test")
    evaluated.results["points"] = np.broadcast_to(
        evaluated.results["points"].mean(axis=(0, 1)), evaluated.results["points"].shape
    )
    assert report(task, evaluated, tmp_path / "points")["collapse"]["collapsed"]


def test_visibility_is_evaluated_where_the_garment_has_the_landmark():
    visibility = np.array([[2, 2, 1, -1], [0, 2, 1, -1]], np.int8)
    predicted = np.array([[0, 0, 0, 0], [2, 1, 1, 2]])
    found = visibility_metrics(predicted, visibility)
    assert found["visibility_accuracy"] == pytest.approx(4 / 6)
    assert found["visibility_balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert classes_of(visibility).tolist() == visibility_classes(torch.from_numpy(visibility)).tolist()
    assert visibility_metrics(predicted[:, 3:], visibility[:, 3:]) == {}


def test_an_answer_names_what_is_recognized_and_nothing_below_the_stated_score(shop):
    task = task_of(shop, score_threshold=0.3)
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    encoded = task.encode_image(image)
    with torch.no_grad():
        results = task.predict({name: torch.from_numpy(value[None]) for name, value in encoded.items()})
    results = {name: value.numpy() for name, value in results.items()}
    results["category_scores"][:] = 0.01
    for score, presence in ((0.29, 0.7), (0.31, 0.4)):
        results["category_scores"][0, 1] = score
        results["visibility_scores"][0] = [0.1, 0.1, 0.8]
        results["visibility_scores"][0, 2] = [0.2, presence - 0.2, 1 - presence]
        nothing = task_function(task, "describe")(task, results, 0)
        assert (nothing["recognized"], nothing["category"], nothing["points"], nothing["attributes"]) == (
            False,
            None,
            [],
            [],
        )
    results["visibility_scores"][0, 2] = [0.2, 0.5, 0.3]
    said = task_function(task, "describe")(task, results, 0)
    assert (said["recognized"], said["category"], said["category_score"]) == (
        True,
        task.labels.categories[1],
        pytest.approx(0.31),
    )
    (point,) = said["points"]
    assert (point["name"], point["visibility"], point["score"]) == ("sleeve_left", "occluded", pytest.approx(0.7))
    assert 0 <= point["x"] <= 59
    assert 0 <= point["y"] <= 89
    other = task_function(task, "describe")(task, results, 0, task.labels.categories[0])
    assert other["category"] == task.labels.categories[0]
    assert json.loads(json.dumps(said)) == said
    for one in (said, nothing):
        drawn = task_function(task, "draw")(task, np.repeat(np.repeat(image, 8, 0), 8, 1), one)
        assert drawn.dtype == np.uint8
        assert drawn.shape[2] == 3
    with pytest.raises(UsageError, match="unknown category 'sock'; choose from "):
        task_function(task, "check_category")(task, "sock")


def test_other_landmark_sets_work_as_well(tmp_path):
    shards = ShardSet.open(write_label_set(tmp_path / "set", {"train": 8}, FASHIONAI_24))
    task = task_of(shards)
    losses = task(batch_of(task, shards))
    losses["loss"].backward()
    assert task.predict(batch_of(task, shards))["points"].shape == (6, 24, 2)
    assert isinstance(task.labels, FashionNetLabels)

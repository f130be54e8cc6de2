"""The category task: labels and boxes of its encoder, its heads, predictions and report, and earlier bugs."""

import copy
import json

import numpy as np
import pytest
import simplejpeg
import torch
from tests.ftrain.category_runs import names_of, tiny_config, tiny_task, write_run
from tests.ftrain.tiny_task import trainer_of
from tests.shard_sets import ATTRIBUTES, CATEGORIES, label_sample, write_label_set, write_samples

from fschemas.failures import RejectedError, UsageError
from fschemas.landmarks import DEEPFASHION_8
from fschemas.shard_set import ShardSet
from fschemas.vocabularies import vocabulary
from ftrain.data.config import FitConfig
from ftrain.data.stream import RawSample
from ftrain.data.types import EvaluatedSplit
from ftrain.fit.splits import Splits
from ftrain.layers.attribute_loss import asymmetric_loss
from ftrain.tasks.category.config import CategoryConfig
from ftrain.tasks.category.labels import CategoryLabels
from ftrain.tasks.category.metrics import box_overlap, label_metrics
from ftrain.tasks.category.network import CategoryNetwork, TypedCategories
from ftrain.tasks.category.report import summary
from ftrain.tasks.category.task import CategoryEncoder
from ftrain.tasks.task import build_task, task_function
from ftrain.use.evaluate import evaluate_run
from ftrain.use.predict import PredictOptions, predict_images

COUNTS = {"train": 24, "val": 8, "test": 16}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("labels") / "set", COUNTS))


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Attributes in exclusive groups, and unnamed categories, as in the fine subset of DeepFashion."""
    folder = tmp_path_factory.mktemp("grouped")
    plain = ShardSet.open(write_label_set(folder / "plain", COUNTS, exclusive=True))
    numbers = iter(range(sum(COUNTS.values())))
    samples = {
        split: [label_sample(next(numbers), split, DEEPFASHION_8, 8) for _ in range(n)] for split, n in COUNTS.items()
    }
    for sample in (sample for members in samples.values() for sample in members):
        sample.annotation["category"] = ""
    groups, vocabularies = plain.metadata["column_groups"], plain.metadata["vocabularies"]
    return ShardSet.open(write_samples(folder / "set", samples, DEEPFASHION_8, groups, vocabularies))


def batch_of(task, shards, split="test", generator=None):
    rows = shards.rows(split)
    encoded = [
        {"row": np.int64(row), **task.encoder(RawSample(int(row), *shards.read(int(row))), generator)} for row in rows
    ]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}


def predicted(task, shards, split="test"):
    with torch.inference_mode():
        batch = batch_of(task, shards, split)
        return {name: values.numpy() for name, values in {**task.predict(batch), "row": batch["row"]}.items()}


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "parameters"), [("resnet18", 16_576_254), ("resnet50", 45_084_926)])
def test_the_original_s_parameters_are_counted_to_the_last(backbone, parameters):
    config = CategoryConfig(backbone=backbone, input_size=224, roi_stride=32, box_head="linear")
    network = CategoryNetwork(config, CategoryLabels(categories=[""] * 50, attributes=[""] * 1000, has_boxes=True))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_category_is_its_type_and_its_place_in_it():
    torch.manual_seed(0)
    head = TypedCategories(6, 5, {"upper": [0, 3], "lower": [4]})  # 1 and 2 have no type
    assert [getattr(branch, "out_features", 1) for branch in head.branches] == [2, 1, 2]
    features = torch.randn(3, 6)
    shares, types = head(features).exp(), head.type_head(features).softmax(dim=1)
    for number, members in enumerate(([0, 3], [4], [1, 2])):
        torch.testing.assert_close(shares[:, members].sum(dim=1), types[:, number])
    within = head.branches[0](features).softmax(dim=1)
    torch.testing.assert_close(shares[:, [0, 3]], types[:, :1] * within)


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_classified_moves_the_box_only_if_asked_for(shards, wanted):
    task = tiny_task(shards, box_gradient=wanted).train()
    losses = task(batch_of(task, shards))
    (losses["category"] + losses["attributes"]).backward()
    gradients = [parameter.grad for parameter in task.network.box.parameters()]
    assert (
        all(gradient is not None and bool(gradient.any()) for gradient in gradients)
        if wanted
        else gradients.count(None) > 3
    )


def test_local_features_can_be_left_out(shards):
    joined = [tiny_task(shards, roi_cells=size).network.attribute_head.in_features for size in (0, 2)]
    width = joined[0]
    assert joined[1] > width
    assert width == tiny_task(shards).network.backbone.widths[-1]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_counted_from_zero_and_each_has_an_output():
    """An earlier system fed the list files' 1-based ids into 50 outputs.

    The first output was dead, and the last id out of range.
    """
    words = vocabulary("deepfashion-category-50")
    ids = {"": -1, **{name: number for number, name in enumerate(words.values)}}
    encoder = CategoryEncoder(CategoryConfig(input_size=64), ids, 0, has_boxes=False)
    sample = label_sample(0, "train", DEEPFASHION_8, 4)
    first, last, unknown = (
        encoder(RawSample(0, sample.image, {**sample.annotation, "category": name}), None)["category"]
        for name in (words.values[0], words.values[-1], "")
    )
    assert (int(first), int(last), int(unknown)) == (0, 49, -1)
    assert set(encoder(RawSample(0, sample.image, sample.annotation | {"category": ""}), None)) == {
        "image", "matrix", "size", "category",
    }  # fmt: skip


def test_attributes_and_unknown_categories_reach_the_loss_as_they_are(shards):
    task = tiny_task(shards).train()
    batch = batch_of(task, shards)
    note = shards.read_annotation(int(batch["row"][0]))
    assert np.flatnonzero(batch["attributes"][0] == 1).tolist() == note["attributes_positive"]
    assert CATEGORIES[batch["category"][0]] == note["category"]
    batch["category"][:] = -1
    losses = task(batch)
    assert losses["category"] == 0
    losses["loss"].backward()
    assert not task.network.category_head.weight.grad.any()


def test_a_run_sees_the_official_training_split_and_is_evaluated_on_none_of_it(shards):
    """An earlier system ignored its index lists: validation and test were parts of the training set."""
    splits = Splits(tiny_task(shards), tiny_config(), shards)
    training, validation, test = splits.training(), splits.evaluated("val"), splits.evaluated("test")
    for rows, name in ((training, "train"), (validation, "val"), (test, "test")):
        assert set(shards.columns["split"][rows]) == {name}
        assert len(rows) == COUNTS[name]
    assert len(set(training) | set(validation) | set(test)) == len(shards)


def test_classes_that_no_training_image_has_are_never_answered(shards):
    dataset = {**shards.metadata, "names": {"category": ["Blouse", "Coat"]}}
    task = build_task(tiny_config(), dataset).eval()
    scores = predicted(task, shards)["category_scores"]
    assert (scores[:, [1, 2]] == 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert names_of(shards) == {"category": sorted(CATEGORIES)}


# --- boxes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", ["shared", "per_type"])
def test_rare_categories_need_a_larger_margin_in_training_only(shards, tmp_path, heads):
    config = tiny_config(logit_adjustment=1.0, heads=heads)
    config = config.model_copy(update={"fit": FitConfig(batch_size=8)})
    task = tiny_task(shards, logit_adjustment=1.0, heads=heads)
    plain = tiny_task(shards, heads=heads)
    trainer_of(task, config, shards, tmp_path)
    counts = np.array([(shards.columns["category"][shards.rows("train")] == name).sum() for name in CATEGORIES])
    np.testing.assert_allclose(task.adjustment, np.log(counts / counts.sum()), rtol=1e-5)
    batch = batch_of(task, shards)
    logits = plain.eval().network(batch["image"]).category
    expected = torch.nn.functional.cross_entropy(logits + task.adjustment, batch["category"])
    torch.testing.assert_close(task.eval()(batch)["category"], expected)
    torch.testing.assert_close(task.predict(batch)["category_scores"], plain.predict(batch)["category_scores"])


def test_the_asymmetric_loss_can_be_chosen(shards):
    task = tiny_task(shards, attribute_loss="asymmetric").eval()
    batch = batch_of(task, shards)
    expected = asymmetric_loss(task.network(batch["image"]).attributes, batch["attributes"])
    torch.testing.assert_close(task(batch)["attributes"], expected)


def rectangle_sample(width, height, box):
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3] + 1, box[0] : box[2] + 1] = 255
    note = {"width": width, "height": height, "box": [float(edge) for edge in box], "category": ""}
    return RawSample(0, simplejpeg.encode_jpeg(image, quality=98, colorsubsampling="444"), note)


@pytest.mark.parametrize("mirror", [0.0, 1.0])
@pytest.mark.parametrize("size", [(150, 100), (70, 130)])
def test_the_box_moves_with_the_image(mirror, size):
    config = CategoryConfig(input_size=128, flip=mirror, color_jitter=0, rotation=0, scale=(0.8, 1.2), translate=0.1)
    encoder, generator, box = CategoryEncoder(config, {}, 0, has_boxes=True), np.random.default_rng(0), (20, 30, 49, 79)
    for _ in range(8):
        encoded = encoder(rectangle_sample(*size, box), generator)
        bright = encoded["image"].mean(axis=2) > 190  # black, gray outside, white in the box
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 128
        assert encoded["has_box"]
        assert np.abs(encoded["box"] - seen).max() < 0.012


def test_a_box_out_of_view_teaches_nothing():
    config = CategoryConfig(input_size=64, flip=0, rotation=0, scale=(4.0, 4.0), translate=0)
    encoded = CategoryEncoder(config, {}, 0, has_boxes=True)(
        rectangle_sample(100, 100, (2, 2, 10, 10)), np.random.default_rng(0)
    )
    assert not encoded["has_box"]
    assert (encoded["box"][2:] >= encoded["box"][:2]).all()


@pytest.mark.parametrize("flip", [False, True])
def test_a_perfect_box_comes_back_in_pixels_of_the_source(shards, monkeypatch, flip):
    task = tiny_task(shards, tta={"flip": flip})
    batch = batch_of(task, shards)
    outputs = task.network(batch["image"])

    def network(image):
        flipped = not torch.equal(image, batch["image"])
        x1, y1, x2, y2 = batch["box"].T
        boxes = torch.stack([1 - x2, y1, 1 - x1, y2], dim=1) if flipped else batch["box"]
        return type(outputs)(boxes, outputs.category, outputs.attributes)

    monkeypatch.setattr(task.network, "forward", network)
    results = task.predict(batch)
    torch.testing.assert_close(results["boxes"], results["true_box"], rtol=0, atol=1e-3)


def test_overlap_counts_pixels_of_both_corners():
    boxes, truth = np.array([[0.0, 0, 9, 9], [0, 0, 4, 4]]), np.array([[5.0, 0, 14, 9], [10, 10, 12, 12]])
    np.testing.assert_allclose(box_overlap(boxes, truth), [50 / 150, 0])
    np.testing.assert_allclose(box_overlap(boxes, boxes), 1)


def test_the_mirrored_view_makes_predictions_symmetric(shards):
    task = tiny_task(shards)
    task.set_tta(True)
    batch = batch_of(task, shards)
    flipped = {**batch, "image": batch["image"].flip(2)}
    one, other = task.predict(batch), task.predict(flipped)
    for name in ("category_scores", "attribute_scores"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)
    task.set_tta(None)
    assert not torch.allclose(one["attribute_scores"], task.predict(batch)["attribute_scores"], atol=1e-6)


# --- predictions and report -------------------------------------------------------------------------------------------


def test_recall_of_a_type_ranks_that_type_alone(shards):
    """An earlier system masked two columns instead of the other types, and so ranked all of them."""
    task = tiny_task(shards)
    scores = np.array([[0.9, 0.8, 0.3, 0.2, 0.1, 0.7, 0.05]])
    targets = np.array([[0, 0, 0, 0, 1, 0, 0]])  # of the type fabric: 4, 5, 6
    results = {"attribute_scores": scores, "attributes": targets, "row": np.zeros(1, int)}
    assert label_metrics(task.labels, results)["attribute_recall_5_micro"] == 0
    from ftrain.metrics.attributes import attribute_recall

    found = attribute_recall(scores, targets == 1, targets >= 0, types=task.labels.groups, top=(1, 2))
    assert found["fabric"]["recall_2_micro"] == 1
    assert found["all"]["recall_2_micro"] == 0


def test_a_report_is_beside_its_baselines(shards, tmp_path):
    task, results = tiny_task(shards), predicted(tiny_task(shards), shards)
    results["category_scores"] = np.eye(4, dtype=np.float32)[results["category"]] * 0.7
    results["boxes"] = results["true_box"]
    evaluated = EvaluatedSplit(results, shards, "test", shards.rows("train"))
    for folder in ("one", "two"):
        numbers = task_function(task, "report")(task, evaluated, tmp_path / folder)
    json.dumps(numbers, allow_nan=False)
    assert numbers["model"]["category_top_1"] == numbers["model"]["box_iou"] == 1
    assert numbers["majority"]["category_top_1"] == 0.25
    assert numbers["mean_box"]["box_iou"] < 1
    assert not numbers["collapse"]["collapsed"]
    assert set(numbers["attributes"]) == {"all"}  # the types have at most 3 ids: all of them are among the first 3
    written = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert {"predictions.png", "images.csv", "plots/category.png", "plots/category_confusion.csv"} <= set(
        map(str, written)
    )
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in written)
    lines = list(summary({**numbers, "task": "category"}))
    assert any("category top-1" in line and "100.0%" in line and "25.0%" in line for line in lines)


def test_groups_are_evaluated_and_a_set_without_names_of_categories_has_no_such_head(grouped, tmp_path):
    task = tiny_task(grouped)
    assert (task.labels.categories, task.needs) == ([], ("attributes", "box"))
    losses = task.train()(batch_of(task, grouped))
    assert set(losses) == {"loss", "attributes", "box"}
    results = predicted(task.eval(), grouped)
    results["attribute_scores"] = (results["attributes"] == 1).astype(np.float32)
    numbers = task_function(task, "report")(
        task, EvaluatedSplit(results, grouped, "test", grouped.rows("train")), tmp_path
    )
    assert numbers["model"]["score"] == numbers["model"]["groups_top_1"] == 1
    assert numbers["majority"]["groups_top_1"] < 0.8
    assert not any(name.startswith("category") for name in numbers["model"])
    assert set(numbers["groups"]) == {"mean", "texture", "shape", "fabric"}
    said = task_function(task, "describe")(task, results, 0)
    assert "category" not in said
    assert [len(said["attributes"][kind]) for kind in ("texture", "shape", "fabric")] == [1, 1, 1]


def test_a_report_of_constant_answers_reports_that_they_collapsed(grouped, shards, tmp_path):
    for task, opened, name in (
        (tiny_task(grouped), grouped, "attribute_scores"),
        (tiny_task(shards), shards, "category_scores"),
    ):
        results = predicted(task, opened)
        results[name] = np.broadcast_to(
            np.linspace(1, 0, results[name].shape[1], dtype=np.float32), results[name].shape
        )
        assert task_function(task, "report")(
            task, EvaluatedSplit(results, opened, "test", opened.rows("train")), tmp_path
        )["collapse"]["collapsed"]


def test_an_answer_names_category_types_attributes_and_box(shards):
    task, results = tiny_task(shards), predicted(tiny_task(shards), shards)
    results["category_scores"][0] = [0.1, 0.0, 0.3, 0.6]
    said = task_function(task, "describe")(task, results, 0)
    assert (said["category"], said["category_score"], said["type"]) == ("Coat", 0.6, "upper")
    assert said["types"]["full"] == {"score": 0.3, "category": "Dress"}
    assert [entry["name"] for entry in said["categories"]] == ["Coat", "Dress", "Blouse", "Jeans"]
    assert {entry["name"] for entries in said["attributes"].values() for entry in entries} <= set(ATTRIBUTES)
    assert len(said["box"]) == 4
    json.dumps(said, allow_nan=False)
    image = np.full((80, 60, 3), 90, np.uint8)
    drawn = task_function(task, "draw")(task, image, said)
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert (image == 90).all()


def test_a_photograph_without_a_garment_is_not_given_a_name(shards, tmp_path):
    run = write_run(tmp_path / "run", shards, score_threshold=0.9)
    image = np.full((40, 50, 3), 128, np.uint8)
    (tmp_path / "grey.jpg").write_bytes(simplejpeg.encode_jpeg(image, quality=90))
    (answer,) = predict_images(run, [tmp_path / "grey.jpg"], tmp_path / "out", PredictOptions(tta=True))
    assert (answer["recognized"], answer["category"], answer["least_score"]) == (False, None, 0.9)
    assert len(answer["categories"]) == 4
    assert (tmp_path / "out" / answer["overlay"]).stat().st_size > 500


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "model", "message"),
    [
        (
            ("category", "attributes"),
            {},
            "needs category or attributes, but this shard set has box, landmarks, item, style",
        ),
        (("attributes",), {"targets": ["attributes"]}, "needs attributes, but this shard set has category, box"),
    ],
)
def test_a_set_without_labels_is_refused(tmp_path, without, model, message):
    shards = ShardSet.open(write_label_set(tmp_path / "set", {"train": 4, "val": 2}, without=without))
    with pytest.raises(UsageError, match=message):
        tiny_task(shards, **model)


@pytest.mark.parametrize("mixing", [{"mixup": 0.2}, {"cutmix": 1.0}])
def test_images_with_boxes_to_learn_are_not_mixed(shards, tmp_path, mixing):
    with pytest.raises(UsageError, match=r"a mixed image has two boxes; set model\.box_loss_weight=0"):
        tiny_task(shards, **mixing)
    tiny_task(shards, **mixing, box_loss_weight=0.0)
    tiny_task(ShardSet.open(write_label_set(tmp_path / "set", {"train": 4}, without=("box",))), **mixing)


def test_branches_need_types(shards):
    metadata = json.loads(json.dumps(shards.metadata))
    metadata["vocabularies"]["category"]["groups"] = {}
    with pytest.raises(UsageError, match=r"test-category have no types; choose model\.heads=shared"):
        build_task(tiny_config(heads="per_type"), metadata)


def test_boxes_or_one_kind_of_label_may_be_missing(tmp_path):
    for without, needs in ((("box", "attributes"), ("category",)), (("category",), ("attributes", "box"))):
        shards = ShardSet.open(write_label_set(tmp_path / "-".join(without), COUNTS, without=without))
        task = tiny_task(shards).train()
        assert task.needs == needs
        assert set(task(batch_of(task, shards))) == {"loss", *needs}
        results = predicted(task.eval(), shards)
        assert 0 <= task_function(task, "compute_metrics")(task, results)["score"] <= 1
        assert (
            "box" in task_function(task, "describe")(task, results, 0)
            if "box" in needs
            else "box" not in task_function(task, "describe")(task, results, 0)
        )
        task_function(task, "report")(
            task, EvaluatedSplit(results, shards, "test", shards.rows("train")), tmp_path / "out"
        )


def test_other_classes_and_an_empty_split_are_refused(shards, tmp_path):
    run = write_run(tmp_path / "run", shards)
    numbers = iter(range(8))
    samples = {
        split: [label_sample(next(numbers), split, DEEPFASHION_8, 8) for _ in range(4)] for split in ("train", "test")
    }
    for sample in (sample for members in samples.values() for sample in members):
        sample.annotation["category"] = "Poncho"
    groups, vocabularies = shards.metadata["column_groups"], copy.deepcopy(shards.metadata["vocabularies"])
    vocabularies["category"] |= {"values": ["Poncho"], "groups": {}}
    other = write_samples(tmp_path / "other", samples, DEEPFASHION_8, groups, vocabularies)
    with pytest.raises(
        UsageError, match=r"category was trained on other classes of category .* than .* has \(Poncho\)"
    ):
        evaluate_run(run, str(other), tmp_path / "out", workers=0, device="cpu")
    with pytest.raises(UsageError, match="the split 'query' has no samples"):
        evaluate_run(run, str(shards.location), tmp_path / "out", split="query", workers=0)


def test_an_evaluation_of_one_answer_fails_with_its_metrics_written(shards, tmp_path):
    task = tiny_task(shards)
    torch.nn.init.zeros_(task.network.category_head.weight)
    run = write_run(tmp_path / "run", shards, task)
    with pytest.raises(RejectedError, match="the model collapsed"):
        evaluate_run(run, str(shards.location), tmp_path / "out", workers=0)
    metrics = json.loads((tmp_path / "out/report.json").read_text())
    assert metrics["collapse"]["share"] == 1
    assert metrics["model"]["category_count"] == COUNTS["test"]

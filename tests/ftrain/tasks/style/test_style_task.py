"""The style task: published sizes, bugs of the original, both targets, stages, attribute search, reports, errors."""

import csv
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.ftrain.tiny_task import trainer_of
from tests.shard_sets import STYLES, write_label_set

from fschemas.failures import RejectedError, UsageError
from fschemas.shard_set import ShardSet
from fschemas.vocabularies import english_names, vocabulary
from ftrain.data.config import FitConfig, Stage
from ftrain.data.plan import ClassBalanced
from ftrain.data.search_roles import GALLERY, QUERY
from ftrain.data.stream import RawSample
from ftrain.data.types import Rows
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.config import resolve
from ftrain.fit.optimization import check_stages, make_optimizer, set_rate
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.splits import Splits, sampler_of
from ftrain.metrics.retrieval import Entries, evaluate_retrieval
from ftrain.tasks.style.attribute_search import chance_metrics, entries, nearest, search_metrics
from ftrain.tasks.style.config import StyleConfig
from ftrain.tasks.style.labels import StyleLabels, attribute_labels, style_labels
from ftrain.tasks.style.losses import value_triplets
from ftrain.tasks.style.report import calibration_error, classified
from ftrain.tasks.style.task import Style
from ftrain.tasks.task import build_task, task_function
from ftrain.use.evaluate import evaluate_run, summary_lines
from ftrain.use.predict import PredictOptions, predict_images

TINY = {"backbone": "test_efficientnet", "embedding_dim": 32, "attribute_dim": 16, "input_size": 64}
LOCAL = {"local_backbone": "test_efficientnet", "local_input_size": 32}
FASHIONAI = {"vocabularies": {"attributes": vocabulary("fashionai-attribute-54").to_json()}}
KFASHION = {"vocabularies": {"style": vocabulary("kfashion-style-24").to_json()}}
PUBLISHED = {"backbone": "resnet50", "embedding_dim": 1024, "attribute_dim": 512}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return ShardSet.open(
        write_label_set(tmp_path_factory.mktemp("style") / "set", {"train": 32, "val": 12, "test": 12})
    )


def task_of(dataset, **model):
    torch.manual_seed(0)
    return Style(StyleConfig(**{**TINY, **model}), dataset)


def batch_of(task, shards, number=12, split="train"):
    rows = [int(row) for row in shards.rows(split)[:number]]
    encoded = [task.encoder(RawSample(row, *shards.read(row)), None) for row in rows]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}


def write_run(folder, shards, step=3, **model):
    config = resolve({"task": "style", "model": {**TINY, **model}, "fit": {}}, "the test")
    torch.manual_seed(0)
    run, task = RunFolder(folder), build_task(config, shards.metadata)
    folder.mkdir(parents=True)
    run.start(config, shards, "auto")
    best = {"metric": task.selected_by[0], "value": 0.5, "step": step}
    state = TrainingState(step=step, plan_id=shards.plan_id, config_digest=config.digest, best=best)
    checkpoint.save_checkpoint(run.checkpoints, state, {"model": task.state_dict()}, keep=1)
    checkpoint.mark_best(run.checkpoints, state)
    return folder


@pytest.mark.parametrize(
    ("dataset", "model", "millions", "exactly"),
    [
        # ResNet-50 up to stride 16, 8 x 512 attribute vectors, 2 x (512 + 1) x 512, conv (1,024 + 1) x 512, (1,536 + 1)
        # x 512 and (512 + 1) x 1,024 of the gate, (1,024 + 1) x 1,024 of the projection
        (FASHIONAI, {"target": "attributes", "head": "none"}, 11.96, 8_543_296 + 4_096 + 525_312 + 524_800 + 786_944 + 525_312 + 1_049_600),
        (FASHIONAI, {"target": "attributes", "head": "none", "local_backbone": "resnet34", "local_input_size": 112}, 20.98, None),
        ({"vocabularies": {"style": {"name": "asen", "values": ["0", "1", "2"], "groups": {}}}}, {"head": "arcface"}, 32.69, 32_692_800),
    ],
)  # fmt: skip
def test_it_has_the_parameters_of_the_published_networks(dataset, model, millions, exactly):
    with torch.device("meta"):
        task = Style(StyleConfig(**PUBLISHED, **model), dataset)
    count = sum(parameter.numel() for parameter in task.parameters())
    assert round(count / 1e6, 2) == millions
    assert exactly in (None, count)
    if task.local is not None:
        assert round(sum(parameter.numel() for parameter in task.local.parameters()) / 1e6, 2) == 9.02


def test_probabilities_keep_the_scale(shards):
    """The softmax of unscaled cosines is nearly flat: among three classes, none could exceed 0.79."""
    task = task_of(shards.metadata, arcface_scale=20.0, tta={"flip": False}).eval()
    batch = batch_of(task, shards)
    with torch.no_grad():
        embedding, _, deep = task._global_branch(batch["image"])
        wanted = task.neck(embedding[:, 0], deep)
        task.heads[0].directions.copy_(torch.stack([wanted[0], -wanted[0], wanted.roll(1, dims=1)[0]]))
        scores = task.predict(batch)["scores"][0]
    assert scores[0] > 0.95
    torch.testing.assert_close(scores.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("target", ["style", "attributes"])
def test_rare_values_need_a_larger_margin(shards, target):
    """The frequencies of the training rows are added to the logits in training, and only there."""
    plain, adjusted = (
        task_of(shards.metadata, target=target, dropout=0.0, logit_adjustment=weight).eval() for weight in (0, 1)
    )
    rows = Rows(shards, shards.rows("train")[:21])
    for task in (plain, adjusted):
        task.observe_training(rows)
    assert not plain.adjustment.any()
    values = np.stack([adjusted.labels.values_of(note, None) for note in rows.annotations()])
    known = [
        np.bincount(own[own >= 0], minlength=len(names))
        for own, names in zip(values.T, adjusted.labels.values, strict=True)
    ]
    expected = np.concatenate([np.log(np.maximum(own, 1) / np.maximum(own, 1).sum()) for own in known])
    np.testing.assert_allclose(adjusted.adjustment.numpy(), expected, rtol=1e-5)
    assert "adjustment" not in adjusted.state_dict()
    batch = batch_of(plain, shards)
    with torch.no_grad():
        torch.testing.assert_close(plain.predict(batch)["scores"], adjusted.predict(batch)["scores"])
        assert plain(batch)["classes"] != adjusted(batch)["classes"]


def test_attributes_can_be_balanced(shards):
    """An image counts for the rarest attribute it has a value of, so that no attribute is left to few images."""
    task = task_of(shards.metadata, target="attributes")
    rows = shards.rows("train")
    labels = task.labels_to_sample(Rows(shards, rows))
    assert len(labels) == len(shards)
    assert set(labels[rows]) <= set(task.labels.attributes)
    values = task.compared(Rows(shards, rows))
    for row, own in zip(rows, values, strict=True):
        assert own[task.labels.attributes.index(labels[row])] >= 0
    sampler, _ = sampler_of(task, FitConfig(sampler="balanced"), shards, rows)
    _, counts = np.unique(labels[sampler(rows, np.random.default_rng(0))], return_counts=True)
    assert counts.max() - counts.min() <= len(counts)


@pytest.mark.parametrize("model", [{}, LOCAL, {"target": "attributes"}])
def test_validation_has_the_metrics_of_the_prediction(shards, model):
    """For styles without the local branch, whose embedding no metric reads."""
    task = task_of(shards.metadata, tta={"flip": False}, **model).eval()
    batch = batch_of(task, shards)
    compute = task_function(task, "compute_metrics")
    calls = []
    if task.local is not None:
        task.local.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        fast = {name: values.numpy() for name, values in task.validate(batch).items()}
        assert not calls
        full = {name: values.numpy() for name, values in task.predict(batch).items()}
    rows = {"row": np.arange(len(batch["values"]))}
    assert compute(task, fast | rows) == compute(task, full | rows)


def test_without_triplets_no_image_is_compared(shards):
    """Otherwise, micro-batches would run forward twice for nothing."""
    task = task_of(shards.metadata, triplet_loss_weight=0.0)
    task.gather = lambda values: pytest.fail("gathered")
    assert task(batch_of(task, shards))["triplet"] == 0


def test_every_image_with_a_style_is_in_the_class_loss_and_others_are_not(shards):
    task = task_of(shards.metadata, dropout=0.0).train()
    for module in task.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    batch = batch_of(task, shards)
    whole = task(batch)["classes"]
    for row in range(len(batch["values"])):
        changed = {**batch, "values": batch["values"].clone()}
        changed["values"][row] = -1
        assert task(changed)["classes"] < whole
    nothing = {**batch, "values": torch.full_like(batch["values"], -1)}
    losses = task(nothing)
    losses["loss"].backward()
    assert losses["loss"] == 0


def test_classes_are_those_of_the_vocabulary(shards):
    names = ["z-last", "casual", "a-first"]
    dataset = {"vocabularies": {"style": {"name": "mine", "values": names, "groups": {}}}}
    task = task_of(dataset).eval()
    assert task.labels.values == (tuple(names),)
    assert task.labels.classes == {"": -1, "z-last": 0, "casual": 1, "a-first": 2}
    results = {
        "scores": np.array([[0.1, 0.2, 0.7]]), "size": np.array([[64.0, 48.0]]), "attention": np.ones((1, 1, 4, 4)) / 16,
        "region": np.array([[0.0, -8.0, 64.0, 56.0]]),
    }  # fmt: skip
    assert task_function(task, "describe")(task, results, 0)["style"] == "a-first"


def test_styles_of_k_fashion_have_english_names_and_ten_main_styles():
    fine, main = style_labels(KFASHION, "fine"), style_labels(KFASHION, "main")
    known = vocabulary("kfashion-style-24")
    assert len(fine.values[0]) == 24
    assert all(name.isascii() for name in (*fine.values[0], *main.values[0]))
    assert fine.values[0][fine.classes["키치"]] == "kitsch"
    assert main.values[0] == (
        "traditional", "mannish", "feminine", "ethnic", "contemporary", "natural", "gender-fluid", "sporty", "subculture", "casual",
        "other",
    )  # fmt: skip
    assert main.classes["프레피"] == main.classes["클래식"] == 0
    assert [main.originals[main.classes[style]] for style in ("힙합", "스트리트")] == ["서브컬쳐", "캐주얼"]
    assert set(english_names(known.name)) == {*known.values, *known.groups}
    assert english_names("deepfashion-fine-26") == english_names("../kfashion-style-24") == {}


@pytest.mark.parametrize("styles", ["fine", "main"])
def test_the_majority_is_counted_by_the_names_of_the_data_set(styles):
    """Predictions have English names, shards Korean ones."""
    labels = style_labels(KFASHION, styles)
    columns = {"style": np.array(["프레피", "클래식", "", "힙합"])}
    results = {"scores": np.zeros((4, 4)), "values": np.zeros((4, 1))}
    evaluated = SimpleNamespace(shards=SimpleNamespace(columns=columns), training_rows=np.arange(4), results=results)
    expected = [labels.classes["프레피"], labels.classes["클래식"], -1, labels.classes["힙합"]]
    assert len(set(expected)) == (4 if styles == "fine" else 3)
    assert classified(labels, evaluated).training_labels.tolist() == expected


def test_main_styles_balance_the_sampler_too():
    columns = {"style": np.array(["클래식", "프레피", "", "힙합"])}
    assert Style.sampling_labels(StyleConfig(), columns) is columns["style"]
    assert Style.sampling_labels(StyleConfig(styles="main"), columns).tolist() == [
        "트래디셔널",
        "트래디셔널",
        "",
        "서브컬쳐",
    ]
    assert Style.sampling_labels(StyleConfig(target="attributes"), columns) is None


def test_the_balanced_sampler_takes_styles(shards):
    task = task_of(shards.metadata)
    sampler, rows = sampler_of(task, FitConfig(sampler="balanced"), shards, shards.rows("train"))
    assert isinstance(sampler, ClassBalanced)
    chosen = sampler(rows, np.random.default_rng(0))
    counts = [int((shards.columns["style"][chosen] == style).sum()) for style in STYLES]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("split", "known", "expected"),
    [
        ("val", ("train", "val_query", "val_gallery"), ("val_query", "val_gallery")),
        ("test", ("train", "query", "gallery"), ("query", "gallery")),
        ("val", ("train", "val"), ("val",)),
        ("query", ("query", "gallery"), ("query",)),
        ("test", ("train",), ("test",)),
    ],
)
def test_query_and_gallery_are_one_split(split, known, expected):
    assert Style.splits_of(split, known) == expected


def test_the_local_branch_learns_in_its_stage_and_counts_only_from_then(shards, tmp_path, one_thread):
    fit = {
        "batch_size": 8, "epochs": 1, "checkpoint_every_steps": 1, "validate_every_epochs": 9, "ema_decay": 0.5,
        "stages": [
            {"until": 0.5, "freeze": ["local"], "loss_weights": {"local": 0, "align": 0}},
            {"until": 1.0, "lr_scale": 0.1, "lr_scales": {"local": 10.0}},
        ],
    }  # fmt: skip
    config = resolve({"task": "style", "model": {**TINY, **LOCAL}, "fit": fit}, "the test")
    torch.manual_seed(0)
    task = build_task(config, shards.metadata)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    descriptors = {}
    for until in (2, 4):
        torch.manual_seed(0)
        task = build_task(config, shards.metadata)
        trainer_of(task, config, shards, tmp_path, until).train()
        descriptors[until] = task.eval().predict(batch_of(task, shards))["embedding"].float()
        state = task.state_dict()
        local = [name for name in state if name.startswith("local.")]
        same = [torch.equal(state[name], before[name]) for name in local]
        assert all(same) if until == 2 else not any(same)
        assert bool(task.local_trained) == (until == 4)
        average = checkpoint.load_tensors(checkpoint.newest(tmp_path / "checkpoints")[0], "ema")
        assert bool(average["module.local_trained"]) == (until == 4)
    assert descriptors[2].shape == descriptors[4].shape == (12, 1, 64)
    assert (descriptors[2][..., 32:] == 0).all()
    lengths = descriptors[4].unflatten(2, (2, 32)).square().sum(dim=3)[:, 0].mean(dim=0)
    torch.testing.assert_close(
        lengths, torch.tensor([0.6, 0.4]), atol=0.05, rtol=0
    )  # a mean of two views is slightly shorter


def test_parts_of_a_model_have_rates_of_their_own_in_a_stage(shards):
    task = task_of(shards.metadata, **LOCAL)
    stages = (Stage(until=0.5), Stage(lr_scale=0.1, lr_scales={"local": 10.0, "local.backbone": 5.0}))
    optimizer = make_optimizer(task, FitConfig(backbone_lr_scale=0.5, stages=stages))
    names = {parameter: name for name, parameter in task.named_parameters()}
    for stage in stages:
        set_rate(optimizer, 1.0 * stage.lr_scale, stage.lr_scales)
        for group in optimizer.param_groups:
            for name in (names[parameter] for parameter in group["params"]):
                backbone = 0.5 if "backbone." in name else 1.0
                part = 5.0 if name.startswith("local.backbone") else 10.0 if name.startswith("local.") else 1.0
                assert group["lr"] == pytest.approx(backbone * (0.1 * part if stage.lr_scales else 1.0)), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    with pytest.raises(UsageError, match="starts with 'nose'"):
        check_stages(task, (Stage(lr_scales={"nose": 2.0}),))


def test_triplets_stay_within_their_attribute():
    triplets = partial(value_triplets, margin=0.3, mining="all")
    embedding = torch.randn(6, 3, 32)
    values = torch.tensor([[0, 0, -1], [0, 1, -1], [1, -1, -1], [1, -1, -1], [-1, 0, -1], [-1, 1, -1]])
    whole = triplets(embedding, values)
    unknown = embedding.clone()
    unknown[values < 0] = 9.0
    assert triplets(unknown, values) == whole
    moved = embedding.clone()
    moved[:, 0] = torch.nn.functional.one_hot(values[:, 0].clamp_min(0), 32).float()  # perfectly separated by the first
    halves = triplets(embedding[:, 1:], values[:, 1:])  # equal weight for each of four known values
    torch.testing.assert_close(triplets(moved, values), halves / 2)
    assert triplets(embedding, torch.full_like(values, -1)) == 0


def test_values_of_attributes_come_from_their_groups(shards):
    labels = attribute_labels(shards.metadata)
    assert labels.attributes == ("texture", "shape", "fabric")
    note = {"attributes_positive": [1, 4, 6], "attributes_unknown": [2, 3]}
    assert labels.values_of(note, None).tolist() == [1, -1, 0]
    drawn = {tuple(labels.values_of(note, np.random.default_rng(seed))) for seed in range(20)}
    assert drawn == {(1, -1, 0), (1, -1, 2)}
    assert labels.positive(note).tolist() == [0, 1, 0, 0, 1, 0, 1]


def results_of(generator, labels, num_images=40):
    positive = np.zeros((num_images, labels.num_ids), np.uint8)
    for ids in labels.ids:
        positive[np.arange(num_images), generator.choice(list(ids), num_images)] = 1
    positive[::7, list(labels.ids[0])] = 0
    positive[3, [4, 5]] = 1  # two values of one type
    embedding = generator.normal(size=(num_images, len(labels.attributes), 6)).astype(np.float16)
    return {
        "positive": positive,
        "embedding": embedding,
        "role": np.zeros(num_images, np.int8),
        "row": np.arange(num_images),
    }


def test_search_is_that_of_the_asen_papers(shards):
    """Each (image, value) is a query among the entries of its attribute; one ranking is checked by hand."""
    labels, generator = attribute_labels(shards.metadata), np.random.default_rng(0)
    results = results_of(generator, labels)
    found = entries(labels, results)
    assert len(found.images) == int(results["positive"].sum())
    metrics = search_metrics(labels, results)
    mine = []
    for number, attribute in enumerate(labels.attributes):
        among = np.flatnonzero(found.attributes == number)
        own = []
        for query in among:
            vector = results["embedding"][found.images[query], number].astype(float)
            others = [entry for entry in among if found.images[entry] != found.images[query]]
            vectors = np.array([results["embedding"][found.images[entry], number] for entry in others], float)
            cosines = vectors @ vector / np.linalg.norm(vectors, axis=1)
            right = np.array([found.values[entry] == found.values[query] for entry in others])
            hits = right[
                np.lexsort((right, -cosines.round(9)))
            ]  # an image with two values ties with itself: the wrong one ranks first
            own.append((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean() if hits.any() else 0.0)
        assert metrics[f"map/{attribute}"] == pytest.approx(np.mean(own), abs=1e-6)
        mine += own
    assert metrics["map"] == pytest.approx(np.mean(mine), abs=1e-6)


def test_chance_is_the_mean_over_random_orders(shards):
    labels = attribute_labels(shards.metadata)
    results = results_of(np.random.default_rng(1), labels, 25)
    results["role"][:8] = QUERY
    results["role"][8:20] = GALLERY
    found = entries(labels, results)
    expected = chance_metrics(labels, found)
    drawn = []
    for seed in range(150):
        results["embedding"] = np.random.default_rng(seed).normal(size=results["embedding"].shape).astype(np.float16)
        drawn.append(search_metrics(labels, results, found)["map"])
    assert expected["map"] == pytest.approx(np.mean(drawn), abs=3 * np.std(drawn) / np.sqrt(len(drawn)))
    assert set(expected) == {"map", *(f"map/{name}" for name in labels.attributes)}


def test_queries_find_the_gallery_and_never_themselves():
    labels = StyleLabels(("style",), (("a", "b"),), classes={"": -1, "a": 0, "b": 1})
    results = {
        "values": np.array([[0], [0], [1], [-1], [1]]), "role": np.array([QUERY, GALLERY, GALLERY, QUERY, 0], np.int8),
        "embedding": np.random.default_rng(0).normal(size=(5, 1, 4)).astype(np.float16),
    }  # fmt: skip
    found = entries(labels, results)
    assert found.images.tolist() == [0, 1, 2, 4]
    assert found.is_query.tolist() == [True, False, False, True]
    assert found.is_gallery.tolist() == [False, True, True, True]
    asked, near = nearest(results, found, 0, 10, 3)
    assert asked.tolist() == [0, 3]
    assert 3 not in near[1].tolist()
    metrics = search_metrics(labels, results)
    vectors, rows = results["embedding"][:, 0], np.arange(5)
    own = evaluate_retrieval(
        vectors[[0, 4]], vectors[[1, 2, 4]], ["a", "b"], ["a", "b", "b"], query_rows=rows[[0, 4]], gallery_rows=rows[[1, 2, 4]]
    )  # fmt: skip
    assert metrics["map"] == pytest.approx(own.summary()["map"])


def test_a_constant_embedding_is_called_collapsed(shards, tmp_path):
    run = write_run(tmp_path / "run", shards, target="attributes")
    path = checkpoint.newest(run / "checkpoints")[0]
    task, _, state = RunFolder(run).load()
    with torch.no_grad():
        task.attention.project.weight.zero_()
        task.attention.project.bias.fill_(1.0)
    state.step += 1
    checkpoint.save_checkpoint(path.parent, state, {"model": task.state_dict()}, keep=1)
    with pytest.raises(RejectedError, match="collapsed"):
        evaluate_run(run, shards.location, tmp_path / "out", checkpoint="latest", workers=0, device="cpu")
    assert (tmp_path / "out/report.json").exists()


def test_calibration_error_by_hand():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    # 0.9 twice, right once: gap 0.4; 0.6 right once: gap 0.4; the last is unknown
    assert calibration_error(scores, np.array([0, 1, 1, -1])) == pytest.approx((2 * 0.4 + 0.4) / 3)


@pytest.mark.parametrize("model", [LOCAL, {"target": "attributes", **LOCAL}, {"target": "attributes", "head": "none"}])
def test_a_report_has_floors_tables_plots_and_images(shards, tmp_path, model, rendered):
    run = write_run(tmp_path / "run", shards, **model)
    out = tmp_path / "out"
    metrics = evaluate_run(run, shards.location, out, workers=0, device="cpu", allow_collapse=True)
    json.dumps(metrics, allow_nan=False)
    of_style = "target" not in model
    assert metrics["model"]["map"] > 0
    assert metrics["chance"]["map"] > 0
    if of_style:
        assert {"top_1", "macro_f1", "macro_f1_low", "balanced_accuracy", "calibration_error"} <= metrics[
            "model"
        ].keys()
        assert metrics["majority"]["top_1"] == pytest.approx(1 / 3, abs=0.15)
        assert set(metrics["classes"]) == set(STYLES)
    else:
        assert set(metrics["attributes"]) == {"texture", "shape", "fabric"}
        assert ("top_1" in metrics["model"]) == ("head" not in model)
        assert metrics["untrained"]["map"] == pytest.approx(metrics["model"]["map"], abs=0.3)
    with open(out / "images.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    worst = "score_of_truth" if of_style else "right_of_5"
    assert [float(row[worst]) for row in rows] == sorted(float(row[worst]) for row in rows)
    for name in ("predictions.png", "plots/style.png" if of_style else "plots/attributes.png"):
        with Image.open(out / name) as image:
            assert image.size[0] > 300
    text = "\n".join(summary_lines(metrics))
    assert "mAP" in text
    again = evaluate_run(run, shards.location, tmp_path / "again", workers=0, device="cpu", allow_collapse=True)
    assert again == metrics
    assert (tmp_path / "again/predictions.png").read_bytes() == (out / "predictions.png").read_bytes()


@pytest.mark.parametrize("model", [{"score_threshold": 0.999}, {"target": "attributes", **LOCAL}])
def test_photographs_are_answered_and_drawn(shards, tmp_path, model):
    run = write_run(tmp_path / "run", shards, **model)
    Image.new("RGB", (60, 200), (120, 120, 120)).save(tmp_path / "nothing.png")
    (answer,) = predict_images(
        run, [tmp_path / "nothing.png"], tmp_path / "out", PredictOptions(device="cpu", tta=True)
    )
    assert answer["region"] == [-70.0, 0.0, 130.0, 200.0]
    if "target" in model:
        assert set(answer["attributes"]) == {"texture", "shape", "fabric"}
        left, top, right, bottom = answer["attributes"]["shape"]["box"]
        assert right - left == pytest.approx(bottom - top, abs=0.02)
    else:
        assert not answer["recognized"]
        assert answer["style"] == ""  # scores below the reported threshold give no label
        assert answer["style_score"] < answer["least_score"]
        assert [entry["style"] for entry in answer["styles"]] == sorted(STYLES, key=lambda name: -_score(answer, name))
    with Image.open(tmp_path / "out" / answer["overlay"]) as drawn:
        assert max(drawn.size) >= 400


def _score(answer, style):
    return next(entry["score"] for entry in answer["styles"] if entry["style"] == style)


def test_categories_are_learned_beside_styles(shards):
    task = task_of(shards.metadata, category_loss_weight=0.5)
    assert task.needed_groups(task.config) == ("style", "category")
    batch = batch_of(task, shards)
    assert batch["category"].tolist() == [row % 4 for row in range(8)] + [row % 4 for row in range(4)]
    known = task(batch)["category"]
    assert known > 0
    assert task({**batch, "category": torch.full_like(batch["category"], -1)})["category"] == 0


@pytest.mark.slow
def test_it_can_be_exported_for_batches_of_any_size(shards):
    task = task_of(shards.metadata, tta={"flip": False}, **LOCAL).eval()
    batch = {name: values for name, values in batch_of(task, shards, 5).items() if name in ("image", "matrix", "size")}

    class Predict(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.task = task

        def forward(self, image, matrix, size):
            return self.task.predict({"image": image, "matrix": matrix, "size": size})

    any_size = {name: {0: torch.export.Dim("batch", min=1)} for name in batch}
    exported = torch.export.export(
        Predict(), tuple(value[:2] for value in batch.values()), dynamic_shapes=any_size
    ).module()
    with torch.no_grad():
        wanted = task.predict(batch)
        for name, found in exported(*batch.values()).items():
            torch.testing.assert_close(found, wanted[name], atol=1e-3, rtol=1e-3)


def test_the_mirror_image_is_averaged_on_request(shards):
    task = task_of(shards.metadata, tta={"flip": False}).eval()
    batch = batch_of(task, shards)
    with torch.no_grad():
        plain, flipped = task.predict(batch), task.predict({**batch, "image": batch["image"].flip(2)})
        task.set_tta(True)
        both = task.predict(batch)
        task.set_tta(None)
        assert torch.equal(task.predict(batch)["scores"], plain["scores"])
    torch.testing.assert_close(both["scores"], (plain["scores"] + flipped["scores"]) / 2)


@pytest.mark.parametrize(
    ("dataset", "model", "message"),
    [
        ({"vocabularies": {}}, {}, "has no styles"),
        ({"vocabularies": {"style": {"name": "one", "values": ["casual"], "groups": {}}}}, {}, "or one only"),
        ({"vocabularies": {"style": {"name": "mine", "values": ["a", "b"], "groups": {}}}}, {"styles": "main"}, "which main style 'a'"),
        ({"vocabularies": {"attributes": {"name": "flat", "values": ["a", "b"], "groups": {}}}}, {"target": "attributes"}, "no groups"),
        ({"vocabularies": {}}, {"target": "attributes"}, "no groups of attributes"),
        (KFASHION, {"category_loss_weight": 0.5}, "from a set that has both"),
        (KFASHION, {"head": "none"}, "leaves a style without classes"),
        (KFASHION, {"mixup": 0.2}, "do not suit triplets or a local branch, since a mixed image has two labels"),
        (KFASHION, {"cutmix": 1.0, "triplet_loss_weight": 0.0, "local_backbone": "test_efficientnet"}, "model.local_backbone=''"),
        (KFASHION, {"backbone": "resnet51"}, "timm has no backbone 'resnet51'"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused_in_a_sentence(dataset, model, message):
    with pytest.raises(UsageError, match=message):
        task_of(dataset, **model)


def test_a_set_without_the_columns_or_without_a_style_is_refused(shards, tmp_path):
    bare = ShardSet.open(write_label_set(tmp_path / "bare", {"train": 4}, without=("style", "attributes")))
    for target, group in (("style", "style"), ("attributes", "attributes")):
        task = task_of(shards.metadata, target=target)
        with pytest.raises(UsageError, match=f"needs {group}, but this shard set has"):
            bare.require(task.needed_groups(task.config))
        assert task.selected_by[0] == {"style": "macro_f1", "attributes": "map"}[target]
    unknown = replace(shards, columns={**shards.columns, "style": np.full(len(shards), "")})
    config = resolve({"task": "style", "model": TINY, "fit": {}}, "the test")
    with pytest.raises(UsageError, match="no image of the split has a style"):
        Splits(build_task(config, shards.metadata), config, unknown).training()


def test_an_entry_list_may_be_empty(shards):
    labels = attribute_labels(shards.metadata)
    none = np.empty(0, np.int64)
    nothing = Entries(none, none, none, none.astype(bool), none.astype(bool))
    assert chance_metrics(labels, nothing) == {}

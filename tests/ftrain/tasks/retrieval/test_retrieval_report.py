"""The retrieval report: protocols, baselines, intervals, collapse, tables and sheets."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.shard_sets import CATEGORIES, write_label_set

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.retrieval import evaluate_retrieval
from ftrain.tasks.retrieval import report as retrieval_report
from ftrain.tasks.retrieval.report import chance_metrics, collapse, color_weights, report, summary

ITEMS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    counts = {"train": 16, "query": 24, "gallery": 24, "test": 40, "val": 24}
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("set") / "set", counts, items=ITEMS))


@pytest.fixture(autouse=True)
def _few_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the size of sheets, which take most of the time; one test renders a full one."""
    if "whole" not in request.node.name:
        monkeypatch.setattr(retrieval_report, "SHEET_QUERIES", 2)


def task_of(identity: str, categories: tuple[str, ...] = ()) -> Any:
    """A minimal task for reports."""
    config = SimpleNamespace(identity=identity, classify="category" if categories else "none")
    return SimpleNamespace(config=config, categories=categories)


def evaluated_of(shards: ShardSet, split: str, splits: tuple[str, ...], noise: float = 0.4) -> EvaluatedSplit:
    """Embeddings and colors near the direction of their item; those of the baseline are much farther away."""
    rows = np.sort(np.concatenate([shards.rows(name) for name in splits]))
    generator = np.random.default_rng(0)
    item = np.array([int(name.removeprefix("item-")) for name in shards.columns["item"][rows]])
    directions = np.eye(ITEMS, 16)

    def near(strength: float) -> np.ndarray:
        found = directions[item] + strength * generator.normal(size=(len(rows), 16))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    scores = np.eye(len(CATEGORIES), dtype=np.float32)[item % len(CATEGORIES)]
    results = {"row": rows, "embedding": near(noise), "color": near(0.3), "class_scores": scores}
    untrained = {"row": rows, "embedding": near(1.0)[:, :9]}
    return EvaluatedSplit(results, shards, split, shards.rows("train"), untrained)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_a_report_is_whole_plain_and_the_same_each_time(shards: ShardSet, tmp_path: Path, rendered: None) -> None:
    evaluated = evaluated_of(shards, "test", ("query", "gallery"))
    numbers = report(task_of("item", CATEGORIES), evaluated, tmp_path / "one")
    report(task_of("item", CATEGORIES), evaluated, tmp_path / "two")
    json.dumps(numbers, allow_nan=False)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    expected = {"plots/hits.csv", "plots/hits.png", "plots/category_confusion.png", "images.csv", "predictions.png"}
    assert expected <= {path.as_posix() for path in files}
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path
    assert numbers["protocol"] == "official query and gallery"
    model, baseline, chance = numbers["model"], numbers["untrained"], numbers["chance"]
    assert (model["queries"], model["gallery"], model["items"]) == (24, 24, ITEMS)
    assert model["hit_1_low"] <= model["hit_1"] <= model["hit_1_high"]
    assert model["hit_1"] > baseline["hit_1"] > chance["hit_1"] == pytest.approx(3 / 24)
    gain = numbers["gain"]
    assert gain["hit_1"] == pytest.approx(model["hit_1"] - baseline["hit_1"])
    assert gain["map"] == pytest.approx(model["map"] - baseline["map"])
    assert 0 < gain["map_low"] < gain["map"] < gain["map_high"]
    assert numbers["category"]["model"]["top_1"] == 1.0
    assert "color_weights" not in numbers, "weights are chosen on validation images"
    assert not numbers["collapse"]["collapsed"]
    lines = list(summary(numbers))
    assert any(line.startswith("hit@1") and "untrained" not in line for line in lines)
    assert not any("WARNING" in line for line in lines)
    with Image.open(tmp_path / "one/predictions.png") as sheet:
        assert sheet.width > 1000


def test_queries_and_gallery_are_kept_apart_and_one_is_left_out_otherwise(shards: ShardSet, tmp_path: Path) -> None:
    official = evaluated_of(shards, "test", ("query", "gallery"))
    numbers = report(task_of("item"), official, tmp_path / "official")
    rows, embedding, items = official.results["row"], official.results["embedding"], shards.columns["item"]
    asks = np.isin(shards.columns["split"][rows], ["query"])
    alone = evaluate_retrieval(
        embedding[asks],
        embedding[~asks],
        items[rows[asks]],
        items[rows[~asks]],
        query_rows=rows[asks],
        gallery_rows=rows[~asks],
    ).summary()
    assert {name: numbers["model"][name] for name in ("hit_1", "hit_5", "recall_5", "map")} == {
        name: alone[name] for name in ("hit_1", "hit_5", "recall_5", "map")
    }
    assert set(shards.columns["split"][_rows_of(shards, table(tmp_path / "official/images.csv"), "found")]) == {
        "gallery"
    }
    left_out = report(task_of("item"), evaluated_of(shards, "test", ("test",)), tmp_path / "one")
    assert (left_out["protocol"], left_out["model"]["queries"], left_out["model"]["gallery"]) == (
        "leaving one out",
        40,
        40,
    )
    assert left_out["chance"]["hit_1"] == pytest.approx(4 / 39)
    for row in table(tmp_path / "one/images.csv"):
        assert row["key"] != row["found"]


def _rows_of(shards: ShardSet, rows: list[dict[str, str]], column: str) -> np.ndarray:
    keys = shards.columns["key"].tolist()
    return np.array([keys.index(row[column]) for row in rows])


def test_other_splits_may_only_answer(shards: ShardSet, tmp_path: Path) -> None:
    numbers = report(task_of("item"), evaluated_of(shards, "test+train", ("test", "train")), tmp_path)
    assert (numbers["model"]["queries"], numbers["model"]["gallery"]) == (40, 56)
    assert numbers["protocol"] == "query: test, gallery: test and train"
    assert numbers["chance"]["hit_1"] == pytest.approx(6 / 55)


def test_images_come_worst_first_and_name_what_was_found(shards: ShardSet, tmp_path: Path) -> None:
    evaluated = evaluated_of(shards, "test", ("query", "gallery"), noise=0.9)
    report(task_of("item"), evaluated, tmp_path)
    rows = table(tmp_path / "images.csv")
    precisions = [float(row["average_precision"]) for row in rows]
    assert precisions == sorted(precisions)
    assert 0 < len([row for row in rows if row["first_hit"] == "1"]) < 24
    for row in rows:
        assert (row["first_hit"] == "1") == (row["label"] == row["found_label"])


def test_intervals_are_over_items_whose_images_fail_together(shards: ShardSet, tmp_path: Path) -> None:
    """Half of the items are never retrieved: resampling images would make the interval of hit@1 much too narrow."""
    evaluated = evaluated_of(shards, "test", ("query", "gallery"), noise=0.05)
    item = np.array([int(name.removeprefix("item-")) for name in shards.columns["item"][evaluated.results["row"]]])
    asks = shards.columns["split"][evaluated.results["row"]] == "query"
    lost = asks & (item < ITEMS // 2)
    evaluated.results["embedding"][lost] = np.roll(evaluated.results["embedding"][lost], ITEMS // 2, axis=1)
    model = report(task_of("item"), evaluated, tmp_path)["model"]
    assert model["hit_1"] == 0.5
    spread_of_items = 2 * 1.96 * np.sqrt(0.25 / ITEMS)
    assert model["hit_1_high"] - model["hit_1_low"] == pytest.approx(spread_of_items, rel=0.2)


def test_validation_tries_weights_of_the_color(shards: ShardSet, tmp_path: Path) -> None:
    evaluated = evaluated_of(shards, "val", ("val",), noise=0.8)
    found = report(task_of("item"), evaluated, tmp_path)["color_weights"]
    assert [entry["weight"] for entry in found] == [0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    assert found[-1]["map"] > found[0]["map"] + 0.05, "the colors of these results tell more than the embeddings"
    places = np.arange(24)
    one = color_weights(evaluated.results, places, places, shards.columns["item"])[4]
    scores = (
        evaluated.results["embedding"] @ evaluated.results["embedding"].T
        + 0.2 * evaluated.results["color"] @ evaluated.results["color"].T
    )
    np.fill_diagonal(scores, -9)
    items = shards.columns["item"][evaluated.results["row"]]
    assert one["hit_1"] == pytest.approx(np.mean(items[scores.argmax(axis=1)] == items))


def test_nothing_to_find_is_reported(shards: ShardSet, tmp_path: Path) -> None:
    evaluated = evaluated_of(shards, "test", ("test",))
    few = {name: values[:5] for name, values in evaluated.results.items()}
    with pytest.raises(UsageError, match="no image of the split 'test' has another image of the same item"):
        report(task_of("item"), EvaluatedSplit(few, shards, "test", evaluated.training_rows), tmp_path)
    with pytest.raises(UsageError, match="has no color, so nothing can be evaluated"):
        report(task_of("color"), evaluated, tmp_path)


@pytest.mark.parametrize(("noise", "collapsed"), [(0.0, True), (0.02, True), (0.3, False), (3.0, False)])
def test_embeddings_that_are_all_alike_have_collapsed(noise: float, collapsed: bool) -> None:
    generator = np.random.default_rng(0)
    embedding = np.ones((60, 32)) + noise * generator.normal(size=(60, 32))
    found = collapse(embedding * generator.uniform(0.5, 2, (60, 1)), np.arange(60) % 6)
    assert found["collapsed"] is collapsed
    assert found["true_share"] == 1 / 6
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[~np.eye(60, dtype=bool)]
    assert found["mean_cosine"] == pytest.approx(pairs.mean())
    assert not collapse(np.ones((60, 32)), np.zeros(60))["collapsed"], "one item alone is rightly one place"


@pytest.mark.parametrize(("right", "gallery"), [(1, 7), (3, 12), (12, 12)])
def test_chance_is_what_random_rankings_score(right: int, gallery: int) -> None:
    generator = np.random.default_rng(0)
    order = generator.permuted(np.tile(np.arange(gallery), (20_000, 1)), axis=1) < right
    places = np.arange(1, gallery + 1)
    precision = (order * order.cumsum(axis=1) / places).sum(axis=1) / right
    expected = {"map": precision.mean()}
    for k in (1, 5):
        expected |= {
            f"hit_{k}": order[:, :k].any(axis=1).mean(),
            f"recall_{k}": order[:, :k].sum(axis=1).mean() / right,
        }
    assert chance_metrics([right, 0], [gallery, gallery], (1, 5)) == pytest.approx(expected, abs=0.015)

"""Compatibility of a trained task and a shard set, per task: labels match by name, an embedding accepts any images."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ftrain import category_runs, retrieval_runs, search_runs
from tests.ftrain.known_tasks import use_tasks
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.ftrain.tiny_task import ALONE
from tests.shard_sets import ATTRIBUTES, LABELS, label_sample, write_label_set, write_samples, write_shard_set

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24
from fschemas.shard import Sample
from fschemas.shard_set import ShardSet
from ftrain.fit.config import resolve
from ftrain.fit.evaluation import results_of_split
from ftrain.inference.label_mapping import agree, has_annotations, unknown_labels, unknown_lines
from ftrain.search.build import build_index
from ftrain.search.index_file import IndexFolder
from ftrain.tasks.fashionnet.config import FashionNetConfig
from ftrain.tasks.fashionnet.task import FashionNet
from ftrain.tasks.style.config import StyleConfig
from ftrain.tasks.style.task import Style
from ftrain.tasks.task import build_task
from ftrain.use.evaluate import evaluate_run

RUN = Path("run")
GROUPS = ["category", "attributes", "box", "landmarks", "item", "style"]
STYLE_MODEL = {"backbone": "test_efficientnet", "embedding_dim": 32, "attribute_dim": 16, "input_size": 64}


def set_of(folder: Path, change: Any, counts: dict[str, int]) -> ShardSet:
    """The set of `write_label_set` after `change(annotation, vocabularies)`."""
    vocabularies: dict[str, Any] = copy.deepcopy(LABELS)
    numbers = iter(range(sum(counts.values())))
    samples = {
        split: [label_sample(next(numbers), split, DEEPFASHION_8, 8) for _ in range(many)]
        for split, many in counts.items()
    }
    change(None, vocabularies)
    for members in samples.values():
        for number, sample in enumerate(members):
            note = copy.deepcopy(sample.annotation)
            change(note, vocabularies)
            members[number] = Sample(sample.key, sample.image, note)
    return ShardSet.open(write_samples(folder, samples, DEEPFASHION_8, GROUPS, vocabularies))


def other_order(note: dict[str, Any] | None, vocabularies: dict[str, Any]) -> None:
    """The same labels with different indices, after an additional one of each kind."""
    names = ["ruffles", *reversed(ATTRIBUTES)]
    if note is None:
        vocabularies["category"] |= {"values": ["Poncho", "Coat", "Dress", "Jeans", "Blouse"], "name": "another"}
        vocabularies["attributes"] |= {
            "values": names,
            "groups": {"texture": [6, 7], "shape": [4, 5], "fabric": [1, 2, 3]},
        }
        vocabularies["style"]["values"] = ["punk", "sporty", "formal", "casual"]
        return
    for column in ("attributes_positive", "attributes_unknown"):
        note[column] = sorted(names.index(ATTRIBUTES[number]) for number in note[column])


def one_unknown(note: dict[str, Any] | None, vocabularies: dict[str, Any]) -> None:
    """Like `other_order`, but coats become ponchos, sporty becomes punk, and everything silk also has ruffles."""
    other_order(note, vocabularies)
    if note is not None:
        note["category"] = {"Coat": "Poncho"}.get(note["category"], note["category"])
        note["style"] = {"sporty": "punk"}.get(note["style"], note["style"])
        note["attributes_positive"] = sorted({*note["attributes_positive"], 0})


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("known") / "set", {"train": 8, "test": 12}))


@pytest.fixture(scope="module")
def permuted(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return set_of(tmp_path_factory.mktemp("permuted") / "set", other_order, {"train": 8, "test": 12})


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return set_of(tmp_path_factory.mktemp("strange") / "set", one_unknown, {"train": 8, "test": 12})


def tasks(shards: ShardSet) -> dict[str, Any]:
    fashionnet = FashionNetConfig(backbone="test_efficientnet", input_size=64)
    return {
        "category": category_runs.tiny_task(shards),
        "style": Style(StyleConfig(**STYLE_MODEL), shards.metadata),
        "attributes": Style(StyleConfig(**STYLE_MODEL, target="attributes"), shards.metadata),
        "fashionnet": FashionNet(fashionnet, shards.metadata),
        "retrieval": retrieval_runs.task_of(shards),
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(known: ShardSet) -> dict[str, Any]:
    return {name: task.eval() for name, task in tasks(known).items()}


@pytest.mark.parametrize("name", ["category", "style", "attributes", "fashionnet"])
def test_labels_are_matched_by_name_and_not_by_number(known, permuted, trained, name):
    task, rows = trained[name], np.flatnonzero(known.columns["split"] == "test")
    assert agree(task, RUN, known) is known
    as_known = agree(task, RUN, permuted)
    assert as_known.metadata["vocabularies"] == known.metadata["vocabularies"]
    first, second = (results_of_split(task, shards, rows, ALONE, 8, 0) for shards in (known, as_known))
    assert first.keys() == second.keys()
    for part in first:
        np.testing.assert_array_equal(first[part], second[part], err_msg=part)
    assert unknown_labels(task, permuted, "test").get("category", {}) == {}


@pytest.mark.parametrize(("name", "column", "counts"), [
    ("category", "category", {"Poncho": 3}), ("style", "style", {"punk": 3}), ("fashionnet", "category", {"Poncho": 3}),
])  # fmt: skip
def test_unknown_classes_are_counted_and_not_fatal(known, strange, trained, name, column, counts):
    task, rows = trained[name], np.flatnonzero(strange.columns["split"] == "test")
    shards = agree(task, RUN, strange)
    assert set(shards.columns[column][rows]) <= {"", *known.metadata["vocabularies"][column]["values"]}
    unknown = unknown_labels(task, strange, "test")
    assert unknown[column] == counts
    assert f"metrics of {column}, because the run does not know it: 3 images: {' '.join(counts)} 3" in " ".join(
        unknown_lines(unknown)
    )
    results = results_of_split(task, shards, task.rows_of_interest(task.config, shards.columns, rows), ALONE, 8, 0)
    if column == "category":
        original = [known.columns["category"][row] for row in rows]
        assert [int(number) == -1 for number in results["category"]] == [one == "Coat" for one in original]


def test_attributes_that_the_data_never_speak_of_are_unknown(known, trained):
    fewer = replace(known, metadata=copy.deepcopy(known.metadata))
    fewer.metadata["vocabularies"]["attributes"]["values"] = list(ATTRIBUTES[:4])
    fewer.metadata["vocabularies"]["attributes"]["groups"] = {"texture": [0, 1], "shape": [2, 3]}
    note = {"attributes_positive": [1, 2], "attributes_unknown": [], "category": "Dress"}
    translated = agree(trained["category"], RUN, fewer)._translation(note)
    assert translated == {"attributes_positive": [1, 2], "attributes_unknown": [4, 5, 6], "category": "Dress"}


def test_evaluation_goes_on_and_reports_what_it_leaves_out(known, strange, tmp_path):
    run = category_runs.write_run(tmp_path / "run", known)
    metrics = evaluate_run(run, strange.location, tmp_path / "out", workers=0, device="cpu", allow_collapse=True)
    assert metrics["unknown_labels"] == {"category": {"Poncho": 3}, "attributes": {"ruffles": 0}}
    summary = (tmp_path / "out/summary.txt").read_text()
    assert "NOTE: left out of the metrics of category, because the run does not know it: 3 images: Poncho 3" in summary
    assert "NOTE: 1 attribute of the data is unknown to the run and left out: ruffles" in summary


@pytest.mark.parametrize(
    ("name", "column"), [("category", "category"), ("style", "style"), ("attributes", "attributes")]
)
def test_a_set_without_any_known_class_is_refused(known, trained, name, column):
    other = replace(known, metadata=copy.deepcopy(known.metadata))
    other.metadata["vocabularies"][column]["values"] = ["Poncho", "Kilt"]
    with pytest.raises(UsageError, match=rf"was trained on other classes of {column} .* than .* has \(Poncho, Kilt\)"):
        agree(trained[name], RUN, other)


def test_key_points_need_the_same_landmarks_and_nothing_else(shards, tmp_path):
    task = Tiny(TinyConfig(), shards.metadata)
    other = ShardSet.open(write_shard_set(tmp_path / "set", {"test": 2}, FASHIONAI_24))
    with pytest.raises(UsageError, match=r"run: trained with landmark_set deepfashion-8, but .* has fashionai-24"):
        agree(task, RUN, other)
    labeled = ShardSet.open(write_label_set(tmp_path / "labeled", {"test": 2}))
    assert agree(task, RUN, labeled) is labeled
    renamed = replace(
        labeled, metadata={**labeled.metadata, "landmark_set": {**labeled.metadata["landmark_set"], "points": []}}
    )
    with pytest.raises(UsageError, match="other points under that name"):
        agree(task, RUN, renamed)


def test_an_embedding_agrees_with_any_images(known, strange, trained, tmp_path):
    bare = ShardSet.open(
        write_label_set(tmp_path / "bare", {"test": 4}, without=("landmarks", "category", "attributes", "style", "box"))
    )
    for shards in (strange, bare):
        assert agree(trained["retrieval"], RUN, shards) is shards
        assert unknown_labels(trained["retrieval"], shards, "test") == {}


def test_images_without_landmarks_or_with_new_categories_are_indexed(known, strange, tmp_path):
    run = retrieval_runs.write_run(tmp_path / "run", known)
    plain = write_label_set(
        tmp_path / "plain", {"test": 6}, without=("landmarks", "category", "attributes", "style", "box", "item")
    )
    for number, place in enumerate((plain, strange.location)):
        note = build_index(run, str(place), tmp_path / f"index{number}", splits=["test"], workers=0, device="cpu")
        assert note["samples"] == len(ShardSet.open(place).rows("test"))


def test_a_task_that_reads_labels_embeds_images_that_have_none(tmp_path, monkeypatch):
    use_tasks(monkeypatch, search_runs.find)
    search_runs.write_items(tmp_path / "shards")
    search_runs.write_run(tmp_path / "run", tmp_path / "shards")
    build_index(tmp_path / "run", str(tmp_path / "shards"), tmp_path / "index", workers=0)
    bare = ShardSet.open(tmp_path / "shards")
    bare.metadata["column_groups"] = []
    task = build_task(resolve({"task": "likes", "model": {}, "fit": {}}, "the test"), bare.metadata)
    assert not has_annotations(task, bare)
    monkeypatch.setattr("ftrain.search.build.open_shards", lambda place: bare)
    build_index(tmp_path / "run", str(tmp_path / "shards"), tmp_path / "other", workers=0)
    first, second = (IndexFolder.open(tmp_path / name).features.deep for name in ("index", "other"))
    np.testing.assert_allclose(first, second, atol=1e-6)

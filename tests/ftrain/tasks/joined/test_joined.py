"""Joined runs: composition of the embedding, use in every command, and runs that cannot be joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain import category_runs, retrieval_runs
from tests.shard_sets import write_label_set
from typer.testing import CliRunner

from fschemas.failures import UsageError
from fschemas.landmarks import FASHIONAI_24
from fschemas.shard_set import ShardSet
from ftrain.cli import app
from ftrain.data.image import decode
from ftrain.data.stream import RawSample
from ftrain.fit.config import resolve
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.trained_task import as_batch, load_task, predict_batch
from ftrain.search.build import build_index
from ftrain.search.join import join_runs
from ftrain.search.query import query_index
from ftrain.tasks.joined.task import Joined, JoinedConfig, Member, inputs_of, parts_of
from ftrain.tasks.task import build_task
from ftrain.use.evaluate import evaluate_run
from ftrain.use.export import export_run
from ftrain.use.predict import PredictOptions, predict_images
from ftrain.use.summary import network_of, summarize, summary_lines

CPU = torch.device("cpu")
COUNTS = {"train": 24, "query": 12, "gallery": 18}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("set") / "set", COUNTS, items=6))


@pytest.fixture(scope="module")
def runs(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`search` is a retrieval run, `whole` and `close` (with boxes) are category runs; `joined` combines them."""
    folder = tmp_path_factory.mktemp("runs")
    retrieval_runs.write_run(folder / "search", shards)
    category_runs.write_run(folder / "whole", shards)
    category_runs.write_run(folder / "close", shards, crop="box")
    made = join(shards, folder, "joined", "close", "search", "whole", dim=12)
    assert made == {"dimensions": 12, "runs": 3, "parts": 7, "images": 20}
    return folder


def join(shards: ShardSet, folder: Path, out: str, *names: str, **options: Any) -> dict[str, Any]:
    return join_runs(
        str(shards.location), [folder / name for name in names], folder / out, workers=0, device="cpu", **options
    )


def image(row: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(row).integers(0, 255, (96, 80, 3)), np.uint8)


def joined_run(runs: Path) -> Joined:
    task = load_task(runs / "joined", "best", None, CPU)
    assert isinstance(task, Joined)
    return task


def test_the_run_of_retrieval_leads_and_its_untrained_backbone_is_beside_it(runs: Path) -> None:
    task = joined_run(runs)
    assert [(member.task, member.trained) for member in task.config.members] == [
        ("retrieval", True), ("retrieval", False), ("category", True), ("category", True),
    ]  # fmt: skip
    assert [task.config.members[number].model["crop"] for number in (2, 3)] == ["box", "image"]
    given, _, _ = RunFolder(runs / "search").load()
    for name, tensor in given.state_dict().items():
        torch.testing.assert_close(task.members[0].state_dict()[name], tensor)
    baseline = given.untrained()
    assert baseline is not None
    for name, tensor in baseline.state_dict().items():
        torch.testing.assert_close(task.members[1].state_dict()[name], tensor)


def test_parts_are_what_a_run_sees_and_says(runs: Path) -> None:
    search, whole = (load_task(runs / name, "best", None, CPU) for name in ("search", "whole"))
    shown = image(0)
    inputs = {
        f"{number}.{name}": value
        for number, task in enumerate((search, whole))
        for name, value in task.encode_image(shown).items()
    }
    with torch.inference_mode():
        first, parts = parts_of((search, whole), as_batch([inputs], CPU))
        features = search.backbone(torch.from_numpy(inputs["0.image"])[None])[-1][0]  # type: ignore[operator]
    seen, embedding, seen_too, scores = parts
    torch.testing.assert_close(seen[0], torch.cat([features.mean(dim=(1, 2)), features.std(dim=(1, 2), correction=0)]))
    assert torch.equal(embedding, first["embedding"])
    assert torch.equal(
        embedding[0], torch.from_numpy(predict_batch(search, [search.encode_image(shown)], CPU)["embedding"][0])
    )
    said = predict_batch(whole, [whole.encode_image(shown)], CPU)
    expected = np.log(np.maximum(np.concatenate([said["attribute_scores"], said["category_scores"]], axis=1), 1e-4))
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)
    assert seen_too.shape[1] > 0


def test_the_embedding_weakens_strong_components_of_parts_that_count_alike() -> None:
    """Compared with scikit-learn: the first part is a thousand times as long as the second, but weighs the same."""
    from sklearn.decomposition import PCA

    member = Member(
        task="retrieval", model=retrieval_runs.config_of(classify="none").model, dataset={"vocabularies": {}}
    )
    task = Joined(JoinedConfig(members=(member,), widths=(6, 4), embedding_dim=5), {"vocabularies": {}})
    generator = np.random.default_rng(0)
    parts = generator.normal(size=(50, 10)) * np.array([1000] * 6 + [1] * 4) + generator.normal(size=10)
    task.fit(torch.from_numpy(parts).float())
    centered = parts - parts.mean(axis=0)
    units = np.concatenate(
        [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (centered[:, :6], centered[:, 6:])], axis=1
    )
    analysis = PCA(5).fit(units)
    expected = analysis.transform(units) / (analysis.explained_variance_ * 49 / 50) ** 0.25
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = (task._units(torch.from_numpy(parts).float() - task.part_means) - task.mean) @ task.projection.T
    found = torch.nn.functional.normalize(found, dim=1).numpy()
    np.testing.assert_allclose(
        found @ found.T, expected @ expected.T, atol=1e-4
    )  # the sign of a component is arbitrary


def test_the_same_runs_join_to_the_same_weights(shards: ShardSet, runs: Path, tmp_path: Path) -> None:
    join_runs(
        str(shards.location),
        [runs / name for name in ("close", "search", "whole")],
        tmp_path / "again",
        dim=12,
        workers=0,
        device="cpu",
    )
    again = load_task(tmp_path / "again", "best", None, CPU)
    for name, tensor in joined_run(runs).state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_box_moves_what_looks_at_it(runs: Path) -> None:
    task, shown = joined_run(runs), image(1)
    whole, close = task.encode_image(shown), task.encode_image(shown, (10, 10, 40, 50))
    moved = {name for name in whole if not np.array_equal(whole[name], close[name])}
    assert {name.split(".")[0] for name in moved} == {"2"}
    embeddings = predict_batch(task, [whole, close], CPU)["embedding"]
    assert embeddings.shape == (2, 12)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    assert not np.allclose(embeddings[0], embeddings[1], atol=1e-3)


def test_the_commands_take_a_joined_run(shards: ShardSet, runs: Path, tmp_path: Path) -> None:
    place = str(shards.location)
    metrics = evaluate_run(runs / "joined", place, tmp_path / "evaluated", device="cpu", workers=0, allow_collapse=True)
    options: Any = {"split": "val", "device": "cpu", "workers": 0, "allow_collapse": True}
    seen = evaluate_run(runs / "joined", place, tmp_path / "seen", **options)
    # The category runs were selected on the held-out items, and so was what they are part of.
    assert metrics["selection"] == {"split": "val", "metric": "score", "evaluated_samples": 0}
    assert seen["selection"]["evaluated_samples"] == seen["samples"] == 4
    assert metrics["task"] == "joined"
    assert metrics["model"]["queries"] == 12
    assert set(metrics["untrained"]) >= {"hit_1", "map"}
    assert (tmp_path / "evaluated/predictions.png").exists()
    note = build_index(runs / "joined", place, tmp_path / "index", workers=0, device="cpu")
    assert (note["samples"], note["dimensions"], note["color"]) == (18, 12, "network")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(shards.read(int(shards.rows("query")[0]))[0])
    (found,) = query_index(
        tmp_path / "index", [photo], tmp_path / "found", detector=runs / "whole", device="cpu", top=3
    )
    assert len(found["matches"]) == 3
    (said,) = predict_images(
        runs / "joined", [photo], tmp_path / "said", PredictOptions(device="cpu", detector=runs / "whole")
    )
    assert len(said["embedding"]) == 12
    assert said["seen"] is not None


def test_an_embedding_of_several_runs_takes_any_images(runs: Path, tmp_path: Path) -> None:
    """No labels are needed, whatever its members were trained on; boxes are, and evaluation uses items."""
    counts = {"query": 6, "gallery": 10}
    plain = ("landmarks", "attributes", "style", "category")
    bare = write_label_set(tmp_path / "bare", counts, FASHIONAI_24, items=4, without=plain)
    note = build_index(runs / "joined", str(bare), tmp_path / "index", workers=0, device="cpu")
    assert (note["samples"], note["dimensions"]) == (10, 12)
    metrics = evaluate_run(
        runs / "joined", str(bare), tmp_path / "evaluated", device="cpu", workers=0, allow_collapse=True
    )
    assert metrics["model"]["queries"] == 6
    nameless = write_label_set(tmp_path / "nameless", counts, FASHIONAI_24, without=(*plain, "item"))
    assert build_index(runs / "joined", str(nameless), tmp_path / "other", workers=0, device="cpu")["samples"] == 10
    with pytest.raises(UsageError, match="item"):
        evaluate_run(runs / "joined", str(nameless), tmp_path / "no", device="cpu", workers=0, allow_collapse=True)


def test_a_summary_counts_every_run_once(runs: Path) -> None:
    network, config = network_of(runs / "joined", None, None, None, None, [])
    found = summarize(network, config)
    single = [summarize(*network_of(runs / name, None, None, None, None, [])) for name in ("search", "close", "whole")]
    assert found["totals"]["parameters"] == sum(one["totals"]["parameters"] for one in [single[0], *single])
    assert found["totals"]["trainable"] == 0
    assert found["totals"]["multiply_adds"] > sum(one["totals"]["multiply_adds"] for one in single)
    assert "joined: one image, test-time" in next(summary_lines(found))


def test_samples_are_shown_as_images_are(shards: ShardSet, runs: Path) -> None:
    """The index is built from samples, a query from an image: the same image must give the same embedding."""
    task, row = joined_run(runs), int(shards.rows("gallery")[0])
    jpeg, annotation = shards.read(row)
    sample = task.encoder(RawSample(row, jpeg, annotation), None)
    loose = task.encode_image(decode(jpeg), annotation["box"])
    for name, value in loose.items():
        np.testing.assert_array_equal(sample[name], value)


def test_what_cannot_be_joined(shards: ShardSet, runs: Path, tmp_path: Path) -> None:
    def refused(
        message: str, place: ShardSet = shards, out: str = "out", names: tuple[str, ...] = ("search", "close")
    ) -> None:
        with pytest.raises(UsageError, match=message):
            join_runs(str(place.location), [runs / name for name in names], tmp_path / out, workers=0, device="cpu")
        assert not (tmp_path / "out/checkpoints").exists()

    refused("none of the runs is a run of `ftrain retrieval`", names=("whole", "close"))
    refused("a joined run cannot be joined again", names=("search", "joined"))
    refused("not a run folder", names=("search", "nothing"))
    without = ShardSet.open(write_label_set(tmp_path / "bare", COUNTS, items=6, without=("box",)))
    refused("box", place=without)
    alone = ShardSet.open(write_label_set(tmp_path / "alone", {"query": 6, "gallery": 6}, items=6))
    refused("has no train split", place=alone)
    with pytest.raises(UsageError, match="already contains a run"):
        join(shards, runs, "joined", "search")
    with pytest.raises(UsageError, match="cannot be exported; export each of them"):
        export_run(runs / "joined", tmp_path / "exported", to="torch-export")


def test_the_command_reports_what_it_made(shards: ShardSet, runs: Path, tmp_path: Path) -> None:
    arguments = [
        "join",
        str(shards.location),
        str(runs / "search"),
        str(runs / "whole"),
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    said = CliRunner().invoke(app, [*arguments, "--run", str(tmp_path / "one")])
    assert said.exit_code == 0, said.output
    assert "one: 2 runs, 5 parts in 19 dimensions, fitted on 20 training images" in said.output
    as_json = CliRunner().invoke(app, [*arguments, "--run", str(tmp_path / "two"), "--dim", "4", "--json"])
    assert json.loads(as_json.stdout) == {"dimensions": 4, "runs": 2, "parts": 5, "images": 20}


@pytest.mark.parametrize(
    ("task", "model", "num_parts"),
    [
        ("fashionnet", {"auxiliary_category_loss": True}, 2),
        ("fashionnet", {"targets": ["category", "attributes"]}, 2),
        ("style", {"embedding_dim": 32, "attribute_dim": 16}, 2),
        (
            "style",
            {"embedding_dim": 32, "attribute_dim": 16, "local_backbone": "test_efficientnet", "local_input_size": 32},
            2,
        ),
        ("retrieval", {"embedding_dim": 8}, 2),
        ("category", {"hidden_dim": 16}, 2),
    ],
)
def test_every_task_with_a_backbone_has_parts(
    shards: ShardSet, task: str, model: dict[str, Any], num_parts: int
) -> None:
    config = resolve({"task": task, "model": {"backbone": "test_efficientnet", "input_size": 64, **model}}, "the test")
    built = build_task(config, {**shards.metadata, "names": {"item": ["a", "b"]}}).eval()
    inputs = [inputs_of((built,), image(row), (5, 5, 60, 70)) for row in (0, 1, 2)]
    with torch.inference_mode():
        _, parts = parts_of((built,), as_batch(inputs, CPU))
    assert len(parts) == num_parts
    for part in parts:
        assert part.dtype == torch.float32
        assert part.shape[0] == 3
        assert torch.isfinite(part).all()
        assert not torch.allclose(part[0], part[1])


def test_a_task_without_a_backbone_is_refused() -> None:
    built = build_task(resolve({"task": "keypoints", "model": {"backbone": "test_efficientnet", "channels": 16}}, "the test"),
                       {"landmark_set": FASHIONAI_24.to_json(), "vocabularies": {}, "column_groups": ["landmarks"]})  # fmt: skip
    with pytest.raises(UsageError, match="runs of keypoints cannot be joined"):
        parts_of((built,), {})


@pytest.mark.parametrize("call", ["discard", "save_checkpoint", "RunFolder.write_receipt"])
def test_a_killed_join_goes_on(
    shards: ShardSet, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Killed before the configuration, the weights or the receipt, which is written last."""

    def killed(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    arguments = str(shards.location), [runs / name for name in ("close", "search", "whole")], tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(f"ftrain.search.join.{call}", killed)
        with pytest.raises(KeyboardInterrupt):
            join_runs(*arguments, dim=12, workers=0, device="cpu")
    (tmp_path / "out/checkpoints/.tmp.step-00000000.elsewhere.77").mkdir(parents=True)
    join_runs(*arguments, dim=12, workers=0, device="cpu")
    for path in (runs / "joined").rglob("*"):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(runs / "joined")).read_bytes() == path.read_bytes(), path
    assert not list(tmp_path.rglob(".tmp.*"))
    with pytest.raises(UsageError, match="already contains a run"):
        join_runs(*arguments, dim=12, workers=0, device="cpu")


def test_an_unfinished_training_is_not_written_over(shards: ShardSet, runs: Path) -> None:
    with pytest.raises(UsageError, match="already contains a run"):
        join(shards, runs, "whole", "close", "search")

"""`fprep lint` finds every kind of damage, reports its kind, and is silent on an intact set."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.small_tables import write_small_table

from fprep.convert.source_table import SourceTable
from fprep.lint.command import LintFinding, lint
from fprep.lint.loaders import check_loaders
from fprep.shard import finish as shard_finish
from fprep.shard.command import shard
from fprep.shard.plan import plan_shards
from fprep.shard.sample import SampleMaker, SampleOptions
from fschemas.failures import UsageError
from fschemas.publish import publish_sealed, sha256_of
from fschemas.shard import Sample, write_shard
from fschemas.shard_index import INDEX_FILE
from fschemas.shard_set import DATASET_FILE, ShardSet

COUNTS = {"train": 7, "val": 3}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    shard(write_small_table(folder, COUNTS), folder / "out", shard_samples=4, workers=1, copies=1, augment="geometric")
    return folder


@pytest.fixture
def out(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound / "out", tmp_path / "out"))


def flip_byte(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(bytes(content))


def in_image(out: Path) -> None:
    flip_byte(out / "train-000001.tar", int(ShardSet.open(out).columns["image_offset"][0]) + 300)


def in_header(out: Path) -> None:
    flip_byte(out / "train-000001.tar", 10)


def in_index(out: Path) -> None:
    flip_byte(out / INDEX_FILE, (out / INDEX_FILE).stat().st_size // 2)


DAMAGES: list[tuple[Callable[[Path], Any], set[str], str]] = [
    (in_image, {"train-000001.tar"}, "SHA-256 differs"),
    (in_header, {"train-000001.tar"}, "SHA-256 differs"),
    (in_index, {INDEX_FILE}, "SHA-256 differs"),
    (lambda out: (out / "train-000001.tar").unlink(), {"train-000001.tar"}, "missing"),
    (lambda out: (out / INDEX_FILE).unlink(), {INDEX_FILE}, "missing"),
    (lambda out: (out / "meta/val-000000.json").unlink(), {"meta/val-000000.json"}, "missing or not readable"),
    (lambda out: os.truncate(out / "val-000000.tar", 3000), {"val-000000.tar"}, "3000 bytes"),
    (lambda out: (out / "train-000009.tar").write_bytes(b""), {"train-000009.tar"}, "not listed in"),
    (lambda out: (out / "meta/stats.json").write_bytes(b"{}"), {"meta/stats.json"}, "not listed in"),
    (lambda out: (out / DATASET_FILE).write_bytes(b"{"), {DATASET_FILE}, "not readable"),
    (lambda out: (out / DATASET_FILE).write_bytes(b"{}"), {DATASET_FILE}, "format is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "places", "what"), DAMAGES)
def test_damage_is_found(out: Path, damage: Callable[[Path], Any], places: set[str], what: str) -> None:
    damage(out)
    errors = [finding for finding in lint(out, loaders=False) if finding.severity == "error"]
    assert {error.location.split(":")[0] for error in errors} == places
    assert any(what in error.problem for error in errors)


def test_sound_set_has_no_findings(sound: Path) -> None:
    assert lint(sound / "out", loaders=importlib.util.find_spec("datasets") is not None) == []


def test_loaders_are_compared_sample_by_sample(sound: Path) -> None:
    metadata = json.loads((sound / "out" / DATASET_FILE).read_text())
    shards = ShardSet.open(sound / "out")
    keys = {split: shards.columns["key"][shards.rows(split)].tolist() for split in COUNTS}
    wrong = {"train": [*keys["train"], "more"], "val": [keys["val"][1], keys["val"][0], keys["val"][2]]}
    found = [(place, what) for place, what, ran in check_loaders(sound / "out", metadata, wrong, None) if ran]
    for name in ("webdataset", *(["datasets"] if importlib.util.find_spec("datasets") else [])):
        assert (f"{name} on train", "yields 14 samples instead of 15") in found
        assert (f"{name} on val", f"yields {keys['val'][0]} instead of {keys['val'][1]} as sample 0") in found


@pytest.mark.parametrize("name", ["fashion [v2]", "set#3", "what?", "a*b", "c::d", "100%25", "{0..3}", "-x", "körper"])
def test_signs_in_the_name_of_a_folder_are_no_patterns(sound: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(sound / "out", tmp_path / name)
    metadata = json.loads((sound / "out" / DATASET_FILE).read_text())
    shards = ShardSet.open(tmp_path / name)
    keys = {split: shards.columns["key"][shards.rows(split)].tolist() for split in COUNTS}
    assert [result for result in check_loaders(tmp_path / name, metadata, keys, 2) if result[2]] == []


def test_a_loader_that_cannot_be_started_is_no_damage(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ImportError("no such module")

    monkeypatch.setattr("importlib.import_module", broken)
    findings = lint(sound / "out", loaders=True)
    assert {finding.severity for finding in findings} == {"not run"}
    assert any("cannot be started" in finding.problem for finding in findings)


def test_temporaries_are_a_warning(out: Path) -> None:
    (out / ".tmp.train-000000.tar.77").write_bytes(b"")
    assert [(finding.location, finding.severity) for finding in lint(out, loaders=False)] == [
        (".tmp.train-000000.tar.77", "warning")
    ]


def test_missing_loader_is_not_run(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    findings = lint(sound / "out")
    assert [(finding.location, finding.severity) for finding in findings] == [
        ("webdataset", "not run"),
        ("datasets", "not run"),
    ]


def test_place_without_a_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished shard set"):
        lint(tmp_path)


def write_altered(folder: Path, alter: Callable[[list[Sample]], list[Sample]]) -> Path:
    """Write a set of altered samples, with matching digests and index."""
    source = SourceTable.open(write_small_table(folder, {"train": 6}))
    plan = plan_shards(source, shard_samples=10)
    maker = SampleMaker(SampleOptions(folder / "raw", source.annotation_columns))
    samples = alter([maker(row) for row in source.rows(plan.shards[0].rows)])
    shards = tuple(replace(planned, rows=planned.rows[: len(samples)]) for planned in plan.shards)
    record = write_shard(folder / "out", "train-000000.tar", "train", plan.plan_id, samples)
    shard_finish.finish(folder / "out", source, replace(plan, shards=shards), [record])
    return folder / "out"


def annotated(**values: Any) -> Callable[[list[Sample]], list[Sample]]:
    """Give the fourth sample other annotation values."""
    return lambda samples: [
        replace(sample, annotation={**sample.annotation, **values}) if number == 3 else sample
        for number, sample in enumerate(samples)
    ]


ALTERATIONS: list[tuple[Callable[[list[Sample]], list[Sample]], str]] = [
    (lambda samples: [*samples[:5], samples[0]], "the key occurs 2 times"),
    (lambda samples: [*samples[:5], replace(samples[5], key="a.b")], "not `<key>.jpg`"),
    (lambda samples: [*samples[:5], replace(samples[5], image=samples[5].image[:300])], "cannot be decoded"),
    (lambda samples: [*samples[:5], replace(samples[5], image=samples[4].image)], "unlike the annotation"),
    (
        lambda samples: [*samples[:5], replace(samples[5], annotation={"key": samples[5].key})],
        "the annotation has the keys key,",
    ),
    (
        lambda samples: [*samples[:5], replace(samples[5], annotation=samples[4].annotation)],
        "the annotation belongs to",
    ),
    (annotated(box=[1, 2, 30, 35]), "box is [int]"),
    (annotated(garment=None), "garment is NoneType"),
    (annotated(box=[30.0, 2.0, 30.0, 35.0]), "is empty or outside"),
    (annotated(landmark_x=[500.0] * 8, landmark_visibility=[2] * 8), "landmark 0: (500.0"),
    (annotated(landmark_x=[5.0] * 8, landmark_y=[5.0] * 8, landmark_visibility=[0] * 8), "must not have coordinates"),
    (annotated(landmark_visibility=[7] * 8), "unknown visibility 7"),
    (annotated(landmark_x=[5.0] * 3), "3 x, 8 y and 8 visibilities for 8 landmarks"),
    (annotated(box=["a", 2.0, 30.0, 35.0]), "values of a wrong type"),
]


@pytest.mark.parametrize(("alter", "what"), ALTERATIONS)
def test_altered_samples_are_found(tmp_path: Path, alter: Callable[[list[Sample]], list[Sample]], what: str) -> None:
    findings = lint(write_altered(tmp_path, alter), loaders=False)
    assert what in " | ".join(finding.problem for finding in findings)
    assert all(finding.severity == "error" for finding in findings)


def test_unaltered_set_is_sound(tmp_path: Path) -> None:
    assert lint(write_altered(tmp_path, lambda samples: samples), loaders=False) == []


def test_sample_limit_spares_images(tmp_path: Path) -> None:
    out = write_altered(tmp_path, lambda samples: [*samples[:5], replace(samples[5], image=samples[5].image[:300])])
    assert lint(out, loaders=False, sample_limit=5) == []


def test_group_in_two_splits_is_a_warning(tmp_path: Path) -> None:
    path = write_small_table(tmp_path, {"train": 3, "val": 2, "query": 1, "gallery": 1})
    source = SourceTable.open(path)
    groups = ["item1", "item2", "item3", "item2", "item4", "item5", "item5"]
    frame = source.frame.with_columns(group=pl.Series(groups))
    from fschemas.table_file import write_table

    write_table(path, frame.to_arrow(), source.metadata)
    shard(path, tmp_path / "out", workers=1)
    what = "1 group in train and val, the first is item2; metrics on them are too good"
    assert lint(tmp_path / "out", loaders=False) == [LintFinding(INDEX_FILE, what, "warning")]


def test_counts_that_do_not_agree(out: Path) -> None:
    metadata = json.loads((out / DATASET_FILE).read_text())
    metadata["splits"]["train"]["samples"] += 1
    publish_sealed(out / DATASET_FILE, metadata)
    [finding] = lint(out, loaders=False)
    assert finding.location == INDEX_FILE
    assert "15" in finding.problem
    assert sha256_of(out / INDEX_FILE) == metadata["index"]["sha256"]

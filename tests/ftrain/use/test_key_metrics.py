"""Headline metrics for comparing runs: few, flat, with interval and baseline; and the learning curves."""

import math

import pytest

from ftrain.tasks.joined.task import Joined
from ftrain.tasks.task import tasks
from ftrain.use.key_metrics import MAX_METRICS, key_metrics, publish_curves

REPORT = {
    "samples": 7,
    "model": {
        "map": 0.5,
        "map_low": 0.4,
        "map_high": 0.6,
        "hit_1": 0.1234567,
        "empty": math.nan,
        "named": "x",
        "sure": True,
    },
    "chance": {"map": 0.1},
    "untrained": {"map": 0.3},
    "category": {"model": {"top_1": 0.9}},
}


def test_the_first_figure_has_an_interval_and_the_strongest_baseline():
    names = ("absent", "map", "hit_1", "category/top_1", "empty", "named", "sure")
    assert key_metrics(REPORT, names) == {
        "samples": 7, "map": 0.5, "map_low": 0.4, "map_high": 0.6, "untrained_map": 0.3, "hit_1": 0.123457, "category_top_1": 0.9,
    }  # fmt: skip


def test_a_task_that_names_none_has_its_first_metrics():
    many = {"samples": 1, "model": {f"figure_{number}": number / 100 for number in range(40)}}
    assert list(key_metrics(many, ())) == ["samples", *(f"figure_{number}" for number in range(MAX_METRICS - 1))]


@pytest.mark.parametrize("task", [*tasks().values(), Joined], ids=lambda task: task.name)
def test_every_task_reports_what_its_runs_are_compared_by(task):
    assert 0 < len(task.key_metrics) <= MAX_METRICS - 4


def test_curves_have_the_loss_and_the_metric_that_chooses(tmp_path):
    (tmp_path / "training.csv").write_text("step,gradient_norm,loss\n5,1,0.5\n10,1,\n")
    (tmp_path / "validation.csv").write_text("step,ne,ne_low,ne_point/x\n5,0.2,0.1,0.3\n10,0.1,0.05,0.2\n")
    publish_curves(tmp_path, tmp_path / "out", "ne")
    assert (tmp_path / "out/training_curve.csv").read_text() == "step,loss\n5,0.5\n"
    assert (tmp_path / "out/validation_curve.csv").read_text() == "step,ne\n5,0.2\n10,0.1\n"


def test_a_run_that_was_never_validated_has_the_header_of_a_curve(tmp_path):
    publish_curves(tmp_path, tmp_path / "out", "map")
    assert (tmp_path / "out/validation_curve.csv").read_text() == "step,map\n"

"""`ftrain compare`: differences and metrics of runs, from evaluation or validation, as table, JSON, CSV and plot."""

import csv
import json

import pytest
import yaml
from PIL import Image

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24
from fschemas.publish import publish_json
from ftrain.fit.config import load_config
from ftrain.fit.run_folder import CONFIG_FILE, DATASET_FILE
from ftrain.use.compare import compare_runs, comparison_lines


def write(folder, *overrides, task="keypoints", ne=0.2):
    """Write the files of a run that a comparison reads: configuration, data set, validation."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(load_config(task, None, None, list(overrides)).to_yaml())
    publish_json(folder / DATASET_FILE, {
        "dataset": "squares", "plan_id": "0123456789abcdef", "column_groups": [], "landmark_set": None, "vocabularies": {}, "splits": {},
    })  # fmt: skip
    (folder / "validation.csv").write_text(f"step,ne,ne_low,ne_high,pck_auc\n4,{ne},0.1,0.3,0.5\n8,0.9,0.8,1.0,0.1\n")
    publish_json(folder / "checkpoints/best.json", {"metric": "ne", "value": ne, "step": 4})
    return folder


def evaluate(folder, run_task="keypoints", split="test", **model):
    publish_json(folder / "report.json", {
        "task": run_task, "dataset": "squares", "split": split, "samples": 21, "checkpoint_step": 8, "model": model,
    })  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    return [write(tmp_path / "runs/one"), write(tmp_path / "runs/two", "model.channels=128", "fit.epochs=3", ne=0.15)]


def test_validations_and_parameters_stand_side_by_side(runs):
    found = compare_runs(runs)
    assert [run["name"] for run in found["runs"]] == ["one", "two"]
    assert found["configuration"] == {"model.channels": [64, 128], "fit.epochs": [10.0, 3.0]}
    assert found["metrics"]["ne"] == [{"value": 0.2, "low": 0.1, "high": 0.3}, {"value": 0.15, "low": 0.1, "high": 0.3}]
    assert {run["source"] for run in found["runs"]} == {"validation at step 4"}
    lines = list(comparison_lines(found))
    assert lines[0].split() == ["one", "two"]
    assert any(
        line.split() == ["ne", "0.2000", "(0.1000", "to", "0.3000)", "0.1500", "(0.1000", "to", "0.3000)"]
        for line in lines
    )
    assert not found["notes"]


def test_an_evaluation_counts_more_than_a_validation_and_other_data_are_reported(runs, tmp_path, rendered):
    evaluate(runs[0] / "evaluation", ne=0.4, ne_low=0.3, ne_high=0.5, pck_10=0.6)
    found = compare_runs(runs, tmp_path / "out")
    assert found["metrics"]["ne"][0] == {"value": 0.4, "low": 0.3, "high": 0.5}
    assert found["metrics"]["pck_10"] == [{"value": 0.6}, None]
    assert "different data (test of squares; validation)" in found["notes"][0]
    with open(tmp_path / "out/comparison.csv", encoding="utf-8", newline="") as file:
        rows = {(row["block"], row["name"]): (row["one"], row["two"]) for row in csv.DictReader(file)}
    assert rows["configuration", "model.channels"] == ("64", "128")
    assert rows["metric", "ne_low"] == ("0.300000", "0.100000")
    assert rows["metric", "pck_10"] == ("0.600000", "")
    assert json.loads((tmp_path / "out/comparison.json").read_text()) == found
    with Image.open(tmp_path / "out/comparison.png") as plot:
        assert plot.width > 600


def test_evaluations_of_a_project_are_found_by_the_names_of_the_runs(runs, tmp_path):
    for number, run in enumerate(runs):
        evaluate(tmp_path / "reports" / run.name, ne=0.1 * (number + 1))
    found = compare_runs(runs, reports=tmp_path / "reports")
    assert [part["value"] for part in found["metrics"]["ne"]] == [0.1, 0.2]
    (tmp_path / "reports/two/report.json").unlink()
    with pytest.raises(UsageError, match="no evaluation"):
        compare_runs(runs, reports=tmp_path / "reports")


def test_runs_of_the_same_name_are_distinguished_and_other_tasks_compared_in_what_they_share(runs, tmp_path):
    other = write(tmp_path / "others/one", "fit.epochs=5", task="retrieval")
    found = compare_runs([runs[0], other])
    assert [run["name"] for run in found["runs"]] == ["runs/one", "others/one"]
    assert "model.channels" not in found["configuration"]
    assert found["configuration"]["fit.epochs"] == [10.0, 5.0]
    assert "different tasks" in found["notes"][0]


def test_errors_of_different_units_are_left_out_of_a_comparison(runs):
    for run, landmarks in zip(runs, (FASHIONAI_24, DEEPFASHION_8), strict=True):
        description = {**json.loads((run / DATASET_FILE).read_text()), "landmark_set": landmarks.to_json()}
        publish_json(run / DATASET_FILE, description)
        evaluate(run / "evaluation", ne=0.2, ne_image=0.05, ne_box=0.1, pck_10=0.5, pck_auc=0.5, garment_accuracy=0.9)
    found = compare_runs(runs)
    assert set(found["metrics"]) == {"ne_image", "ne_box", "garment_accuracy"}
    assert found["notes"] == [
        "ne and pck are in different units (the image; the reference length) and left out; compare ne_image or ne_box"
    ]


def test_what_cannot_be_compared_is_refused_in_a_sentence(runs, tmp_path):
    with pytest.raises(UsageError, match="two runs or more"):
        compare_runs(runs[:1])
    with pytest.raises(UsageError, match="given twice"):
        compare_runs([runs[0], runs[1], runs[0]])
    with pytest.raises(UsageError, match="not a run folder"):
        compare_runs([runs[0], tmp_path])
    evaluate(runs[0] / "evaluation", "style", top_1=0.5)
    with pytest.raises(UsageError, match="an evaluation of the task style"):
        compare_runs(runs)


def test_runs_without_metrics_differ_in_their_parameters_alone(runs, tmp_path):
    for run in runs:
        (run / "validation.csv").unlink()
    found = compare_runs(runs, tmp_path / "out")
    assert found["metrics"] == {}
    assert "metrics, with 95% interval where there is one: none" in list(comparison_lines(found))


def test_a_section_of_another_name_trains_a_variant(tmp_path):
    params = tmp_path / "params.yaml"
    profiles = {"profile": "small", "small": {"model": {"channels": 16}}}
    params.write_text(yaml.safe_dump({"keypoints": {"tiny": {}}, "keypoints-wide": profiles}))
    assert load_config("keypoints", params, None, [], section="keypoints-wide").model["channels"] == 16
    with pytest.raises(UsageError, match=r"no section 'keypoints-wid'; did you mean keypoints-wide\?"):
        load_config("keypoints", params, None, [], section="keypoints-wid")
    with pytest.raises(UsageError, match="there is no params"):
        load_config("keypoints", None, None, [], section="keypoints-wide")

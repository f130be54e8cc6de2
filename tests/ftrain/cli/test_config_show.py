"""`ftrain config show`: every key of every task, with its description, from any folder and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fschemas.failures import UsageError
from ftrain.cli import app
from ftrain.fit.config import load_config
from ftrain.fit.config_keys import config_keys
from ftrain.fit.profiles import PACKAGED_PARAMS
from ftrain.tasks import task_names


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("task", task_names())
def test_every_key_has_its_value_type_and_meaning(task: str) -> None:
    keys, place = config_keys(task, None, "full", ["fit.seed=7"])
    assert place == "profile full of ftrain, --set fit.seed=7"
    config = load_config(task, None, "full", ["fit.seed=7"]).model_dump(mode="json")
    shown = {key.key: key.value for key in keys if "[]" not in key.key}
    flat = {name: value for name, value in config.items() if name not in ("model", "fit")}
    views = {f"tta.{name}": value for name, value in config["model"].pop("tta").items()}
    sections = {"model": config["model"] | views, "fit": config["fit"]}
    assert shown == flat | {f"{part}.{name}": value for part, keys in sections.items() for name, value in keys.items()}
    for key in keys:
        assert key.help[:1].strip(), key
        assert key.help.endswith("."), key
        assert len(key.help) < 130, key
        assert key.type, key


def test_values_defaults_and_types_are_those_of_the_models() -> None:
    keys = {
        key.key: key
        for key in config_keys("keypoints", None, None, ["fit.epochs=3", "fit.stages=[{until: 0.5}, {}]"])[0]
    }
    assert (keys["fit.epochs"].value, keys["fit.epochs"].default, keys["fit.epochs"].type) == (
        3.0,
        10,
        "number > 0, <= 1e+06",
    )
    assert keys["model.input_size"].type == "integer >= 32, <= 4096, multiple of 32"
    assert keys["model.scale"].type == "[number, number]"
    assert keys["model.garment"].type == "text | null"
    assert keys["fit.optimizer"].type == "adamw | sgd"
    assert keys["fit.stages[].lr_scales"].type == "mapping to (number >= 0)"
    assert [stage["until"] for stage in keys["fit.stages"].value] == [0.5, 1.0]


def test_the_table_fits_a_terminal_and_marks_what_is_not_the_default() -> None:
    done = CliRunner().invoke(app, ["config", "show", "style", "--profile", "full"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == "style: profile full of ftrain; * is not the default"
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in done.output
    marked = {line.split()[1] for line in lines[1:] if line.startswith("* ")}
    assert "model.backbone" in marked
    assert "task" not in marked
    assert not {"fit.momentum", "fit.stages[].until"} & marked


def test_a_params_yaml_overrides_the_packaged_profile(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("keypoints: {full: {fit: {epochs: 2}}}")
    done = CliRunner().invoke(app, ["config", "show", "keypoints", "--profile", "full", "--json"])
    found = json.loads(done.output)
    assert (found["task"], found["source"]) == ("keypoints", "params.yaml")
    assert {key["key"]: key["value"] for key in found["keys"]}["fit.epochs"] == 2
    with pytest.raises(UsageError, match="no profile 'fulll'; did you mean full"):
        config_keys("keypoints", tmp_path / "params.yaml", "fulll", [])


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from ftrain.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "config", "show", "category", "--profile", "full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_profiles_are_a_link_to_the_params_of_the_repository() -> None:
    assert PACKAGED_PARAMS.resolve() == (Path(__file__).parents[3] / "params.yaml").resolve()

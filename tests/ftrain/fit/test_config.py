"""Configuration: every value is defined once, and errors suggest the nearest valid key or value."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from fschemas.failures import UsageError
from ftrain.data.config import FitConfig, RunConfig
from ftrain.fit.config import load_config, read_config, resolve
from ftrain.fit.profiles import PACKAGED_PARAMS, set_value

PARAMS = {
    "keypoints": {
        "profile": "small",
        "small": {
            "model": {"channels": 16},
            "fit": {"epochs": 3, "stages": [{"until": 0.5, "freeze": ["network.backbone"]}, {"lr_scale": 0.1}]},
        },
        "large": {"model": {"channels": 256, "backbone": "resnet50"}, "fit": {"epochs": 30}, "train_split": "trainval"},
    }
}  # fmt: skip


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(PARAMS))
    return path


def test_defaults_then_profile_then_overrides(params: Path) -> None:
    bare = load_config("keypoints", None, None, [])
    assert (bare.fit.epochs, bare.model["channels"], bare.train_split) == (10, 64, "train")
    small = load_config("keypoints", params, None, [])
    assert (small.fit.epochs, small.model["channels"], small.fit.batch_size) == (3, 16, 32)
    assert small.fit.stages[0].freeze == ("network.backbone",)
    assert small.fit.stages[1].lr_scale == 0.1
    large = load_config(
        "keypoints", params, "large", ["fit.epochs=0.5", "model.garment=dress", "validation_split=test"]
    )
    assert (large.fit.epochs, large.model["backbone"], large.train_split) == (0.5, "resnet50", "trainval")
    assert (large.model["garment"], large.validation_split) == ("dress", "test")


def test_overrides_leave_the_profile_alone(params: Path) -> None:
    load_config("keypoints", params, None, ["fit.epochs=9"])
    assert load_config("keypoints", params, None, []).fit.epochs == 3


def test_a_text_can_be_emptied() -> None:
    assert load_config("style", None, None, ["model.local_backbone="]).model["local_backbone"] == ""


def test_views_that_are_not_set_keep_their_defaults(params: Path) -> None:
    config = load_config("keypoints", params, None, ["model.tta.rotations=[5]"])
    assert config.model["tta"] == {"flip": True, "rotations": [5.0], "scales": []}


def test_what_is_written_is_read_back(params: Path, tmp_path: Path) -> None:
    config = load_config("keypoints", params, None, ["model.tta.rotations=[-10.0, 10.0]"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    again = read_config(tmp_path / "config.yaml")
    assert again == config
    assert again.digest == config.digest
    assert again.digest != load_config("keypoints", params, None, []).digest
    with pytest.raises(UsageError, match="not a run folder"):
        read_config(tmp_path / "other.yaml")


def test_the_digest_is_of_the_values_not_of_their_order() -> None:
    one = RunConfig(task="x", model={"a": 1, "b": 2}, fit=FitConfig())
    other = RunConfig(task="x", model={"b": 2, "a": 1}, fit=FitConfig())
    assert one.digest == other.digest


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["fit.learning_rat=1"], r"unknown parameter fit\.learning_rat; did you mean learning_rate\?"),
        (["model.chanels=8"], r"unknown parameter model\.chanels; did you mean channels\?"),
        (["fits.epochs=1"], r"unknown parameter fits; did you mean fit\?"),
        (["fit.stages=[{frezze: [a]}]"], r"unknown parameter fit\.stages\.0\.frezze; did you mean freeze\?"),
        (["fit.epochs=many"], r"fit\.epochs='many' is not valid"),
        (["fit.epochs=0"], r"fit\.epochs=0 is not valid \(.*greater than 0"),
        (["fit.epochs=.nan"], r"fit\.epochs=nan is not valid"),
        (["fit.epochs=.inf"], r"fit\.epochs=inf is not valid"),
        (["fit.epochs=1.0e+300"], r"fit\.epochs=1e\+300 is not valid"),
        (["fit.max_grad_norm=.inf"], r"fit\.max_grad_norm=inf is not valid"),
        (["fit.learning_rate=.inf"], r"fit\.learning_rate=inf is not valid"),
        (["fit.stages=[{until: .nan}]"], r"fit\.stages\.0\.until=nan is not valid"),
        (["fit.stages=[{until: 2}]"], r"fit\.stages\.0\.until=2 is not valid"),
        (["fit.stages=[{lr_scale: -1}]"], r"fit\.stages\.0\.lr_scale=-1 is not valid"),
        (["fit.stages=[{loss_weights: {refined: .nan}}]"], r"fit\.stages\.0\.loss_weights\.refined=nan is not valid"),
        (["fit.stages=[{loss_weights: {refined: -1}}]"], r"fit\.stages\.0\.loss_weights\.refined=-1 is not valid"),
        (["model.tta.scales=[1000]"], r"model\.tta\.scales\.0=1000 is not valid"),
        (["model.patch_size=1"], r"model\.patch_size=1 is not valid \(0 or at least 4"),
        (["model.rotation=.inf"], r"model\.rotation=inf is not valid"),
        (
            ["model.scale=[2, 1]"],
            r"model\.scale=\[2, 1\] is not valid \(must be a range \(low, high\) with 0 < low <= high\)",
        ),
        (["model.scale=[0, 0]"], r"model\.scale=\[0, 0\] is not valid"),
        (["model.scale=[.nan, 1]"], r"model\.scale\.0=nan is not valid"),
        (["model.tta.rotations=[.nan]"], r"model\.tta\.rotations\.0=nan is not valid"),
        (["model.tta.flop=true"], r"unknown parameter model\.tta\.flop; did you mean flip\?"),
        (["model.tta=true"], r"model\.tta=True is not valid"),
        (["model.input_size=1000000"], r"model\.input_size=1000000 is not valid"),
        (["model.channels=1000000000"], r"model\.channels=1000000000 is not valid"),
        (
            ["task=style"],
            r"--set task=style: task=style, but this command is for keypoints; omit it, or use `ftrain style`",
        ),
        (["fit.seed=-1"], r"fit\.seed=-1 is not valid"),
        (["fit.optimizer=adam"], r"fit\.optimizer='adam' is not valid \(.*'adamw' or 'sgd'"),
        (["fit.batch_size=3.5"], r"fit\.batch_size=3\.5 is not valid"),
        (["fit.stages=[]"], r"fit\.stages=\[\] is not valid"),
        (["model.input_size=100"], r"model\.input_size=100 is not valid \(.*multiple of 32"),
        (["fit=3"], r"fit=3 is not valid"),
        (["fit.epochs"], r"--set fit\.epochs: write it as name\.of\.parameter=value"),
        (["=3"], "write it as"),
        (["fit.epochs.x=3"], r"epochs has no parts"),
        (["fit.epochs=[1"], r"'\[1' is not a value"),
    ],
)
def test_what_is_wrong_is_named(params: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config("keypoints", params, None, overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.nested_dims=[8, 4]"], r"^--set model\.nested_dims=\[8, 4\]: model\.nested_dims must be ascending"),
        (["fit.epochs=3", "model.cosine_margin=0.3"], r"^--set model\.cosine_margin=0\.3: .*; set model\.cosine_scale"),
        ([], r"^profile margin: model\.cosine_margin and model\.subcenters need a cosine classifier"),
    ],
)
def test_parameters_that_do_not_suit_each_other_are_one_sentence(overrides: list[str], words: str) -> None:
    """The message showed the whole section, as the value of a parameter called `model.`."""
    values: dict[str, Any] = {"task": "retrieval", "model": {} if overrides else {"subcenters": 2}}
    for override in overrides:
        set_value(values, override)
    with pytest.raises(UsageError, match=words):
        resolve(values, "profile margin", overrides)


@pytest.mark.parametrize(
    ("task", "profile", "words"),
    [
        ("keypoints", "smal", r"keypoints has no profile 'smal'; did you mean small\?"),
        ("keypoints", "profile", "has no profile 'profile'"),
        ("keypoints", "larg", r"choose from large, small, tiny, full"),
        ("category", None, r"no section 'category'; choose a profile of ftrain with --profile \(tiny, .*full"),
        ("attributes", None, "unknown task 'attributes'; choose from category, "),
    ],
)
def test_unknown_profiles_and_sections(params: Path, task: str, profile: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config(task, params, profile, [])


PACKAGED = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "task", [name for name, section in PACKAGED.items() if isinstance(section, dict) and "profile" in section]
)
def test_profiles_come_with_the_package(task: str, params: Path) -> None:
    """Without a params.yaml, or if it lacks the profile, the profiles of the package apply."""
    for name, values in PACKAGED[task].items():
        if isinstance(values, dict):
            config = load_config(task, None, name, [])
            assert config == resolve({"task": task, **values}, "here")
            assert load_config(task, params, name, []) == config
    assert len({load_config(task, None, name, []).digest for name in PACKAGED[task] if name != "profile"}) > 1
    with pytest.raises(UsageError, match=rf"^{task} has no profile 'tinny'; did you mean tiny\?"):
        load_config(task, None, "tinny", [])


def test_the_profiles_of_the_package_are_those_of_the_project() -> None:
    """One file: a link in the repository, whose target is packed into the wheel."""
    assert PACKAGED_PARAMS.resolve() == Path(__file__).parents[3] / "params.yaml"
    assert Path(str(resources.files("ftrain.fit"))) / "params.yaml" == PACKAGED_PARAMS


def test_a_profile_of_the_users_file_replaces_that_of_the_package(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("keypoints: {profile: full, tiny: {fit: {epochs: 2}}}")
    assert load_config("keypoints", path, "tiny", []).fit.epochs == 2
    assert (
        load_config("keypoints", path, "tiny", []).model["backbone"] == "resnet18"
    )  # nothing of the other one is merged
    assert load_config("keypoints", path, None, []) == load_config("keypoints", None, "full", [])
    path.write_text("keypoints: {large: {fit: {epochs: 2}}}")
    with pytest.raises(
        UsageError, match="selects no profile and has no 'tiny'; choose one with --profile: large, tiny, full"
    ):
        load_config("keypoints", path, None, [])  # without a profile, the file must contain the values


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (["fit.epochs=many"], r"--set fit\.epochs=many"),
        (["fit={epochs: many}"], r"--set fit=\{epochs: many\}"),
        (["fit.epoch=1"], r"--set fit\.epoch=1"),
        (["fit.seed=2", "model.input_size=33", "model.box_margin=0.5"], r"--set model\.input_size=33"),
        (["model.sigma=2"], r".*params\.yaml"),  # an error in the file itself
        ([], r".*params\.yaml"),
    ],
)
def test_an_error_names_what_gave_the_value(tmp_path: Path, overrides: list[str], place: str) -> None:
    path = tmp_path / "params.yaml"
    fault = "" if any("epoch" in one or "input" in one for one in overrides) else "weight_decay: none"
    path.write_text(f"keypoints: {{tiny: {{fit: {{{fault}}}}}}}")
    with pytest.raises(UsageError, match=rf"^{place}: "):
        load_config("keypoints", path, None, overrides)
    with pytest.raises(UsageError, match=r"^--set fit\.batch_size=no: fit\.batch_size="):
        load_config("keypoints", None, None, ["fit.batch_size=no"])


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_config("keypoints", tmp_path / "none.yaml", None, [])


@pytest.mark.parametrize(
    ("text", "words"), [("[1, 2]", "expected a mapping"), ("a: [", "not valid YAML"), ("\x00", "not valid YAML")]
)
def test_params_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_config("keypoints", path, None, [])


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown task 'keypoint'; choose from .*keypoints"):
        resolve({"task": "keypoint"}, "here")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"keypoints: !!python/object/apply:os.mkdir ['{tmp_path}/canary']")
    with pytest.raises(UsageError, match="not valid YAML"):
        load_config("keypoints", path, None, [])
    assert not (tmp_path / "canary").exists()


def test_values_are_not_shared_between_runs() -> None:
    one: Any = load_config("keypoints", None, None, [])
    one.model["channels"] = 1
    assert load_config("keypoints", None, None, []).model["channels"] == 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keypoints: {profile: [a], tiny: {}}", r"keypoints\.profile=\['a'\] is not a name"),
        ("keypoints: {tiny: {fit: {epochs: 2020-01-01}}}", r"fit\.epochs=datetime\.date.* is not valid"),
    ],
)
def test_values_of_yaml_that_json_does_not_have(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UsageError, match=words):
        load_config("keypoints", tmp_path / "params.yaml", None, [])

"""A wrong path, a folder of another kind or a wrong value is reported at once, before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.test_output_folders import call, write_folder

import fprep.cli
import ftrain.cli

BIN = Path(sys.executable).parent
MAX_SECONDS = 1.5  # seconds of CPU time

WRONG = {
    "fprep convert": ["convert", "deepfashion-fine", "NOWHERE", "out"],
    "fprep shard": ["shard", "NOWHERE", "out"],
    "fprep audit": ["audit", "NOWHERE"],
    "fprep report": ["report", "NOWHERE", "page.html"],
    "fprep export": ["export", "NOWHERE", "out", "--to", "coco"],
    "fprep lint": ["lint", "NOWHERE"],
    "fprep doctor": ["doctor", "NOWHERE"],
    "ftrain keypoints": ["keypoints", "NOWHERE", "--run", "run"],
    "ftrain category": ["category", "SHARDS", "--run", "run", "--profile", "NOWHERE"],
    "ftrain evaluate": ["evaluate", "NOWHERE", "RUN"],
    "ftrain submit": ["submit", "RUN", "NOWHERE", "out.csv"],
    "ftrain predict": ["predict", "RUN", "NOWHERE", "--out", "out"],
    "ftrain describe": ["describe", "NOWHERE", "RUN"],
    "ftrain export": ["export", "NOWHERE", "out", "--to", "onnx"],
    "ftrain summary": ["summary", "NOWHERE"],
    "ftrain compare": ["compare", "RUN", "NOWHERE"],
    "ftrain join": ["join", "SHARDS", "NOWHERE", "--run", "run"],
    "ftrain index": ["index", "RUN", "NOWHERE", "out"],
    "ftrain query": ["query", "NOWHERE", "RUN", "--out", "out"],
    "ftrain plan": ["plan", "NOWHERE", "keypoints"],
    "ftrain doctor": ["doctor", "--shards", "NOWHERE"],
}
NO_INPUT = {"fprep sample", "fprep readers", "ftrain config"}


def test_all_commands_are_tried() -> None:
    commands = {
        f"{name} {command}"
        for name, app in (("fprep", fprep.cli.app), ("ftrain", ftrain.cli.app))
        for command in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    }
    tasks = {f"ftrain {task}" for task in ftrain.cli.CONTINUES}
    assert commands - NO_INPUT - tasks == WRONG.keys() - tasks


@pytest.mark.parametrize(("script", "place", "told"), [
    ("fprep", "", "argument 2 is empty; is a variable of the shell not set?"),
    ("ftrain", "", "argument 2 is empty; is a variable of the shell not set?"),
    ("fprep", "no\nwhere", "no\\nwhere: "),
    ("ftrain", "no\nwhere", "no\\nwhere: "),
])  # fmt: skip
def test_an_empty_path_and_one_of_two_lines_are_reported_in_one(
    script: str, place: str, told: str, tmp_path: Path
) -> None:
    """An empty path would be the current folder."""
    command = ["shard", place, "out"] if script == "fprep" else ["evaluate", place, "set"]
    done = subprocess.run([BIN / script, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{script}: {told}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_path_costs_little(command: str, tmp_path: Path) -> None:
    places = {
        "NOWHERE": "nowhere",
        **{kind.upper(): str(write_folder(tmp_path / kind, kind)) for kind in ("run", "shards")},
    }
    name = command.split(maxsplit=1)[0]
    words = [places.get(word, word) for word in WRONG[command]]
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); from {name}.cli import main; main()", *words],
        {**os.environ, "NO_COLOR": "1"}, file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
    )  # fmt: skip
    _, status, usage = os.wait4(pid, 0)
    os.close(log)
    said = (tmp_path / "log").read_text()
    assert os.waitstatus_to_exitcode(status) == 2, said
    assert "nowhere" in said
    assert len(said.splitlines()) == 1
    assert usage.ru_utime + usage.ru_stime < MAX_SECONDS, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "run", "shards"]


# Arguments of every ftrain command that are valid except for their content, with the name of each input.
RIGHT = {
    **{task: [task, "SHARDS", "--run", "out"] for task in sorted(ftrain.cli.CONTINUES)},
    "evaluate": ["evaluate", "RUN", "SHARDS", "--out", "out"],
    "submit": ["submit", "RUN", "FILE", "out.csv"],
    "predict": ["predict", "RUN", "PHOTO", "--out", "out"],
    "predict boxes": ["predict", "RUN", "PHOTO", "--out", "out", "--detector", "RUN"],
    "describe": ["describe", "FILE", "RUN", "--out", "out"],
    "export": ["export", "RUN", "out", "--to", "onnx"],
    "summary": ["summary", "RUN"],
    "summary task": ["summary", "--task", "category", "--shards", "SHARDS"],
    "compare": ["compare", "RUN", "RUN", "--out", "out"],
    "join": ["join", "SHARDS", "RUN", "--run", "out"],
    "index": ["index", "RUN", "SHARDS", "out"],
    "query": ["query", "INDEX", "PHOTO", "--out", "out", "--run", "RUN", "--shards", "SHARDS"],
    "plan": ["plan", "SHARDS", "category"],
    "doctor": ["doctor", "--shards", "SHARDS"],
}
ALIKE = sorted(ftrain.cli.CONTINUES - {"category"})  # all are created by one function
KIND_OF = {"RUN": "run", "SHARDS": "shards", "INDEX": "index", "PHOTO": "images", "FILE": None}
NO_IMAGES = ("table", "index", "empty", "nowhere")
OTHERS = ("run", "shards", "table", "index", "raw data", "one's own", "empty", "nowhere")
TRAINING_VALUES = (
    ["--set", "fit.epoch=3"], ["--set", "fit.epochs=many"], ["--set", "model.backbon=x"], ["--set", "model.input_size=33"], ["--set", "x"],
    ["--tracker", "nowhere"], ["--tracker", "none", "--tracker", "mlflow"], ["--lock", "nowhere"], ["--lock", "SHARDS"],
    ["--profile", "nowhere"], ["--params", "nowhere"], ["--section", "nowhere"], ["--init-from", "nowhere"], ["--init-from", "SHARDS"],
)  # fmt: skip
VALUES = {
    **dict.fromkeys(sorted(ftrain.cli.CONTINUES), TRAINING_VALUES[2:3]),
    "category": TRAINING_VALUES,
    "evaluate": (["--lock", "nowhere"], ["--checkpoint", "nowhere"], ["--device", "nowhere"]),
    "predict": (["--checkpoint", "nowhere"],),
    "export": (["--checkpoint", "nowhere"],),
    "plan": (["--set", "fit.epoch=3"], ["--profile", "nowhere"], ["--params", "nowhere"]),
    "summary task": (["--set", "fit.epoch=3"], ["--profile", "nowhere"], ["--task", "nowhere"]),
    "index": (["--checkpoint", "nowhere"], ["--recall", "2"]),
    "query": (["--detector", "SHARDS"],),
    "compare": (["--evaluations", "nowhere"],),
}


def wrong_calls() -> dict[str, tuple[str, list[str]]]:
    """Error, expected word in the message, and arguments."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, words in RIGHT.items():
        for place, word in enumerate(words):
            others = NO_IMAGES if word == "PHOTO" else OTHERS if word in KIND_OF else ()
            for other in others[-1:] if name in ALIKE else others:
                if other != KIND_OF[word]:
                    found[f"{name}: {other} for {word} {place}"] = (other, [*words[:place], other, *words[place + 1 :]])
            if word == "out":
                found[f"{name}: a place that is taken"] = (
                    "one's own",
                    [*words[:place], "one's own", *words[place + 1 :]],
                )
        for added in VALUES.get(name, ()):
            found[f"{name} {' '.join(added)}"] = ("", [*words, *added])
    return found


def answer_all(home: Path) -> None:
    """Run the calls in this process; print as JSON the message of each, and whether torch was imported."""
    os.chdir(home)
    places = {word: home / (kind or "images/a.jpg") for word, kind in KIND_OF.items()}
    answers = {
        name: (*call(["ftrain", *words], places, Path("out")), "torch" in sys.modules)
        for name, (_, words) in wrong_calls().items()
    }
    print(json.dumps(answers))


@pytest.mark.slow
def test_what_is_wrong_is_found_before_torch_is_imported(tmp_path: Path) -> None:
    for kind in set(KIND_OF.values()) - {None} | set(OTHERS[:-2]):
        write_folder(tmp_path / str(kind), str(kind))
    (tmp_path / "empty").mkdir()
    code = (
        f"from pathlib import Path; from tests.test_wrong_paths import answer_all; answer_all(Path({str(tmp_path)!r}))"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert set(RIGHT) >= {name.removeprefix("ftrain ") for name in WRONG if name.startswith("ftrain")}
    assert not {name: (code, said) for name, (code, said, _) in answers.items() if code != 2}
    assert not [(name, said) for name, (_, said, torch) in answers.items() if torch][:1]
    for name, (word, _) in wrong_calls().items():
        assert word in answers[name][1], name
    assert not (tmp_path / "out").exists()

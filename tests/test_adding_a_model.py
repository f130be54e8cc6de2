"""docs/adding-a-model.md: its code is a task that trains and passes the conformance test, and its tables are complete."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ftrain.likes import metrics
from tests.ftrain.likes.task import Likes
from tests.shard_sets import write_label_set

from fschemas.shard_set import ShardSet
from fschemas.tables import COLUMN_GROUPS
from ftrain.tasks.task import TASK_FUNCTIONS, Task, task_function

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/adding-a-model.md").read_text(encoding="utf-8")
# Runs `sys.argv[1:]` with the tasks of this folder next to those of the package.
LAUNCHER = """
import shlex, sys
from pathlib import Path
import ftrain.tasks
ftrain.tasks.__path__.append(str(Path(__file__).parent))
if __name__ == "__main__":
    from ftrain.cli import app
    for line in sys.argv[1:]:
        print(app(shlex.split(line)[1:], standalone_mode=False))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the task of the page, its section of params.yaml, a shard set and a photograph."""
    place = tmp_path_factory.mktemp("model")
    (place / "linear").mkdir()
    (place / "linear/__init__.py").write_text('"""Linear classifier."""\n')
    for text, code in re.findall(r"(.*?)^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        file = re.findall(r"`(?:training/ftrain/tasks/linear/)?(\w+\.py)`", text)[-1]
        (place / "linear" / file).write_text(code)
    shards = ShardSet.open(write_label_set(place / "shards", {"train": 40, "val": 8, "test": 12}))
    (place / "photograph.jpg").write_bytes(shards.read(0)[0])
    (place / "launcher.py").write_text(LAUNCHER)
    (place / "params.yaml").write_text(re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)[0])
    return place


def run(place: Path, *words: str) -> str:
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.slow
def test_the_commands_run(place: Path) -> None:
    """All commands of the page, with two steps of training and a small network."""
    commands = re.findall(r"^    (ftrain .*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) > 7
    commands = [command.replace("evaluate", "evaluate --allow-collapse") for command in commands]
    for number, command in enumerate(commands):
        commands[number] = command.replace("/tmp/", "")
        if command.startswith("ftrain linear"):
            commands[number] += (
                " --limit-steps 2 --tracker none --workers 0 --set model.backbone=test_efficientnet --set model.weights=none"
            )
    printed = run(place, "launcher.py", *commands)
    assert (place / "run/evaluation/plots/category_confusion.png").exists()
    assert re.search(r"macro_f1 +0\.\d{4} +0\.\d{4} \(majority\)", printed), printed
    assert (place / "answers/overlays/photograph.jpg").exists()
    assert re.search(r"category: \w+", printed)


@pytest.mark.slow
def test_it_passes_the_conformance_test(place: Path) -> None:
    test = ROOT / "tests/ftrain/tasks/test_all_tasks.py"
    options = f"-q -n 0 -p no:cacheprovider -p launcher --rootdir={ROOT} --config-file={ROOT}/pyproject.toml".split()
    # Several processes are left out: they would not know the folder of the task.
    printed = run(place, "-m", "pytest", *options, "-m", "", str(test), "-k", "[linear] and not test_processes")
    assert re.search(r"^8 passed", printed, flags=re.MULTILINE), printed


def rows(title: str) -> list[list[str]]:
    """The cells of the tables under a heading of the page."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("|--")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_column_group_is_listed() -> None:
    listed = {group.strip("`"): re.findall(r"`(\w+)`", text) for group, text in rows("1. Look at a sample")[1:]}
    assert listed.keys() == COLUMN_GROUPS.keys()
    for group, fields in COLUMN_GROUPS.items():
        assert set(fields) <= set(listed[group]), group


def test_every_member_of_the_contract_exists() -> None:
    listed = [re.findall(r"`(\w+)[`(]", row[0]) for row in rows("The contract")]
    names = {name for row in listed for name in row if name != "member"}
    assert set(TASK_FUNCTIONS) <= names
    missing = {
        name for name in names - set(TASK_FUNCTIONS) if not hasattr(Task, name) and name not in Task.__annotations__
    }
    assert not missing


def test_every_building_block_exists() -> None:
    blocks = [text for _, text in rows("Building blocks")[1:]]
    found = 0
    for file, text in (
        pair for block in blocks for pair in re.findall(r"`([\w/]+\.py)`: ((?:(?!`[\w/]+\.py`).)*)", block)
    ):
        source = (ROOT / "training/ftrain" / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", text):
            assert re.search(rf"^(def|class) {name}\b", source, flags=re.MULTILINE), f"{name} is not in {file}"
            found += 1
    assert found > 30
    for path in re.findall(r"`((?:tests|tasks)/[\w/]+(?:\.py)?)`", PAGE):
        assert (ROOT / path).exists() or (ROOT / "training/ftrain" / path).exists(), path


def test_a_misnamed_function_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Likes.name == "likes"
    assert task_function(Likes, "compute_metrics") is metrics.compute_metrics
    monkeypatch.setattr(metrics, "measure", metrics.compute_metrics, raising=False)
    monkeypatch.delattr(metrics, "compute_metrics")
    with pytest.raises(AssertionError, match=r"likes\.metrics defines none of compute_metrics"):
        task_function(Likes, "compute_metrics")

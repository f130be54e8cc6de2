"""README and docs agree with the code: commands, options, configuration keys, names of readers and tasks, links."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main
from tests.commands import APPS

from fprep.readers.registry import readers
from ftrain.fit.config_keys import config_keys
from ftrain.tasks import task_names

ROOT = Path(__file__).parents[1]
HISTORY = "docs/log.md"  # a record of what was true at a time
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
)
PYTHON_API = "docs/python-api.md"  # `model` is a variable there
CURRENT = [page for page in PAGES if page != HISTORY]
ANY_TASK = re.compile(r"[A-Z]+|linear")  # `ftrain TASK`, and the example of docs/adding-a-model.md
COMMANDS = {program: typer.main.get_command(app) for program, app in APPS.items()}


@pytest.fixture(scope="module")
def keys():
    """Configuration keys by task."""
    return {task: {entry.key for entry in config_keys(task, None, None, [])[0]} for task in task_names()}


def code_of(page):
    """Lines of the code blocks (fenced or indented, not Python) and code spans of a page."""
    text = re.sub(r"\\\n\s*", "", (ROOT / page).read_text())  # continued lines
    fenced = re.compile(r"^ *```(\w*).*?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    lines = [line for language, block in fenced.findall(text) if language != "python" for line in block.splitlines()]
    text = fenced.sub("", text)
    lines += re.findall(r"^(?: {4}|\t)\s*(\S.*)$", text, re.MULTILINE)
    return [*lines, *re.findall(r"`([^`]+)`", re.sub(r"\n[ >]*", " ", text))]


@pytest.mark.parametrize("page", CURRENT)
def test_commands_and_their_options_exist(page, keys):
    problems = []
    for line in code_of(page):
        if not re.match(r"\s*f(prep|train) ", line) or "→" in line:  # arrows: a diagram of the layers
            continue
        program, *words = shlex.split(re.split(r" #|[|;]|&&", line)[0])
        command, name = COMMANDS[program], ""
        while command and hasattr(command, "commands") and words and not words[0].startswith("-"):
            name = words.pop(0)
            command = command.commands.get("keypoints" if ANY_TASK.fullmatch(name) else name)
        if command is None:
            problems.append(f"{line}: no command {name}")
            continue
        options = {"--help", "--debug"} | {one for entry in command.params for one in entry.opts + entry.secondary_opts}
        known = keys.get(name) or set().union(*keys.values())
        used = [word.partition("=")[0] for word in words if word.startswith("-")]
        changed = [value.partition("=")[0] for option, value in pairwise(words) if option in ("--set", "-s")]
        problems += [f"{line}: no option {option}" for option in used if option not in options]
        problems += [f"{line}: no key {key}" for key in changed if key not in known and key != "key"]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", [page for page in CURRENT if page != PYTHON_API])
def test_configuration_keys_exist(page, keys):
    known = set().union(*keys.values())
    known |= {key.partition("[")[0] for key in known} | {key.rpartition(".")[0] for key in known}
    found = [key for code in code_of(page) for key in re.findall(r"(?<![\w./*-])(?:model|fit)\.[a-z][\w.\[\]]*", code)]
    assert not set(found) - known


@pytest.mark.parametrize("task", task_names())
def test_settings_on_the_page_of_a_task_are_its_keys(task, keys):
    """Code spans such as `crop: box` or `tta: {flip: true}`."""
    known = {part for key in keys[task] for part in re.split(r"\W+", key)}
    settings = [re.match(r"([a-z]\w*): \S", code) for code in code_of(f"docs/models/{task}.md")]
    assert not {found[1] for found in settings if found} - known


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text())
    relative = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert not [link for link in relative if not ((ROOT / page).parent / link).exists()]


def test_every_reader_and_task_is_documented():
    readme, formats = (ROOT / "README.md").read_text(), (ROOT / "docs/formats.md").read_text()
    headings = " ".join(re.findall("^## (.*)", formats, re.MULTILINE))
    assert [name for name in readers() if f"`{name}`" not in readme or f"`{name}`" not in headings] == []
    assert [name for name in task_names() if f"(docs/models/{name}.md)" not in readme] == []

"""Raw folder names that must be protected from the shell: through `dvc repro`, and in the stages as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fprep.cli.params_file import paths_from, raw_and_out
from fschemas.command_line import expand_home
from fschemas.failures import UsageError
from fschemas.table_file import read_metadata

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NAMES = {
    "kfashion": "K-Fashion 이미지", "csv": "-R&D (copy)", "folders": "it's \"$HOME\"; `true`", "deepfashion-inshop": "a  b#[c]*?",
}  # fmt: skip


def test_every_name_in_a_command_is_quoted() -> None:
    """Options are the exception: DVC builds them from a mapping, and quotes the values."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        command = stage["do"]["cmd"]
        bare = re.sub(r"'[^']*'", "", command)
        assert set(re.findall(r"\$\{([^}]*)\}", bare)) <= {"item", "item.convert", "item.shard"}, name
        assert "item.raw" not in command, name


@pytest.mark.slow  # DVC, and one process per stage
@pytest.mark.timeout(300)
def test_raw_folders_with_any_name_go_through_dvc(tmp_path: Path) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for key, name in NAMES.items():
        tree = key.replace("-", "_")
        shutil.copytree(ROOT / "tests/raw" / tree, tmp_path / name)
    options = {"check-images": "header", "max-rejected": 1.0, "follow-links": True}
    datasets = {key: {"raw": name, "convert": options, "shard": {}} for key, name in NAMES.items()}
    params = {"samples": {}, "datasets": datasets, "models": {}, "indices": {}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True))
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "true", "CI": "true"}
    for arguments in (["init", "--no-scm", "-q"], ["repro", *(f"convert@{key}" for key in NAMES)]):
        done = subprocess.run(
            [BIN / "dvc", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for key, name in NAMES.items():
        metadata = read_metadata(tmp_path / "data/tables" / key / "table.parquet")
        assert (tmp_path / "data/tables" / key / metadata["raw_root"]).resolve() == (tmp_path / name).resolve()
        assert metadata["options"]["follow_links"] is True


def test_paths_come_out_of_the_file_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    file = tmp_path / "params.yaml"
    file.write_text("a: {raw: '-x $y'}\nb: {raw: ~/z}\nc: {raw: [p, 'q r']}\nd: {raw: {}}\n")
    assert paths_from(f"{file}:a.raw") == [Path("-x $y")]
    assert paths_from(f"{file}:b.raw") == [Path("/home/somebody/z")]
    assert raw_and_out([Path("out")], f"{file}:c.raw") == ([Path("p"), Path("q r")], Path("out"))
    for place in (f"{file}:d.raw", f"{file}:e.raw", str(file), f"{file}.gone:a.raw"):
        with pytest.raises(UsageError, match="--raw-from"):
            paths_from(place)
    with pytest.raises(UsageError, match="pass only the folder to write"):
        raw_and_out([Path("raw"), Path("out")], f"{file}:a.raw")


def test_home_folder_that_the_shell_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(tmp_path)
    said = [expand_home(argument) for argument in ("~", "~/x", "--out=~/x", "a~", "~user", "--map=a=~/b", "-", "--")]
    assert said == [
        "/home/somebody",
        "/home/somebody/x",
        "--out=/home/somebody/x",
        "a~",
        "~user",
        "--map=a=~/b",
        "-",
        "--",
    ]
    (tmp_path / "~").mkdir()
    assert expand_home("~") == "~"

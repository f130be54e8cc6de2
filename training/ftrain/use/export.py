"""`ftrain export RUN OUT --to onnx | torch-export`: export a task for prediction without this package.

`OUT/export.json` is written last and describes the file: inputs and outputs, preprocessing, names of classes and
landmarks, and the largest differences from the checkpoint's outputs. A file that exceeds the tolerance is not
published.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fschemas.failures import IntegrityError, UsageError
from fschemas.folders import claim_output
from fschemas.progress import show
from fschemas.publish import exclusive, publish_bytes, publish_sealed, withdraw
from ftrain.data.stream import Batch
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.trained_task import as_batch
from ftrain.layers.backbone import Normalize
from ftrain.tasks.task import Task
from ftrain.use.export_formats import (
    BATCH,
    Predict,
    archive_predictor,
    as_archive,
    as_onnx,
    onnx_predictor,
    require_onnx,
    traced,
)

NOTE_FILE = "export.json"
FORMAT = "fashionkit-export/1"
BATCH_SIZES = (1, 2, 5)  # of the comparison
LOCAL_PATHS: Any = {"weights": True, "local_weights": True, "members": {"__all__": {"weights": True}}}  # may be local
_NUM_PARTS = 4 + len(BATCH_SIZES)  # progress steps: loading, tracing, writing, and comparing each batch size
_FILES = {"onnx": "model.onnx", "torch-export": "model.pt2"}

Format = Literal["onnx", "torch-export"]


class Exportable(nn.Module):
    """A task as a function from a batch of `Task.encode_image` to its predictions.

    Inputs that it passes through unchanged are left out.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Batch) -> Batch:
        """Predictions by name, first dimension B, in a fixed order."""
        given = {id(tensor) for tensor in batch.values()}
        return {name: tensor for name, tensor in self.task.predict(batch).items() if id(tensor) not in given}


def exportable(task: Task) -> tuple[nn.Module, Batch]:
    """Return the module to export (batch to batch) and an example batch of two.

    A task with a method `exportable` chooses its own module; others are wrapped in `Exportable`. Raises `UsageError`
    for a task that cannot predict single images.
    """
    own = getattr(task, "exportable", None)
    if own is not None:
        return own()
    return Exportable(task).eval(), batch_of(task, [np.full((256, 192, 3), 128, np.uint8)] * 2)


def export_run(
    run: Path, out: Path, *, to: Format, checkpoint: str = "best", tolerance: float = 1e-3, seed: int = 0
) -> dict[str, Any]:
    """Export a checkpoint and return the content of `export.json`, which includes its own digest (`seal`).

    `tolerance` bounds |difference| / max(1, largest magnitude) of every output, over batches of 1, 2 and 5 random
    images from `seed`. Test-time augmentation (flips, rotations) is not exported. Raises `IntegrityError` if the
    tolerance is exceeded (nothing is published then), `EnvironmentProblem` for a missing package, and `UsageError` for
    a task that cannot be exported.
    """
    if out.suffix in (".onnx", ".pt2") or out.is_file():
        raise UsageError(f"{out}: OUT is the folder for {_FILES[to]} and {NOTE_FILE}; omit the name of the file")
    out = claim_output(out, "model")
    if to == "onnx":
        require_onnx()
    show("exporting", 0, _NUM_PARTS)
    task, _, state = RunFolder(run).load(checkpoint)
    task.set_tta(False)
    module, example = exportable(task)
    with torch.no_grad():
        show("exporting", 1, _NUM_PARTS)
        program = traced(module, example, task.name)
        show("exporting", 2, _NUM_PARTS)
        content = as_onnx(program, list(example)) if to == "onnx" else as_archive(program)
        show("exporting", 3, _NUM_PARTS)
        predict = onnx_predictor(content, list(example)) if to == "onnx" else archive_predictor(content)
        outputs = predict(example)
        differences = _compare(task, module, predict, list(outputs), seed)
    worst = max(differences.items(), key=lambda item: item[1]["relative"])
    if not worst[1]["relative"] <= tolerance:
        raise IntegrityError(
            f"{run}: the output {worst[0]!r} of the exported model differs by {worst[1]['relative']:.2g} of the largest output, more than the tolerance of "
            f"{tolerance:g}; nothing was written; if near-ties are resolved differently, try another --seed or a larger --tolerance"
        )
    metadata = {
        "format": FORMAT,
        "file": _FILES[to],
        "sha256": hashlib.sha256(content).hexdigest(),
        "kind": to,
        "task": task.name,
        "plan_id": state.plan_id,
        "checkpoint_step": state.step,
        "inputs": {name: _described(tensor.numpy()) for name, tensor in example.items()},
        "outputs": {name: _described(array) for name, array in outputs.items()},
        "preprocessing": _preprocessing(task, example),
        "comparison": {
            "tolerance": tolerance,
            "batch_sizes": list(BATCH_SIZES),
            "seed": seed,
            "differences": differences,
        },
        "model": task.config.model_dump(mode="json", exclude=LOCAL_PATHS),
        "landmark_set": task.dataset.get("landmark_set"),
        "vocabularies": task.dataset.get("vocabularies"),
    }
    with exclusive(out):
        withdraw(out / NOTE_FILE)
        publish_bytes(out / _FILES[to], content)
        publish_sealed(out / NOTE_FILE, metadata)
    show("exporting", _NUM_PARTS, _NUM_PARTS)
    return metadata


def difference_lines(metadata: dict[str, Any]) -> Iterator[str]:
    """Format the differences between the exported outputs and the checkpoint's as text."""
    comparison = metadata["comparison"]
    for name, found in comparison["differences"].items():
        yield f"{name:<20} largest difference {found['absolute']:.2g}, {found['relative']:.2g} of the largest number"
    yield f"within the tolerance of {comparison['tolerance']:g} for batches of {', '.join(map(str, comparison['batch_sizes']))}"


def batch_of(task: Task, images: list[np.ndarray]) -> Batch:
    """Build the batch for `predict` from decoded images, uint8 H, W, 3, without inputs of color features alone."""
    batch = as_batch([task.encode_image(image) for image in images], torch.device("cpu"))
    return {name: tensor for name, tensor in batch.items() if name != "region"}


def random_images(count: int, seed: int) -> list[np.ndarray]:
    """Smooth colored blobs of several sizes, uint8 H, W, 3; on pure noise, most models' outputs are almost tied."""
    generator = np.random.default_rng([seed, count])
    images: list[np.ndarray] = []
    for _ in range(count):
        width, height = (int(side) for side in generator.integers(60, 400, size=2))
        coarse = generator.uniform(0, 255, size=(6, 5, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = generator.normal(scale=8, size=smooth.shape)
        images.append(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    return images


def _compare(
    task: Task, module: nn.Module, predict: Predict, names: list[str], seed: int
) -> dict[str, dict[str, float]]:
    largest = {name: {"absolute": 0.0, "relative": 0.0} for name in names}
    for number, size in enumerate(BATCH_SIZES):
        show("exporting", 4 + number, _NUM_PARTS)
        batch = batch_of(task, random_images(size, seed))
        expected, found = module(batch), predict(batch)
        for name in names:
            one, other = expected[name].numpy().astype(np.float64), found[name].astype(np.float64)
            if one.shape != other.shape:
                raise IntegrityError(f"{name} of the exported model has shape {other.shape} instead of {one.shape}")
            absolute = float(np.abs(one - other).max(initial=0.0))
            relative = absolute / max(1.0, float(np.abs(one).max(initial=0.0)))
            largest[name] = {
                "absolute": max(largest[name]["absolute"], absolute), "relative": max(largest[name]["relative"], relative),
            }  # fmt: skip
    return largest


def _described(array: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(array.dtype), "shape": [BATCH, *array.shape[1:]]}


def _preprocessing(task: Task, example: Batch) -> dict[str, Any]:
    """Preprocessing from image to inputs, for users of the exported file alone."""
    found: dict[str, Any] = {
        "image": "upright RGB, uint8, pixels 0 … 255, B x H x W x 3",
        "place": "as large as fits into the square and centered; what is left over is gray 128; bilinear, averaged when shrunk",
        "matrix": "2 x 3, takes pixel centers of the image (x, y; top left is 0, 0) to those of the input",
        "size": "width and height of the image in pixels",
    }
    shown = {name: text for name, text in found.items() if name in ("image", "place") or name in example}
    if "image" in example:
        shown["input_size"] = [int(example["image"].shape[2]), int(example["image"].shape[1])]
    normalize = next((module for module in task.modules() if isinstance(module, Normalize)), None)
    if normalize is not None:
        shown["normalization"] = {
            "where": "inside the model", "mean": _numbers(normalize.mean), "std": _numbers(normalize.std),
        }  # fmt: skip
    return shown


def _numbers(tensor: Tensor) -> list[float]:
    return [round(float(value), 4) for value in tensor.flatten()]

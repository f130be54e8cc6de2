"""Optional parts of the installation: which extra of the package brings which module."""

from __future__ import annotations

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision", "timm", "safetensors", "fsspec"),
    "chain": ("dvc", "dvclive"),
    "index": ("faiss",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "tracking": ("tensorboard", "mlflow"),
}


def not_installed(module: str | None) -> str | None:
    """What to say of a module that cannot be imported, which may be a submodule; None where no extra brings it."""
    package = (module or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f'{package} is not installed; pip install "fashionkit[{extra}]"'
    return None

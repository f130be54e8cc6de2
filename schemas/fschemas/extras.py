"""Optional dependencies: the extra of the package that installs each module."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision", "timm", "safetensors", "fsspec"),
    "chain": ("dvc", "dvclive"),
    "index": ("faiss",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "tracking": ("tensorboard", "mlflow"),
    "coco": ("pycocotools",),
}


def not_installed(module: str | None) -> str | None:
    """Message for a module, or submodule, that cannot be imported; None if no extra installs it."""
    package = (module or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f'{package} is not installed; pip install "fashionkit[{extra}]"'
    return None

"""How a GPU computes: TensorFloat32, the choice of convolution algorithms, determinism. Set before CUDA is used."""

import os

import torch


def set_numerics(*, tf32: bool, deterministic: bool) -> None:
    """Set the precision of float32 products and convolutions on GPUs, and whether operations must be deterministic.

    Otherwise, cuDNN times its algorithms for every shape and takes the fastest; sums may have another order in another
    run. `deterministic` raises an error at the first operation without a deterministic implementation.
    """
    precision = "tf32" if tf32 else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = not deterministic, deterministic
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # all of it is written
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read by cuBLAS when it starts

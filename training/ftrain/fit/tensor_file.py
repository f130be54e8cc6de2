"""Copies of tensors in host memory, laid out like a safetensors file, which is written from them in one pass.

`safetensors.torch.save_file` writes the same bytes, but the tensors must rest until it has finished, and their digest and
the search for NaN would read them twice more.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from fschemas.failures import NonFiniteError

# The order of types in a file (the largest first, so that all are aligned); names are sorted within a type.
_DTYPES = {
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_ORDER = list(_DTYPES)
# All bits of the exponent are set in NaN and infinity. The integer masks also suit bfloat16, which numpy lacks.
_EXPONENT = {
    torch.float64: np.uint64(0x7FF0_0000_0000_0000), torch.float32: np.uint32(0x7F80_0000),
    torch.bfloat16: np.uint16(0x7F80), torch.float16: np.uint16(0x7C00),
}  # fmt: skip
_BLOCK = 1 << 20  # bytes, which stay in the cache of a core while they are checked, hashed and written


class TensorFile:
    """Host memory for named tensors of fixed types and shapes: the content of one safetensors file.

    `pinned` memory is page-locked, so that copies from a GPU are asynchronous.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], *, pinned: bool = False) -> None:
        self.pinned = pinned
        self.names = sorted(tensors, key=lambda name: (_ORDER.index(tensors[name].dtype), name))
        self.signature = _signature(tensors)
        self.ends = np.cumsum([tensors[name].nbytes for name in self.names]).tolist()
        starts = [0, *self.ends][: len(self.names)]
        self.memory = torch.empty(self.ends[-1] if self.ends else 0, dtype=torch.uint8, pin_memory=pinned)
        self.views = [
            self.memory[start:end].view(tensors[name].dtype).view(tensors[name].shape)
            for name, start, end in zip(self.names, starts, self.ends, strict=True)
        ]
        described = {
            name: {"dtype": _DTYPES[view.dtype], "shape": list(view.shape), "data_offsets": [start, end]}
            for name, view, start, end in zip(self.names, self.views, starts, self.ends, strict=True)
        }
        text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.header = struct.pack("<Q", len(text)) + text

    def fits(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether these tensors have the names, types and shapes of this file."""
        return self.signature == _signature(tensors)

    @torch.no_grad()
    def copy(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy the tensors; from a GPU to pinned memory in the order of the current stream, without waiting."""
        for name, view in zip(self.names, self.views, strict=True):
            view.copy_(tensors[name], non_blocking=self.pinned)

    def write(self, path: Path) -> str:
        """Write the file; return its SHA-256. Raises `NonFiniteError` at the first block with NaN or infinity."""
        data, digest = self.memory.numpy(), hashlib.sha256(self.header)
        with open(path, "wb") as file:
            file.write(self.header)
            for dtype, start, end in self._sections():
                for at in range(start, end, _BLOCK):
                    block = data[at : min(at + _BLOCK, end)]
                    self._check(block, at, dtype)
                    digest.update(block.data)
                    file.write(block.data)
        return digest.hexdigest()

    def _sections(self) -> list[tuple[torch.dtype, int, int]]:
        """First and last byte of the tensors of each type."""
        sections: dict[torch.dtype, tuple[int, int]] = {}
        start = 0
        for view, end in zip(self.views, self.ends, strict=True):
            sections[view.dtype] = sections.get(view.dtype, (start, end))[0], end
            start = end
        return [(dtype, start, end) for dtype, (start, end) in sections.items()]

    def _check(self, block: np.ndarray, at: int, dtype: torch.dtype) -> None:
        exponent = _EXPONENT.get(dtype)
        if exponent is None:
            return
        bad = (block.view(exponent.dtype) & exponent) == exponent
        if bad.any():
            place = at + int(bad.argmax()) * exponent.itemsize
            name = self.names[int(np.searchsorted(self.ends, place, side="right"))]
            raise NonFiniteError(f"{name} is not finite")


def _signature(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}

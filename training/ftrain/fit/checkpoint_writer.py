"""Checkpoints in the background: a step waits until its tensors are copied, not until they are written.

A thread writes the copy. It does not share the interpreter for long: hashing, checking and writing release the lock of
the interpreter. Unlike a process, it cannot die alone or outlive a killed run (docs/log.md).
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch

from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.tensor_file import TensorFile


class CheckpointWriter:
    """Saves the checkpoints of a run, one at a time. Leaving it as a context manager waits for the save in progress.

    It keeps host memory of the size of a checkpoint, pinned for a GPU.
    """

    def __init__(self, folder: Path, device: torch.device, *, keep: int) -> None:
        self.folder, self.device, self.keep = folder, device, keep
        self.files: dict[str, TensorFile] = {}
        self.thread = ThreadPoolExecutor(1, "checkpoints")
        self.saving: Future[Path] | None = None

    def save(self, state: TrainingState, tensors: checkpoint.Tensors) -> None:
        """Start a save like `save_checkpoint`, after the previous one: the caller may change state and tensors at once.

        Copies from a GPU are queued in its current stream, before whatever changes the tensors next. Raises the error
        of the previous save.
        """
        self.wait()
        checkpoint.note_files(self.folder, state)
        for file, named in tensors.items():
            if file not in self.files or not self.files[file].fits(named):  # moments come with the steps of a stage
                self.files[file] = TensorFile(named, pinned=self.device.type == "cuda")
            self.files[file].copy(named)
        copied = torch.cuda.Event() if self.device.type == "cuda" else None
        if copied is not None:
            copied.record(torch.cuda.current_stream(self.device))
        self.saving = self.thread.submit(self._write, replace(state), copied)

    def wait(self) -> None:
        """Wait until the last save is published. Raises its error, once."""
        saving, self.saving = self.saving, None
        if saving is not None:
            saving.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.thread.shutdown()
        if kind is None:  # otherwise, the first error is raised, not that of the save
            self.wait()

    def _write(self, state: TrainingState, copied: torch.cuda.Event | None) -> Path:
        if copied is not None:
            copied.synchronize()
        return checkpoint.write_checkpoint(self.folder, state, self.files, keep=self.keep)

"""Finding the writer of sample data: every module of `fprep.samples` is named after a data set and has `write_sample`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import fprep.samples
from fschemas.failures import UsageError, did_you_mean


class SampleWriter(Protocol):
    """Draws garments into a raw layout and returns what was written, counted by kind."""

    def __call__(
        self, out: Path, *, images: int, seed: int, workers: int, defects: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, int]:  # fmt: skip
        """Write `images` pictures; the same seed gives the same bytes, whatever the number of workers."""
        ...


def find_sample(dataset: str) -> SampleWriter:
    """The writer for a data set; raises `UsageError` with the known names."""
    known = {
        module.name.replace("_", "-"): module.name
        for module in pkgutil.iter_modules(fprep.samples.__path__)
        if hasattr(importlib.import_module(f"fprep.samples.{module.name}"), "write_sample")
    }
    if dataset not in known:
        guess = did_you_mean(dataset, known)
        raise UsageError(f"no sample data for {dataset!r}; {guess}there is some for {', '.join(sorted(known))}")
    return cast("SampleWriter", importlib.import_module(f"fprep.samples.{known[dataset]}").write_sample)

"""Finding the writer of sample data: every module of `fprep.synthetic.layouts` is named after a data set and has `write_sample`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import fprep.synthetic.layouts
from fschemas.failures import UsageError, did_you_mean


class SampleWriter(Protocol):
    """Draws garments into a raw layout and returns what was written, counted by kind."""

    def __call__(
        self, out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, int]:  # fmt: skip
        """Write `images` images; the same seed gives the same bytes, whatever the number of workers.

        Without `with_images` only annotations are written, fast and at any size.
        """
        ...


def find_sample(dataset: str) -> SampleWriter:
    """The writer for a data set; raises `UsageError` with the known names."""
    return cast("SampleWriter", _module_of(dataset).write_sample)


def published_images(dataset: str) -> int:
    """How many images the real data set has; raises `UsageError` for an unknown name."""
    return cast("int", _module_of(dataset).PUBLISHED_IMAGES)


def sample_names() -> list[str]:
    """The data sets that there is sample data for."""
    return sorted(_known())


def _known() -> dict[str, str]:
    modules = (module.name for module in pkgutil.iter_modules(fprep.synthetic.layouts.__path__))
    return {name.replace("_", "-"): name for name in modules if hasattr(_import(name), "write_sample")}


def _module_of(dataset: str) -> Any:
    known = _known()
    if dataset not in known:
        guess = did_you_mean(dataset, known)
        raise UsageError(f"no sample data for {dataset!r}; {guess}there is some for {', '.join(sorted(known))}")
    return _import(known[dataset])


def _import(name: str) -> Any:
    return importlib.import_module(f"fprep.synthetic.layouts.{name}")

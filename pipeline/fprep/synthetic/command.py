"""Discovery of sample writers: a module of `fprep.synthetic.layouts` with a `LAYOUT` is named after its data set."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import fprep.synthetic.layouts
from fprep.synthetic.skeleton import Layout, Request
from fschemas.failures import UsageError, did_you_mean


def find_sample(dataset: str) -> Callable[..., dict[str, int]]:
    """Return the writer of a data set.

    It takes a folder and, as keyword arguments, the fields of `Request`; it returns the number of files or rows written
    by kind. The same seed gives the same bytes for any number of workers. Raises `UsageError` with the known names.
    """
    layout = find_layout(dataset)
    return lambda out, **options: layout.write_sample(dataset, Path(out), Request(**options))


def find_layout(dataset: str) -> Layout:
    """Return the raw format of a data set. Raises `UsageError` with the known names."""
    known = layouts()
    if dataset not in known:
        guess = did_you_mean(dataset, known)
        raise UsageError(f"no synthetic data for {dataset!r}; {guess}choose from {', '.join(known)}")
    return known[dataset]


def published_images(dataset: str) -> int:
    """Return the number of images of the real data set. Raises `UsageError` for an unknown name."""
    return find_layout(dataset).published


def layouts() -> dict[str, Layout]:
    """Return the raw formats by data set."""
    names = sorted(module.name for module in pkgutil.iter_modules(fprep.synthetic.layouts.__path__))
    modules = {name: importlib.import_module(f"fprep.synthetic.layouts.{name}") for name in names}
    return {name.replace("_", "-"): module.LAYOUT for name, module in modules.items() if hasattr(module, "LAYOUT")}

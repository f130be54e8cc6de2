"""All readers, discovered by importing `fprep.readers`; nothing is registered by hand."""

import importlib
import pkgutil

import fprep.readers
from fprep.readers.reader import Reader
from fschemas.failures import UsageError, did_you_mean


def readers() -> dict[str, Reader]:
    """Return all readers by name: every `Reader` defined in a module of `fprep.readers`."""
    found: dict[str, Reader] = {}
    for info in pkgutil.walk_packages(fprep.readers.__path__, "fprep.readers."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Reader):
                assert found.get(value.name, value) is value, f"two readers are called {value.name}"
                found[value.name] = value
    return dict(sorted(found.items()))


def find_reader(name: str) -> Reader:
    """Return the reader with this name. Raises `UsageError` with the closest match."""
    known = readers()
    if name in known:
        return known[name]
    raise UsageError(f"unknown reader {name!r}; {did_you_mean(name, known)}choose from {', '.join(known)}")

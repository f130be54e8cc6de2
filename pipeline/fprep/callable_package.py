"""A subpackage that is called like the function of its `command.py`: `fprep.convert(...)` beside `from fprep.convert.rules import …`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package `fprep.NAME` whose call is that of `fprep.NAME.command.NAME`; for type checkers `fprep.NAME` is that function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function of the command."""
        return self._command()(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """What `help` and notebooks show."""
        return inspect.signature(self._command())

    def _command(self) -> Callable[..., Any]:
        return getattr(import_module(f"{self.__name__}.command"), self.__name__.rpartition(".")[2])


def make_callable(name: str) -> None:
    """Let the package of that name be called; for its `__init__.py`."""
    sys.modules[name].__class__ = CallablePackage

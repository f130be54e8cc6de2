"""Deferred import of timm and torchvision, so that `ftrain predict` starts in a third of the time.

`import timm` imports all of its 110 model files, torchvision's data sets, torch._dynamo, sympy and the client of the
Hugging Face hub. Here the packages are put into `sys.modules` without running their `__init__`, so that single modules
can be imported. Any other attribute (`timm.list_models`) triggers the `__init__`, so the change is transparent to other
code. Only the command calls `defer_unused`; training and the Python API import the packages as they are.
"""

import importlib
import re
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

_DEFERRED = ("torchvision", "torchvision.models", "torchvision.ops", "timm", "timm.data", "timm.models")
_LOCK = RLock()


def timm_with(network: str) -> ModuleType:
    """Return timm with at least this network registered for `create_model`, `is_model` and `get_pretrained_cfg`."""
    timm = importlib.import_module("timm")
    if "__getattr__" in vars(timm):  # deferred
        architecture = network.split(".", maxsplit=1)[0].encode()
        defines = re.compile(rb"^def %s\(" % re.escape(architecture), re.MULTILINE)
        files = Path(*sys.modules["timm.models"].__path__).glob("[!_]*.py")
        found = next((file.stem for file in files if defines.search(file.read_bytes())), None)
        if found is None:  # a deprecated or unknown name
            timm.list_models()
        else:
            importlib.import_module(f"timm.models.{found}")
    return timm


def _defer(name: str) -> None:
    """Put a package into `sys.modules` that runs its `__init__` on the first access to a missing attribute."""
    spec = find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    package, loader = module_from_spec(spec), spec.loader

    def complete(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        with _LOCK:
            if vars(package).pop("__getattr__", None):
                if name == "timm":
                    importlib.reload(importlib.import_module("timm.models._hub"))  # this time with the hub's client
                top = vars(sys.modules["torchvision"]).get("__getattr__")
                if name == "torchvision.ops" and top:  # torchvision's __init__ registers the gradients of the operators
                    top("datasets")
                loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = complete
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def defer_unused() -> None:
    """Defer the packages unless they are imported already, and set the timm functions that do not import all networks."""
    if "timm" in sys.modules or "torchvision" in sys.modules:
        return
    for name in _DEFERRED:
        _defer(name)
    timm = sys.modules["timm"]
    constants = vars(importlib.import_module("timm.data.constants"))  # networks import these from timm.data
    vars(sys.modules["timm.data"]).update({name: value for name, value in constants.items() if name.isupper()})
    vars(timm)["__version__"] = importlib.import_module("timm.version").__version__
    hub = sys.modules.get("huggingface_hub")
    sys.modules["huggingface_hub"] = None  # type: ignore[assignment]  # timm goes without it then
    try:
        importlib.import_module("timm.models._hub")
    finally:
        del sys.modules["huggingface_hub"]
        if hub is not None:
            sys.modules["huggingface_hub"] = hub
    registry, factory = (importlib.import_module(f"timm.models.{name}") for name in ("_registry", "_factory"))
    vars(timm).update(
        create_model=factory.create_model, is_model=registry.is_model, get_pretrained_cfg=registry.get_pretrained_cfg
    )

"""On PYTHONPATH, this installs the fault layer in pool workers, which import nothing from the tests."""

import importlib.util
import os
from pathlib import Path

if "FASHIONKIT_FAULT" in os.environ:
    specification = importlib.util.spec_from_file_location("fault_layer", Path(__file__).parents[1] / "layer.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.install_from_environment()

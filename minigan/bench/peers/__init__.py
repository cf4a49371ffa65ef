"""Other libraries that are measured beside minigan; only this package may import a framework.

A module that times training steps has `get_threads`, `set_threads` and a table `STEPS`, which holds
the function that makes a contender's step by the name of the contender.
"""

from __future__ import annotations

import importlib
from types import ModuleType

# The package that each module imports.
PACKAGES = {
    "pytorch": "torch",
    "pytorch_conv": "torch",
    "pytorch_device": "torch",
    "xla": "jax",
    "xla_device": "jax",
}


def load(name: str) -> ModuleType | None:
    """Return the module `peers.<name>`, or None if the package that it imports is not installed."""
    try:
        importlib.import_module(PACKAGES[name])
    except ImportError:
        return None
    return importlib.import_module(f".{name}", __name__)

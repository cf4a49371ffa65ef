"""Other libraries that are measured beside minigan: the one package that may import a framework.

A module that times training steps has `STEPS`, by a contender's name the function that makes its
step, and `get_threads` and `set_threads`.
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
}


def load(name: str) -> ModuleType | None:
    """Return the module `peers.<name>`, or None if the package that it imports is not installed."""
    try:
        importlib.import_module(PACKAGES[name])
    except ImportError:
        return None
    return importlib.import_module(f".{name}", __name__)

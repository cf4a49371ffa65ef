"""Other libraries, to be measured beside minigan: the one place that may import a framework.

A module that times steps has `STEPS`, by a contender's name what makes its step, and
`get_threads` and `set_threads`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

PACKAGES = {
    "pytorch": "torch",
    "pytorch_conv": "torch",
    "pytorch_device": "torch",
    "xla": "jax",
}


def load(name: str) -> ModuleType | None:
    """The module `peers.<name>`, or None where the package that it needs is not installed."""
    try:
        importlib.import_module(PACKAGES[name])
    except ImportError:
        return None
    return importlib.import_module(f".{name}", __name__)

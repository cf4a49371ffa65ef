"""Other libraries, to be measured beside minigan: the one place that may import a framework."""

from __future__ import annotations

import importlib
from types import ModuleType


def load_pytorch(name: str = "pytorch") -> ModuleType | None:
    """The module `peers.pytorch`, or another one here, or None where PyTorch is not installed."""
    try:
        importlib.import_module("torch")
    except ImportError:
        return None
    return importlib.import_module(f".{name}", __name__)

"""Other libraries, to be measured beside minigan: the one place that may import a framework."""

from __future__ import annotations

from types import ModuleType


def load_pytorch() -> ModuleType | None:
    """The module `peers.pytorch`, or None where PyTorch is not installed."""
    try:
        import torch
    except ImportError:
        return None
    from . import pytorch

    return pytorch

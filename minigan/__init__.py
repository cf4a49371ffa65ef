"""minigan: GANs from scratch, from automatic differentiation down to the kernels."""

import typing as _typing
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

# The kernels lie inside the package where it is installed, and beside it in a checkout.
if (_kernels := _find_spec("minigan.kernels")) is None:
    raise ImportError(
        "minigan is imported from a source checkout, where its kernels lie in a folder beside it;"
        " install it first: pip install -e ."
    )
if _Path(_kernels.origin or "").resolve().parents[1] not in _Path(__file__).resolve().parents[:2]:
    raise ImportError(
        f"minigan is imported from {_Path(__file__).parent}, but its kernels from"
        f" {_Path(_kernels.origin or '').parent}, of another checkout; install this one:"
        " pip install -e ."
    )

from . import cuda, data, metrics, nn, ops, optim
from .engine import random
from .engine.autograd import grad
from .engine.capture import capture
from .engine.check import check_gradients
from .engine.creation import arange, full, ones, ones_like, zeros, zeros_like
from .engine.device import Device, get_device, use_device
from .engine.kernel_check import check
from .engine.op import Op
from .engine.random import manual_seed
from .engine.tensor import Tensor, no_grad, tensor
from .engine.update import Update
from .gan import losses
from .ops import concatenate, stack, where
from .training.checkpoint import load, save
from .training.config import Config
from .training.trainer import Trainer
from .utils.pytorch_names import missing_name as _missing_name

Op.library = frozenset(Op.registry)

__all__ = [
    "Config",
    "Device",
    "Op",
    "Tensor",
    "Trainer",
    "Update",
    "arange",
    "capture",
    "check",
    "check_gradients",
    "concatenate",
    "cuda",
    "data",
    "full",
    "get_device",
    "grad",
    "load",
    "losses",
    "manual_seed",
    "metrics",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "ops",
    "optim",
    "random",
    "save",
    "stack",
    "tensor",
    "use_device",
    "where",
    "zeros",
    "zeros_like",
]

if not _typing.TYPE_CHECKING:  # where it would declare any name

    def __getattr__(name: str) -> object:
        """Raise AttributeError, with the fix for names of PyTorch's and for those of `mg.ops`."""
        raise _missing_name(name, ops.__all__)

"""minigan: how a GAN really works, down to the kernel."""

from pathlib import Path

# In a source checkout the kernels lie beside this package, not in it (see pyproject.toml).
if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

from . import check, data, losses, metrics, nn, ops, optim, random
from .autograd import grad
from .capture import capture
from .checkpoint import load, save
from .config import Config
from .device import Device, get_device, use_device
from .op import Op, Update
from .random import manual_seed
from .tensor import Tensor, no_grad, tensor
from .trainer import Trainer

__all__ = [
    "Config",
    "Device",
    "Op",
    "Tensor",
    "Trainer",
    "Update",
    "capture",
    "check",
    "data",
    "get_device",
    "grad",
    "load",
    "losses",
    "manual_seed",
    "metrics",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "random",
    "save",
    "tensor",
    "use_device",
]

"""minigan: how a GAN really works, down to the kernel."""

try:
    from . import kernels
except ImportError as error:
    if error.name != "minigan.kernels":
        raise
    raise ImportError(
        "minigan is imported from a source checkout, where its kernels lie in a folder beside it;"
        " install it first: pip install -e ."
    ) from None

from . import data, metrics, nn, ops, optim
from .engine import check, random
from .engine.autograd import grad
from .engine.capture import capture
from .engine.device import Device, get_device, use_device
from .engine.op import Op, Update
from .engine.random import manual_seed
from .engine.tensor import Tensor, no_grad, tensor
from .gan import losses
from .training.checkpoint import load, save
from .training.config import Config
from .training.trainer import Trainer

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

"""minigan: how a GAN really works, down to the kernel."""

from pathlib import Path

# In a source checkout the kernels lie beside this package, not in it (see pyproject.toml).
if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

from . import check, losses, nn, ops, optim, random
from .autograd import grad
from .device import Device, get_device, use_device
from .op import Op, Update
from .random import manual_seed
from .tensor import Tensor, no_grad, tensor

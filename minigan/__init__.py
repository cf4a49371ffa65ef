"""minigan: GANs from scratch, from automatic differentiation down to the kernels."""

import typing as _typing
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path
from typing import Any as _Any

from .utils import interrupts as _interrupts

if _interrupts.is_command():
    _interrupts.end_quietly()

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

from . import adversarial, cuda, data, export, metrics, nn, ops, optim
from .engine import random
from .engine.autograd import grad, jacobian
from .engine.capture import capture
from .engine.check import check_gradients
from .engine.creation import arange, full, ones, ones_like, zeros, zeros_like
from .engine.device import Device, get_device, use_device
from .engine.kernel_check import check
from .engine.op import Op
from .engine.precision import matmul_precision
from .engine.random import manual_seed
from .engine.tensor import Tensor, no_grad, tensor
from .engine.update import Update
from .gan import losses, models
from .ops import concatenate, stack, where
from .training.checkpoint import load, save
from .training.config import Config
from .training.trainer import Trainer
from .utils.pytorch_names import missing_name as _missing_name
from .vae import VAE

Op.library = frozenset(Op.registry)

if _typing.TYPE_CHECKING:
    from . import doctor
    from .training.saved_run import SavedRun, load_run
    from .training.train import train
    from .translation.config import TranslationConfig
    from .translation.saved import SavedTranslation, load_translation
    from .translation.train import train_translation

__all__ = [
    "VAE",
    "Config",
    "Device",
    "Op",
    "SavedRun",
    "SavedTranslation",
    "Tensor",
    "Trainer",
    "TranslationConfig",
    "Update",
    "adversarial",
    "arange",
    "capture",
    "check",
    "check_gradients",
    "concatenate",
    "cuda",
    "data",
    "doctor",
    "export",
    "full",
    "get_device",
    "grad",
    "jacobian",
    "load",
    "load_run",
    "load_translation",
    "losses",
    "manual_seed",
    "matmul_precision",
    "metrics",
    "models",
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
    "train",
    "train_translation",
    "use_device",
    "where",
    "zeros",
    "zeros_like",
]

# Names that are imported when they are first used, by their modules: the import takes long, and a
# program with a training loop of its own does not need them.
_LAZY = {
    "SavedRun": ".training.saved_run",
    "SavedTranslation": ".translation.saved",
    "TranslationConfig": ".translation.config",
    "doctor": ".doctor",
    "load_run": ".training.saved_run",
    "load_translation": ".translation.saved",
    "train": ".training.train",
    "train_translation": ".translation.train",
}

__version__: str


def _lazy_attribute(name: str) -> _Any:
    """Return an attribute of this module that is made when it is first used.

    Raises:
        AttributeError: there is none; the message has the fix for names of PyTorch and `mg.ops`.
    """
    if name == "__version__":
        from importlib.metadata import version

        value: _Any = version("minigan")
    elif name in _LAZY:
        from importlib import import_module

        module = import_module(_LAZY[name], __name__)
        value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    else:
        raise _missing_name(name, ops.__all__)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "__version__"})


if not _typing.TYPE_CHECKING:  # mypy knows this name alone
    __getattr__ = _lazy_attribute

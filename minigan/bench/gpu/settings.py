"""What is measured on a GPU, and the tiny sizes with which the emulator tries the command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from ...gan.models import Dcgan, Perceptrons
from ..kernels import KERNELS
from ..plan import DEVICE_TASKS, DevicePlan, Task
from ..steps import EAGER

# Kernels, the most important first: those with targets.
FIRST = ("matmul", "conv2d", "leaky_relu", "add", "exp", "adam", "transpose", "sum")
KERNEL_ORDER = (*FIRST, *(name for name in KERNELS if name not in FIRST))
# The contenders of training steps, in two parts: compiling takes PyTorch and XLA up to minutes.
QUICK_STEPS = (EAGER, "PyTorch", "PyTorch, CUDA graph")
COMPILED_STEPS = ("PyTorch, compiled", "JAX")


@dataclass(frozen=True)
class Settings:
    """The plans, repeats and tests for a device.

    Args:
        peer_device: the device of PyTorch and JAX beside it.
        kernels: few sizes, beside the libraries; the largest ones are those of the targets.
        steps: the tasks, those of the targets first.
        sizes: many sizes, beside the CPU.
        repeats: the number of rounds.
        tests: files and folders of tests, those of the kernels first.
        sanitized: the same for compute-sanitizer, which is slow.
    """

    peer_device: str
    kernels: DevicePlan
    steps: DevicePlan
    sizes: DevicePlan
    repeats: int
    tests: tuple[str, ...]
    sanitized: tuple[str, ...]


# One batch each: compiling takes PyTorch long for every one. `sizes` has the others.
_TASKS = {
    name: replace(DEVICE_TASKS[name], batches=DEVICE_TASKS[name].batches[:1])
    for name in ("MLP", "DCGAN", *DEVICE_TASKS)
}
_TINY_TASKS = {
    "MLP": Task(Perceptrons("", (8,), (8,), 5), (1, 4, 4), (64,)),
    "DCGAN": Task(Dcgan("", 3, 5), (1, 16, 16), (64,)),
}
_tiny_plan = partial(
    DevicePlan, kernel_seconds=0.0, step_seconds=0.0, max_call_seconds=60.0, rest_seconds=0.0
)

SETTINGS: Mapping[str, Settings] = MappingProxyType(
    {
        "cuda": Settings(
            peer_device="cuda",
            kernels=DevicePlan((1024, 4096), (2**22, 2**26)),
            steps=DevicePlan(tasks=_TASKS),
            sizes=DevicePlan(),
            repeats=5,
            tests=("tests/kernels", "tests/engine", "tests/nn", "tests/gan"),
            sanitized=("tests/kernels/test_cuda.py", "tests/kernels/test_kernels.py"),
        ),
        "cuda-emulator": Settings(
            peer_device="cpu",
            kernels=_tiny_plan((4, 16), (64, 4096)),
            steps=_tiny_plan(tasks=_TINY_TASKS),
            sizes=_tiny_plan((3, 4, 8), (64, 130, 1000), {}),
            repeats=2,
            tests=("tests/nn/test_layers.py",),
            sanitized=("tests/nn/test_layers.py",),
        ),
    }
)

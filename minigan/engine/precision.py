"""The precision of float32 matrix products on a GPU, for each Python thread and asyncio task."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import overload

from ..kernels.matmul.precision import PRECISIONS, current
from ..utils.names import choose


@overload
def matmul_precision(precision: None = None) -> str: ...
@overload
def matmul_precision(precision: str) -> AbstractContextManager[str]: ...
def matmul_precision(precision: str | None = None) -> str | AbstractContextManager[str]:
    """Set the precision of float32 matrix products on a GPU, or return its name.

        mg.matmul_precision("tf32")  # from here on, in this thread or asyncio task
        with mg.matmul_precision("tf32"):  # in this block
            logits = discriminator(images)
        mg.matmul_precision()  # "float32", the default

    "float32" multiplies in float32. "tf32" rounds both operands to TensorFloat32, 11 significant
    bits, and adds the products in float32, by tensor cores: the result differs from the exact one
    by at most about 2^-10 times the sum of the products' magnitudes, and a little more where the
    sum is long (kernels/matmul/README.md has the bound).
    These are PyTorch's "highest" and "high" of `torch.set_float32_matmul_precision`, which holds
    for all threads; this setting is of one thread or task, as is `use_device`.

    It changes `matmul` and `dense` of float32 tensors on the devices `cuda` and `cuda-emulator`,
    and so their gradients, which take the precision that is set when `grad` computes them. Other
    dtypes, convolutions, and the devices `cpu` and `reference` compute as without it. A GPU of
    compute capability below 8.0 has no TF32: it multiplies in float32, and a warning says so once.
    A captured step keeps the precision of its capture, and is captured again under another one.

    Raises:
        ValueError: the name is unknown.
    """
    return current.get() if precision is None else _Setting(precision)


class _Setting(AbstractContextManager[str]):
    """A precision that is set when this object is made, and is undone by the end of a block."""

    def __init__(self, precision: str) -> None:
        choose("matmul_precision", precision, dict.fromkeys(PRECISIONS))
        self._before = current.get()
        current.set(precision)

    def __enter__(self) -> str:
        return current.get()

    def __exit__(self, *error: object) -> None:
        current.set(self._before)

"""Kernels of a `.cu` file as Python functions: `module.kernel[grid, block](...)`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .launcher import KernelError, Launcher, file_version
from .parameters import file_parameters


class Module:
    """The kernels of a `.cu` file on a GPU or in the emulator, as attributes.

        module.saxpy[grid, block](n, 2.0, x, y)   # saxpy<<<grid, block>>>(n, 2.0, x, y)

    Arrays are numpy's in the emulator and cupy's on a GPU, and are written in place. Python numbers
    become the types that the kernel declares. `dtype` is that of REAL, if the file uses it.
    """

    def __init__(self, launcher: Launcher, source: Path, dtype: Any = "float32") -> None:
        self._launcher, self._source, self._dtype = launcher, source, np.dtype(dtype)
        file_version(source)  # KernelError if the file cannot be read

    def __repr__(self) -> str:
        return f"Module({str(self._source)!r}, {self._launcher.name}: {', '.join(self._kernels())})"

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._kernels()]

    def _kernels(self) -> list[str]:
        return list(file_parameters(file_version(self._source), self._dtype))

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._kernels():
            names = ", ".join(self._kernels())
            raise AttributeError(
                f"{self._source.name} has no kernel {name!r}; it has {names or 'none'}"
            )
        return Kernel(self, name)

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return a new array of undefined contents, by default of `dtype`."""
        return self._launcher.empty(shape, np.dtype(dtype or self._dtype))

    @property
    def counts(self) -> Any:
        """The memory transactions of all launches so far, of the emulator's checked build."""
        return self._launcher.counts  # type: ignore[attr-defined]

    def variable(self, name: str) -> Any:
        """Return a __device__ or __constant__ variable as an array of bytes, to read and write.

        module.variable("weights").view("float32")[:] = weights
        """
        return self._launcher.variable(self._source, self._dtype, name)


class Kernel:
    """A kernel of a Module, which `kernel[grid, block]` or `kernel[grid, block, shared]` launches.

    `grid` and `block` are numbers or tuples of up to three, x first; `shared` is the size of the
    dynamic shared memory in bytes.
    """

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name

    def __getitem__(self, configuration: Any) -> Callable[..., None]:
        if not isinstance(configuration, tuple) or len(configuration) not in (2, 3):
            raise TypeError(
                f"{self.name}[{configuration}]: write {self.name}[grid, block](...) or"
                f" {self.name}[grid, block, shared_bytes](...), as in"
                " kernel<<<grid, block, shared>>>(...)"
            )
        grid, block, *shared = configuration
        sizes = [self._size(x) for x in (grid, block)]

        def launch(*arguments: Any) -> None:
            self._launch(sizes, list(arguments), *shared)

        return launch

    def _size(self, value: Any) -> tuple[int, ...]:
        """Return one to three integers of at least 0, where nothing runs.

        Raises:
            TypeError, ValueError: these are others.
        """
        numbers = value if isinstance(value, tuple | list) else (value,)
        try:
            size = tuple(map(operator.index, numbers))
        except TypeError:
            raise TypeError(
                f"{self.name}: a grid or block is an integer or up to three, not {value!r};"
                " -(-n // 256) blocks of 256 threads cover n elements"
            ) from None
        if not 1 <= len(size) <= 3 or min(size) < 0:
            raise ValueError(f"{self.name}: a grid or block of {value!r}: one to three, each >= 0")
        return size

    def __call__(self, *arguments: Any) -> None:
        raise TypeError(
            f"{self.name}(...) has no grid: write {self.name}[grid, block](...), as in"
            " kernel<<<grid, block>>>(...)"
        )

    def _launch(self, sizes: list[Any], arguments: list[Any], shared_bytes: int = 0) -> None:
        module = self.module
        launcher, source = module._launcher, module._source
        for i, x in enumerate(arguments):
            if hasattr(x, "__array__") and not isinstance(x, (launcher.array_type, np.generic)):
                kind = launcher.array_type
                raise KernelError(
                    f"{self.name} ({source.name}): argument {i} is a {type(x).__module__}"
                    f".{type(x).__name__}; kernels of the {launcher.name} take"
                    f" {kind.__module__}.{kind.__name__}"
                )
        grid, block = sizes
        with launcher.borrowed(arguments) as borrowed:
            launcher.launch(source, self.name, module._dtype, grid, block, borrowed, shared_bytes)

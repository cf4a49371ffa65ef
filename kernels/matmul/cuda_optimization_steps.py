"""From a thread per element to `cuda.multiply`, one idea a rung: `rung(gpu, a, b) -> c` in RUNGS.

Every rung takes contiguous (m, k) and (k, n) of one dtype, float32 or float64. The source
tells what each changes, the README what it brought.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..runtime.cuda.launcher import Launcher, blocks
from .cuda import multiply

SOURCE = Path(__file__).with_name("optimization_steps.cu")
Rung = Callable[[Launcher, Any, Any], Any]
# kernel: edge of the tile of C that a block makes (None: 256 elements in a row), threads of a block
SHAPES: dict[str, tuple[int | None, tuple[int, ...]]] = {
    "naive": (None, (256,)),
    "coalesced": (None, (256,)),
    "shared_tiles": (32, (32, 32)),
    "register_tiles": (64, (16, 16)),
}


def launch(gpu: Launcher, kernel: str, a: Any, b: Any, source: Path = SOURCE) -> Any:
    """A @ B by a kernel of `optimization_steps.cu`, or of another file with kernels like it."""
    (m, k), n = a.shape, b.shape[1]
    edge, threads = SHAPES[kernel]
    c = gpu.empty((m, n), a.dtype)
    grid = (blocks(n, edge), blocks(m, edge)) if edge else (blocks(m * n, threads[0]),)
    gpu.launch(source, kernel, a.dtype, grid, threads, (a, b, c, m, n, k))
    return c


def _rung(kernel: str) -> Rung:
    return lambda gpu, a, b: launch(gpu, kernel, a, b)


def vectorised(gpu: Launcher, a: Any, b: Any) -> Any:
    """`cuda.multiply` with its middle tile and K in one piece, whatever the size."""
    return multiply(gpu, a, b, chosen=("product_64", 64, 256, max(16, a.shape[1])))


RUNGS: dict[str, Rung] = {
    **{kernel.replace("_", " "): _rung(kernel) for kernel in SHAPES},
    "vectorised, double-buffered": vectorised,
}

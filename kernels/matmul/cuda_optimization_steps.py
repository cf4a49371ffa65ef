"""The optimization steps of a matrix product on a GPU: STEPS = {name: step(gpu, a, b) -> c}.

Every step takes contiguous (m, k) and (k, n) of one dtype, float32 or float64, and all give the
same bits. The step in TF32_STEPS takes float32, and rounds it.
optimization_steps.cu explains what each step changes; the README has the counts of each. The names
are those of SGEMM_CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..runtime.cuda.launcher import Launcher, ceil_div
from .cuda import multiply

SOURCE = Path(__file__).with_name("optimization_steps.cu")
Step = Callable[[Launcher, Any, Any], Any]
# By kernel: the edge of a block's tile of C (None: 256 elements in a row), and the threads.
LAUNCHES: dict[str, tuple[int | None, tuple[int, ...]]] = {
    "naive": (None, (256,)),
    "global_memory_coalescing": (None, (256,)),
    "shared_memory_tiling": (32, (32, 32)),
    "register_blocking": (64, (16, 16)),
}


def _step(kernel: str) -> Step:
    edge, block = LAUNCHES[kernel]

    def step(gpu: Launcher, a: Any, b: Any) -> Any:
        (m, k), n = a.shape, b.shape[1]
        c = gpu.empty((m, n), a.dtype)
        grid = (ceil_div(n, edge), ceil_div(m, edge)) if edge else (ceil_div(m * n, block[0]),)
        gpu.launch(SOURCE, kernel, a.dtype, grid, block, (a, b, c, m, n, k))
        return c

    return step


def vectorized_double_buffered(gpu: Launcher, a: Any, b: Any) -> Any:
    """Compute A @ B by cuda.cu with its 64 x 64 tile and K in one split, for any size."""
    return multiply(gpu, a, b, overriding_plan=("product_64", 64, 128, max(16, a.shape[1])))


def tensor_cores(gpu: Launcher, a: Any, b: Any) -> Any:
    """Compute A @ B by tf32.cu with its 64 x 64 tile and K in one split, for any size."""
    plan = ("tf32_64", 64, 128, max(16, a.shape[1]))
    return multiply(gpu, a, b, overriding_plan=plan, tf32=True)


STEPS: dict[str, Step] = {
    "naive": _step("naive"),
    "global memory coalescing": _step("global_memory_coalescing"),
    "shared-memory tiling": _step("shared_memory_tiling"),
    "2D register blocking": _step("register_blocking"),
    "vectorized access, double buffering": vectorized_double_buffered,
}
TF32_STEPS: dict[str, Step] = {"tensor cores": tensor_cores}

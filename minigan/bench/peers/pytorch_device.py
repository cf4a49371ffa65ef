"""PyTorch on a GPU: each kernel, and the training step eager, as a CUDA graph, and compiled.

`device` is PyTorch's name of one; on "cpu" all but the graph runs too, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, leaky_relu

from .pytorch import compiled_step, eager_step, get_threads, set_threads

__all__ = ["get_threads", "kernel_calls", "set_threads", "step_calls", "wait"]

Call = Callable[[], object]
LIBRARIES = {"matmul": "cuBLAS", "conv2d": "cuDNN"}  # of what counts FLOP, on a GPU


def wait(device: str) -> Call:
    """What returns when everything that was started is done."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _no_tf32() -> None:
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # a convolution's has a switch of its own


# ----------------------------------------------------------------------------------------- kernels
def _adam(p: Tensor, g: Tensor, mean: Tensor, square: Tensor, numbers: Tensor) -> Call:
    """The one-kernel Adam, on moments of its own."""
    p.requires_grad_()
    p.grad = g
    return torch.optim.Adam([p], 1e-4, (0.5, 0.999), fused=True).step


def _normalize_grad(g: Tensor, x: Tensor, scale: Tensor) -> Call:
    """With mean and root that its forward pass has kept."""
    aten = torch.ops.aten
    _, mean, root = aten.native_batch_norm(x, scale, None, None, None, True, 0.0, 1e-5)
    kept = scale, None, None, mean, root, True, 1e-5, [True, False, False]
    return lambda: aten.native_batch_norm_backward(g, x, *kept)[0]


# What `bench.kernels.KERNELS` does, from the same operands.
CALLS: dict[str, Callable[..., Call]] = {
    "matmul": lambda a, b: partial(torch.matmul, a, b),
    "conv2d": lambda x, w: partial(conv2d, x, w, None, 2, 1),
    "leaky_relu": lambda x: partial(leaky_relu, x, 0.2),
    "exp": lambda x: x.exp,
    "add": lambda a, b: partial(torch.add, a, b),
    "sum": lambda x: x.sum,
    "transpose": lambda x: x.t().contiguous,
    "gather": lambda x, rows: partial(x.index_select, 0, rows.view(-1)),
    "normalize": lambda x, scale, shift: partial(batch_norm, x, None, None, scale, shift, True),
    "normalize_grad": _normalize_grad,
    "adam": _adam,
    "normal": lambda position, seed, like: partial(torch.randn, like.shape, device=like.device),
}


def kernel_calls(
    name: str, arrays: Callable[[], list[np.ndarray]], size: int, device: str
) -> dict[str, Callable[[], Call]]:
    """By name, what makes the kernel in PyTorch, and a copy that moves `size` bytes in all.

    What counts FLOP has no copy for a ceiling, but a library on a GPU. float32 is float32: no TF32.
    """

    def kernel() -> Call:
        _no_tf32()
        return CALLS[name](*(torch.from_numpy(x).to(device) for x in arrays()))

    def copy() -> Call:
        source, target = torch.zeros(2, max(1, size // 2), dtype=torch.uint8, device=device)
        return partial(target.copy_, source)

    if name in LIBRARIES:
        return {LIBRARIES[name] if device == "cuda" else "PyTorch": kernel}
    return {"PyTorch": kernel, "copy": copy}


# ------------------------------------------------------------------------------------------- steps
def graphed(step: Call) -> Call:
    """The step as a CUDA graph: warmed up on a stream of its own, recorded once, replayed."""
    side, current = torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(_held: Call = step) -> None:  # the graph's weights are the step's: it must live
        graph.replay()

    return replay


def step_calls(
    given: Sequence[Any], device: str
) -> dict[str, Callable[[], Callable[..., tuple[Tensor, Tensor]]]]:
    """By name, what makes each kind of step, from equal weights, with Adam in one kernel.

    The losses stay on the device. `given` are the positional arguments of `eager_step`.
    """
    _no_tf32()
    keep: dict[str, Any] = {"device": device, "read": Tensor.detach}

    def eager() -> Call:
        return eager_step(*given, **keep, fused=True, capturable=device == "cuda")[0]

    kinds: dict[str, Callable[[], Any]] = {
        "PyTorch": eager,
        "PyTorch, compiled": lambda: compiled_step(*given, **keep)[0],
    }
    if device == "cuda":
        kinds["PyTorch, CUDA graph"] = lambda: graphed(eager())
    return kinds

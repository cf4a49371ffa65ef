"""PyTorch on a GPU: each kernel, and the training step eager, as a CUDA graph, and compiled.

`device` is PyTorch's name of a device; for tests, everything but the graph also runs on "cpu".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, leaky_relu

from .pytorch import compiled_step, eager_step, get_threads, set_threads

__all__ = ["get_threads", "kernel_calls", "set_threads", "step_calls", "wait"]

Call = Callable[[], object]
LIBRARIES = {"matmul": "cuBLAS", "conv2d": "cuDNN"}  # that PyTorch calls on a GPU


def wait(device: str) -> Call:
    """Return a function that waits until all launched work is done."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _disable_tf32() -> None:
    """Compute float32 products and convolutions in float32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


# ----------------------------------------------------------------------------------------- kernels
def _adam(p: Tensor, g: Tensor, mean: Tensor, square: Tensor, state: Tensor) -> Call:
    """Return the fused Adam's step; it has its own moments."""
    p.requires_grad_()
    p.grad = g
    return torch.optim.Adam([p], 1e-4, (0.5, 0.999), fused=True).step


def _normalize_grad(g: Tensor, x: Tensor, scale: Tensor) -> Call:
    """Return the backward pass, which uses the statistics of a forward pass made here."""
    aten = torch.ops.aten
    _, mean, root = aten.native_batch_norm(x, scale, None, None, None, True, 0.0, 1e-5)
    options = scale, None, None, mean, root, True, 1e-5, [True, False, False]
    return lambda: aten.native_batch_norm_backward(g, x, *options)[0]


# The kernels of `bench.kernels.KERNELS`, from the same operands.
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
    """Return by name the makers of PyTorch's kernel, and of a copy that moves `size` bytes in all.

    A product or convolution, which a copy does not bound, has no copy; on a GPU it is named after
    its library. TF32 is disabled.
    """

    def kernel() -> Call:
        _disable_tf32()
        return CALLS[name](*(torch.from_numpy(x).to(device) for x in arrays()))

    def copy() -> Call:
        source, target = torch.zeros(2, max(1, size // 2), dtype=torch.uint8, device=device)
        return partial(target.copy_, source)

    if name in LIBRARIES:
        return {LIBRARIES[name] if device == "cuda" else "PyTorch": kernel}
    return {"PyTorch": kernel, "copy": copy}


# ------------------------------------------------------------------------------------------- steps
def capture_graph(step: Call) -> Call:
    """Return the replay of a CUDA graph of the step, captured after three warm-up runs."""
    side, current = torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    # The default argument keeps the step alive: it owns the weights that the graph updates.
    def replay(_step: Call = step) -> None:
        graph.replay()

    return replay


def step_calls(
    arguments: Mapping[str, Any], device: str
) -> dict[str, Callable[[], Callable[..., tuple[Tensor, Tensor]]]]:
    """Return by name the makers of each kind of step from equal weights, with the fused Adam.

    The losses stay on the device. `arguments` are those of `eager_step`.
    """
    _disable_tf32()
    options: dict[str, Any] = {"device": device, "read": Tensor.detach}

    def eager() -> Call:
        return eager_step(**arguments, **options, fused=True, capturable=device == "cuda")[0]

    makers: dict[str, Callable[[], Any]] = {
        "PyTorch": eager,
        "PyTorch, compiled": lambda: compiled_step(**arguments, **options)[0],
    }
    if device == "cuda":
        makers["PyTorch, CUDA graph"] = lambda: capture_graph(eager())
    return makers

"""PyTorch on a GPU: each kernel, and the training step eager, as a CUDA graph, and compiled.

`device` is PyTorch's name of one; on "cpu" all but the graph runs too, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

from .pytorch import perceptron

Call = Callable[[], object]
Step = Callable[..., tuple[Tensor, Tensor]]


def wait(device: str) -> Call:
    """What returns when everything that was started is done."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


# ----------------------------------------------------------------------------------------- kernels
def _adam(p: Tensor, g: Tensor, mean: Tensor, square: Tensor, numbers: Tensor) -> Call:
    """The one-kernel Adam, on moments of its own."""
    p.requires_grad_()
    p.grad = g
    return torch.optim.Adam([p], 1e-4, (0.5, 0.999), fused=True).step


# What `bench.kernels.KERNELS` does, from the same operands.
CALLS: dict[str, Callable[..., Call]] = {
    "matmul": lambda a, b: partial(torch.matmul, a, b),
    "leaky_relu": lambda x: partial(leaky_relu, x, 0.2),
    "exp": lambda x: x.exp,
    "add": lambda a, b: partial(torch.add, a, b),
    "sum": lambda x: x.sum,
    "transpose": lambda x: x.t().contiguous,
    "gather": lambda x, rows: partial(x.index_select, 0, rows.view(-1)),
    "adam": _adam,
    "normal": lambda position, seed, like: partial(torch.randn, like.shape, device=like.device),
}


def kernel_calls(
    name: str, arrays: Callable[[], list[np.ndarray]], size: int, device: str
) -> dict[str, Callable[[], Call]]:
    """By name, what makes the kernel in PyTorch, and a copy that moves `size` bytes in all.

    A product's ceiling is no copy: on a GPU, PyTorch's own is cuBLAS. float32 is float32: no TF32.
    """

    def kernel() -> Call:
        torch.set_float32_matmul_precision("highest")
        return CALLS[name](*(torch.from_numpy(x).to(device) for x in arrays()))

    def copy() -> Call:
        source, target = torch.zeros(2, max(1, size // 2), dtype=torch.uint8, device=device)
        return partial(target.copy_, source)

    if name == "matmul":
        return {"cuBLAS" if device == "cuda" else "PyTorch": kernel}
    return {"PyTorch": kernel, "copy": copy}


# ------------------------------------------------------------------------------------------- steps
def eager_step(
    state_g: Mapping[str, np.ndarray],
    state_d: Mapping[str, np.ndarray],
    data: np.ndarray,
    device: str,
    bounded: bool,
    slope: float,
    lr: float,
    betas: tuple[float, float],
    wrap: Callable[[Any], Any] = lambda function: function,
) -> Step:
    """`steps.minigan_step`, from equal weights, with Adam in one kernel; `wrap` may compile.

    The generator's turn passes a second discriminator, `judge`, which shares the first one's
    memory and needs no gradients: PyTorch, too, makes none for D's weights there.
    """
    torch.set_float32_matmul_precision("highest")
    generator = perceptron(state_g, slope, *[nn.Tanh()] * bounded).to(device)
    discriminator = perceptron(state_d, slope).to(device)
    judge = perceptron(state_d, slope).to(device).requires_grad_(False)
    for shared, parameter in zip(judge.parameters(), discriminator.parameters(), strict=True):
        shared.data = parameter.data
    n, real = len(data), torch.from_numpy(data).to(device)
    latent_size = state_g["0.weight"].shape[0]
    optimizer_g, optimizer_d = (
        torch.optim.Adam(net.parameters(), lr, betas, fused=True, capturable=device == "cuda")
        for net in (generator, discriminator)
    )

    def discriminate(fake: Tensor) -> Tensor:
        logits = discriminator(torch.cat([real, fake]))
        return softplus(-logits[:n]).mean() + softplus(logits[n:]).mean()

    def deceive(fake: Tensor) -> Tensor:
        return softplus(-judge(fake)).mean()

    generate, discriminate, deceive = map(wrap, (generator, discriminate, deceive))

    def step(latent: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        if latent is None:
            z = torch.randn(n, latent_size, device=device)
        else:
            z = torch.from_numpy(latent).to(device)
        fake = generate(z)
        loss_d = discriminate(fake.detach())
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()

        loss_g = deceive(fake)
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward()
        optimizer_g.step()
        return loss_d.detach(), loss_g.detach()

    return step


def graphed(step: Step) -> Call:
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

    def replay(_held: Step = step) -> None:  # the graph's weights are the step's: it must live
        graph.replay()

    return replay


def step_calls(make: Callable[..., Step], device: str) -> dict[str, Callable[[], Call]]:
    """By name, what makes each kind of step; `make(wrap=...)` is `eager_step`, given its rest."""
    kinds: dict[str, Callable[[], Call]] = {
        "PyTorch": make,
        "PyTorch, compiled": lambda: make(wrap=torch.compile),
    }
    if device == "cuda":
        kinds["PyTorch, CUDA graph"] = lambda: graphed(make())
    return kinds

"""The same numbers as PyTorch's: embedding, minibatch layers, augmentation, clipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close
from torch_helpers import derivatives, torch_derivatives

import minigan as mg
from minigan import nn
from minigan.gan.augment import diff_augment
from minigan.optim import clip_grad_norm, clip_grad_value

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
F = torch.nn.functional


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def compare(
    device: str, f: Callable[..., Any], other: Callable[..., Any], *shapes: tuple[int, ...]
) -> None:
    """Values, first and second derivatives, to 1e-10 of each tensor's largest number."""
    rng = np.random.default_rng(sum(map(sum, shapes)))
    arrays = [rng.standard_normal(shape) for shape in shapes]
    pairs = zip(derivatives(f, arrays, device), torch_derivatives(other, arrays), strict=True)
    for y, want in pairs:
        assert_close(y, want, 1e-10 * max(1.0, float(np.abs(want).max(initial=0.0))))


# -------------------------------------------------------------------------------------- layers
@DEVICES
def test_embedding(device: str) -> None:
    labels = np.array([1, 3, 3, 0, 1, 1])
    layer = nn.Embedding(5, 3, device=device)

    def embed(weight: mg.Tensor) -> mg.Tensor:
        layer.weight = weight
        return mg.ops.exp(layer(mg.tensor(labels, device=device)))

    compare(device, embed, lambda w: torch.exp(F.embedding(torch.tensor(labels), w)), (5, 3))


@DEVICES
def test_minibatch_discrimination(device: str) -> None:
    layer = nn.MinibatchDiscrimination(4, 3, 2, device=device)

    def ours(x: mg.Tensor, weight: mg.Tensor) -> mg.Tensor:
        layer.weight = weight
        return layer(x)

    def theirs(x: Any, weight: Any) -> Any:
        m = torch.einsum("na,abc->nbc", x, weight)
        apart = (m[:, None] - m[None]).abs().sum(-1)
        others = 1 - torch.eye(len(x), dtype=x.dtype)
        return torch.cat([x, (torch.exp(-apart) * others[..., None]).sum(1)], 1)

    compare(device, ours, theirs, (6, 4), (4, 3, 2))


@DEVICES
@pytest.mark.parametrize("shape", [(8, 3, 4, 5), (3, 2, 2, 2), (8, 5)])
def test_minibatch_deviation(device: str, shape: tuple[int, ...]) -> None:
    def theirs(x: Any) -> Any:
        """The layer of the authors' code, with group_size = 4."""
        n = len(x)
        group = min(4, n)
        y = x.reshape(group, n // group, *x.shape[1:])
        y = torch.sqrt((y - y.mean(0, keepdim=True)).square().mean(0) + 1e-8)
        y = y.mean(tuple(range(1, x.ndim)), keepdim=True)
        return torch.cat([x, y.repeat(group, 1, *x.shape[2:])], 1)

    compare(device, nn.MinibatchStdDev(), theirs, shape)


# ------------------------------------------------------------------------------- augmentation
class Reference:
    """The transforms of the authors' code (mit-han-lab/data-efficient-gans), with our draws.

    Whole numbers of [0, k) are theirs from torch.randint and here the floor of uniform numbers.
    """

    def __init__(self, n: int, device: str) -> None:
        self.n, self.device = n, device

    def uniform(self, low: float, high: float) -> Any:
        draw = mg.random.uniform(
            (self.n, 1, 1, 1), low, high, "float64", self.device, stream="augment"
        )
        return torch.tensor(draw.numpy())

    def integers(self, below: int) -> Any:
        return self.uniform(0, below).floor().long().reshape(self.n, 1, 1)

    def color(self, x: Any) -> Any:
        x = x + self.uniform(-0.5, 0.5)
        mean = x.mean(1, keepdim=True)
        x = (x - mean) * self.uniform(0, 2) + mean
        mean = x.mean([1, 2, 3], keepdim=True)
        return (x - mean) * self.uniform(0.5, 1.5) + mean

    def grid(self, *sizes: int) -> Any:
        return torch.meshgrid(*(torch.arange(k) for k in (self.n, *sizes)), indexing="ij")

    def translation(self, x: Any) -> Any:
        h, w = x.shape[2:]
        reach = [int(k * 0.125 + 0.5) for k in (h, w)]
        batch, rows, columns = self.grid(h, w)
        rows = rows + self.integers(2 * reach[0] + 1) - reach[0]
        columns = columns + self.integers(2 * reach[1] + 1) - reach[1]
        rows, columns = (rows + 1).clamp(0, h + 1), (columns + 1).clamp(0, w + 1)
        padded = F.pad(x, [1, 1, 1, 1]).permute(0, 2, 3, 1)
        return padded[batch, rows, columns].permute(0, 3, 1, 2)

    def cutout(self, x: Any) -> Any:
        h, w = x.shape[2:]
        part = [int(k * 0.5 + 0.5) for k in (h, w)]
        batch, rows, columns = self.grid(*part)
        rows = rows + self.integers(h + (1 - part[0] % 2)) - part[0] // 2
        columns = columns + self.integers(w + (1 - part[1] % 2)) - part[1] // 2
        mask = torch.ones(self.n, h, w, dtype=x.dtype)
        mask[batch, rows.clamp(0, h - 1), columns.clamp(0, w - 1)] = 0
        return x * mask[:, None]


@DEVICES
@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "color,translation,cutout"])
@pytest.mark.parametrize("shape", [(7, 3, 8, 5), (40, 1, 12, 13), (3, 2, 1, 2)])
def test_augmentation(device: str, policy: str, shape: tuple[int, ...]) -> None:
    reference = Reference(shape[0], device)

    def ours(x: mg.Tensor) -> mg.Tensor:
        mg.manual_seed(1)
        return mg.ops.power(diff_augment(x, policy), 3)

    def theirs(x: Any) -> Any:
        mg.manual_seed(1)
        for name in policy.split(","):
            x = getattr(reference, name)(x)
        return x**3

    compare(device, ours, theirs, shape)


# ----------------------------------------------------------------------------------- clipping
@DEVICES
@pytest.mark.parametrize("limit", [0.5, 5.0, 100.0])
def test_clipping(device: str, limit: float) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((3, 4), (5,), ())]
    pairs = (
        (clip_grad_norm, torch.nn.utils.clip_grad_norm_),
        (clip_grad_value, torch.nn.utils.clip_grad_value_),
    )
    for ours, theirs in pairs:
        parameters = [torch.zeros(a.shape, dtype=torch.float64) for a in map(np.asarray, arrays)]
        for p, a in zip(parameters, arrays, strict=True):
            p.grad = torch.tensor(a)
        theirs(parameters, limit)
        actual = ours([mg.tensor(a, device=device) for a in arrays], limit)
        for y, p in zip(actual, parameters, strict=True):
            assert_close(y.numpy(), p.grad.numpy(), 1e-14)

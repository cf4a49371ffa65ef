"""A function's value and its first and second derivatives, here and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigan as mg

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")


def derivatives(f: Callable[..., Any], arrays: list[np.ndarray], device: str) -> list[np.ndarray]:
    """Value, gradients and second derivatives (those of the sum of squared gradients)."""
    xs = [mg.tensor(a, device=device, requires_grad=True) for a in arrays]
    y = f(*xs)
    first = mg.grad(y.sum(), xs, create_graph=True)
    total: Any = sum((g * g + g * 0.5).sum() for g in first)
    second: Any = [None] * len(xs)
    if total.requires_grad:
        second = mg.grad(total, xs, allow_unused=True)
    return [
        y.numpy(),
        *_filled([None if g is None else g.numpy() for g in (*first, *second)], arrays),
    ]


def torch_derivatives(f: Callable[..., Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
    xs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = f(*xs)
    first = torch.autograd.grad(y.sum(), xs, create_graph=True)
    total = sum((g * g + g * 0.5).sum() for g in first)
    second: Any = [None] * len(xs)
    if total.requires_grad:
        second = torch.autograd.grad(total, xs, allow_unused=True)
    plain = [None if g is None else g.numpy(force=True) for g in (*first, *second)]
    return [y.detach().numpy(), *_filled(plain, arrays)]


def _filled(gradients: list[np.ndarray | None], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Zeros for None: one gradient per array, and once again for the second order."""
    pairs = zip(gradients, arrays * 2, strict=True)
    return [np.zeros_like(a) if g is None else g for g, a in pairs]

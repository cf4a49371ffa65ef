"""The table of derivatives at special points in minigan/ops/README.md, and how its rows are run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigan as mg
from minigan import ops

TABLE = Path(__file__).parents[1] / "minigan" / "ops" / "README.md"
# The names that expressions use beside x and y, with the functions of mg.ops.
OURS: dict[str, Callable[..., Any]] = {
    **{name: getattr(ops, name) for name in [*ops.elementwise.__all__, "binary_cross_entropy"]},
    "clip": lambda x: ops.clip(x, -1.0, 1.0),
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.2),
    "largest": lambda x, y: ops.max(ops.concatenate([x, y])),
    "smallest": lambda x, y: ops.min(ops.concatenate([x, y])),
    "norm": lambda x, y: ops.norm(ops.concatenate([x, y])),
    "std": lambda x, y: ops.std(ops.concatenate([x, y]), correction=1),
    "log_softmax": lambda x, y: ops.log_softmax(ops.concatenate([x, y]))[:1],
}


class Row(NamedTuple):
    """A function at a point: its gradient, and the derivatives of each of its elements."""

    expression: str
    point: list[float]
    gradient: list[float]
    second: list[float]
    torch_gradient: list[float]
    torch_second: list[float]


def _numbers(text: str) -> list[float]:
    return [float(x) for x in text.split()]


def read_table() -> list[Row]:
    """Return the rows of the table."""
    rows = []
    for line in TABLE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and re.match(r"`.*`$", cells[0]):
            gradient, second = cells[2:4]
            torch = [gradient, second] if cells[4:] == ["same", ""] else cells[4:]
            numbers = map(_numbers, (cells[1], gradient, second, *torch))
            rows.append(Row(cells[0].strip("`"), *numbers))
    return rows


def derivatives(row: Row, device: str) -> tuple[list[float], list[float]]:
    """Return the gradient and the second derivatives of a row, None as 0."""
    names = ("x", "y")[: len(row.point)]
    make = lambda x: mg.tensor(np.array([x]), device=device, requires_grad=True)  # noqa: E731
    xs = [make(x) for x in row.point]
    y = eval(row.expression, {}, {**OURS, **dict(zip(names, xs, strict=True))})
    gradient = mg.grad(y.sum(), xs, create_graph=True, allow_unused=True)
    second: list[float] = []
    for g in gradient:
        more: Any = [None] * len(xs)
        if g is not None and g.requires_grad:
            more = mg.grad(g.sum(), xs, allow_unused=True)
        second += [0.0 if h is None else h.item() for h in more]
    return [0.0 if g is None else g.item() for g in gradient], second


def torch_derivatives(row: Row) -> tuple[list[float], list[float]]:
    """Return the gradient and the second derivatives of a row in PyTorch, None as 0."""
    import torch

    functional = torch.nn.functional
    theirs = {
        **{name: getattr(torch, name) for name in OURS if hasattr(torch, name)},
        "clip": lambda x: torch.clip(x, -1.0, 1.0),
        "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
        "largest": lambda x, y: torch.amax(torch.cat([x, y]), 0),
        "smallest": lambda x, y: torch.amin(torch.cat([x, y]), 0),
        "norm": lambda x, y: torch.linalg.vector_norm(torch.cat([x, y])),
        "std": lambda x, y: torch.std(torch.cat([x, y])),
        "log_softmax": lambda x, y: torch.log_softmax(torch.cat([x, y]), 0)[:1],
        "softplus": lambda x: -functional.logsigmoid(-x),
        "binary_cross_entropy": lambda p, t: functional.binary_cross_entropy(
            p, t, reduction="none"
        ),
    }
    names = ("x", "y")[: len(row.point)]
    xs = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in row.point]
    y = eval(row.expression, {}, {**theirs, **dict(zip(names, xs, strict=True))})
    gradient = torch.autograd.grad(y.sum(), xs, create_graph=True, allow_unused=True)
    second: list[float] = []
    for g in gradient:
        more: Any = [None] * len(xs)
        if g is not None and g.requires_grad:
            more = torch.autograd.grad(g.sum(), xs, allow_unused=True, retain_graph=True)
        second += [0.0 if h is None else h.item() for h in more]
    return [0.0 if g is None else g.item() for g in gradient], second

"""L1 distances of all pairs of columns, without an array of all pairs' differences.

With d = a[c, i] - b[c, j] for each matrix of a batch, three ops are closed under differentiation:

    l1_distances        y[i, j] = sum over c of |d|             its gradients are l1_distances_grad
    l1_distances_grad   y[c, i] = sum over j of g[i, j] sign(d)
    l1_distances_jvp    y[i, j] = sum over c of v[c, i] sign(d)

The second and the third are each other's adjoint in g and v; where signs change has no derivative.
To b's gradient the roles are exchanged: sign(d) = -sign(b - a).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from .linear import _swap
from .samples import Maker, uniform


# ------------------------------------------------------------------------------------- the ops
def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(.., c, n, m)"""
    return a[..., :, None] - b[..., None, :]


def _check(a: Any, b: Any) -> None:
    require_tensors("l1_distances", a, b)
    if a.ndim < 2 or a.shape[:-1] != b.shape[:-1]:
        raise ValueError(
            f"l1_distances: shapes {a.shape} and {b.shape} do not fit: (..., c, n) and (..., c, m)"
            " are needed"
        )


def _beside(shift: float, *shape: int) -> Maker:
    """Multiples of 0.3, moved by `shift` and up to 0.05: those of 0 and 0.15 never tie."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return 0.3 * rng.integers(-5, 6, shape) + shift + rng.uniform(-0.05, 0.05, shape)

    return Maker(shape, draw)


_PAIRS = [
    (_beside(0, 2, 5, 3), _beside(0.15, 2, 5, 4)),
    (_beside(0, 2, 1, 4, 5), _beside(0.15, 2, 1, 4, 2)),
    (_beside(0, 3, 6), _beside(0.15, 3, 6)),
]
l1_distances_grad: Op = Op(
    "l1_distances_grad",
    lambda g, a, b: (g[..., None, :, :] * np.sign(_differences(a, b))).sum(-1),
    (lambda v, y, g, a, b: l1_distances_jvp(v, a, b), None, None),
    [(uniform(*a.shape[:-2], a.shape[-1], b.shape[-1]), a, b) for a, b in _PAIRS],
)
l1_distances_jvp: Op = Op(
    "l1_distances_jvp",
    lambda v, a, b: (v[..., None] * np.sign(_differences(a, b))).sum(-3),
    (lambda g, y, v, a, b: l1_distances_grad(g, a, b), None, None),
    [(uniform(*a.shape), a, b) for a, b in _PAIRS],
)
_l1_distances = Op(
    "l1_distances",
    lambda a, b: np.abs(_differences(a, b)).sum(-3),
    (
        lambda g, y, a, b: l1_distances_grad(g, a, b),
        lambda g, y, a, b: l1_distances_grad(_swap(g), b, a),
    ),
    _PAIRS,
    check=_check,
)


# -------------------------------------------------------------------------------- the function
def l1_distances(a: Tensor, b: Tensor) -> Tensor:
    """y[..., i, j] = sum over c of |a[..., c, i] - b[..., c, j]|.

    a (..., c, n) and b (..., c, m), of equal leading axes, to (..., n, m). As `torch.cdist(p=1)` of
    the columns, which lie side by side so that the innermost loop is along them. Where two numbers
    tie their gradient is 0, as that of `abs`. Nothing of size (..., c, n, m) is made.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: an argument is no tensor of floats, or their dtypes differ.
    """
    return _l1_distances(a, b)

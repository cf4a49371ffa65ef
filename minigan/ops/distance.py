"""L1 distances of all pairs of columns, computed without an array of all differences.

With d = a[c, i] - b[c, j] for each matrix of a batch, three ops are closed under differentiation:

    l1_distances        y[i, j] = sum over c of |d|             its gradients are l1_distances_grad
    l1_distances_grad   y[c, i] = sum over j of g[i, j] sign(d)
    l1_distances_jvp    y[i, j] = sum over c of v[c, i] sign(d)

The second and the third are each other's adjoint in g and v. The derivative of a sign is zero
almost everywhere, so no gradient flows to a and b through them. The gradient by b is that by a with
the roles exchanged, since sign(d) = -sign(b - a).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor
from .linear import swap_last_axes
from .samples import Sampler, uniform

__all__ = ["l1_distances"]


# ------------------------------------------------------------------------------------- the ops
def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return all a[c, i] - b[c, j], of shape (..., c, n, m)."""
    return a[..., :, None] - b[..., None, :]


def _check(name: str, a: Tensor, b: Tensor) -> None:
    """Raise ValueError unless a (..., c, n) and b (..., c, m) agree in all axes but the last."""
    if a.ndim < 2 or a.shape[:-1] != b.shape[:-1]:
        raise ValueError(
            f"{name}: shapes {a.shape} and {b.shape} do not fit: (..., c, n) and (..., c, m)"
            " are needed"
        )


def _check_grad(g: Tensor, a: Tensor, b: Tensor) -> None:
    """Raise ValueError unless g is of the shape of the distances of a and b."""
    _check("l1_distances_grad", a, b)
    shape = (*a.shape[:-2], a.shape[-1], b.shape[-1])
    if g.shape != shape:
        raise ValueError(f"l1_distances_grad: shape {g.shape}, not {shape} as the distances")


def _check_jvp(v: Tensor, a: Tensor, b: Tensor) -> None:
    """Raise ValueError unless v is of the shape of a."""
    _check("l1_distances_jvp", a, b)
    if v.shape != a.shape:
        raise ValueError(f"l1_distances_jvp: shapes {v.shape} and {a.shape} differ")


def _near_grid(shift: float, *shape: int) -> Sampler:
    """Sample multiples of 0.3, plus `shift`, plus up to 0.05: shifts 0 and 0.15 never tie."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return 0.3 * rng.integers(-5, 6, shape) + shift + rng.uniform(-0.05, 0.05, shape)

    return Sampler(shape, draw)


_PAIRS = [
    (_near_grid(0, 2, 5, 3), _near_grid(0.15, 2, 5, 4)),
    (_near_grid(0, 2, 1, 4, 5), _near_grid(0.15, 2, 1, 4, 2)),
    (_near_grid(0, 3, 6), _near_grid(0.15, 3, 6)),
]
l1_distances_grad: Op = Op(
    "l1_distances_grad",
    lambda g, a, b: (g[..., None, :, :] * np.sign(_differences(a, b))).sum(-1),
    (lambda v, y, g, a, b: l1_distances_jvp(v, a, b), None, None),
    [(uniform(*a.shape[:-2], a.shape[-1], b.shape[-1]), a, b) for a, b in _PAIRS],
    check=_check_grad,
)
l1_distances_jvp: Op = Op(
    "l1_distances_jvp",
    lambda v, a, b: (v[..., None] * np.sign(_differences(a, b))).sum(-3),
    (lambda g, y, v, a, b: l1_distances_grad(g, a, b), None, None),
    [(uniform(*a.shape), a, b) for a, b in _PAIRS],
    check=_check_jvp,
)
_l1_distances = Op(
    "l1_distances",
    lambda a, b: np.abs(_differences(a, b)).sum(-3),
    (
        lambda g, y, a, b: l1_distances_grad(g, a, b),
        lambda g, y, a, b: l1_distances_grad(swap_last_axes(g), b, a),
    ),
    _PAIRS,
    check=partial(_check, "l1_distances"),
)


# -------------------------------------------------------------------------------- the function
def l1_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the L1 distances y[..., i, j] = sum over c of |a[..., c, i] - b[..., c, j]|.

    a (..., c, n) and b (..., c, m), with equal leading axes, give (..., n, m). It is
    `torch.cdist(p=1)` of the columns. Points are columns and not rows, so that the innermost loop
    runs over contiguous memory. Where two numbers tie the gradient is 0, as that of `abs`. No array
    of size (..., c, n, m) is made.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: an argument is not a tensor of floats, or their dtypes differ.
    """
    return _l1_distances(a, b)

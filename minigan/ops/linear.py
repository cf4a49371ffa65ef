"""Matrix products: `matmul`, with leading batch axes, and `dense`, a product plus a bias."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Tensor, require_tensors
from .reduce import sum
from .samples import uniform
from .shape import reshape, transpose

__all__ = ["dense", "matmul"]


def swap_last_axes(x: Tensor) -> Tensor:
    """Return a view with the last two axes exchanged, which the kernels read without a copy."""
    return transpose(x, *range(x.ndim - 2), x.ndim - 1, x.ndim - 2)


def _check_matmul(a: Any, b: Any) -> None:
    """Raise ValueError unless a (..., m, k) and b (..., k, n) can be multiplied."""
    require_tensors("matmul", a, b)
    fits = a.ndim >= 2 and b.ndim >= 2 and a.shape[-1] == b.shape[-2]
    if fits:
        try:
            np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            return
        except ValueError:
            pass
    raise ValueError(
        f"matmul: shapes {a.shape} and {b.shape} do not fit: (..., m, k) and (..., k, n) are needed"
    )


_matmul: Op = Op(
    "matmul",
    np.matmul,
    (
        lambda g, y, a, b: _matmul(g, swap_last_axes(b)),
        lambda g, y, a, b: _matmul(swap_last_axes(a), g),
    ),
    [
        (uniform(3, 4), uniform(4, 5)),
        (uniform(2, 3, 4), uniform(2, 4, 5)),
        (uniform(2, 1, 3, 4), uniform(5, 4, 2)),
    ],
    broadcasts=True,
    check=_check_matmul,
    needs_kernel=True,
)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product (..., m, k) @ (..., k, n) -> (..., m, n), as `a @ b`.

    Leading axes broadcast. A vector is a row on the left and a column on the right, as in numpy.

    Raises:
        ValueError: the shapes do not fit.
    """
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.ndim and b.ndim):
        return _matmul(a, b)  # raises an error that names the argument
    y = _matmul(
        reshape(a, 1, -1) if a.ndim == 1 else a,
        reshape(b, -1, 1) if b.ndim == 1 else b,
    )
    shape = y.shape[:-1] if b.ndim == 1 else y.shape
    if a.ndim == 1:
        shape = shape[: len(y.shape) - 2] + shape[len(y.shape) - 1 :]
    return reshape(y, shape) if 1 in (a.ndim, b.ndim) else y


def _check_dense(x: Tensor, w: Tensor, b: Tensor) -> None:
    """Raise ValueError unless x (n, in), w (in, out) and b (out,) fit."""
    if w.ndim != 2 or b.shape != w.shape[1:] or x.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(
            f"dense: input {x.shape}, weight {w.shape} and bias {b.shape} do not fit:"
            " (..., in), (in, out) and (out,) are needed"
        )


_dense = Op(
    "dense",
    lambda x, w, b: np.matmul(x, w) + b,
    (
        lambda g, y, x, w, b: _matmul(g, swap_last_axes(w)),
        lambda g, y, x, w, b: _matmul(swap_last_axes(x), g),
        lambda g, y, x, w, b: sum(g, axis=0),
    ),
    [(uniform(3, 4), uniform(4, 5), uniform(5))],
    check=_check_dense,
    needs_kernel=True,
)


def dense(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Return x @ w + b, in one launch: x (..., in), w (in, out), b (out,) or None.

    Raises:
        ValueError: the shapes do not fit.
    """
    if b is None:
        require_floats("dense", x, w)
        return matmul(x, w)
    require_tensors("dense", x, w, b)
    y = _dense(x if x.ndim in (0, 2) else reshape(x, -1, x.shape[-1]), w, b)
    return y if x.ndim == 2 else reshape(y, *x.shape[:-1], w.shape[1])

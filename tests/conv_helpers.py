"""Cases of convolutions for the tests of the CPU's kernels, and their check in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from helpers import assert_close, run
from hypothesis import strategies as st

from minigan.engine.op import Op
from minigan.kernels.conv2d.geometry import output_size

OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
FORWARD, BY_INPUT, BY_WEIGHT = (Op.registry[name] for name in OPERATIONS)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def geometries(draw: Any) -> dict[str, Any]:
    """Draw the sizes, stride and padding of a convolution."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    least = [max(1, k - 2 * p) for k, p in zip(kernel, padding, strict=True)]
    more = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    return {
        "x": (
            draw(st.integers(1, 5)),
            draw(st.integers(1, 5)),
            least[0] + more[0],
            least[1] + more[1],
        ),
        "out": draw(st.sampled_from([1, 2, 3, 4, 5, 7, 16, 17, 33])),
        "kernel": kernel,
        "stride": draw(pairs),
        "padding": padding,
    }


def case(n: int, c: int, size: int, out: int, kernel: int, stride: int, padding: int) -> dict:
    return {
        "x": (n, c, size, size),
        "out": out,
        "kernel": (kernel, kernel),
        "stride": (stride, stride),
        "padding": (padding, padding),
    }


def calls(shape: dict[str, Any], seed: int, dtype: Any) -> list[tuple[Op, list[np.ndarray], dict]]:
    """Return a call of each operation, on random arrays of that geometry."""
    rng = np.random.default_rng(seed)
    (n, c, *size), kernel, out = shape["x"], shape["kernel"], shape["out"]
    geometry = {"stride": shape["stride"], "padding": shape["padding"]}
    rows = output_size((size[0], size[1]), kernel, **geometry)
    shapes = (n, c, *size), (out, c, *kernel), (n, out, *rows)
    x, w, g = (rng.standard_normal(s).astype(dtype) for s in shapes)
    return [
        (FORWARD, [x, w], geometry),
        (BY_INPUT, [g, w], {"size": tuple(size), **geometry}),
        (BY_WEIGHT, [x, g], {"kernel": kernel, **geometry}),
    ]


def check(device: str, op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]) -> None:
    """Check |y - reference| <= (terms + 1) eps sum |a b|, the bound of a sum in any order."""
    exact = [a.astype(np.float64) for a in arrays]
    kept = [a.copy() for a in arrays]
    y = run(device, op, arrays, attributes)
    with np.errstate(invalid="ignore", over="ignore"):
        want = op.reference(*exact, **attributes)
    size = op.reference(*(np.nan_to_num(abs(a), posinf=0.0) for a in exact), **attributes)
    terms = 1 + math.prod(arrays[1].shape if op is not BY_WEIGHT else arrays[0].shape)
    bound = terms * float(np.finfo(arrays[0].dtype).eps) * float(size.max(initial=0.0))
    assert y.dtype == arrays[0].dtype
    assert_close(y, want, bound, op.name)
    for a, before in zip(arrays, kept, strict=True):
        assert np.array_equal(a, before, equal_nan=True)

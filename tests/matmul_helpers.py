"""Operands of CUDA products in each layout, in arrays that are NaN elsewhere."""

import numpy as np

# By name: the same matrix in another layout in memory.
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "every other": lambda x: np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2],
    "unaligned": lambda x: np.pad(x, 1)[1:-1, 1:-1],
}


def edge_shapes(edge):
    """Return (m, k, n) below, at and above the sizes of a tile of 16 steps, and small ones."""
    return (
        (edge - 1, 15, edge + 1),
        (edge, 16, edge - 1),
        (edge + 1, 17, edge),
        (3, 33, 2),
    )


def on_device(gpu, x):
    """Return x in memory of the device, with its strides; what lies between its elements is NaN."""
    base = x
    while base.base is not None:
        base = base.base
    whole = gpu.from_numpy(np.full(base.shape, np.nan, x.dtype))
    offset = x.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    view = np.ndarray(x.shape, x.dtype, whole, offset, x.strides)
    view[...] = x
    return view

"""Launch convolutions on a GPU: each as an implicit GEMM, with its tile and splits."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..matmul.split_k import TARGET_BLOCKS, allocate_partial_sums, count_splits, sum_splits
from ..runtime.cuda.launcher import Launcher, ceil_div
from ..runtime.strides import elements
from .geometry import Pair, output_size

SOURCE = Path(__file__).with_name("cuda.cu")


class Tile(NamedTuple):
    """A block's tile of C: the end of its kernel's name, rows, columns, threads per block."""

    name: str
    rows: int
    columns: int
    threads: int


# As in cuda.cu, the largest first; the last two are for a C with few columns.
TILES = (
    Tile("128", 128, 64, 256),
    Tile("64", 64, 64, 128),
    Tile("32", 128, 32, 128),
    Tile("narrow", 128, 16, 128),
)
DEPTH_MULTIPLE = 16  # A split's depth is a multiple, so whole slices (BK in cuda.cu).
MIN_SPLIT_DEPTH = 64
MAX_SIDE_PIXELS = 2**29 - 1  # of an image, a padding and a stride: coordinates are int32


def _structure(name: str, **fields: str) -> Any:
    """Return a structure of cuda.cu, given the names of its fields by their types."""
    pairs = [(field, kind) for kind, names in fields.items() for field in names.split()]
    kinds = {"int64": ctypes.c_int64, "int32": ctypes.c_int32}
    return type(name, (ctypes.Structure,), {"_fields_": [(f, kinds[k]) for f, k in pairs]})


IndexMap = _structure(
    "IndexMap",
    int64="count rows columns plane_stride",
    int32="first_row first_column row_step column_step",
)
Strides = _structure("Strides", int64="start plane row column")
Phases = _structure(
    "Phases",
    int32="count across stride_down stride_across padding_down padding_across"
    " height width kernel_height kernel_width",
)


class Convolution(ctypes.Structure):
    """`Convolution` of cuda.cu."""

    _fields_ = (
        ("rows", IndexMap),
        ("depth", IndexMap),
        *(
            (name, ctypes.c_int64)
            for name in ("columns", "split_depth", "image_row_stride", "image_column_stride")
        ),
        *((name, ctypes.c_int32) for name in ("image_height", "image_width")),
        ("other", Strides),
        ("result", Strides),
        *((name, ctypes.c_int64) for name in ("other_column", "result_column", "result_size")),
        ("phases", Phases),
    )


def plan(
    m: int, n: int, k: int, dtype: np.dtype, is_weight_grad: bool, phases: int
) -> tuple[Tile, int]:
    """Return (tile, depth of a split) for `phases` products (m, k) x (k, n).

    Where the phases differ in size, m and k are the largest.
    """
    largest, middle, *narrow = TILES

    def count_tiles(tile: Tile) -> int:
        return phases * ceil_div(m, tile.rows) * ceil_div(n, tile.columns)

    tile = middle
    if n <= narrow[0].columns:
        tile = min((t for t in narrow if n <= t.columns), key=lambda t: t.columns)
    elif dtype.itemsize == 4 and not is_weight_grad and count_tiles(largest) >= TARGET_BLOCKS // 2:
        tile = largest
    splits = count_splits(count_tiles(tile), k, MIN_SPLIT_DEPTH)
    return tile, max(1, ceil_div(ceil_div(k, splits), DEPTH_MULTIPLE)) * DEPTH_MULTIPLE


def _launch(
    gpu: Launcher,
    operation: str,
    s: Any,
    arrays: tuple[Any, Any, Any],
    window: tuple[int, ...],
    overriding_plan: tuple[Tile, int] | None = None,
) -> Any:
    """Compute and return the last of (image, other, result).

    `window` are strides and paddings; `overriding_plan` is used instead of the result of `plan`.
    """
    image, other, y = arrays
    if max(*image.shape[2:], *other.shape[2:], *y.shape[2:], *window) > MAX_SIDE_PIXELS:
        raise ValueError(
            f"conv2d: sides, strides and paddings of at most {MAX_SIDE_PIXELS} pixels are accepted;"
            f" these are {image.shape[2:]} and {window}"
        )
    if not y.size:
        return y
    s.image_height, s.image_width = image.shape[2:]
    _, _, s.image_row_stride, s.image_column_stride = elements(image)
    s.result_size, (m, k), phases = y.size, _product_size(s), max(1, s.phases.count)
    tile, s.split_depth = overriding_plan or plan(
        m, s.columns, k, y.dtype, operation == "weight_grad", phases
    )
    splits = max(1, ceil_div(k, s.split_depth))
    out = allocate_partial_sums(gpu, y, splits)
    grid = (ceil_div(m, tile.rows) * ceil_div(s.columns, tile.columns) * phases, splits)
    arguments = (image, other, out, s)
    gpu.launch(SOURCE, f"{operation}_{tile.name}", y.dtype, grid, (tile.threads,), arguments)
    if splits > 1:
        sum_splits(gpu, y, out)
    return y


def _product_size(s: Any) -> Pair:
    """Return the rows and the depth of the product; with phases, the largest of any phase."""
    f = s.phases
    if not f.count:
        return s.rows.count, s.depth.count
    strides = (f.stride_down, f.stride_across)
    pixels = [ceil_div(n, stride) for n, stride in zip((f.height, f.width), strides, strict=True)]
    kernel = (f.kernel_height, f.kernel_width)
    weights = [ceil_div(n, stride) for n, stride in zip(kernel, strides, strict=True)]
    return s.rows.count * pixels[0] * pixels[1], s.depth.count * weights[0] * weights[1]


def _positions(images: int, plane_stride: int, size: Pair, stride: Pair, padding: Pair) -> Any:
    """Return the IndexMap of the kernel's positions (n, a, b)."""
    count, first = images * size[0] * size[1], (-padding[0], -padding[1])
    return IndexMap(count, *size, plane_stride, *first, *stride)


def _weight_indices(channels: int, plane_stride: int, kernel: Pair) -> Any:
    """Return the IndexMap of the weights (c, h, v) of one output channel."""
    return IndexMap(channels * kernel[0] * kernel[1], *kernel, plane_stride, 0, 0, 1, 1)


def conv2d(
    gpu: Launcher,
    x: Any,
    w: Any,
    stride: Pair,
    padding: Pair,
    overriding_plan: tuple[Tile, int] | None = None,
) -> Any:
    """Compute y[n, o, a, b] = sum of x[n, c, a*s + h - p, b*s + v - p] w[o, c, h, v].

    `overriding_plan` is used instead of the result of `plan`.
    """
    height, width = output_size(x.shape[2:], w.shape[2:], stride, padding)
    images, channels, outputs, area = len(x), x.shape[1], len(w), height * width
    y = gpu.empty((images, outputs, height, width), x.dtype)
    (image, plane, _, _), (output, *weight_strides) = elements(x), elements(w)
    s = Convolution(columns=outputs)
    s.rows = _positions(images, image, (height, width), stride, padding)
    s.depth = _weight_indices(channels, plane, w.shape[2:])
    s.other, s.other_column = Strides(0, *weight_strides), output
    s.result, s.result_column = Strides(0, outputs * area, width, 1), area
    return _launch(gpu, "forward", s, (x, w, y), (*stride, *padding), overriding_plan)


def conv2d_weight_grad(
    gpu: Launcher, x: Any, g: Any, kernel: Pair, stride: Pair, padding: Pair
) -> Any:
    """Compute gw[o, c, h, v] = sum of x[n, c, a*s + h - p, b*s + v - p] g[n, o, a, b]."""
    channels, outputs, area = x.shape[1], g.shape[1], kernel[0] * kernel[1]
    w = gpu.empty((outputs, channels, *kernel), x.dtype)
    (image, plane, _, _), (g_image, output, *g_strides) = elements(x), elements(g)
    s = Convolution(columns=outputs)
    s.rows = _weight_indices(channels, plane, kernel)
    s.depth = _positions(len(x), image, g.shape[2:], stride, padding)
    s.other, s.other_column = Strides(0, g_image, *g_strides), output
    s.result, s.result_column = Strides(0, area, kernel[1], 1), channels * area
    return _launch(gpu, "weight_grad", s, (x, g, w), (*stride, *padding))


def conv2d_input_grad(
    gpu: Launcher, g: Any, w: Any, size: Pair, stride: Pair, padding: Pair
) -> Any:
    """Compute gx[n, c, i, j] = sum of g[n, o, a, b] w[o, c, h, v].

    The sum is over o and all a, h with i = a*s + h - p and b, v with j = b*s + v - p.
    """
    (height, width), (outputs, channels, *kernel) = size, w.shape
    x = gpu.empty((len(g), channels, height, width), g.dtype)
    (image, plane, _, _), (output, channel, down, across) = elements(g), elements(w)
    # With a stride larger than the image, there is one phase per pixel.
    phases = (min(stride[0], height), min(stride[1], width))
    s = Convolution(columns=channels)
    s.phases = Phases(phases[0] * phases[1], phases[1], *stride, *padding, height, width, *kernel)
    # The kernel completes these two for each phase; here they count images and channels.
    s.rows = IndexMap(len(g), 0, 0, image, 0, 0, 1, 1)
    s.depth = IndexMap(outputs, 0, 0, plane, 0, 0, -1, -1)
    s.other = Strides(0, output, down * stride[0], across * stride[1])
    s.other_column = channel
    area = height * width
    s.result = Strides(0, channels * area, width * stride[0], stride[1])
    s.result_column = area
    return _launch(gpu, "input_grad", s, (g, w, x), (*stride, *padding))


KERNELS = {
    "conv2d": conv2d,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
}

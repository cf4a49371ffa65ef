"""Convolutions on a GPU: how each of the three faces is a product, which tile, how it is split."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..matmul.cuda import JOIN_THREADS
from ..matmul.cuda import SOURCE as MATMUL
from ..runtime.cuda.launcher import Launcher, blocks
from ..runtime.strides import elements
from .geometry import Pair, output_size

SOURCE = Path(__file__).with_name("cuda.cu")


class Tile(NamedTuple):
    """Of C, by one block: its rows and columns, and the threads that make it."""

    name: str
    rows: int
    columns: int
    threads: int


# As in cuda.cu. The largest first; the last one where C has few columns.
TILES = (Tile("128", 128, 64, 256), Tile("64", 64, 64, 256), Tile("narrow", 128, 16, 128))
DEEP = 16  # the depth of a slice, BK in cuda.cu, divides it
# Blocks that fill a large GPU, and the least depth of a split that is worth a block of its own.
# They are constants: if they followed the GPU at hand, so would the bits of the result.
BUSY, LEAST_DEPTH = 264, 64
MOST_PIXELS = 2**29  # of an image's side with its padding, and of a stride


def _structure(name: str, **fields: Any) -> type[ctypes.Structure]:
    """A structure of cuda.cu, from the names of its fields by their types."""
    pairs = [(field, kind) for kind, names in fields.items() for field in names.split()]
    kinds = {"int64": ctypes.c_int64, "int32": ctypes.c_int32}
    return type(name, (ctypes.Structure,), {"_fields_": [(f, kinds[k]) for f, k in pairs]})


Side = _structure("Side", int64="count rows columns plane", int32="row column down across")
Steps = _structure("Steps", int64="start plane row column")
Phases = _structure(
    "Phases",
    int32="count across stride_down stride_across padding_down padding_across"
    " height width kernel_height kernel_width",
)


class Convolution(ctypes.Structure):
    """`Convolution` of cuda.cu."""

    _fields_ = (
        ("rows", Side),
        ("depth", Side),
        *((name, ctypes.c_int64) for name in ("columns", "split", "image_row", "image_column")),
        *((name, ctypes.c_int32) for name in ("image_height", "image_width")),
        ("other", Steps),
        ("result", Steps),
        *((name, ctypes.c_int64) for name in ("other_column", "result_column", "result_size")),
        ("phases", Phases),
    )


def plan(m: int, n: int, k: int, dtype: np.dtype, taps: bool, phases: int) -> tuple[Tile, int]:
    """(tile, depth of a split) of `phases` products (m, k) x (k, n), m the largest of theirs."""
    largest, middle, narrow = TILES

    def count(tile: Tile) -> int:
        return phases * blocks(m, tile.rows) * blocks(n, tile.columns)

    tile = middle
    if n <= narrow.columns:
        tile = narrow
    elif dtype.itemsize == 4 and not taps and count(largest) >= BUSY // 2:
        tile = largest
    splits = max(1, min(blocks(BUSY, count(tile)), k // LEAST_DEPTH))
    return tile, max(1, blocks(blocks(k, splits), DEEP)) * DEEP


def _product(
    gpu: Launcher,
    kind: str,
    s: Any,
    arrays: tuple[Any, Any, Any],
    chosen: tuple[Tile, int] | None = None,
) -> Any:
    """Fill the last of (image, other, result) as `s` says; `chosen` instead of `plan`'s choice."""
    image, other, y = arrays
    if max(*image.shape[2:], *other.shape[2:], *y.shape[2:]) > MOST_PIXELS:
        raise ValueError(f"conv2d: sides of at most {MOST_PIXELS} pixels, not {image.shape[2:]}")
    if not y.size:
        return y
    s.image_height, s.image_width = image.shape[2:]
    _, _, s.image_row, s.image_column = elements(image)
    s.result_size, (m, k), phases = y.size, _largest(s), max(1, s.phases.count)
    tile, s.split = chosen or plan(m, s.columns, k, y.dtype, kind == "taps", phases)
    splits = max(1, blocks(k, s.split))
    out = y if splits == 1 else gpu.empty((splits, *y.shape), y.dtype)
    grid = (blocks(m, tile.rows) * blocks(s.columns, tile.columns) * phases, splits)
    arguments = (image, other, out, s)
    gpu.launch(SOURCE, f"{kind}_{tile.name}", y.dtype, grid, (tile.threads,), arguments)
    if splits > 1:
        join = (y, out, None, splits, y.size, 1)
        many = (blocks(y.size, JOIN_THREADS),)
        gpu.launch(MATMUL, "join_splits", y.dtype, many, (JOIN_THREADS,), join)
    return y


def _largest(s: Any) -> Pair:
    """Rows and depth of the product; with phases, of one that has the most of each."""
    f = s.phases
    if not f.count:
        return s.rows.count, s.depth.count
    steps = (f.stride_down, f.stride_across)
    pixels = [blocks(n, step) for n, step in zip((f.height, f.width), steps, strict=True)]
    sides = zip((f.kernel_height, f.kernel_width), steps, strict=True)
    taps = [blocks(n, step) for n, step in sides]
    return s.rows.count * pixels[0] * pixels[1], s.depth.count * taps[0] * taps[1]


def _places(images: int, plane: int, size: Pair, stride: Pair, padding: Pair) -> Any:
    """Where the kernel is put: (n, a, b)."""
    first = (-padding[0], -padding[1])
    return Side(images * size[0] * size[1], *size, plane, *first, *stride)


def _taps(channels: int, plane: int, kernel: Pair) -> Any:
    """(c, h, v)"""
    return Side(channels * kernel[0] * kernel[1], *kernel, plane, 0, 0, 1, 1)


def conv2d(
    gpu: Launcher,
    x: Any,
    w: Any,
    stride: Pair,
    padding: Pair,
    chosen: tuple[Tile, int] | None = None,
) -> Any:
    """y[n, o, a, b] = sum of x[n, c, a*s + h - p, b*s + v - p] w[o, c, h, v]"""
    height, width = output_size(x.shape[2:], w.shape[2:], stride, padding)
    images, channels, outputs, area = len(x), x.shape[1], len(w), height * width
    y = gpu.empty((images, outputs, height, width), x.dtype)
    (image, plane, _, _), (output, *taps) = elements(x), elements(w)
    s = Convolution(columns=outputs)
    s.rows = _places(images, image, (height, width), stride, padding)
    s.depth = _taps(channels, plane, w.shape[2:])
    s.other, s.other_column = Steps(0, *taps), output
    s.result, s.result_column = Steps(0, outputs * area, width, 1), area
    return _product(gpu, "places", s, (x, w, y), chosen)


def conv2d_weight_grad(
    gpu: Launcher, x: Any, g: Any, kernel: Pair, stride: Pair, padding: Pair
) -> Any:
    """gw[o, c, h, v] = sum of x[n, c, a*s + h - p, b*s + v - p] g[n, o, a, b]"""
    channels, outputs, area = x.shape[1], g.shape[1], kernel[0] * kernel[1]
    w = gpu.empty((outputs, channels, *kernel), x.dtype)
    (image, plane, _, _), (of_image, output, *places) = elements(x), elements(g)
    s = Convolution(columns=outputs)
    s.rows = _taps(channels, plane, kernel)
    s.depth = _places(len(x), image, g.shape[2:], stride, padding)
    s.other, s.other_column = Steps(0, of_image, *places), output
    s.result, s.result_column = Steps(0, area, kernel[1], 1), channels * area
    return _product(gpu, "taps", s, (x, g, w))


def conv2d_input_grad(
    gpu: Launcher, g: Any, w: Any, size: Pair, stride: Pair, padding: Pair
) -> Any:
    """gx[n, c, i, j] = sum of g[n, o, a, b] w[o, c, h, v], i = a*s + h - p and j = b*s + v - p"""
    (height, width), (outputs, channels, *kernel) = size, w.shape
    x = gpu.empty((len(g), channels, height, width), g.dtype)
    (image, plane, _, _), (output, channel, down, across) = elements(g), elements(w)
    # A stride beyond the image leaves it phases of one pixel each.
    phases = (min(stride[0], height), min(stride[1], width))
    both = (*stride, *padding, height, width, *kernel)
    s = Convolution(columns=channels)
    s.phases = Phases(phases[0] * phases[1], phases[1], *both)
    # Those of no phase yet: how many images and channels there are.
    s.rows = Side(len(g), 0, 0, image, 0, 0, 1, 1)
    s.depth = Side(outputs, 0, 0, plane, 0, 0, -1, -1)
    s.other = Steps(0, output, down * stride[0], across * stride[1])
    s.other_column = channel
    area = height * width
    s.result = Steps(0, channels * area, width * stride[0], stride[1])
    s.result_column = area
    return _product(gpu, "pixels", s, (g, w, x))


KERNELS = {
    "conv2d": conv2d,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
}

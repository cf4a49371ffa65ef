"""How large a convolution's result is."""

from __future__ import annotations

Pair = tuple[int, int]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """(height, width) of a convolution's result: floor((size + 2 padding - kernel) / stride) + 1"""
    rows, columns = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )
    return rows, columns

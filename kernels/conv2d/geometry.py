"""The size of a convolution's output."""

from __future__ import annotations

Pair = tuple[int, int]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return the output's (height, width): floor((size + 2 padding - kernel) / stride) + 1."""
    height, width = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )
    return height, width

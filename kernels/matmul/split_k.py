"""Split-K on a GPU: divide a long sum among blocks, and add their partial sums in order.

A kernel with too few blocks to fill a GPU divides its sums into parts: blocks compute part s of
each result and store it to partial[s]. A second launch adds the parts. matmul, conv2d and norm
share this code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..runtime.cuda.launcher import Launcher, ceil_div

SOURCE = Path(__file__).with_name("split_k.cu")
THREADS_PER_BLOCK = 256
# The number of blocks that fill a large GPU: two for each of an H200's 132 multiprocessors. It is a
# constant because the number of splits determines the bits of a result, which must be the same on
# every GPU.
TARGET_BLOCKS = 264


def count_splits(blocks: int, size: int, min_size: int, max_splits: int | None = None) -> int:
    """Return the number of parts of a sum of `size` terms that `blocks` blocks would compute.

    There are TARGET_BLOCKS blocks in all, or fewer, so that there are at most `max_splits` parts
    and no part has fewer than `min_size` terms.
    """
    splits = min(ceil_div(TARGET_BLOCKS, blocks), size // min_size)
    return max(1, splits if max_splits is None else min(splits, max_splits))


def allocate_partial_sums(gpu: Launcher, y: Any, splits: int) -> Any:
    """Return the array that the blocks write to: y itself, or (splits, *y.shape)."""
    return y if splits == 1 else gpu.empty((splits, *y.shape), y.dtype)


def sum_splits(gpu: Launcher, y: Any, partial: Any, bias: Any = None) -> None:
    """Compute y = partial[0] + partial[1] + ... (+ bias), in this order.

    y is (..., n), a bias (n,).
    """
    arguments = (y, partial, bias, len(partial), y.size, y.shape[-1])
    grid, block = (ceil_div(y.size, THREADS_PER_BLOCK),), (THREADS_PER_BLOCK,)
    gpu.launch(SOURCE, "sum_splits", y.dtype, grid, block, arguments)

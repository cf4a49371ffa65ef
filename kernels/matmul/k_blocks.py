"""Split the sum over k of a matrix product into blocks, on the CPU. (`split_k.py`: on a GPU.)

A sum of floating-point numbers depends on its order, so the order is part of the result. On the CPU
each element of C is a sum of K-blocks in order, and each block is one chain of fused multiply-adds:

    C[i, j] = ((block 0) + block 1) + ...        block: fma(A[i, p], B[p, j], ...) from 0, p rising

Invariant: the blocks are a function of shape and dtype only, not of the number of threads, the
vector width, the tile sizes of this processor, strides, or a measured time. So all of those may
change, and every bit of the result stays the same.
"""

from __future__ import annotations

from ..runtime.cpu.compiler import jit

# The length of the longest K-block: MR rows of A in a block stay in the first-level cache.
MAX_BLOCK_BYTES = 2048
BLOCK_MULTIPLE = 16  # elements: whole vectors of the widest registers

# The sum of a result with fewer rows is split, so that rows times splits reaches this number and
# there is work for all threads: a convolution's weight gradient has few rows and a long sum.
MIN_UNSPLIT_ROWS = 512


@jit
def block_length(k, longest):
    """Return the length of the K-blocks, which divide k into as few and as equal parts as possible.

    A part is a multiple of BLOCK_MULTIPLE long, and at most `longest` elements, a multiple too.
    """
    blocks = max(1, -(-k // longest))
    return max(BLOCK_MULTIPLE, -(-k // (blocks * BLOCK_MULTIPLE)) * BLOCK_MULTIPLE)


def steps_per_split(steps: int, rows: int) -> int:
    """Return the number of steps of a sum in one split, for a result with `rows` rows.

    Splits are summed independently, by any thread, and then added in order. Their number is such
    that `rows` times splits reaches MIN_UNSPLIT_ROWS, with at most one split for each step.
    """
    return -(-steps // min(steps, -(-MIN_UNSPLIT_ROWS // rows)))

"""The checked build finds the classic mistakes, with kernel, line, block and thread."""

from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

import minigan as mg

SOURCE = Path(__file__).with_name("tutorial_mistakes.cu")
MODULE = mg.cuda.compile(SOURCE, build="checked")
pytestmark = needs_compiler


def ones(*shape, dtype="f"):
    return np.ones(shape, dtype)


# kernel: grid, block, shared bytes, arguments, block and thread of the message, what it says
MISTAKES = {
    "no_bounds_check": (
        *(2, 64, 0, (100, 2.0, ones(100), ones(100)), (1, 36)),
        "reads x[100], outside its elements 0 to 99",
    ),
    "off_by_one": (
        *(2, 64, 0, (ones(100), ones(100), 100), (1, 36)),
        "reads in[100], outside its elements 0 to 99",
    ),
    "no_syncthreads": (
        *(1, 64, 0, (ones(64), ones(64)), (0, 0)),
        "reads tile[63], which nothing has written before (is a barrier missing?)",
    ),
    "reduce_without_barrier": (
        *(1, 64, 256, (ones(64), ones(1)), (0, 1)),
        "writes sdata[1], which thread (0, 0, 0) reads with no barrier between: a race",
    ),
    "histogram_without_atomics": (
        *(1, 64, 0, (ones(64, dtype="u1"), 64, ones(256, dtype="u4")), (0, 1)),
        "reads histo[1], which thread (0, 0, 0) writes with no barrier between: a race",
    ),
    "sum_of_blocks": (
        *(2, 64, 0, (ones(2), ones(1)), (1, 0)),
        "reads out[0], which a thread of another block writes with no barrier between: a race",
    ),
    "histogram_not_cleared": (
        *(1, 64, 0, (ones(64, dtype="u1"), ones(256, dtype="u4")), (0, 0)),
        "reads temp[1], which nothing has written before",
    ),
    "halo_not_loaded": (
        *(1, 64, 0, (ones(64), ones(64)), (0, 63)),  # the last to reach the barrier goes on
        "reads temp[65], which nothing has written before",
    ),
    "transpose_wrong_row": (
        *(1, (8, 8), 0, (ones(64), ones(64), 8), (0, 7)),
        "uses index 8 of an array of type 'float [8]'",
    ),
    "shuffle_in_a_branch": (
        *(1, 32, 0, (ones(32), ones(32)), (0, 0)),
        "waits in a warp for mask 0xffffffff, but block (0, 0, 0), thread (16, 0, 0) never comes",
    ),
    "shuffle_with_wrong_mask": (
        *(1, 32, 0, (ones(32), ones(32)), (0, 0)),
        "takes the value of lane 16, which is not in the mask 0x0000ffff",
    ),
    "barrier_in_a_branch": (
        *(1, 64, 0, (ones(64), 40), (0, 0)),
        "which block (0, 0, 0), thread (40, 0, 0) never reaches",
    ),
    "in_a_function": (
        *(1, 1, 0, (ones(64), ones(1)), (0, 0)),
        "reads in[64], outside its elements 0 to 63",
    ),
    "through_an_offset": (
        *(1, 1, 0, (ones(64),), (0, 0)),
        "writes out[-1], outside its elements 0 to 63",
    ),
    "vector_beyond_the_end": (
        *(1, 32, 0, (ones(66), ones(32)), (0, 16)),
        "reads 16 bytes at in[64], beyond the end of the array",
    ),
    "vector_misaligned": (
        *(1, 32, 0, (ones(66), ones(32)), (0, 0)),
        "reads 8 bytes at in[1], whose address is no multiple of 8",
    ),
    "pointer_into_shared": (
        *(1, 64, 0, (ones(64),), (0, 63)),
        "writes a[64], outside its elements 0 to 63",
    ),
    "pointer_before_shared": (
        *(1, 64, 0, (np.zeros(64, "f"),), (0, 0)),
        "writes a[-1], outside its elements 0 to 63",
    ),
    "local_array": (
        *(1, 32, 0, (ones(32), 4), (0, 0)),
        "uses index 4 of an array of type 'float [4]'",
    ),
    "copies_too_much": (
        *(1, 32, 0, (ones(8), ones(8), 9), (0, 0)),
        "reads 36 bytes at in[0], beyond the end of the array",
    ),
    "pairs_race": (
        *(1, 32, 0, (np.zeros(1, [("value", "f4"), ("index", "i4")]),), (0, 1)),
        "writes best[0], which thread (0, 0, 0) writes with no barrier between: a race",
    ),
    "counter_race": (
        *(1, 32, 0, (), (0, 1)),
        "reads counter, which thread (0, 0, 0) writes with no barrier between: a race",
    ),
    "reads_beyond_constants": (
        *(1, 32, 0, (ones(32), 4), (0, 0)),
        "reads weights[4], outside its elements 0 to 3",
    ),
    "divides_by_zero": (
        *(1, 32, 0, (ones(32, dtype="i4"), 0), (0, 0)),
        "divides an integer by zero",
    ),
    "fails_an_assertion": (
        *(1, 32, 0, (np.arange(32, dtype="f"), 5), (0, 5)),
        "the assertion in[threadIdx.x] < n",
    ),
    "of_another_thread": (
        *(1, 32, 0, (ones(32),), (0, 31)),
        "reads a local variable of another thread",
    ),
}
# These are found where threads wait, not at an access.
WITHOUT_LINE = {
    "shuffle_in_a_branch",
    "shuffle_with_wrong_mask",
    "barrier_in_a_branch",
    "fails_an_assertion",
}


def line_of(kernel):
    """Return the number of the first line marked HERE from the kernel's first line on."""
    lines = SOURCE.read_text().splitlines()
    for i, line in enumerate(lines, 1):
        if line.endswith(f"HERE {kernel}"):
            return i
    first = next(i for i, line in enumerate(lines) if f"void {kernel}(" in line)
    return next(i for i in range(first, len(lines)) if "HERE" in lines[i]) + 1


@pytest.mark.parametrize("kernel", MISTAKES)
def test_a_mistake_is_found(kernel):
    grid, block, shared, arguments, (index, thread), words = MISTAKES[kernel]
    with pytest.raises(mg.cuda.KernelError) as error:
        getattr(MODULE, kernel)[grid, block, shared](*arguments)
    message = str(error.value)
    line = "" if kernel in WITHOUT_LINE else f":{line_of(kernel)}"
    assert message.startswith(f"{kernel} (tutorial_mistakes.cu{line}): "), message
    assert f"block ({index}, 0, 0), thread ({thread}, 0, 0) " in message, message
    assert words in message, message
    if "barrier" in kernel and not line:
        assert "waits at the __syncthreads() of line" in message


@pytest.mark.parametrize(("k", "element"), [(0, 64), (1, 64), (1, -1), (2, 64), (2, -1)])
def test_what_misses_a_shared_array_hits_no_other(k, element):
    """The arrays before array k are hit at element 0, which is right."""
    y = ones(64) * -1
    y[k] = -1 - element
    with pytest.raises(mg.cuda.KernelError, match=rf"writes {'abc'[k]}\[{element}\], outside"):
        MODULE.pointer_before_shared[1, 64](y)


def test_arrays_are_as_before_when_a_launch_fails():
    x, y = ones(100), ones(100)
    with pytest.raises(mg.cuda.KernelError):
        MODULE.no_bounds_check[2, 64](100, 2.0, x, y)
    assert y.tolist() == [1] * 100

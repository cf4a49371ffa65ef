"""The checked build of the emulator finds each planted mistake, and counts transactions."""

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.emulator import Counts, Emulator

SOURCE = Path(__file__).with_name("planted.cu")
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")
CHECKED = Emulator(checked=True)
pytestmark = needs_compiler
DTYPES = pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)


def run(gpu, kernel, arguments, grid=(1,), block=(64,), dtype=FLOAT32, shared_bytes=0):
    gpu.launch(SOURCE, kernel, dtype, grid, block, arguments, shared_bytes)


def ones(gpu, *shape, dtype=FLOAT32):
    return gpu.from_numpy(np.ones(shape, dtype))


# ------------------------------------------------------------------------------ planted mistakes
# kernel: sizes of its arrays (None: null), other arguments, blocks, and a part of the message, in
# which LINE stands for the line of the kernel's first barrier.
MISTAKES = {
    "reads_beyond": (
        (100, 100),
        (100,),
        2,
        "(36, 0, 0) reads x[100], outside its elements 0 to 99",
    ),
    "writes_beyond": ((100,), (100,), 2, "(36, 0, 0) writes y[100], outside its elements 0 to 99"),
    "writes_before": ((64,), (), 1, "(0, 0, 0) writes y[-1], outside its elements 0 to 63"),
    "beyond_shared": ((64,), (), 1, "(63, 0, 0) writes tile[63], outside its elements 0 to 62"),
    "packs_beyond": ((254, 256), (), 1, "(63, 0, 0) reads x[254], outside its elements 0 to 253"),
    "through_null": (
        (None, 64),
        (),
        1,
        "(0, 0, 0) reads through an array that is not there (null)",
    ),
    "half_shared": ((64,), (), 1, "(63, 0, 0) reads tile[63], which nothing has written before"),
    "no_barrier": (
        (64, 64),
        (),
        1,
        "(1, 0, 0) reads tile[0], which thread (0, 0, 0) writes with no barrier between: a race",
    ),
    "no_second_barrier": (
        (64, 64),
        (),
        1,
        "(0, 0, 0) reads tile[63], which thread (63, 0, 0) writes",
    ),
    "two_writers": ((64,), (), 1, "(1, 0, 0) writes y[0], which thread (0, 0, 0) writes with no"),
    "two_blocks": ((64,), (), 2, "(0, 0, 0) writes y[0], which a thread of another block writes"),
    "between_warps": ((64,), (), 1, "(63, 0, 0) reads tile[31], which thread (31, 0, 0) writes"),
    "one_skips": (
        (64,),
        (),
        1,
        "of line LINE, which block (0, 0, 0), thread (17, 0, 0) never reaches",
    ),
    "skips_and_returns": (
        (64,),
        (),
        1,
        "of line LINE, which block (0, 0, 0), thread (17, 0, 0) never reaches",
    ),
    "returns_in_a_function": ((64,), (), 1, ", which block (0, 0, 0), thread (20, 0, 0) never"),
    "writes_and_leaves": ((64,), (), 1, "reads tile[63], which thread (63, 0, 0) writes with no"),
    "value_of_one_that_left": (
        (64,),
        (),
        1,
        "(19, 0, 0) takes the value of lane 20, which has exited",
    ),
    "vote_or_shuffle": (
        (64,),
        (),
        1,
        "(1, 0, 0) waits in a shuffle for lanes of its warp that wait in a vote or reduction",
    ),
    "two_barriers": ((64,), (), 1, "(0, 0, 0) at that of line"),
    "half_a_warp": (
        (32,),
        (),
        1,
        "waits in a warp for mask 0xffffffff, but block (0, 0, 0), thread",
    ),
    "after_a_syncwarp": ((64,), (), 1, "(1, 0, 0) writes tile[1], which thread (0, 0, 0) reads"),
    "tree_in_step": (
        (64, 64),
        (),
        1,
        "(1, 0, 0) writes tile[1], which thread (0, 0, 0) reads",
    ),
    "half_in_order": ((64,), (), 1, "(16, 0, 0) reads tile[0], which thread (0, 0, 0) writes"),
    "read_by_others": ((64,), (), 1, "(40, 0, 0) writes tile[0], which thread ("),
    "last_block_writes": (
        (1, 256),
        (),
        4,
        "(0, 0, 0) writes x[0], which a thread of another block reads",
    ),
    "outside_the_mask": (
        (64,),
        (),
        1,
        "(0, 0, 0) takes the value of lane 20, which is not in the mask 0x0000ffff",
    ),
    "shuffle_or_barrier": (
        (64,),
        (),
        1,
        "(1, 0, 0) waits in a shuffle for lanes of its warp that wait in a __syncwarp",
    ),
    "not_in_the_mask": ((64,), (), 1, "(16, 0, 0) is not in the mask 0x0000ffff it waits with"),
}


def _line(kernel, words):
    """Return the number of the first line with these words, from the kernel's first line on."""
    lines = SOURCE.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if re.search(rf"\b{kernel}\(", line))
    return next(i for i in range(first, len(lines)) if words in lines[i]) + 1


def _block(kernel):
    return (32,) if kernel == "half_a_warp" else (64,)


@pytest.mark.parametrize("kernel", MISTAKES)
def test_a_planted_mistake_is_found(kernel):
    """The message names kernel, block, thread and element."""
    sizes, rest, blocks, expected = MISTAKES[kernel]
    arrays = [None if n is None else ones(CHECKED, n) for n in sizes]
    with pytest.raises(KernelError) as caught:
        run(CHECKED, kernel, [*arrays, *rest], (blocks,), _block(kernel))
    message = str(caught.value)
    assert message.startswith(f"{kernel} (planted.cu"), message
    assert f"block ({blocks - 1}, 0, 0), thread (" in message
    assert f"[grid {(blocks, 1, 1)}, block {(*_block(kernel), 1, 1)};" in message
    if "LINE" in expected:
        expected = expected.replace("LINE", str(_line(kernel, "__syncthreads()")))
    assert expected in message, message


@pytest.mark.parametrize(
    "kernel", ["reverse", "within_a_warp", "counts_atomically", "halves_in_order", "one_clears"]
)
@DTYPES
def test_a_correct_kernel_passes(kernel, dtype):
    x = CHECKED.from_numpy(np.arange(100).astype(dtype) - 50)
    arguments = {
        "reverse": (x, CHECKED.empty((100,), dtype), 100),
        "within_a_warp": (CHECKED.empty((64,), dtype),),
        "counts_atomically": (x[:64], ones(CHECKED, 2, dtype=np.int32)),
        "halves_in_order": (CHECKED.empty((64,), dtype),),
        "one_clears": (ones(CHECKED, 1, dtype=np.int32),),
    }
    run(CHECKED, kernel, arguments[kernel], (2,) if kernel == "reverse" else (1,), dtype=dtype)


def test_after_a_mistake_the_next_launch_starts_clean():
    y = CHECKED.empty((64,), FLOAT32)
    for kernel in ("one_skips",) * 20 + ("half_a_warp", "no_barrier"):  # 1280 unfinished threads
        block = (32,) if kernel == "half_a_warp" else (64,)
        with pytest.raises(KernelError):
            run(
                CHECKED,
                kernel,
                [y] if kernel != "no_barrier" else [ones(CHECKED, 64), y],
                (1,),
                block,
            )
        x = CHECKED.from_numpy(np.arange(64, dtype="f"))
        run(CHECKED, "reverse", [x, y, 64])
        assert np.array_equal(y, x[::-1])


def test_the_line_of_a_mistake_is_named():
    with pytest.raises(
        KernelError, match=rf"planted\.cu:{_line('no_barrier', 'threadIdx.x - 1')}\)"
    ):
        run(CHECKED, "no_barrier", [ones(CHECKED, 64), ones(CHECKED, 64)])


def test_dynamic_shared_memory_is_as_large_as_the_launch_says():
    y = CHECKED.empty((64,), FLOAT32)
    run(CHECKED, "beyond_dynamic", [y], shared_bytes=256)
    with pytest.raises(KernelError, match=r"thread \(62, 0, 0\) writes tile\[62\], outside its"):
        run(CHECKED, "beyond_dynamic", [y], shared_bytes=248)
    with pytest.raises(
        KernelError, match="300000 bytes of shared memory; a block can have at most"
    ):
        run(CHECKED, "beyond_dynamic", [y], shared_bytes=300_000)


def test_unwritten_elements_are_tracked_across_launches():
    y, z = CHECKED.empty((8,), FLOAT32), CHECKED.empty((8,), FLOAT32)
    run(CHECKED, "half", [y, 8])
    with pytest.raises(KernelError, match=r"reads x\[1\], which nothing has written before"):
        run(CHECKED, "copy", [y, z, 8])
    run(CHECKED, "copy", [y[::2], z[::2], 1])
    z = CHECKED.empty((8,), FLOAT32)  # even at the address of a freed array it is unwritten
    del y
    with pytest.raises(KernelError, match=r"reads x\[0\], which nothing has written"):
        run(CHECKED, "copy", [z, ones(CHECKED, 8), 8])


def test_a_launch_may_only_access_the_view_it_was_given():
    """Memory beside a view belongs to the same allocation; accessing it is a mistake."""
    x, y = ones(CHECKED, 10), ones(CHECKED, 10)
    with pytest.raises(KernelError, match=r"reads x\[5\], outside its elements 0 to 4"):
        run(CHECKED, "copy", [x[:5], y, 6])
    with pytest.raises(KernelError, match=r"writes y\[1\], outside its elements -4 to 0"):
        run(CHECKED, "writes_beyond", [y[:5][::-1], 3])
    with pytest.raises(KernelError, match=r"writes y\[1\], which lies between the elements of"):
        run(CHECKED, "writes_beyond", [y[::2], 3])


def test_arrays_of_a_table_are_checked():
    class Addresses(ctypes.Structure):
        _fields_ = (("at", ctypes.c_uint64 * 2),)

    x, y = ones(CHECKED, 8), ones(CHECKED, 8)
    table = Addresses((CHECKED.address(x), CHECKED.address(y)))
    table.arrays = [x, y]
    run(CHECKED, "by_address", [table, 8])
    assert y.tolist() == [2] * 8
    with pytest.raises(KernelError, match=r"reads an array of a table\[8\], outside"):
        run(CHECKED, "by_address", [table, 9])
    both = ones(CHECKED, 16)
    table = Addresses((CHECKED.address(both), CHECKED.address(both[8:])))
    table.arrays = [both, both[8:12]]  # the second ends before the first does
    with pytest.raises(KernelError, match=r"a table\[4\], outside its elements 0 to 3"):
        run(CHECKED, "by_address", [table, 5])
    table.arrays = [both[8:]]
    with pytest.raises(KernelError, match="through an array that is not there"):
        run(CHECKED, "by_address", [table, 8])


def test_an_atomic_operation_races_with_a_plain_access():
    y = CHECKED.from_numpy(np.zeros(2, np.int32))
    with pytest.raises(KernelError, match="a race"):
        run(CHECKED, "counts", [ones(CHECKED, 64), y])
    with pytest.raises(KernelError, match="a race"):
        run(CHECKED, "reads_an_atomic", [y, ones(CHECKED, 64)])
    with pytest.raises(KernelError, match=r"reads n\[0\], which a thread of another block writes"):
        run(CHECKED, "last_block_reads", [y, ones(CHECKED, 256)], (4,))
    with pytest.raises(
        KernelError, match=r"updates n\[0\], which a thread of another block writes"
    ):
        run(CHECKED, "first_block_clears", [y], (2,))


def test_dynamic_shared_memory_is_one_under_all_names():
    y = CHECKED.empty((64,), FLOAT32)
    run(CHECKED, "one_memory", [y], shared_bytes=256)
    assert y.tolist()[:63] == list(range(63, 0, -1))


@pytest.mark.parametrize("gpu", [Emulator(), CHECKED], ids=["fast", "checked"])
def test_a_thread_may_have_512_kib_of_local_memory(gpu):
    y = gpu.empty((40,), FLOAT32)
    run(gpu, "large_variables", [y, 60 * 1024], block=(40,))
    assert y.tolist() == [60 * 1024] * 40


WRONG = {
    "takes more than 48 KiB": 'extern "C" __global__ void f(Out<REAL> y) {\n'
    "    SHARED(REAL, tile, 13 * 1024);\n    tile[0] = 1;\n    y[0] = tile[0];\n}",
    "atomicAdd is for other types": 'extern "C" __global__ void f(InOut<long long> y) {'
    " atomicAdd(&y[0], 1); }",
    "deleted": 'extern "C" __global__ void f(InOut<REAL> y) {\n'
    "    const auto old = y[0];\n    y[0] = 1;\n    y[1] = old + 1;\n}",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cuda_refuses_does_not_compile(words, tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text(WRONG[words])
    with pytest.raises(KernelError, match=words):
        CHECKED.launch(source, "f", FLOAT32, (1,), (1,), [None])


def test_an_array_of_another_dtype_is_a_mistake():
    message = (
        "'x' is an array with elements of 8 bytes, and declared as an array with elements of 4"
    )
    for gpu in (CHECKED, Emulator()):
        with pytest.raises(KernelError, match=message):
            run(gpu, "copy", [ones(CHECKED, 8, dtype=FLOAT64), ones(CHECKED, 8), 8])


def test_an_array_of_a_table_accessed_as_another_dtype_is_a_mistake():
    class Addresses(ctypes.Structure):
        _fields_ = (("at", ctypes.c_uint64 * 2),)

    x, y = ones(CHECKED, 8, dtype=FLOAT64), ones(CHECKED, 8)
    table = Addresses((CHECKED.address(x), CHECKED.address(y)))
    table.arrays = [x, y]
    with pytest.raises(KernelError, match="table as elements of 4 bytes; they have 8"):
        run(CHECKED, "by_address", [table, 8])


def test_one_memory_may_be_passed_as_two_dtypes():
    buffer = bytearray(64)
    for dtype in (FLOAT32, FLOAT64, FLOAT32):
        y = CHECKED.empty((8,), dtype)
        run(CHECKED, "copy", [np.frombuffer(buffer, dtype), y, 8], dtype=dtype)
        assert y.tolist() == [0] * 8


# ------------------------------------------------------------------------------------- counting
@pytest.mark.parametrize(("step", "sectors"), [(1, 4), (2, 8), (8, 32), (0, 1)])
def test_sectors_of_a_warps_access(step, sectors):
    """32 floats are in 4 sectors of 32 bytes if they are adjacent, in 32 if all lie apart."""
    x, y = (ones(CHECKED, 256) for _ in range(2))
    before = CHECKED.counts
    run(CHECKED, "strided", [x, y, step], block=(32,))
    counts = CHECKED.counts - before
    assert (counts.accesses, counts.sectors) == (2, sectors + 4)
    assert counts.ideal_sectors == 4 + (4 if step else 1)


def test_a_vectorized_access_counts_as_one():
    x, y = (ones(CHECKED, 128) for _ in range(2))
    before = CHECKED.counts
    run(CHECKED, "wide", [x, y], block=(32,))
    counts = CHECKED.counts - before
    assert (counts.accesses, counts.sectors, counts.ideal_sectors) == (2, 32, 32)


@pytest.mark.parametrize(("step", "passes"), [(1, 1), (2, 2), (32, 32), (33, 1)])
def test_passes_through_the_banks_of_shared_memory(step, passes):
    before = CHECKED.counts
    run(CHECKED, "banks", [ones(CHECKED, 32), step], block=(32,))
    counts = CHECKED.counts - before
    assert (counts.shared_accesses, counts.passes, counts.ideal_passes) == (2, 2 * passes, 2)


def test_barriers_are_counted():
    before = CHECKED.counts
    run(CHECKED, "reverse", [ones(CHECKED, 100), ones(CHECKED, 100), 100], (2,))
    assert (CHECKED.counts - before).barriers == 2
    assert Counts(barriers=5) - Counts(barriers=3) == Counts(barriers=2)


def test_arrays_are_aligned_as_on_a_gpu():
    for size in (1, 7, 100_000):
        assert CHECKED.address(CHECKED.empty((size,), FLOAT32)) % 256 == 0
        assert CHECKED.address(ones(CHECKED, size)) % 256 == 0


def test_memory_allocated_by_numpy_counts_as_written():
    base = np.zeros(4 * 64 + 1, np.uint8)
    x, y = base[1:].view("f"), CHECKED.empty((64,), FLOAT32)
    run(CHECKED, "copy", [x, y, 64])
    assert y.tolist() == [0] * 64
    with pytest.raises(KernelError, match=r"reads x\[64\], outside its elements 0 to 63"):
        run(CHECKED, "copy", [x, y, 65], block=(65,))

"""Lesson 04: the answers to its exercises."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from emulator_helpers import needs_compiler
from lesson_helpers import LESSONS, source

from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.emulator import Emulator

NAME = "04_cuda_kernels"
pytestmark = pytest.mark.slow


# ---------------------------------------------------------------------------------- exercises
def _text(constant):
    """Return the CUDA C++ text of this constant of the lesson."""
    return re.search(rf'^{constant} = """(.*?)"""', source(NAME), re.M | re.S)[1]


def _run(folder, text, kernel, grid, threads, arguments):
    """Run a kernel on the emulator; return its counts."""
    gpu, path = Emulator(checked=True), folder / "answer.cu"
    path.write_text(text)
    gpu.launch(path, kernel, np.dtype("float32"), grid, threads, arguments)
    return gpu.counts


def _multiply(folder, text, m, k, n):
    """Check the product by a changed TILED; return its counts."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    c = np.full((m, n), np.nan, np.float32)
    grid = (-(-m // 32) * -(-n // 32),)
    counts = _run(folder, text, "product", grid, (1024,), [a, b, c, m, n, k])
    assert abs(c - a.astype(np.float64) @ b).max() < 1e-4
    return counts


@needs_compiler
def test_exercise_1_a_thread_that_leaves_never_comes_to_the_barrier(tmp_path):
    text = _text("TILED")
    early = text.replace("REAL sum = 0;", "if (row >= m || column >= n) return;\n    REAL sum = 0;")
    assert early != text
    with pytest.raises(KernelError, match=r"__syncthreads\(\) of line .* never reaches"):
        _multiply(tmp_path, early, 40, 50, 33)
    _multiply(tmp_path, early, 64, 50, 64)


@needs_compiler
def test_exercise_2_a_column_of_the_tile_lies_in_one_bank(tmp_path):
    text = _text("TILED")
    stores = 2 * 2 * 2 * 32  # of a's tile: blocks, tiles, warps

    def passes(width):
        transposed = text.replace("tile_a[y * EDGE + x] =", f"tile_a[x * {width} + y] =")
        transposed = transposed.replace("tile_a[y * EDGE + d]", f"tile_a[d * {width} + y]")
        transposed = transposed.replace("tile_a, EDGE * EDGE", f"tile_a, EDGE * {width}")
        counts = _multiply(tmp_path, transposed, 64, 64, 64)
        return (counts.passes - (counts.shared_accesses - stores)) / stores

    assert passes("EDGE") == 32
    assert passes("(EDGE + 1)") == 1


@needs_compiler
def test_exercise_3_wide_reads_are_fewer_and_move_as_much(tmp_path):
    text = _text("SUMS")
    wide = text.replace("j < n;", "j < n / 4;").replace(
        "sum += x[row * n + j];",
        """{
            const Pack<REAL, 4> four = load<4>(x, row * n / 4 + j);
            for (int i = 0; i < 4; ++i) sum += four.values[i];
        }""",
    )
    x, counts = np.random.default_rng(0).random((9, 256), np.float32), []
    for kernel in (text, wide):
        y = np.full(9, np.nan, np.float32)
        counts.append(_run(tmp_path, kernel, "row_sums", (9,), (32,), [x, y, 256]))
        assert np.allclose(y, x.sum(1), rtol=1e-6)
    narrow, four = counts
    assert (narrow.accesses, four.accesses) == (9 * 8 + 9, 9 * 2 + 9)
    assert narrow.ideal_sectors == four.ideal_sectors == 9 * 32 + 9


# -------------------------------------------------------------------------------- no compiler
def test_without_a_compiler_it_ends_with_one_line(tmp_path):
    command = [sys.executable, str(LESSONS / f"{NAME}.py"), "--fast", "--out", str(tmp_path)]
    environment = {**os.environ, "CXX": "no-such-compiler"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "needs a C++ compiler, and no-such-compiler is not found" in done.stderr

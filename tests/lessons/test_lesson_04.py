"""Lesson 04: the answers to its exercises, and what its text says."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from emulator_helpers import needs_compiler
from lesson_helpers import LESSONS, run_cells, source

import minigan as mg
from minigan.kernels.matmul.cuda import SOURCE
from minigan.kernels.runtime.cuda import hot_path, sass
from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.cuda.nvrtc import compile_for
from minigan.kernels.runtime.emulator.emulator import Emulator

NAME = "04_cuda_kernels"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when its last check is reached."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="Adam, fused: bytes per parameter")


def _relative_error(x, y):
    return abs(x - y).max() / abs(y).max()


@needs_compiler
def test_every_step_is_right(lesson):
    expected = lesson["a"].astype(np.float64) @ lesson["b"]
    assert len(lesson["STEPS"]) == 5
    for name in ("naive", "coalesced", "tiled", *lesson["STEPS"]):
        assert _relative_error(lesson["products"][name], expected) <= 1e-5


@needs_compiler
def test_the_edges_are_right_with_both_bounds_checks(lesson):
    odd = lesson["draw"](40, 50), lesson["draw"](50, 33)
    lesson["multiply"]("odd", lesson["TILED"], *odd, edge=32)
    assert _relative_error(lesson["products"]["odd"], odd[0].astype(np.float64) @ odd[1]) <= 1e-5


@needs_compiler
def test_the_counts_of_the_text(lesson):
    """Barriers and bytes; at the size of the fast run, where c's bytes weigh a little more."""
    counts, size, moved = lesson["counts"], lesson["size"], lesson["bytes_of"]
    assert counts["tiled"].barriers / (size / 32) ** 3 == 2
    barriers = [counts[name].barriers for name in lesson["STEPS"]]
    assert barriers[:2] == [0, 0]
    assert barriers[2] > barriers[3] > barriers[4] > 0
    assert moved["memory"] == pytest.approx([33.1, 5, 0.28, 0.16, 0.16], rel=0.05)
    assert moved["shared memory"][2:] == pytest.approx([8.2, 2.1, 0.5], rel=0.05)


@needs_compiler
def test_one_op_at_a_time_moves_four_times_the_bytes(lesson):
    fused, by_ops = lesson["moved"]
    assert fused == pytest.approx(28.5, abs=0.1)
    assert by_ops == pytest.approx(124, abs=2)
    assert _relative_error(_adam(lesson["device"], lesson, 1), lesson["p"].numpy()) <= 1e-5


@needs_compiler
def test_fused_adam_is_that_of_the_cpu(lesson):
    results = [_adam(device, lesson, 3) for device in (lesson["device"], "cpu")]
    assert _relative_error(*results) <= 1e-5


def _adam(device, lesson, steps):
    p = mg.tensor(lesson["a"], device=device, requires_grad=True)
    optimizer = mg.optim.Adam([p], lr=0.01)
    for step in range(steps):
        optimizer.step([mg.tensor(lesson["b"] * (step + 1), device=device)])
    return p.numpy()


# ---------------------------------------------------------------------------------- exercises
SUMS = """
extern "C" __global__ void row_sums(In<REAL> x, Out<REAL> y, long long n) {
    const long long row = blockIdx.x;
    REAL sum = 0;
    for (long long j = threadIdx.x; j < n; j += 32) sum += x[row * n + j];
    for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
    if (threadIdx.x == 0) y[row] = sum;
}"""


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
def test_exercise_1_a_thread_that_leaves_loads_nothing(tmp_path):
    text = _text("TILED")
    early = text.replace("REAL sum = 0;", "if (row >= m || column >= n) return;\n    REAL sum = 0;")
    assert early != text
    with pytest.raises(KernelError, match=r"reads tile_a.*, which nothing has written"):
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
def test_exercise_3_a_warp_adds_without_barriers_and_shared_memory(tmp_path):
    x, y = np.random.default_rng(0).random((9, 256), np.float32), np.full(9, np.nan, np.float32)
    counts = _run(tmp_path, SUMS, "row_sums", (9,), (32,), [x, y, 256])
    assert np.allclose(y, x.sum(1), rtol=1e-6)
    assert (counts.barriers, counts.shared_accesses) == (0, 0)
    answer = re.search(r"`(for \(int d = 16;.*?;)`", source(NAME), re.S)[1].replace("\n#    ", " ")
    assert answer in SUMS


# -------------------------------------------------------------------------------- no compiler
def test_without_a_compiler_it_ends_with_one_line(tmp_path):
    command = [sys.executable, str(LESSONS / f"{NAME}.py"), "--fast", "--out", str(tmp_path)]
    environment = {**os.environ, "CXX": "no-such-compiler"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "needs a C++ compiler, and no-such-compiler is not found" in done.stderr


# ----------------------------------------------------------------------------------- machine code
def test_the_machine_code_of_the_text_is_that_of_the_kernel():
    """With another version of the compiler the registers may differ; the instructions do not."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    if sass.find_disassembler() is None:
        pytest.skip("nvdisasm is not installed")
    loop = hot_path.find(
        sass.disassemble(compile_for(SOURCE, np.dtype("float32"), "9.0").cubin)["product_64"]
    )
    assert loop.multiply_adds == 512
    assert 512 / len(loop.instructions) == pytest.approx(0.84, abs=0.02)
    names = [x.name for x in loop.instructions]
    listed = re.findall(r"^#     (?:@!?P\d )?([A-Z][A-Z0-9._]+) .*$", source(NAME), re.M)
    assert len(listed) == 13
    assert set(listed) <= set(names)

"""The emulator runs CUDA's features, refuses wrong calls, and compiles each file once."""

import ctypes
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator import compiler, emulator
from minigan.kernels.runtime.emulator.emulator import Emulator

SOURCE = Path(__file__).with_name("planted.cu")
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")
FAST, CHECKED = Emulator(), Emulator(checked=True)
pytestmark = needs_compiler
BUILDS = pytest.mark.parametrize("gpu", [FAST, CHECKED], ids=["fast", "checked"])


def run(gpu, kernel, arguments, grid=(1,), block=(64,), dtype=FLOAT32):
    gpu.launch(SOURCE, kernel, dtype, grid, block, arguments)


def ones(gpu, *shape):
    return gpu.from_numpy(np.ones(shape, "f"))


# ------------------------------------------------------------------------------- CUDA's features
@BUILDS
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_shuffles_and_votes(gpu, dtype):
    y = gpu.empty((64, 12), dtype)
    run(gpu, "shuffles", [y], dtype=dtype)
    t = np.arange(64)
    lane, warp = t % 32, t // 32 * 32
    expected = [
        warp + 5,
        np.where(lane < 3, t, t - 3),
        np.where(lane > 28, t, t + 3),
        t ^ 6,
        t // 8 * 8 + 5,
        np.where(t % 8 < 3, t, t - 3),
        np.where(t % 8 > 4, t, t + 3),
        np.where((t ^ 9) > (t | 7), t, t ^ 9),
        0 * t + 11,  # multiples of 3 in each warp
        t >= 32,
        t < 32,
        np.where(t % 16 == 15, t, t + 1),
    ]
    assert np.array_equal(y, np.stack(expected, axis=1))


@BUILDS
def test_blocks_threads_and_arguments_by_value(gpu):
    class Numbers(ctypes.Structure):  # int4 begins at a multiple of 16
        _fields_ = (("a", ctypes.c_float), ("b", ctypes.c_double), ("c", ctypes.c_int * 4))

    grid, block = (3, 2, 4), (5, 7, 2)
    y = gpu.empty((24, 70), np.int64)
    numbers = Numbers(1.0, 2.0, (0, 0, 0, 4))
    run(gpu, "indices", [y, numbers, np.int32(8), 16.0], grid, block)
    assert np.array_equal(y, 31_000_000 + 1000 * np.arange(24)[:, None] + np.arange(70))


@BUILDS
def test_atomic_operations(gpu):
    y = gpu.from_numpy(np.array([0, 0, 0, 0, 0, -1, 0, 0, 0], np.int32))
    run(gpu, "atomics", [y])
    total = sum(range(64))
    assert y.tolist() == [total, -total, -7, 63, 255, -256, 0, 5, 128]


@BUILDS
def test_a_thread_keeps_its_stack_across_a_barrier(gpu):
    y = gpu.empty((64,), FLOAT32)
    run(gpu, "recursion", [y])
    assert y.tolist() == [210 * t for t in range(64)]


@BUILDS
@pytest.mark.parametrize("block", [1, 33, 1024])
def test_blocks_of_any_size(gpu, block):
    x, y = gpu.from_numpy(np.arange(5000, dtype="f")), gpu.empty((5000,), FLOAT32)
    run(gpu, "copy", [x, y, 5000], (-(-5000 // block),), (block,))
    assert np.array_equal(x, y)


@BUILDS
def test_barriers_do_not_wait_for_threads_that_have_exited(gpu):
    """As on GPUs since Volta."""
    y = gpu.from_numpy(np.zeros(64, "f"))
    run(gpu, "some_leave", [y])
    assert y.tolist() == [1] * 40 + [0] * 24
    run(gpu, "leave_in_turn", [y])
    assert y.tolist() == [10] * 20 + [1] * 20 + [2] * 20 + [3] * 4
    run(gpu, "lanes_leave_later", [y])
    assert y.tolist() == [19] * 20 + [-1] * 12 + [51] * 20 + [-1] * 12
    y = gpu.from_numpy(np.zeros((64, 8), "f"))
    run(gpu, "lanes_leave", [y])
    t, lane = np.arange(64), np.arange(64) % 32
    expected = [t ^ 1, lane ^ 3, 20 + 0 * t, 1 + 0 * t, 0 * t, 190 + 0 * t, 10 + 0 * t, 20 + 0 * t]
    assert np.array_equal(y, np.stack(expected, axis=1) * (lane < 20)[:, None])


def test_the_fast_build_lets_a_thread_skip_a_barrier():
    y = FAST.from_numpy(np.zeros(64, "f"))
    run(FAST, "one_skips", [y])
    assert y.tolist() == [1] * 64


@BUILDS
def test_active_masks(gpu):
    y = gpu.from_numpy(np.full((64, 3), -1, np.int64))
    run(gpu, "active_masks", [y, gpu.from_numpy(np.zeros(1, np.int32))])
    lane = np.arange(64) % 32
    stay = (lane < 28) & (lane % 4 != 3)
    groups = [(stay, 0), (stay & (lane % 2 == 1), 1), (stay & (lane % 2 == 0), 1)]
    expected = np.full((64, 3), -1, np.int64)
    for lanes, column in groups:
        expected[lanes, column] = sum(1 << i for i in lane[:32][lanes[:32]])
    assert np.array_equal(y[:, :2], expected[:, :2])
    assert sorted(y[groups[2][0], 2].tolist()) == list(range(28))
    assert (y[~groups[2][0], 2] == -1).all()


@BUILDS
def test_assignments_to_elements(gpu):
    y = gpu.from_numpy(np.concatenate([np.arange(20), np.zeros(20)]).astype(np.int32))
    run(gpu, "assignments", [y])
    expected = [3, -2, 6, 1, 1, 4, 6, 1, 64, 4, 11, 12, 11, 12, 15, 16, 14016, 37, 37, 19]
    assert y.tolist() == 2 * expected


# ---------------------------------------------------------------------------------- wrong calls
CALLS = {
    "too few": (["copy", []], r"copy \(planted.cu\) takes 3 arguments \(x, y, n\), not 0"),
    "no array": (["copy", [1, 2, 3]], "'x' is a int of 8 bytes, and declared as an array"),
    "an array": (["writes_before", [np.int32(1)]], "argument 'y' is a int32 of 4 bytes"),
    "a float": (["half", [np.ones(4, "f"), 4.0]], "'n' is a float of 4 bytes"),
    "no kernel": (
        ["nothing", []],
        "planted.cu has no kernel 'nothing'; it has reverse, reads_beyond",
    ),
}


@BUILDS
@pytest.mark.parametrize("case", CALLS)
def test_wrong_arguments_are_refused(gpu, case):
    (kernel, arguments), message = CALLS[case]
    with pytest.raises(KernelError, match=message):
        run(gpu, kernel, arguments)


@pytest.mark.parametrize(
    ("grid", "block"),
    [
        ((1,), (32, 33)),
        ((1, 65536), (32,)),
        ((2**31,), (1,)),
        ((1,), (0,)),
        ((1,), (1, 1, 65)),
        ((-1,), (1,)),
    ],
)
def test_a_grid_beyond_cudas_limits_is_refused(grid, block):
    with pytest.raises(KernelError, match=r"of 1 to .* threads, at most 1024 per block"):
        run(FAST, "two_blocks", [np.ones(1, "f")], grid, block)


def test_a_grid_without_blocks_is_no_launch():
    run(FAST, "two_blocks", [None], (0,))
    run(FAST, "no such kernel", [None], (4, 0))


def test_an_argument_of_another_type_is_refused():
    with pytest.raises(TypeError, match="a kernel argument is str; arrays"):
        run(FAST, "half", [np.ones(4, "f"), "4"])


# -------------------------------------------------------------------------------- compilation
def test_a_file_with_an_error_is_named_with_its_line(tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text('extern "C" __global__ void f(Out<REAL> y) {\n    y[0] = undeclared;\n}\n')
    for gpu in (FAST, CHECKED):
        with pytest.raises(
            KernelError, match=r"wrong\.cu: .*cannot compile it: .*wrong\.cu:2:.*undecl"
        ):
            gpu.launch(source, "f", FLOAT32, (1,), (1,), [ones(gpu, 1)])


def test_writing_to_an_input_does_not_compile(tmp_path):
    source = tmp_path / "input.cu"
    source.write_text('extern "C" __global__ void f(In<REAL> x) { x[0] = 1; }\n')
    for gpu in (FAST, CHECKED):
        with pytest.raises(KernelError, match="cannot compile"):
            gpu.launch(source, "f", FLOAT32, (1,), (1,), [ones(gpu, 1)])


def test_python_threads_with_emulators_of_their_own():
    """They share the compiled library, and launch one at a time."""

    def reverse_repeatedly(i):
        gpu = Emulator()
        x = gpu.from_numpy(np.arange(64_000, dtype="f").reshape(1000, 64) + i)
        for _ in range(20):
            y = gpu.empty(x.shape, FLOAT32)
            run(gpu, "reverse", [x, y, x.size], (1000,))
            assert np.array_equal(y, x[:, ::-1])
        return i

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(reverse_repeatedly, range(8))) == list(range(8))


def test_an_edited_file_is_compiled_again_in_the_same_process(tmp_path):
    source = tmp_path / "f.cu"
    for value in (7, 8):
        source.write_text(f'extern "C" __global__ void f(Out<REAL> y) {{ y[0] = {value}; }}\n')
        os.utime(source, ns=(value, value))
        y = FAST.empty((1,), FLOAT32)
        FAST.launch(source, "f", FLOAT32, (1,), (1,), [y])
        assert y.tolist() == [value]
    with pytest.raises(KernelError, match=r"gone\.cu: No such file"):
        FAST.launch(tmp_path / "gone.cu", "f", FLOAT32, (1,), (1,), [y])


def _python(script, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


ONE_LAUNCH = """
    import numpy as np
    from pathlib import Path
    from minigan.kernels.runtime.emulator.emulator import Emulator
    gpu = Emulator()
    reports = []
    gpu.compile_listener = reports.append
    y = gpu.empty((4,), np.dtype("float32"))
    gpu.launch(Path(r"{source}"), "f", np.dtype("float32"), (1,), (4,), [y])
    print(y.tolist(), reports)
"""


def test_compiled_once_and_again_when_the_source_changes(tmp_path):
    source = tmp_path / "family" / "f.cu"
    source.parent.mkdir()
    text = 'extern "C" __global__ void f(Out<REAL> y) { y[threadIdx.x] = 7; }\n'
    answers = []
    for value in ("7", "7", "8"):
        source.write_text(text.replace("7", value))
        script = ONE_LAUNCH.format(source=source)
        status, out, error = _python(script, MINIGAN_CACHE=str(tmp_path / "cache"))
        assert (status, error) == (0, "")
        answers.append(out.strip())
    report = "['family/f.cu (float32)']"
    seven, eight = [7.0] * 4, [8.0] * 4
    assert answers == [f"{seven} {report}", f"{seven} []", f"{eight} {report}"]
    assert len(list((tmp_path / "cache" / "emulator").glob("*.so"))) == 2


def test_a_cache_that_cannot_be_written(tmp_path):
    source = tmp_path / "f.cu"
    source.write_text('extern "C" __global__ void f(Out<REAL> y) { y[threadIdx.x] = 7; }\n')
    (tmp_path / "file").write_text("no folder")
    cache = str(tmp_path / "file" / "cache")
    status, out, error = _python(ONE_LAUNCH.format(source=source), MINIGAN_CACHE=cache)
    assert status == 0
    assert error.count("compiled kernels cannot be cached in") == 1
    assert out.startswith("[7.0, 7.0, 7.0, 7.0]")


def test_without_a_compiler_there_is_one_clear_line():
    script = (
        "from minigan.cli import main;"
        "main(['train', '--device', 'cuda-emulator', '--data', 'ring', '--steps', '1'])"
    )
    _, _, error = _python(script, CXX="no-such-compiler")
    assert error == (
        "minigan train: error: the cuda-emulator device needs a C++ compiler, and no-such-compiler"
        " is not found: install g++, or name another one in the variable CXX\n"
    )


def test_the_checked_build_by_the_environment():
    script = "import minigan as mg; print(mg.get_device('cuda-emulator').launcher.describe())"
    assert "checked build" in _python(script, MINIGAN_EMULATOR="checked")[1]
    assert "fast build" in _python(script)[1]
    error = _python(script, MINIGAN_EMULATOR="chekced")[2]
    assert "unknown MINIGAN_EMULATOR 'chekced'; did you mean 'checked'?" in error


@pytest.mark.slow
def test_context_switches_by_ucontext_do_the_same(tmp_path, monkeypatch):
    """The fallback for processors without a context switch in assembly, run on this one."""
    headers = tmp_path / "headers"
    headers.mkdir()
    for path in compiler.EMULATOR_HEADERS.glob("*.h"):
        text = path.read_text().replace("defined(__x86_64__) || defined(__aarch64__)", "0")
        (headers / path.name).write_text(text)
    assert "#if 0" in (headers / "fibers.h").read_text()
    for module in (emulator, compiler):
        monkeypatch.setattr(module, "EMULATOR_HEADERS", headers)
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    for gpu in (Emulator(), Emulator(checked=True)):
        test_shuffles_and_votes(gpu, FLOAT32)
        test_a_thread_keeps_its_stack_across_a_barrier(gpu)

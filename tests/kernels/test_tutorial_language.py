"""CUDA C++ as tutorials use it, in the emulator; the parameters of kernels; what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

import minigan as mg
from minigan.kernels.runtime.cuda.parameters import parameters, with_c_linkage

SOURCE = Path(__file__).with_name("tutorial_language.cu")
FAST, CHECKED = (mg.cuda.compile(SOURCE, build=build) for build in ("fast", "checked"))
pytestmark = needs_compiler
BUILDS = pytest.mark.parametrize("module", [FAST, CHECKED], ids=["fast", "checked"])


@BUILDS
def test_shared_arrays(module):
    x, k = np.arange(64, dtype="f"), np.arange(64, dtype="i4")
    y = np.zeros(128, "f")
    module.shared_arrays[1, 64](x, k, y)
    t = np.arange(64)
    assert np.array_equal(y[:64], 64 + 63 - t + 8 + t % 8)
    assert np.array_equal(y[64:], 2 * (63 - t))
    z = np.zeros(64, "f")
    module.dynamic_arrays[1, 64, 8 * 64](x, z, 64)
    assert np.array_equal(z, x[::-1])


@BUILDS
def test_grids_and_blocks_of_three_axes(module):
    class Dim3(np.ctypeslib.ctypes.Structure):
        _fields_ = tuple((name, np.ctypeslib.ctypes.c_uint32) for name in "xyz")

    y = np.zeros((6, 4, 10), np.int32)
    module.coordinates[(5, 2, 3), (2, 2, 2)](y, Dim3(10, 4, 6))
    z, yy, x = np.indices(y.shape)
    assert np.array_equal(y, x + 100 * yy + 10000 * z)


@BUILDS
def test_votes_and_reductions_of_a_warp(module):
    y = np.zeros(11, np.uint32)
    module.votes[1, 32](y)
    assert y.tolist() == [0xAAAAAAAA, 1, 1, 0, 0x08080808, 496, 31, 5, 1, 0, 32]


@BUILDS
def test_atomic_operations(module):
    y, u, f = np.zeros(5, np.int32), np.zeros(3, np.uint32), np.zeros(1, "f")
    module.atomics[1, 64](y, u, f)
    assert y.tolist() == [64, -2016, -63, 63, 1]
    assert u.tolist() == [4, 6, 5]
    assert f[0] == 32
    total = np.zeros(1)
    module.doubles[3, 32](total)
    assert total[0] == 96
    if module is FAST:  # Its first read is plain, and so a race with the atomic operations.
        module.doubles_by_cas[3, 32](total)
        assert total[0] == 192


@BUILDS
def test_functions_and_arguments(module):
    x, y = np.array([1, 2, 3, 4], "f"), np.zeros(12, "f")
    module.variable("table").view("i4").reshape(2, 4)[1, 2] = 40
    module.functions[1, 1](x, y, 6, 5, 2**33, True, 0.5, 0.25)
    assert np.allclose(
        y,
        [
            *(5, 3 + 5 + 5 + 0.5 + 3, np.e, 2 + 0 + 4 + 1, 0.5 + 2 + 2 + 0.5),
            *(8 + 0 + 1 + 1 + 2 + 2, 2 + 2 + 3 + 0x3F800000, 2 + 31 + 4 + 2, np.pi + 3),
            *(2**33 + 1.75, 3 + 2 + 40, 1),
        ],
        rtol=1e-6,
    )


@BUILDS
def test_assignments_to_elements(module):
    y = np.concatenate([np.arange(20), np.zeros(20)]).astype(np.int32)
    module.assignments[1, 1](y)
    expected = [3, -2, 6, 1, 1, 4, 6, 1, 64, 4, 11, 12, 11, 12, 15, 16, 14016, 37, 37, 19]
    assert y.tolist() == 2 * expected


@BUILDS
def test_vectors_in_arrays_of_numbers(module):
    x, d = np.arange(256, dtype="f"), np.arange(64, dtype="f8")
    k, y, e = np.arange(256, dtype=np.int32), np.zeros(384, "f"), np.zeros(32)
    module.vectors[1, 64](x, d, k, y, e)
    tile = x.reshape(64, 4)[:, ::-1].ravel()
    assert np.array_equal(y[:128], tile[::-1][:128])
    assert np.array_equal(y[128:], tile.reshape(64, 4)[::-1].ravel())
    expected = np.arange(256).reshape(64, 4)
    expected[:, 0] += 1
    expected[:, 3] = expected[:, 0] + expected[:, 1]
    expected[:, 1] = expected[:, 2] + expected[:, 3]
    assert np.array_equal(k.reshape(64, 4), expected)
    assert np.array_equal(e, (d[::2] * 100 + d[1::2])[::-1])


@BUILDS
def test_intrinsics(module):
    k, x = np.array([0b1011000, 9, 5], np.int32), np.array([4, 1 + 2**-12, 1, 0.5], "f")
    y, z = np.zeros(13, np.int64), np.zeros(5, "f")
    module.intrinsics[1, 1](k, x, y, z)
    assert y.tolist() == [4, 0, 36, 3, 6, 25, 32, 23, 0b11010 << 24, 9, 15, 77, 78]
    # A fused multiply-add keeps the bits that a product would round away.
    assert z[1] == 2**-11 + 2**-24
    assert np.allclose(z, [0.5, z[1], np.exp(0.5), np.log(4), 8], rtol=1e-6)


@BUILDS
def test_exchanges_and_counters(module):
    u = np.array([0, 5, *range(100, 164)], np.uint32)
    y, f, w = np.array([0, 0, 0, -5], np.int32), np.zeros(1, "f"), np.array([1 << 40], np.uint64)
    module.exchanges[1, 64](u, y, f, w)
    assert u.tolist() == [64 % 10, 1, *range(64)]
    assert (y.tolist(), f[0], w[0]) == ([64, 64, 64, 1], 2.5, 3)


@BUILDS
@pytest.mark.parametrize("n", [0, 5, 64])
def test_counts_of_a_block(module, n):
    y = np.zeros(3 * 64, np.int32)
    module.counts_of_a_block[1, 64](y, n)
    assert np.array_equal(y.reshape(64, 3), np.tile([n, n == 64, n < 64], (64, 1)))


@BUILDS
def test_printf_and_assert(module, capsys):
    module.prints_and_asserts[1, 32](32)
    assert capsys.readouterr().out == "thread 1 of 32:  1.50 end\n"
    with pytest.raises(mg.cuda.KernelError, match=r"\(20, 0, 0\) stops at line \d+: the assertion"):
        module.prints_and_asserts[1, 32](20)
    assert capsys.readouterr().out == "thread 1 of 32:  1.50 end\n"


def test_parameters_of_kernels():
    text = """
    #define DATA float  // a comment, with a comma
    typedef unsigned long long u64;
    template <int N> __global__ void skipped(int n) {}
    __global__ void __launch_bounds__(256, 2) f(int n, const DATA* __restrict__ x, u64 *y,
        size_t s, /* 3 */ unsigned char const* img, float4* v, REAL r, In<REAL> q, float (*m)[3]) {}
    extern "C" __global__ void g() {}
    """
    found = parameters(text, np.dtype("f8"))
    assert found["g"] == ()
    assert [(p.name, p.is_pointer, p.is_const, p.dtype) for p in found["f"]] == [
        ("n", False, False, np.int32),
        ("x", True, True, np.float32),
        ("y", True, False, np.uint64),
        ("s", False, False, np.uint64),
        ("img", True, True, np.uint8),
        ("v", True, False, np.float32),
        ("r", False, False, np.float64),
        ("q", False, False, None),
        ("m", True, False, np.float32),
    ]
    linked = with_c_linkage(text)
    assert linked.count('extern "C" __global__') == 2
    assert linked.count("\n") == text.count("\n")


X = np.ones(8, "f")
READ_ONLY = np.ones(8, "f")
READ_ONLY.flags.writeable = False
WRONG = {
    "is 2147483648, and declared as int": [X, X, 2**31, 1, 1, True, 1.0, 1.0],
    "argument 'u' is -1, and declared as unsigned int": [X, X, 1, -1, 1, True, 1.0, 1.0],
    "argument 'n' is a float of 4 bytes, and declared as int": [X, X, 1.0, 1, 1, True, 1.0, 1.0],
    "argument 'x' is an array of float64, and declared as const float": [np.ones(8), X, *[1] * 6],
    "argument 'y' is a read-only array, and declared as float": [X, READ_ONLY, *[1] * 6],
    r"takes 8 arguments \(x, y, n, u, s, flag, r, d\), not 1": [X],
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_arguments_are_refused(words):
    with pytest.raises(mg.cuda.KernelError, match=words):
        FAST.functions[1, 1](*WRONG[words])


def test_a_kernel_is_launched_with_a_grid_and_a_block():
    with pytest.raises(TypeError, match=r"votes\(...\) has no grid: write votes\[grid, block\]"):
        FAST.votes(X)
    with pytest.raises(TypeError, match=r"votes\[3\]: write votes\[grid, block\]"):
        FAST.votes[3](X)
    with pytest.raises(AttributeError, match="no kernel 'vote'; it has shared_arrays"):
        FAST.vote[1, 1]()
    with pytest.raises(mg.cuda.KernelError, match=r"no_file\.cu: No such file"):
        mg.cuda.compile("no_file.cu")
    with pytest.raises(ValueError, match="unknown build 'chekced'; did you mean 'checked'"):
        mg.cuda.compile(SOURCE, build="chekced")


REFUSED = {
    "2: a launch with <<<...>>>": "__global__ void f() {}\nint main() { f<<<1, 2>>>(); }",
    "no cooperative_groups.h: write __syncthreads": "#include <cooperative_groups.h>\n",
    "no clock() or clock64()": "__global__ void f(long long* y) { *y = clock(); }",
    "has no clock() or clock64(): its": "__global__ void f(long long* y) { *y = clock64(); }",
    "use __shfl_down_sync": "__global__ void f(float* y) { *y = __shfl_down(*y, 1); }",
    "atomicAdd is for other types": "__global__ void f(short* y) { atomicAdd(y, short(1)); }",
    "1: cannot read this declaration of shared": "__global__ void f() { __shared__ int *a, *b; }",
    "takes or returns a structure by value": (
        "struct Big { float x[9]; };\n"
        "__attribute__((noinline)) __device__ float f(Big b) { return b.x[1]; }\n"
        "__global__ void g(Big* b, float* y, int n) { *y = f(b[n]); }"
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_the_checked_build_refuses(words, tmp_path):
    source = tmp_path / "refused.cu"
    source.write_text(REFUSED[words] + "\n__global__ void last() {}\n")
    module = mg.cuda.compile(source, build="checked")
    with pytest.raises(mg.cuda.KernelError, match=re.escape(words)):
        module.last[1, 1]()


@pytest.mark.parametrize(
    "file", ["tutorial_kernels.cu", "tutorial_language.cu", "emulated_grid.cu", "planted.cu"]
)
def test_nvrtc_compiles_the_same_files(file):
    pytest.importorskip("cuda.bindings.nvrtc")
    from minigan.kernels.runtime.cuda.nvrtc import compile_for

    compiled = compile_for(SOURCE.with_name(file), np.dtype("f"), "8.0")
    text = SOURCE.with_name(file).read_text()
    kernels = re.findall(r'^(?:extern "C" )?__global__', text, re.M)
    assert len(compiled.registers) == len(kernels) > 0


@pytest.mark.parametrize("grid", [1000 / 256, "4", (1, 1, 1, 1), (2, -1), True + 0.5])
def test_a_grid_is_up_to_three_integers(grid):
    with pytest.raises((TypeError, ValueError), match="shared_arrays: a grid or block"):
        FAST.shared_arrays[grid, 64]

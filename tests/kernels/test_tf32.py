"""Matrix products by tensor cores: the rounding to TF32, the fragments, the kernel, its error."""

import math
import warnings
from pathlib import Path

import cupy_standin
import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler
from matmul_helpers import LAYOUTS, edge_shapes, on_device

from minigan.engine.device import get_device
from minigan.kernels.matmul import cuda
from minigan.kernels.matmul.cuda import TF32_SOURCE, TF32_TILES, dense, matmul, multiply
from minigan.kernels.matmul.cuda_optimization_steps import TF32_STEPS
from minigan.kernels.matmul.precision import current
from minigan.kernels.runtime.cuda import hot_path, nvrtc, sass
from minigan.kernels.runtime.cuda.gpu import Gpu
from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.emulator import Emulator

BUILDS = pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
ALL_TILES = pytest.mark.parametrize("tile", TF32_TILES, ids=[name for name, *_ in TF32_TILES])
# The steps of k in the order in which the emulator adds the products of one instruction.
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def to_tf32(x):
    """Round to 11 significant bits, ties away from zero, by arithmetic in float64."""
    x = np.asarray(x, np.float32)
    exact = np.abs(np.where(np.isfinite(x), x, 0).astype(np.float64))
    exponent = np.maximum(np.frexp(exact)[1] - 1, -126)  # that of subnormals is the smallest one
    quantum = np.ldexp(1.0, exponent - 10)
    with np.errstate(over="ignore"):  # The largest numbers are rounded to infinity.
        rounded = np.float32(np.floor(exact / quantum + 0.5) * quantum)
    return np.where(np.isfinite(x), np.copysign(rounded, x), x).astype(np.float32)


def bound(a, b):
    """Return the bound of README.md for the error of each element of a @ b."""
    magnitudes = np.abs(a).astype("d") @ np.abs(b).astype("d")
    return (2**-10 + (a.shape[-1] + 16) * 2**-22) * magnitudes


def check(c, a, b, bias=0.0):
    """Compare with the float64 product of the rounded operands, and with that of the operands."""
    exact_a, exact_b = a.astype("d"), b.astype("d")
    rounded = to_tf32(a).astype("d") @ to_tf32(b).astype("d") + bias
    size = np.abs(exact_a) @ np.abs(exact_b) + np.abs(bias)
    assert c.dtype == np.float32
    assert c.shape == rounded.shape
    assert (np.abs(c - rounded) <= (a.shape[-1] + 16) * 2.0**-22 * size).all()
    assert (np.abs(c - (exact_a @ exact_b + bias)) <= bound(a, b) + 2.0**-22 * size).all()


def draw(rng, *shape):
    return rng.standard_normal(shape).astype("f")


def product(gpu, tile, a, b, depth=4096):
    """Return a @ b by one tile."""
    operands = on_device(gpu, a), on_device(gpu, b)
    return gpu.to_numpy(multiply(gpu, *operands, None, (), (*tile, depth), tf32=True))


@pytest.fixture
def tf32():
    token = current.set("tf32")
    yield
    current.reset(token)


# ------------------------------------------------------------------------------------ rounding
ROUND = """
#include "tensor_cores.h"
extern "C" __global__ void round_all(In<REAL> x, Out<REAL> y, long long n) {
    const long long i = global_thread();
    if (i < n) y[i] = __uint_as_float(to_tf32(x[i]).bits);
}
"""
UNIT = 2.0**-10  # of TF32 at 1
TINY = 2.0**-136  # the smallest subnormal number of TF32
ROUNDED = {
    1.0: 1.0,
    1 + UNIT / 2: 1 + UNIT,  # a tie: away from zero
    1 + UNIT * 1.5: 1 + 2 * UNIT,  # and not to even
    1 + UNIT / 2 - 2.0**-23: 1.0,
    1 + UNIT * 1.5 - 2.0**-23: 1 + UNIT,
    2 - UNIT / 2: 2.0,  # carries into the exponent
    3 * TINY: 3 * TINY,
    TINY / 2: TINY,
    TINY / 2 - 2.0**-149: 0.0,
    2.0**-149: 0.0,
    2.0**-126 - TINY / 2: 2.0**-126,
    0.0: 0.0,
    math.inf: math.inf,
    float(np.finfo("f").max): math.inf,
    2.0**128 - 2.0**117: 2.0**128 - 2.0**117,  # the largest finite number of TF32
    2.0**128 - 2.0**116 - 2.0**104: 2.0**128 - 2.0**117,
}


def round_in_emulator(tmp_path: Path, x, checked: bool):
    source = tmp_path / "round.cu"
    source.write_text(ROUND)
    gpu = Emulator(checked=checked)
    y = gpu.empty(x.shape, x.dtype)
    blocks = -(-len(x) // 256)
    arguments = [gpu.from_numpy(x), y, len(x)]
    gpu.launch(source, "round_all", x.dtype, (blocks,), (256,), arguments)
    return gpu.to_numpy(y)


@needs_compiler
@BUILDS
def test_rounding_is_to_nearest_with_ties_away_from_zero(tmp_path, checked, rng):
    x, expected = (np.array(list(y), "f") for y in (ROUNDED, ROUNDED.values()))
    x, expected = np.concatenate([x, -x]), np.concatenate([expected, -expected])
    y = round_in_emulator(tmp_path, x, checked)
    np.testing.assert_array_equal(y.view("u4"), expected.view("u4"))  # -0 is not 0
    np.testing.assert_array_equal(to_tf32(x).view("u4"), expected.view("u4"))
    # Any bits, subnormal and large numbers among them.
    x = rng.integers(0, 2**32, 4096, dtype=np.uint32).view("f")
    y = round_in_emulator(tmp_path, x, checked)
    np.testing.assert_array_equal(y, to_tf32(x))
    assert not np.any(y.view("u4") & 0x1FFF & ~np.isnan(x) * 0xFFFF)


@needs_compiler
def test_every_nan_stays_one(tmp_path):
    bits = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF801000, 0xFFFFFFFF], "u4")
    assert np.isnan(round_in_emulator(tmp_path, bits.view("f"), True)).all()


@CUDA_DEVICES
def test_the_kernel_rounds_both_operands(device, tf32):
    """A product with a column of one 1 is the rounded number."""
    gpu = get_device(device).launcher
    x = np.array([v for v in ROUNDED if 2**-126 <= v <= 2**127], "f")[:, None]
    one = np.ones((1, 1), "f")
    for a, b in ((x, one), (one, np.ascontiguousarray(x.T))):
        c = gpu.to_numpy(matmul(gpu, gpu.from_numpy(a), gpu.from_numpy(b)))
        np.testing.assert_array_equal(c, to_tf32(a) * to_tf32(b))


# ----------------------------------------------------------------------------------- fragments
FRAGMENTS = """
#include "tensor_cores.h"
extern "C" __global__ void f(In<REAL> a, In<REAL> b, Out<REAL> c) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    REAL c0 = 1, c1 = 2, c2 = 3, c3 = 4;
    mma_sync(c0, c1, c2, c3, to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]),
             to_tf32(a[g * 8 + t + 4]), to_tf32(a[(g + 8) * 8 + t + 4]), to_tf32(b[t * 8 + g]),
             to_tf32(b[(t + 4) * 8 + g]));
    c[g * 8 + 2 * t] = c0;
    c[g * 8 + 2 * t + 1] = c1;
    c[(g + 8) * 8 + 2 * t] = c2;
    c[(g + 8) * 8 + 2 * t + 1] = c3;
}
"""


def run_fragments(tmp_path, gpu, a, b, text=FRAGMENTS, threads=32):
    source = tmp_path / "fragments.cu"
    source.write_text(text)
    c = gpu.empty((16, 8), "float32")
    arguments = [gpu.from_numpy(a), gpu.from_numpy(b), c]
    gpu.launch(source, "f", np.dtype("float32"), (1,), (threads,), arguments)
    return gpu.to_numpy(c)


@CUDA_DEVICES
def test_the_fragments_lie_as_ptx_defines_them(tmp_path, device):
    """PTX ISA, "Matrix Fragments for mma.m16n8k8", .tf32; integers make the sum exact."""
    a, b = np.arange(128).reshape(16, 8) % 37, np.arange(64).reshape(8, 8) ** 2 % 41
    c = run_fragments(tmp_path, get_device(device).launcher, a.astype("f"), b.astype("f"))
    begin = np.tile([[1, 2]], (16, 4)) + np.repeat([0, 2], 8)[:, None]
    np.testing.assert_array_equal(c, a @ b + begin)


@needs_compiler
def test_operands_that_were_not_rounded_are_truncated(tmp_path):
    """As NVIDIA's GPUs do; PTX leaves it undefined."""
    text = FRAGMENTS.replace("to_tf32(b", "as_it_is(b").replace(
        'extern "C"', 'Tf32 as_it_is(float x) { return {__float_as_uint(x)}; }\nextern "C"'
    )
    a, b = np.zeros((16, 8), "f"), np.full((8, 8), 1 + UNIT - 2.0**-23, "f")
    a[:, 0] = 1
    c = run_fragments(tmp_path, Emulator(), a, b, text)
    assert c[0, 0] == 1 + 1.0


@needs_compiler
def test_a_lane_that_is_missing_is_reported(tmp_path):
    a, b = np.ones((16, 8), "f"), np.ones((8, 8), "f")
    gpu = Emulator(checked=True)
    text = FRAGMENTS.replace("    mma_sync(", "    if (lane != 5) mma_sync(")
    with pytest.raises(KernelError, match=r"waits in a warp .* thread \(5, 0, 0\) never comes"):
        run_fragments(tmp_path, gpu, a, b, text)
    for build in (gpu, Emulator()):
        with pytest.raises(KernelError, match="mma_sync takes all 32 lanes of a warp"):
            run_fragments(tmp_path, build, a, b, threads=16)


# ---------------------------------------------------------------------------------- the kernel
@needs_compiler
@ALL_TILES
@pytest.mark.parametrize("layout_a", LAYOUTS)
@pytest.mark.parametrize("layout_b", LAYOUTS)
def test_the_edges_of_a_tile(tile, layout_a, layout_b, rng):
    """Sizes below, at and above the tile's, in each layout, on the checked build."""
    gpu, edge = Emulator(checked=True), tile[1]
    for m, k, n in edge_shapes(edge):
        a, b = draw(rng, m, k), draw(rng, k, n)
        check(product(gpu, tile, LAYOUTS[layout_a](a), LAYOUTS[layout_b](b)), a, b)


@CUDA_DEVICES
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(1, 1, 1), (3, 5, 7), (17, 13, 1), (1, 70, 31), (65, 33, 49), (64, 2000, 64), (130, 97, 130)],
)
def test_any_size(device, m, k, n, rng, tf32):
    gpu = get_device(device).launcher
    a, b, bias = draw(rng, m, k), draw(rng, k, n), draw(rng, n)
    on_gpu = [gpu.from_numpy(x) for x in (a, b, bias)]
    check(gpu.to_numpy(matmul(gpu, *on_gpu[:2])), a, b)
    check(gpu.to_numpy(dense(gpu, *on_gpu)), a, b, bias)


@CUDA_DEVICES
def test_batches_broadcast_and_a_matrix_has_the_same_bits_alone(device, rng, tf32):
    gpu = get_device(device).launcher
    a, b = draw(rng, 3, 1, 20, 300), draw(rng, 5, 300, 9)
    on_gpu_a, on_gpu_b = gpu.from_numpy(a), gpu.from_numpy(b)
    c = gpu.to_numpy(matmul(gpu, on_gpu_a, on_gpu_b))
    check(c, a, b)
    alone = gpu.to_numpy(matmul(gpu, on_gpu_a[2, 0], on_gpu_b[4]))
    np.testing.assert_array_equal(c[2, 4], alone)


@CUDA_DEVICES
def test_a_product_over_nothing_is_the_bias(device, rng, tf32):
    gpu = get_device(device).launcher
    bias = draw(rng, 4)
    x, w = gpu.empty((3, 0), "float32"), gpu.empty((0, 4), "float32")
    c = gpu.to_numpy(dense(gpu, x, w, gpu.from_numpy(bias)))
    np.testing.assert_array_equal(c, np.tile(bias, (3, 1)))


@needs_compiler
@BUILDS
@ALL_TILES
def test_the_bits_are_those_of_a_chain_in_float32(checked, tile, rng):
    """The emulator's order is defined: the float32 kernel gives its bits for rounded operands.

    So they depend on neither tile nor layout; with splits they are those of the same splits.
    """
    gpu = Emulator(checked=checked)
    a, b = draw(rng, 70, 176), draw(rng, 176, 90)
    order = np.arange(176).reshape(-1, 8)[:, ORDER].ravel()
    rounded = [gpu.from_numpy(x) for x in (to_tf32(a)[:, order], to_tf32(b)[order])]
    for depth in (176, 64):
        plan = ("product_64", 64, 128, depth)
        expected = gpu.to_numpy(multiply(gpu, *rounded, None, (), plan))
        for layout in LAYOUTS.values():
            c = product(gpu, tile, layout(a), layout(b), depth)
            np.testing.assert_array_equal(c, expected)


@needs_compiler
def test_a_long_sum_is_split_as_in_float32(rng, tf32):
    """(4, 3000) @ (3000, 4) has one tile: 32 blocks compute parts of each sum."""
    kernel, _, _, depth = cuda.plan(4, 3000, 4, 1, np.dtype("f"), tf32=True)
    assert (kernel, -(-3000 // depth)) == ("tf32_64", 32)
    gpu, a, b, bias = Emulator(checked=True), draw(rng, 4, 3000), draw(rng, 3000, 4), draw(rng, 4)
    check(gpu.to_numpy(dense(gpu, *map(gpu.from_numpy, (a, b, bias)))), a, b, bias)


@needs_compiler
@ALL_TILES
def test_nan_and_infinity_stay_in_their_rows_and_columns(tile):
    a, b = np.ones((70, 40), "f"), np.ones((40, 70), "f")
    a[3, 5], b[7, 9] = np.nan, np.inf
    a[69, 39], b[39, 69] = np.array(0xFFFFFFFF, "u4").view("f"), -np.inf
    c = product(Emulator(checked=True), tile, a, b)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(c, a @ b)


# How a (128, 128) operand lies in an array of 128 rows: along k, in packs, in single elements.
STORED = {
    "rows": lambda x: x[:, :128],
    "columns": lambda x: x[:, :128].T,
    "unaligned columns": lambda x: x[:, 1:].T,
}


@needs_compiler
@ALL_TILES
@pytest.mark.parametrize("stored_a", STORED)
@pytest.mark.parametrize("stored_b", STORED)
def test_no_access_to_shared_memory_has_a_bank_conflict(tile, stored_a, stored_b, rng):
    gpu = Emulator(checked=True)
    a, b = (STORED[x](gpu.from_numpy(draw(rng, 128, 136))) for x in (stored_a, stored_b))
    before = gpu.counts
    multiply(gpu, a[:, :128], b[:128, :128], None, (), (*tile, 4096), tf32=True)
    counts = gpu.counts - before
    assert counts.passes == counts.ideal_passes > 0
    if "unaligned" not in stored_a + stored_b:
        assert counts.sectors == counts.ideal_sectors


@CUDA_DEVICES
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (65, 33, 49), (31, 97, 130), (64, 300, 64)])
def test_the_optimization_step(device, m, k, n, rng):
    gpu = get_device(device).launcher
    a, b = draw(rng, m, k), draw(rng, k, n)
    step = TF32_STEPS["tensor cores"]
    check(gpu.to_numpy(step(gpu, gpu.from_numpy(a), gpu.from_numpy(b))), a, b)


# ----------------------------------------------------------------------------------- the error
def adversarial(name, k, rng):
    if name == "ties":  # Each operand is rounded up by 2^-11 of its value.
        return np.full((4, k), 1 + UNIT / 2, "f"), np.full((k, 3), 1 + UNIT / 2, "f")
    if name == "cancellation":  # Exact sums near 0, whose terms are rounded in opposite directions.
        a = np.where(np.arange(k) % 2, -(1 + UNIT / 2 - 2.0**-23), 1 + UNIT / 2)
        return np.tile(a.astype("f"), (4, 1)), np.ones((k, 3), "f")
    if name == "magnitudes":  # from 2^-30 to 2^30
        a, b = (2.0 ** rng.uniform(-30, 30, s) * rng.choice([-1, 1], s) for s in ((4, k), (k, 3)))
        return a.astype("f"), b.astype("f")
    a = np.ones((4, k)) * 2.0**-12  # "one large": small products are lost, a part of each
    a[:, 0] = 1
    return (a * (1 + UNIT / 2)).astype("f"), np.full((k, 3), 1 + UNIT / 2, "f")


@CUDA_DEVICES
@pytest.mark.parametrize("k", [8, 100, 3001])
@pytest.mark.parametrize("name", ["ties", "cancellation", "magnitudes", "one large"])
def test_the_error_is_within_its_bound(device, name, k, rng, tf32):
    gpu = get_device(device).launcher
    a, b = adversarial(name, k, rng)
    c = gpu.to_numpy(matmul(gpu, gpu.from_numpy(a), gpu.from_numpy(b)))
    check(c, a, b)
    error = np.abs(c - a.astype("d") @ b.astype("d"))
    if name == "ties":  # which attain the first term of the bound
        assert (error >= 0.99 * 2.0**-10 * (a.astype("d") @ b)).all()
    if name == "cancellation" and k % 2 == 0:  # no digit of the result is right
        assert (error > 100 * np.abs(a.astype("d") @ b)).all()


# ---------------------------------------------------------------------------- which GPUs have it
class OldGpu(Emulator):
    """A GPU without tensor cores for TF32."""

    def has_tf32(self):
        return False


@needs_compiler
def test_a_gpu_without_tf32_multiplies_in_float32_and_says_so_once(rng, tf32):
    cuda._warn_without_tf32.cache_clear()
    gpu = OldGpu()
    a, b = gpu.from_numpy(draw(rng, 20, 30)), gpu.from_numpy(draw(rng, 30, 10))
    with pytest.warns(RuntimeWarning, match=r"compute capability is below 8\.0"):
        c = matmul(gpu, a, b)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(matmul(gpu, a, b), c)
    np.testing.assert_array_equal(multiply(gpu, a, b), c)


def test_tf32_begins_with_compute_capability_8(monkeypatch):
    gpu = Gpu(cupy_standin)
    for capability, expected in (("75", False), ("80", True), ("90", True), ("120", True)):
        monkeypatch.setattr(cupy_standin.Device, "compute_capability", capability)
        assert gpu.has_tf32() is expected


# -------------------------------------------------------------------------------- machine code
@pytest.mark.parametrize("capability", ["8.0", "9.0", "10.0", "12.0"])
def test_the_loop_multiplies_by_tensor_cores_and_moves_no_operand(capability):
    """Per slice of 16 steps, a warp of the 64 x 64 tile: 64 instructions of 16 x 8 x 8."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    if sass.find_disassembler() is None:
        pytest.skip("nvdisasm is not here")
    compiled = nvrtc.compile_for(TF32_SOURCE, np.dtype("float32"), capability)
    assert compiled.warnings == ""
    assert set(compiled.local_bytes.values()) == {0}
    codes = sass.disassemble(compiled.cubin)
    for kernel, count in (("tf32_128", 64), ("tf32_64", 16)):
        path = hot_path.find(codes[kernel])
        assert path.is_loop
        assert path.kinds["tensor core"] == count
        assert [x.name for x in path.instructions].count("HMMA.1688.F32.TF32") == count
        assert len([x for x in path.instructions if "MOV" in x.name]) <= 12

"""matmul and dense against their reference in float64; bits; every optimization step."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigan.kernels.matmul import cpu, micro, optimization_steps, product

# One more and one less than the sizes of tiles, vectors and K-blocks.
SIZES = [0, 1, 2, 3, 7, 8, 9, 13, 15, 16, 17, 31, 33, 47, 48, 49, 64, 65, 97]
DEPTHS = [*SIZES, 255, 257, 511, 513, 785, 1030]
DTYPES = [np.float32, np.float64]
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T.copy().T,
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "sliced": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "sliced columns": lambda x: np.concatenate([x, x], axis=1)[:, : x.shape[1]],
    "read-only": lambda x: _read_only(x.copy()),
}
# Whether B is packed, and A; with B, how many panels are packed together.
EVER, NEVER = 1, 2**62
PACKINGS = [
    *(cpu.Packing(NEVER, NEVER, 4), cpu.Packing(EVER, NEVER, 4), cpu.Packing(NEVER, EVER, 4)),
    *(cpu.Packing(EVER, EVER, panels) for panels in (1, 2, 4)),
]
any_settings = settings(deadline=None, max_examples=60)


def _read_only(x):
    x.flags.writeable = False
    return x


def _random(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _assert_product(c, a, b, bias=None):
    """|c - A B| <= (k + 1) eps |A| |B|, the bound of any order of k sums and products."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    exact, size = np.matmul(wide_a, wide_b), np.matmul(abs(wide_a), abs(wide_b))
    if bias is not None:
        exact, size = exact + bias, size + abs(bias.astype(np.float64))
    bound = (a.shape[-1] + 1) * np.finfo(a.dtype).eps * size
    assert c.dtype == a.dtype
    assert c.shape == exact.shape
    assert c.flags.c_contiguous
    assert (abs(c - exact) <= bound).all()


def _bits(x):
    return x.tobytes(), x.shape, x.dtype


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Fill result memory with NaN, so that an element never written fails a comparison."""

    def poisoned(shape, dtype):
        return np.full(shape, np.nan, dtype)

    monkeypatch.setattr(cpu, "empty", poisoned)
    monkeypatch.setattr(optimization_steps, "empty", poisoned)


@pytest.fixture
def two_threads():
    before = numba.get_num_threads()
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("numba has one thread here")
    numba.set_num_threads(2)
    yield
    numba.set_num_threads(before)


# ------------------------------------------------------------------------------ the reference
@any_settings
@given(
    m=st.sampled_from(SIZES),
    k=st.sampled_from(DEPTHS),
    n=st.sampled_from(SIZES),
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(*[st.sampled_from(list(LAYOUTS))] * 2),
)
def test_equals_the_reference_for_every_shape_and_layout(m, k, n, dtype, layouts):
    a, b = _random(1, m, k, dtype=dtype), _random(2, k, n, dtype=dtype)
    bias = _random(3, 2 * n, dtype=dtype)[::2]
    x, w = (LAYOUTS[name](y) for name, y in zip(layouts, (a, b), strict=True))
    c = cpu.matmul(x, w)
    _assert_product(c, a, b)
    assert _bits(c) == _bits(cpu.matmul(a, b))  # the layout does not change the bits
    d = cpu.dense(x, w, bias)
    _assert_product(d, a, b, bias)
    assert _bits(d) == _bits(c + bias)
    assert np.array_equal(x, a)
    assert np.array_equal(w, b)


@any_settings
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_leading_axes_broadcast(data, dtype):
    batch = data.draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=3))
    m, k, n = (data.draw(st.sampled_from([1, 2, 9, 17])) for _ in range(3))

    def operand(seed, *matrix):
        kept = data.draw(st.integers(0, len(batch)))
        axes = [data.draw(st.sampled_from([1, size])) for size in batch[len(batch) - kept :]]
        return _random(seed, *axes, *matrix, dtype=dtype)

    a, b = operand(1, m, k), operand(2, k, n)
    _assert_product(cpu.matmul(a, b), a, b)


@any_settings
@given(
    batch=st.lists(st.sampled_from([0, 1, 2, 3]), max_size=2),
    m=st.sampled_from([1, 2, 7, 17, 33]),
    k=st.sampled_from([0, 1, 16, 33]),
    n=st.sampled_from([1, 2, 3, 7, 8, 17]),
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(*[st.booleans()] * 2),
)
def test_each_product_of_a_batch_has_the_bits_of_the_product_alone(batch, m, k, n, dtype, layouts):
    x, w = _random(1, *batch, m, k, dtype=dtype), _random(2, *batch, k, n, dtype=dtype)
    x, w = (
        y.swapaxes(-1, -2).copy().swapaxes(-1, -2) if transposed else y
        for y, transposed in zip((x, w), layouts, strict=True)
    )
    y = cpu.matmul(x, w)
    assert y.shape == (*batch, m, n)
    for i in np.ndindex(*batch):
        assert _bits(y[i]) == _bits(cpu.matmul(x[i], w[i]))
        _assert_product(y[i], x[i], w[i])


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_of_stride_zero_and_batches_of_transposes(dtype):
    row, column = _random(1, 1, 40, dtype=dtype), _random(2, 40, 1, dtype=dtype)
    a, b = np.broadcast_to(row, (9, 40)), np.broadcast_to(column, (40, 19))
    _assert_product(cpu.matmul(a, b), a, b)
    a = _random(3, 5, 3, 7, 33, dtype=dtype).transpose(1, 0, 3, 2)
    b = np.broadcast_to(_random(4, 7, 18, dtype=dtype), (5, 7, 18))
    _assert_product(cpu.matmul(a, b), a, b)
    _assert_product(cpu.matmul(a, b[..., 3:4]), a, b[..., 3:4])


@pytest.mark.parametrize("op", ["matmul", "dense"])
@pytest.mark.parametrize("m", [1, 6, 13])
@pytest.mark.parametrize("n", [1, 20, 53])
@pytest.mark.parametrize("transposed", [False, True])
def test_nan_and_infinity_are_where_the_reference_has_them(op, m, n, transposed):
    a, b, bias = _random(1, m, 45), _random(2, 45, n), _random(3, n)
    a[m // 2, 7], a[0, 44], a[m - 1, 0] = np.nan, np.inf, -np.inf
    b[3, n // 2], b[44, 0], b[0, n - 1] = np.inf, 0, -np.inf
    with np.errstate(invalid="ignore"):
        expected = a.astype(np.float64) @ b.astype(np.float64) + (bias if op == "dense" else 0)
    b = b.T.copy().T if transposed else b
    c = cpu.KERNELS[op](a, b, *([bias] if op == "dense" else []))
    assert np.array_equal(np.isnan(c), np.isnan(expected))
    assert np.array_equal(np.isinf(c), np.isinf(expected))


@any_settings
@given(m=st.sampled_from(SIZES[1:]), k=st.sampled_from(DEPTHS[1:]), n=st.sampled_from(SIZES[1:]))
def test_the_products_of_the_gradients_are_adjoint(m, k, n):
    """<A x, y> == <x, A^T y> == <A, y x^T>, to the rounding of float32."""
    a, x, y = _random(1, m, k), _random(2, k, n), _random(3, m, n)
    pairs = [(cpu.matmul(a, x), y), (x, cpu.matmul(a.T, y)), (a, cpu.matmul(y, x.T))]
    products = [float(np.sum(u.astype(np.float64) * v)) for u, v in pairs]
    size = float(np.sum((abs(a).astype(np.float64) @ abs(x)) * abs(y)))
    bound = (m + k + n) * np.finfo(np.float32).eps * size
    assert max(products) - min(products) <= bound


def test_an_output_of_the_kernel_is_fresh_and_writable():
    a = _read_only(np.eye(3, dtype=np.float32))
    c = cpu.matmul(a, a)
    c[0, 0] = 5
    assert a[0, 0] == 1


# ---------------------------------------------------------------------------------- packing
@pytest.fixture
def set_packing():
    before = cpu.PACKING
    yield lambda packing: setattr(cpu, "PACKING", packing)
    cpu.PACKING = before


@settings(
    any_settings,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    m=st.sampled_from([*SIZES[1:], 130]),
    k=st.sampled_from(DEPTHS[1:]),
    n=st.sampled_from([*SIZES[1:], 250]),
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(*[st.sampled_from(list(LAYOUTS))] * 2),
)
def test_packing_changes_no_bit(set_packing, m, k, n, dtype, layouts):
    a, b, bias = (_random(i, *s, dtype=dtype) for i, s in enumerate([(m, k), (k, n), (n,)]))
    x, w = (LAYOUTS[name](y) for name, y in zip(layouts, (a, b), strict=True))
    results = set()
    for packing in PACKINGS:
        set_packing(packing)
        c = cpu.dense(x, w, bias)
        results.add(_bits(c))
    assert len(results) == 1
    _assert_product(c, a, b, bias)


@pytest.mark.parametrize("k", [1, 7, 8, 16, 24, 32, 48, 70, 530])
@pytest.mark.parametrize("m", [3, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_columns_4096_bytes_apart_and_rows_that_are_one(m, k, dtype):
    a, b = _random(1, m, k, dtype=dtype), _random(2, k, 200, dtype=dtype)
    elements = 2 * product.CACHE_WAY // np.dtype(dtype).itemsize
    wide, tall = np.zeros((m, elements), dtype), np.zeros((k, elements), dtype)
    wide[:, :k], tall[:, :m] = a, a.T
    c = cpu.matmul(a, b)
    _assert_product(c, a, b)
    assert _bits(cpu.matmul(wide[:, :k], b)) == _bits(c)
    assert _bits(cpu.matmul(tall[:, :m].T, b)) == _bits(c)
    one_row = np.broadcast_to(a[0], (m, k))
    assert _bits(cpu.matmul(one_row, b)) == _bits(cpu.matmul(one_row.copy(), b))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_rows_groups_of_panels_and_k_blocks(set_packing, packing, transposed, dtype):
    """Rows (or columns) of A lie 4096 bytes apart too."""
    set_packing(packing)
    elements = 2 * product.CACHE_WAY // np.dtype(dtype).itemsize
    m, k, n = (elements, 530, 250) if transposed else (product.BLOCK_ROWS + 13, 530, 250)
    memory = _random(1, 530 if transposed else m, elements, dtype=dtype)
    a = memory.T if transposed else memory[:, :k]
    assert 2 * product.CACHE_WAY in a.strides
    b = _random(2, k, n, dtype=dtype)
    c = cpu.matmul(a, b)
    _assert_product(c, a, b)
    set_packing(PACKINGS[0])
    assert _bits(c) == _bits(cpu.matmul(np.ascontiguousarray(a), b))


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_operands_of_a_batch_and_of_few_columns(set_packing, packing):
    set_packing(packing)
    for shape, other in [((3, 40, 33), (33, 70)), ((2, 5, 9, 40), (5, 40, 3)), ((70, 40), (40, 1))]:
        a, b = _random(1, *shape), _random(2, *other)
        _assert_product(cpu.matmul(a, b), a, b)
        columns = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
        assert _bits(cpu.matmul(columns, b)) == _bits(cpu.matmul(a, b))


def test_a_long_a_is_divided_into_blocks_of_rows(monkeypatch):
    a, b = _random(1, 200, 40), _random(2, 40, 130)
    c = cpu.matmul(a, b)
    launches = []

    def spy(kernel, *arguments, launch=cpu.launch, **options):
        launches.append(options["over"])
        launch(kernel, *arguments, **options)

    monkeypatch.setattr(cpu, "launch", spy)
    monkeypatch.setattr(cpu, "MAX_BLOCK_ROWS", 64)
    assert _bits(cpu.matmul(a, b)) == _bits(c)
    assert launches[0] >= 4


def test_memory_that_is_not_there_is_an_error():
    """Packed rows of A would take more than the address space."""
    row = np.zeros(1, np.float32)
    a = np.lib.stride_tricks.as_strided(row, (2**50, 4), (0, 0))
    with pytest.raises(MemoryError):
        cpu.launch(
            product.multiply_blocks,
            cpu.function_addresses(cpu.FUNCTIONS, row.dtype),
            *(row, 4, 8, row, 4, 4, row[:0], 0, row),
            *(np.zeros((1, 2), np.int64), len(a), 4, 10**6, False, 1, 1, (1, 1, 4)),
            over=1,
        )


# ------------------------------------------------------------------------------------- bits
@pytest.mark.parametrize(
    ("m", "k", "n"), [(64, 785, 300), (97, 1030, 130), (300, 256, 1), (1, 600, 999), (2000, 70, 9)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_threads_or_layout(two_threads, m, k, n, dtype):
    a, b, bias = (_random(i, *s, dtype=dtype) for i, s in enumerate([(m, k), (k, n), (n,)]))
    c, d = cpu.matmul(a, b), cpu.dense(a, b, bias)
    numba.set_num_threads(1)
    assert _bits(cpu.matmul(a, b)) == _bits(c)
    assert _bits(cpu.dense(a, b, bias)) == _bits(d) == _bits(c + bias)
    for x in (a, a.T.copy().T):
        for y in (b, b.T.copy().T):
            assert _bits(cpu.matmul(x, y)) == _bits(c)
    assert _bits(cpu.matmul(b.T, a.T)) == _bits(c.T.copy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_a_row_or_column_do_not_depend_on_the_others(dtype):
    a, b = _random(1, 61, 900, dtype=dtype), _random(2, 900, 83, dtype=dtype)
    c = cpu.matmul(a, b)
    for rows in (slice(0, 1), slice(5, 6), slice(3, 20), slice(40, 61)):
        assert _bits(cpu.matmul(a[rows], b)) == _bits(c[rows])
    for columns in (slice(82, 83), slice(7, 8), slice(10, 60)):
        assert _bits(cpu.matmul(a, b[:, columns])) == _bits(c[:, columns].copy())
    stacked = cpu.matmul(np.stack([a, a[::-1]]), b)
    assert _bits(stacked[0]) == _bits(c)
    assert _bits(stacked[1]) == _bits(c[::-1].copy())


def test_large_products_run_in_parallel_and_small_ones_do_not(two_threads, monkeypatch):
    tasks = []

    def spy(kernel, *arguments, over, parts, launch=cpu.launch):
        tasks.append((over, parts))
        launch(kernel, *arguments, over=over, parts=parts)

    monkeypatch.setattr(cpu, "launch", spy)
    for m, k, n in [(64, 512, 256), (16384, 64, 3), (4096, 256, 1), (8, 8, 8)]:
        a, b = _random(1, m, k), _random(2, k, n)
        _assert_product(cpu.matmul(a, b), a, b)
    assert tasks == [(2, 2), (2, 2), (2, 2), (1, 1)]


# ------------------------------------------------------------------------------ wrong input
@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        (((2, 3), (4, 5)), "matmul: takes shapes .* not \\(2, 3\\), \\(4, 5\\)"),
        (((3,), (3, 5)), "matmul: takes shapes"),
        (((3, 3), (3,)), "matmul: takes shapes"),
        (((2, 4, 3), (3, 3, 4)), "matmul: takes shapes"),
        (((2, 3), (3, 4), (3,)), "dense: takes shapes"),
        (((2, 3), (2, 4), (4,)), "dense: takes shapes"),
        (((1, 2, 3), (3, 4), (4,)), "dense: takes shapes"),
        (((2, 3), (3, 4), (1, 4)), "dense: takes shapes"),
    ],
)
def test_shapes_that_do_not_fit(shapes, error):
    arrays = [_random(0, *shape) for shape in shapes]
    with pytest.raises(ValueError, match=error):
        (cpu.matmul if len(arrays) == 2 else cpu.dense)(*arrays)


@pytest.mark.parametrize("dtypes", ["fd", "df", "ii", "ff>f", "dff", "ffd", "FF"])
def test_dtypes_that_do_not_fit(dtypes):
    names = [">f4" if dtypes == "ff>f" and i == 2 else t for i, t in enumerate(dtypes[:3])]
    arrays = [np.ones(s, t) for s, t in zip([(2, 2), (2, 2), (2,)], names, strict=False)]
    with pytest.raises(TypeError, match="one dtype, float32 or float64, not"):
        (cpu.matmul if len(arrays) == 2 else cpu.dense)(*arrays)


# -------------------------------------------------------- optimization steps, other machines
@pytest.mark.parametrize("name", optimization_steps.STEPS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (3, 0, 2), (8, 64, 48), (33, 130, 97), (17, 600, 515)]
)
def test_every_step_computes_the_product(name, dtype, m, k, n):
    a, b = _random(1, m, k, dtype=dtype), _random(2, k, n, dtype=dtype)
    x, w = a.copy(), b.copy()
    _assert_product(optimization_steps.STEPS[name](a, b), a, b)
    assert np.array_equal(a, x)
    assert np.array_equal(b, w)


SHAPES = [(9, 530, 77), (1, 64, 200), (40, 33, 1), (64, 16, 48), (70, 530, 530)]
ELSEWHERE = (
    f"SHAPES = {SHAPES}"
    + """
import sys, numpy as np
from minigan.kernels.matmul import cpu, micro
random = np.random.default_rng(0)
for m, k, n in SHAPES:
    a, b = (random.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
    c = cpu.dense(a, b, b[0])
    assert c.tobytes() == cpu.dense(a, b.T.copy().T, b[0]).tobytes()
    assert c.tobytes() == cpu.dense(a.T.copy().T, b, b[0]).tobytes()
    sys.stdout.write(c.tobytes().hex() + " ")
sys.stdout.write(str(micro.VECTOR_BYTES))
"""
)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 feature names")
@pytest.mark.parametrize(
    ("cpu_name", "features", "width"),
    [("haswell", "+sse4.2,+avx,+avx2,+fma", 32), ("x86-64", "+sse4.2,+avx,+fma", 16)],
)
def test_narrower_vectors_give_the_same_bits(cpu_name, features, width, tmp_path):
    here = {"NUMBA_CPU_NAME": cpu_name, "NUMBA_CPU_FEATURES": features}
    environment = {**os.environ, **here, "MINIGAN_CACHE": str(tmp_path)}
    if width > micro.VECTOR_BYTES:
        pytest.skip("this machine has no such vectors")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *results, vector_bytes = done.stdout.split()
    assert int(vector_bytes) == width
    random = np.random.default_rng(0)
    for (m, k, n), text in zip(SHAPES, results, strict=True):
        a, b = (random.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
        assert text == cpu.dense(a, b, b[0]).tobytes().hex()

"""Random kernels: known answers, equal bits on every path, accuracy, extreme words."""

import hashlib
import math

import numpy as np
import pytest
from helpers import spy_parallel
from hypothesis import given, settings
from hypothesis import strategies as st

from minigan.engine.op import Op
from minigan.engine.random import Generator
from minigan.kernels.random import cpu, optimization_steps
from minigan.ops import random as reference_ops

FLOATS = ["float32", "float64"]
DRAWS = {
    "random_uniform": {"low": -0.3, "high": 2.7},
    "random_normal": {},
    "random_laplace": {},
    "random_bernoulli": {"p": 0.37},
}
SIZES = [0, 1, 2, 3, 4, 5, 7, 511, 512, 513, 1023, 100003]
ONES = 0xFFFFFFFF


def counter(position: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.array([position], np.int64), np.array([seed], np.int64)


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes(), f"{np.sum(a != b)} of {a.size} numbers differ"


def philox(counter_words: list[int], key: list[int]) -> list[int]:
    """Return a block by the definition of the paper, with Python integers."""
    (a, b, c, d), (j, k) = counter_words, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = q >> 32 ^ b ^ j, q & ONES, p >> 32 ^ d ^ k, p & ONES
        j, k = (j + 0x9E3779B9) & ONES, (k + 0xBB67AE85) & ONES
    return [a, b, c, d]


# -------------------------------------------------------------------------------- known answers
# Salmon et al. 2011, the Random123 distribution's kat_vectors.
KNOWN = [
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([ONES] * 4, [ONES] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter_words", "key", "answer"), KNOWN)
def test_philox_known_answers(counter_words, key, answer):
    answer = [int(word, 16) for word in answer.split()]
    block, stream, seed = (
        low | high << 32 for low, high in (counter_words[:2], counter_words[2:], key)
    )
    assert philox(counter_words, key) == answer
    reference = reference_ops._philox(np.array([block], np.uint64), stream, seed)
    assert reference.tolist() == [answer]
    words = np.zeros(4, np.uint32)
    cpu.fill_words(words, *map(np.uint64, (block, stream, seed)))
    assert words.tolist() == answer


def test_public_functions_use_the_documented_counter():
    seed, name = 0xFEDCBA9876543210, "latent"
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    key = [seed & ONES, seed >> 32]
    words = [w for i in range(3) for w in philox([i, 0, stream & ONES, stream >> 32], key)]
    numbers = Generator(seed).uniform(10).numpy()
    assert numbers.tolist() == [(w >> 8) * 2.0**-24 for w in words[:10]]
    wide = [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]
    numbers = Generator(seed).uniform(5, dtype="float64").numpy()
    assert numbers.tolist() == [(w >> 11) * 2.0**-53 for w in wide[:5]]
    numbers = Generator(seed).bernoulli(12, 0.25, dtype="float64").numpy()
    assert numbers.tolist() == [float(w < 2**30) for w in words]
    order = list(range(12))
    for i, w in enumerate(words):
        j = w * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    assert Generator(seed).permutation(12, stream=name).numpy().tolist() == order


# ----------------------------------------------------------------------------------- equal bits
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_kernel_equals_reference(name, dtype, size):
    attributes = {"stream": -7, "shape": (size,), "dtype": np.dtype(dtype), **DRAWS[name]}
    inputs = counter(position=2**32 - 3, seed=-5)  # the block number carries into word 1
    expected = Op.registry[name].reference(*inputs, **attributes)
    assert_same_bits(cpu.KERNELS[name](*inputs, **attributes), expected)
    assert expected.dtype == dtype
    assert [x.tolist() for x in inputs] == [[2**32 - 3], [-5]]


INT64 = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(DRAWS)),
    dtype=st.sampled_from(FLOATS),
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    position=st.integers(0, 2**63 - 1),
    seed=INT64,
    stream=INT64,
)
def test_kernel_equals_reference_at_any_counter(name, dtype, shape, position, seed, stream):
    attributes = {"stream": stream, "shape": shape, "dtype": np.dtype(dtype), **DRAWS[name]}
    inputs = counter(position, seed)
    expected = Op.registry[name].reference(*inputs, **attributes)
    assert_same_bits(cpu.KERNELS[name](*inputs, **attributes), expected)


@pytest.mark.parametrize("n", [*SIZES[:-1], 2000])
def test_permutation_kernel_equals_reference(n):
    inputs = counter(position=9, seed=3)
    expected = reference_ops.random_permutation.reference(*inputs, stream=-2, n=n)
    assert_same_bits(cpu.random_permutation(*inputs, stream=-2, n=n), expected)
    assert expected.dtype == np.int64
    assert sorted(expected.tolist()) == list(range(n))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_bits_do_not_depend_on_threads(name, dtype, monkeypatch):
    calls = spy_parallel(monkeypatch)
    attributes = {"stream": 1, "shape": (70_001,), "dtype": np.dtype(dtype), **DRAWS[name]}
    results = []
    for count in (1, 2):
        monkeypatch.setattr(cpu, "parts", lambda work, least, count=count: count)
        results.append(cpu.KERNELS[name](*counter(5, 6), **attributes))
    assert calls == [name.replace("random", "draw")]
    assert_same_bits(*results)


@pytest.mark.parametrize("count", [0, 1, 3, 5, 1023, 20_001])
@pytest.mark.parametrize("distribution", optimization_steps.STEPS)
def test_every_optimization_step_gives_the_same_bits(distribution, count):
    attributes = {"low": 0.0, "high": 1.0} if distribution == "uniform" else {}
    inputs = counter(position=8, seed=-1)
    expected = Op.registry["random_" + distribution].reference(
        *inputs, stream=-4, shape=(count,), dtype=np.dtype("float32"), **attributes
    )
    for step in optimization_steps.STEPS[distribution].values():
        assert_same_bits(step(count, *inputs, -4), expected)


def test_bits_do_not_change_between_versions():
    """A published result must be reproducible from its seed."""
    g = Generator(2024)
    arrays = [g.uniform(999, -1, 1), g.normal(999), g.normal(999, dtype="float64")]
    arrays += [g.laplace(999), g.bernoulli(999, 0.3), g.permutation(999, stream="latent")]
    digest = hashlib.sha256(b"".join(x.numpy().tobytes() for x in arrays)).hexdigest()
    assert digest[:16] == "46e2b3d8539f271b"


# ------------------------------------------------------------------------------------- accuracy
def test_logarithm_is_accurate():
    rng = np.random.default_rng(0)
    u = np.concatenate(
        [
            rng.random(20_000) + 2.0**-53,
            1 - np.arange(2000) * 2.0**-53,  # next to 1, where log goes to 0
            2.0 ** -np.arange(54),
            math.sqrt(0.5) + np.arange(-500, 500) * 2.0**-53,  # where the exponent steps
        ]
    )
    u = u[u <= 1]
    exact = -np.array([math.log(x) for x in u])
    error = np.abs(reference_ops._negative_log(u) - exact)
    assert np.all(error <= 6e-16 * exact)  # 4e-16, and the reference's own rounding


def test_sine_and_cosine_are_accurate():
    rng = np.random.default_rng(1)
    edges = [i / 8 + np.arange(-300, 300) * 2.0**-53 for i in range(1, 8)]
    t = np.concatenate([rng.random(20_000), *edges, [0.0, 1 - 2.0**-53]])
    cosine, sine = reference_ops._cosine_sine(t)
    # The angle 2 pi t is rounded in the reference: 4.4e-16 at most below 2 pi.
    assert np.max(np.abs(cosine - np.cos(2 * np.pi * t))) <= 8e-16
    assert np.max(np.abs(sine - np.sin(2 * np.pi * t))) <= 8e-16
    assert np.max(np.abs(cosine**2 + sine**2 - 1)) <= 6e-16


EXTREME_WORDS = [
    [0, 0],
    [0, ONES],
    [ONES, 0],
    [ONES, ONES],
    [0, 1 << 31],
    [0, 1 << 30],
    [0, 3 << 30],
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_no_words_give_infinity_or_nan(name, dtype, monkeypatch):
    words = np.array(EXTREME_WORDS, np.uint64).reshape(-1)
    if dtype == "float64" and name != "random_bernoulli":
        words = words * np.uint64(2**32 + 1)
    else:
        words = words.astype(np.uint32)
    monkeypatch.setattr(reference_ops, "_words", lambda *_: words)
    attributes = {"stream": 0, "shape": words.shape, "dtype": np.dtype(dtype), **DRAWS[name]}
    numbers = Op.registry[name].reference(*counter(), **attributes)
    out = np.full(words.size, np.nan, dtype)
    bounds = [float(x) for x in DRAWS[name].values()]
    bounds = [round(0.37 * 2**32)] if name == "random_bernoulli" else bounds
    getattr(cpu, name.removeprefix("random_"))(words, out, *[*bounds, 0.0, 0.0][:2])
    assert_same_bits(out, numbers)
    bits = 32 if dtype == "float32" else 53
    largest = {"normal": math.sqrt(2 * bits * math.log(2)), "laplace": 53 * math.log(2)}
    if name == "random_laplace" and dtype == "float32":
        largest["laplace"] = 31 * math.log(2)
    assert np.all(np.isfinite(numbers))
    if name == "random_uniform":
        assert numbers.min() >= np.dtype(dtype).type(-0.3)
        assert numbers.max() < np.dtype(dtype).type(2.7)
    elif name != "random_bernoulli":
        bound = largest[name.removeprefix("random_")]
        assert bound * 0.999 < np.max(np.abs(numbers)) <= bound * (1 + 1e-7)


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_stays_below_high_where_rounding_would_reach_it(dtype):
    real = np.dtype(dtype).type
    words = np.full(6, -1 % 2 ** (8 * real(0).itemsize), f"u{real(0).itemsize}")
    out = np.zeros(6, dtype)
    cpu.uniform(words, out, 1.0, 2.0)
    assert np.all(out == np.nextafter(real(2), real(1)))
    high = float(np.nextafter(real(1), real(2)))
    numbers = Generator(0).uniform(1000, 1.0, high, dtype=dtype).numpy()
    assert np.all(numbers == 1)

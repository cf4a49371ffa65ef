"""Random numbers: known answers, equal bits everywhere, distributions, streams and their state."""

import hashlib
import json
import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigan.kernels.random import cpu, ladder

from minigan import random
from minigan.device import use_device
from minigan.op import Op, Update
from minigan.ops import random as meanings
from minigan.random import Generator

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
    """The paper's definition, one number at a time."""
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
    meaning = meanings._philox(np.array([block], np.uint64), stream, seed)
    assert meaning.tolist() == [answer]
    words = np.zeros(4, np.uint32)
    cpu.fill_words(words, *map(np.uint64, (block, stream, seed)))
    assert words.tolist() == answer


def test_public_numbers_follow_the_documented_counter():
    seed, name = 0xFEDCBA9876543210, "latent"
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    key = [seed & ONES, seed >> 32]
    words = [w for i in range(3) for w in philox([i, 0, stream & ONES, stream >> 32], key)]
    drawn = Generator(seed).uniform(10).numpy()
    assert drawn.tolist() == [(w >> 8) * 2.0**-24 for w in words[:10]]
    wide = [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]
    drawn = Generator(seed).uniform(5, dtype="float64").numpy()
    assert drawn.tolist() == [(w >> 11) * 2.0**-53 for w in wide[:5]]
    drawn = Generator(seed).bernoulli(12, 0.25, dtype="float64").numpy()
    assert drawn.tolist() == [float(w < 2**30) for w in words]
    order = list(range(12))
    for i, w in enumerate(words):
        j = w * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    assert Generator(seed).permutation(12, stream=name).numpy().tolist() == order


# ------------------------------------------------------------------------------------ same bits
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_kernel_equals_meaning(name, dtype, size):
    attributes = {"stream": -7, "shape": (size,), "dtype": np.dtype(dtype), **DRAWS[name]}
    inputs = counter(position=2**32 - 3, seed=-5)  # the block number carries into word 1
    expected = Op.registry[name].meaning(*inputs, **attributes)
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
def test_kernel_equals_meaning_anywhere(name, dtype, shape, position, seed, stream):
    attributes = {"stream": stream, "shape": shape, "dtype": np.dtype(dtype), **DRAWS[name]}
    inputs = counter(position, seed)
    expected = Op.registry[name].meaning(*inputs, **attributes)
    assert_same_bits(cpu.KERNELS[name](*inputs, **attributes), expected)


@pytest.mark.parametrize("n", [*SIZES[:-1], 2000])
def test_permutation_kernel_equals_meaning(n):
    inputs = counter(position=9, seed=3)
    expected = meanings.random_permutation.meaning(*inputs, stream=-2, n=n)
    assert_same_bits(cpu.random_permutation(*inputs, stream=-2, n=n), expected)
    assert expected.dtype == np.int64
    assert sorted(expected.tolist()) == list(range(n))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_bits_do_not_depend_on_threads(name, dtype, monkeypatch):
    launched = []
    parallel = cpu.draw_parallel

    def recorder(*arguments):
        launched.append(numba.get_num_threads())
        parallel(*arguments)

    monkeypatch.setattr(cpu, "draw_parallel", recorder)
    attributes = {"stream": 1, "shape": (70_001,), "dtype": np.dtype(dtype), **DRAWS[name]}
    results = []
    for count in (1, 2):
        monkeypatch.setattr(cpu, "threads", lambda count=count: count)
        results.append(cpu.KERNELS[name](*counter(5, 6), **attributes))
    assert len(launched) == 1
    assert_same_bits(*results)


@pytest.mark.parametrize("count", [0, 1, 3, 5, 1023, 20_001])
@pytest.mark.parametrize("distribution", ladder.LADDER)
def test_every_rung_gives_the_same_bits(distribution, count):
    attributes = {"low": 0.0, "high": 1.0} if distribution == "uniform" else {}
    inputs = counter(position=8, seed=-1)
    expected = Op.registry["random_" + distribution].meaning(
        *inputs, stream=-4, shape=(count,), dtype=np.dtype("float32"), **attributes
    )
    for rung in ladder.LADDER[distribution].values():
        assert_same_bits(rung(count, *inputs, -4), expected)


def test_the_bits_of_this_version():
    """A seed that is published with a result must go on giving it."""
    g = Generator(2024)
    drawn = [g.uniform(999, -1, 1), g.normal(999), g.normal(999, dtype="float64")]
    drawn += [g.laplace(999), g.bernoulli(999, 0.3), g.permutation(999, stream="latent")]
    digest = hashlib.sha256(b"".join(x.numpy().tobytes() for x in drawn)).hexdigest()
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
    error = np.abs(meanings._negative_log(u) - exact)
    assert np.all(error <= 6e-16 * exact)  # 4e-16, and the reference's own rounding


def test_sine_and_cosine_are_accurate():
    rng = np.random.default_rng(1)
    edges = [i / 8 + np.arange(-300, 300) * 2.0**-53 for i in range(1, 8)]
    turns = np.concatenate([rng.random(20_000), *edges, [0.0, 1 - 2.0**-53]])
    cosine, sine = meanings._cosine_sine(turns)
    # The angle 2 pi t is rounded in the reference: 4.4e-16 at most below 2 pi.
    assert np.max(np.abs(cosine - np.cos(2 * np.pi * turns))) <= 8e-16
    assert np.max(np.abs(sine - np.sin(2 * np.pi * turns))) <= 8e-16
    assert np.max(np.abs(cosine**2 + sine**2 - 1)) <= 6e-16


EXTREMES = [[0, 0], [0, ONES], [ONES, 0], [ONES, ONES], [0, 1 << 31], [0, 1 << 30], [0, 3 << 30]]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_no_words_give_an_infinity_or_a_nan(name, dtype, monkeypatch):
    words = np.array(EXTREMES, np.uint64).reshape(-1)
    if dtype == "float64" and name != "random_bernoulli":
        words = words * np.uint64(2**32 + 1)
    else:
        words = words.astype(np.uint32)
    monkeypatch.setattr(meanings, "_words", lambda *_: words)
    attributes = {"stream": 0, "shape": words.shape, "dtype": np.dtype(dtype), **DRAWS[name]}
    numbers = Op.registry[name].meaning(*counter(), **attributes)
    out = np.full(words.size, np.nan, dtype)
    bounds = [float(x) for x in DRAWS[name].values()]
    bounds = [round(0.37 * 2**32)] if name == "random_bernoulli" else bounds
    getattr(cpu, name.removeprefix("random_"))(words, out, *bounds)
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


# --------------------------------------------------------------------------------- distributions
N = 200_000
NORMAL_CDF = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))


def laplace_cdf(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.exp(-np.abs(x)) / 2, 1 - np.exp(-np.abs(x)) / 2)


# The cumulative distribution, and the moments E x, E x^2, E x^3, E x^4.
CASES = {
    "uniform": (lambda x: x, (1 / 2, 1 / 3, 1 / 4, 1 / 5)),
    "normal": (NORMAL_CDF, (0, 1, 0, 3)),
    "laplace": (laplace_cdf, (0, 2, 0, 24)),
}


def kolmogorov_smirnov(x: np.ndarray, cdf) -> float:
    """sqrt(n) sup |F_n - F|; above 1.95 once in a thousand samples of F."""
    exact, n = cdf(np.sort(x.astype(np.float64))), x.size
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.max(steps[1:] - exact), np.max(exact - steps[:-1]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("distribution", CASES)
def test_distribution(distribution, dtype):
    cdf, moments = CASES[distribution]
    x = getattr(Generator(11), distribution)(N, dtype=dtype).numpy()
    assert kolmogorov_smirnov(x, cdf) < 1.95
    for order, expected in enumerate(moments, 1):
        power = x.astype(np.float64) ** order
        assert abs(power.mean() - expected) < 4.5 * power.std() / math.sqrt(N)


def test_the_distance_tells_a_wrong_scale():
    x = Generator(11).normal(N).numpy()
    assert kolmogorov_smirnov(1.02 * x, NORMAL_CDF) > 1.95
    assert kolmogorov_smirnov(x + 0.01, NORMAL_CDF) > 1.95


def test_neighbours_are_independent():
    """Numbers of one block, and of blocks that follow each other."""
    for draw in (Generator(5).uniform, Generator(6).normal, Generator(7).laplace):
        x = draw(N).numpy().astype(np.float64)
        for lag in range(1, 9):
            for a, b in ((x[:-lag], x[lag:]), (x[:-lag] ** 2, x[lag:] ** 2)):
                assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / math.sqrt(N)


@pytest.mark.parametrize("p", [0.0, 1e-3, 0.3, 0.5, 1 - 1e-3, 1.0])
def test_bernoulli_frequency(p):
    x = Generator(3).bernoulli(N, p).numpy()
    assert set(np.unique(x)) <= {0.0, 1.0}
    assert abs(x.mean(dtype=np.float64) - p) <= 4.5 * math.sqrt(p * (1 - p) / N)


def test_bernoulli_is_exact_at_0_and_1():
    words, out = np.array([0, ONES], np.uint32), np.zeros(2, np.float32)
    for p, expected in ((0.0, [0, 0]), (1.0, [1, 1]), (2.0**-32, [1, 0])):
        cpu.bernoulli(words, out, p * 2**32)
        assert out.tolist() == expected


def test_permutations_are_equally_likely():
    counts: dict[tuple, int] = {}
    for position in range(12_000):
        found = tuple(cpu.random_permutation(*counter(position, 4), stream=5, n=4).tolist())
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == 24
    chi_squared = sum((c - 500) ** 2 / 500 for c in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom: passed once in a thousand


# ------------------------------------------------------------------------------ streams and seeds
def test_streams_and_seeds_are_independent():
    cases = [(0, "latent"), (1, "latent"), (2**32, "latent"), (0, "data"), (0, "latent2")]
    drawn = [Generator(seed).normal(N, stream=name).numpy() for seed, name in cases]
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert np.mean(a == b) < 1e-4
            assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / math.sqrt(N)


def test_a_stream_does_not_see_the_others():
    alone, among = Generator(3), Generator(3)
    first = [alone.normal(5).numpy() for _ in range(3)]
    for expected in first:
        among.uniform(17, stream="samples")
        among.permutation(9)
        assert_same_bits(among.normal(5).numpy(), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_draws_follow_each_other_without_gap_or_overlap(dtype):
    whole = Generator(8).laplace(28, dtype=dtype).numpy()
    g = Generator(8)
    parts = [g.laplace(n, dtype=dtype).numpy() for n in (4, 0, 16, (2, 4))]
    assert_same_bits(np.concatenate([p.reshape(-1) for p in parts]), whole)
    per_block = 16 // whole.itemsize
    assert g.state() == {"seed": 8, "streams": {"latent": 28 // per_block}}
    g.laplace(1, dtype=dtype)  # takes a whole block
    assert g.state()["streams"]["latent"] == 28 // per_block + 1
    g.bernoulli(5, 0.5, dtype=dtype)
    assert g.state()["streams"]["latent"] == 28 // per_block + 3


def test_state_goes_through_json_and_resumes():
    g = Generator(2**64 - 1)
    g.normal(100)
    g.permutation(10)
    saved = json.dumps(g.state())
    expected = [g.normal(7).numpy(), g.permutation(11).numpy(), g.uniform(3, stream="new").numpy()]
    resumed = Generator(5)
    resumed.normal(3)
    for target in (g, resumed):
        target.set_state(json.loads(saved))
        assert json.dumps(target.state()["streams"]["data"]) == "3"
        found = [target.normal(7), target.permutation(11), target.uniform(3, stream="new")]
        for a, b in zip(found, expected, strict=True):
            assert_same_bits(a.numpy(), b)


def test_manual_seed_starts_anew_in_the_same_tensors():
    """A captured step holds the tensors themselves, so that it must find the new seed in them."""
    random.manual_seed(1)
    first = random.normal(9).numpy()
    stream = random.default_generator()._streams["latent"]
    tensors = stream.position, stream.seed
    versions = [t.version for t in tensors]
    random.manual_seed(2**63 + 1)
    other = random.normal(9).numpy()
    assert (stream.position, stream.seed) == tensors
    assert all(t.version > v for t, v in zip(tensors, versions, strict=True))
    assert not np.array_equal(first, other)
    assert_same_bits(other, Generator(2**63 + 1).normal(9).numpy())
    random.manual_seed(1)
    assert_same_bits(random.normal(9).numpy(), first)


def test_a_stream_moves_between_devices():
    whole = Generator(4).normal(12).numpy()
    g = Generator(4)
    parts = [g.normal(4, device=name) for name in ("cpu", "reference", "cpu")]
    assert [p.device.name for p in parts] == ["cpu", "reference", "cpu"]
    assert_same_bits(np.concatenate([p.numpy() for p in parts]), whole)
    with use_device("reference"):
        assert g.uniform(2).device.name == "reference"


@pytest.mark.parametrize("run", [lambda u: u.meaning, lambda u: cpu.KERNELS[u.name]])
def test_updates(run):
    position, seed = counter(5, 6)
    run(Update.registry["advance"])(position, blocks=7)
    assert (position[0], seed[0]) == (12, 6)
    run(Update.registry["reseed"])(position, seed, to_position=1, to_seed=-(2**63))
    assert (position[0], seed[0]) == (1, -(2**63))


# ------------------------------------------------------------------------------------- arguments
def test_shapes_and_dtypes():
    g = Generator()
    assert g.uniform(()).shape == ()
    assert g.normal(3).shape == (3,)
    assert g.laplace([2, np.int64(3)]).shape == (2, 3)
    assert g.bernoulli((2, 0), 0.5).shape == (2, 0)
    assert g.permutation(0).shape == (0,)
    assert g.uniform(1).dtype == np.float32
    assert g.normal(1, dtype=np.float64).dtype == np.float64
    assert not g.normal(1).requires_grad
    assert np.all(g.uniform(5, 2.0, 2.0).numpy() == 2)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda g: g.normal((2, -3)), ValueError, "size -3 is negative"),
        (lambda g: g.permutation(-1), ValueError, "size -1 is negative"),
        (lambda g: g.permutation(2**32 + 1), ValueError, r"at most 2\*\*32"),
        (lambda g: g.normal(2.5), TypeError, r"2\.5"),
        (lambda g: g.normal((2, "3")), TypeError, "'3'"),
        (lambda g: g.normal(2, dtype="int64"), TypeError, "not int64"),
        (lambda g: g.normal(2, dtype="float16"), TypeError, "float16"),
        (lambda g: g.bernoulli(2, 1.1), ValueError, r"p = 1\.1"),
        (lambda g: g.bernoulli(2, -0.1), ValueError, r"p = -0\.1"),
        (lambda g: g.bernoulli(2, math.nan), ValueError, "p = nan"),
        (lambda g: g.uniform(2, 1.0, 0.0), ValueError, r"low = 1\.0"),
        (lambda g: g.uniform(2, 0.0, math.inf), ValueError, "high = inf"),
        (lambda g: g.uniform(2, -3e38, 3e38), ValueError, "finite difference"),
        (lambda g: g.normal(2, stream=3), TypeError, "named by a string"),
        (lambda g: g.normal(2, device="gpu"), ValueError, "unknown device"),
        (lambda g: g.manual_seed(-1), ValueError, "seed: -1"),
        (lambda g: g.manual_seed(2**64), ValueError, r"outside \[0, 2\*\*64\)"),
        (lambda g: g.manual_seed(1.5), TypeError, "seed: 1.5"),
        (lambda g: g.set_state({"seed": 0, "streams": {"a": -1}}), ValueError, "stream 'a'"),
    ],
)
def test_errors(call, error, match):
    g = Generator(9)
    g.normal(4)
    with pytest.raises(error, match=match):
        call(g)
    assert g.state() == {"seed": 9, "streams": {"latent": 1}}  # nothing was drawn

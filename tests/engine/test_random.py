"""Random numbers: distributions, independence, streams, seeds and state, bad arguments."""

import contextlib
import json
import math

import numpy as np
import pytest

import minigan as mg
from minigan.engine import random
from minigan.engine.device import use_device
from minigan.engine.random import Generator, use_generator
from minigan.engine.update import Update
from minigan.kernels.random import cpu

FLOATS = ["float32", "float64"]
ONES = 0xFFFFFFFF


def counter(position: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.array([position], np.int64), np.array([seed], np.int64)


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes(), f"{np.sum(a != b)} of {a.size} numbers differ"


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
        cpu.bernoulli(words, out, p * 2**32, 0.0)
        assert out.tolist() == expected


def test_permutations_are_equally_likely():
    counts: dict[tuple, int] = {}
    for position in range(12_000):
        order = tuple(cpu.random_permutation(*counter(position, 4), stream=5, n=4).tolist())
        counts[order] = counts.get(order, 0) + 1
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


def test_fork_rng_leaves_the_default_generator_as_it_was():
    random.manual_seed(3)
    random.normal(4)
    before = random.default_generator().state()
    with random.fork_rng():
        continued = random.normal(4).numpy()
    with contextlib.suppress(KeyError), random.fork_rng(7):
        seeded = random.normal(4).numpy()
        raise KeyError
    assert random.default_generator().state() == before
    assert_same_bits(random.normal(4).numpy(), continued)
    assert_same_bits(seeded, Generator(7).normal(4).numpy())


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
        drawn = [target.normal(7), target.permutation(11), target.uniform(3, stream="new")]
        for a, b in zip(drawn, expected, strict=True):
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
    assert stream.position is tensors[0]
    assert stream.seed is tensors[1]
    assert all(t.version > v for t, v in zip(tensors, versions, strict=True))
    assert not np.array_equal(first, other)
    assert_same_bits(other, Generator(2**63 + 1).normal(9).numpy())
    random.manual_seed(1)
    assert random.default_generator().state() == Generator(1).state()
    assert_same_bits(random.normal(9).numpy(), first)


def test_a_stream_moves_between_devices():
    whole = Generator(4).normal(12).numpy()
    g = Generator(4)
    parts = [g.normal(4, device=name) for name in ("cpu", "reference", "cpu")]
    assert [p.device.name for p in parts] == ["cpu", "reference", "cpu"]
    assert_same_bits(np.concatenate([p.numpy() for p in parts]), whole)
    with use_device("reference"):
        assert g.uniform(2).device.name == "reference"


@pytest.mark.parametrize("run", [lambda u: u.reference, lambda u: cpu.KERNELS[u.name]])
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


def test_use_generator_leaves_the_default_generator_as_it_was():
    mg.manual_seed(1)
    before, own = random.default_generator().state(), random.Generator(7)
    with random.use_generator(own) as generator:
        assert generator is own is random.current_generator()
        x = random.normal((5,)).numpy()
        mg.manual_seed(8)
        y = random.normal((5,)).numpy()
        with random.fork_rng(9):
            random.normal((5,))
    assert random.current_generator() is random.default_generator()
    assert random.default_generator().state() == before
    for seed, expected in ((7, x), (8, y)):
        mg.manual_seed(seed)
        np.testing.assert_array_equal(random.normal((5,)).numpy(), expected)
    assert own.state() == {"seed": 8, "streams": {"latent": 2}}


def test_a_captured_step_draws_from_the_current_generator():
    generators = random.Generator(1), random.Generator(2)
    step, results = mg.capture(lambda: random.normal((3,))), []
    for _ in range(2):
        for generator in generators:
            with random.use_generator(generator):
                results.append(step().numpy())
    for i, seed in enumerate((1, 2)):
        generator = random.Generator(seed)
        for x in results[i::2]:
            np.testing.assert_array_equal(x, generator.normal((3,)).numpy())


def test_what_is_no_generator_or_state_is_refused():
    with pytest.raises(TypeError, match="use_generator: int is not a Generator"), use_generator(5):
        pass
    generator = Generator(1)
    generator.normal(4)
    before = generator.state()
    for state in (None, {"seed": 1}, {"streams": {}}, [1, 2]):
        with pytest.raises(ValueError, match=r"set_state: .* is no state of a generator"):
            generator.set_state(state)
    assert generator.state() == before

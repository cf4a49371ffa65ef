"""A function of the seed in worker processes: order, bits, errors, threads."""

import os
import re
import subprocess
import sys

import joblib
import numba
import numpy as np
import pytest
from joblib.parallel import BACKENDS

import minigan as mg
from minigan import Config, Trainer
from minigan.data import load
from minigan.metrics import mixture_quality
from minigan.seeds import SeedError, map_seeds

RING = Config(data="ring", batch=8, steps=6, holdout=0.0)
ALL = {
    "plain": {},
    "r3gan": {"loss": "relativistic", "penalty": "r1+r2", "penalty_end": 0.01, "n_critic": 2},
    "dropout, features": {"model": "mlp-dropout", "generator_loss": "feature-matching"},
}


def _trainer(name):
    """A function that trains; tests are no module that a worker can import, closures travel."""

    def train(seed):
        trainer = Trainer(RING.replace(**ALL[name], seed=seed), load("ring", samples=50))
        for _ in range(RING.steps):
            trainer.step()
        return trainer.sample(7, seed + 11)

    return train


@pytest.mark.parametrize("name", ALL)
def test_results_have_the_bits_of_single_runs_in_the_order_of_the_seeds(name):
    train, seeds = _trainer(name), [5, 3, 5]
    alone = [train(seed) for seed in seeds]
    for workers in (1, 2):
        found = map_seeds(train, seeds, workers=workers)
        assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_begins_with_its_seed_and_the_callers_numbers_go_on(workers):
    def draw(seed):
        return mg.random.normal(3).numpy()

    mg.manual_seed(8)
    mg.random.normal(3)
    before = mg.random.default_generator().state()
    found = map_seeds(draw, range(4), workers=workers)
    assert mg.random.default_generator().state() == before
    for seed, x in enumerate(found):
        mg.manual_seed(seed)
        assert np.array_equal(draw(seed), x)


def test_workers_are_processes_of_one_thread_on_the_callers_device():
    def look(seed):
        return os.getpid(), numba.get_num_threads(), mg.random.normal(1).device.name

    with mg.use_device("reference"):
        found = map_seeds(look, range(4), workers=2)
    assert {x[1:] for x in found} == {(1, "reference")}
    assert os.getpid() not in {pid for pid, *_ in found}
    numba.set_num_threads(2)
    assert map_seeds(look, [1], workers=5) == [(os.getpid(), 2, "cpu")]
    assert map_seeds(look, [], workers=5) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_names_the_seed_and_has_its_cause(workers, recwarn):
    def fail(seed):
        if seed == 13:
            raise KeyError("gone")
        return seed

    with pytest.raises(SeedError, match=r"^seed 13: KeyError: 'gone'$") as caught:
        map_seeds(fail, range(11, 30), workers=workers)
    assert isinstance(caught.value.__cause__, KeyError)
    if workers > 1:
        assert ", in fail\n" in caught.value.__cause__.__notes__[0]
    assert not [x for x in recwarn if "cancelled" in str(x.message)]
    assert map_seeds(fail, range(3), workers=workers) == [0, 1, 2]

    class TwoArgumentError(Exception):
        """One that pickle cannot make again."""

        def __init__(self, a, b):
            super().__init__(f"{a}{b}")

    def strange(seed):
        raise TwoArgumentError("odd", seed)

    with pytest.raises(SeedError, match=r"seed [45]: .*TwoArgumentError: odd[45]$"):
        map_seeds(strange, [4, 5], workers=workers)


def test_calls_are_made_in_the_callers_folder(tmp_path, monkeypatch):
    assert map_seeds(lambda seed: os.getcwd(), range(2), workers=2) == 2 * [os.getcwd()]
    monkeypatch.chdir(tmp_path)
    assert map_seeds(lambda seed: os.getcwd(), range(2), workers=2) == 2 * [str(tmp_path)]


def test_calls_within_a_call_are_made_one_after_the_other():
    def outer(seed):
        return map_seeds(lambda seed: (os.getpid(), seed), [seed, seed + 1], workers=2)

    for seed, ((first, a), (second, b)) in enumerate(map_seeds(outer, [0, 1], workers=2)):
        assert (first, a, b) == (second, seed, seed + 1)


def test_what_joblib_was_told_is_kept(monkeypatch):
    seen = []

    class Cluster(BACKENDS["loky"]):
        supports_return_generator = False  # as not all of them do

        def configure(self, n_jobs=1, **options):
            seen.append(n_jobs)
            return super().configure(n_jobs, **options)

    monkeypatch.setitem(BACKENDS, "cluster", Cluster)
    with joblib.parallel_config(backend="cluster", n_jobs=2):
        assert map_seeds(abs, [3, 1, 2]) == [3, 1, 2]
    assert seen == [2]
    with joblib.parallel_config(backend="threading", n_jobs=2):  # they would share one generator
        assert set(map_seeds(lambda seed: os.getpid(), range(3))) == {os.getpid()}


def test_bad_seeds_and_workers_are_told():
    with pytest.raises(TypeError, match=r"map_seeds: seed 1\.5 is no integer"):
        map_seeds(abs, [1.5])
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=f"map_seeds: seed {seed} is outside"):
            map_seeds(abs, [seed])
    with pytest.raises(ValueError, match="workers = 0 is not a positive"):
        map_seeds(abs, [1], workers=0)


def test_a_script_may_hand_over_what_it_defines(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from minigan.seeds import map_seeds\n"
        "SCALE = 3\n"
        "def triple(seed):\n    return SCALE * seed\n"
        "print(map_seeds(triple, range(3), workers=2))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 3, 6]\n"
    # Where it takes more than five seconds, lines of progress come, and nothing else.
    assert all(re.match(r"seeds \d/3, ", line) for line in done.stderr.splitlines())


def test_a_kl_with_an_off_mode_bin(rng):
    modes = np.array([[0.0, 0.0], [10.0, 0.0]])
    real = modes[rng.integers(2, size=200_000)] + rng.standard_normal((200_000, 2))
    found = mixture_quality(real, modes, 1.0)
    assert found.high_quality == pytest.approx(1 - np.exp(-4.5), abs=1e-3)
    assert 0 <= found.kl < 1e-4
    one = mixture_quality(real[real[:, 0] < 5], modes, 1.0)
    assert one.kl == pytest.approx(np.log(2), abs=0.01)
    off = mixture_quality(real + 100, modes, 1.0)
    assert (off.modes, off.reverse_kl) == (0, np.inf)
    assert off.kl == pytest.approx(4.5)


def test_workers_return_tensors_and_nets():
    def make(seed):
        return mg.random.normal((2,)), mg.nn.Dense(2, 1)

    for z, net in map_seeds(make, [1, 2], workers=2):
        assert net((z + mg.tensor([0.0, 0.0])).reshape(1, 2)).shape == (1, 1)

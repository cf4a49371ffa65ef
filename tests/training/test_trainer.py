"""The Trainer: batches, updates, learning, and what does not depend on what."""

import math

import numpy as np
import pytest
from helpers import threads
from hypothesis import given
from hypothesis import strategies as st

import minigan as mg
from minigan import Config, Trainer
from minigan.data import DataError, Dataset
from minigan.engine import random
from minigan.metrics import mixture_quality, sliced_wasserstein
from minigan.training.batches import Batches
from minigan.training.trainer import DivergedError

RING = Config(data="ring", samples=400, batch=32, steps=10)


def weights(trainer):
    return {
        f"{which}.{name}": x
        for which in ("generator", "discriminator")
        for name, x in getattr(trainer, which).state_dict().items()
    }


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def trained(steps=5, **options):
    trainer = Trainer(RING.replace(**options))
    rows = [trainer.step(norms=True) for _ in range(steps)]
    return trainer, rows


# ---------------------------------------------------------------------------------------- batches
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99))
def test_each_epoch_yields_each_row_once_whatever_the_batch(n, batch, seed):
    mg.manual_seed(seed)
    data = Dataset("rows", np.arange(2 * n).reshape(n, 2), np.arange(n), n)
    batches = Batches(data, batch, has_labels=True)
    epochs = -(-3 * batch // n)
    parts = [batches.next() for _ in range(-(-epochs * n // batch))]
    drawn, drawn_labels = (np.concatenate([p[i].numpy() for p in parts]) for i in range(2))
    assert np.array_equal(drawn[:, 1], drawn[:, 0] + 1)
    assert np.array_equal(drawn_labels, drawn[:, 0] // 2)  # the labels of the same rows
    for k in range(epochs):
        epoch = drawn[k * n : (k + 1) * n, 0]
        assert sorted(epoch) == list(range(0, 2 * n, 2))


def test_epochs_are_shuffled_and_differ():
    batches = Batches(Dataset("rows", np.arange(100).reshape(100, 1)), 100)
    first, second = (batches.next()[0].numpy() for _ in range(2))
    assert not np.array_equal(first, np.sort(first, axis=0))
    assert not np.array_equal(first, second)


def test_a_batch_is_new_memory():
    data = Dataset("rows", np.zeros((4, 2), np.float32))
    assert not np.shares_memory(Batches(data, 2).next()[0].array, data.stored)


# ----------------------------------------------------------------------------------------- updates
def test_an_update_of_one_net_leaves_the_other_alone():
    trainer = Trainer(RING)
    before = weights(trainer)
    with mg.use_device(trainer.device):
        players = trainer.players
        fake = trainer.generator(players.latent(32))
        (real,) = trainer.batches.next()
        players.discriminator_step(real, fake, [])
        between = weights(trainer)
        players.generator_step(fake, real, [])
    after = weights(trainer)
    for name in before:
        first, second = (0, 1) if name.startswith("discriminator") else (1, 0)
        assert np.array_equal(before[name], between[name]) == bool(first)
        assert np.array_equal(between[name], after[name]) == bool(second)


@pytest.mark.parametrize(("n_critic", "n_generator"), [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_updates_are_counted(n_critic, n_generator):
    trainer, _ = trained(4, n_critic=n_critic, n_generator=n_generator)
    state = trainer.state()[1]
    # Each update of D draws fakes, and each of G but the first: 2 numbers each.
    blocks = 4 * (n_critic + n_generator - 1) * 32 * 2 // 4
    assert state["random"]["streams"]["latent"] == blocks
    taken = 4 * n_critic * 32
    assert len(trainer.batches.order) == -taken % 360
    powers = [o.state_dict()["state"] for o in trainer.players.optimizers.values()]
    for values, updates in zip(powers, (4 * n_generator, 4 * n_critic), strict=True):
        assert np.isclose(values, 0.5**updates, rtol=1e-12).any()  # Adam's power of beta1


def test_a_row_holds_what_the_design_lists():
    _, rows = trained(3)
    for row in rows:
        assert set(row) == {"loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g"}
        assert 0 <= row["d_real"] <= 1
        assert 0 <= row["d_fake"] <= 1
        assert row["grad_norm_d"] > 0
        assert row["grad_norm_g"] > 0


def test_accuracies_are_of_the_logits_before_the_update():
    trainer = Trainer(RING)
    last = trainer.discriminator.state_dict()
    shifted = {k: v * 0 + (5 if k.endswith("bias") else 0) for k, v in last.items()}
    trainer.discriminator.load_state_dict(shifted)
    row = trainer.step()
    assert (row["d_real"], row["d_fake"]) == (1.0, 0.0)
    assert row["loss_d"] == pytest.approx(math.log1p(math.exp(-5)) + math.log1p(math.exp(5)))


def test_smoothing_changes_only_the_real_half_of_the_loss():
    _, plain = trained(1)
    _, smooth = trained(1, smooth=0.9)
    assert plain[0]["loss_d"] != smooth[0]["loss_d"]
    # The discriminator begins near p = 1/2, where either target costs log 2.
    assert smooth[0]["loss_d"] == pytest.approx(plain[0]["loss_d"], abs=0.02)


@pytest.mark.parametrize("latent", ["normal", "uniform", "laplace"])
def test_latents_are_what_they_are_called(latent):
    trainer = Trainer(RING.replace(latent=latent))
    z = trainer.players.latent(20_000).numpy().ravel()
    variance = {"normal": 1, "uniform": 1 / 3, "laplace": 2}[latent]
    assert abs(z.mean()) < 4 * math.sqrt(variance / z.size)
    assert z.var() == pytest.approx(variance, rel=0.05)
    assert (np.abs(z).max() <= 1) == (latent == "uniform")


def test_decaying_latents_are_normal_ones_of_smaller_and_smaller_deviation():
    normal, decaying = (
        Trainer(RING.replace(latent=latent, latent_size=5)).fixed_latent.numpy()
        for latent in ("normal", "decaying")
    )
    np.testing.assert_allclose(decaying, normal / np.arange(1, 6), rtol=1e-6, atol=0)


# ------------------------------------------------------------------------------------------- bits
def test_same_seed_same_bits_and_another_seed_others():
    assert same(weights(trained()[0]), weights(trained()[0]))
    assert not same(weights(trained()[0]), weights(trained(seed=1)[0]))


@pytest.mark.parametrize("model", ["mlp", "mlp-dropout"])
def test_any_number_of_threads_gives_the_same_bits(model):
    options = {"data": "glyphs", "samples": 150, "batch": 64, "model": model}
    one, rows_of_one = trained(2, **options)
    with threads(2):
        several, rows = trained(2, **options)
    assert rows == rows_of_one
    assert same(weights(several), weights(one))


def test_drawing_samples_never_changes_training():
    quiet, _ = trained(6)
    noisy = Trainer(RING)
    for k in range(6):
        noisy.sample(10 + k, seed=k)
        noisy.generate(noisy.fixed_latent)
        noisy.step(norms=bool(k % 2))
    assert same(weights(quiet), weights(noisy))


def test_samples_depend_on_their_seed_alone():
    trainer, _ = trained(3)
    first = trainer.sample(7, seed=5)
    assert first.shape == (7, 2)
    assert np.array_equal(first, trainer.sample(7, seed=5))
    assert not np.array_equal(first, trainer.sample(7, seed=6))
    other, _ = trained(3)
    random.normal((5,))
    assert np.array_equal(first, other.sample(7, seed=5))


def test_points_in_pictures_are_of_all_classes():
    values = np.repeat(np.arange(4.0), 1000)[:, None] + np.zeros((1, 2))
    trainer = Trainer(
        RING.replace(data="d", samples=None), Dataset("d", values, np.arange(4000) // 1000)
    )
    for n in (1024, 64):
        counts = np.bincount(trainer.sampler.points[:n, 0].astype(int), minlength=4)
        assert counts.min() > n / 8


def test_a_state_goes_on_in_another_trainer_to_the_same_bits():
    straight, rows = trained(9, data="glyphs", samples=90, model="mlp-dropout", batch=20)
    half, _ = trained(4, data="glyphs", samples=90, model="mlp-dropout", batch=20)
    tensors, info = half.state()
    half.step()  # what is saved is a copy
    other = Trainer(half.config)
    other.load_state(tensors, info)
    assert [other.step(norms=True) for _ in range(5)] == rows[4:]
    assert same(weights(straight), weights(other))
    assert same(straight.state()[0], other.state()[0])
    assert straight.state()[1] == other.state()[1]


def test_the_state_of_other_nets_or_data_is_refused():
    tensors, info = Trainer(RING).state()
    with pytest.raises(ValueError, match="fixed_latent is float32"):
        Trainer(RING.replace(latent_size=3)).load_state(tensors, info)
    with pytest.raises(ValueError, match="belongs to other data than these 90"):
        Trainer(RING.replace(samples=100)).load_state(tensors, info)
    fewer = {k: v for k, v in tensors.items() if k != "generator.0.weight"}
    with pytest.raises(ValueError, match="missing"):
        Trainer(RING).load_state(fewer, info)
    with pytest.raises(ValueError, match="row of int64"):
        Trainer(RING).load_state(tensors | {"batches.order": np.zeros(3)}, info)


def test_reference_and_cpu_train_alike():
    _, reference = trained(3, device="reference")
    _, cpu = trained(3)
    for a, b in zip(reference, cpu, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


# --------------------------------------------------------------------------------------- bad input
def test_a_loss_that_is_not_finite_is_named_with_its_step():
    trainer = Trainer(RING.replace(lr_g=1e30, lr_d=1e30))
    with pytest.raises(DivergedError, match=r"loss_[dg] became (nan|-?inf) at step 1$"):
        trainer.step()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_data_must_be_finite(value):
    points = np.zeros((100, 2))
    points[77, 1] = value
    with pytest.raises(DataError, match=r"1 of 200 values .* first at \(77, 1\)"):
        Trainer(RING, Dataset("points", points))


@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_options_must_fit_the_data():
    points = Dataset("points", np.zeros((40, 2)))
    with pytest.raises(ValueError, match="batch = 64, but points has only 36 training samples"):
        Trainer(RING.replace(batch=64), points)
    with pytest.raises(ValueError, match="holds out 0"):
        Trainer(RING.replace(holdout=0.001), points)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps = 0 is not a positive integer"),
        ({"steps": True}, "steps = True is not"),
        ({"batch": -3}, "batch = -3 is not"),
        ({"batch": 2.0}, "batch = 2.0 is not"),
        ({"latent_size": 0}, "latent_size = 0 is not"),
        ({"samples": -1}, "samples = -1 is not"),
        ({"log_every": 0}, "log_every = 0 is not"),
        ({"lr_g": 0.0}, "lr_g = 0.0 is not a positive number"),
        ({"lr_d": math.nan}, "lr_d = nan is not"),
        ({"lr_d": math.inf}, "lr_d = inf is not"),
        ({"lr_g": "fast"}, "lr_g = 'fast' is not a number"),
        ({"beta1": 1.0}, r"beta1 = 1.0 is not in \[0, 1\)"),
        ({"smooth": 0.5}, r"smooth = 0.5 is not in \(0.5, 1\]"),
        ({"holdout": 1.0}, "holdout = 1.0 is not"),
        ({"seed": -1}, "seed = -1 is not"),
        ({"seed": 2**64}, "is not an integer in"),
        ({"seed": 1.5}, "seed = 1.5 is not"),
        ({"data": 3}, "data = 3"),
        ({"model": "mpl"}, "unknown model 'mpl'; did you mean 'mlp'"),
        ({"loss": "leastsquare"}, "did you mean 'leastsquares'"),
        (
            {"latent": "gauss"},
            "unknown latent 'gauss' .*accepted: normal, uniform, laplace, d",
        ),
        ({"device": "gpu"}, "unknown device 'gpu'.*accepted: .*cpu"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RING.replace(**options)


# --------------------------------------------------------------------------------------- learning
def test_a_ring_gan_covers_the_ring():
    """Seeds 0 to 3: all 8 modes, share 0.75-0.80, distance 0.09-0.11 from 0.58-0.61."""
    trainer = Trainer(
        Config(data="ring", samples=10_000, batch=128, lr_g=5e-4, lr_d=1e-3, latent="uniform")
    )
    held_out = trainer.held_out.values
    before = sliced_wasserstein(trainer.sample(1000), held_out)
    for _ in range(500):
        trainer.step()
    # Ten times the data's own sigma: after a second of training the points lie near the ring.
    quality = mixture_quality(trainer.sample(2500), trainer.data.modes, 10 * trainer.data.sigma)
    assert quality.modes == 8
    assert quality.high_quality > 0.6
    assert quality.reverse_kl < 0.2
    assert sliced_wasserstein(trainer.sample(1000), held_out) < before / 3


def test_a_glyph_gan_comes_nearer_than_the_mean_image():
    """Seeds 0 and 1: distance 0.24 and 0.22 from 0.72; the mean image is at 0.40."""
    trainer = Trainer(
        Config(data="glyphs", samples=2000, holdout=0.2, batch=32, loss="leastsquares")
        .replace(lr_g=1e-3, lr_d=1e-3)
    )  # fmt: skip
    held_out = trainer.held_out.values
    before = sliced_wasserstein(trainer.sample(400), held_out)
    mean = np.broadcast_to(trainer.data.values.mean(axis=0), held_out.shape)
    for _ in range(400):
        trainer.step()
    samples = trainer.sample(400)
    assert sliced_wasserstein(samples, held_out) < min(
        0.45 * before, 0.8 * sliced_wasserstein(mean, held_out)
    )
    assert samples.std(axis=0).mean() > 0.12  # they differ: 0.22-0.24; the real ones' is 0.35

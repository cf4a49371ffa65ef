"""The gauges of a training: their values, and that they change nothing in it."""

import math

import numpy as np
import pytest
from run_helpers import RING, assert_same_run, cli, metrics, train

import minigan as mg
from minigan import Config, Trainer, nn
from minigan.data import Dataset
from minigan.engine.random import default_generator
from minigan.training.gauges import GAUGES
from minigan.utils.notices import Notice


def points(n=200, labels=False):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, n)
    return Dataset("p", rng.standard_normal((n, 2)) + 4 * y[:, None], y if labels else None)


def images(n=40):
    rng = np.random.default_rng(1)
    return Dataset("i", rng.uniform(-1, 1, (n, 1, 16, 16)), rng.integers(0, 3, n))


def trainer_of(data=None, **options):
    options = {"batch": 8, "device": "reference", **options}
    return Trainer(Config(**options), data or points())


def logits(real, fake):
    """What a step returns, with these outputs of D."""
    return {"logits": mg.tensor(np.concatenate([real, fake])[:, None])}


# -------------------------------------------------------------------------------------- values
def test_gauges_of_the_outputs_of_a_batch():
    row = trainer_of().gauges.measure(logits([0.1, 0.5] * 4, [-0.2, 0.2] * 4))
    assert row["logit_gap"] == pytest.approx(0.3)
    assert row["logit_deviation"] == pytest.approx(np.std([0.1, 0.5, -0.2, 0.2]))
    assert (row["logit_low"], row["logit_high"]) == pytest.approx((-0.2, 0.5))


@pytest.mark.parametrize(
    ("loss", "fake", "share"),
    [
        ("minimax", [-10.0] * 6 + [0.0] * 2, 0.75),  # -sigmoid(-10) is 1e-4 of -sigmoid(0)
        ("nonsaturating", [-10.0] * 6 + [0.0] * 2, 0),
        ("nonsaturating", [10.0] * 8, 1),
        ("leastsquares", [0.99] * 2 + [0.5] * 6, 0.25),
        ("hinge", [-10.0, 10.0] * 4, 0),
        ("relativistic", [10.0] * 8, 1),
    ],
)
def test_samples_are_saturated_where_the_generators_loss_is_flat(loss, fake, share):
    row = trainer_of(loss=loss).gauges.measure(logits([0.0] * 8, fake))
    assert row["saturation"] == share


def test_the_spread_and_the_nearest_are_those_of_the_samples():
    trainer = trainer_of(ema=0.5)
    trainer.step()
    row = trainer.measure()
    reference = trainer.gauges._reference
    with mg.no_grad():
        fake = trainer.average.module(reference.latent).numpy().astype(float)
    assert len(fake) == 180  # as many as training samples
    real = trainer.data.values.astype(float)  # all of them, in another order
    expected = math.sqrt(fake.var(axis=0, ddof=1).sum() / real.var(axis=0, ddof=1).sum())
    assert row["diversity"] == pytest.approx(expected, rel=1e-4)
    held_out = trainer.held_out.values.astype(float)
    d = np.linalg.norm(
        held_out[:, None] - fake[None, :20], axis=2
    )  # 20 held-out samples, any order
    order = [np.flatnonzero((held_out == x).all(1))[0] for x in held_out]
    assert sorted(order) == list(range(20))
    assert row["nearest"] == pytest.approx(d.min(1).mean() / d.min(0).mean(), rel=1e-4)
    assert (row["fake_low"], row["fake_high"]) == pytest.approx((fake.min(), fake.max()), rel=1e-4)
    assert (row["real_low"], row["real_high"]) == pytest.approx((real.min(), real.max()), rel=1e-4)


def test_equal_samples_have_spread_0_and_a_dead_layer():
    trainer = trainer_of()
    trainer.step()
    first = trainer.generator[0]
    mg.optim.assign(first.weight, first.weight.detach() * 0.0)
    row = trainer.measure()
    assert row["diversity"] == pytest.approx(0, abs=1e-6)
    assert row["dead_g"] == 1
    assert row["dead_d"] < 0.2


def test_a_relu_unit_with_a_low_bias_is_dead():
    trainer = trainer_of(model="toy-relu", condition="none")
    trainer.step()
    before = trainer.measure()["dead_g"]
    bias = trainer.generator[2].bias
    values = bias.numpy()
    values[:64] = -1000
    mg.optim.assign(bias, mg.tensor(values, device="reference"))
    assert trainer.measure()["dead_g"] >= 0.5 > before


def test_a_discriminator_that_knows_the_training_samples_memorizes():
    trainer = trainer_of()
    trainer.step()
    known = {x.tobytes() for x in trainer.data.values}

    class Memory(nn.Module):
        def forward(self, x):
            hits = [[float(row.astype("f").tobytes() in known)] for row in x.numpy()]
            return mg.tensor(np.array(hits, np.float32))

    assert 0.2 < trainer.measure()["memorization"] < 0.8
    trainer.players.discriminator = Memory()
    assert trainer.measure()["memorization"] == 1


def test_labels_that_are_obeyed_and_ignored():
    data = points(labels=True)
    trainer = trainer_of(data, condition="concat")
    trainer.step()
    assert abs(trainer.measure()["class_agreement"]) < 0.8

    def generator(obeys):
        class Generator(nn.Module):
            def forward(self, z, y):
                shift = y.numpy() if obeys else 1 - np.arange(len(z)) % 2
                return z + mg.tensor(4.0 * shift[:, None].astype("f"))

        return Generator()

    trainer.players.generator = generator(True)
    row = trainer.measure()
    assert row["class_agreement"] == pytest.approx(1, abs=0.1)
    assert row["diversity"] == pytest.approx(1, abs=0.2)  # within the classes
    trainer.players.generator = generator(False)
    assert trainer.measure()["class_agreement"] == pytest.approx(0, abs=0.2)


def test_changes_are_relative_to_the_last_line_that_counts():
    trainer = trainer_of()
    trainer.step()
    first = trainer.measure()
    assert not {"movement", "update_d", "rotation_d"} & first.keys()
    bias = trainer.generator[-1].bias
    shift = mg.tensor(np.array([2.0, 0], np.float32), device="reference")
    mg.optim.assign(bias, bias.detach() + shift)
    moved = trainer.measure(keep=False)
    deviation = math.sqrt(trainer.data.values.astype(float).var(axis=0, ddof=1).mean())
    expected = pytest.approx(math.sqrt(2) / deviation, rel=1e-3)
    assert moved["movement"] == expected
    assert moved["drift"] == expected
    assert trainer.measure()["drift"] == expected
    mg.optim.assign(bias, bias.detach() - shift)
    back = trainer.measure()
    assert back["rotation_samples"] == pytest.approx(-1)


def test_learning_rates_are_those_of_the_step():
    trainer = trainer_of(schedule="linear", steps=4, lr_d=4e-3)
    for _ in range(3):
        trainer.step()
    assert trainer.measure()["lr_d"] == pytest.approx(2e-3)


def test_what_cannot_be_measured_is_left_out():
    with pytest.raises(ValueError, match="none was done yet"):
        trainer_of().measure()
    trainer = trainer_of(holdout=0.0)
    trainer.step()
    row = trainer.measure()
    assert row["nearest"] > 0
    assert "memorization" not in row
    trainer = trainer_of(points(100), generator_loss="feature-matching")
    trainer.step()
    missing = GAUGES.keys() - trainer.measure().keys()
    later = {x for x in GAUGES if x.startswith(("rotation", "update"))} | {"movement", "drift"}
    assert (
        missing == {"saturation", "memorization", "memorization_error", "class_agreement"} | later
    )


def test_numbers_that_are_not_finite_are_left_out_without_a_warning():
    trainer = trainer_of()
    trainer.step()
    bias = trainer.generator[-1].bias
    mg.optim.assign(bias, mg.tensor(np.array([np.inf, 3e38], np.float32), device="reference"))
    for _ in range(2):
        row = trainer.measure()
        assert {"diversity", "nearest", "fake_high", "drift"} & row.keys() == set()
        assert {"logit_gap", "memorization", "dead_d", "lr_d"} <= row.keys()


def test_a_net_that_works_in_training_only_is_said_once():
    trainer = trainer_of()
    trainer.step()

    class Training(nn.Module):
        def forward(self, x):
            raise ValueError("only 8 samples")

    trainer.players.discriminator = Training()
    with pytest.warns(Notice, match="cannot be measured: only 8 samples"):
        assert trainer.measure() == {}
    assert trainer.measure() == {}  # and no second warning, which would be an error


# ------------------------------------------------------------------------------ no influence
@pytest.mark.parametrize(
    ("data", "options"),
    [
        (points, {"pack": 2, "minibatch": "stddev", "ema": 0.9, "loss": "relativistic"}),
        (images, {"model": "dcgan", "condition": "concat", "instance_noise": 0.1}),
        (images, {"model": "sngan", "condition": "projection", "augment": "translation"}),
        (images, {"model": "mlp-dropout", "condition": "acgan", "penalty": "r1"}),
    ],
)
def test_the_bits_of_a_training_do_not_depend_on_gauges(data, options):
    states = []
    for measures in (False, True):
        trainer = trainer_of(data(), device="cpu", **options)
        for _ in range(3):
            trainer.step(norms=measures)
            if measures:
                assert {"diversity", "memorization", "dead_d"} - trainer.measure().keys() <= {
                    "memorization"
                }
        tensors, info = trainer.state()
        assert any(name.startswith("gauges.") for name in tensors) == measures
        states.append(({k: x for k, x in tensors.items() if "gauges" not in k}, info))
    (a, info_a), (b, info_b) = states
    assert a.keys() == b.keys()
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    assert info_a == info_b
    assert default_generator().state()["streams"] == {}  # nor is the default generator used
    assert all(module.training for module in trainer.discriminator.modules())


def test_a_run_that_was_cut_and_extended_has_the_same_lines(tmp_path):
    words = [*RING, "--device", "reference"]
    train(tmp_path / "whole", *words, "--steps", 40)
    train(tmp_path / "cut", *words, "--steps", 17)  # a line that the whole run does not have
    assert cli("train", "--resume", tmp_path / "cut", "--steps", 40).status == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert {"movement", "rotation_d", "drift"} <= metrics(tmp_path / "cut")[-1].keys()

"""Models, losses and data that a program registers: what they are, and which options they take."""

import numpy as np
import pytest

import minigan as mg
from minigan import Config, Trainer, nn, ops
from minigan.data import DataError
from minigan.data.own import OWN
from minigan.gan.losses import LOSSES, GANLoss
from minigan.gan.models import MODELS
from minigan.training.run_folder import RunError

OPTIONS = {"data": "ring", "samples": 64, "batch": 8, "device": "reference"}


@pytest.fixture(autouse=True)
def _clean_tables():
    before = [dict(table) for table in (MODELS, LOSSES, OWN)]
    yield
    for table, content in zip((MODELS, LOSSES, OWN), before, strict=True):
        table.clear()
        table.update(content)


def _net(inputs, outputs):
    return nn.Sequential(nn.Dense(inputs, 8), nn.ReLU(), nn.Dense(8, outputs))


def _register(function, name="mine"):
    return mg.models.register(name)(function)


def _build(sample_shape, latent_size):
    """Two small nets."""
    return _net(latent_size, *sample_shape), _net(*sample_shape, 1)


def _trainer(**options):
    return Trainer(Config(**{**OPTIONS, "model": "mine", **options}))


# ------------------------------------------------------------------------------------------- models
def test_a_function_is_registered_and_returned():
    assert _register(_build) is _build
    assert MODELS["mine"].about == "Two small nets."
    trainer = _trainer()
    assert trainer.config.latent_size == 100
    assert [p.shape for p in trainer.discriminator.parameters()] == [(2, 8), (8,), (8, 1), (1,)]
    assert np.isfinite(trainer.step()["loss_d"])


def test_a_class_has_the_method_build():
    @mg.models.register("mine")
    class Mine:
        latent_size = 3
        about = "nets of mine"

        def build(self, sample_shape, latent_size, discriminator_shape=None):
            return _net(latent_size, *sample_shape), _net(discriminator_shape[0], 1)

    assert (MODELS["mine"].latent_size, MODELS["mine"].about) == (3, "nets of mine")
    for options, width in (({"pack": 2}, 4), ({"condition": "concat"}, 10)):
        trainer = _trainer(**options)
        assert (width, 8) in [p.shape for p in trainer.discriminator.parameters()]
        trainer.step()


def test_a_name_is_given_twice_but_never_one_of_minigan():
    _register(_build)
    _register(_build)
    for name in ("mlp", "none"):
        with pytest.raises(ValueError, match=f"model '{name}' is minigan's own"):
            _register(_build, name)
    for name in ("", "a b", "net.py:Mine", 3):
        with pytest.raises(ValueError, match="is not a name of letters"):
            _register(_build, name)
    with pytest.raises(ValueError, match="data 'ring' is minigan's own"):
        mg.data.register("ring")
    with pytest.raises(ValueError, match="loss 'hinge' is minigan's own"):
        mg.losses.register("hinge")


class Plain(nn.Module):
    """A discriminator that is no Sequential."""

    def __init__(self):
        self.inner = nn.Dense(2, 1)

    def forward(self, x):
        return self.inner(x)


def test_plain_modules_are_enough_for_the_simple_case():
    _register(lambda shape, n: (_net(n, *shape), Plain()))
    _trainer().step()
    for options in (
        {"minibatch": "stddev"}, {"condition": "acgan"}, {"condition": "projection"},
        {"generator_loss": "feature-matching"},
    ):  # fmt: skip
        ((name, value),) = options.items()
        message = f"{name} = '{value}' needs a discriminator that is an nn.Sequential whose last"
        with pytest.raises(ValueError, match=f"{message} .*, not a Plain"):
            _trainer(**options)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda s, n: (_net(n, 3), _net(2, 1)),
            r"generator makes \(3,\) of \(100,\), where \(2,\)",
        ),
        (lambda s, n: (_net(n, 2), _net(2, 3)), r"discriminator makes \(3,\) .*where \(1,\) is"),
        (lambda s, n: (_net(n, 2), _net(3, 1)), r"layer 0: Dense\(3, 8\) does not take \(2, 2\)"),
    ],
)
def test_shapes_are_checked(function, message):
    _register(function)
    with pytest.raises(ValueError, match=message):
        _trainer()


def test_a_build_of_two_parameters_cannot_make_another_discriminator():
    _register(_build)
    with pytest.raises(ValueError, match=r"shape \(4,\) \(pack, .* third parameter"):
        _trainer(pack=2)


# ------------------------------------------------------------------------------------------- losses
class Log:
    """minigan's non-saturating loss."""

    def discriminator(self, real, fake):
        return ops.softplus(-real).mean() + ops.softplus(fake).mean()

    def generator(self, fake):
        return ops.softplus(-fake).mean()


class Pairs:
    """minigan's relativistic loss."""

    def discriminator(self, real, fake):
        return ops.softplus(fake - real).mean()

    def generator(self, fake, real):
        return ops.softplus(real - fake).mean()


@pytest.mark.parametrize(("mine", "name"), [(Log, "nonsaturating"), (Pairs, "relativistic")])
def test_a_loss_has_the_bits_of_the_same_loss_of_minigan(mine, name):
    assert mg.losses.register("mine")(mine) is mine
    trainers = [Trainer(Config(**OPTIONS, loss=loss)) for loss in ("mine", name)]
    rows = [[trainer.step() for _ in range(3)] for trainer in trainers]
    for a, b in zip(*rows, strict=True):
        assert (a["loss_d"], a["loss_g"]) == (b["loss_d"], b["loss_g"])
    assert trainers[0].loss.levels == (None, None)


def test_a_subclass_of_ganloss_is_taken_as_it_is():
    @mg.losses.register("mine")
    class Mine(mg.losses.NonSaturating):
        pass

    assert LOSSES["mine"] is Mine
    assert Config(loss="mine", smooth=0.9).smooth == 0.9


def test_a_loss_without_targets_takes_no_smoothing():
    mg.losses.register("mine")(Log)
    with pytest.raises(ValueError, match=r"Log: smooth = 0\.9, but this loss has no targets"):
        Config(loss="mine", smooth=0.9)
    assert issubclass(LOSSES["mine"], GANLoss)


@pytest.mark.parametrize("thing", [3, lambda real, fake: real, nn.ReLU])
def test_what_is_no_loss_is_refused(thing):
    with pytest.raises(TypeError, match="loss 'mine' is not a class with the methods"):
        mg.losses.register("mine")(thing)


# --------------------------------------------------------------------------------------------- data
def test_data_are_what_a_function_returns():
    @mg.data.register("mine")
    def mine(samples=None, seed=0):
        """Points on a line, with labels."""
        values = np.arange(samples or 10, dtype="f4") + seed
        return np.stack([values, values], 1), np.arange(len(values)) % 2

    data = mg.data.load("mine", samples=6, seed=3)
    assert data.values[:, 0].tolist() == [3, 4, 5, 6, 7, 8]
    assert (data.classes, data.name, len(mg.data.load("mine"))) == (2, "mine", 10)
    with pytest.raises(DataError, match="mine has no parameter split, so it has no 'test' data"):
        mg.data.load("mine", split="test")
    with pytest.raises(ValueError, match="unknown data 'min'; did you mean 'mine'"):
        mg.data.load("min")


def test_samples_are_drawn_where_a_function_does_not_count_them():
    mg.data.register("mine")(lambda: np.arange(20.0).reshape(10, 2))
    assert len(mg.data.load("mine", samples=4)) == 4
    with pytest.raises(ValueError, match="samples 11: mine has 10 samples"):
        mg.data.load("mine", samples=11)


def test_a_run_with_registered_things_needs_them_again(tmp_path):
    _register(_build)
    mg.losses.register("mine")(Log)
    mg.data.register("mine")(lambda: np.random.default_rng(0).standard_normal((40, 2)))
    config = Config(data="mine", model="mine", loss="mine", steps=2, batch=8, device="reference")
    saved = mg.train(config, out=tmp_path / "run", progress=False)
    assert saved.config.data == "mine"
    assert mg.train(resume=saved.folder, steps=3, progress=False).step == 3
    del MODELS["mine"]
    with pytest.raises(RunError, match="has the model 'mine', which a Python program registered"):
        mg.load_run(saved.folder)
    (tmp_path / "net.py").write_text(
        "from minigan import nn\n"
        "def net(a, b): return nn.Sequential(nn.Dense(a, 8), nn.ReLU(), nn.Dense(8, b))\n"
        "def build(shape, n): return net(n, *shape), net(*shape, 1)\n"
    )
    again = mg.load_run(saved.folder, model=f"{tmp_path}/net.py:build")
    assert again.sample(2).shape == (2, 2)

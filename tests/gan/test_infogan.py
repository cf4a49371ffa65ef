"""InfoGAN: its loss by hand and in PyTorch, both players' gradients, its codes."""

import numpy as np
import pytest
from player_helpers import (
    N,
    arrays,
    close,
    cloud,
    entropy,
    labels,
    line,
    make_players,
    moved,
    numbers,
    points,
    sigmoid,
    small_models,
    softmax,
    softplus,
    spy,
    tiles,
)

import minigan as mg
from minigan import Config, Trainer, nn
from minigan.data import Dataset
from minigan.engine import random
from minigan.gan.conditional import AuxiliaryClassifier, ConditionalGenerator, information_losses
from minigan.gan.networks import build_networks

__all__ = ["small_models"]
Y = labels().numpy()
SMALL = {"condition": "infogan", "model": "small", "batch": 8, "steps": 5}


def make_infogan(codes=1, **options):
    mg.manual_seed(0)
    generator = ConditionalGenerator(nn.Sequential(nn.Dense(2 + 3, 2)), 3)
    discriminator = AuxiliaryClassifier(line(), (2,), 3, codes)
    options = {"condition": "infogan", "categories": 3, "codes": codes, **options}
    return make_players(discriminator, generator, **options)


# ----------------------------------------------------------------------------------------- the loss
@pytest.mark.parametrize("k", [0, 1, 3])
def test_its_loss_is_pytorchs(k):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    rng = np.random.default_rng(k)
    output, codes, y = rng.normal(size=(9, 4 + k)), rng.normal(size=(9, k)), rng.integers(4, size=9)
    x = mg.tensor(output, requires_grad=True)
    losses = information_losses(x, mg.tensor(y), mg.tensor(codes))
    assert list(losses) == ["class", "code"][: 1 + (k > 0)]
    theirs = torch.tensor(output, requires_grad=True)
    other = {"class": torch.nn.functional.cross_entropy(theirs[:, :4], torch.tensor(y))}
    normal = torch.distributions.Normal(theirs[:, 4:], 1.0)
    other["code"] = -normal.log_prob(torch.tensor(codes)).sum(1).mean()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(other[name].item(), rel=1e-12)
    (gradient,) = mg.grad(sum(losses.values()), [x])
    sum(other.values()).backward()
    np.testing.assert_allclose(gradient.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_its_gradients_agree_with_finite_differences():
    rng = np.random.default_rng(0)
    y = np.array([0, 2, 1, 1, 0])

    def loss(output, codes):
        return sum(information_losses(output, mg.tensor(y, device=codes.device), codes).values())

    mg.check_gradients(loss, [rng.normal(size=(5, 5)), rng.normal(size=(5, 2))], order=2)


def test_the_losses_of_both_players_and_their_gradients_by_hand():
    players, real = make_infogan(), points()
    g, d = players.generator, players.discriminator
    d_calls, g_calls = spy(d), spy(g)
    before = {"g": arrays(g), "d": arrays(d)}
    results = players.step([real], [labels()])
    z, _, fake = g_calls[0]
    x, code, both = real.numpy(), z[:, :1], d_calls[0][-1]
    r, f = np.split(both[:, :1], 2)
    q = both[N:, 1:]  # of the fakes alone: real samples have no codes
    close(numbers(results, "loss_d")[0], softplus(-r).mean() + softplus(f).mean())
    close(numbers(results, "class_d")[0], entropy(q[:, :3], Y))
    likelihood = -0.5 * (q[:, 3:] - code) ** 2 - 0.5 * np.log(2 * np.pi)
    close(numbers(results, "code_d")[0], -likelihood.mean())

    one_hot = np.eye(3)[Y]
    wrong = np.concatenate([softmax(q[:, :3]) - one_hot, q[:, 3:] - code], axis=1)
    w, b, v, c = moved(d, before["d"])
    up = np.concatenate([sigmoid(r) - 1, sigmoid(f)]) / N
    close(w, np.concatenate([x, fake]).T @ up)
    close(b, up.sum(axis=0))
    close(v, fake.T @ wrong / N)
    close(c, wrong.sum(axis=0) / N)

    w, b, v, c = arrays(d)
    later, q = fake @ w + b, fake @ v + c
    close(numbers(results, "class_g", "code_g")[0], entropy(q[:, :3], Y))
    wrong = np.concatenate([softmax(q[:, :3]) - one_hot, q[:, 3:] - code], axis=1)
    by_sample = ((sigmoid(later) - 1) @ w.T + wrong @ v.T) / N
    inputs = np.concatenate([z, before["g"][0][Y]], axis=1)
    close(moved(g, before["g"])[1], inputs.T @ by_sample)


def test_each_generator_step_has_codes_of_its_own():
    players = make_infogan(codes=2, n_generator=2, lr_d=1e-30, lr_g=1e-30)
    g_calls = spy(players.generator)
    results = players.step([points()], [labels()])
    (first, *_), (second, _, fake) = g_calls
    assert not np.array_equal(first, second)
    w, b = arrays(players.discriminator)[2:]
    q = (fake @ w + b)[:, 3:]
    expected = 0.5 * ((q - second) ** 2).sum(axis=1).mean() + np.log(2 * np.pi)
    close(numbers(results, "code_g")[0], expected)


# --------------------------------------------------------------------------------------- the codes
@pytest.mark.usefixtures("small_models")
def test_categories_are_uniform_numbers_of_their_own_stream():
    config = Config(**{**SMALL, "batch": 1000}, categories=7)
    data = Dataset("points", np.random.default_rng(0).normal(size=(1200, 2)))
    plain = config.replace(condition="none", categories=10)
    draws, reals = ([], [])
    for each, found in ((config, draws), (plain, reals)):
        trainer = Trainer(each, data)
        with random.use_generator(trainer.random):
            found += [trainer.batches.next() for _ in range(5)]
    codes = np.concatenate([y.numpy() for _, y in draws])
    counts = np.bincount(codes, minlength=7)
    assert len(counts) == 7
    assert (((counts - 5000 / 7) ** 2) / (5000 / 7)).sum() < 22.5  # chi-square, 6 degrees: 0.001
    assert not np.array_equal(codes[:1000], codes[1000:2000])
    for (x, _), (real,) in zip(draws, reals, strict=True):  # Codes change no real batch.
        assert np.array_equal(x.numpy(), real.numpy())


@pytest.mark.usefixtures("small_models")
def test_labels_of_the_data_do_not_count():
    """Training, gauges and quick measures are those of data without labels."""
    data = cloud(100)
    rows = []
    for each in (data, Dataset("cloud", data.values)):
        trainer = Trainer(Config(**SMALL, codes=1, categories=4), each)
        row = trainer.step(norms=True)
        rows.append((row, trainer.measure(), trainer.sample(6).tolist(), trainer.sampler.classes))
        assert trainer.sampler.class_names is None
    assert rows[0] == rows[1]
    assert rows[0][-1] == 4
    assert "class_agreement" not in rows[0][1]


@pytest.mark.usefixtures("small_models")
def test_a_code_changes_a_sample_and_q_takes_no_labels():
    trainer = Trainer(Config(**SMALL, codes=2), cloud())
    latent = mg.random.normal((2, 3))
    first, second = (trainer.sampler.generate(latent, np.array(y)) for y in ([0, 1], [0, 2]))
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])
    x = mg.tensor(first)
    output = trainer.discriminator(x)
    assert output.shape == (2, 1 + 10 + 2)
    assert np.array_equal(output.numpy(), trainer.discriminator(x, labels(3, 4)).numpy())
    with pytest.raises(ValueError, match=r"label 10 is not one of 0 \.\. 9"):
        trainer.sample(1, labels=np.array([10]))


@pytest.mark.usefixtures("small_models")
def test_images_with_every_other_part_of_d():
    config = Config(model="small-sngan", batch=4, condition="infogan", codes=5, minibatch="stddev")
    row = Trainer(config, tiles()).step()
    assert {"class_d", "class_g", "code_d", "code_g"} <= row.keys()


# ------------------------------------------------------------------------------------ what is said
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codes": 2}, "codes = 2 goes with condition = 'infogan'"),
        ({"condition": "acgan", "categories": 3}, "categories = 3 goes with condition = 'infogan'"),
        ({"condition": "infogan", "codes": -1}, "codes = -1 is not"),
        ({"condition": "infogan", "categories": 0}, "categories = 0 is not"),
        ({"condition": "infogan", "pack": 2}, "packed samples have no one label"),
        (
            {"condition": "infogan", "generator_loss": "feature-matching"},
            "those features know no label",
        ),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_codes_are_numbers_of_the_latent():
    config = Config(condition="infogan", model="toy", latent_size=3, codes=4)
    with pytest.raises(ValueError, match=r"codes = 4, but the codes .* has latent_size = 3$"):
        build_networks(config, (2,), None)

"""Training steps with labels: losses and gradients by hand; labels stay with their samples."""

import numpy as np
import pytest
from player_helpers import (
    N,
    arrays,
    bent,
    close,
    cloud,
    entropy,
    labels,
    line,
    make_conditional_players,
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
from minigan import Config, Trainer
from minigan.data import Dataset
from minigan.gan.networks import add_minibatch_layer

__all__ = ["small_models"]
Y = labels().numpy()
CONDITIONAL = pytest.mark.parametrize("condition", ["concat", "acgan", "projection"])


def make_players_for(condition, seed=0):
    mg.manual_seed(seed)
    return make_conditional_players(condition, line(5) if condition == "concat" else line())


# ------------------------ training steps
def test_acgans_losses_and_both_players_gradients_by_hand():
    players, real = make_players_for("acgan"), points()
    g, d = players.generator, players.discriminator
    d_calls, g_calls = spy(d), spy(g)
    before = {"g": arrays(g), "d": arrays(d)}
    results = players.step([real], [labels()])
    x, fake = real.numpy(), g_calls[0][-1]
    both = d_calls[0][-1]
    r, f = np.split(both[:, :1], 2)
    close(numbers(results, "loss_d")[0], softplus(-r).mean() + softplus(f).mean())
    real_class, fake_class = entropy(both[:N, 1:], Y), entropy(both[N:, 1:], Y)
    close(numbers(results, "class_d")[0], (real_class + fake_class) / 2)
    assert np.array_equal(results["logits"].numpy(), both[:, :1])

    one_hot = np.eye(3)[Y]
    wrong = softmax(both[:, 1:]) - np.tile(one_hot, (2, 1))
    w, b, v, c = moved(d, before["d"])
    up = np.concatenate([sigmoid(r) - 1, sigmoid(f)]) / N
    inputs = np.concatenate([x, fake])
    close(w, inputs.T @ up)
    close(b, up.sum(axis=0))
    close(v, inputs.T @ wrong / N)  # the sum of both class losses, not their mean
    close(c, wrong.sum(axis=0) / N)

    w, b, v, c = arrays(d)
    later, class_logits = fake @ w + b, fake @ v + c
    close(numbers(results, "loss_g")[0], softplus(-later).mean())
    close(numbers(results, "class_g")[0], entropy(class_logits, Y))
    by_sample = ((sigmoid(later) - 1) @ w.T + (softmax(class_logits) - one_hot) @ v.T) / N
    net = moved(g, before["g"])[-2:]
    generator_input = np.concatenate([g_calls[0][0], before["g"][0][Y]], axis=1)
    close(net[0], generator_input.T @ by_sample)
    table = np.zeros((3, 3))
    np.add.at(table, Y, by_sample @ before["g"][1][2:].T)
    close(moved(g, before["g"])[0], table)


@pytest.mark.parametrize("condition", ["concat", "projection"])
def test_labels_reach_d_and_g_with_their_gradients(condition):
    players, real = make_players_for(condition), points()
    tables = players.discriminator.embedding, players.generator.embedding
    before = [x.weight.numpy() for x in tables]
    players.step([real], [labels(*[0, 2] * 4)])
    for table, old in zip(tables, before, strict=True):
        change = np.abs(table.weight.numpy() - old).max(axis=1)
        assert change[1] == 0  # of the label that is not in the batch
        assert min(change[0], change[2]) > 1e-5


@CONDITIONAL
def test_fakes_take_the_labels_of_the_real_batch(condition):
    net = line(5) if condition == "concat" else line()
    players = make_conditional_players(condition, net, n_critic=2, n_generator=3)
    g_calls, d_calls = spy(players.generator), spy(players.discriminator)
    first, second = labels(), labels(2, 2, 2, 1, 1, 1, 0, 0)
    reals = [points(seed=1), points(seed=2)]
    players.step(reals, [first, second])
    a, b = first.numpy(), second.numpy()
    assert [call[1].tolist() for call in g_calls] == [x.tolist() for x in (a, b, b, b)]
    expected = [np.tile(a, 2), np.tile(b, 2), b, b, b]
    assert [call[1].tolist() for call in d_calls] == [x.tolist() for x in expected]
    for call, real, fake in zip(d_calls[:2], reals, g_calls[:2], strict=True):
        assert np.array_equal(call[0], np.concatenate([real.numpy(), fake[-1]]))


@CONDITIONAL
def test_minibatch_layers_get_each_batchs_labels(condition):
    net = add_minibatch_layer(bent(5 if condition == "concat" else 2), "stddev")
    players = make_conditional_players(condition, net)
    d_calls = spy(players.discriminator)
    players.step([points()], [labels()])
    assert [call[1].tolist() for call in d_calls] == [Y.tolist()] * 3


def test_a_relativistic_generator_compares_samples_of_one_label():
    players = make_conditional_players("projection", line(), loss="relativistic")
    d_calls = spy(players.discriminator)
    results = players.step([points()], [labels()])
    fake, real = d_calls[1], d_calls[2]
    assert np.array_equal(fake[1], Y)
    assert np.array_equal(real[1], Y)
    close(numbers(results, "loss_g")[0], softplus(real[-1] - fake[-1]).mean())


def test_feature_matching_uses_features_that_contain_the_label():
    """Features are [x, e(y)]: both batches have the same labels, so x alone is left."""
    players, real = (
        make_conditional_players("concat", line(5), generator_loss="feature-matching"),
        points(),
    )
    g_calls = spy(players.generator)
    results = players.step([real], [labels()])
    apart = g_calls[0][-1].mean(axis=0) - real.numpy().mean(axis=0)
    close(numbers(results, "loss_g")[0], (apart**2).sum())
    features = players.discriminator.features(real, labels()).numpy()
    rows = players.discriminator.embedding.weight.numpy()[Y]
    assert np.array_equal(features, np.concatenate([real.numpy(), rows], axis=1))


# --------------------------------------------------------------------------------------- penalties
@pytest.mark.parametrize(
    ("penalty", "by_hand"),
    [
        ("r1", lambda s: 5 * (s**2).mean()),
        ("r2", lambda s: 5 * (s**2).mean()),
        ("wgan-gp", lambda s: 10 * ((s - 1) ** 2).mean()),
        ("dragan", lambda s: 10 * ((s - 1) ** 2).mean()),
    ],
)
def test_the_penaltys_critic_gets_the_labels(penalty, by_hand):
    """A projection whose features are x: the slope at (x, y) is w + e(y), everywhere."""
    players = make_conditional_players("projection", line(), penalty=penalty)
    d = players.discriminator
    w, table = d.net[0].weight.numpy(), d.embedding.weight.numpy()
    d_calls = spy(d)
    y = labels(0, 0, 0, 0, 0, 1, 1, 1)
    results = players.step([points()], [y])
    slopes = np.sqrt(((w[:, 0] + table[y.numpy()]) ** 2).sum(axis=1))
    close(numbers(results, "penalty")[0], by_hand(slopes.astype(np.float64)))
    assert np.array_equal(d_calls[1][1], y.numpy())


def test_an_auxiliary_classifiers_slope_is_not_penalised():
    players = make_conditional_players("acgan", line(), penalty="r1")
    w = players.discriminator.net[0].weight.numpy().astype(np.float64)
    results = players.step([points()], [labels()])
    close(numbers(results, "penalty")[0], 5 * (w**2).sum())


# -------------------------------------------------------------------------------------- whole runs
@CONDITIONAL
@pytest.mark.usefixtures("small_models")
def test_labels_stay_with_their_rows(condition):
    """Each image's first pixel is its label's; the fakes' labels are those of the same rows."""
    data = tiles()
    values = data.values.copy()
    values[:, 0, 0, 0] = data.labels / 4
    config = Config(model="small", condition=condition, batch=5, holdout=0.2, n_critic=2)
    trainer = Trainer(config, Dataset("tiles", values, data.labels, 4))
    trainer.captured = False
    d_calls, g_calls = spy(trainer.discriminator), spy(trainer.generator)
    for _ in range(6):  # over the ends of epochs
        trainer.step()
    discriminator_steps = [call for call in d_calls if len(call[0]) == 10]
    assert len(discriminator_steps) == 12
    for (x, y, _), fake in zip(discriminator_steps, g_calls, strict=True):
        assert np.array_equal(x[:5, 0, 0, 0] * 4, y[:5])
        assert np.array_equal(y[:5], y[5:])
        assert np.array_equal(x[5:], fake[-1])
        assert np.array_equal(y[:5], fake[1])


@CONDITIONAL
@pytest.mark.usefixtures("small_models")
def test_samples_of_a_label(condition):
    trainer = Trainer(Config(model="small", condition=condition, batch=8), cloud())
    trainer.step()
    in_order = trainer.sample(7)
    assert np.array_equal(in_order, trainer.sample(7, labels=np.array([0, 1, 2, 0, 1, 2, 0])))
    ones = trainer.sample(7, labels=np.ones(7, np.int32))
    same = np.abs(ones - in_order).max(axis=1) < 1e-6  # latents are the seed's, whatever the label
    assert same.tolist() == [False, True, False, False, True, False, False]
    assert trainer.sample(0).shape == (0, 2)
    assert trainer.sample(300).shape == (300, 2)
    for wrong, message in (
        (np.zeros(6, int), r"int64 of shape \(6,\); 7 integers"),
        (np.zeros(7), "float64"),
        (np.full(7, 3), "label 3 is not one of 0 .. 2"),
        (np.full(7, -1), "label -1 is not"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.sample(7, labels=wrong)
    plain = Trainer(Config(model="small", batch=8), cloud())
    with pytest.raises(ValueError, match="without labels, so it takes none"):
        plain.sample(1, labels=np.zeros(1, int))


@CONDITIONAL
@pytest.mark.parametrize("classes", [1, 1000])
@pytest.mark.usefixtures("small_models")
def test_one_class_and_a_thousand_most_of_which_are_missing(condition, classes):
    points = cloud(classes=1)
    data = Dataset("cloud", points.values, points.labels + classes - 1, classes)
    trainer = Trainer(Config(model="small", condition=condition, batch=8), data)
    for _ in range(2):
        assert np.isfinite(list(trainer.step().values())).all()
    assert trainer.sample(classes + 1).shape == (classes + 1, 2)
    assert trainer.sampler.shown_images == 64


@pytest.mark.usefixtures("small_models")
def test_grids_have_the_classes_in_columns():
    trainer = Trainer(Config(model="small", condition="concat", batch=4), tiles())
    assert (trainer.sampler.cycle, len(trainer.fixed_latent)) == (4, 64)
    tens = Dataset("tens", tiles().values, tiles().labels, 10)
    trainer = Trainer(Config(model="small", condition="concat", batch=4), tens)
    assert (trainer.sampler.cycle, len(trainer.fixed_latent)) == (10, 70)


@CONDITIONAL
def test_a_generator_learns_to_obey(condition):
    """Two clouds at -1 and +1: each label's mean comes to its own side."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=2000)
    data = Dataset("two", rng.normal(0, 0.1, (2000, 2)) + 2.0 * y[:, None] - 1, y)
    config = Config(condition=condition, batch=64, lr_g=1e-3, lr_d=1e-3)
    trainer = Trainer(config, data)
    for _ in range(300):
        trainer.step()
    for label, side in ((0, -1), (1, 1)):
        samples = trainer.sample(400, labels=np.full(400, label))
        assert (samples.mean(axis=0) * side > 0.6).all()

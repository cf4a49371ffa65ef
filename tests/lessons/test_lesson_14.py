"""Lesson 14: the answers to its exercises, and what its text says about the library."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import nn
from minigan.gan.models import MODELS

NAME = "14_dcgan"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the small GANs have been trained."""
    out = tmp_path_factory.mktemp("lesson")
    until = "rate 0.0002: distance without batch norm in G / with it"
    return run_cells(source(NAME), NAME, out, until=until)


def test_its_batch_norm_is_the_librarys(lesson, rng):
    x = rng.normal(3, 2, (64, 1))
    layer = nn.BatchNorm1d(1, eps=0.8, dtype="float64")
    assert np.allclose(layer(mg.tensor(x)).numpy(), lesson["batch_norm"](x, eps=0.8))
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3"):
        nn.BatchNorm1d(1, 0.8)


def test_in_eval_mode_a_sample_does_not_depend_on_its_batch(rng):
    layer = nn.BatchNorm1d(1, dtype="float64").eval()
    near, far = (mg.tensor(np.array([[1.0], *rng.normal(m, 1, (63, 1))])) for m in (0, 5))
    assert layer(near).numpy()[0] == layer(far).numpy()[0]


@pytest.mark.parametrize(("momentum", "count"), [(0.2, 21), (0.1, 44), (0.01, 459)])
def test_the_start_of_the_running_mean_fades_by_one_minus_momentum(momentum, count):
    layer, batch = nn.BatchNorm1d(1, momentum=momentum, dtype="float64"), np.array([[4.0], [6.0]])
    for i in range(count):
        assert abs(layer.running_mean.item() / 5 - 1) > 0.01, i
        layer(mg.tensor(batch))
    assert layer.running_mean.item() / 5 - 1 == pytest.approx(-((1 - momentum) ** count))
    assert (1 - momentum) ** count < 0.01


def test_with_layer_norm_an_output_depends_on_its_own_sample_alone(rng):
    for norm, depends in ((nn.BatchNorm1d(16), True), (nn.LayerNorm(16), False)):
        D = nn.Sequential(nn.Dense(8, 16), norm, nn.LeakyReLU(0.2), nn.Dense(16, 1))
        points = mg.tensor(rng.normal(size=(16, 8)), dtype="float32", requires_grad=True)
        gradient = mg.grad(D(points)[:1].sum(), [points])[0].numpy()
        by_others = np.linalg.norm(gradient[1:]) / np.linalg.norm(gradient[0])
        assert by_others > 0.05 if depends else by_others == 0


def test_the_mlp_has_nine_times_as_many_weights(lesson):
    def weights(*nets):
        return sum(p.numpy().size for net in nets for p in net.parameters())

    ours = lesson["generator"]((32, 16), 7), lesson["discriminator"]((32, 16), 7)
    mlp = MODELS["mlp"].build((1, 28, 28), lesson["LATENT"])
    assert weights(*mlp) / weights(*ours) == pytest.approx(9, abs=0.5)


# ---------------------------------------------------------------------------------- exercises
def _distance(lesson, case, rate, **options):
    fakes = lesson["small_gan"](case, rate, 0, **options)
    return mg.metrics.sliced_wasserstein(fakes, lesson["small"][: len(fakes)])


def test_exercise_1_each_additional_batch_norm_does_harm(lesson):
    cases = {"first": ({}, {"norm_first": True}, ""), "last": ({"norm_last": True}, {}, "")}
    lesson["CASES"].update(cases)
    recipe = _distance(lesson, lesson["WITH"], 1e-3)
    assert all(_distance(lesson, case, 1e-3) > 1.3 * recipe for case in cases)


def test_exercise_2_the_recipe_catches_up(lesson):
    with_it, without = (
        [_distance(lesson, lesson[case], 1e-3, steps=steps) for steps in (600, 3000)]
        for case in ("WITH", "WITHOUT")
    )
    assert with_it[0] > 1.5 * without[0]
    assert with_it[1] == pytest.approx(without[1], rel=0.4)


def test_exercise_3_batch_norm_undoes_a_bias_and_a_scale(rng):
    x, g = (mg.tensor(rng.normal(size=shape)) for shape in ((4, 1, 8, 8), (4, 3, 4, 4)))
    layer = nn.Conv2d(1, 3, 4, 2, 1, dtype="float64")
    norm = nn.BatchNorm2d(3, eps=1e-12, dtype="float64")

    def output_and_gradients():
        y = norm(layer(x))
        return [y.numpy(), *(z.numpy() for z in mg.grad(y, [layer.weight, layer.bias], g))]

    y, by_weight, by_bias = output_and_gradients()
    assert np.abs(by_bias).max() < 1e-12
    assert np.abs(by_weight).max() > 0.1
    layer.load_state_dict({name: 10 * z for name, z in layer.state_dict().items()})
    same, smaller, _ = output_and_gradients()
    assert np.allclose(same, y)
    assert np.allclose(smaller, by_weight / 10)

"""Lesson 13: the answers to its exercises."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import nn

NAME = "13_dcgan"
pytestmark = pytest.mark.slow


# ---------------------------------------------------------------------------------- exercises
@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the checkerboard has been measured."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="kernel 4, weights 1: energy at 1/2 / at 0")


def test_exercise_1_an_odd_kernel_has_one_over_its_size_squared(lesson):
    up, size = lesson["up"], lesson["size"]
    flat = np.ones((1, 1, 18, 18))
    for k in (1, 3, 5, 7):
        output = up(flat, np.ones((1, 1, k, k)), 2, k // 2)[..., 6:30, 6:30]
        energy = lesson["spectrum"](output)
        assert energy[-1] / energy[0] == pytest.approx(1 / k**2)
        if k == 5:
            assert np.unique(output).tolist() == [4, 6, 9]
    assert all(size(up, m, 5, 2, more=1) == 2 * m for m in (4, 7, 14, 32))


def test_exercise_2_four_equal_sums_are_three_conditions(lesson, rng):
    up = lesson["up"]
    row = np.array([1, 3, 3, 1]) / 4
    kernel = np.outer(row, row)[None, None]
    sums = kernel[0, 0].reshape(2, 2, 2, 2).sum(axis=(0, 2))  # of the weights that meet in a pixel
    assert np.allclose(sums, 1)

    def output_range(kernel):
        return np.ptp(up(np.ones((1, 1, 8, 8)), kernel)[..., 1:-1, 1:-1])

    assert output_range(kernel) < 1e-12
    other = rng.normal(size=(4, 4))
    assert output_range(other[None, None]) > 0.1
    sums = other.reshape(2, 2, 2, 2).sum(axis=(0, 2))
    other[:2, :2] += sums.mean() - sums  # three numbers are enough: the fourth sum is what is left
    assert output_range(other[None, None]) < 1e-12

    ramp = np.broadcast_to(np.arange(8.0), (1, 1, 8, 8))
    steps = np.diff(up(ramp, kernel)[..., 1:-1, 1:-1], axis=-1)
    assert np.allclose(steps, 0.5)  # a ramp again, half as steep: bilinear interpolation


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

"""Lesson 13: the answers to its exercises, and what it says about the library's kernel."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import ops
from minigan.kernels.conv2d import tables

NAME = "13_convolutions"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the checkerboard has been measured."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="checkerboard energy, kernel 4, random")


def test_the_kernel_reads_through_the_lessons_two_tables(lesson):
    x, w, rows, steps = (lesson[name] for name in ("x", "w", "rows", "steps"))
    geometry = (8, 6), (4, 4), (2, 2), (1, 1), w.shape, w.strides, x.itemsize
    theirs = tables.forward(*geometry, False, tables.Work(len(x), 1, 1)).tables
    _, _, whole, _, depth = theirs[:5]  # the class that skips nothing, and the number of weights
    first_row, count, first_step = theirs[whole : whole + 3]
    assert [*theirs[first_step:][: 2 * depth : 2]] == [x.itemsize * step for step in steps]
    assert [*theirs[first_row:][: 2 * count : 2]] == [x.itemsize * row for row in rows[:12]]


def test_the_product_is_the_convolution_and_the_matrix_is_transposed(lesson):
    assert np.abs(lesson["product"] - lesson["y"]).max() < 1e-12
    conv, up, w = lesson["conv"], lesson["up"], lesson["w"]
    A = conv(np.eye(144).reshape(-1, 3, 8, 6), w).reshape(144, 48).T
    B = up(np.eye(48).reshape(-1, 4, 4, 3), w).reshape(48, 144).T
    assert np.abs(B - A.T).max() < 1e-12
    assert lesson["lesson"].numbers["|A'A x - x| / |x|, best scale"]["mean"] == pytest.approx(
        0.90, abs=0.005
    )


def test_28_and_27_pixels_become_14_and_14_becomes_27(lesson):
    size, conv, up = (lesson[name] for name in ("size", "conv", "up"))
    assert [size(conv, m, 3, 1) for m in (28, 27)] == [14, 14]
    assert [size(up, 14, 3, 1), size(up, 14, 3, 1, more=1)] == [27, 28]
    assert lesson["exact"](conv, 0.5) == "1-2-0 2-2-0 3-2-1 4-2-1 5-2-2 6-2-2"


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_an_odd_kernel_has_one_over_its_size_squared(lesson):
    up, size = lesson["up"], lesson["size"]
    flat = np.ones((1, 1, 22, 22))
    for k in (1, 3, 5, 7):
        output = up(flat, np.ones((1, 1, k, k)), 2, k // 2)[..., 6:38, 6:38]
        assert lesson["ratio"](output) == pytest.approx(1 / k**2)
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


@pytest.mark.parametrize(("k", "values"), [(3, [1, 2, 4]), (4, [4])])
def test_exercise_3_the_gradient_of_a_discriminator_is_a_checkerboard_too(k, values):
    image = mg.tensor(np.zeros((1, 1, 16, 16)), requires_grad=True)
    outputs = ops.conv2d(image, mg.tensor(np.ones((1, 1, k, k))), None, 2, 1)
    gradient = mg.grad(outputs.sum(), [image])[0].numpy()
    assert np.unique(gradient[..., 2:-2, 2:-2]).tolist() == values

"""Lesson 13: errors that its expectations must detect, and the answers to its exercises."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import nn

NAME = "13_dcgan"
# For each expectation: a part of the lesson's source, and the error to plant in its place (by
# test_lessons.py).
pytestmark = pytest.mark.slow

PLANTS = {
    "seven loops and ops.conv2d: largest difference": (
        "i, j = a * stride + h - padding, b * stride + v - padding",
        "i, j = a * stride + v - padding, b * stride + h - padding",
    ),
    "im2col @ weights: largest difference": (
        "index[0, :, :4, :4].reshape(-1)",
        "index[0, :, :4, :4].transpose(0, 2, 1).reshape(-1)",
    ),
    "im2col / images: elements": ("matrix.size / x.size", "matrix.size / padded.size"),
    "the library's kernel reads by the same tables": (
        "tables.forward((10, 8), (2, 2),",
        "tables.forward((10, 8), (2, 1),",
    ),
    "one number, three ways: range": (  # a flipped kernel, as in signal processing
        "(x * up(g, w)).sum()",
        "(x * up(g, w[..., ::-1, ::-1])).sum()",
    ),
    "transposed convolution, as a matrix, - A'": (
        "up(np.eye(48).reshape(-1, 4, 4, 3), w)",
        "up(np.eye(48).reshape(-1, 4, 4, 3), w[..., ::-1, ::-1])",
    ),
    "|A' A x - x| / |x|, at the best scale": ("restored = up(y, w)", "restored = x.copy()"),
    "halve": ("for m in (8, 10, 12, 28):", "for m in (8, 10, 12, 27):"),
    "double": ("for k in range(1, 7) for p", "for k in range(1, 6) for p"),
    "14 by 3-2-1, output_padding=1": ("size(up, 14, 3, 1, more=1)", "size(up, 14, 3, 1)"),
    "kernel 3: how often pixels are covered": (
        "inside(up, np.ones, k)",
        "inside(resize, np.ones, k)",
    ),
    "kernel 4: how often pixels are covered": (
        "inside(up, np.ones, k)",
        "inside(resize, np.ones, k)",
    ),
    "kernel 3, weights 1: energy at 1/2 / at 0": ("(up, np.ones, 3,", "(resize, np.ones, 3,"),
    "kernel 4, weights 1: energy at 1/2 / at 0": ("(up, np.ones, 4,", "(up, normal, 4,"),
    "kernel 3, random weights: energy at 1/2 / at 0": ("(up, normal, 3,", "(resize, normal, 3,"),
    "kernel 4, random weights: energy at 1/2 / at 0": ("(up, normal, 4,", "(up, np.ones, 4,"),
    "resized, kernel 3, random weights: energy at 1/2 / at 0": (
        "(resize, normal, 3,",
        "(up, normal, 3,",
    ),
    "train: a sample in two batches, difference": (
        "norm = getattr(batch_norm(), mode)()",
        "norm = batch_norm().eval()",
    ),
    "eval: a sample in two batches, difference": (
        "norm = getattr(batch_norm(), mode)()",
        "norm = batch_norm().train()",
    ),
    "fakes in a batch with real samples: share below 0": (
        "normal((500, 1)) + 3",
        "normal((500, 1)) + 1",
    ),
    "fakes in a batch alone: share below 0": (
        "apply(batch_norm(), fakes, *rest)",
        "apply(batch_norm(), fakes, reals)",
    ),
    "batch norm: gradient by others / own": ("norm, nn.LeakyReLU", "norm.eval(), nn.LeakyReLU"),
    "layer norm: gradient by others / own": (
        "by_others(nn.LayerNorm(16))",
        "by_others(nn.BatchNorm1d(16))",
    ),
    "batches, momentum 0.2, 0.1, 0.01 (Keras 0.8, 0.9, 0.99)": (
        "batch_norm(momentum=momentum)",
        "batch_norm(momentum=1 - momentum)",
    ),
    "eps 0.8: variance of the output of a channel of variance 1.0": (
        "batch_norm(eps=0.8)",
        "batch_norm(momentum=0.8)",
    ),
    "eps 0.8: variance of the output of a channel of variance 0.05": (
        "batch_norm(eps=0.8)",
        "batch_norm(momentum=0.8)",
    ),
    "BatchNorm2d(128, 0.8)": ("lambda: nn.BatchNorm2d(128, 0.8)", "lambda: nn.BatchNorm2d(128)"),
    "distance of generated digits": ("[trainer.step() for", "[None for"),
    "distance without the moments / with them": ('if "running" in name', 'if "walking" in name'),
    "peak, untrained / real": (
        '"untrained": untrained}',
        '"untrained": ops.upsample_nearest(mg.tensor(untrained)).numpy()}',
    ),
    "peak, generated / real": (
        'images["generated"] = trainer.sample(256)',
        'images["generated"] = trainer.sample(256) + 0.2 * (-1) ** np.arange(28)',
    ),
}


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

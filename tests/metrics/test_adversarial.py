"""Adversarial examples: known answers, bounds, parity with PyTorch, devices, errors, training."""

from functools import partial

import numpy as np
import pytest
from helpers import DEVICES
from hypothesis import given
from hypothesis import strategies as st

import minigan as mg
from minigan import nn, ops
from minigan.adversarial import ascend, cross_entropy_per_sample, fgsm, pgd, uniform_noise
from minigan.data import load
from minigan.metrics import classify, train_classifier

DIGITS = (4, 1, 6, 5)  # 4 images of 6 x 5 pixels
INSIDE = 1e-6  # rounding of float32 near 1


def small_net(dtype="float64", channels=1, seed=0):
    """A convolutional classifier of 6 x 5 pixels with three classes."""
    mg.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Conv2d(channels, 4, 3, 2, 1, dtype=dtype), nn.LeakyReLU(0.2), nn.Flatten()),
        *(nn.Dense(4 * 3 * 3, 8, dtype=dtype), nn.Tanh(), nn.Dense(8, 3, dtype=dtype)),
    )
    return net.eval()


def images(rng, shape=DIGITS, dtype="float64"):
    x = mg.tensor(rng.uniform(-1, 1, shape), dtype=dtype)
    return x, mg.tensor(np.arange(shape[0]) % 3)


def loss_of(net, x, y):
    return cross_entropy_per_sample(net(x), y).numpy()


# ----------------------------------------------------------------------------------- known answers
@DEVICES
def test_fgsm_of_a_linear_classifier(device, rng):
    """The gradient by x is W (softmax(x W) - one-hot); 0.1 of [-1, 1] is 0.2."""
    with mg.use_device(device):
        net = nn.Sequential(nn.Dense(6, 3))
        x = rng.uniform(-0.7, 0.7, (5, 6)).astype(np.float32)
        y = np.array([0, 1, 2, 2, 1])
        moved = fgsm(net, mg.tensor(x), mg.tensor(y), 0.1).numpy()
        wanted = fgsm(net, mg.tensor(x), mg.tensor(y), 0.1, targeted=True).numpy()
    state = net.state_dict()
    logits = x @ state["0.weight"] + state["0.bias"]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sign = np.sign((p - np.eye(3)[y]) @ state["0.weight"].T)
    np.testing.assert_allclose(moved, x + 0.2 * sign, rtol=0, atol=INSIDE)
    np.testing.assert_allclose(wanted, x - 0.2 * sign, rtol=0, atol=INSIDE)


def test_fgsm_follows_the_gradient_by_finite_differences(rng):
    """Each pixel moves by 0.002 in the direction of the central difference of the loss."""
    net = small_net()
    x, y = images(rng)
    direction = (fgsm(net, x * 0.9, y, 0.001).numpy() - 0.9 * x.numpy()) / 0.002
    eps, slopes = 1e-6, np.zeros(DIGITS)
    for index in np.ndindex(DIGITS):
        step = np.zeros(DIGITS)
        step[index] = eps
        low, high = (loss_of(net, x * 0.9 + mg.tensor(sign * step), y) for sign in (-1, 1))
        slopes[index] = (high - low).sum() / (2 * eps)
    assert abs(slopes).min() > 1e-7  # that the sign is no rounding error
    np.testing.assert_allclose(direction, np.sign(slopes), rtol=0, atol=1e-9)


def test_the_gradient_by_x_is_that_of_the_sum_of_losses(rng):
    with mg.use_device("reference"):
        (x, y), net = images(rng), small_net()
    mg.check_gradients(lambda x: cross_entropy_per_sample(net(x), y), [x.numpy()], order=1)


@pytest.mark.parametrize("steps", [1, 7])
def test_the_ascent_of_a_plane_ends_in_a_corner(steps, rng):
    """Steps of 2.5 epsilon / steps in all reach it from any start."""
    slope, x = mg.tensor(rng.choice([-1.0, 1.0], (3, 4))), mg.tensor(rng.uniform(-1, 1, (3, 4)))
    moved = ascend(lambda x: (x * slope).sum(axis=1), x, 0.2, steps=steps).numpy()
    corner = np.clip(x.numpy() + 0.4 * slope.numpy(), -1, 1)
    np.testing.assert_allclose(moved, corner, rtol=0, atol=1e-12)


def test_a_step_is_a_fraction_of_the_range_too(rng):
    x = mg.tensor(np.full((2, 3), 0.5))
    options = {"steps": 3, "step_size": 0.01, "random_start": False, "low": 0.0, "high": 10.0}
    moved = ascend(lambda x: x.sum(axis=1), x, 0.2, **options)
    np.testing.assert_allclose(moved.numpy(), 0.5 + 3 * 0.01 * 10)


def test_the_start_and_the_default_step():
    """A start is uniform within epsilon, and a step is 2.5 epsilon / steps, both of the range."""
    positions = []

    def objective(x):
        positions.append(x.numpy())
        return x.sum(axis=1)

    x = mg.tensor(np.full((500, 1), 5.0))
    ascend(objective, x, 0.2, steps=10, low=0, high=10)
    noise = positions[0] - 5
    assert abs(noise).max() <= 2
    assert noise.min() < -1.95
    assert noise.max() > 1.95
    free = noise < 1  # whom the bound does not stop
    np.testing.assert_allclose((positions[1] - positions[0])[free], 0.5, rtol=0, atol=1e-12)


def test_attacks_are_as_strong_as_they_should_be(rng):
    net = small_net()
    x, y = images(rng, (60, 1, 6, 5))
    clean = loss_of(net, x, y).mean()
    noise, fast, strong = (
        loss_of(net, moved, y).mean()
        for moved in (uniform_noise(x, 0.1), fgsm(net, x, y, 0.1), pgd(net, x, y, 0.1))
    )
    assert clean + 5 * abs(noise - clean) < fast < strong + 1e-3
    targets = mg.tensor((y.numpy() + 1) % 3)
    assert loss_of(net, pgd(net, x, targets, 0.1, targeted=True), targets).mean() < clean


def test_restarts_keep_the_largest_loss_of_each_sample(rng):
    net = small_net()
    x, y = images(rng, (40, 1, 6, 5))
    options = {"steps": 2, "step_size": 0.02}
    mg.manual_seed(3)
    losses = np.array([loss_of(net, pgd(net, x, y, 0.2, **options), y) for _ in range(3)])
    mg.manual_seed(3)
    kept = loss_of(net, pgd(net, x, y, 0.2, restarts=3, **options), y)
    np.testing.assert_array_equal(kept, losses.max(axis=0))
    assert len(set(losses.argmax(axis=0))) == 3


# -------------------------------------------------------------------------------------- bounds
@given(
    shape=st.sampled_from([(1, 1), (3, 7), (2, 1, 1, 5), (5, 3, 2, 1), (1, 2, 3)]),
    epsilon=st.floats(0, 1),
    steps=st.integers(1, 3),
    step_size=st.sampled_from([None, 0.0, 0.03, 5.0]),
    random_start=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    bounds=st.sampled_from([(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)]),
    seed=st.integers(0, 10**6),
)
def test_no_number_moves_too_far_or_leaves_the_range(
    shape, epsilon, steps, step_size, random_start, dtype, bounds, seed
):
    rng = np.random.default_rng(seed)
    low, high = bounds
    values = rng.uniform(low, high, shape).astype(dtype)
    values.flat[0] = high  # at the border
    x = mg.tensor(values)
    slope = mg.tensor(rng.normal(size=shape).astype(dtype))
    axes = tuple(range(1, len(shape)))

    def bent(x):
        return (ops.tanh((x - (low + high) / 2) / (high - low)) * slope).sum(axis=axes)

    options = {"steps": steps, "step_size": step_size, "random_start": random_start}
    for moved in (
        ascend(bent, x, epsilon, low=low, high=high, **options),
        uniform_noise(x, epsilon, low=low, high=high),
    ):
        result = moved.numpy()
        assert result.dtype == values.dtype
        assert result.shape == shape
        assert result.min() >= low
        assert result.max() <= high
        ulps = 2 * float(np.finfo(dtype).eps) * max(abs(low), abs(high), 1)
        assert abs(result.astype("f8") - values).max() <= epsilon * (high - low) + ulps
    assert (x.numpy() == values).all()


def test_noise_fills_its_interval():
    x = mg.tensor(np.zeros((2000, 1)))
    noise = uniform_noise(x, 0.25).numpy()
    assert noise.min() < -0.49
    assert noise.max() > 0.49
    assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(3 * 2000)


# -------------------------------------------------------------------- PyTorch, devices, capture
def torch_twin(net, torch):
    """The same classifier in PyTorch."""
    twin = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 4, 3, 2, 1), torch.nn.LeakyReLU(0.2), torch.nn.Flatten()),
        *(torch.nn.Linear(36, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)),
    ).double()
    state = {name: torch.tensor(x.T if x.ndim == 2 else x) for name, x in net.state_dict().items()}
    twin.load_state_dict(state)
    return twin


def torch_pgd(torch, net, x, y, radius, step, steps):
    """The published loop, in pixels of [-1, 1]."""
    x, y = torch.tensor(x), torch.tensor(y)
    moved = x.clone()
    for _ in range(steps):
        moved.requires_grad_()
        loss = torch.nn.functional.cross_entropy(net(moved), y)
        (gradient,) = torch.autograd.grad(loss, [moved])
        moved = moved.detach() + step * gradient.sign()
        moved = torch.clamp(torch.min(torch.max(moved, x - radius), x + radius), -1, 1)
    return moved.numpy()


def test_fgsm_and_ten_steps_of_pgd_are_pytorchs(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    net = small_net()
    twin = torch_twin(net, torch)
    x, y = images(rng, (8, 1, 6, 5))
    fast = fgsm(net, x, y, 0.05).numpy()
    slow = pgd(net, x, y, 0.05, steps=10, step_size=0.01, random_start=False).numpy()
    expected = torch_pgd(torch, twin, x.numpy(), y.numpy(), 0.1, 0.1, 1)
    np.testing.assert_allclose(fast, expected, rtol=0, atol=1e-10)
    expected = torch_pgd(torch, twin, x.numpy(), y.numpy(), 0.1, 0.02, 10)
    np.testing.assert_allclose(slow, expected, rtol=0, atol=1e-10)
    assert abs(fast - slow).max() > 0.01


@DEVICES
def test_devices_agree(device, rng):
    """In float64, where no gradient of these is near 0."""
    values, labels = (x.numpy() for x in images(rng))
    results = []
    for each in ("reference", device):
        with mg.use_device(each):
            net, x, y = small_net(), mg.tensor(values), mg.tensor(labels)
            mg.manual_seed(1)
            results.append(pgd(net, x, y, 0.1, steps=3, restarts=2).numpy())
    np.testing.assert_allclose(*results, rtol=0, atol=1e-12)


def test_a_captured_attack_is_the_same_to_the_bit(rng):
    net = small_net("float32")
    attack = partial(pgd, net, epsilon=0.1, steps=3, restarts=2)
    batches = [images(rng, dtype="float32") for _ in range(3)]
    mg.manual_seed(5)
    eager = [attack(x, y).numpy() for x, y in batches]
    mg.manual_seed(5)
    captured = mg.capture(attack)
    assert all((captured(*b).numpy() == e).all() for b, e in zip(batches, eager, strict=True))


def test_it_returns_a_constant_and_works_without_a_graph(rng):
    net = small_net()
    x, y = images(rng)
    x.requires_grad = True
    assert not pgd(net, x, y, 0.1).requires_grad
    mg.manual_seed(0)
    first = pgd(net, x, y, 0.1).numpy()
    mg.manual_seed(0)
    with mg.no_grad():
        assert (pgd(net, x, y, 0.1).numpy() == first).all()


# ----------------------------------------------------------------------------------------- errors
X, Y = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"epsilon": -0.1}, ValueError, r"pgd: epsilon = -0.1; a fraction of the range \[-1.0, 1"),
        ({"epsilon": 8}, ValueError, r"epsilon = 8; .* \(8 of 255 grey levels are 8 / 255\)"),
        ({"epsilon": float("nan")}, ValueError, "epsilon = nan"),
        ({"epsilon": "0.1"}, TypeError, "epsilon = '0.1' is not a number"),
        (
            {"labels": Y[:3]},
            ValueError,
            r"labels are int64 of shape \(3,\) for x of shape \(4, 3\)",
        ),
        ({"labels": np.eye(4, dtype=int)}, ValueError, r"labels are int64 of shape \(4, 4\)"),
        ({"labels": Y + 0.0}, TypeError, r"labels are float64 .* one integer per sample"),
        ({"labels": Y + 1}, IndexError, "3"),
        ({"x": X.astype(int)}, TypeError, "pgd: argument 0 is int64"),
        ({"x": X + 1.5}, ValueError, r"x is in \[1.5, 1.5\], not in the range \[-1.0, 1.0\]"),
        ({"x": X * np.nan}, ValueError, r"x is in \[nan, nan\]"),
        ({"x": X, "low": 1, "high": 0}, ValueError, "low = 1 and high = 0 are not a finite range"),
        ({"steps": 0}, ValueError, "steps = 0; at least 1"),
        ({"steps": 2.5}, TypeError, "steps = 2.5 is not an integer"),
        ({"step_size": -1}, ValueError, "step_size = -1 is not a number of at least 0"),
        ({"restarts": 2, "random_start": False}, ValueError, "restarts = 2 without a random start"),
        (
            {"net": nn.Sequential(nn.Dense(3, 3), nn.BatchNorm1d(3))},
            ValueError,
            "BatchNorm1d makes",
        ),
        ({"net": nn.Sequential(nn.MinibatchStdDev())}, ValueError, "not minibatch layers"),
        ({"net": lambda x: x.sum(axis=1)}, ValueError, r"the net gives \(4,\) for 4 samples; log"),
    ],
)
def test_bad_input_is_one_clear_line(changes, error, message):
    options = {"net": nn.Sequential(nn.Dense(3, 3)), "x": X, "labels": Y, "epsilon": 0.1, **changes}
    options["x"], options["labels"] = mg.tensor(options["x"]), mg.tensor(options["labels"])
    with pytest.raises(error, match=message) as raised:
        pgd(**options)
    assert "\n" not in str(raised.value)


def test_other_bad_input():
    x, y = mg.tensor(X), mg.tensor(Y)
    with pytest.raises(TypeError, match="fgsm: "):
        fgsm(nn.Sequential(nn.Dense(3, 3)), X, y, 0.1)
    with pytest.raises(ValueError, match=r"uniform_noise: x has shape \(0, 3\)"):
        uniform_noise(x[:0], 0.1)
    with pytest.raises(ValueError, match=r"ascend: the objective gives \(\) for 4 samples"):
        ascend(lambda x: x.sum(), x, 0.1)
    norm = nn.Sequential(nn.Dense(3, 3), nn.BatchNorm1d(3)).eval()
    assert fgsm(norm, x, y, 0.1).shape == (4, 3)


# --------------------------------------------------------------------------------------- training
def test_training_on_what_perturb_returns():
    values = np.random.default_rng(0).uniform(-1, 1, (40, 3)).astype("f4")
    labels, calls = np.arange(40) % 2, []

    def same(net, x, y):
        calls.append((net.training, x.shape, y.shape))
        return x

    def states(perturb):
        net = train_classifier(values, labels, 2, 5, seed=1, perturb=perturb)
        return [x.tobytes() for x in net.state_dict().values()]

    plain = states(None)
    assert states(same) == plain
    assert calls[0] == (True, (128, 3), (128,))
    assert states(lambda net, x, y: uniform_noise(x, 0.1)) != plain


@pytest.mark.slow
def test_adversarial_training_makes_a_classifier_robust():
    train, held_out = load("glyphs", samples=3000).holdout(0.2, 0)
    x, y = mg.tensor(held_out.values), mg.tensor(held_out.labels)
    accuracy = {}
    for name, perturb in ("plain", None), ("robust", partial(pgd, epsilon=0.1, steps=3)):
        net = train_classifier(train.values, train.labels, 10, 300, perturb=perturb)
        for epsilon in (0.0, 0.1):
            named = classify(net, pgd(net, x, y, epsilon).numpy())
            accuracy[name, epsilon] = (named == held_out.labels).mean()
    assert min(accuracy["plain", 0.0], accuracy["robust", 0.0]) > 0.9
    assert accuracy["robust", 0.1] > accuracy["plain", 0.1] + 0.2

"""`mg.matmul_precision`: scope, gradients, captured steps, runs; what it leaves alone."""

import asyncio
import threading

import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler

import minigan as mg
from minigan.training.config import Config
from minigan.training.trainer import Trainer
from minigan.utils.notices import Notice


@pytest.fixture(autouse=True)
def _restored():
    with mg.matmul_precision("float32"):
        yield


def draw(rng, *shape, device="cuda-emulator", requires_grad=False):
    x = rng.standard_normal(shape).astype("f")
    return mg.tensor(x, device=device, requires_grad=requires_grad)


def bits(x):
    return x.numpy().tobytes()


# --------------------------------------------------------------------------------------- scope
def test_it_is_set_for_a_block_or_from_here_on():
    assert mg.matmul_precision() == "float32"
    with mg.matmul_precision("tf32") as name:
        assert name == mg.matmul_precision() == "tf32"
        with mg.matmul_precision("float32"):
            assert mg.matmul_precision() == "float32"
        assert mg.matmul_precision() == "tf32"
    assert mg.matmul_precision() == "float32"
    mg.matmul_precision("tf32")
    assert mg.matmul_precision() == "tf32"


def test_it_is_restored_after_an_exception():
    with pytest.raises(ZeroDivisionError), mg.matmul_precision("tf32"):
        raise ZeroDivisionError
    assert mg.matmul_precision() == "float32"


@pytest.mark.parametrize("name", ["TF32", "high", "", 32, ("tf32",)])
def test_an_unknown_name_is_refused_and_changes_nothing(name):
    with pytest.raises(ValueError, match=r"^unknown matmul_precision .*accepted: float32, tf32\)$"):
        mg.matmul_precision(name)
    assert mg.matmul_precision() == "float32"


def test_pytorchs_name_is_explained():
    with pytest.raises(AttributeError, match=r"mg\.matmul_precision\('tf32'\)"):
        mg.set_float32_matmul_precision  # noqa: B018


def test_each_thread_and_task_has_its_own():
    names = []
    with mg.matmul_precision("tf32"):
        thread = threading.Thread(target=lambda: names.append(mg.matmul_precision()))
        thread.start()
        thread.join()
    assert names == ["float32"]

    async def task(name):
        with mg.matmul_precision(name):
            await asyncio.sleep(0)
            return mg.matmul_precision() == name

    async def main():
        return await asyncio.gather(task("tf32"), task("float32"))

    assert asyncio.run(main()) == [True, True]


# --------------------------------------------------------------------------------- what it changes
@CUDA_DEVICES
def test_it_changes_matmul_and_dense_of_float32_only(device, rng):
    x, w, b = (draw(rng, *s, device=device) for s in ((9, 20), (20, 7), (7,)))
    image, filters = (draw(rng, *s, device=device) for s in ((2, 3, 8, 8), (4, 3, 3, 3)))
    products = {
        "matmul": (lambda: x @ w, True),
        "dense": (lambda: mg.ops.dense(x, w, b), True),
        "batched": (lambda: x.reshape(3, 3, 20) @ w, True),
        "float64": (lambda: x.to("float64") @ w.to("float64"), False),
        "conv2d": (lambda: mg.ops.conv2d(image, filters), False),
        "sum": (lambda: (x * x).sum(1), False),
    }
    for name, (f, changes) in products.items():
        before = f()
        with mg.matmul_precision("tf32"):
            rounded = f()
        assert (bits(before) != bits(rounded)) is changes, name
        assert bits(f()) == bits(before), name


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_cpu_computes_in_float32(device, rng):
    x, w = draw(rng, 9, 20, device=device), draw(rng, 20, 7, device=device)
    before = x @ w
    with mg.matmul_precision("tf32"):
        assert bits(x @ w) == bits(before)


# ------------------------------------------------------------------------------------ gradients
def tf32_bound(a, b):
    """Return the bound of kernels/matmul/README.md for the error of a @ b, from magnitudes."""
    return (2**-10 + (a.shape[-1] + 16) * 2**-22) * (np.abs(a) @ np.abs(b))


@CUDA_DEVICES
def test_gradients_of_a_net_are_within_the_bound(device, rng):
    """loss = sum(c * (tanh(x w1 + b1) w2 + b2)): errors are propagated to first order, and doubled.

    The bound is about 2^-10 of the sums of magnitudes; the gradients' own bits differ.
    """
    x, c = draw(rng, 24, 30, device=device), draw(rng, 24, 11, device=device)
    shapes = (30, 40), (40,), (40, 11), (11,)
    parameters = [draw(rng, *s, device=device, requires_grad=True) for s in shapes]
    w1, b1, w2, b2 = parameters

    def gradients():
        y = mg.ops.dense(mg.ops.dense(x, w1, b1).tanh(), w2, b2)
        return [g.numpy().astype("d") for g in mg.grad((c * y).sum(), parameters)]

    exact = gradients()
    with mg.matmul_precision("tf32"):
        rounded = gradients()

    x, c, w1, b1, w2, _ = (y.numpy().astype("d") for y in (x, c, *parameters))
    h = np.tanh(x @ w1 + b1)
    h_error = tf32_bound(x, w1)  # tanh does not increase it
    gh = c @ w2.T
    gz = gh * (1 - h * h)
    gz_error = tf32_bound(c, w2.T) * (1 - h * h) + np.abs(gh) * 2 * np.abs(h) * h_error
    errors = [
        tf32_bound(x.T, gz) + np.abs(x.T) @ gz_error,
        gz_error.sum(0),
        tf32_bound(h.T, c) + h_error.T @ np.abs(c),
        np.zeros(11),
    ]
    for a, b, error in zip(rounded, exact, errors, strict=True):
        tolerance = 2 * error + 1e-5 * np.abs(b).max()
        assert (np.abs(a - b) <= tolerance).all()
    for a, b in list(zip(rounded, exact, strict=True))[:3]:
        assert np.abs(a - b).max() > 2**-14 * np.abs(b).max()


@CUDA_DEVICES
def test_double_backward(device, rng):
    """A gradient penalty, as of WGAN-GP."""
    x = draw(rng, 16, 10, device=device, requires_grad=True)
    w1 = draw(rng, 10, 32, device=device, requires_grad=True)
    w2 = draw(rng, 32, 1, device=device, requires_grad=True)

    def penalty_gradients():
        (slope,) = mg.grad(((x @ w1).tanh() @ w2).sum(), [x], create_graph=True)
        return [g.numpy() for g in mg.grad(((slope * slope).sum(1) - 1.0).sum(), [w1, w2])]

    exact = penalty_gradients()
    with mg.matmul_precision("tf32"):
        rounded = penalty_gradients()
    for a, b in zip(rounded, exact, strict=True):
        difference = np.linalg.norm(a - b) / np.linalg.norm(b)
        assert 2**-14 < difference < 2**-8


# ------------------------------------------------------------------------------- captured steps
@CUDA_DEVICES
def test_a_captured_step_keeps_its_precision(device, rng):
    x, w = draw(rng, 9, 20, device=device), draw(rng, 20, 7, device=device)
    runs = []

    @mg.capture(check=1)
    def step(x):
        runs.append(mg.matmul_precision())
        return x @ w

    full = bits(x @ w)
    with mg.matmul_precision("tf32"):
        rounded = bits(x @ w)
        assert bits(step(x)) == rounded
    assert full != rounded
    assert bits(step(x)) == full
    runs.clear()
    for _ in range(3):  # The first replay of each is compared with an eager run.
        assert bits(step(x)) == full
        with mg.matmul_precision("tf32"):
            assert bits(step(x)) == rounded
    assert runs == ["float32", "tf32"]


@CUDA_DEVICES
def test_a_captured_step_may_have_blocks_of_its_own(device, rng):
    x, w = draw(rng, 9, 20, device=device), draw(rng, 20, 7, device=device)

    @mg.capture
    def step(x):
        with mg.matmul_precision("tf32"):
            rounded = x @ w
        return rounded, x @ w

    first = [bits(y) for y in step(x)]
    assert first[0] != first[1] == bits(x @ w)
    assert [bits(y) for y in step(x)] == first


# ----------------------------------------------------------------------------------------- runs
RUN = {"data": "ring", "samples": 200, "batch": 8, "steps": 4, "device": "cuda-emulator"}


@needs_compiler
def test_a_training_has_a_precision_and_resumes_with_it():
    def losses(trainer, steps):
        return [trainer.step()["loss_d"] for _ in range(steps)]

    config = Config(**RUN, matmul_precision="tf32")
    trainer = Trainer(config)
    whole = losses(trainer, 4)
    assert mg.matmul_precision() == "float32"
    assert whole != losses(Trainer(Config(**RUN)), 4)
    with mg.matmul_precision("tf32"):  # The option, and not this, holds for a training.
        assert losses(Trainer(Config(**RUN)), 2) != whole[:2]
    first = Trainer(config)
    assert losses(first, 2) == whole[:2]
    second = Trainer(Config.from_dict(config.as_dict()))
    second.load_state(*first.state())
    assert losses(second, 2) == whole[2:]


def test_a_config_of_an_older_version_is_in_float32():
    values = Config().as_dict()
    del values["matmul_precision"]
    assert Config.from_dict(values).matmul_precision == "float32"
    with pytest.raises(ValueError, match=r"tf16.*float32.*tf32"):
        Config(matmul_precision="tf16")


def test_a_training_on_a_cpu_says_that_it_has_no_effect():
    with pytest.warns(Notice, match=r"matmul_precision = 'tf32' has no effect on the device cpu"):
        Trainer(Config(**{**RUN, "device": "cpu"}, matmul_precision="tf32"))

"""The checkers are checked: each planted bug must be caught by what the other tests rely on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import assert_close, cpu_modules, spy_parallel, threads

import minigan as mg
import minigan.kernels.elementwise.cpu as elementwise
import minigan.kernels.shape.cpu as shape_kernels
from minigan import ops
from minigan.engine.check import GradientError, check_gradients, check_op
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.ops.samples import uniform

MakeOp = Callable[..., Op]


def _planted(make_op: MakeOp, reference: Any, *vjps: Any, **options: Any) -> Op:
    return make_op("planted", reference, vjps, **options)


def test_what_is_right_passes(make_op: MakeOp, rng: np.random.Generator) -> None:
    op = _planted(make_op, lambda x: x**3, lambda g, y, x: g * x * x * 3.0)
    errors = check_gradients(op, [rng.standard_normal((3, 4))], order=3)
    assert len(errors) == 3
    assert max(errors) <= 1


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("factor", [1.004, 0.996, 1 + 1e-5, -1.0, 0.0, np.nan, np.inf])
def test_a_wrong_factor(make_op: MakeOp, rng: np.random.Generator, factor: float) -> None:
    op = _planted(make_op, np.exp, lambda g, y, x: g * y * factor)
    with pytest.raises(GradientError, match="planted, order 1: the VJPs say"):
        check_gradients(op, [rng.standard_normal((3, 4))], order=1, name="planted")


def test_one_wrong_element(make_op: MakeOp, rng: np.random.Generator) -> None:
    mask = np.ones((5, 7))
    mask[3, 2] = 1.004
    wrong = mg.tensor(mask, device="reference")
    op = _planted(make_op, np.exp, lambda g, y, x: g * y * wrong)
    with pytest.raises(GradientError):
        check_gradients(op, [rng.standard_normal((5, 7))], order=1)


def test_a_wrong_permutation_and_why_ones_would_not_do(
    make_op: MakeOp, rng: np.random.Generator
) -> None:
    """The VJP of a transposition that forgets to transpose back: right for a cotangent of ones."""
    op = _planted(make_op, lambda x: x.T, lambda g, y, x: g)
    a = rng.standard_normal((4, 4))
    with pytest.raises(GradientError):
        check_gradients(op, [a], order=1)
    x = mg.tensor(a, device="reference", requires_grad=True)
    (gx,) = mg.grad(op(x).sum(), [x])
    assert np.array_equal(gx.numpy(), np.ones((4, 4)))  # what the right VJP gives, too


def test_a_saved_raw_array(make_op: MakeOp, rng: np.random.Generator) -> None:
    """A VJP that reads arrays leaves no graph: right at order 1, wrong at order 2."""
    op = _planted(make_op, np.tanh, lambda g, y, x: g * (1.0 - y.detach() * y.detach()))
    a = rng.standard_normal((3, 4))
    check_gradients(op, [a], order=1)
    with pytest.raises(GradientError, match="order 2"):
        check_gradients(op, [a], order=2)


def test_a_vjp_that_ignores_its_cotangent_at_order_2(
    make_op: MakeOp, rng: np.random.Generator
) -> None:
    op = _planted(make_op, lambda x: x * 2, lambda g, y, x: g.detach() * 2.0)
    a = rng.standard_normal(3)
    check_gradients(op, [a], order=1)
    with pytest.raises(GradientError, match="order 2"):
        check_gradients(op, [a], order=2)


def test_a_forgotten_sum_over_what_was_broadcast(make_op: MakeOp, rng: np.random.Generator) -> None:
    """Loud at once where it changes the shape, and caught where one term stands for the sum."""
    pair = [rng.standard_normal((3, 4)), rng.standard_normal((1, 4))]
    forgotten = _planted(make_op, np.add, lambda g, y, a, b: g, lambda g, y, a, b: g)
    with pytest.raises(ValueError, match=r"input 1 gave float64\(3, 4\).*float64\(1, 4\)"):
        check_gradients(forgotten, pair)
    del Op.registry["planted"]
    first = _planted(make_op, np.add, lambda g, y, a, b: g, lambda g, y, a, b: g[:1])
    with pytest.raises(GradientError):
        check_gradients(first, pair)


def test_a_vjp_that_is_missing(make_op: MakeOp, rng: np.random.Generator) -> None:
    """No gradient at all is a claim too: that the function is constant."""
    op = _planted(make_op, np.exp, None)
    with pytest.raises(GradientError, match="the VJPs say 0,"):
        check_gradients(op, [rng.standard_normal(3)], order=1)


def test_a_derivative_at_a_kink_is_wrong_on_one_side(make_op: MakeOp) -> None:
    op = _planted(make_op, np.abs, lambda g, y, x: g * ops.sign(x))
    with pytest.raises(GradientError):
        check_gradients(op, [np.zeros(3) + 1e-8], order=1)


def test_a_reference_that_gives_nan(make_op: MakeOp) -> None:
    op = _planted(make_op, lambda x: x * np.nan, lambda g, y, x: g * np.nan)
    with pytest.raises(GradientError):
        check_gradients(op, [np.ones(3)], order=1)


def test_a_wrong_pair_of_inputs_beside_a_large_one(
    make_op: MakeOp, rng: np.random.Generator
) -> None:
    """d2f / da db is wrong and d2f / da2 so large that the derivative along all inputs hides it."""
    op = _planted(
        make_op,
        lambda a, b: 1e9 * a * a + a * b,
        lambda g, y, a, b: g * (a * 2e9 + b.detach()),
        lambda g, y, a, b: g * a,
    )
    pair = [rng.standard_normal(3), rng.standard_normal(3)]
    check_gradients(op, pair, order=1)
    with pytest.raises(GradientError, match="order 2, inputs 0 and 1"):
        check_gradients(op, pair)


def test_the_derivative_of_a_power_by_both_inputs_at_exponent_0() -> None:
    """It is 1 / x; a constant gradient for the exponent 0 would give 0."""
    x, p = np.array([0.5, 2.0, 3.0]), np.zeros(3)
    check_gradients(ops.power, [x, p])
    xs = [mg.tensor(a, device="reference", requires_grad=True) for a in (x, p)]
    (gx,) = mg.grad(ops.power(*xs).sum(), [xs[0]], create_graph=True)
    (gp,) = mg.grad(gx.sum(), [xs[1]])
    assert_close(gp.numpy(), 1 / x, 1e-15)


def test_check_op_reports_what_fails(make_op: MakeOp) -> None:
    """What `minigan check` prints, on samples."""
    sample = [(uniform(3, 4),)]
    op = make_op("planted", np.exp, (lambda g, y, x: g * y * 1.004,), sample)
    result = check_op(op, "reference")
    assert "FAIL" in result.failure
    assert "planted, order 1" in result.failure
    del Op.registry["planted"]
    op = make_op("planted", np.exp, (lambda g, y, x: g * y,), sample)
    result = check_op(op, "reference")
    assert (result.samples, result.failure, len(result.errors)) == (1, "", 2)


# ----------------------------------------------------------------------------- kernels' checkers
def _run(name: str, *arrays: np.ndarray, **attributes: Any) -> np.ndarray:
    return get_device("cpu").run(Op.registry[name], arrays, attributes)


def test_an_element_that_is_never_written(
    monkeypatch: pytest.MonkeyPatch, poisoned: list[tuple[int, ...]]
) -> None:
    x = np.arange(12.0).reshape(3, 4)
    assert_close(_run("exp", x), np.exp(x), 1e-8)
    compiled = elementwise._compile

    def all_but_the_last(name: str, dtype: Any) -> Any:
        kernel = compiled(name, dtype)
        return lambda *a: kernel(*a[:-1], a[-1] - 1)

    monkeypatch.setattr(elementwise, "_compile", all_but_the_last)
    with pytest.raises(AssertionError):
        assert_close(_run("exp", x), np.exp(x), 1e9)
    assert _run("greater", x, x).view(np.uint8).max() > 1  # nor a comparison's
    monkeypatch.setattr(shape_kernels, "assign", lambda y, x: None)
    y = _run("concatenate", x, x, axis=0)
    with pytest.raises(AssertionError):
        assert_close(y, np.concatenate([x, x]), 1e9)
    assert poisoned


def test_the_poison_reaches_every_room(poisoned: list[tuple[int, ...]]) -> None:
    """Rooms whose kernels make arrays take them from `empty`, which the tests can poison."""
    for family in cpu_modules():
        if hasattr(family, "empty"):
            poisoned.clear()
            assert np.isnan(family.empty((3,), np.dtype("float32"))).all()
    assert elementwise.empty((2,), np.dtype("int64")).tolist() == [-1, -1]


def test_the_comparator_fails_for_nan_and_infinity() -> None:
    good = np.array([1.0, 2.0, 3.0])
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(AssertionError):
            assert_close(np.array([1.0, bad, 3.0]), good, 1e300)
        with pytest.raises(AssertionError):
            assert_close(good, np.array([1.0, bad, 3.0]), 1e300)
        assert_close(np.array([1.0, bad]), np.array([1.0, bad]), 0.0)
    with pytest.raises(AssertionError):
        assert_close(good, good, np.nan)
    with pytest.raises(AssertionError):
        assert_close(np.array([np.inf]), np.array([-np.inf]), 1e300)
    with pytest.raises(AssertionError, match=r"error 0\.1 is above 0\.05"):
        assert_close(good + 0.1, good, 0.05)
    with pytest.raises(AssertionError, match="shape"):
        assert_close(good[:2], good, 1e300)
    with pytest.raises(AssertionError):
        assert_close(np.array([True, True]), np.array([True, False]), 1e300)


def test_the_spy_sees_parallel_kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy_parallel(monkeypatch)
    _run("multiply", np.ones(10), np.ones(10))
    assert calls == []
    ones = np.ones(elementwise.MIN_PARALLEL_ELEMENTS + 1)
    with threads(2):
        _run("multiply", ones, ones)
    assert calls == ["multiply_float64"]


# ------------------------------------------------------------- what published GAN code gets wrong
def test_a_generator_that_never_trains() -> None:
    """The fake batch is detached, as for the discriminator's step, and G's loss made from it."""
    g, d = (mg.nn.Sequential(mg.nn.Dense(2, 2), mg.nn.Tanh()) for _ in range(2))
    fake = g(mg.random.normal((3, 2))).detach()
    loss = mg.losses.NonSaturating().generator(d(fake))
    with pytest.raises(ValueError, match="does not depend on input 0"):
        mg.grad(loss, g.parameters())


def test_a_generator_trained_on_a_stale_discriminator() -> None:
    """G's loss is computed, then D steps, then G's gradient is asked for."""
    g, d = (mg.nn.Sequential(mg.nn.Dense(2, 2), mg.nn.Tanh()) for _ in range(2))
    step = mg.optim.Adam(d.parameters()).step
    real, fake = mg.random.normal((3, 2)), g(mg.random.normal((3, 2)))
    gan = mg.losses.NonSaturating()
    loss_g = gan.generator(d(fake))
    step(mg.grad(gan.discriminator(d(real), d(fake)), d.parameters()))
    with pytest.raises(ValueError, match=r"input 1 of op 'dense' .*the graph is stale"):
        mg.grad(loss_g, g.parameters())
    mg.grad(gan.generator(d(fake)), g.parameters())

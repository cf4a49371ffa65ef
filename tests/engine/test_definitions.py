"""Definitions of ops: names, replacement, VJPs and samples that do not fit say the fix."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigan as mg
from minigan.engine.op import Op
from minigan.ops.samples import uniform
from minigan.utils.notices import Notice


def test_another_op_of_the_name_replaces_it_with_a_warning(make_op: Callable[..., Op]) -> None:
    first = make_op("twice_made", lambda x: x, (None,))
    with pytest.warns(Notice, match=r"Op\('twice_made'\), test_definitions.py:\d+, replaces"):
        second = make_op("twice_made", lambda x: x + 1, (None,))
    assert Op.registry["twice_made"] is second
    x = mg.tensor([1.0], device="reference")
    assert (first(x).item(), second(x).item()) == (1.0, 2.0)


def test_a_captured_step_follows_an_op_that_is_replaced(make_op: Callable[..., Op]) -> None:
    x = mg.tensor([1.0], device="reference")
    op = make_op("changing", lambda x: x * 2, (None,))
    step = mg.capture(lambda x: op(x) + 0.0)
    assert [step(x).item() for _ in range(2)] == [2, 2]
    with pytest.warns(Notice):
        op = make_op("changing", lambda x: x * 3, (None,))
    assert [step(x).item() for _ in range(2)] == [3, 3]


def test_the_library_s_names_are_refused(make_op: Callable[..., Op]) -> None:
    with pytest.raises(ValueError, match="'tanh' exists already: it is one of minigan's"):
        make_op("tanh", np.tanh, (None,))


@pytest.mark.parametrize(
    ("vjps", "samples", "options", "says"),
    [
        (lambda g, y, x: g, (), {}, r"write \(function,\), with the comma"),
        ((lambda g, x: g,), (), {}, r"the VJP of input 0 takes \(g, x\); it is called with \(g, y"),
        ((lambda g, y, x: g,), [(uniform(3), uniform(3))], {}, "a sample has 2 inputs"),
        ((lambda g, y, x: g,), [(uniform(3), {"k": 1.0})], {}, "1 inputs, k"),
        ((None, None), [(uniform(3), 2.0)], {}, r"Op\(\.\.\., broadcasts=True\)"),
        (
            (lambda g, y, a, b: g, lambda g, y, a, b: g),
            [(uniform(3), uniform(2, 3))],
            {},
            r"input 0 gives shape \(2, 3\) for an input of shape \(3,\).*broadcasts=True\) sums it",
        ),
    ],
)
def test_a_wrong_definition_says_how_to_mend_it(
    make_op: Callable[..., Op], vjps: Any, samples: Any, options: Any, says: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        make_op("wrong", lambda *x, **_: sum(x), vjps, samples, **options)
    assert "wrong" not in Op.registry


def test_one_function_serves_any_number_of_inputs(make_op: Callable[..., Op]) -> None:
    op = make_op("summed", lambda *x: sum(x), lambda i, g, y, *inputs: g)
    xs = [mg.tensor([1.0], requires_grad=True) for _ in range(3)]
    assert [g.item() for g in mg.grad(op(*xs).sum(), xs)] == [1, 1, 1]


def test_a_sample_that_is_no_tuple_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lone: a sample is a tuple of inputs"):
        Op("lone", np.exp, (None,), [uniform(3)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"check takes an mg.Op, not str"):
        mg.check("tanh")  # type: ignore[arg-type]

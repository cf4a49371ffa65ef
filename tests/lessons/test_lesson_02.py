"""Lesson 02: the answers to its exercises."""

from collections import deque

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan.engine import autograd

NAME = "02_autograd"


def test_grad_computes_only_the_gradients_it_is_called_for(monkeypatch):
    """`mg.grad` visits what the figure shows in blue."""
    G, D = mg.nn.Dense(2, 2), mg.nn.Sequential(mg.nn.Dense(2, 3), mg.nn.Tanh(), mg.nn.Dense(3, 1))
    loss = mg.losses.NonSaturating().generator(D(G(mg.random.normal((4, 2)))))
    leaves, input_cotangents = set(), autograd._input_cotangents

    def spy(t, g, edges):
        leaves.update(id(x) for _, x in edges if x.op is None)
        return input_cotangents(t, g, edges)

    monkeypatch.setattr(autograd, "_input_cotangents", spy)
    mg.grad(loss, G.parameters())
    assert leaves == {id(p) for p in G.parameters()}


# ---------------------------------------------------------------------------------- exercises
@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """The namespace of the lesson."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="order 1: |differences / grad - 1|")


def test_exercise_1_relu_differentiated_twice(lesson):
    Op, Tensor, multiply, grad = (lesson[k] for k in ("Op", "Tensor", "multiply", "grad"))
    step = Op(lambda x: (x > 0) * 1.0, None)
    relu = Op(lambda x: np.maximum(x, 0), lambda g, y, x: multiply(g, step(x)))
    x = Tensor([-1.0, 2.0])
    total = lesson["ours"].sum
    (first,) = grad(total(multiply(relu(x), relu(x))), [x])
    (second,) = grad(total(first), [x])
    assert first.array.tolist() == [0, 4]
    assert second.array.tolist() == [0, 2]


def test_exercise_2_first_come_first_served_is_wrong_where_a_number_is_used_twice(lesson):
    Number = lesson["Number"]

    def first_come(y):
        y.derivative, queue, met = 1.0, deque([y]), {id(y)}
        while queue:
            t = queue.popleft()
            for part, slope in t.parts:
                part.derivative += slope * t.derivative
                if id(part) not in met:
                    met.add(id(part))
                    queue.append(part)

    def derivative(expression):
        x = Number(3.0)
        first_come(expression(x * x))
        return x.derivative

    def x_of(expression, x):
        first_come(expression(x))
        return x.derivative

    assert derivative(lambda square: square + square * square) == 6
    assert derivative(lambda square: square * square + square) == 114
    assert x_of(lambda x: (x + Number(2.0)) * Number(5.0) + Number(1.0), Number(3.0)) == 5  # a tree


def test_exercise_3_what_retain_graph_trains():
    D = np.linspace(1e-4, 1 - 1e-4, 99_999)
    for p, q in ((1, 1), (0, 1), (3, 1), (1, 0.5)):
        loss = -p * np.log(D) - q * np.log(1 - D) - q * np.log(D)
        assert D[loss.argmin()] == pytest.approx((p + q) / (p + 2 * q), abs=1e-4)
    # 2/3 where p = q; and 1/2, as if it knew nothing, where there are fakes only

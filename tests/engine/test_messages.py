"""What a newcomer writes, from PyTorch or numpy: each error says in one line what to write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigan as mg
from minigan import nn, ops
from minigan.nn import functional
from minigan.utils import pytorch_names

X = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
NET = nn.Sequential(nn.Dense(2, 1))
OPTIMIZER = mg.optim.Adam(NET.parameters())


def _penalty_without_create_graph() -> Any:
    (gx,) = mg.grad((X * X).sum(), [X])
    return mg.grad((gx * gx).sum(), [X])


def _if_tensor() -> Any:
    return 1 if X > 2 else 0


INTEGERS = mg.tensor([1, 2])
# What is called, the error, and a part of its message.
CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: X.sum().backward(), AttributeError, "'backward': mg.grad(loss, parameters) returns"),
    (lambda: X.grad, AttributeError, "'grad': mg.grad(loss, parameters) returns gradients"),
    (lambda: X.cuda, AttributeError, "Tensor has no attribute 'cuda': write x.to('cuda')"),
    (lambda: X.zero_, AttributeError, "not changed in place; mg.optim.assign(x, values)"),
    (lambda: X.sum(dim=0), TypeError, "sum: write axis= and keepdims=, as in numpy, for PyTorch's"),
    (lambda: X.max(1, keepdim=True), TypeError, "max: write axis= and keepdims="),
    (lambda: ops.softmax(X, dim=1), TypeError, "softmax: write axis="),
    (lambda: mg.concatenate([X, X], dim=1), TypeError, "concatenate: write axis="),
    (lambda: OPTIMIZER.zero_grad, AttributeError, "there is nothing to zero: mg.grad returns"),
    (lambda: NET.cuda, AttributeError, "Sequential has no attribute 'cuda': write net.to('cuda')"),
    (lambda: mg.randn(2, 3), AttributeError, "'randn': write mg.random.normal(shape), with one"),
    (lambda: mg.tanh(X), AttributeError, "'tanh': write mg.ops.tanh"),
    (lambda: mg.optim.Adam(NET), TypeError, "net.parameters() returns: Adam(net.parameters())"),
    (_penalty_without_create_graph, ValueError, "mg.grad returned without create_graph=True?"),
    (_if_tensor, ValueError, "bool() needs a tensor of one element; this one has shape (2, 2)"),
    (_if_tensor, ValueError, "(x.any() or x.all() says whether any or all are true)"),
    (lambda: float(X), ValueError, "float() needs a tensor of one element"),
    (lambda: int(X), ValueError, "(x.sum() and x.max() have one element)"),
    (X.item, ValueError, "(x.tolist() returns all)"),
    (lambda: mg.save(NET.state_dict(), "x"), TypeError, "write mg.save(path, tensors)"),
    (lambda: mg.save(NET, "x"), TypeError, "the path is the first argument: write mg.save(path, "),
    (lambda: mg.save("x", NET), TypeError, "mg.save(path, net.state_dict())"),
    (lambda: mg.load({}), TypeError, "load: dict is not a path; net.load_state_dict(tensors)"),
    (
        lambda: NET.load_state_dict("x"),
        TypeError,
        "str, not a dict; mg.load(path) returns (tensors",
    ),
    (
        lambda: functional.cross_entropy(X, [0, 1]),
        TypeError,
        "argument 1 is list, not a tensor (mg",
    ),
    (lambda: functional.cross_entropy([0.0], X), TypeError, "argument 0 is list, not a tensor (mg"),
    (lambda: NET(np.ones((1, 2))), TypeError, "argument 0 is ndarray, not a tensor (mg.tensor(val"),
    (INTEGERS.mean, TypeError, "mean: argument 0 is int64, not a float32 or float64"),
    (INTEGERS.mean, TypeError, "convert it with .to('float32')"),
    (lambda: INTEGERS / 2, TypeError, "tensor; convert it with .to('float32')"),
    (lambda: INTEGERS * 0.5, TypeError, "a tensor of int64 does not mix with a float; convert it"),
    (lambda: INTEGERS + X, TypeError, "nothing is promoted: convert with .to('float32')"),
    (lambda: X + INTEGERS, TypeError, "nothing is promoted: convert with .to('float32')"),
]


@pytest.mark.parametrize("i", range(len(CASES)))
def test_the_message_says_what_to_write(i: int) -> None:
    call, error, message = CASES[i]
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_tensors_of_pytorch_are_named() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    t = torch.ones(2)
    for call in (
        lambda: X * t,
        lambda: t * X,
        lambda: ops.tanh(t),
        lambda: X @ t,
    ):
        with pytest.raises(TypeError, match=r"is torch\.Tensor"):
            call()
    assert mg.tensor(t).tolist() == [1, 1]


def test_every_name_of_the_tables_is_missing_and_answered() -> None:
    """A name that was added meanwhile has no business in its table."""
    for x, table in (
        (X, pytorch_names.TENSOR),
        (OPTIMIZER, pytorch_names.OPTIMIZER),
        (NET, pytorch_names.MODULE),
        (mg, pytorch_names.PACKAGE),
    ):
        for name, hint in table.items():
            assert not hasattr(x, name)
            with pytest.raises(AttributeError) as raised:
                getattr(x, name)
            assert str(raised.value).endswith(f"has no attribute {name!r}: {hint}")
            assert raised.value.name == name


def test_other_names_have_pythons_error() -> None:
    with pytest.raises(AttributeError, match=r"^'Tensor' object has no attribute 'summ'$"):
        X.summ  # noqa: B018
    with pytest.raises(AttributeError, match=r"^module 'minigan' has no attribute 'gradd'$"):
        mg.gradd  # noqa: B018

    class Broken(nn.Module):
        @property
        def depth(self) -> int:
            return self.width  # type: ignore[attr-defined, no-any-return, unused-ignore]

    with pytest.raises(AttributeError, match="has no attribute 'width'"):
        Broken().depth  # noqa: B018


def test_numpy_of_a_tensor_with_a_graph_is_a_copy(tmp_path: Path) -> None:
    """There is no detach() to write before it."""
    assert (X * 2.0).numpy().tolist() == [[2, 4], [6, 8]]
    mg.save(tmp_path / "x", {"x": X * 2.0})
    assert mg.load(tmp_path / "x")[0]["x"].tolist() == [[2, 4], [6, 8]]

"""Say what to write where a user calls a name of PyTorch that minigan does not have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_IN_PLACE = "a tensor is not changed in place; mg.optim.assign(x, values) copies values into one"
_NO_FLAGS = "mg.grad differentiates with respect to any tensor of the graph; nothing is retained"
TENSOR = {
    "backward": "(gw,) = mg.grad(loss, [w]) returns the gradients of a loss",
    "grad": "mg.grad(loss, [w]) returns gradients; tensors do not store them",
    "grad_fn": "x.op is the op that computed x, or None",
    "is_leaf": "x.op is None for a leaf",
    "retain_grad": _NO_FLAGS,
    "register_hook": _NO_FLAGS,
    "requires_grad_": "x.requires_grad = True, or mg.tensor(values, requires_grad=True)",
    "data": "x.detach() is the tensor without its graph; x.numpy() returns its values",
    "cuda": "x.to('cuda')",
    "cpu": "x.to('cpu')",
    "is_cuda": "x.device.name",
    "float": "x.to('float32')",
    "double": "x.to('float64')",
    "long": "x.to('int64')",
    "int": "x.to('int64')",
    "bool": "x.to('bool')",
    "type": "x.to(dtype)",
    "astype": "x.to(dtype)",
    "view": "x.reshape(shape)",
    "permute": "x.transpose(axes)",
    "swapaxes": "x.transpose(axes)",
    "unsqueeze": "x[None], x[:, None], ..., with None where the new axis is to be",
    "expand": "mg.ops.broadcast_to(x, shape)",
    "dim": "x.ndim",
    "numel": "x.size",
    "copy": "x.clone()",
    "contiguous": "x.clone()",
    "clamp": "x.clip(min, max)",
    "amax": "x.max(axis)",
    "amin": "x.min(axis)",
    "pow": "x ** p",
    "add": "x + y",
    "sub": "x - y",
    "mul": "x * y",
    "div": "x / y",
    "matmul": "x @ y",
    "mm": "x @ y",
    "bmm": "x @ y",
    "dot": "x @ y",
    "relu": "mg.ops.relu(x)",
    "softmax": "mg.ops.softmax(x, axis)",
    "log_softmax": "mg.ops.log_softmax(x, axis)",
}
OPTIMIZER = {
    "zero_grad": "there is nothing to zero: mg.grad returns new gradients, which step(gradients)"
    " takes",
    "param_groups": "opt.lr is the learning rate; one optimizer has one set of options",
}
MODULE = {
    "cuda": "net.to('cuda')",
    "cpu": "net.to('cpu')",
    "float": "net.to('float32')",
    "double": "net.to('float64')",
    "zero_grad": OPTIMIZER["zero_grad"],
    "requires_grad_": "p.requires_grad = False, for each p of net.parameters(), freezes a network;"
    " mg.grad(loss, G.parameters()) needs no freezing of D",
}


def missing_attribute(x: object, name: str, hints: Mapping[str, str]) -> Any:
    """Raise AttributeError for an attribute that x does not have, with the fix for PyTorch's names.

    It is called from `__getattr__`, also where a property raised AttributeError.
    """
    hint = hints.get(name)
    if hint is None and name.endswith("_") and not name.startswith("_") and hints is TENSOR:
        hint = _IN_PLACE
    if hint is None:
        return object.__getattribute__(x, name)  # raises Python's error, or that of the property
    kind = type(x).__name__
    raise AttributeError(f"{kind} has no attribute {name!r}: {hint}", name=name, obj=x)


def with_axis(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function; it answers dim= and keepdim= with the names axis= and keepdims=."""

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        if keywords and ("dim" in keywords or "keepdim" in keywords):
            raise TypeError(
                f"{function.__name__}: write axis= and keepdims=, as in numpy, for PyTorch's dim="
                " and keepdim="
            )
        return function(*arguments, **keywords)

    return call

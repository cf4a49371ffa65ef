"""Say what to write where a user calls a name of PyTorch that minigan does not have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_IN_PLACE = "a tensor is not changed in place; mg.optim.assign(x, values) copies values into one"
_NO_FLAGS = "mg.grad differentiates with respect to any tensor of the graph; nothing is retained"
TENSOR = {
    "backward": "mg.grad(loss, parameters) returns the gradients of a loss",
    "grad": "mg.grad(loss, parameters) returns gradients; tensors do not store them",
    "grad_fn": "x.op is the op that computed x, or None",
    "is_leaf": "x.op is None for a leaf",
    "retain_grad": _NO_FLAGS,
    "register_hook": _NO_FLAGS,
    "requires_grad_": "write x.requires_grad = True, or mg.tensor(values, requires_grad=True)",
    "data": "x.detach() is the tensor without its graph; x.numpy() returns its values",
    "cuda": "write x.to('cuda')",
    "cpu": "write x.to('cpu')",
    "is_cuda": "write x.device.name",
    "float": "write x.to('float32')",
    "double": "write x.to('float64')",
    "long": "write x.to('int64')",
    "int": "write x.to('int64')",
    "bool": "write x.to('bool')",
    "type": "write x.to(dtype)",
    "astype": "write x.to(dtype)",
    "view": "write x.reshape(shape)",
    "permute": "write x.transpose(axes)",
    "swapaxes": "write x.transpose(axes)",
    "unsqueeze": "x[None], x[:, None], ..., with None where the new axis is to be",
    "expand": "write mg.ops.broadcast_to(x, shape)",
    "dim": "write x.ndim",
    "numel": "write x.size",
    "copy": "write x.clone()",
    "contiguous": "write x.clone()",
    "clamp": "write x.clip(min, max)",
    "amax": "write x.max(axis)",
    "amin": "write x.min(axis)",
    "pow": "write x ** p",
    "add": "write x + y",
    "sub": "write x - y",
    "mul": "write x * y",
    "div": "write x / y",
    "matmul": "write x @ y",
    "mm": "write x @ y",
    "bmm": "write x @ y",
    "dot": "write x @ y",
    "relu": "write mg.ops.relu(x)",
    "softmax": "write mg.ops.softmax(x, axis)",
    "log_softmax": "write mg.ops.log_softmax(x, axis)",
}
OPTIMIZER = {
    "zero_grad": "there is nothing to zero: mg.grad returns new gradients, which step(gradients)"
    " takes",
    "param_groups": "opt.lr is the learning rate; one optimizer has one set of options",
}
MODULE = {
    "cuda": "write net.to('cuda')",
    "cpu": "write net.to('cpu')",
    "float": "write net.to('float32')",
    "double": "write net.to('float64')",
    "zero_grad": OPTIMIZER["zero_grad"],
    "requires_grad_": "p.requires_grad = False, for each p of net.parameters(), freezes a network;"
    " mg.grad(loss, G.parameters()) needs no freezing of D",
}
PACKAGE = {
    "cat": "write mg.concatenate(tensors, axis)",
    "randn": "write mg.random.normal(shape), with one argument for the shape: (3, 4)",
    "rand": "write mg.random.uniform(shape), with one argument for the shape: (3, 4)",
    "randperm": "write mg.random.permutation(n)",
    "from_numpy": "write mg.tensor(array), which copies it",
    "as_tensor": "write mg.tensor(values), which copies them",
    "array": "write mg.tensor(values)",
    "float32": "a dtype is a name, 'float32', or numpy's",
    "float64": "a dtype is a name, 'float64', or numpy's",
    "int64": "a dtype is a name, 'int64', or numpy's",
    "device": "write mg.get_device(name), or the name of a device where one is asked for",
    "set_default_device": "write mg.use_device(name)",
    "set_float32_matmul_precision": "write mg.matmul_precision('tf32') for 'high', and 'float32'"
    " for 'highest'",
    "autograd": "mg.grad(loss, parameters) returns the gradients of a loss",
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


def missing_name(name: str, ops: Iterable[str]) -> AttributeError:
    """Return the error for a name that `minigan` lacks, with the fix for PyTorch's names."""
    hint = f"write mg.ops.{name}" if name in ops else PACKAGE.get(name)
    text = f"module 'minigan' has no attribute {name!r}" + (f": {hint}" if hint else "")
    return AttributeError(text, name=name)


def with_axis(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with an error for dim= and keepdim= that names axis= and keepdims=."""

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        if keywords and ("dim" in keywords or "keepdim" in keywords):
            raise TypeError(
                f"{function.__name__}: write axis= and keepdims=, as in numpy, for PyTorch's dim="
                " and keepdim="
            )
        return function(*arguments, **keywords)

    return call

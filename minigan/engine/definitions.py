"""Definitions of ops in a user's own program: where they are, and whether they are well formed."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..kernels.elementwise.expressions import Expression
    from .op import Op


def caller() -> str:
    """Return "file.py:12", the line outside of minigan that makes an op."""
    frame = sys._getframe(2)  # of what makes the op
    package = __name__.partition(".")[0] + "."
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(package):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def check_definition(op: Op) -> None:
    """Raise TypeError or ValueError unless VJPs and samples have the form that `Op` documents."""
    if callable(op.vjps):
        kinds = [x.kind for x in _parameters(op.vjps)]
        if inspect.Parameter.VAR_POSITIONAL not in kinds:
            raise TypeError(
                f"{op.name}: vjps is one function, not a tuple with one for each input: write"
                " (function,), with the comma; for an op of any number of inputs its parameters are"
                " (i, g, y, *inputs)"
            )
        return
    for sample in op.samples:
        inputs = sample[: len(sample) - isinstance(sample[-1], dict)]
        if len(inputs) != op.arity:
            raise ValueError(
                f"{op.name}: vjps has {op.arity} entries, one for each input (None where no"
                f" gradient flows), but a sample has {len(inputs)} inputs; a sample is a tuple,"
                " (uniform(3),)"
            )
        if not op.accepts_numbers and not all(map(callable, inputs)):
            raise ValueError(
                f"{op.name}: a sample has a number among its inputs; Op(..., broadcasts=True) lets"
                " inputs and numbers broadcast, numbers=True accepts numbers alone"
            )
    for i, vjp in enumerate(op.vjps):
        if vjp is None:
            continue
        try:
            names = dict.fromkeys(op.attribute_names or ())
            inspect.signature(vjp).bind(None, None, *op.vjps, **names)
        except TypeError:
            attributes = "".join(f", {name}" for name in sorted(op.attribute_names or ()))
            raise TypeError(
                f"{op.name}: the VJP of input {i} takes ({', '.join(map(str, _parameters(vjp)))});"
                f" it is called with (g, y, {op.arity} inputs{attributes})"
            ) from None
        except ValueError:
            pass  # a function of C without a signature
    if not op.broadcasts:
        for sample in op.samples:
            _check_shapes_of_vjps(op, sample)


def _check_shapes_of_vjps(op: Op, sample: tuple[Any, ...]) -> None:
    """Raise ValueError for a VJP of the result's shape where its input has another one.

    VJPs that cannot run yet, as they are made of ops that are defined later, are left to `grad`.
    """
    from .tensor import Tensor, tensor  # which imports the ops, which are made of `Op`

    attributes = sample[-1] if isinstance(sample[-1], dict) else {}
    makers = sample[: len(sample) - bool(attributes)]
    if len({getattr(make, "shape", None) for make in makers}) < 2:
        return
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = []
    try:
        xs = [tensor(make(rng), device="reference") for make in makers]
        y = op(*xs, **attributes)
        g = tensor(np.ones(y.shape), device="reference")
        for i, x in enumerate(xs):
            vjp = op.vjp(i)
            gx = vjp(g, y, *xs, **attributes) if vjp is not None and op.prepare is None else None
            if isinstance(gx, Tensor):
                shapes.append((i, gx.shape, x.shape, y.shape))
    except Exception:
        return
    for i, actual, expected, result in shapes:
        if actual == result != expected:
            raise ValueError(
                f"{op.name}: the VJP of input {i} gives shape {actual} for an input of shape"
                f" {expected}; if the inputs broadcast, Op(..., broadcasts=True) sums it"
            )


def fitting_expression(op: Op, text: str) -> Expression:
    """Return the parsed expression of an elementwise op.

    Raises:
        ValueError: its form is wrong, or it does not fit the op.
    """
    from ..kernels.elementwise.expressions import parse

    expression = parse(op.name, text)
    if op.attribute_names not in (None, frozenset(expression.attributes)):
        listed = " ".join(sorted(op.attribute_names or ())) or "none"
        raise ValueError(f"{op.name}: {text!r}: the op's attributes are: {listed}")
    if op.arity not in (None, len(expression.inputs)):
        raise ValueError(f"{op.name}: {text!r}: the op has {op.arity} inputs")
    if not op.broadcasts or set(op.dtypes) != {"f"}:
        raise ValueError(f"{op.name}: only an op of floats that broadcast can have an expression")
    return expression


def _parameters(function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:  # a function of C
        return []


def source_path(name: str, source: str | Path, caller: str | None) -> Path:
    """Return the path of a CUDA source: of a text, a file that has it."""
    if isinstance(source, str) and ("\n" in source or "__global__" in source):
        from ..kernels.runtime.cuda.source_files import text_file

        return text_file(name, source)
    path = (Path(caller).parent if caller else Path()).joinpath(source).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{name}: there is no file {path} with a kernel")
    return path

"""Definitions of ops in a user's own program: where they are, and whether they are well formed."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .op import Op


def caller() -> str:
    """Return "file.py:12", the line outside of minigan that makes an op."""
    frame = sys._getframe(2)  # of what makes the op
    package = __name__.partition(".")[0] + "."
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(package):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def check_definition(op: Op) -> None:
    """Raise for VJPs and samples of another form than `Op` documents."""
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

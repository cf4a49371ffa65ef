"""Notice that a parameter of an optimizer or average was replaced in its module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine.tensor import Tensor


def replacement(p: Tensor) -> Any:
    """Return (module, name) of the attribute that held p, or its layer, and was replaced last."""
    return getattr(p, "replaced", None)


def check_not_replaced(owner: str, parameters: Sequence[Tensor], before: list[Any]) -> None:
    """Raise ValueError if a parameter has left its module since the owner was made.

    Args:
        owner: the name of the optimizer or average, for the message.
        parameters: its parameters.
        before: `replacement` of each of them when the owner was made, or at the last check.
    """
    for i, (p, known) in enumerate(zip(parameters, before, strict=True)):
        replaced = replacement(p)
        if replaced is None or replaced is known:
            continue
        module, attribute = replaced
        if all(x is not p for _, x in module.tensors()):
            raise ValueError(
                f"{owner}: parameter {i} ({p.shape}) is no longer the one of"
                f" {type(module).__name__}.{attribute}, which was replaced; make another {owner}"
                " after such a change, or change the values in place (`load_state_dict`,"
                " `mg.optim.assign`)"
            )
        before[i] = replaced

"""Detect that a parameter of an optimizer or average was replaced in its module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine.tensor import Tensor


def replacement(p: Tensor) -> Any:
    """Return (module, name) of the last attribute that held p and was replaced, or None.

    An attribute holds p if it is p, or a layer that contains p.
    """
    return getattr(p, "replaced", None)


def check_not_replaced(owner: str, parameters: Sequence[Tensor], before: list[Any]) -> None:
    """Raise ValueError if a parameter was replaced in its module since the owner was created.

    Args:
        owner: the name of the optimizer or average, for the message.
        parameters: its parameters.
        before: the `replacement` of each of them when the owner was created; updated for a
            replaced parameter that is back in its module.
    """
    for i, (p, known) in enumerate(zip(parameters, before, strict=True)):
        replaced = replacement(p)
        if replaced is None or replaced is known:
            continue
        module, attribute = replaced
        if all(x is not p for _, x in module.tensors()):
            raise ValueError(
                f"{owner}: parameter {i} ({p.shape}) is no longer in its module, as"
                f" {type(module).__name__}.{attribute} was replaced; create another {owner} after"
                " that, or change values in place (`load_state_dict`, `mg.optim.assign`)"
            )
        before[i] = replaced

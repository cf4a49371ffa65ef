"""Reverse-mode differentiation: one function that walks the graph backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from .tensor import Tensor, recording

Edges = list[tuple[int, Tensor]]


def grad(
    output: Tensor,
    inputs: Sequence[Tensor] | Tensor,
    grad_output: Tensor | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """d sum(output * grad_output) / d input, for each input.

    Only paths that lead from `output` to the inputs are walked: `grad(loss, G.parameters())` never
    computes a gradient of the discriminator that the loss passed through.

    Args:
        inputs: tensors that require gradients, leaves or not.
        grad_output: the cotangent, of the output's shape and dtype; 1 for a scalar output.
        create_graph: record the computation of the gradients, so that they can be differentiated
            again. VJPs are made of ops; running them with recording on is all that it takes.
        allow_unused: give None for an input that the output does not depend on, instead of raising.

    Raises:
        ValueError: the output does not depend on an input; a tensor of the graph was changed in
            place since it was recorded; a shape, dtype or device does not fit.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    g = _start(output, inputs, grad_output)
    order = _topological(output)
    wanted = {id(x) for x in inputs}
    leads = set(wanted)  # tensors on a path from an input to the output
    for t, edges in order:
        if any(id(x) in leads for _, x in edges):
            leads.add(id(t))
    if not allow_unused:
        present = {id(t) for t, _ in order}
        for i, x in enumerate(inputs):
            if id(x) not in present:
                raise ValueError(
                    f"grad: the output does not depend on input {i} (shape {x.shape}): was it"
                    " computed from another tensor, detached, or under no_grad()?"
                    " allow_unused=True gives None for it"
                )
    cotangents: dict[int, Tensor] = {id(output): g}
    with recording(create_graph):
        for t, edges in reversed(order):
            # An inner cotangent is dropped as soon as it has been passed on.
            g_t = cotangents.get(id(t)) if id(t) in wanted else cotangents.pop(id(t), None)
            asked = [(i, x) for i, x in edges if id(x) in leads]
            if g_t is None or not asked:
                continue
            _check_fresh(t)
            for x, gx in _input_cotangents(t, g_t, asked):
                before = cotangents.get(id(x))
                cotangents[id(x)] = gx if before is None else ops.add(before, gx)
    return tuple(cotangents.get(id(x)) for x in inputs)


def _start(output: Tensor, inputs: list[Tensor], grad_output: Tensor | None) -> Tensor:
    """The output's cotangent, once the arguments are found to be right."""
    if not isinstance(output, Tensor):
        raise TypeError(f"grad: the output is {type(output).__name__}, not a tensor")
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"grad: input {i} is {type(x).__name__}, not a tensor")
        if not x.requires_grad:
            raise ValueError(
                f"grad: input {i} (shape {x.shape}, {x.dtype}) does not require gradients;"
                " make it with requires_grad=True"
            )
    if grad_output is None:
        if output.size != 1:
            raise ValueError(
                f"grad: the output has shape {output.shape}; give grad_output (the cotangent) for"
                " an output that is not a scalar, or sum it"
            )
        ones = output.device.from_numpy(np.ones(output.shape, output.dtype))
        return Tensor(ones, output.device)
    if not isinstance(grad_output, Tensor):
        raise TypeError(f"grad: grad_output is {type(grad_output).__name__}, not a tensor")
    given = (grad_output.shape, grad_output.dtype, grad_output.device)
    if given != (output.shape, output.dtype, output.device):
        raise ValueError(
            f"grad: grad_output is {grad_output.dtype}{grad_output.shape} on"
            f" {grad_output.device.name!r}, but the output is {output.dtype}{output.shape} on"
            f" {output.device.name!r}"
        )
    return grad_output


def _edges(t: Tensor) -> Edges:
    """The inputs of `t` that a gradient flows to, with their numbers."""
    if t.op is None:
        return []
    return [
        (i, x)
        for i, x in enumerate(t.inputs)
        if isinstance(x, Tensor) and x.requires_grad and t.op.vjp(i) is not None
    ]


def _topological(output: Tensor) -> list[tuple[Tensor, Edges]]:
    """All tensors that `output` depends on, inputs first; iterative, so depth has no limit."""
    order: list[tuple[Tensor, Edges]] = []
    seen: set[int] = set()
    stack: list[tuple[Tensor, Edges | None]] = [(output, None)]
    while stack:
        t, edges = stack.pop()
        if edges is not None:
            order.append((t, edges))
        elif id(t) not in seen:
            seen.add(id(t))
            edges = _edges(t)
            stack.append((t, edges))
            stack.extend((x, None) for _, x in edges)
    return order


def _check_fresh(t: Tensor) -> None:
    """Raise if the memory that `t` was computed from, or `t` itself, has been changed since."""
    op: Any = t.op
    tensors = [(i, x) for i, x in enumerate(t.inputs) if isinstance(x, Tensor)]
    for (i, x), version in zip([(-1, t), *tensors], t.versions, strict=True):
        if x.version != version:
            what = f"input {i} of op {op.name!r}" if i >= 0 else f"the output of op {op.name!r}"
            raise ValueError(
                f"grad: {what} (shape {x.shape}) was changed in place after it was recorded"
                f" (version {version}, now {x.version}): the graph is stale; compute the output"
                " again after an optimizer step, before asking for its gradient"
            )


def _input_cotangents(t: Tensor, g: Tensor, asked: Edges) -> list[tuple[Tensor, Tensor]]:
    """Run the VJPs of the inputs that are asked for, and check what they return."""
    op: Any = t.op
    if op.prepare is not None:
        g = op.prepare(g, t, *t.inputs, **t.attributes)
    results = []
    for i, x in asked:
        gx = op.vjp(i)(g, t, *t.inputs, **t.attributes)
        if op.broadcasts and isinstance(gx, Tensor) and gx.shape != x.shape:
            gx = ops.sum_to(gx, x.shape)
        if not isinstance(gx, Tensor):
            raise TypeError(f"{op.name}: the VJP of input {i} gave {type(gx).__name__}, no tensor")
        if (gx.shape, gx.dtype, gx.device) != (x.shape, x.dtype, x.device):
            raise ValueError(
                f"{op.name}: the VJP of input {i} gave {gx.dtype}{gx.shape} on {gx.device.name!r},"
                f" but the input is {x.dtype}{x.shape} on {x.device.name!r}"
            )
        results.append((x, gx))
    return results

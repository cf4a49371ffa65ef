"""Reverse-mode automatic differentiation: `grad` walks the graph backwards and runs the VJPs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from .. import ops
from .grad_mode import set_grad_enabled
from .tensor import Tensor
from .values import type_name

Edges = list[tuple[int, Tensor]]  # number and tensor of each input that a gradient flows to


@overload
def grad(
    output: Tensor,
    inputs: Sequence[Tensor] | Tensor,
    grad_output: Tensor | None = None,
    create_graph: bool = False,
    allow_unused: Literal[False] = False,
) -> tuple[Tensor, ...]: ...
@overload
def grad(
    output: Tensor,
    inputs: Sequence[Tensor] | Tensor,
    grad_output: Tensor | None = None,
    create_graph: bool = False,
    *,
    allow_unused: bool,
) -> tuple[Tensor | None, ...]: ...
def grad(
    output: Tensor,
    inputs: Sequence[Tensor] | Tensor,
    grad_output: Tensor | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradient d sum(output * grad_output) / d input for each input.

    Only paths that lead from `output` to the inputs are walked: `grad(loss, G.parameters())` never
    computes a gradient of the discriminator's parameters, through which the loss passes.

        gradients = mg.grad(loss, generator.parameters())
        (gx,) = mg.grad(critic(x).sum(), [x], create_graph=True)  # for a gradient penalty

    Args:
        output: the tensor to differentiate.
        inputs: tensors that require gradients, leaves or not.
        grad_output: the cotangent, of the output's shape and dtype; 1 for a scalar output.
        create_graph: record the computation of the gradients, so that they can be differentiated
            again. A VJP is made of ops, so it is enough to run it with recording on.
        allow_unused: return None for an input that the output does not depend on, do not raise.

    Raises:
        ValueError: the output does not depend on an input; a tensor of the graph was changed in
            place since it was recorded; a shape, dtype or device does not fit.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    g_output = _output_cotangent(output, inputs, grad_output)
    order = _topological_order(output)
    input_ids = {id(x) for x in inputs}
    on_path = set(input_ids)  # ids of the tensors on a path from an input to the output
    for t, edges in order:
        if any(id(x) in on_path for _, x in edges):
            on_path.add(id(t))
    if not allow_unused:
        _check_used(inputs, {id(t) for t, _ in order})
    cotangents: dict[int, Tensor] = {id(output): g_output}
    with set_grad_enabled(create_graph):
        for t, edges in reversed(order):
            # The cotangent of an inner tensor is dropped as soon as it has been passed on.
            g = cotangents.get(id(t)) if id(t) in input_ids else cotangents.pop(id(t), None)
            path_edges = [(i, x) for i, x in edges if id(x) in on_path]
            if g is None or not path_edges:
                continue
            _check_versions(t)
            for x, gx in _input_cotangents(t, g, path_edges):
                partial_sum = cotangents.get(id(x))
                cotangents[id(x)] = gx if partial_sum is None else partial_sum + gx
    return tuple(cotangents.get(id(x)) for x in inputs)


def jacobian(
    output: Tensor, inputs: Sequence[Tensor] | Tensor, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the Jacobian d output / d input for each input.

    Each element of the output takes one walk through the graph, so this is for few outputs.

        (J,) = mg.jacobian(W @ x, [x])  # W

    Args:
        output: the tensor to differentiate, of at least one element.
        inputs, create_graph: see `grad`.

    Returns:
        For each input a tensor of shape (*output.shape, *input.shape).

    Raises:
        ValueError: the output is empty, or does not depend on an input; see `grad`.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    _output_cotangent(output, inputs, output)  # checks the arguments
    if output.size == 0:
        raise ValueError(f"jacobian: the output has shape {output.shape}, and no element")
    rows = []
    for i in range(output.size):
        one = np.zeros(output.size, output.dtype)
        one[i] = 1
        cotangent = Tensor(output.device.from_numpy(one.reshape(output.shape)), output.device)
        rows.append(grad(output, inputs, cotangent, create_graph))
    columns = zip(*rows, strict=True)
    return tuple(
        ops.stack(column).reshape(*output.shape, *x.shape)
        for column, x in zip(columns, inputs, strict=True)
    )


def _output_cotangent(output: Tensor, inputs: list[Tensor], grad_output: Tensor | None) -> Tensor:
    """Check the arguments of `grad` and return the cotangent of the output."""
    if not isinstance(output, Tensor):
        raise TypeError(f"grad: the output is {type_name(output)}, not a tensor")
    if output.dtype.kind != "f":
        raise TypeError(
            f"grad: the output is {output.dtype}, which has no gradient: argmax, comparisons and"
            " conversions to integers end the graph"
        )
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"grad: input {i} is {type_name(x)}, not a tensor")
        if x.dtype.kind != "f":
            raise TypeError(f"grad: input {i} is {x.dtype}; float32 and float64 have gradients")
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
        raise TypeError(f"grad: grad_output is {type_name(grad_output)}, not a tensor")
    if _shape_dtype_device(grad_output) != _shape_dtype_device(output):
        raise ValueError(
            f"grad: grad_output is {_describe(grad_output)}, but the output is {_describe(output)}"
        )
    return grad_output


def _shape_dtype_device(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.device


def _describe(x: Tensor) -> str:
    """Return dtype, shape and device as text for an error message."""
    return f"{x.dtype}{x.shape} on {x.device.name!r}"


def _check_used(inputs: list[Tensor], graph_ids: set[int]) -> None:
    """Raise ValueError if an input is not among the tensors of the graph."""
    for i, x in enumerate(inputs):
        if id(x) not in graph_ids:
            raise ValueError(
                f"grad: the output does not depend on input {i} (shape {x.shape}): was it"
                " computed from another tensor, detached, under no_grad(), or from a gradient that"
                " mg.grad returned without create_graph=True? allow_unused=True gives None for it"
            )


def _edges(t: Tensor) -> Edges:
    """Return the inputs of `t` that a gradient flows to, with their numbers."""
    if t.op is None:
        return []
    return [
        (i, x)
        for i, x in enumerate(t.inputs)
        if isinstance(x, Tensor) and x.requires_grad and t.op.vjp(i) is not None
    ]


def _topological_order(output: Tensor) -> list[tuple[Tensor, Edges]]:
    """Return all tensors that `output` depends on, inputs before outputs, with their edges.

    This is a loop with a stack of its own, because recursion would limit the depth of a graph.
    """
    order: list[tuple[Tensor, Edges]] = []
    visited: set[int] = set()
    # A tensor is pushed without its edges on the way down and with them for the way up.
    stack: list[tuple[Tensor, Edges | None]] = [(output, None)]
    while stack:
        t, edges = stack.pop()
        if edges is not None:
            order.append((t, edges))
        elif id(t) not in visited:
            visited.add(id(t))
            edges = _edges(t)
            stack.append((t, edges))
            stack.extend((x, None) for _, x in edges)
    return order


def _check_versions(t: Tensor) -> None:
    """Raise ValueError if `t` or one of its inputs was changed in place since it was recorded."""
    op: Any = t.op
    tensors = [(i, x) for i, x in enumerate(t.inputs) if isinstance(x, Tensor)]
    for (i, x), version in zip([(-1, t), *tensors], t.versions, strict=True):
        if x.version != version:
            role = f"input {i} of op {op.name!r}" if i >= 0 else f"the output of op {op.name!r}"
            raise ValueError(
                f"grad: {role} (shape {x.shape}) was changed in place after it was recorded"
                f" (version {version}, now {x.version}): the graph is stale; compute the output"
                " again after an optimizer step, before asking for its gradient"
            )


def _input_cotangents(t: Tensor, g: Tensor, edges: Edges) -> list[tuple[Tensor, Tensor]]:
    """Run the VJPs of these inputs of `t`, and check shape, dtype and device of the results."""
    op: Any = t.op
    if op.prepare is not None:
        g = op.prepare(g, t, *t.inputs, **t.attributes)
    results = []
    for i, x in edges:
        gx = op.vjp(i)(g, t, *t.inputs, **t.attributes)
        if op.broadcasts and isinstance(gx, Tensor) and gx.shape != x.shape:
            gx = ops.sum_to(gx, x.shape)
        if not isinstance(gx, Tensor):
            raise TypeError(f"{op.name}: the VJP of input {i} gave {type(gx).__name__}, no tensor")
        if _shape_dtype_device(gx) != _shape_dtype_device(x):
            is_unsummed = gx.shape == t.shape != x.shape and not op.broadcasts
            hint = "; if the inputs broadcast, Op(..., broadcasts=True) sums it" * is_unsummed
            raise ValueError(
                f"{op.name}: the VJP of input {i} gave {_describe(gx)},"
                f" but the input is {_describe(x)}{hint}"
            )
        results.append((x, gx))
    return results

"""The table of ops and functions that write each as nodes of ONNX.

A function takes the graph, the call and the names of its inputs, and returns the name of its
result. For an op of your own, add an entry by its name:

    def write_softsign(graph, call, x):
        return graph.node("Softsign", [x])

    mg.export.OPERATIONS["softsign"] = write_softsign
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .graph import GraphBuilder
from .trace import Call, ExportError, Size

LAST, FIRST = 2**63 - 1, -(2**63)  # an end of a slice behind any axis, and before it
Write = Callable[..., str]


def _one_node(kind: str, on_bools: str = "") -> Write:
    """Return a function that writes one node without attributes.

    `on_bools` is another kind of node, for bool tensors.
    """

    def write(graph: GraphBuilder, call: Call, *names: str) -> str:
        is_bool = on_bools and call.result.dtype.kind == "b"
        return graph.node(on_bools if is_bool else kind, names)

    return write


# ------------------------------------------------------------------------------- matrices, images
def _dense(graph: GraphBuilder, call: Call, x: str, w: str, b: str) -> str:
    return graph.node("Gemm", [x, w, b])


def _conv2d(graph: GraphBuilder, call: Call, x: str, w: str) -> str:
    stride, (rows, columns) = call.attributes["stride"], call.attributes["padding"]
    return graph.node("Conv", [x, w], strides=stride, pads=[rows, columns, rows, columns])


def _conv2d_input_grad(graph: GraphBuilder, call: Call, x: str, w: str) -> str:
    """Write a transposed convolution; output_padding makes up for what the stride leaves open."""
    stride, padding, size = (call.attributes[k] for k in ("stride", "padding", "size"))
    images = (size, call.inputs[0].shape[2:], call.inputs[1].shape[2:])
    sides = zip(*images, stride, padding, strict=True)
    extra = [n - ((m - 1) * s - 2 * p + k) for n, m, k, s, p in sides]
    return graph.node(
        "ConvTranspose", [x, w], strides=stride, pads=[*padding, *padding], output_padding=extra
    )


def _sum_pool(graph: GraphBuilder, call: Call, x: str) -> str:
    kernel, stride = call.attributes["kernel"], call.attributes["stride"]
    mean = graph.node("AveragePool", [x], kernel_shape=kernel, strides=stride)
    return graph.node("Mul", [mean, graph.constant(math.prod(kernel), np.float32)])


def _sum_pool_grad(graph: GraphBuilder, call: Call, x: str) -> str:
    """Write nearest upsampling, the form of this op that `ops.upsample_nearest` runs."""
    kernel, size = call.attributes["kernel"], call.attributes["size"]
    scales = [n * k for n, k in zip(call.inputs[0].shape[2:], kernel, strict=True)]
    if kernel != call.attributes["stride"] or tuple(scales) != size:
        raise ExportError(
            "the gradient of a pooling with windows that overlap or leave gaps has no form in"
            " ONNX here; upsample_nearest has"
        )
    factors = graph.constant([1, 1, *kernel], np.float32)
    modes = {"mode": "nearest", "nearest_mode": "floor"}
    return graph.node(
        "Resize", [x, "", factors], coordinate_transformation_mode="asymmetric", **modes
    )


def _max_pool(graph: GraphBuilder, call: Call, x: str, by: str) -> str:
    """Write a max pooling; windows that end outside of the padding have more of it at the end."""
    kernel, stride, padding, pooled = (
        call.attributes[k] for k in ("kernel", "stride", "padding", "pooled")
    )
    if x != by:
        raise ExportError("the pooling of one tensor by the maxima of another has no form in ONNX")
    sides = zip(call.inputs[0].shape[2:], kernel, stride, padding, pooled, strict=True)
    ends = [max(0, (m - 1) * s + k - n - p) for n, k, s, p, m in sides]
    pads = [*padding, *ends]
    return graph.node("MaxPool", [x], kernel_shape=kernel, strides=stride, pads=pads)


# ---------------------------------------------------------------------------------- shapes, parts
def _reshape(graph: GraphBuilder, call: Call, x: str) -> str:
    return graph.node("Reshape", [x, graph.sizes(call.attributes["shape"], infer=True)])


def _broadcast_to(graph: GraphBuilder, call: Call, x: str) -> str:
    return graph.node("Expand", [x, graph.sizes(call.attributes["shape"])])


def _transpose(graph: GraphBuilder, call: Call, x: str) -> str:
    return graph.node("Transpose", [x], perm=call.attributes["axes"])


def _slice(graph: GraphBuilder, call: Call, x: str) -> str:
    """Write x[index]: Slice for slices and integers, then Squeeze, then Unsqueeze for None."""
    index, rank = call.attributes["index"], len(call.inputs[0].shape)
    used = sum(part is not None and part is not ... for part in index)
    if ... not in index:
        index = (*index, ...)
    cuts: list[tuple[Any, Any, int, int]] = []  # start, stop, axis, step
    removed, added = [], []
    axis = position = 0  # in x, and in the result
    for part in index:
        if part is ...:
            axis, position = axis + rank - used, position + rank - used
        elif part is None:
            added.append(position)
            position += 1
        elif isinstance(part, slice):
            step = 1 if part.step is None else part.step
            ends = (0, LAST) if step > 0 else (LAST, FIRST)
            start = ends[0] if part.start is None else part.start
            stop = ends[1] if part.stop is None else part.stop
            if (start, stop, step) != (0, LAST, 1):
                cuts.append((start, stop, axis, step))
            axis, position = axis + 1, position + 1
        else:
            cuts.append((part, _next(part), axis, 1))
            removed.append(axis)
            axis += 1
    if cuts:
        starts, stops, axes, steps = map(list, zip(*cuts, strict=True))
        x = graph.node("Slice", [x, *map(graph.sizes, (starts, stops, axes, steps))])
    for kind, axes in (("Squeeze", removed), ("Unsqueeze", added)):
        x = graph.node(kind, [x, graph.constant(axes, np.int64)]) if axes else x
    return x


def _next(i: int | Size) -> int | Size:
    """Return the end of the slice that holds element i alone."""
    if isinstance(i, Size):
        return Size(i.a + 1, i.b)
    return LAST if i == -1 else i + 1


def _slice_scatter(graph: GraphBuilder, call: Call, x: str) -> str:
    """Write padding, the form of this op that `ops.pad` runs."""
    shape, index, value = (call.attributes[k] for k in ("shape", "index", "value"))
    before, after = [], []
    for n, part in zip(shape, index, strict=False):
        fits = isinstance(part, slice) and part.step in (None, 1) and type(part.start) is int
        end = _difference(n, part.stop) if fits else None
        if end is None:
            break
        before.append(part.start)
        after.append(end)
    if len(before) != len(shape):
        raise ExportError("scattering into an array has no form in ONNX here; ops.pad has")
    pads = graph.constant([*before, *after], np.int64)
    return graph.node("Pad", [x, pads, graph.constant(value, call.result.dtype)])


def _difference(a: int | Size, b: int | Size) -> int | None:
    """Return a - b, or None if it depends on the batch size."""
    if isinstance(a, Size) and isinstance(b, Size) and a.b == b.b:
        return a.a - b.a
    return a - b if isinstance(a, int) and isinstance(b, int) else None


def _concatenate(graph: GraphBuilder, call: Call, *names: str) -> str:
    return graph.node("Concat", names, axis=call.attributes["axis"])


def _gather(graph: GraphBuilder, call: Call, x: str, i: str) -> str:
    return graph.node("GatherElements", [x, i], axis=call.attributes["axis"])


# ------------------------------------------------------------------------- elements and reductions
def _leaky_relu(graph: GraphBuilder, call: Call, x: str) -> str:
    return graph.node("LeakyRelu", [x], alpha=float(call.attributes["slope"]))


def _clip(graph: GraphBuilder, call: Call, x: str) -> str:
    bounds = [graph.constant(call.attributes[k], call.result.dtype) for k in ("low", "high")]
    return graph.node("Clip", [x, *bounds])


def _cast(graph: GraphBuilder, call: Call, x: str) -> str:
    return graph.node("Cast", [x], to=graph.helper.np_dtype_to_tensor_dtype(call.result.dtype))


def _not_equal(graph: GraphBuilder, call: Call, a: str, b: str) -> str:
    return graph.node("Not", [graph.node("Equal", [a, b])])


def _gelu(graph: GraphBuilder, call: Call, x: str) -> str:
    """Write x (1 + erf(x / sqrt 2)) / 2; ONNX has it as one node from opset 20 on."""
    scaled = graph.node("Mul", [x, graph.constant(math.sqrt(0.5), np.float32)])
    doubled = graph.node("Add", [graph.node("Erf", [scaled]), graph.constant(1, np.float32)])
    return graph.node("Mul", [graph.node("Mul", [x, graph.constant(0.5, np.float32)]), doubled])


def _sum(graph: GraphBuilder, call: Call, x: str) -> str:
    axes, keepdims = call.attributes["axis"], int(call.attributes["keepdims"])
    if call.inputs[0].dtype.kind == "b":
        x = _cast(graph, call, x)
    axes = graph.constant(list(axes), np.int64)
    return graph.node("ReduceSum", [x, axes], keepdims=keepdims, noop_with_empty_axes=1)


def _max(graph: GraphBuilder, call: Call, x: str) -> str:
    axes, keepdims = call.attributes["axis"], int(call.attributes["keepdims"])
    return graph.node("ReduceMax", [x], axes=axes, keepdims=keepdims) if axes else x


def _normalize(graph: GraphBuilder, call: Call, x: str, scale: str, shift: str) -> str:
    """Write scale (x - mean) / sqrt(variance + eps) + shift for x (a, m, b), by m."""

    def mean(name: str) -> str:
        return graph.node("ReduceMean", [name], axes=[0, 2], keepdims=1)

    centered = graph.node("Sub", [x, mean(x)])
    variance = mean(graph.node("Mul", [centered, centered]))
    eps = graph.constant(call.attributes["eps"], np.float32)
    deviation = graph.node("Sqrt", [graph.node("Add", [variance, eps])])
    y = graph.node("Div", [centered, deviation])
    for kind, name, row in (("Mul", scale, call.inputs[1]), ("Add", shift, call.inputs[2])):
        if hasattr(row, "shape"):
            y = graph.node(kind, [y, graph.node("Unsqueeze", [name, graph.sizes([1])])])
        elif row != (1.0 if kind == "Mul" else 0.0):
            y = graph.node(kind, [y, name])
    return y


_ONE_NODE = {
    **{"subtract": "Sub", "divide": "Div", "negative": "Neg", "power": "Pow", "matmul": "MatMul"},
    **{"exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs", "sign": "Sign", "relu": "Relu"},
    **{"sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "where": "Where"},
    **{"maximum": "Max", "minimum": "Min", "greater": "Greater", "less": "Less", "equal": "Equal"},
    **{"greater_equal": "GreaterOrEqual", "less_equal": "LessOrEqual"},
}
OPERATIONS: dict[str, Write] = {
    **{name: _one_node(kind) for name, kind in _ONE_NODE.items()},
    "add": _one_node("Add", on_bools="Or"),
    "multiply": _one_node("Mul", on_bools="And"),
    "broadcast_to": _broadcast_to,
    "cast": _cast,
    "clip": _clip,
    "concatenate": _concatenate,
    "conv2d": _conv2d,
    "conv2d_input_grad": _conv2d_input_grad,
    "dense": _dense,
    "gather": _gather,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "max": _max,
    "max_pool": _max_pool,
    "normalize": _normalize,
    "not_equal": _not_equal,
    "reshape": _reshape,
    "slice": _slice,
    "slice_scatter": _slice_scatter,
    "sum": _sum,
    "sum_pool": _sum_pool,
    "sum_pool_grad": _sum_pool_grad,
    "transpose": _transpose,
}

"""Optimizer updates: one launch walks all parameters of a model, whatever their number.

A table holds the addresses of every parameter, gradient and moment; the elements are numbered
through from the first parameter to the last, and each thread takes an equal share of them.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, keep, launch, parts
from ..shape.cpu import assign

GRAIN = 262144  # elements that are worth a second thread


@intrinsic
def _pointer(typing_context, address, like):
    """The address as a pointer to elements of `like`'s dtype."""
    pointer = types.CPointer(like.dtype)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.intp, like), codegen


@jit
def _array(address, size, like):
    return carray(_pointer(address, like), size)


# Each rule updates one stretch of one parameter p with its gradient g and its moments. The numbers
# come in the parameters' dtype. Weight decay is `shrink`, a factor of p (decoupled), or `couple`,
# the share of p that is added to g.
@jit
def _adam(p, g, m, v, numbers):
    """m += (1-b1)(g-m);  v = b2 v + (1-b2) g^2;  p -= rate m / (sqrt(v) / root + eps)."""
    shrink, couple, blend, keep = numbers[0], numbers[1], numbers[2], numbers[3]
    fresh, rate, root, eps = numbers[4], numbers[5], numbers[6], numbers[7]
    for i in range(p.size):
        gradient = g[i] + couple * p[i]
        mean = m[i] + (gradient - m[i]) * blend
        square = v[i] * keep + fresh * gradient * gradient
        m[i] = mean
        v[i] = square
        p[i] = p[i] * shrink - rate * mean / (np.sqrt(square) / root + eps)


@jit
def _rmsprop(p, g, v, numbers):
    """v = a v + (1-a) g^2;  p -= rate g / (sqrt(v) + eps)."""
    couple, keep, fresh, rate, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for i in range(p.size):
        gradient = g[i] + couple * p[i]
        square = v[i] * keep + fresh * gradient * gradient
        v[i] = square
        p[i] -= rate * gradient / (np.sqrt(square) + eps)


@jit
def _sgd(p, g, numbers):
    """p -= rate g."""
    couple, rate = numbers[0], numbers[1]
    for i in range(p.size):
        p[i] -= rate * (g[i] + couple * p[i])


@jit
def _momentum(p, g, m, numbers):
    """m = momentum m + g;  p -= rate (ahead g + last m): Nesterov's looks one step ahead."""
    couple, rate, momentum = numbers[0], numbers[1], numbers[2]
    ahead, last = numbers[3], numbers[4]
    for i in range(p.size):
        gradient = g[i] + couple * p[i]
        mean = m[i] * momentum + gradient
        m[i] = mean
        p[i] -= rate * (ahead * gradient + last * mean)


ADAM, RMSPROP, SGD, MOMENTUM = range(4)


@jit
def walk(rule, table, sizes, numbers, begin, end):
    """Apply a rule to the elements begin..end, counted through all parameters."""
    at = 0
    for k in range(sizes.size):
        size = sizes[k]
        first = max(begin - at, 0)
        last = min(end - at, size)
        at += size
        if first >= last:
            continue
        p = _array(table[0, k], size, numbers)[first:last]
        g = _array(table[1, k], size, numbers)[first:last]
        if rule == SGD:
            _sgd(p, g, numbers)
            continue
        m = _array(table[2, k], size, numbers)[first:last]
        if rule == RMSPROP:
            _rmsprop(p, g, m, numbers)
        elif rule == MOMENTUM:
            _momentum(p, g, m, numbers)
        else:
            _adam(p, g, m, _array(table[3, k], size, numbers)[first:last], numbers)


def _address(x: np.ndarray) -> int:
    """Three times as fast as `x.ctypes.data`, for a writable array; 0 for an empty one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(x.data)) if x.size else 0


# ------------------------------------------------------------------------ a step's few numbers
# They follow from the state, which lies on the device: so a step needs nothing from the host.
@jit
def adam_numbers(state, numbers, beta1, beta2, eps, weight_decay, decoupled):
    state[1] *= beta1
    state[2] *= beta2
    lr = state[0]
    numbers[0] = 1 - lr * weight_decay if decoupled else 1.0
    numbers[1] = 0.0 if decoupled else weight_decay
    numbers[2], numbers[3], numbers[4] = 1 - beta1, beta2, 1 - beta2
    numbers[5], numbers[6], numbers[7] = lr / (1 - state[1]), math.sqrt(1 - state[2]), eps


@jit
def rmsprop_numbers(state, numbers, alpha, eps, weight_decay):
    numbers[0], numbers[1], numbers[2] = weight_decay, alpha, 1 - alpha
    numbers[3], numbers[4] = state[0], eps


@jit
def sgd_numbers(state, numbers, momentum, nesterov, weight_decay):
    numbers[0], numbers[1], numbers[2] = weight_decay, state[0], momentum
    numbers[3], numbers[4] = (1.0, momentum) if nesterov else (0.0, 1.0)


def _step(
    rule: int, lists: list[list[np.ndarray]], begin: Any, state: np.ndarray, *given: float
) -> None:
    """Make the rule's numbers, then walk parameters, gradients and moments, lists of one length."""
    # Gradients may be views. What is packed must live until the launch is over.
    packed = [
        [x if x.flags.c_contiguous and x.flags.writeable else elementwise("copy", x) for x in xs]
        for xs in lists
    ]
    keep(*(x for xs in packed for x in xs))
    table = np.array([[_address(x) for x in xs] for xs in packed], np.int64)
    sizes = np.array([x.size for x in packed[0]], np.int64)
    total = int(sizes.sum())
    numbers = empty((8,), packed[0][0].dtype)
    launch(begin, state, numbers, *given)
    many = parts(total, GRAIN)
    launch(walk, rule, table, sizes, numbers, over=total, parts=many)
    for arrays, copies in zip((lists[0], *lists[2:]), (packed[0], *packed[2:]), strict=True):
        for x, copy in zip(arrays, copies, strict=True):
            if copy is not x:
                assign(x, copy)


def adam(
    parameters: list[np.ndarray],
    gradients: list[np.ndarray],
    means: list[np.ndarray],
    squares: list[np.ndarray],
    state: np.ndarray,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Adam and AdamW; state is [lr, beta1^t, beta2^t]."""
    given = *map(float, (beta1, beta2, eps, weight_decay)), decoupled
    _step(ADAM, [parameters, gradients, means, squares], adam_numbers, state, *given)


def rmsprop(
    parameters: list[np.ndarray],
    gradients: list[np.ndarray],
    squares: list[np.ndarray],
    state: np.ndarray,
    alpha: float,
    eps: float,
    weight_decay: float,
) -> None:
    """RMSprop; state is [lr]."""
    given = map(float, (alpha, eps, weight_decay))
    _step(RMSPROP, [parameters, gradients, squares], rmsprop_numbers, state, *given)


def sgd(
    parameters: list[np.ndarray],
    gradients: list[np.ndarray],
    means: list[np.ndarray],
    state: np.ndarray,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """SGD, with a list of means if there is momentum; state is [lr]."""
    rule, more = (MOMENTUM, [means]) if means else (SGD, [])
    given = float(momentum), nesterov, float(weight_decay)
    _step(rule, [parameters, gradients, *more], sgd_numbers, state, *given)


KERNELS = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd}

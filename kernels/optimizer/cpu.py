"""Optimizer updates: one launch updates all parameters of a model, for any number of them.

A table holds the addresses of each parameter, its gradient and its moments. The elements are
counted through all parameters, first to last:

    for each parameter with elements in begin..end:       threads share out the elements
        for i in the part of it within begin..end:        vectorized by LLVM
            load p, g and the moments; apply the rule; store p and the moments

Optimizations:
    - Loop fusion: each number is loaded and stored once, the rest stays in registers.
    - Multi-tensor apply: one launch for all parameters.
    - Multithreading from MIN_PARALLEL_ELEMENTS on, in equal parts that may end within a parameter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..runtime.arrays import writable_address
from ..runtime.cpu.call import call_function, function_addresses
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, keep, launch, parts
from ..runtime.cpu.simd import pointer
from ..shape.cpu import assign, contiguous

MIN_PARALLEL_ELEMENTS = 262144  # With fewer, a second thread costs more than it saves.


# ----------------------------------------------------------------------------------- the rules
# Each updates `size` elements of one parameter p with its gradient g and its moments, all given by
# their addresses. `numbers` have the parameters' dtype. Weight decay is either decoupled,
# p * decay_factor, or added to the gradient, g + weight_decay * p. Rules are called by their own
# addresses, so that a program compiles only those that it uses.
@jit
def adam_rule(numbers, p, g, m, v, size):
    """Apply m += (1-b1)(g-m);  v = b2 v + (1-b2) g^2;  p -= lr m / (sqrt(v) / root + eps)."""
    p, g, m, v = pointer(numbers, p), pointer(numbers, g), pointer(numbers, m), pointer(numbers, v)
    decay_factor, weight_decay = numbers[0], numbers[1]
    one_minus_beta1, beta2, one_minus_beta2 = numbers[2], numbers[3], numbers[4]
    lr, root, eps = numbers[5], numbers[6], numbers[7]
    for i in range(size):
        gradient = g[i] + weight_decay * p[i]
        mean = m[i] + (gradient - m[i]) * one_minus_beta1
        square = v[i] * beta2 + one_minus_beta2 * gradient * gradient
        m[i] = mean
        v[i] = square
        p[i] = p[i] * decay_factor - lr * mean / (np.sqrt(square) / root + eps)


@jit
def rmsprop_rule(numbers, p, g, v, _, size):
    """Apply v = alpha v + (1-alpha) g^2;  p -= lr g / (sqrt(v) + eps)."""
    p, g, v = pointer(numbers, p), pointer(numbers, g), pointer(numbers, v)
    weight_decay, alpha, one_minus_alpha = numbers[0], numbers[1], numbers[2]
    lr, eps = numbers[3], numbers[4]
    for i in range(size):
        gradient = g[i] + weight_decay * p[i]
        square = v[i] * alpha + one_minus_alpha * gradient * gradient
        v[i] = square
        p[i] -= lr * gradient / (np.sqrt(square) + eps)


@jit
def sgd_rule(numbers, p, g, _m, _v, size):
    """Apply p -= lr g."""
    p, g = pointer(numbers, p), pointer(numbers, g)
    weight_decay, lr = numbers[0], numbers[1]
    for i in range(size):
        p[i] -= lr * (g[i] + weight_decay * p[i])


@jit
def momentum_rule(numbers, p, g, m, _, size):
    """Apply m = momentum m + g;  p -= lr (g_factor g + m_factor m).

    The factors are 0 and 1, or 1 and momentum for Nesterov's rule.
    """
    p, g, m = pointer(numbers, p), pointer(numbers, g), pointer(numbers, m)
    weight_decay, lr, momentum = numbers[0], numbers[1], numbers[2]
    g_factor, m_factor = numbers[3], numbers[4]
    for i in range(size):
        gradient = g[i] + weight_decay * p[i]
        mean = m[i] * momentum + gradient
        m[i] = mean
        p[i] -= lr * (g_factor * gradient + m_factor * mean)


@jit
def update_elements(rule, table, sizes, numbers, begin, end):
    """Apply a rule, by its address, to the elements begin..end, counted through all parameters.

    table[:, k] are the addresses of parameter k, its gradient and its moments, sizes[k] is the
    number of its elements.
    """
    parameter_start = 0
    for k in range(sizes.size):
        first = max(begin - parameter_start, 0)
        last = min(end - parameter_start, sizes[k])
        parameter_start += sizes[k]
        if first < last:
            start = first * numbers.itemsize
            p, g = table[0, k] + start, table[1, k] + start
            m, v = table[2, k] + start, table[3, k] + start
            call_function(rule, numbers, (p, g, m, v, last - first))


# --------------------------------------------------------------------- the numbers of each rule
# Kernels compute them in float64 from the optimizer's state, so that a captured step uses the
# present learning rate.
@jit
def adam_numbers(state, numbers, beta1, beta2, eps, weight_decay, decoupled):
    """Advance the powers of beta1 and beta2 in the state, and write the numbers of `adam_rule`."""
    state[1] *= beta1
    state[2] *= beta2
    lr = state[0]
    numbers[0] = 1 - lr * weight_decay if decoupled else 1.0
    numbers[1] = 0.0 if decoupled else weight_decay
    numbers[2], numbers[3], numbers[4] = 1 - beta1, beta2, 1 - beta2
    numbers[5], numbers[6], numbers[7] = lr / (1 - state[1]), math.sqrt(1 - state[2]), eps


@jit
def rmsprop_numbers(state, numbers, alpha, eps, weight_decay):
    """Write the numbers of `rmsprop_rule`."""
    numbers[0], numbers[1], numbers[2] = weight_decay, alpha, 1 - alpha
    numbers[3], numbers[4] = state[0], eps


@jit
def sgd_numbers(state, numbers, momentum, nesterov, weight_decay):
    """Write the numbers of `sgd_rule` and `momentum_rule`."""
    numbers[0], numbers[1], numbers[2] = weight_decay, state[0], momentum
    numbers[3], numbers[4] = (1.0, momentum) if nesterov else (0.0, 1.0)


# ----------------------------------------------------------------------------------- in Python
def _update(
    rule: Any,
    lists: list[list[np.ndarray]],
    write_numbers: Any,
    state: np.ndarray,
    *hyperparameters: float,
) -> None:
    """Update parameters in place by a rule.

    `lists` are parameters, gradients and up to two kinds of moments, of one length.
    """
    # Arrays may be views. The contiguous copies must live until the launch is over.
    dense = [[contiguous(x) for x in arrays] for arrays in lists]
    keep(*(x for arrays in dense for x in arrays))
    table = np.zeros((4, len(dense[0])), np.int64)
    table[: len(dense)] = [[writable_address(x) for x in arrays] for arrays in dense]
    sizes = np.array([x.size for x in dense[0]], np.int64)
    total = int(sizes.sum())
    numbers = empty((8,), dense[0][0].dtype)
    launch(write_numbers, state, numbers, *hyperparameters)
    count = parts(total, MIN_PARALLEL_ELEMENTS)
    (address,) = function_addresses((rule,), numbers.dtype)
    launch(update_elements, address, table, sizes, numbers, over=total, parts=count)
    for arrays, copies in zip((lists[0], *lists[2:]), (dense[0], *dense[2:]), strict=True):
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
    """Do step t of Adam, or of AdamW if decoupled; state is [lr, beta1^(t-1), beta2^(t-1)]."""
    hyperparameters = *map(float, (beta1, beta2, eps, weight_decay)), decoupled
    lists = [parameters, gradients, means, squares]
    _update(adam_rule, lists, adam_numbers, state, *hyperparameters)


def rmsprop(
    parameters: list[np.ndarray],
    gradients: list[np.ndarray],
    squares: list[np.ndarray],
    state: np.ndarray,
    alpha: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Do a step of RMSprop; state is [lr]."""
    hyperparameters = map(float, (alpha, eps, weight_decay))
    _update(
        rmsprop_rule, [parameters, gradients, squares], rmsprop_numbers, state, *hyperparameters
    )


def sgd(
    parameters: list[np.ndarray],
    gradients: list[np.ndarray],
    means: list[np.ndarray],
    state: np.ndarray,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Do a step of SGD; `means` is empty if there is no momentum; state is [lr]."""
    rule, moments = (momentum_rule, [means]) if means else (sgd_rule, [])
    hyperparameters = float(momentum), nesterov, float(weight_decay)
    _update(rule, [parameters, gradients, *moments], sgd_numbers, state, *hyperparameters)


KERNELS = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd}

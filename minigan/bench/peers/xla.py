"""The training step of `bench.games`, in JAX on the CPU: one function, compiled by XLA."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.backend import clear_backends

State = Mapping[str, np.ndarray]
Layers = Sequence[tuple[str, Mapping[str, Any]]]
Player = tuple[Layers, State]
Made = tuple[Callable[..., tuple[float, float]], Callable[[], list[State]]]

jax.config.update("jax_platforms", "cpu")
_threads: int | None = None  # of the client, where it was made here


# ----------------------------------------------------------------------------------------- threads
def get_threads() -> int:
    """How many threads XLA's client has."""
    return _threads or int(os.environ.get("NPROC", os.cpu_count() or 1))


def set_threads(count: int) -> None:
    """Give XLA a new client of that many threads; what the old one made is lost.

    A client reads NPROC once, when it is made, and nothing else says how many threads it starts.
    """
    global _threads  # noqa: PLW0603
    if count == _threads:
        return
    before = os.environ.get("NPROC")
    os.environ["NPROC"] = str(count)
    clear_backends()
    jax.devices()
    _threads = count
    del os.environ["NPROC"]
    if before is not None:
        os.environ["NPROC"] = before


# -------------------------------------------------------------------------------------------- step
def convolution(x: jax.Array, own: Any, stride: Any, padding: Any, **_: Any) -> jax.Array:
    y = lax.conv_general_dilated(x, own["weight"], stride, [(p, p) for p in padding])
    return _with_bias(y, own)


def transposed(
    x: jax.Array,
    own: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    **_: Any,
) -> jax.Array:
    """The convolution's adjoint, with gradients of its own.

    The gradient of the weights that JAX finds by itself is one that XLA has no fast code for: it
    takes 20 times as long.
    """
    n, weight = len(x), own["weight"]
    numbers = zip(x.shape[2:], kernel_size, stride, padding, output_padding, strict=True)
    size = [(m - 1) * s + k - 2 * p + more for m, k, s, p, more in numbers]
    like = jax.ShapeDtypeStruct((n, weight.shape[1], *size), x.dtype)

    def conv(y: jax.Array, w: jax.Array) -> jax.Array:
        return convolution(y, {"weight": w}, stride, padding)

    @jax.custom_vjp
    def adjoint(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda y: conv(y, w), like)(x)[0]

    def backward(kept: Any, g: jax.Array) -> Any:
        x, w = kept
        y, pull_back = jax.vjp(lambda w: conv(g, w), w)
        return y, *pull_back(x)

    adjoint.defvjp(lambda x, w: (adjoint(x, w), (x, w)), backward)
    return _with_bias(adjoint(x, weight), own)


def _with_bias(y: jax.Array, own: Any) -> jax.Array:
    return y + own["bias"][:, None, None] if "bias" in own else y


def normalized(x: jax.Array, own: Any, eps: float, momentum: float, **_: Any) -> jax.Array:
    """Batch norm; the new running moments take the old ones' places in `own`."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    count = x.size // len(mean)
    for name, found in (("mean", mean), ("var", var * count / (count - 1))):
        own[f"running_{name}"] += momentum * (found - own[f"running_{name}"])
    scale = own["weight"] * lax.rsqrt(var + eps)
    return x * scale[:, None, None] + (own["bias"] - mean * scale)[:, None, None]


def dense(x: jax.Array, own: Any, **_: Any) -> jax.Array:
    return x @ own["weight"] + own.get("bias", 0)


# By minigan's name of a layer: (x, its tensors, what `games.layers` says of it) to what it gives.
KINDS: dict[str, Callable[..., jax.Array]] = {
    "Dense": dense,
    "Conv2d": convolution,
    "ConvTranspose2d": transposed,
    "BatchNorm2d": normalized,
    "LeakyReLU": lambda x, _, slope: jax.nn.leaky_relu(x, slope),
    "ReLU": lambda x, _: jax.nn.relu(x),
    "Tanh": lambda x, _: jnp.tanh(x),
    "Flatten": lambda x, _: x.reshape(len(x), -1),
    "Reshape": lambda x, _, shape: x.reshape(len(x), *shape),
}


def forward(layers: Layers, weights: Any, moments: Any, x: jax.Array) -> tuple[jax.Array, Any]:
    """(what the net makes of x, the new running moments)"""
    new: dict[str, jax.Array] = {}
    for i, (kind, options) in enumerate(layers):
        state = {k: a for k, a in {**weights, **moments}.items() if k.split(".")[0] == str(i)}
        own = {k.split(".")[1]: a for k, a in state.items()}
        x = KINDS[kind](x, own, **options)
        new |= {k: own[k.split(".")[1]] for k in state.keys() & moments.keys()}
    return x, new


def adam(
    player: Any, gradients: Any, count: jax.Array, lr: float, betas: tuple[float, float]
) -> Any:
    """(weights, means, squares) after Adam's update number `count`."""
    # 1 - beta^count, without the digits that a float32 beta^count near 1 has lost.
    rest1, rest2 = (-jnp.expm1(count * math.log(beta)) for beta in betas)
    beta1, beta2 = betas

    def update(w: Any, m: Any, v: Any, g: Any) -> Any:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        return w - lr / rest1 * m / (jnp.sqrt(v / rest2) + 1e-8), m, v

    weights, means, squares = player
    new = {k: update(weights[k], means[k], squares[k], g) for k, g in gradients.items()}
    return tuple({k: x[i] for k, x in new.items()} for i in range(3))


def jitted_step(
    player_g: Player,
    player_d: Player,
    data: np.ndarray,
    apart: bool,
    lr: float,
    betas: tuple[float, float],
) -> Made:
    """`games.minigan_step` in one function, from equal weights; it keeps its state's memory.

    Random numbers are JAX's default ones: its others, rbg and unsafe_rbg, are slower on a CPU.
    """
    (layers_g, state_g), (layers_d, state_d) = player_g, player_d
    n, latent_size = len(data), state_g["0.weight"].shape[0]

    def judge(weights: Any, moments: Any, real: jax.Array, fake: jax.Array) -> Any:
        """(logits of both, moments): in one pass or, where each has its own moments, in two."""
        if not apart:
            logits, moments = forward(layers_d, weights, moments, jnp.concatenate([real, fake]))
            return logits[:n], logits[n:], moments
        of_real, moments = forward(layers_d, weights, moments, real)
        return of_real, *forward(layers_d, weights, moments, fake)

    @partial(jax.jit, donate_argnums=0)
    def play(state: Any, real: jax.Array, latent: jax.Array | None) -> Any:
        g, d, moments_g, moments_d, count, key = state
        count += 1
        key, own = jax.random.split(key)
        z = jax.random.normal(own, (n, latent_size)) if latent is None else latent

        def generate(weights: Any) -> Any:
            return forward(layers_g, weights, moments_g, z)

        fake, pull_back, moments_g = jax.vjp(generate, g[0], has_aux=True)

        def discriminate(weights: Any) -> Any:
            of_real, of_fake, moments = judge(weights, moments_d, real, fake)
            return jax.nn.softplus(-of_real).mean() + jax.nn.softplus(of_fake).mean(), moments

        (loss_d, moments_d), gradients = jax.value_and_grad(discriminate, has_aux=True)(d[0])
        d = adam(d, gradients, count, lr, betas)

        def deceive(x: jax.Array) -> Any:
            logits, moments = forward(layers_d, d[0], moments_d, x)
            return jax.nn.softplus(-logits).mean(), moments

        (loss_g, moments_d), gradient = jax.value_and_grad(deceive, has_aux=True)(fake)
        g = adam(g, pull_back(gradient)[0], count, lr, betas)
        return (g, d, moments_g, moments_d, count, key), loss_d, loss_g

    def player(state: State) -> tuple[Any, Any]:
        """((weights, means, squares), running moments)"""
        weights, moments = (
            {k: jnp.array(x) for k, x in state.items() if ("running" in k) == running}
            for running in (False, True)
        )
        zeros = ({k: jnp.zeros_like(x) for k, x in weights.items()} for _ in range(2))
        return (weights, *zeros), moments

    (g, moments_g), (d, moments_d) = player(state_g), player(state_d)
    state: Any = g, d, moments_g, moments_d, jnp.zeros(()), jax.random.key(0)
    real = jnp.array(data)

    def step(latent: np.ndarray | None = None) -> tuple[float, float]:
        nonlocal state
        state, loss_d, loss_g = play(state, real, latent)
        return float(loss_d), float(loss_g)

    def states() -> list[State]:
        (weights_g, *_), (weights_d, *_), moments_g, moments_d, *_ = state
        both = (weights_g | moments_g, weights_d | moments_d)
        return [{k: np.array(x) for k, x in tensors.items()} for tensors in both]

    return step, states


STEPS: dict[str, Callable[..., Made]] = {"JAX": jitted_step}

"""The training step of `bench.games`, in JAX on the CPU: one function, compiled by XLA."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.backend import clear_backends

State = Mapping[str, np.ndarray]
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
def perceptron(weights: State, slope: float, x: jax.Array) -> jax.Array:
    """Dense layers with LeakyReLU between them, from a minigan state dict."""
    *hidden, last = (k.removesuffix("weight") for k in weights if k.endswith("weight"))
    for layer in hidden:
        x = jax.nn.leaky_relu(x @ weights[f"{layer}weight"] + weights[f"{layer}bias"], slope)
    return x @ weights[f"{last}weight"] + weights[f"{last}bias"]


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
    state_g: State,
    state_d: State,
    data: np.ndarray,
    bounded: bool,
    slope: float,
    lr: float,
    betas: tuple[float, float],
) -> Made:
    """`games.minigan_step` in one function, from equal weights; it keeps its state's memory.

    Random numbers are JAX's default ones: its others, rbg and unsafe_rbg, are slower on a CPU.
    """
    n, latent_size = len(data), state_g["0.weight"].shape[0]

    @partial(jax.jit, donate_argnums=0)
    def play(state: Any, real: jax.Array, latent: jax.Array | None) -> Any:
        g, d, count, key = state
        count += 1
        key, own = jax.random.split(key)
        z = jax.random.normal(own, (n, latent_size)) if latent is None else latent

        def generate(weights: Any) -> jax.Array:
            x = perceptron(weights, slope, z)
            return jnp.tanh(x) if bounded else x

        fake, pull_back = jax.vjp(generate, g[0])

        def discriminate(weights: Any) -> jax.Array:
            logits = perceptron(weights, slope, jnp.concatenate([real, fake]))
            return jax.nn.softplus(-logits[:n]).mean() + jax.nn.softplus(logits[n:]).mean()

        loss_d, gradients = jax.value_and_grad(discriminate)(d[0])
        d = adam(d, gradients, count, lr, betas)

        def deceive(x: jax.Array) -> jax.Array:
            return jax.nn.softplus(-perceptron(d[0], slope, x)).mean()

        loss_g, gradient = jax.value_and_grad(deceive)(fake)
        g = adam(g, pull_back(gradient)[0], count, lr, betas)
        return (g, d, count, key), loss_d, loss_g

    def player(state: State) -> Any:
        weights = {k: jnp.array(x) for k, x in state.items()}
        zeros = ({k: jnp.zeros_like(x) for k, x in weights.items()} for _ in range(2))
        return (weights, *zeros)

    state = player(state_g), player(state_d), jnp.zeros(()), jax.random.key(0)
    real = jnp.array(data)

    def step(latent: np.ndarray | None = None) -> tuple[float, float]:
        nonlocal state
        state, loss_d, loss_g = play(state, real, latent)
        return float(loss_d), float(loss_g)

    return step, lambda: [{k: np.array(x) for k, x in player[0].items()} for player in state[:2]]


STEPS: dict[str, Callable[..., Made]] = {"JAX": jitted_step}

"""The training step of `bench.tasks` in JAX on the CPU: one function, compiled by XLA."""

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
Tensors = dict[str, jax.Array]
AdamState = tuple[Tensors, Tensors, Tensors]  # weights, means, squares
StepAndStates = tuple[Callable[..., tuple[float, float]], Callable[[], list[State]]]

jax.config.update("jax_platforms", "cpu")
_threads: int | None = None  # the number of threads that `set_threads` has set


# ----------------------------------------------------------------------------------------- threads
def get_threads() -> int:
    """Return the number of threads of XLA's client."""
    return _threads or int(os.environ.get("NPROC", os.cpu_count() or 1))


def set_threads(count: int) -> None:
    """Make a new XLA client with that many threads; arrays of the old client are lost.

    A client reads NPROC once, when it is created; there is no other way to set its threads.
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


# ------------------------------------------------------------------------------------------ layers
def conv2d(x: jax.Array, tensors: Tensors, stride: Any, padding: Any, **_: Any) -> jax.Array:
    y = lax.conv_general_dilated(x, tensors["weight"], stride, [(p, p) for p in padding])
    return _add_bias(y, tensors)


def conv_transpose2d(
    x: jax.Array,
    tensors: Tensors,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    **_: Any,
) -> jax.Array:
    """Return the adjoint of a convolution, with hand-written gradients.

    The weight gradient that JAX derives takes 20 times as long, for XLA has no fast code for it.
    """
    n, weight = len(x), tensors["weight"]
    dims = zip(x.shape[2:], kernel_size, stride, padding, output_padding, strict=True)
    size = [(m - 1) * s + k - 2 * p + extra for m, k, s, p, extra in dims]
    like = jax.ShapeDtypeStruct((n, weight.shape[1], *size), x.dtype)

    def conv(y: jax.Array, w: jax.Array) -> jax.Array:
        return conv2d(y, {"weight": w}, stride, padding)

    @jax.custom_vjp
    def adjoint(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda y: conv(y, w), like)(x)[0]

    def backward(residuals: Any, g: jax.Array) -> Any:
        x, w = residuals
        gx, weight_vjp = jax.vjp(lambda w: conv(g, w), w)
        return gx, *weight_vjp(x)

    adjoint.defvjp(lambda x, w: (adjoint(x, w), (x, w)), backward)
    return _add_bias(adjoint(x, weight), tensors)


def _add_bias(y: jax.Array, tensors: Tensors) -> jax.Array:
    return y + tensors["bias"][:, None, None] if "bias" in tensors else y


def batch_norm2d(
    x: jax.Array, tensors: Tensors, eps: float, momentum: float, **_: Any
) -> jax.Array:
    """Normalize by the batch's moments; the new running moments replace the old in `tensors`."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    count = x.size // len(mean)
    for name, moment in (("mean", mean), ("var", var * count / (count - 1))):
        tensors[f"running_{name}"] += momentum * (moment - tensors[f"running_{name}"])
    scale = tensors["weight"] * lax.rsqrt(var + eps)
    return x * scale[:, None, None] + (tensors["bias"] - mean * scale)[:, None, None]


def dense(x: jax.Array, tensors: Tensors, **_: Any) -> jax.Array:
    return x @ tensors["weight"] + tensors.get("bias", 0)


# The function of each of minigan's layer classes: (x, its tensors, **options of
# `tasks.describe_layers`) -> output.
LAYERS: dict[str, Callable[..., jax.Array]] = {
    "Dense": dense,
    "Conv2d": conv2d,
    "ConvTranspose2d": conv_transpose2d,
    "BatchNorm2d": batch_norm2d,
    "LeakyReLU": lambda x, _, slope: jax.nn.leaky_relu(x, slope),
    "ReLU": lambda x, _: jax.nn.relu(x),
    "Tanh": lambda x, _: jnp.tanh(x),
    "Flatten": lambda x, _: x.reshape(len(x), -1),
    "Reshape": lambda x, _, shape: x.reshape(len(x), *shape),
}


# -------------------------------------------------------------------------------------------- step
def forward(
    layers: Layers, weights: Tensors, moments: Tensors, x: jax.Array
) -> tuple[jax.Array, Tensors]:
    """Return (the output of the network, the new running moments)."""
    new_moments: Tensors = {}
    for i, (name, options) in enumerate(layers):
        state = {k: a for k, a in {**weights, **moments}.items() if k.split(".")[0] == str(i)}
        tensors = {k.split(".")[1]: a for k, a in state.items()}
        x = LAYERS[name](x, tensors, **options)
        new_moments |= {k: tensors[k.split(".")[1]] for k in state.keys() & moments.keys()}
    return x, new_moments


def adam(
    state: AdamState,
    gradients: Tensors,
    count: jax.Array,
    lr: float,
    betas: tuple[float, float],
) -> AdamState:
    """Return (weights, means, squares) after Adam's update number `count`."""
    # 1 - beta^count, without the digits that a float32 beta^count near 1 has lost.
    correction1, correction2 = (-jnp.expm1(count * math.log(beta)) for beta in betas)
    beta1, beta2 = betas

    def update(w: Any, m: Any, v: Any, g: Any) -> Any:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        return w - lr / correction1 * m / (jnp.sqrt(v / correction2) + 1e-8), m, v

    weights, means, squares = state
    new = {k: update(weights[k], means[k], squares[k], g) for k, g in gradients.items()}
    weights, means, squares = ({k: x[i] for k, x in new.items()} for i in range(3))
    return weights, means, squares


def discriminator_loss(
    layers: Layers,
    weights: Tensors,
    moments: Tensors,
    real: Any,
    fake: Any,
    separate: bool,
    wasserstein: bool,
) -> tuple[jax.Array, Tensors]:
    """Return (loss of D, its new running moments); batch norm needs two passes (`separate`)."""
    if separate:
        real_logits, moments = forward(layers, weights, moments, real)
        fake_logits, moments = forward(layers, weights, moments, fake)
    else:
        logits, moments = forward(layers, weights, moments, jnp.concatenate([real, fake]))
        real_logits, fake_logits = logits[: len(real)], logits[len(real) :]
    if wasserstein:
        return fake_logits.mean() - real_logits.mean(), moments
    return jax.nn.softplus(-real_logits).mean() + jax.nn.softplus(fake_logits).mean(), moments


def gradient_penalty(layers: Layers, weights: Tensors, moments: Tensors, x: Any) -> jax.Array:
    """Return the mean of (|grad D(x)| - 1)^2, by the layers and weights of D."""
    gradients = jax.grad(lambda x: forward(layers, weights, moments, x)[0].sum())(x)
    norms = jnp.sqrt((gradients.reshape(len(x), -1) ** 2).sum(1))
    return ((norms - 1) ** 2).mean()


def generator_loss(
    layers: Layers, weights: Tensors, moments: Tensors, fake: Any, wasserstein: bool
) -> tuple[jax.Array, Tensors]:
    """Return (loss of G, D's new running moments), by the layers and weights of D."""
    logits, moments = forward(layers, weights, moments, fake)
    return -logits.mean() if wasserstein else jax.nn.softplus(-logits).mean(), moments


def initial_state(state: State) -> tuple[AdamState, Tensors]:
    """Return ((weights, means, squares), running moments) of a minigan state dict."""
    weights, moments = (
        {k: jnp.array(x) for k, x in state.items() if ("running" in k) == is_running}
        for is_running in (False, True)
    )
    means, squares = ({k: jnp.zeros_like(x) for k, x in weights.items()} for _ in range(2))
    return (weights, means, squares), moments


def build_train_step(
    layers_g: Layers,
    layers_d: Layers,
    latent_shape: tuple[int, int],
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float,
) -> Any:
    """Return train_step(state, real, latent) -> (state, loss of D, loss of G), compiled by XLA.

    `state` is (Adam state of G, of D, running moments of G, of D, step count, key); its memory is
    reused. Random numbers are JAX's default ones: rbg and unsafe_rbg are slower on a CPU.
    """

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: Any, real: jax.Array, latent: jax.Array | None) -> Any:
        g, d, moments_g, moments_d, count, key = state
        count += 1
        key, latent_key, alpha_key = jax.random.split(key, 3)
        z = jax.random.normal(latent_key, latent_shape) if latent is None else latent

        fake, generator_vjp, moments_g = jax.vjp(
            lambda weights: forward(layers_g, weights, moments_g, z), g[0], has_aux=True
        )

        def loss_of_weights(weights: Tensors) -> tuple[jax.Array, Tensors]:
            batches = real, fake, separate, penalty > 0
            loss, moments = discriminator_loss(layers_d, weights, moments_d, *batches)
            if penalty:
                shape = len(real), *(1,) * (real.ndim - 1)
                alpha = jax.random.uniform(alpha_key, shape) if latent is None else 0.5
                x = real + alpha * (fake - real)
                loss += penalty * gradient_penalty(layers_d, weights, moments, x)
            return loss, moments

        (loss_d, moments_d), gradients = jax.value_and_grad(loss_of_weights, has_aux=True)(d[0])
        d = adam(d, gradients, count, lr, betas)

        (loss_g, moments_d), gradient = jax.value_and_grad(
            lambda x: generator_loss(layers_d, d[0], moments_d, x, penalty > 0), has_aux=True
        )(fake)
        g = adam(g, generator_vjp(gradient)[0], count, lr, betas)
        return (g, d, moments_g, moments_d, count, key), loss_d, loss_g

    return train_step


def jitted_step(
    player_g: Player,
    player_d: Player,
    data: np.ndarray,
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float = 0.0,
) -> StepAndStates:
    """Return the step of `tasks.minigan_step` as one compiled function, from equal weights."""
    (layers_g, state_g), (layers_d, state_d) = player_g, player_d
    latent_shape = len(data), state_g["0.weight"].shape[0]
    train_step = build_train_step(layers_g, layers_d, latent_shape, separate, lr, betas, penalty)
    (g, moments_g), (d, moments_d) = initial_state(state_g), initial_state(state_d)
    state: Any = g, d, moments_g, moments_d, jnp.zeros(()), jax.random.key(0)
    real = jnp.array(data)

    def step(latent: np.ndarray | None = None) -> tuple[float, float]:
        nonlocal state
        state, loss_d, loss_g = train_step(state, real, latent)
        return float(loss_d), float(loss_g)

    def states() -> list[State]:
        (weights_g, *_), (weights_d, *_), moments_g, moments_d, *_ = state
        networks = (weights_g | moments_g, weights_d | moments_d)
        return [{k: np.array(x) for k, x in tensors.items()} for tensors in networks]

    return step, states


STEPS: dict[str, Callable[..., StepAndStates]] = {"JAX": jitted_step}

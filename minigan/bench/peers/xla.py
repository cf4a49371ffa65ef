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
Description = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # as `tasks.describe` makes it
Player = tuple[Description, State]
Tensors = dict[str, jax.Array]
AdamState = tuple[Tensors, Tensors, Tensors]  # weights, means, squares
StepAndStates = tuple[Callable[..., tuple[Any, Any]], Callable[[], list[State]]]

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


# ----------------------------------------------------------------------------------------- modules
class Module:
    """A described module, as a function of its inputs.

    `tensors` maps the names of all weights and buffers of the network to arrays; names of this
    module's begin with `prefix`. A call replaces its buffers in `tensors` by new ones.
    """

    def __init__(self, description: Description, tensors: Tensors, prefix: str = "") -> None:
        self.kind, self.options, children = description
        self.tensors, self.prefix = tensors, prefix
        self.children = {k: Module(x, tensors, f"{prefix}{k}.") for k, x in children.items()}

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        return MODULES[self.kind](self, *inputs, **self.options)

    def __getitem__(self, name: str) -> jax.Array:
        return self.tensors[self.prefix + name]

    def __setitem__(self, name: str, x: jax.Array) -> None:
        self.tensors[self.prefix + name] = x


def _conv2d(module: Module, x: jax.Array, *, stride: Any, padding: Any, **_: Any) -> jax.Array:
    return _add_bias(module, convolve(x, module["weight"], stride, padding))


def convolve(x: jax.Array, weight: jax.Array, stride: Any, padding: Any) -> jax.Array:
    return lax.conv_general_dilated(x, weight, stride, [(p, p) for p in padding])


def _conv_transpose2d(
    module: Module,
    x: jax.Array,
    *,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    **_: Any,
) -> jax.Array:
    """Return the adjoint of a convolution, with hand-written gradients.

    The weight gradient that JAX derives takes 20 times as long, for XLA has no fast code for it.
    """
    n, weight = len(x), module["weight"]
    dims = zip(x.shape[2:], kernel_size, stride, padding, output_padding, strict=True)
    size = [(m - 1) * s + k - 2 * p + extra for m, k, s, p, extra in dims]
    like = jax.ShapeDtypeStruct((n, weight.shape[1], *size), x.dtype)

    @jax.custom_vjp
    def adjoint(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda y: convolve(y, w, stride, padding), like)(x)[0]

    def backward(residuals: Any, g: jax.Array) -> Any:
        x, w = residuals
        gx, weight_vjp = jax.vjp(lambda w: convolve(g, w, stride, padding), w)
        return gx, *weight_vjp(x)

    adjoint.defvjp(lambda x, w: (adjoint(x, w), (x, w)), backward)
    return _add_bias(module, adjoint(x, weight))


def _add_bias(module: Module, y: jax.Array) -> jax.Array:
    return y + module["bias"][:, None, None] if module.options["bias"] else y


def _batch_norm2d(
    module: Module, x: jax.Array, *, eps: float, momentum: float, **_: Any
) -> jax.Array:
    """Normalize by the batch's moments; the new running moments replace the old."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    count = x.size // len(mean)
    for name, moment in (("mean", mean), ("var", var * count / (count - 1))):
        running = module[f"running_{name}"]
        module[f"running_{name}"] = running + momentum * (moment - running)
    scale = module["weight"] * lax.rsqrt(var + eps)
    return x * scale[:, None, None] + (module["bias"] - mean * scale)[:, None, None]


def _dense(module: Module, x: jax.Array, *, bias: bool, **_: Any) -> jax.Array:
    y = x @ module["weight"]
    return y + module["bias"] if bias else y


def _spectral_norm(module: Module, x: jax.Array, *, steps: int, eps: float) -> jax.Array:
    """Apply a layer with weight / sigma; the new u and v replace the old."""
    weight = module["module.weight"]
    # A convolution's weight is (out, ...), a matrix is (in, out).
    matrix = weight.reshape(len(weight), -1) if weight.ndim == 4 else weight.T
    w, u, v = lax.stop_gradient(matrix), module["u"], module["v"]
    for _ in range(steps):
        v = _unit(u @ w, eps)
        u = _unit(w @ v, eps)
    module["u"], module["v"] = u, v = lax.stop_gradient(u), lax.stop_gradient(v)
    module["module.weight"] = weight / (u @ matrix @ v)
    y = module.children["module"](x)
    module["module.weight"] = weight
    return y


def _unit(x: jax.Array, eps: float) -> jax.Array:
    return x / jnp.maximum(jnp.sqrt((x * x).sum()), eps)


def _avg_pool2d(_: Module, x: jax.Array, *, kernel_size: int, padding: int) -> jax.Array:
    """Return the means of blocks that do not overlap; the padding is 0."""
    n, c, h, w = x.shape
    k = kernel_size
    return x.reshape(n, c, h // k, k, w // k, k).mean((3, 5))


def _upsample(_: Module, x: jax.Array, *, scale: int) -> jax.Array:
    return jnp.repeat(jnp.repeat(x, scale, 2), scale, 3)


def _upsample_conv2d(module: Module, x: jax.Array, **options: Any) -> jax.Array:
    return _conv2d(module, _upsample(module, x, scale=2), **options)


def _conv_avg_pool2d(module: Module, x: jax.Array, **options: Any) -> jax.Array:
    return _avg_pool2d(module, _conv2d(module, x, **options), kernel_size=2, padding=0)


def _sequential(module: Module, x: jax.Array) -> jax.Array:
    for child in module.children.values():
        x = child(x)
    return x


def _residual(module: Module, x: jax.Array) -> jax.Array:
    return module.children["main"](x) + module.children["shortcut"](x)


def _conditional_generator(module: Module, z: jax.Array, labels: jax.Array) -> jax.Array:
    embedding = module.children["embedding"](labels)
    return module.children["net"](jnp.concatenate([z, embedding], 1))


def _concat_discriminator(module: Module, x: jax.Array, labels: jax.Array) -> jax.Array:
    plane = module.children["plane"](module.children["embedding"](labels))
    return module.children["net"](jnp.concatenate([x, plane], 1))


def _projection_discriminator(module: Module, x: jax.Array, labels: jax.Array) -> jax.Array:
    *layers, head = module.children["net"].children.values()
    for layer in layers:
        x = layer(x)
    return head(x) + (module.children["embedding"](labels) * x).sum(1, keepdims=True)


# The function of each of minigan's classes: (module, *inputs, **options of `tasks.describe`).
MODULES: dict[str, Callable[..., jax.Array]] = {
    "AvgPool2d": _avg_pool2d,
    "BatchNorm2d": _batch_norm2d,
    "ConcatDiscriminator": _concat_discriminator,
    "ConditionalGenerator": _conditional_generator,
    "Conv2d": _conv2d,
    "ConvAvgPool2d": _conv_avg_pool2d,
    "ConvTranspose2d": _conv_transpose2d,
    "Dense": _dense,
    "DownBlock": _residual,
    "Embedding": lambda module, labels, **_: module["weight"][labels],
    "Flatten": lambda _, x: x.reshape(len(x), -1),
    "Identity": lambda _, x: x,
    "LeakyReLU": lambda _, x, slope: jax.nn.leaky_relu(x, slope),
    "ProjectionDiscriminator": _projection_discriminator,
    "ReLU": lambda _, x: jax.nn.relu(x),
    "Reshape": lambda _, x, shape: x.reshape(len(x), *shape),
    "Sequential": _sequential,
    "SpectralNorm": _spectral_norm,
    "SumPixels": lambda _, x: x.sum((2, 3)),
    "Tanh": lambda _, x: jnp.tanh(x),
    "UpBlock": _residual,
    "Upsample": _upsample,
    "UpsampleConv2d": _upsample_conv2d,
}
BUFFERS = ("running_mean", "running_var", "u", "v")


# -------------------------------------------------------------------------------------------- step
def forward(
    description: Description, weights: Tensors, buffers: Tensors, *inputs: Any
) -> tuple[jax.Array, Tensors]:
    """Return (the output of the network, its new buffers)."""
    tensors = weights | buffers
    y = Module(description, tensors)(*inputs)
    return y, {k: tensors[k] for k in buffers}


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
    description: Description,
    weights: Tensors,
    buffers: Tensors,
    real: Any,
    fake: Any,
    labels: Sequence[Any],
    separate: bool,
    wasserstein: bool,
) -> tuple[jax.Array, Tensors]:
    """Return (loss of D, its new buffers); batch norm needs two passes (`separate`)."""
    if separate:
        real_logits, buffers = forward(description, weights, buffers, real, *labels)
        fake_logits, buffers = forward(description, weights, buffers, fake, *labels)
    else:
        both = [jnp.concatenate(pair) for pair in ((real, fake), *((x, x) for x in labels))]
        logits, buffers = forward(description, weights, buffers, *both)
        real_logits, fake_logits = logits[: len(real)], logits[len(real) :]
    if wasserstein:
        return fake_logits.mean() - real_logits.mean(), buffers
    return jax.nn.softplus(-real_logits).mean() + jax.nn.softplus(fake_logits).mean(), buffers


def gradient_penalty(description: Description, weights: Tensors, buffers: Tensors, x: Any) -> Any:
    """Return the mean of (|grad D(x)| - 1)^2, by the description and weights of D."""
    gradients = jax.grad(lambda x: forward(description, weights, buffers, x)[0].sum())(x)
    norms = jnp.sqrt((gradients.reshape(len(x), -1) ** 2).sum(1))
    return ((norms - 1) ** 2).mean()


def generator_loss(
    description: Description,
    weights: Tensors,
    buffers: Tensors,
    fake: Any,
    labels: Sequence[Any],
    wasserstein: bool,
) -> tuple[jax.Array, Tensors]:
    """Return (loss of G, D's new buffers), by the description and weights of D."""
    logits, buffers = forward(description, weights, buffers, fake, *labels)
    return -logits.mean() if wasserstein else jax.nn.softplus(-logits).mean(), buffers


def initial_state(state: State) -> tuple[AdamState, Tensors]:
    """Return ((weights, means, squares), buffers) of a minigan state dict."""
    weights, buffers = (
        {k: jnp.array(x) for k, x in state.items() if (k.split(".")[-1] in BUFFERS) == is_buffer}
        for is_buffer in (False, True)
    )
    means, squares = ({k: jnp.zeros_like(x) for k, x in weights.items()} for _ in range(2))
    return (weights, means, squares), buffers


def build_train_step(
    generator: Description,
    discriminator: Description,
    latent_shape: tuple[int, int],
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float,
) -> Any:
    """Return train_step(state, real, labels, latent) -> (state, loss of D, of G), compiled by XLA.

    `state` is (Adam state of G, of D, buffers of G, of D, step count, key); its memory is reused.
    Random numbers are JAX's default ones: rbg and unsafe_rbg are slower on a CPU.
    """

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: Any, real: jax.Array, labels: Any, latent: jax.Array | None) -> Any:
        g, d, buffers_g, buffers_d, count, key = state
        count += 1
        key, latent_key, alpha_key = jax.random.split(key, 3)
        z = jax.random.normal(latent_key, latent_shape) if latent is None else latent

        fake, generator_vjp, buffers_g = jax.vjp(
            lambda weights: forward(generator, weights, buffers_g, z, *labels), g[0], has_aux=True
        )

        def loss_of_weights(weights: Tensors) -> tuple[jax.Array, Tensors]:
            batches = real, fake, labels, separate, penalty > 0
            loss, buffers = discriminator_loss(discriminator, weights, buffers_d, *batches)
            if penalty:
                shape = len(real), *(1,) * (real.ndim - 1)
                alpha = jax.random.uniform(alpha_key, shape) if latent is None else 0.5
                x = real + alpha * (fake - real)
                loss += penalty * gradient_penalty(discriminator, weights, buffers, x)
            return loss, buffers

        (loss_d, buffers_d), gradients = jax.value_and_grad(loss_of_weights, has_aux=True)(d[0])
        d = adam(d, gradients, count, lr, betas)

        (loss_g, buffers_d), gradient = jax.value_and_grad(
            lambda x: generator_loss(discriminator, d[0], buffers_d, x, labels, penalty > 0),
            has_aux=True,
        )(fake)
        g = adam(g, generator_vjp(gradient)[0], count, lr, betas)
        return (g, d, buffers_g, buffers_d, count, key), loss_d, loss_g

    return train_step


def jitted_step(
    player_g: Player,
    player_d: Player,
    *,
    latent_size: int,
    data: np.ndarray,
    labels: Sequence[np.ndarray],
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float,
    read: Callable[[jax.Array], Any] = float,
) -> StepAndStates:
    """Return the step of `tasks.minigan_step` as one compiled function, from equal weights.

    `read` converts each loss for the caller.
    """
    (net_g, state_g), (net_d, state_d) = player_g, player_d
    latent_shape = len(data), latent_size
    train_step = build_train_step(net_g, net_d, latent_shape, separate, lr, betas, penalty)
    (g, buffers_g), (d, buffers_d) = initial_state(state_g), initial_state(state_d)
    state: Any = g, d, buffers_g, buffers_d, jnp.zeros(()), jax.random.key(0)
    real, classes = jnp.array(data), [jnp.array(x) for x in labels]

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        nonlocal state
        state, loss_d, loss_g = train_step(state, real, classes, latent)
        return read(loss_d), read(loss_g)

    def states() -> list[State]:
        (weights_g, *_), (weights_d, *_), buffers_g, buffers_d, *_ = state
        networks = (weights_g | buffers_g, weights_d | buffers_d)
        return [{k: np.array(x) for k, x in tensors.items()} for tensors in networks]

    return step, states


STEPS: dict[str, Callable[..., StepAndStates]] = {"JAX": jitted_step}

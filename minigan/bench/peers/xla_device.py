"""JAX on a GPU: the training step as one function, compiled by XLA.

For tests it also runs on the device "cpu". The package `jax` alone has no GPU, and would compute on
the CPU without a word.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

# JAX would take three quarters of the GPU's memory at its start, which others need beside it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax

from .xla import jitted_step

Call = Callable[..., tuple[jax.Array, jax.Array]]
# By device: the platforms that JAX may use, the first if it can, and the name of the first.
PLATFORMS = {"cuda": ("cuda,cpu", "gpu"), "cpu": ("cpu", "cpu")}
_last: list[jax.Array] = []  # the losses of the last call


def wait(device: str) -> Callable[[], object]:
    """Return a function that waits until the last call's work is done."""
    return lambda: jax.block_until_ready(_last)


def _use(device: str) -> None:
    """Let JAX compute on the device, without TF32.

    Raises:
        RuntimeError: it has no such device.
    """
    platforms, name = PLATFORMS[device]
    jax.config.update("jax_platforms", platforms)
    jax.config.update("jax_default_matmul_precision", "highest")
    found = jax.devices()[0].platform
    if found != name:
        raise RuntimeError(
            f"JAX sees no {name}, only {found}; pip install 'jax[cuda13]' (or cuda12) has GPUs"
        )


def step_calls(arguments: Mapping[str, Any], device: str) -> dict[str, Callable[[], Call]]:
    """Return by name the maker of the step from equal weights.

    The losses stay on the device. `arguments` are those of `jitted_step`.
    """

    def make() -> Call:
        _use(device)
        step, _ = jitted_step(**arguments, read=lambda loss: loss)

        def call(*latent: Any) -> tuple[jax.Array, jax.Array]:
            losses = step(*latent)
            _last[:] = losses
            return losses

        return call

    return {"JAX": make}

"""JAX on a GPU: the training step as one function, compiled by XLA.

For tests it also runs on the device "cpu". The package `jax` alone has no GPU: `pip install
'jax[cuda13]'` (or cuda12) does; without it the step raises, and the benchmark names the error.
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
PLATFORMS = {"cuda": "cuda,cpu", "cpu": "cpu"}  # by device; JAX computes on the first
_last: list[jax.Array] = []  # the losses of the last call


def wait(device: str) -> Callable[[], object]:
    """Return a function that waits until the last call's work is done."""
    return lambda: jax.block_until_ready(_last)


def step_calls(arguments: Mapping[str, Any], device: str) -> dict[str, Callable[[], Call]]:
    """Return by name the maker of the step from equal weights, without TF32.

    The losses stay on the device. `arguments` are those of `jitted_step`.
    """

    def make() -> Call:
        jax.config.update("jax_platforms", PLATFORMS[device])
        jax.config.update("jax_default_matmul_precision", "highest")
        step, _ = jitted_step(**arguments, read=lambda loss: loss)

        def call(*latent: Any) -> tuple[jax.Array, jax.Array]:
            losses = step(*latent)
            _last[:] = losses
            return losses

        return call

    return {"JAX": make}

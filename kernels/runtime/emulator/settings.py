"""The settings of how the emulator runs blocks: arguments, or variables of the environment."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from typing import Any

import numpy as np

BLOCK_ORDER, HANG_SECONDS = "MINIGAN_EMULATOR_BLOCK_ORDER", "MINIGAN_EMULATOR_HANG_SECONDS"
DEFAULT_HANG_SECONDS = 10.0


def read_block_order(seed: int | None) -> int | None:
    """Return the seed of the order of blocks, by default the environment's; None for in order.

    Raises:
        ValueError: it is no integer >= 0.
    """
    accepted = "an integer >= 0, a seed"
    if seed is not None:
        return int(_convert("block_order", seed, operator.index, lambda x: x >= 0, accepted))
    text = os.environ.get(BLOCK_ORDER)
    if text is None:
        return None
    return int(_convert(BLOCK_ORDER, text, int, lambda x: x >= 0, accepted))


def read_hang_seconds(seconds: float | None) -> float:
    """Return after how many seconds a thread hangs, by default the environment's, or 10.

    Raises:
        ValueError: it is no number > 0.
    """
    accepted = "a number > 0, or inf for no limit"
    if seconds is not None:
        return float(_convert("hang_seconds", seconds, float, lambda x: x > 0, accepted))
    text = os.environ.get(HANG_SECONDS, DEFAULT_HANG_SECONDS)
    return float(_convert(HANG_SECONDS, text, float, lambda x: x > 0, accepted))


def _convert(
    name: str,
    value: Any,
    convert: Callable[[Any], Any],
    is_accepted: Callable[[Any], bool],
    accepted: str,
) -> Any:
    try:
        number = convert(value)
    except (TypeError, ValueError):
        number = None
    if number is None or not is_accepted(number):
        raise ValueError(f"{name} is {value!r}; accepted: {accepted}")
    return number


def shuffled_blocks(seed: int, blocks: int) -> np.ndarray:
    """Return the numbers of a grid's blocks in the order that the seed determines."""
    return np.random.default_rng(seed).permutation(blocks)

"""Show progress bars on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def training_bar(name: str, steps: int, done: int, show: bool) -> tqdm:
    """One live line on stderr, whole in 80 columns; into a file, every ten seconds."""
    from tqdm import tqdm

    return tqdm(
        total=steps,
        initial=done,
        desc=name,
        disable=not show,
        **bar_look(),
    )


def bar_look() -> dict[str, Any]:
    """How every live line of training looks, in tqdm's words."""
    return {
        "bar_format": "{desc} {n_fmt}/{total_fmt} {bar} {remaining} left{postfix}",
        "dynamic_ncols": True,
        "mininterval": 0.2 if sys.stderr.isatty() else 10,
    }

"""Show progress bars on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def training_bar(name: str, steps: int, done: int, show: bool) -> tqdm:
    """Return a tqdm bar for a training of `steps` steps, of which `done` are done.

    On a terminal it is one live line that fits into 80 columns; in a file, a line every ten
    seconds.
    """
    from tqdm import tqdm

    return tqdm(total=steps, initial=done, desc=name, disable=not show, **bar_look())


def bar_look() -> dict[str, Any]:
    """Return the arguments of tqdm that all our progress bars share."""
    return {
        "bar_format": "{desc} {n_fmt}/{total_fmt} {bar} {remaining} left{postfix}",
        "dynamic_ncols": True,
        "mininterval": 0.2 if sys.stderr.isatty() else 10,
    }

"""Show progress on stderr: progress bars, and the names of kernels that are compiled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..engine.device import get_device
from .streams import message_stream

if TYPE_CHECKING:
    from tqdm import tqdm

NOTICE_SECONDS = 3.0  # the least time between two lines on compilation


def training_bar(name: str, steps: int, done: int, show: bool) -> tqdm:
    """Return a tqdm bar for a training of `steps` steps, of which `done` are done.

    On a terminal it is one live line that fits into 80 columns; in a file, a line every ten
    seconds.
    """
    from tqdm import tqdm

    return tqdm(total=steps, initial=done, desc=name, disable=not show, **bar_options())


def bar_options() -> dict[str, Any]:
    """Return the arguments of tqdm that all progress bars share."""
    stream = message_stream()
    return {
        "file": stream,
        "bar_format": "{desc} {n_fmt}/{total_fmt} {bar} {remaining} left{postfix}",
        "dynamic_ncols": True,
        "mininterval": 0.2 if stream.isatty() else 10,
    }


def announce_kernels(device: str) -> None:
    """Print the names of kernels that a device compiles, at most every NOTICE_SECONDS, on stderr.

    The first use of kernels on a machine takes up to minutes.
    """
    last_time: float | None = None

    def listener(name: str) -> None:
        from tqdm import tqdm

        nonlocal last_time
        now = time.monotonic()
        if last_time is None or now - last_time >= NOTICE_SECONDS:
            once = " kernels for this machine, once:" if last_time is None else ""
            # Above a progress bar, if there is one.
            tqdm.write(f"compiling{once} {name}", file=message_stream())
            last_time = now

    get_device(device).on_compile(listener)

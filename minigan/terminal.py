"""What is told while work goes on, and how the streams that it is told on are kept usable."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .device import get_device

if TYPE_CHECKING:
    from tqdm import tqdm

EVERY = 3.0  # seconds between two lines on compilation


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


def announce_kernels(device: str) -> None:
    """Say what is being compiled, in whole lines: the first use on a machine takes a while."""
    started = time.monotonic()
    told = -EVERY

    def listener(name: str) -> None:
        from tqdm import tqdm

        nonlocal told
        now = time.monotonic() - started
        if now - told >= EVERY:
            what = "compiling kernels for this machine, once:" if told < 0 else "compiling"
            tqdm.write(f"{what} {name}", file=sys.stderr)  # above the live line, if there is one
            told = now

    get_device(device).on_compile(listener)


@contextmanager
def usable_streams() -> Iterator[None]:
    """Paths of any bytes can be printed; closed streams (`>&-`) swallow what they are given.

    What stdout still holds at the end and cannot be written (nobody reads, or the disk is full) is
    let go: Python would try again as it exits, and complain.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""What is told while work goes on, and how the streams that it is told on are kept usable."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..engine.device import get_device

EVERY = 3.0  # seconds between two lines on compilation


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

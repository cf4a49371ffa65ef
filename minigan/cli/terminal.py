"""Print what a command is busy with, and keep its streams usable."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..engine.device import get_device

NOTICE_SECONDS = 3.0  # between two lines on compilation


def shows_progress() -> bool:
    """Return whether to show progress bars: on a terminal, and in a file unless CI is set."""
    return sys.stderr.isatty() or not os.environ.get("CI")


def announce_kernels(device: str) -> None:
    """Print a line on stderr now and then while a device compiles kernels.

    The first use of kernels on a machine takes a while.
    """
    last_time: float | None = None

    def listener(name: str) -> None:
        from tqdm import tqdm

        nonlocal last_time
        now = time.monotonic()
        if last_time is None or now - last_time >= NOTICE_SECONDS:
            once = " kernels for this machine, once:" if last_time is None else ""
            tqdm.write(f"compiling{once} {name}", file=sys.stderr)  # above a progress bar
            last_time = now

    get_device(device).on_compile(listener)


@contextmanager
def usable_streams() -> Iterator[None]:
    """Let a command print paths of any bytes, and to streams that are closed (`>&-`).

    What stdout still buffers at the end and cannot be written (nobody reads, or the disk is full)
    is dropped: Python would try again at exit, and print an error.
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

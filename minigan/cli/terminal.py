"""Decide whether to show progress bars, and keep the standard streams usable."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..data.dataset import DataWarning


def shows_progress() -> bool:
    """Return whether to show progress bars: on a terminal, and in a file unless CI is set."""
    return sys.stderr.isatty() or not os.environ.get("CI")


@contextmanager
def usable_streams() -> Iterator[None]:
    """Let a command print paths of any bytes, and to streams that are closed (`>&-`).

    Output that is still buffered at the end and cannot be written (the reader is gone, or the disk
    is full) is dropped: Python would try again at exit, and print an error.
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


@contextmanager
def plain_notes(command: str) -> Iterator[None]:
    """Print each note on the data as one line on stderr, without the line of code behind it."""

    show_other = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, DataWarning):
            print(f"minigan {command}: note: {message}", file=sys.stderr)
        else:
            show_other(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", DataWarning)
        yield

"""End the command `minigan` without a traceback when Ctrl-C arrives while it is imported."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

COMMAND = ("minigan", "minigan.exe", "minigan-script.py")


def end_quietly() -> None:
    """End the process at SIGINT until `allow_interrupts` is called.

    The import takes up to a second on a slow disk. A process in which SIGINT is ignored, as in the
    background, is left as it is.
    """
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _end)


def allow_interrupts() -> None:
    """Let SIGINT raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_command() -> bool:
    """Return whether this process was started as `minigan` or `python -m minigan`."""
    if not sys.argv:  # an embedded interpreter
        return False
    if sys.argv[0] == "-m":  # Python looks for the module to run, and imports its package first.
        words = sys.orig_argv
        return any(words[i : i + 2] == ["-m", "minigan"] for i in range(len(words)))
    return os.path.basename(sys.argv[0]) in COMMAND


def _end(number: int, frame: Any) -> None:
    os.write(2, b"\nminigan: interrupted\n")
    os._exit(130)

"""Run a process with a time limit, in a group of its own, whose output goes to a file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 5.0  # between SIGINT, after which pytest still prints failures, and SIGKILL
POLL_SECONDS = 0.5
DIE_WITH_PARENT = 1  # Linux's PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit status, negative for a signal, or at its time limit."""

    status: int
    seconds: float
    was_cut_off: bool


def run_limited(
    command: Sequence[str],
    log: Path,
    seconds: float,
    folder: Path,
    environment: dict[str, str],
    tick: Callable[[float], object],
) -> Outcome:
    """Run a command in `folder`, and end it and its children after `seconds`.

    At a KeyboardInterrupt they are ended too, and it is raised again. If this process is killed,
    Linux kills the command; its children see that their parent has gone.

    Args:
        command: the program and its arguments.
        log: the file for its output and its errors.
        tick: called with the seconds since the start, every POLL_SECONDS.
    """
    start = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=_start if sys.platform == "linux" else None,  # noqa: PLW1509 (one thread)
        )
    was_cut_off = False
    try:
        while process.poll() is None and not was_cut_off:
            elapsed = time.monotonic() - start
            was_cut_off = elapsed >= seconds
            tick(elapsed)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, min(POLL_SECONDS, seconds - elapsed)))
    finally:
        _end(process)
    status = -signal.SIGKILL if process.returncode is None else process.returncode
    return Outcome(status, time.monotonic() - start, was_cut_off)


def _start() -> None:
    """Prepare the new process: SIGINT interrupts it, even where this one ignores it."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process by SIGINT, then by SIGKILL, and kill what is left of its group."""
    try:
        if process.poll() is None:
            _signal_group(process, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
    finally:
        _signal_group(process, signal.SIGKILL)
        # A process that waits for a driver may not even end now; the other parts go on.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # All have ended.
        os.killpg(process.pid, number)

"""The option `--threads` of commands that compute."""

from __future__ import annotations

import argparse
import os
import sys

from .parser import Parser


def add_threads_option(parser: Parser) -> None:
    """Add the option."""
    parser.add_argument(
        "--threads",
        type=int,
        metavar="INT",
        help="threads of the device cpu; same bits for any number [NUMBA_NUM_THREADS, or cores]",
    )


def use_threads(options: argparse.Namespace) -> None:
    """Let the kernels of this process use as many threads as a command line says.

    Raises:
        ValueError: the number is not accepted.
    """
    count = getattr(options, "threads", None)
    if count is None or options.command == "bench":  # It passes the number to all contenders.
        return
    if not 1 <= count <= 1024:
        raise ValueError(f"--threads {count} is not a number of threads from 1 to 1024")
    if "numba" not in sys.modules:
        os.environ["NUMBA_NUM_THREADS"] = str(count)  # the most that numba then allows
    from ..kernels.runtime.cpu.thread_pool import max_threads, set_threads

    if count > max_threads():
        raise ValueError(f"--threads {count}: at most {max_threads()} are used here")
    set_threads(count)

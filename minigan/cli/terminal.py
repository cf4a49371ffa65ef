"""Decide whether to show progress bars, and keep the standard streams usable."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..utils.names import printable
from ..utils.notices import Notice
from ..utils.streams import MessageStream, discard

# The name of stdout's error handler, `_encode`.
ANY_PATH = "minigan-any-path"


def note(text: str) -> None:
    """Print a note on stderr: a line on which the user need not act."""
    warnings.warn(text, Notice, stacklevel=2)


def report(text: object) -> None:
    """Print a line about a result that is already in a file.

    If it cannot be printed, print a note on stderr, and go on.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # that is, the reader has left, as in `| head`
            note(f"standard output cannot be written: {error.strerror or error}")
        discard(sys.stdout)


@contextmanager
def usable_streams() -> Iterator[None]:
    """Let a command print any path, and run with closed streams (`>&-`), in a `with` block.

    What cannot be written to stderr is dropped. Output to stdout that is still buffered at the end
    and cannot be written (the reader is gone, or the disk is full) is dropped: Python would try
    again at exit, and print an error.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    errors = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ANY_PATH)
    if isinstance(errors, io.TextIOWrapper):
        errors.reconfigure(errors="backslashreplace")
    sys.stderr = MessageStream(errors)
    try:
        yield
    finally:
        sys.stderr = errors
        for stream in (sys.stdout, errors):
            try:
                stream.flush()
            except OSError:
                discard(stream)


@contextmanager
def printed_notices(command: str) -> Iterator[None]:
    """Print each notice as one line on stderr, without the line of code behind it."""
    show_other = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *location: Any, **other: Any) -> None:
        if issubclass(category, Notice):
            print(
                f"minigan {command}: note: {printable(str(message))}", file=sys.stderr, flush=True
            )
        else:
            show_other(message, category, *location, **other)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", Notice)
        yield


def _encode(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the bytes of a path that is not text; for other characters, escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(ANY_PATH, _encode)

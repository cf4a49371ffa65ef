"""Write to streams that may be closed, have no reader, or fill the disk."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Any


class MessageStream:
    """A text stream for messages that may be lost: what cannot be written is dropped.

    A training goes on when its progress bar is on a terminal that was closed, or in a file on a
    disk that is full.
    """

    def __init__(self, stream: Any) -> None:
        self.stream: Any = stream.stream if isinstance(stream, MessageStream) else stream

    def write(self, text: str) -> int:
        """Write the text where possible, and return its length."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream where possible."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        try:
            return bool(self.stream.isatty())
        except (OSError, ValueError, AttributeError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageStream) and self.stream is other.stream

    def __hash__(self) -> int:
        return id(self.stream)


def message_stream() -> MessageStream:
    """Return the present stderr as a stream for progress bars and notices."""
    return MessageStream(sys.stderr)


def discard(stream: Any) -> None:
    """Discard what a stream still holds, and all that is written to it from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def end_with_reader() -> None:
    """Let a script end quietly when the reader of its output has left, as in `script.py | head`.

    It ends at the next line that it prints, with exit status 0, or at its end.
    """

    def hook(kind: type[BaseException], error: BaseException, location: Any) -> None:
        if issubclass(kind, BrokenPipeError):
            discard(sys.stdout)
            os._exit(0)
        previous(kind, error, location)

    def flush() -> None:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            discard(sys.stdout)

    previous, sys.excepthook = sys.excepthook, hook
    atexit.register(flush)

"""Write messages to a stream that may be closed, have no reader, or fill the disk."""

from __future__ import annotations

import contextlib
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

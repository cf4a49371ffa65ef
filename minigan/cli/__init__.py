"""The command `minigan`: one module per command, and what they share."""

from .commands import main

__all__ = ["main"]

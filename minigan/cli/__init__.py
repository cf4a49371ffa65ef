"""The command `minigan`: one module per command, and their common parts."""

from .commands import main

__all__ = ["main"]

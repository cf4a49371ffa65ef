"""The command `minigan`."""

from .commands import main

__all__ = ["main"]

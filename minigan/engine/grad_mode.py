"""Whether ops record the graph, for each Python thread and asyncio task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

# A context variable has a value of its own in each Python thread and asyncio task.
_grad_enabled = ContextVar("grad_enabled", default=True)


def is_grad_enabled() -> bool:
    """Return whether ops record the graph in this thread or asyncio task (see `no_grad`)."""
    return _grad_enabled.get()


@contextlib.contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Switch the recording of the graph on or off in a `with` block, for this thread or task."""
    token = _grad_enabled.set(enabled)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Switch the recording of the graph off in a `with` block, for this thread or asyncio task.

    with mg.no_grad():
        fake = generator(latent)  # keeps no memory for a backward pass
    """
    return set_grad_enabled(False)

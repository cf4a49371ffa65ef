"""Show progress on stderr: progress bars, and the names of kernels that are compiled."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from ..engine.device import get_device
from .streams import message_stream

if TYPE_CHECKING:
    from tqdm import tqdm

NOTICE_SECONDS = 3.0  # the least time between two lines on compilation
LINE_SECONDS = 5.0  # the least time between two lines of progress where there is no terminal
BAR = "{desc} {n_fmt}/{total_fmt} {bar} {remaining} left{postfix}"
LINE = "{desc} {n_fmt}/{total_fmt}, {elapsed} elapsed, {remaining} left{postfix}"


def training_bar(name: str, steps: int, done: int, show: bool) -> tqdm:
    """Return a tqdm bar for a training of `steps` steps, of which `done` are done."""
    return progress_bar(show=show, total=steps, initial=done, desc=name)


def progress_bar(
    iterable: Iterable[Any] | None = None, *, show: bool = True, **options: Any
) -> Any:
    """Return a tqdm bar on stderr.

    On a terminal it is one live line, in a notebook a widget where ipywidgets is installed. In a
    file, as under nohup or in the log of a CI, it is a line every LINE_SECONDS, none at the start.

    Args:
        iterable: what to iterate over; None: `update` of the bar is called.
        show: whether to show it at all; never where TQDM_DISABLE is set, the variable of tqdm.
        options: other arguments of tqdm.
    """
    bar = _bar_class()
    settings = {**bar_options(), **options, "disable": not (show and progress_is_wanted())}
    if issubclass(bar, _line_class()):
        settings |= {"delay": max(LINE_SECONDS, options.get("delay", 0)), "leave": False}
    return bar(iterable, **settings)


def progress_is_wanted() -> bool:
    """Return whether the variable TQDM_DISABLE is not set."""
    return not os.environ.get("TQDM_DISABLE")


def bar_options() -> dict[str, Any]:
    """Return the arguments of tqdm that all progress bars share."""
    stream = message_stream()
    is_live = stream.isatty() or in_notebook()
    return {
        "file": stream,
        "bar_format": BAR if is_live else LINE,
        "dynamic_ncols": True,
        "mininterval": 0.2 if is_live else LINE_SECONDS,
    }


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def _bar_class() -> type[tqdm]:
    if in_notebook():
        from tqdm.auto import tqdm

        return tqdm
    if message_stream().isatty():
        from tqdm import tqdm as terminal_tqdm

        return terminal_tqdm
    return _line_class()


@cache
def _line_class() -> type[tqdm]:
    """Return the class of bars that are printed as whole lines."""
    from tqdm import tqdm

    class Lines(tqdm):
        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if msg is None:  # else it would be cleared
                self.fp.write(f"{self}\n")
                self.fp.flush()

        def clear(self, nolock: bool = False) -> None:
            pass

        def moveto(self, n: int) -> None:
            pass

    return Lines


def kernel_report() -> Callable[[int, int], None]:
    """Return a function that shows in a bar how many of the kernels are compiled."""
    bar: Any = None

    def report(done: int, count: int) -> None:
        nonlocal bar
        if bar is None:
            bar = progress_bar(total=count, desc="compiling kernels, once:", leave=False)
        bar.update(done - bar.n)
        if done == count:
            bar.close()

    return report


def announce_kernels(device: str) -> None:
    """Print the names of kernels that a device compiles, at most every NOTICE_SECONDS, on stderr.

    The first use of kernels on a machine takes up to minutes.
    """
    last_time: float | None = None

    def listener(name: str) -> None:
        nonlocal last_time
        now = time.monotonic()
        if last_time is None or now - last_time >= NOTICE_SECONDS:
            once = " kernels for this machine, once:" if last_time is None else ""
            _print_above_bars(f"compiling{once} {name}")
            last_time = now

    get_device(device).on_compile(listener)


def _print_above_bars(text: str) -> None:
    stream = message_stream()
    if stream.isatty():
        from tqdm import tqdm

        tqdm.write(text, file=stream)
    else:
        stream.write(f"{text}\n")
        stream.flush()

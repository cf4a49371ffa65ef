"""The Lesson class: print expected values beside measured ones, draw figures, parse options.

    lesson = Lesson("01_finite_differences", "A gradient by finite differences")
    lesson.expect("slope of the error", slope, at_least=1.9, at_most=2.1)
    with lesson.figure(8, 4) as figure: ...
    lesson.finish()

A lesson is a script in the percent format ("# %%" begins a cell), so it also runs in a notebook,
which then shows the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..data import Dataset, load
from ..kernels.runtime.files import atomic_write, cache_root
from . import figures as pictures
from . import lesson_bugs
from .lesson_bugs import HEADING, result_line
from .progress import announce_kernels, in_notebook, progress_bar
from .streams import end_with_reader

IN_NOTEBOOK = in_notebook()


class Lesson:
    """Parse the options of a lesson, and print and keep what it expects and measures.

    Args:
        name: the name of the lesson's file, without ".py".
        title: its title.
        fast: run the same cells with smaller sizes and fewer steps, as the option `--fast` does;
            for notebooks, which have no options.
    """

    def __init__(self, name: str, title: str, fast: bool = False) -> None:
        if not IN_NOTEBOOK:
            end_with_reader()
        options, parser = _parse_options(name, title)
        self.name, self.title, self.out = name, title, options.out
        self.fast = fast or options.fast
        self.results: dict[str, dict[str, Any]] = {}  # by the names of the checks
        self.numbers: dict[str, dict[str, Any]] = {}  # likewise: what `record` keeps
        self.data = ""  # which digits, if the lesson has any
        self.started = time.monotonic()
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.out):
                pass  # The folder is writable.
        except OSError as error:
            parser.error(f"--out {self.out}: {error.strerror}")
        announce_kernels("cpu")
        if options.bug is not None:
            try:
                sys.exit(lesson_bugs.run(Path(sys.argv[0]), options.bug, options.reveal, self.out))
            except lesson_bugs.BugError as error:
                parser.error(str(error))
        print(f"{name[:2]} {title}\n")

    # ------------------------------------------------------------------------------ numbers
    def expect(
        self,
        what: str,
        measured: Any,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        equal: Any = None,
        says: str | None = None,
    ) -> None:
        """Print PASS or FAIL, the measured value, the expected one, and `what` they describe.

        NaN fails, and so does an infinite number where bounds are given: a run has diverged.

        Args:
            what: the name of this check; no two checks of a lesson share one.
            at_least, at_most: the bounds of a number, one or both.
            equal: the value that `measured` must equal.
            says: a text that `measured`, a text too, must contain.
        """
        if what in self.results and not IN_NOTEBOOK:
            raise ValueError(f"two expectations are called {what!r}")
        if says is not None:
            print(f"  > {measured}")
            passed, shown, expected = says in measured, "as above", f"says {says!r}"
        elif equal is not None:
            passed, shown, expected = bool(measured == equal), _text(measured), _text(equal)
        else:
            low = -np.inf if at_least is None else at_least
            high = np.inf if at_most is None else at_most
            passed = bool(np.isfinite(measured) and low <= measured <= high)
            shown = _text(measured)
            expected = _range(at_least, at_most)
        if not self.results:
            print(HEADING)
        print(result_line(passed, shown, expected, what))
        result = {"expected": expected, "measured": _text(measured), "passed": passed}
        self.results[what] = {"what": what, **result}  # In a notebook a cell may run twice.

    def record(self, what: str, measured: Any) -> None:
        """Print a number that has no expected value, and keep it for the claims (claims.md).

        Args:
            what: the name of this number; no two numbers of a lesson share one.
            measured: a number, or one number per seed, whose mean and standard error are kept.

        Raises:
            ValueError: `measured` has several axes (n would be the length of the first), or no
                number.
        """
        if what in self.numbers and not IN_NOTEBOOK:
            raise ValueError(f"two numbers are called {what!r}")
        values = np.atleast_1d(np.asarray(measured, float))
        if values.ndim > 1 or not values.size:
            raise ValueError(f"{what}: shape {values.shape}, not one number or one number per seed")
        number: dict[str, Any] = {"what": what, "mean": float(values.mean()), "n": len(values)}
        shown = _text(number["mean"])
        if len(values) > 1:
            number["se"] = float(values.std(ddof=1) / math.sqrt(len(values)))
            shown += f" ± {number['se']:.2g}"
        self.numbers[what] = number
        count = f"(n = {len(values)})" if len(values) > 1 else ""
        print(f"        {shown:>12}  {count:<18}  {what}")

    def finish(self) -> None:
        """Write the numbers (JSON) beside the figure, print a summary; exit with 1 on a FAIL."""
        record = {
            "lesson": self.title,
            "fast": self.fast,
            "data": self.data,
            "results": list(self.results.values()),
            "numbers": list(self.numbers.values()),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        path = self.out / f"{self.name}.json"
        atomic_write(path, lambda file: file.write(text.encode()))
        failed = [what for what, result in self.results.items() if not result["passed"]]
        passed, seconds = len(self.results) - len(failed), time.monotonic() - self.started
        print(f"numbers: {path}")
        print(f"{passed} of {len(self.results)} as expected, {seconds:.0f} s")
        if failed:
            sys.exit("FAILED: " + "; ".join(failed))

    # ----------------------------------------------------------------------------- figures
    @contextmanager
    def figure(self, width: float, height: float, part: str = "") -> Iterator[Any]:
        """Yield an empty matplotlib Figure of width x height inches, and save it as a PNG.

        Args:
            width, height: the size in inches.
            part: added to the file's name after "-"; "" for the main figure of the lesson.
        """
        path = self.out / f"{self.name}{'-' * bool(part)}{part}.png"
        with pictures.figure(path, width, height) as figure:
            yield figure
        self._show("figure", path)

    def film(self, moments: list[Any], draw: Callable[[Any, Any], None], seconds: float) -> None:
        """Save a looping GIF of `seconds`, a frame per moment, drawn by draw(axes, moment)."""
        frames = []
        with rc_context(pictures.STYLE):
            for moment in moments:
                figure = Figure(figsize=(4, 4.2), dpi=90, layout="constrained")
                canvas = FigureCanvasAgg(figure)
                draw(figure.add_subplot(), moment)
                canvas.draw()
                frame = Image.fromarray(np.array(canvas.buffer_rgba())[..., :3])
                frames.append(frame.quantize(64, Image.Quantize.MAXCOVERAGE))
        durations = [int(1000 * seconds / len(frames))] * (len(frames) - 1) + [1500]
        options = {"append_images": frames[1:], "save_all": True, "duration": durations, "loop": 0}
        path = self.out / f"{self.name}.gif"
        atomic_write(path, lambda file: frames[0].save(file, format="GIF", **options))
        self._show("film", path)

    # -------------------------------------------------------------------------------- data
    def digits(self, size: int) -> Dataset:
        """Return at most `size` images of digits (n, 1, 28, 28); print and keep which ones.

        They are MNIST if it is on this machine (in the folder MINIGAN_DATA, or downloaded by
        `minigan train --data mnist`), otherwise the digits that minigan draws. Nothing is
        downloaded.
        """
        data_folder = os.environ.get("MINIGAN_DATA")
        data = None
        for folder in ([Path(data_folder)] if data_folder else []) + [cache_root() / "data"]:
            for split in ("train", "test"):
                with suppress(FileNotFoundError):
                    data = data or load("mnist", split=split, data_dir=folder)
        data = data or load("glyphs", samples=size)
        data = data if len(data) <= size else data.sample(size, seed=0)
        drawn = "MNIST is not on this machine; minigan's own digits"
        self.data = f"{'MNIST' if data.name == 'mnist' else drawn}, {len(data)} images"
        print(f"  {self.data}")
        return data

    def _show(self, kind: str, path: Path) -> None:
        print(f"{kind}: {path}")
        if IN_NOTEBOOK:
            from IPython.display import Image as Picture
            from IPython.display import display

            display(Picture(filename=str(path)))

    def progress(self, steps: Iterable[Any], label: str) -> Iterable[Any]:
        """Return `steps` with a progress bar on stderr if they take longer than a second."""
        return progress_bar(steps, desc=label, leave=False, delay=1)


def _parse_options(name: str, title: str) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=title)
    parser.add_argument(
        "--fast", action="store_true", help="less work: ten seconds, once kernels are compiled"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs", "lessons"),
        metavar="FOLDER",
        help="where the figures and the numbers (a .json) go; default: %(default)s",
    )
    parser.add_argument(
        "--bug",
        type=int,
        metavar="N",
        help="change one place in a copy of the lesson, and show only the check that then fails:"
        " find the change",
    )
    parser.add_argument("--reveal", action="store_true", help="with --bug N: show the change")
    options = parser.parse_args([] if IN_NOTEBOOK else None)
    if options.reveal and options.bug is None:
        parser.error("--reveal needs --bug N")
    return options, parser


def error_of(function: Any) -> str:
    """Return the name and text of the exception that `function()` raises, or "no error"."""
    try:
        function()
    except (ValueError, TypeError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _range(at_least: float | None, at_most: float | None) -> str:
    if at_least is None:
        return f"at most {at_most:.4g}"
    return f"at least {at_least:.4g}" if at_most is None else f"{at_least:.4g} to {at_most:.4g}"

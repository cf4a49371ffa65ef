"""Run the parts, each within its share of the time, and write the summary after each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...kernels.runtime.files import atomic_write, search_path
from ...utils.progress import progress_bar
from .. import device_report
from ..harness import error_line, write_result
from ..kernels import KERNELS
from . import logs, summary, targets
from .parts import FIGURES, Part, checkout, read_json
from .process import GRACE_SECONDS, Outcome, run_limited

JSON, MARKDOWN = "summary.json", "summary.md"
NOT_REACHED, RUNNING, DONE, SKIPPED = "not reached", "running", "done", "skipped"
CUT_OFF, FAILED, STOPPED = "cut off", "failed", "stopped"
NOT_CHOSEN = {"state": "not chosen", "reason": ""}  # a part that --parts leaves out
MIN_SECONDS = 1.0  # A part with less time than this is skipped.
Clock = Callable[[], float]


class Budget:
    """The time of a run, of which each part gets its share; what it does not use, the later ones.

    Args:
        seconds: the time in all; the last GRACE_SECONDS of it, at most a tenth, belong to no part.
        shares: of the parts, in their order.
        clock: returns seconds.
    """

    def __init__(self, seconds: float, shares: Mapping[str, float], clock: Clock) -> None:
        self.shares, self.clock, self.start = shares, clock, clock()
        self.end = self.start + seconds - min(GRACE_SECONDS, seconds / 10)

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self.clock() - self.start

    def limit(self, name: str) -> float:
        """Return the seconds that a part may take if it begins now; 0 if the time is over."""
        names = list(self.shares)
        later = sum(self.shares[x] for x in names[names.index(name) :])
        return max(0.0, self.end - self.clock()) * self.shares[name] / later


class Run:
    """A run of the command: its folder, its parts, and the record that summary.json holds."""

    def __init__(
        self,
        device: str,
        parts: Sequence[Part],
        folder: Path,
        minutes: float,
        say: Callable[[str], object] = print,
        clock: Clock = time.monotonic,
        run: Callable[..., Outcome] = run_limited,
    ) -> None:
        self.device, self.folder, self.say, self.run_process = device, folder, say, run
        self.parts = {part.name: part for part in parts}
        shares = {name: part.share for name, part in self.parts.items()}
        self.budget = Budget(60 * minutes, shares, clock)
        empty = {"seconds": None, "limit": None, "reason": "", "result": None}
        self.states: dict[str, dict[str, Any]] = {
            part.name: {"about": part.about, "state": NOT_REACHED, **empty} for part in parts
        }
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.record: dict[str, Any] = {"device": device, "minutes": minutes, "started": started}

    def run(self) -> None:
        """Run all parts. At a KeyboardInterrupt the summary is written, and it is raised again."""
        self.write()
        for number, part in enumerate(self.parts.values(), 1):
            self._run_part(part, f"{number}/{len(self.parts)} {part.name}")

    def has_problems(self) -> bool:
        """Return whether a part failed; one that was cut off or skipped has not."""
        return any(state["state"] == FAILED for state in self.states.values())

    def write(self) -> None:
        """Write summary.json and summary.md as of now."""
        known = {name: self.states.get(name, NOT_CHOSEN) for name in targets.PART_NAMES}
        self.record |= {"seconds": self.budget.elapsed(), "targets": [], "parts": self.states}
        try:
            self.record["targets"] = targets.evaluate(self.device, self.folder, known)
            text = summary.markdown(self.record, self.folder)
        except Exception as error:  # A file of an unforeseen form: the parts go on.
            text = f"The summary cannot be made: {error_line(error)}\n"
        write_result(self.record, self.folder / JSON)
        atomic_write(self.folder / MARKDOWN, lambda file: file.write(text.encode()))

    def _run_part(self, part: Part, title: str) -> None:
        state, limit = self.states[part.name], self.budget.limit(part.name)
        missing = part.missing(self.device)
        if missing is None and limit < MIN_SECONDS:
            missing = f"{limit:.1f} seconds of the time are left for it"
        if missing is not None:
            state |= {"state": SKIPPED, "reason": missing}
            self.say(f"{title}: skipped, {missing}")
            self.write()
            return
        state |= {"state": RUNNING, "limit": limit}
        self.write()
        left = self.budget.end - self.budget.clock()
        self.say(f"{title}: {part.about}, up to {limit:.0f} s of the {left:.0f} s that are left")
        start = self.budget.elapsed()
        try:
            state |= self._finish(part, self._process(part, title, limit))
        except KeyboardInterrupt:
            state |= {"state": STOPPED, "seconds": self.budget.elapsed() - start}
            state["result"] = part.read(self.folder)
            raise
        finally:
            self.write()
        words = [state["reason"], summary.found(part.name, state["result"])]
        text = "; ".join(filter(None, [f"{state['state']} in {state['seconds']:.0f} s", *words]))
        self.say(f"{title}: {text}")

    def _process(self, part: Part, title: str, limit: float) -> Outcome:
        """Run the process of a part under a progress bar of seconds."""
        root = checkout() or Path.cwd()
        environment = {**os.environ, "PYTHONPATH": search_path()}
        with progress_bar(total=round(limit), desc=title, leave=False, delay=2) as bar:
            return self.run_process(
                part.command(self.device, self.folder, root),
                self.folder / f"{part.name}.log",
                limit,
                root,
                environment,
                lambda elapsed: bar.update(min(int(elapsed), bar.total) - bar.n),
            )

    def _finish(self, part: Part, outcome: Outcome) -> dict[str, Any]:
        """Return the new state of a part whose process has ended; draw its figure."""
        result = part.read(self.folder)
        problem = None if result is None else part.problem(result)
        log = self.folder / f"{part.name}.log"
        if problem is None and outcome.status and not outcome.was_cut_off:
            problem = f"{_describe(outcome.status)}: {logs.last_line(log)}"
        reasons = [problem, "its time was over" if outcome.was_cut_off else ""]
        if part.name in FIGURES:
            reasons.append(_draw(self.folder / f"{part.name}.json"))
        return {
            "state": FAILED if problem else CUT_OFF if outcome.was_cut_off else DONE,
            "reason": "; ".join(filter(None, reasons)),
            "seconds": outcome.seconds,
            "result": result,
        }


def _describe(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _draw(path: Path) -> str:
    """Draw the kernels in a part's file, if there are any; return what went wrong, or ""."""
    result = read_json(path)
    series = result["series"] if result else {}
    kernels = {name: cases for name, cases in series.items() if cases and name in KERNELS}
    try:
        if kernels:
            device_report.draw({**result, "series": kernels}, path.with_suffix(".png"))
    except Exception as error:  # The numbers are in the file, and the other parts go on.
        return f"no figure: {error_line(error)}"
    return ""

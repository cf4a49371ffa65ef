"""Say which steps of a training have a line of metrics: the logged ones and the measured ones.

Both intervals may change when a run goes on. So the checkpoint holds from which step on each was
used, and a run that is resumed writes the same lines as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .config import Config
from .state import check_count

if TYPE_CHECKING:
    from ..translation.config import TranslationConfig

Parts = tuple[tuple[int, int], ...]  # (first step, interval) of each part of a run, in order


@dataclass(frozen=True)
class Lines:
    """The steps that have a regular line of metrics.

    Step 1 and every `log_every`-th one after it are logged; every multiple of `evaluate_every` is
    measured. The last step of a training has a line too, which a longer one does not have; it is
    not counted here. An interval of 0 measures none, as versions before `evaluate_every` did.
    """

    log_every: Parts
    evaluate_every: Parts

    @classmethod
    def of(cls, config: Config | TranslationConfig) -> Lines:
        """Return those of a run whose intervals never change."""
        return cls(((1, config.log_every),), ((1, config.evaluate_every or 0),))

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Lines:
        """Return those of the info of a checkpoint.

        Raises:
            ValueError: the info holds no such parts.
        """
        log_every = check_count("log_every", info["config"].get("log_every", Config.log_every))
        return cls(
            _parts(info, "log_every", log_every),
            _parts(info, "evaluate_every", info["config"].get("evaluate_every") or 0),
        )

    def as_info(self) -> dict[str, Parts]:
        """Return what a checkpoint holds of it beside its config: intervals that have changed."""
        return {name: parts for name, parts in vars(self).items() if len(parts) > 1}

    def goes_on(self, step: int, config: Config | TranslationConfig) -> Lines:
        """Return those of a run that goes on after a step with the intervals of a config."""
        return Lines(
            _goes_on(self.log_every, step, config.log_every),
            _goes_on(self.evaluate_every, step, config.evaluate_every or 0),
        )

    def is_measured(self, step: int) -> bool:
        """Return whether the samples are measured at a step."""
        every = _at(self.evaluate_every, step)
        return every > 0 and step % every == 0

    def is_logged(self, step: int) -> bool:
        """Return whether a step has a regular line if it is not measured."""
        return (step - 1) % _at(self.log_every, step) == 0

    def has_line(self, step: int) -> bool:
        """Return whether a step has a regular line."""
        return self.is_logged(step) or self.is_measured(step)


def _at(parts: Parts, step: int) -> int:
    return [every for first, every in parts if first <= step][-1]


def _goes_on(parts: Parts, step: int, every: int) -> Parts:
    parts = tuple(part for part in parts if part[0] <= step) or ((1, every),)
    return parts if parts[-1][1] == every else (*parts, (step + 1, every))


def _parts(info: Mapping[str, Any], name: str, every: int) -> Parts:
    """Return the checked parts of a run with one interval, `every` unless the info has others."""
    parts = info.get(name, [[1, every]])
    last = 0
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"{name} = {str(parts)[:40]} is not a list of parts of the run")
    for part in parts:
        if not isinstance(part, list) or len(part) != 2:
            raise ValueError(f"{name} has {str(part)[:40]}, not a step and a number of steps")
        first, interval = (check_count(name, x) for x in part)
        if first <= last or (not interval and name == "log_every"):
            raise ValueError(f"{name} has {part} after step {last}")
        last = first
    if parts[0][0] != 1:
        raise ValueError(f"{name} has no part from step 1 on")
    return tuple((first, interval) for first, interval in parts)

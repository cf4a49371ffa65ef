"""Measure the samples of a run against held-out data, beside real samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..utils.names import choose
from ..utils.notices import Notice
from ..utils.progress import progress_bar
from .estimate import Estimate
from .labels import class_names
from .measures import MEASURES, Measure
from .samples import Samples, Setting

if TYPE_CHECKING:
    from ..training.sampler import Sampler
    from ..training.trainer import Trainer

Draw = Callable[[int, int], Samples | None]  # the k-th n samples; None where there are no more


@dataclass(frozen=True)
class Measured:
    """A measure of a run's samples.

    Attributes:
        name: of the measure and the number of samples, such as "frechet_n1800".
        label: what it is.
        value: the mean over independent draws of so many generated samples.
        low, high: the 95 % interval of that mean; None for a single draw.
        floor: the same for real samples: the mean over draws of training data, which no generator
            can be expected to surpass; those of a conditional run have the labels of the generated
            samples. None where there are too few.
        samples: their number in a draw.
        better: "low" or "high"; None where neither is.
        without_average: the value of G itself, in a run whose samples are those of its average, for
            measures that take little time; else None.
    """

    name: str
    label: str
    value: float
    low: float | None
    high: float | None
    floor: float | None
    samples: int
    better: str | None
    without_average: float | None = None

    @property
    def error(self) -> float | None:
        """Half the width of the interval; None for a single draw."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class Evaluation:
    """The measures of a run at a step.

        evaluation = mg.load_run("runs/001-glyphs-mlp").evaluate()
        evaluation["frechet"].value, evaluation["frechet"].floor

    Attributes:
        step: of the generator. trained: the steps of the run so far. steps: that it was to train.
        data: the name or path of the data. held_out: the number of held-out samples.
        measures: in the order of the table.
        left_out: (name, reason) of measures that the data have but that could not be taken.
        notes: lines on what limits a measure, such as few samples.
        feature_net: {"key", "accuracy"} of the classifier whose features were used, or None: two
            evaluations with different keys have no comparable distances of features.
    """

    step: int
    trained: int
    steps: int
    data: str
    held_out: int
    measures: tuple[Measured, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    feature_net: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Measured:
        """Return a measure by its name, with or without the number of samples."""
        for measured in self.measures:
            if name in (measured.name, measured.name.rpartition("_n")[0]):
                return measured
        reasons = dict(self.left_out)
        raise KeyError(f"{name} is left out: {reasons[name]}" if name in reasons else name)


def evaluate(
    trainer: Trainer,
    projections: int = 256,
    progress: bool = False,
    only: Sequence[str] | None = None,
    sampler: Sampler | None = None,
) -> Evaluation:
    """Return the measures of a trained generator that fit its data.

        print(evaluate(trainer)["sliced_wasserstein"].value)

    `minigan/evaluation/README.md` says what they are. In a run with the option `ema` the samples
    are those of the average of G.

    Args:
        trainer: the trained GAN.
        projections: the number of random directions of the sliced Wasserstein distance.
        progress: whether to show a progress bar.
        only: the names of the measures to take; "quick": those that take little time; None: all.
        sampler: another generator of the same run, such as that of a snapshot; None: the trainer's.

    Raises:
        ValueError: the run set no data aside, or there is no such measure.
    """
    if not len(trainer.held_out):
        raise ValueError(
            "the run held no data out (holdout 0), so there is nothing to compare with"
        )
    if projections < 1:
        raise ValueError(f"sliced_wasserstein: projections = {projections} is not positive")
    chosen = choose_measures(only)
    setting = Setting.of(trainer, projections, progress)
    work = _Work(setting, sampler or trainer.sampler)
    measures, left_out = [], []
    with progress_bar(chosen, desc="measures", leave=False, delay=2, show=progress) as bar:
        for measure in bar:
            bar.set_postfix_str(measure.name, refresh=False)
            if not measure.applies(setting):
                continue
            reason = measure.lacks(setting)
            try:
                if not reason:
                    measures.append(work.measure(measure))
            except (ArithmeticError, ValueError) as error:
                if measure.name == "sliced_wasserstein":  # too many projections
                    raise
                reason = " ".join(str(error).split())
            if reason:
                left_out.append((measure.name, reason))
    net = setting.net if setting.uses_net else None
    return Evaluation(
        trainer.step_count if sampler is None else int(sampler.step or 0),
        trainer.step_count,
        trainer.config.steps,
        trainer.config.data,
        len(trainer.held_out),
        tuple(measures),
        tuple(left_out),
        tuple(work.notes.values()),
        None if net is None else {"key": net.key, "accuracy": net.accuracy},
    )


def choose_measures(only: Sequence[str] | None) -> list[Measure]:
    """Return the measures of these names; ValueError if there is no such one."""
    if only is None:
        return list(MEASURES)
    names = dict.fromkeys((*(measure.name for measure in MEASURES), "quick"))
    for name in only:
        choose("measure", name, names)
    return [x for x in MEASURES if x.name in only or (x.quick and "quick" in only)]


class _Work:
    """The draws of samples, of which each measure takes as many as it needs."""

    def __init__(self, setting: Setting, sampler: Sampler) -> None:
        self.setting, self.sampler = setting, sampler
        self.notes = _absent_classes(setting)  # by the name of a metric
        self._samples: dict[Any, Samples | None] = {}

    def measure(self, measure: Measure) -> Measured:
        """Return the estimates of a measure.

        Raises:
            ValueError, ArithmeticError: there are too few samples for it, or it failed.
        """
        setting, n = self.setting, measure.count(self.setting)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimate = self._estimate(measure, "average")
            assert estimate is not None
            if measure.floor is not None:
                floor = measure.floor(setting)
            else:
                real = self._estimate(measure, "real")
                floor = math.nan if real is None else real.mean
            raw = None
            if measure.quick and self.sampler.players.average is not None:
                raw = self._estimate(measure, "itself")
        self._take_notes(caught)
        low, high = estimate.interval()
        return Measured(
            f"{measure.name}_n{n}",
            measure.label,
            estimate.mean,
            None if math.isnan(low) else low,
            None if math.isnan(high) else high,
            None if math.isnan(floor) else floor,
            n,
            measure.better,
            None if raw is None else raw.mean,
        )

    def _take_notes(self, caught: Sequence[warnings.WarningMessage]) -> None:
        """Keep the first notice of each metric, as each draw causes one; show other warnings."""
        for x in caught:
            text = str(x.message)
            if not issubclass(x.category, Notice):
                warnings.warn(text, x.category, stacklevel=3)
            else:
                self.notes.setdefault(text.partition(":")[0], text)

    def _estimate(self, measure: Measure, source: str) -> Estimate | None:
        """Return the estimate over draws from a source; None where it has no draw."""
        n = measure.count(self.setting)
        draws = [self._draw(source, k, n) for k in range(measure.draws)]
        values = [measure.function(x, self.setting) for x in draws if x is not None]
        return Estimate.of(values) if values else None

    def _draw(self, source: str, k: int, n: int) -> Samples | None:
        """Return the k-th n samples; fewer than the usual number are the first of these."""
        size = max(n, self.setting.count) if n <= self.setting.count else n
        key = (source, k, size)
        if key not in self._samples:
            self._samples[key] = self._new_draw(source, k, size)
        samples = self._samples[key]
        return None if samples is None else samples.head(n)

    def _new_draw(self, source: str, k: int, n: int) -> Samples | None:
        if source == "real":
            return self.setting.train_draw(k, n)
        return self.setting.fake_draw(self.sampler, k, n, source == "average")


def _absent_classes(setting: Setting) -> dict[str, str]:
    """Return a note on the classes that have no held-out sample; {} if there are none."""
    labels, train = setting.held_out.labels, setting.train
    if not setting.is_conditional or labels is None:
        return {}
    absent = sorted(set(range(train.classes or 0)) - set(labels.tolist()))
    text = (
        f"no held-out sample is of class {class_names(train, absent)}: generated samples of these"
        " classes are compared with none"
    )
    return {"classes": text} if absent else {}

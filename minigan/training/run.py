"""Train in a folder: write config, metrics, pictures, checkpoints, snapshots, the best generator.

Every file is complete at all times: it is written under a temporary name and renamed. Metrics are
appended to, and on resume truncated to the step of the checkpoint. What a checkpoint refers to is
written before it, and what it replaces is removed after it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

import numpy as np

from ..kernels.runtime.files import atomic_write
from ..utils import strict_json
from ..utils.csv_table import csv_bytes
from ..utils.notices import Notice
from ..utils.progress import training_bar
from . import checkpoint
from .best import Best
from .event_files import EventFile
from .lines import Lines
from .own_code import save_code
from .run_folder import (
    CHECKPOINT,
    CONFIG,
    DIVERGED,
    LOSSES,
    METRICS,
    METRICS_CSV,
    OLD_QUALITY,
    RunError,
    cannot_write,
    read_metrics,
    remove_temporary_files,
)
from .signals import stop_requests
from .snapshots import is_due, remove_later, save_snapshot, thin_out
from .trainer import DivergedError, Trainer

if TYPE_CHECKING:
    from ..translation.trainer import TranslationTrainer

AnyTrainer = TypeVar("AnyTrainer", bound="Trainer | TranslationTrainer")


class Run(Generic[AnyTrainer]):
    """A trainer that writes its results to a folder.

        config = Config(data="ring", steps=2000)
        folder = new_folder("runs/ring", config)
        Run(folder, Trainer(config)).train()

    Args:
        folder: the run's folder.
        trainer: the trainer, at step 0 or in the state of the folder's checkpoint.
        lines: the steps that have had a line of metrics, as the checkpoint says; None for a new
            run.

    Attributes:
        tensorboard: whether `train` writes event files for TensorBoard too; False. It is no option
            of the config, which says what a run is: a run that was trained with them is the same
            run, and goes on where tensorboardX is not installed.

    Raises:
        RunError: the folder's metrics do not belong to the trainer's state, or cannot be written.
    """

    def __init__(self, folder: Path, trainer: AnyTrainer, lines: Lines | None = None) -> None:
        self.folder, self.trainer, self.config = folder, trainer, trainer.config
        self.path, step = folder / METRICS, trainer.step_count
        self.lines = (lines or Lines.of(self.config)).goes_on(step, self.config)
        self.measures = trainer.quick_measures()
        try:
            remove_temporary_files(folder)
            remove_later(folder, step)
            self.rows = self._restore_metrics()
            self.best = Best(folder, step, self.measures.criterion)
        except OSError as error:
            raise RunError(cannot_write(folder, error)) from None
        if (folder / OLD_QUALITY).exists():
            warnings.warn(
                f"{folder / OLD_QUALITY} is of an older version and stays as it is: the measures of"
                f" later steps are in {METRICS}, and {LOSSES} shows only these",
                Notice,
                stacklevel=2,
            )
        self.pictures = trainer.pictures(folder)
        self.tensorboard = False
        self._events: EventFile | None = None

    def _restore_metrics(self) -> list[dict[str, Any]]:
        """Truncate the metrics to the trainer's state; training writes the later lines again.

        An extra line for the last step, or the measures in it, stay in the file until a later step
        is saved: until then this is still the finished run.
        """
        trainer = self.trainer
        if not self.path.exists() and not trainer.metrics_lines:
            return []
        step, count = trainer.step_count, trainer.metrics_lines
        rows = read_metrics(self.path, step, count, self.lines.has_line)
        regular = [row if row["step"] == step else self._regular(row) for row in rows]
        self._write_metrics(regular)
        if step == self.config.steps:
            return regular
        return [self._regular(row) for row in rows[:count]]

    def _regular(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a line without measures that it has only because its step was once the last."""
        if self.lines.is_measured(row["step"]):
            return row
        return {name: x for name, x in row.items() if name not in self.measures.names}

    def _write_metrics(self, rows: list[dict[str, Any]]) -> None:
        text = "".join(_as_line(row) for row in rows)
        atomic_write(self.path, lambda file: file.write(text.encode()))

    def _write_csv(self) -> None:
        atomic_write(self.folder / METRICS_CSV, lambda file: file.write(csv_bytes(self.rows)))

    def write_config(self) -> None:
        """Write config.json, and copies of the code of the user's own that it names."""
        text = strict_json.dumps(self.config.as_dict(), indent=2) + "\n"
        atomic_write(self.folder / CONFIG, lambda file: file.write(text.encode()))
        save_code(self.folder, self.config)

    # ------------------------------------------------------------------------------- training
    def train(self, progress: bool = True) -> str | None:
        """Train to step `config.steps`, or until SIGINT, SIGTERM or SIGHUP arrives.

        Args:
            progress: whether to show a progress bar on stderr.

        Returns:
            The name of the signal that stopped the training, or None.

        Raises:
            DivergedError: a loss or a weight became NaN or infinite.
            RunError: a file cannot be written.
        In both cases the last checkpoint stays as it was.
        """
        try:
            (self.folder / DIVERGED).unlink(missing_ok=True)
            self.write_config()
            if self.rows:  # A process that was killed may have written a table of later steps.
                self._write_csv()
            if self.tensorboard:
                self._events = EventFile(self.folder, self.rows, self.trainer.step_count)
            self.pictures.draw_reals()
            if self.trainer.step_count == 0:
                self._show()
                self.save()  # From now on the run can be resumed after it is killed.
            first = self.trainer.step_count
            stopped_by = self._train(progress)
            if self._events is not None:
                self._events.flush()
            if self.trainer.step_count > first > 0:
                # The extra line for the old last step is not one of the longer run.
                self._write_metrics(self.rows)
            self.pictures.draw_losses(self.rows, self.measures.distance, last=True)
            return stopped_by
        except DivergedError as error:
            self._note_divergence(str(error))
            raise DivergedError(f"{error}; {self._describe_checkpoint()}") from None
        except OSError as error:
            text = f"{cannot_write(self.folder, error)}; {self._describe_checkpoint()}"
            raise RunError(text) from None
        finally:
            if self._events is not None:
                with contextlib.suppress(OSError):  # An error that matters was raised before.
                    self._events.close()

    def _train(self, progress: bool) -> str | None:
        trainer, config = self.trainer, self.config
        bar = training_bar(Path(config.data).name, config.steps, trainer.step_count, progress)
        last_time, last_step = time.perf_counter(), trainer.step_count
        with bar, stop_requests() as requests, self.path.open("a", encoding="utf-8") as metrics:
            while trainer.step_count < config.steps and not requests:
                step = trainer.step_count + 1
                is_last = step == config.steps
                is_logged = is_last or self.lines.has_line(step)
                row = trainer.step(norms=is_logged)
                bar.update()
                if is_last or self.lines.is_measured(step):
                    row |= self._measure()
                if is_logged:
                    # Changes are those since the last step that a run of any length logs.
                    row |= trainer.measure(keep=self.lines.is_logged(step))
                    now = time.perf_counter()
                    speed = (step - last_step) / (now - last_time)
                    last_time, last_step = now, step
                    self._log(metrics, row, speed)
                    bar.set_postfix_str(_postfix(row), refresh=False)
                if is_last or step % config.sample_every == 0:
                    self._show()
                if is_due(step, config.sample_every, config.keep):
                    save_snapshot(self.folder, *self._finite_state())
                if is_last or step % config.checkpoint_every == 0:
                    os.fsync(metrics.fileno())  # The checkpoint counts their lines.
                    self.save()
            if trainer.step_count == config.steps:
                return None
            os.fsync(metrics.fileno())
            self.save()
            return requests[0]

    def _measure(self) -> dict[str, float]:
        """Return the quick measures of this step, and keep its generator if it is the best so far.

        The last step of a training is measured too, but is the best only if a longer training would
        measure it: so the best step does not depend on where a training was extended.
        """
        row, step = self.measures.measure(), self.trainer.step_count
        for name, value in row.items():
            if not math.isfinite(value):
                raise DivergedError(f"{name} of the samples became {value} at step {step}")
        if self.lines.is_measured(step):
            self.best.offer(step, row, self._finite_state)
        return row

    def _show(self) -> None:
        """Draw samples, and the curves up to this step."""
        self.pictures.draw_samples()
        if self._events is not None:
            self._events.add_picture(self.trainer.step_count, self.pictures.samples_path)
        self.pictures.draw_losses(self.rows, self.measures.distance, last=False)

    def _log(self, file: TextIO, row: dict[str, float], speed: float) -> None:
        """Write a line of metrics. Only its speed differs when the run is repeated."""
        keys = ("loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g")
        other_keys = [key for key in row if key not in keys]  # such as a penalty
        line = {"step": self.trainer.step_count, **{key: row[key] for key in (*keys, *other_keys)}}
        line["steps_per_second"] = round(speed, 2)
        file.write(_as_line(line))
        file.flush()
        self.rows.append(line)
        if self._events is not None:
            self._events.add_metrics(line)

    def _note_divergence(self, message: str) -> None:
        """Write the step and the message of a training that diverged, for `minigan doctor`."""
        text = strict_json.dumps({"step": self.trainer.step_count, "message": message}) + "\n"
        with contextlib.suppress(OSError):  # The training ends with the message anyway.
            atomic_write(self.folder / DIVERGED, lambda file: file.write(text.encode()))

    def _describe_checkpoint(self) -> str:
        path = self.folder / CHECKPOINT
        if not self.folder.exists():
            return f"{self.folder} was moved or removed during the training"
        if not path.exists():
            return "there is no checkpoint yet"
        return f"{path} is still the last good state"

    # ---------------------------------------------------------------------------------- files
    def save(self) -> None:
        """Write the checkpoint.

        It counts the lines of metrics that a longer run would have too, without the extra line of
        the last step.

        Raises:
            DivergedError: the state is not finite; the last checkpoint stays.
        """
        self.trainer.metrics_lines = sum(self.lines.has_line(row["step"]) for row in self.rows)
        tensors, info = self._finite_state()
        self._write_csv()
        self.best.save()
        checkpoint.save(self.folder / CHECKPOINT, tensors, {**info, **self.lines.as_info()})
        self.best.publish()
        thin_out(self.folder, self.trainer.step_count, self.config.sample_every, self.config.keep)

    def _finite_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors, info = self.trainer.state()
        for name, x in tensors.items():
            if not np.isfinite(x).all():
                raise DivergedError(f"{name} is not finite at step {self.trainer.step_count}")
        return tensors, info


def _as_line(row: dict[str, Any]) -> str:
    return strict_json.dumps(row) + "\n"


def _postfix(row: dict[str, float]) -> str:
    """Return the text of the progress bar for a row of metrics; data have a diversity of 1."""
    diversity = f", diversity {row['diversity']:.2f}" if "diversity" in row else ""
    return (
        f"D {row['loss_d']:.3f} G {row['loss_g']:.3f}, D right:"
        f" real {row['d_real']:.0%} fake {row['d_fake']:.0%}{diversity}"
    )

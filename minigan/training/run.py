"""A run is a folder: config, metrics, sample pictures, a checkpoint, loss curves.

    config.json  metrics.jsonl  samples/step_*.png  checkpoint.safetensors  losses.png

Every file is whole at every moment: written under another name and renamed, or appended to and
cut back, on resume, to the lines that the checkpoint knows of.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels.runtime.files import atomic_write
from ..utils import figures as pictures
from ..utils.progress import training_bar
from . import checkpoint
from .checkpoint import CheckpointError
from .config import Config
from .folder import CHECKPOINT, CONFIG, LOSSES, METRICS, RunError, read_config
from .trainer import DivergedError, Trainer

# Options that a checkpoint does not depend on.
MAY_DIFFER = {"steps", "data_dir", "device", "sample_every", "checkpoint_every"}


# ------------------------------------------------------------------------------- stored runs
def load_trainer(folder: Path, steps: int | None = None, progress: bool = False) -> Trainer:
    """The trainer of a run, as its checkpoint left it; `steps` replaces the number to reach.

    Raises:
        RunError, CheckpointError: the folder holds no run, or not a whole one.
    """
    config = read_config(folder)
    tensors, info = checkpoint.load(folder / CHECKPOINT)
    if steps is not None:
        config = config.replace(steps=steps)
    trainer = Trainer(config, progress=progress)
    try:
        _check_same(trainer.config, info["config"])
        trainer.load_state(tensors, info)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CHECKPOINT} does not fit this run: {error}") from None
    return trainer


def _check_same(config: Config, saved: dict[str, Any]) -> None:
    """ValueError where the options that shape the future differ from those of the checkpoint."""
    # A run that is older than an option was made with what is its default now.
    before = Config(**saved).as_dict()
    for name, value in config.as_dict().items():
        if name not in MAY_DIFFER and value != before[name]:
            raise ValueError(f"it was written with {name} = {before[name]!r}, not {value!r}")


def resume(folder: Path, steps: int | None = None, progress: bool = False) -> Run:
    """A run that goes on where it stood; one that was killed at the very start begins.

    Raises:
        RunError, CheckpointError: the folder holds no run, or not a whole one, or one that is
            already beyond `steps`.
    """
    config = read_config(folder)
    if (folder / CHECKPOINT).exists() or (folder / METRICS).exists():
        trainer = load_trainer(folder, steps, progress)
    else:  # metrics are opened after the first checkpoint: there was no step yet
        config = config if steps is None else config.replace(steps=steps)
        trainer = Trainer(config, progress=progress)
    if trainer.step_count > trainer.config.steps:
        raise RunError(
            f"{folder} is at step {trainer.step_count} already, beyond {trainer.config.steps}"
        )
    return Run(folder, trainer)


# ------------------------------------------------------------------------------------ training
class Run:
    """A trainer at work in a folder.

    Raises:
        RunError: the metrics are not those of the trainer's state, or a file cannot be written.
    """

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self.folder, self.trainer, self.config = folder, trainer, trainer.config
        self.path = folder / METRICS
        try:
            for name in (CHECKPOINT, CONFIG, METRICS, LOSSES, "samples/step_*"):
                for half in folder.glob(f"{name}.*.tmp"):  # a process was killed as it wrote
                    half.unlink(missing_ok=True)
            self.rows = self._cut_metrics(trainer.metrics_lines)
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error.strerror}") from None

    def _cut_metrics(self, lines: int) -> list[dict[str, Any]]:
        """Keep the lines that the checkpoint knows of; later ones will be written again."""
        if not self.path.exists():
            if lines:
                raise RunError(f"{self.path} is gone; it had {lines} lines at the checkpoint")
            return []
        found = self.path.read_bytes().splitlines(keepends=True)
        if len(found) < lines:
            raise RunError(f"{self.path} has {len(found)} lines; the checkpoint knows of {lines}")
        finished = self.trainer.step_count == self.config.steps
        kept = found[: lines + finished]  # a finished run also keeps the line of its last step
        try:
            rows = [json.loads(line) for line in kept]
            for row in rows:
                row["step"], row["loss_d"], row["loss_g"]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{self.path} cannot be read: {error}") from None
        atomic_write(self.path, lambda file: file.write(b"".join(kept)))
        return rows

    def write_config(self) -> None:
        text = json.dumps(self.config.as_dict(), indent=2) + "\n"
        atomic_write(self.folder / CONFIG, lambda file: file.write(text.encode()))

    def train(self, progress: bool = True) -> str | None:
        """Train to `config.steps`; the name of the signal that stopped it early, or None.

        Raises:
            DivergedError: a loss or a weight became NaN or infinite.
            RunError: a file cannot be written.
        In both cases the last checkpoint stays as it was.
        """
        try:
            self.write_config()
            if self.trainer.step_count == 0:
                self.draw_samples()
                self.save()  # so that a run can be resumed whenever it is killed
            stopped = self._train(progress)
            if self.rows:
                players = self.trainer.players
                where = self.folder / LOSSES
                pictures.loss_curves(self.rows, players.levels, players.unit, where)
            return stopped
        except DivergedError as error:
            raise DivergedError(f"{error}; {self._last_good()}") from None
        except OSError as error:
            reason = f"cannot write to {self.folder}: {error.strerror or error}"
            raise RunError(f"{reason}; {self._last_good()}") from None

    def _train(self, progress: bool) -> str | None:
        trainer, config = self.trainer, self.config
        bar = training_bar(Path(config.data).name, config.steps, trainer.step_count, progress)
        clock, since = time.perf_counter(), trainer.step_count
        with bar, _stop_requests() as requests, self.path.open("a") as metrics:
            while trainer.step_count < config.steps and not requests:
                last = trainer.step_count + 1 == config.steps
                logged = last or self._is_regular(trainer.step_count + 1)
                row = trainer.step(norms=logged)
                bar.update()
                if logged:
                    now = time.perf_counter()
                    speed = (trainer.step_count - since) / (now - clock)
                    clock, since = now, trainer.step_count
                    self._log(metrics, row, speed)
                    bar.set_postfix_str(
                        f"D {row['loss_d']:.3f} G {row['loss_g']:.3f}, D right:"
                        f" real {row['d_real']:.0%} fake {row['d_fake']:.0%}",
                        refresh=False,
                    )
                if last or trainer.step_count % config.sample_every == 0:
                    self.draw_samples()
                if last or trainer.step_count % config.checkpoint_every == 0:
                    os.fsync(metrics.fileno())  # the checkpoint counts its lines
                    self.save()
            if trainer.step_count == config.steps:
                return None
            os.fsync(metrics.fileno())
            self.save()
            return requests[0]

    def _is_regular(self, step: int) -> bool:
        """Whether a step has a line of metrics however long the run becomes."""
        return (step - 1) % self.config.log_every == 0

    def _log(self, file: Any, row: dict[str, float], speed: float) -> None:
        """One flat line of metrics. The speed is the only number that a rerun will not repeat."""
        keys = ("loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g")
        beside = [key for key in row if key not in keys]  # a penalty, say
        full = {"step": self.trainer.step_count, **{key: row[key] for key in (*keys, *beside)}}
        full["steps_per_second"] = round(speed, 2)
        file.write(json.dumps(full) + "\n")
        file.flush()
        self.rows.append(full)

    def _last_good(self) -> str:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return "there is no checkpoint yet"
        return f"{path} is still the last good state"

    def save(self) -> None:
        """The checkpoint, with the number of metrics lines that a longer run would have too.

        Raises:
            DivergedError: what would be saved is not finite; the last checkpoint stays.
        """
        self.trainer.metrics_lines = sum(self._is_regular(row["step"]) for row in self.rows)
        tensors, info = self.trainer.state()
        for name, x in tensors.items():
            if not np.isfinite(x).all():
                raise DivergedError(f"{name} is not finite at step {self.trainer.step_count}")
        checkpoint.save(self.folder / CHECKPOINT, tensors, info)

    def samples_path(self) -> Path:
        return self.folder / "samples" / f"step_{self.trainer.step_count:06d}.png"

    def draw_samples(self) -> None:
        """The picture of what the generator makes of the fixed latents."""
        self.samples_path().parent.mkdir(exist_ok=True)
        fakes = self.trainer.generate(self.trainer.fixed_latent)
        if not np.isfinite(fakes).all():
            raise DivergedError(f"the samples are not finite at step {self.trainer.step_count}")
        title = f"step {self.trainer.step_count}"
        real = self.trainer.data.values
        draw(fakes, real, self.samples_path(), title, self.trainer.columns)


def draw(
    samples: np.ndarray, real: np.ndarray, path: Path, title: str = "", columns: int = 8
) -> None:
    """Images as a grid, points beside as many real ones."""
    if samples.ndim == 4:
        pictures.image_grid(samples, path, columns)
    else:
        pictures.scatter(real[: len(samples)], samples, path, title)


@contextmanager
def _stop_requests() -> Iterator[list[str]]:
    """A list that SIGINT and SIGTERM write their names into, so that no step is cut in half.

    A second Ctrl-C acts at once, as ever.
    """
    requests: list[str] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        requests.append(signal.Signals(number).name)
        signal.signal(number, previous[number])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # `nohup` and its like
                previous[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: whoever started it decides
        yield requests
        return
    try:
        yield requests
    finally:
        for stopped, handler in previous.items():
            signal.signal(stopped, handler)

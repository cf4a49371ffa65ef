"""A run is a folder: config, metrics, sample pictures, a checkpoint, loss curves.

    config.json  metrics.jsonl  samples/step_*.png  checkpoint.safetensors  losses.png

Every file is whole at every moment: written under another name and renamed, or appended to and
cut back, on resume, to the lines that the checkpoint knows of.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import checkpoint, pictures
from .checkpoint import CheckpointError
from .config import Config
from .paths import atomic_write
from .trainer import DivergedError, Trainer

CHECKPOINT, CONFIG, METRICS, LOSSES = (
    "checkpoint.safetensors",
    "config.json",
    "metrics.jsonl",
    "losses.png",
)


class RunError(ValueError):
    """A run folder that cannot be used; the message names it and says what to do."""


# ------------------------------------------------------------------------------------- folders
def new_folder(out: str | os.PathLike[str] | None, config: Config) -> Path:
    """An empty folder to run in: `out`, or the next of runs/001-glyphs-mlp, runs/002-..."""
    if out is None:
        runs = Path("runs")
        runs.mkdir(parents=True, exist_ok=True)
        taken = [int(p.name[:3]) for p in runs.iterdir() if p.name[:3].isdigit()]
        what = Path(config.data).stem
        folder = runs / f"{max(taken, default=0) + 1:03d}-{what}-{config.model}"
    else:
        folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder to train in")
    if folder.is_dir() and any(p.name != ".lock" for p in folder.iterdir()):
        raise RunError(
            f"the folder {folder} is in use; give another --out, or --resume {folder} to go on"
        )
    try:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}") from None
    return folder


def read_config(folder: Path) -> Config:
    """The config of a run; RunError where the folder holds none that can be read."""
    path = folder / CONFIG
    try:
        return Config(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run: it has no {CONFIG}") from None
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process trains in a folder. The lock goes when the process does."""
    try:
        import fcntl
    except ImportError:  # not on this system: nothing guards the folder
        yield
        return
    try:
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"another process is training in {folder}") from None
        yield


def load_trainer(folder: Path, steps: int | None = None, progress: bool = False) -> Trainer:
    """The trainer of a run, as its checkpoint left it; `steps` replaces the number to reach."""
    config = read_config(folder)
    tensors, info = checkpoint.load(folder / CHECKPOINT)
    if steps is not None:
        config = config.replace(steps=steps)
    trainer = Trainer(config, progress=progress)
    try:
        trainer.load_state(tensors, info)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CHECKPOINT} does not fit this run: {error}") from None
    return trainer


# ------------------------------------------------------------------------------------ training
class Run:
    """A trainer at work in a folder."""

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self.folder, self.trainer, self.config = folder, trainer, trainer.config
        self.path = folder / METRICS
        self.rows = self._cut_metrics(trainer.metrics_lines)

    def _cut_metrics(self, lines: int) -> list[dict[str, Any]]:
        """Keep the lines that the checkpoint knows of; later ones will be written again."""
        if not self.path.exists():
            if lines:
                raise RunError(f"{self.path} is gone; it had {lines} lines at the checkpoint")
            return []
        kept = self.path.read_bytes().splitlines(keepends=True)[:lines]
        if len(kept) < lines:
            raise RunError(f"{self.path} has {len(kept)} lines; the checkpoint knows of {lines}")
        atomic_write(self.path, lambda file: file.write(b"".join(kept)))
        return [json.loads(line) for line in kept]

    def write_config(self) -> None:
        text = json.dumps(self.config.as_dict(), indent=2) + "\n"
        atomic_write(self.folder / CONFIG, lambda file: file.write(text.encode()))

    def train(self, progress: bool = True) -> str | None:
        """Train to `config.steps`; the name of the signal that stopped it early, or None.

        Raises:
            DivergedError: a loss became NaN or infinite; the last checkpoint stays as it was.
        """
        trainer, config = self.trainer, self.config
        self.write_config()
        if trainer.step_count == 0:
            self.draw_samples()
            self.save()  # so that a run can be resumed whenever it is killed
        bar = tqdm(
            total=config.steps,
            initial=trainer.step_count,
            desc=f"{config.data} {config.model}",
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 10,
            disable=not progress,
        )
        clock, since = time.perf_counter(), trainer.step_count
        with bar, _stop_requests() as requests, self.path.open("a") as metrics:
            while trainer.step_count < config.steps and not requests:
                last = trainer.step_count + 1 == config.steps
                logged = last or trainer.step_count % config.log_every == 0
                try:
                    row = trainer.step(norms=logged)
                except DivergedError as error:
                    raise DivergedError(f"{error}; {self._last_good()}") from None
                bar.update()
                if logged:
                    now = time.perf_counter()
                    speed = (trainer.step_count - since) / (now - clock)
                    clock, since = now, trainer.step_count
                    self._log(metrics, row, speed)
                    bar.set_postfix_str(
                        f"D {row['loss_d']:.3f}  G {row['loss_g']:.3f}  D is right on"
                        f" {row['d_real']:.0%} real {row['d_fake']:.0%} fake",
                        refresh=False,
                    )
                if last or trainer.step_count % config.sample_every == 0:
                    self.draw_samples()
                if last or trainer.step_count % config.checkpoint_every == 0:
                    self.save()
        if requests:
            self.save()
        if self.rows:
            pictures.loss_curves(self.rows, trainer.loss.levels, self.folder / LOSSES)
        return requests[0] if requests else None

    def _log(self, file: Any, row: dict[str, float], speed: float) -> None:
        """One flat line of metrics. The speed is the only number that a rerun will not repeat."""
        keys = ("loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g")
        full = {"step": self.trainer.step_count, **{key: row[key] for key in keys}}
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
        """The checkpoint, with the number of metrics lines that belong to it."""
        self.trainer.metrics_lines = len(self.rows)
        tensors, info = self.trainer.state()
        checkpoint.save(self.folder / CHECKPOINT, tensors, info)

    def samples_path(self) -> Path:
        return self.folder / "samples" / f"step_{self.trainer.step_count:06d}.png"

    def draw_samples(self) -> None:
        """The picture of what the generator makes of the fixed latents."""
        self.samples_path().parent.mkdir(exist_ok=True)
        fakes = self.trainer.generate(self.trainer.fixed_latent)
        title = f"step {self.trainer.step_count}"
        draw(fakes, self.trainer.data.values, self.samples_path(), title)


def draw(samples: np.ndarray, real: np.ndarray, path: Path, title: str = "") -> None:
    """Images as a grid, points beside as many real ones."""
    if samples.ndim == 4:
        pictures.image_grid(samples, path)
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
            previous[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: whoever started it decides
        yield requests
        return
    try:
        yield requests
    finally:
        for stopped, handler in previous.items():
            signal.signal(stopped, handler)

"""Load the generator of a run from its folder: of its last step, its best, or a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import random
from ..engine.device import get_device, use_device
from ..gan.networks import build_networks
from ..gan.players import Players
from ..utils.code_files import is_code
from . import checkpoint
from .config import Config
from .own_code import load_code_of_run
from .resume import Code, checkpoint_errors, load_trainer, read_run
from .run_folder import BEST, CHECKPOINT, RunError, read_config, read_options
from .sampler import Sampler
from .snapshots import PARTS, TENSORS, snapshot_path, snapshot_steps
from .state import MAY_DIFFER, OWN_TENSORS, check_sampler_state, merge_config

BEST_STEP = "best"  # in place of a step's number


def load_sampler(
    folder: Path,
    step: int | str | None = None,
    code: Code | None = None,
    device: str | None = None,
) -> Sampler:
    """Return the generator of a run in the state of its checkpoint, or of a snapshot.

        samples = load_sampler(Path("runs/001-glyphs-mlp")).sample(100, seed=7)

    No data are needed, and no loss from a file of the user's own. The checkpoint of an older
    version does not describe its data; then they are loaded.

    Args:
        folder: the run's folder.
        step: the step of the snapshot, or "best" for the one with the best quick measure; None, or
            that of the checkpoint: the checkpoint.
        code: by option, "model", the name FILE.py:NAME of the run's own code.
        device: the device that runs the generator; None: the one of the training.

    Raises:
        RunError: the folder holds no run, or an incomplete one, or no snapshot of that step.
        CheckpointError: the checkpoint or snapshot cannot be read, or belongs to another run.
    """
    has_own_loss = is_code(read_options(folder).get("loss"))
    load_code_of_run(folder, code, ("model",) if has_own_loss else ("model", "loss"))
    if step == BEST_STEP:
        _check_best(folder)
        return _load_snapshot(folder, folder / BEST, None, device)
    if isinstance(step, str):
        raise ValueError(f"step = {step!r}: a number, or {BEST_STEP!r}, is accepted")
    if step is not None and snapshot_path(folder, step).exists():
        return _load_snapshot(folder, snapshot_path(folder, step), step, device)
    config, (tensors, info) = read_run(folder)
    if step is not None and step != info["step"]:
        raise RunError(_describe_missing(folder, step, info["step"]))
    if "data" not in info:
        trainer = load_trainer(folder, code=code)
        trainer.sampler.step = trainer.step_count
        return trainer.sampler
    players_tensors = {k: x for k, x in tensors.items() if k not in OWN_TENSORS}
    with checkpoint_errors(folder / CHECKPOINT):
        random.Generator().set_state(info["random"])  # raises for a state that does not fit
        players = _build_players(config, info["data"], device)
        with use_device(players.device):
            players.load_state(players_tensors)
    return _sampler(players, tensors, info)


def _check_best(folder: Path) -> None:
    """Raise RunError where a run keeps no best step, with the reason."""
    if (folder / BEST).exists():
        return
    config, (_, info) = read_run(folder)
    every = config.evaluate_every
    reason = f"it is of an older version, or has moved without {BEST}"
    if every and info["step"] < every:
        reason = f"samples are measured every {every} steps, and it is at step {info['step']}"
    elif not config.holdout:
        reason = "it holds no data out (holdout 0) to measure its samples by"
    raise RunError(f"{folder} keeps no best step: {reason}")


def _load_snapshot(folder: Path, path: Path, step: int | None, device: str | None) -> Sampler:
    """Return the generator of a run in the state of a snapshot, which must be of the step."""
    config = read_config(folder)
    tensors, info = checkpoint.load(path)
    with checkpoint_errors(path):
        own = {name: x for name, x in config.as_dict().items() if name in MAY_DIFFER}
        info["config"] = {**own, **info["config"]}  # which a snapshot leaves out
        config = merge_config(config, check_sampler_state(tensors, info), has_digest=True)
        if step is not None and info["step"] != step:
            raise ValueError(f"it is of step {info['step']}")
        players = _build_players(config, info["data"], device)
        parts = {name: x for name, x in players.parts().items() if name in PARTS}
        unknown = [k for k in tensors if k.split(".")[0] not in parts and k not in TENSORS]
        if unknown:
            raise ValueError(f"unknown {unknown} in the state to load")
        for name, owner in parts.items():
            state = {k: x for k, x in tensors.items() if k.startswith(f"{name}.")}
            owner.load_state_dict({k.removeprefix(f"{name}."): x for k, x in state.items()})
        players.read_growth()
    return _sampler(players, tensors, info)


def _build_players(config: Config, data: Mapping[str, Any], device: str | None) -> Players:
    """Return the players of a run without its data, which the checkpoint describes.

    A loss of the user's own, which no sample needs, is replaced by the default one.
    """
    config = config.replace(device=device or config.device)
    if is_code(config.loss):
        config = config.replace(loss=Config.loss, smooth=1.0)
    with random.use_generator(random.Generator()), use_device(get_device(config.device)):
        classes = None if data["labels"] is None else data["classes"]
        return Players(config, *build_networks(config, tuple(data["shape"]), classes))


def _sampler(
    players: Players, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]
) -> Sampler:
    data, points = info["data"], tensors.get("points")
    return Sampler(
        *(players, tuple(data["shape"]), data["classes"], data["scale"], points),
        class_names=data["class_names"],
        step=info["step"],
    )


def _describe_missing(folder: Path, step: int, last: int) -> str:
    """Return a message that there is no snapshot of a step, with the nearest ones."""
    steps = sorted({*snapshot_steps(folder), last})
    nearest = [*[x for x in steps if x < step][-1:], *[x for x in steps if x > step][:1]]
    verb = "is" if len(nearest) == 1 else "are"
    return (
        f"{folder} has no snapshot of step {step}; the nearest {verb}"
        f" {' and '.join(map(str, nearest))} (of {', '.join(map(str, steps))}; `minigan train"
        " --keep` sets how many are kept)"
    )

"""Run an experiment seed by seed in a folder; go on where an earlier process was stopped.

DIR/plan.json           what is measured, and by which code; a folder goes on only with the same
DIR/seeds/CASE-S.json   the values of a case for seed S, and CASE-S.npz what the figure needs
DIR/results.json        all values, their means and standard errors; written last but for
DIR/table.md, figure.png
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.random import fork_rng
from ..evaluation.estimate import Estimate
from ..kernels.runtime.files import atomic_write
from ..seeds import map_seeds
from ..utils import strict_json
from ..utils.locks import LockedError, file_lock
from .experiment import Case, CaseResult, Experiment
from .table import markdown, missed_goals

PLAN, RESULTS, TABLE, FIGURE, SEEDS, LOCK = (
    "plan.json",
    "results.json",
    "table.md",
    "figure.png",
    "seeds",
    ".lock",
)


def reproduce(
    name: str,
    experiment: Experiment,
    seeds: Sequence[int],
    folder: Path,
    workers: int | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Measure each case for each seed; write and return the results.

    Each seed's result is written as soon as it is known. A process that is killed loses the seeds
    that it was at, and the next one on the same folder goes on with the others.

    Args:
        name: of the experiment.
        experiment: what to measure.
        seeds: integers in [0, 2**64); a case that names fewer seeds takes the first ones.
        folder: is created, or holds the beginning of the same experiment.
        workers: the number of processes, as in `map_seeds`.
        say: called with a line on what was found in the folder.

    Raises:
        ValueError: the folder has results, or the beginning of something else; no seeds.
        SeedError: a case failed for a seed.
    """
    if not seeds:
        raise ValueError("no seeds: at least one is needed")
    plan = _plan(name, experiment)
    with _open_folder(folder, plan):
        done = [
            _seed_path(folder, case, seed).exists()
            for case in experiment.cases
            for seed in _seeds_of(experiment.cases[case], seeds)
        ]
        if any(done):
            say(f"{folder}: {sum(done)} of {len(done)} parts are done; going on with the others")
        for case_name, case in experiment.cases.items():
            own = [
                s for s in _seeds_of(case, seeds) if not _seed_path(folder, case_name, s).exists()
            ]
            work = partial(_measure_and_save, case, folder, case_name)
            if own:
                map_seeds(work, own, workers, label=f"{name}, {case_name}")
        return _finish(name, experiment, seeds, folder, plan)


def _seeds_of(case: Case, seeds: Sequence[int]) -> Sequence[int]:
    return seeds[: case.seeds]


def _plan(name: str, experiment: Experiment) -> dict[str, Any]:
    """Return what decides over the numbers of an experiment, in JSON types."""
    from .. import __version__
    from ..kernels.runtime.cpu.sources import source_hash

    cases = {case_name: dict(case.config) for case_name, case in experiment.cases.items()}
    code = {"version": __version__, "kernels": source_hash(), "package": _package_hash()}
    plan = {"experiment": name, **code, "cases": cases}
    # Tuples become lists, as they are in the file that the plan is compared with.
    return dict(strict_json.loads(strict_json.dumps(plan)))


def _package_hash() -> str:
    """Return a hash of all modules of the package."""
    from ..kernels.runtime.cpu.sources import files_hash

    package = Path(__file__).parents[1]
    return files_hash("", sorted(package.rglob("*.py")), package)


# ------------------------------------------------------------------------------------- the folder
@contextmanager
def _open_folder(folder: Path, plan: Mapping[str, Any]) -> Iterator[None]:
    """Create the folder, or check that it holds the beginning of the same plan; hold its lock."""
    path = folder / PLAN
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder; give another --out")
    if (folder / RESULTS).exists():
        raise ValueError(f"{folder} has results already; give another --out")
    if folder.exists() and not path.exists() and any(map(_is_foreign, folder.iterdir())):
        raise ValueError(f"{folder} is not empty and has no {PLAN}; give another --out")
    (folder / SEEDS).mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(folder / LOCK):
            if path.exists():
                _check_same(path, plan)
            else:
                _write_json(path, plan)
            yield
    except LockedError:
        raise ValueError(f"another process works in {folder}; give another --out") from None


def _is_foreign(path: Path) -> bool:
    """Return whether a file is not what a process leaves that was killed at its start."""
    return path.name not in (LOCK, SEEDS) and path.suffix != ".tmp"


def _check_same(path: Path, plan: Mapping[str, Any]) -> None:
    """Raise ValueError unless the file holds the same plan; the message names what differs."""
    try:
        earlier = dict(strict_json.loads(path.read_bytes()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; give another --out") from None
    differing = [key for key in plan if earlier.get(key) != plan[key]]
    if differing:
        raise ValueError(
            f"{path.parent} was begun with other {', '.join(differing)} than this run has; give"
            " another --out, or remove it to start anew"
        )


def _seed_path(folder: Path, case_name: str, seed: int) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", case_name.lower()).strip("-")
    return folder / SEEDS / f"{slug}-{seed}.json"


def _measure_and_save(case: Case, folder: Path, case_name: str, seed: int) -> None:
    """Measure a case for a seed and write its files, the values last: they say that it is done."""
    start = time.perf_counter()
    with fork_rng(seed):
        outcome = case.measure(case.config, seed)
    seconds = time.perf_counter() - start
    path = _seed_path(folder, case_name, seed)
    if outcome.arrays:
        arrays: dict[str, Any] = dict(outcome.arrays)
        atomic_write(path.with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))
    values = {key: float(value) for key, value in outcome.values.items()}
    _write_json(path, {"seed": seed, "seconds": seconds, "values": values})


def _write_json(path: Path, value: Any) -> None:
    text = strict_json.dumps(strict_json.with_null(value), indent=1) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))


# ------------------------------------------------------------------------------------ the results
def _finish(
    name: str,
    experiment: Experiment,
    seeds: Sequence[int],
    folder: Path,
    plan: Mapping[str, Any],
) -> dict[str, Any]:
    """Read all seeds; write figure, table and, at last, results.json."""
    results = [
        _read_case(folder, case_name, case, _seeds_of(case, seeds))
        for case_name, case in experiment.cases.items()
    ]
    document = {
        **plan,
        "about": experiment.about,
        "seeds": list(seeds),
        "machine": _machine(),
        "cases": {result.name: _summary(result) for result in results},
    }
    document["missed_goals"] = missed_goals(experiment, document)
    experiment.draw(results, folder / FIGURE)
    table = markdown(experiment, document) + "\n"
    atomic_write(folder / TABLE, lambda file: file.write(table.encode()))
    _write_json(folder / RESULTS, document)
    return document


def _read_case(folder: Path, case_name: str, case: Case, seeds: Sequence[int]) -> CaseResult:
    parts, arrays = [], []
    for seed in seeds:
        path = _seed_path(folder, case_name, seed)
        parts.append(strict_json.loads(path.read_bytes()))
        arrays.append(_read_arrays(path.with_suffix(".npz")))
    values = {key: [_number(part["values"][key]) for part in parts] for key in parts[0]["values"]}
    seconds = [part["seconds"] for part in parts]
    return CaseResult(case_name, case.config, list(seeds), values, seconds, arrays)


def _number(value: float | None) -> float:
    """Return a value of a JSON file, where null stands for NaN and infinity."""
    return float("nan") if value is None else float(value)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _summary(result: CaseResult) -> dict[str, Any]:
    estimates = {key: Estimate.of(list(values)) for key, values in result.values.items()}
    return {
        "config": dict(result.config),
        "seeds": list(result.seeds),
        "values": {key: list(values) for key, values in result.values.items()},
        "mean": {key: estimate.mean for key, estimate in estimates.items()},
        "error": {key: estimate.error for key, estimate in estimates.items()},
        "seconds": [round(seconds, 2) for seconds in result.seconds],
    }


def _machine() -> dict[str, Any]:
    """Return processor and versions; every seed is computed on one thread."""
    from ..bench.machine import describe

    keys = ("processor", "vector_bits", "python", "packages")
    machine = describe(threads=1)
    return {key: machine[key] for key in keys}

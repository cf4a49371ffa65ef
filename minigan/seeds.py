"""Run a function once per seed, in worker processes."""

from __future__ import annotations

import operator
import os
import pickle
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import chdir, closing, contextmanager, nullcontext
from typing import Any, TypeVar

from .engine.device import current_device, use_device
from .engine.random import fork_rng
from .utils.progress import progress_bar

T = TypeVar("T")


class SeedError(RuntimeError):
    """The function failed for a seed; the message names it, and `__cause__` is the error."""


def map_seeds(
    function: Callable[[int], T],
    seeds: Iterable[int],
    workers: int | None = None,
    label: str = "seeds",
) -> list[T]:
    """Return [function(seed) for seed in seeds], computed in parallel by processes.

        def train(seed):
            trainer = Trainer(Config(data="ring", seed=seed))
            ...
            return trainer.sample(1000)

        samples = map_seeds(train, range(10))

    Each call begins with `mg.manual_seed(seed)`, on the caller's current device and in its working
    directory. So a result has the same bits for any number of processes and any order of the
    seeds. The caller's random numbers go on as if nothing had been drawn.

    A worker process computes on one thread, so that as many runs as there are cores run at full
    speed. With one worker the calls are made in this process, one after the other. The processes
    are joblib's: within `joblib.parallel_config(backend="dask")` or "ray" the same call runs on a
    cluster. A live line on stderr, if that is a terminal, counts the seeds that are done.

    Args:
        function: takes a seed. It, what it refers to and what it returns must be picklable by
            cloudpickle, as functions of modules, of a script and of a notebook are.
        seeds: integers in [0, 2**64).
        workers: the number of processes; None: the number of cores, or that of a
            `parallel_config`; never more than seeds.
        label: the name in front of the live line.

    Raises:
        TypeError, ValueError: a seed is no integer or out of range; workers is not positive.
        SeedError: the function raised an error for a seed; remaining seeds are given up.
    """
    seeds = [_check_seed(seed) for seed in seeds]
    if workers is not None and operator.index(workers) < 1:
        raise ValueError(f"map_seeds: workers = {workers} is not a positive number of processes")
    count = _worker_count(workers, len(seeds))
    results: list[Any] = [None] * len(seeds)
    calls = _in_processes if count > 1 else _in_this_process
    with (
        _progress(label, len(seeds)) as advance,
        closing(calls(function, seeds, count)) as outcomes,
    ):
        for i, result, error in outcomes:
            if error is not None:
                text = f"seed {seeds[i]}: {type(error).__name__}: {error}"
                raise SeedError(text) from error
            results[i] = result
            advance()
    return results


def _check_seed(seed: Any) -> int:
    """Return the seed as an int; TypeError or ValueError unless it is an integer in [0, 2**64)."""
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"map_seeds: seed {seed!r} is no integer") from None
    if not 0 <= value < 2**64:
        raise ValueError(f"map_seeds: seed {value} is outside [0, 2**64)")
    return value


def _worker_count(workers: int | None, seeds: int) -> int:
    """Return the number of processes to use; 1 means this one.

    The seed of the default random generator belongs to a process, so threads cannot have one each:
    where joblib would use threads (in one of its workers, or by its configuration), it is 1.
    """
    from joblib import effective_n_jobs
    from joblib.parallel import get_active_backend

    backend, configured = get_active_backend()
    if getattr(backend, "supports_sharedmem", False):
        return 1
    return min(effective_n_jobs(workers or configured or -1), max(1, seeds))


Outcome = tuple[int, Any, Exception | None]  # position of the seed, result, error


def _in_this_process(
    function: Callable[[int], Any], seeds: list[int], count: int
) -> Generator[Outcome, None, None]:
    for i, seed in enumerate(seeds):
        try:
            with fork_rng(seed):
                result = function(seed)
        except Exception as error:
            yield i, None, error
        else:
            yield i, result, None


def _in_processes(
    function: Callable[[int], Any], seeds: list[int], count: int
) -> Generator[Outcome, None, None]:
    """Yield outcomes as they come, or all at the end where joblib's backend cannot do better."""
    from joblib import Parallel, delayed
    from joblib.parallel import get_active_backend

    streams = getattr(get_active_backend()[0], "supports_return_generator", False)
    parallel = Parallel(
        n_jobs=count,
        return_as="generator_unordered" if streams else "list",
        max_nbytes=None,  # Arrays are sent as copies, not as read-only memory maps.
    )
    device_and_folder = current_device().name, os.getcwd()
    outcomes = parallel(
        delayed(_call_in_worker)(function, i, seed, *device_and_folder)
        for i, seed in enumerate(seeds)
    )
    try:
        for outcome in outcomes:  # noqa: UP028 (it would close them outside of the block below)
            yield outcome
    finally:
        if streams:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # joblib warns of calls that are given up.
                outcomes.close()


_one_call = threading.Lock()  # held by the one call that runs in this worker process


def _call_in_worker(
    function: Callable[[int], Any], i: int, seed: int, device: str, folder: str
) -> Outcome:
    """Call the function on one thread; an error comes back with its traceback as a note.

    A worker of Dask may have several threads: their calls wait for each other, as the seed, the
    working directory and the number of threads are the process's.
    """
    from .kernels.runtime.cpu.thread_pool import thread_limit

    try:
        # A worker that is used again still has an earlier working directory of the caller; on
        # another machine there may be no such folder.
        working_directory = chdir(folder) if os.path.isdir(folder) else nullcontext()
        with _one_call, working_directory, thread_limit(1), use_device(device), fork_rng(seed):
            return i, function(seed), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        return i, None, _picklable(error)


def _picklable(error: Exception) -> Exception:
    """Return the error, or its text as a RuntimeError if it does not survive pickling."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[], Any]]:
    with progress_bar(total=total, desc=label, leave=False) as bar:
        yield bar.update

"""The description of the machine, and the number of threads that every contender uses."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from textwrap import fill
from types import ModuleType
from typing import Any

from ..cli.info import processor
from .peers import blas
from .vectors import limits

PACKAGES = ("numpy", "numba", "torch", "jax")
BUSY_LOAD_AVERAGE = 0.5  # At higher loads, other processes disturb the measurements.


def describe(threads: int) -> dict[str, Any]:
    """Return processor, threads, load and versions (None: not installed) in JSON types.

    "limits" are the environment variables that limit the vectors of libraries (`vectors.py`).
    "kernels" is a hash of the sources of minigan's kernels.
    """
    from ..kernels.runtime.cpu.compiler import vector_bytes
    from ..kernels.runtime.cpu.sources import source_hash

    return {
        "processor": processor(),
        "vector_bits": 8 * vector_bytes(),
        "limits": limits(os.environ),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "kernels": source_hash(),
        "python": platform.python_version(),
        "packages": {name: _installed_version(name) for name in PACKAGES},
        "blas": blas.describe(),
        "blas_threads_set": blas.openblas("set_num_threads") is not None,
    }


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def header(machine: dict[str, Any]) -> str:
    """Return the description as a few lines of text."""
    packages = {k: v or "not installed" for k, v in machine["packages"].items()}
    packages["numpy"] += f" ({machine['blas']})"
    versions = ", ".join(f"{name} {number}" for name, number in packages.items())
    blas_note = "" if machine["blas_threads_set"] else "; numpy's BLAS chooses its own number"
    lines = [
        f"processor  {machine['processor']}, {machine['vector_bits']}-bit vectors",
        *_limit_lines(machine["limits"]),
        f"threads    {machine['threads']} for each contender{blas_note}",
        fill(f"versions   Python {machine['python']}, {versions}", 100, subsequent_indent=" " * 11),
        f"kernels    {machine['kernels']}",
    ]
    if machine["load"] is not None and machine["load"] >= BUSY_LOAD_AVERAGE:
        lines.append(f"busy       load {machine['load']} before the start; times will vary")
    return "\n".join(lines)


def _limit_lines(limits: dict[str, str]) -> list[str]:
    """Return a line that says how vectors were limited, if they were."""
    features = "NUMBA_CPU_FEATURES"  # a long list, which NUMBA_CPU_NAME names
    text = ", ".join(f"{name}={value}" for name, value in limits.items() if name != features)
    return [fill(f"limited    {text}", 100, subsequent_indent=" " * 11)] if text else []


@contextmanager
def thread_count(threads: int | None, *peers: ModuleType) -> Iterator[int]:
    """Set the number of threads of minigan, numpy's BLAS and the peers within the block.

    Args:
        threads: the number; None: minigan's default. The block gets the number.
        peers: modules of `bench.peers`.

    Raises:
        ValueError: not between 1 and the number of threads that minigan may use.
    """
    import numba

    from ..kernels.runtime.cpu import thread_pool

    config: Any = numba.config  # Its attributes are set at run time.
    limit = min(config.NUMBA_NUM_THREADS, thread_pool.MAX_THREADS)
    if threads is None:
        threads = thread_pool.threads()
    if not 1 <= threads <= limit:
        raise ValueError(
            f"threads = {threads} is not between 1 and {limit} (NUMBA_NUM_THREADS sets the limit,"
            f" to {thread_pool.MAX_THREADS} at most)"
        )
    libraries = [(numba.get_num_threads, numba.set_num_threads)]
    if blas.openblas("set_num_threads") is not None:
        libraries.append((blas.openblas("get_num_threads"), blas.openblas("set_num_threads")))
    libraries += [(peer.get_threads, peer.set_threads) for peer in peers]
    before = [get_threads() for get_threads, _ in libraries]
    try:
        for _, set_threads in libraries:
            set_threads(threads)
        yield threads
    finally:
        for (_, set_threads), count in zip(libraries, before, strict=True):
            set_threads(count)

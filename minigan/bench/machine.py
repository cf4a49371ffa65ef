"""The machine that is measured: its description, and one number of threads for every contender."""

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

PACKAGES = ("numpy", "numba", "torch", "jax")
BUSY = 0.5  # a load average that says that others are at work


def describe(threads: int) -> dict[str, Any]:
    """Processor, threads, load, versions (None: not installed), in types that JSON knows.

    "kernels" names the state of minigan's kernel sources.
    """
    from ..kernels.runtime.cpu.compiler import source_hash, vector_bytes

    return {
        "processor": processor(),
        "vector_bits": 8 * vector_bytes(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "kernels": source_hash(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "blas": blas.describe(),
        "blas_threads_set": blas.openblas("set_num_threads") is not None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def header(machine: dict[str, Any]) -> str:
    """The description in a few lines."""
    packages = {k: v or "not installed" for k, v in machine["packages"].items()}
    packages["numpy"] += f" ({machine['blas']})"
    versions = ", ".join(f"{name} {found}" for name, found in packages.items())
    own = "" if machine["blas_threads_set"] else "; numpy's BLAS takes as many as it likes"
    lines = [
        f"processor  {machine['processor']}, {machine['vector_bits']}-bit vectors",
        f"threads    {machine['threads']} for each contender{own}",
        fill(f"versions   Python {machine['python']}, {versions}", 100, subsequent_indent=" " * 11),
        f"kernels    {machine['kernels']}",
    ]
    if machine["load"] is not None and machine["load"] >= BUSY:
        lines.append(f"busy       load {machine['load']} before the start; figures will wander")
    return "\n".join(lines)


@contextmanager
def thread_count(threads: int | None, *peers: ModuleType) -> Iterator[int]:
    """Within: minigan, numpy's BLAS and peers use that many threads; None: minigan's number.

    `peers` are modules of `bench.peers`.

    Raises:
        ValueError: not between 1 and the number of threads that minigan may use.
    """
    import numba

    from ..kernels.runtime.cpu import thread_pool

    config: Any = numba.config  # filled at run time
    most = min(config.NUMBA_NUM_THREADS, thread_pool.MAX_THREADS)
    if threads is None:
        threads = thread_pool.threads()
    if not 1 <= threads <= most:
        raise ValueError(
            f"threads = {threads} is not between 1 and {most} (NUMBA_NUM_THREADS sets the limit,"
            f" to {thread_pool.MAX_THREADS} at most)"
        )
    pools = [(numba.get_num_threads, numba.set_num_threads)]
    if blas.openblas("set_num_threads") is not None:
        pools.append((blas.openblas("get_num_threads"), blas.openblas("set_num_threads")))
    pools += [(peer.get_threads, peer.set_threads) for peer in peers]
    before = [get() for get, _ in pools]
    try:
        for _, set_threads in pools:
            set_threads(threads)
        yield threads
    finally:
        for (_, set_threads), count in zip(pools, before, strict=True):
            set_threads(count)

"""Call a compiled library: its structures, its kernels, and a launch from beginning to end."""

from __future__ import annotations

import ctypes
import operator
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from .memory import Region

PAUSED = 2  # as in pause.h
HANGS = (
    "has computed for {:.1f} s (hang_seconds={:g}) without reaching a barrier or its end: it loops"
    " for ever, or waits for a thread that runs later. Here blocks run one after another, and the"
    " threads of a block up to their next barrier; on a GPU too a block that waits for a later one"
    " may wait for ever, if a GPU cannot hold both at a time"
)


@dataclass(frozen=True)
class Counts:
    """Memory transactions of the warps of a checked emulator's launches.

    An access is a load or store instruction of one warp. Global memory is accessed in sectors of 32
    bytes. An access to shared memory takes one pass (wavefront), plus one for each bank conflict;
    there are 32 banks of 4 bytes. The ideal counts are those of the same bytes without gaps.
    """

    accesses: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    shared_accesses: int = 0
    passes: int = 0
    ideal_passes: int = 0
    barriers: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(operator.add, self.__dict__.values(), other.__dict__.values()))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*map(operator.sub, self.__dict__.values(), other.__dict__.values()))


class Launch(ctypes.Structure):
    """`Launch` of block.h."""

    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint64),
        ("regions", ctypes.c_uint64),
        ("region", ctypes.POINTER(Region)),
        ("order", ctypes.c_void_p),
    )


class CountsStructure(ctypes.Structure):
    """`Counts` of block.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in Counts.__dataclass_fields__)


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel and its parameters."""

    run: Any
    sizes: tuple[int, ...]  # bytes of each parameter; for an array, minus the bytes of an element
    names: tuple[str, ...]


def read_kernels(library: Any) -> dict[str, Kernel]:
    """Declare the functions of a library, and return its kernels by name."""
    library.emulator_message.restype = ctypes.c_char_p
    library.emulator_output.restype = ctypes.c_char_p
    library.emulator_progress.restype = ctypes.c_int64
    library.emulator_counts.restype = ctypes.POINTER(CountsStructure)
    library.emulator_kernels.restype = ctypes.c_char_p
    kernels: dict[str, Kernel] = {}
    for line in library.emulator_kernels().decode().splitlines():
        kernel, *names = line.split(" ")
        sizes = (ctypes.c_int * (len(names) + 1))()
        count = library[f"emulator_sizes_{kernel}"](sizes)
        kernels[kernel] = Kernel(
            library[f"emulator_run_{kernel}"], tuple(sizes[:count]), tuple(names)
        )
    return kernels


def run_to_end(
    library: Any, kernel: Kernel, launch: Launch, table: Any, hang_seconds: float
) -> int:
    """Run a launch to its end; return 0, or 1 where it has failed.

    The launch pauses several times a second. Then Python handles signals, so that Ctrl-C ends it.
    """
    try:
        status = kernel.run(ctypes.byref(launch), table)
        progress, since = None, 0.0
        while status == PAUSED:
            now, before = time.thread_time(), progress
            progress = library.emulator_progress()
            if progress != before:
                since = now
            elif now - since >= hang_seconds:
                text = HANGS.format(now - since, hang_seconds)
                library.emulator_give_up(text.encode())
                return 1
            status = library.emulator_resume()
    except BaseException:
        library.emulator_abandon()
        raise
    return int(status)


def error_line(library: Any) -> str:
    """Return the line of the source where the error is, as ":12"; "" if it is unknown."""
    tool = shutil.which("addr2line")
    library.emulator_error_offset.restype = ctypes.c_uint64
    for latest in (0, 1):
        offset = library.emulator_error_offset(latest)
        if not (tool and offset):
            continue
        process = subprocess.run(
            [tool, "-i", "-e", library._name, hex(offset - 1)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = re.findall(r"\.cu:(\d+)", process.stdout)
        if lines:
            return f":{lines[0]}"
    return ""

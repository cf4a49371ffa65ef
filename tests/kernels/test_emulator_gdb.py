"""gdb stops in a line of a kernel, in the thread that is asked for, and shows its variables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from emulator_helpers import needs_compiler

SOURCE = Path(__file__).with_name("tutorial_kernels.cu")
SCRIPT = f"""
import numpy as np, minigan as mg
module = mg.cuda.compile({str(SOURCE)!r}, build="debug")
x, y = np.arange(1000, dtype="f"), np.ones(1000, "f")
module.saxpy[4, 256](1000, 2.0, x, y)
print("the last:", y[-1])
"""
pytestmark = [
    needs_compiler,
    pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb"),
]


def test_gdb_stops_in_a_line_of_a_kernel():
    line = next(
        number
        for number, text in enumerate(SOURCE.read_text().splitlines(), 1)
        if "y[i] = a * x[i] + y[i];" in text
    )
    commands = [
        "set breakpoint pending on",
        f"break {SOURCE.name}:{line} if blockIdx.x == 1 && threadIdx.x == 3",
        "run",
        "print i",
        "print x[i]",
        "print threadIdx",
        "delete",
        "continue",
    ]
    arguments = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-q", "-nx", "-batch", *arguments, "--args", sys.executable, "-c", SCRIPT],
        env={**os.environ, "DEBUGINFOD_URLS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "ptrace: Operation not permitted" in done.stderr + done.stdout:
        pytest.skip("this system does not let gdb trace a process")
    out = done.stdout
    assert "saxpy (n=1000, a=2, x=0x" in out, out + done.stderr
    assert f"{SOURCE.name}:{line}\n{line}\t        y[i] = a * x[i] + y[i];" in out, out
    assert "$1 = 259\n$2 = 259\n$3 = {x = 3, y = 0, z = 0}" in out, out
    assert "the last: 1999.0" in out, out

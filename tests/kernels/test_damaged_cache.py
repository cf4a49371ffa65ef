"""What lies damaged in the cache of compiled kernels is compiled again, and replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from emulator_helpers import needs_compiler

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "a bit in the middle": lambda content: flipped(content, len(content) // 2),
    "a bit near the end": lambda content: flipped(content, len(content) - 20),
    "a bit at the start": lambda content: flipped(content, 0),
}

KERNEL = """
from minigan.kernels.runtime.cpu import compiler
compiled = []
compiler.compile_listener = compiled.append

@compiler.jit
def add(x, y):
    return x + y

print(add(1, 2), add(1.5, 2.0), len(compiled))
"""

SOURCE = """
extern "C" __global__ void twice(float* x) {
    x[threadIdx.x] *= 2;
}
"""
LAUNCH = """
import pathlib, sys
import numpy as np
from minigan.kernels.runtime.emulator.emulator import Emulator
emulator, compiled = Emulator(), []
emulator.compile_listener = compiled.append
x = emulator.from_numpy(np.array([1, 2], np.float32))
source = pathlib.Path(__file__).with_name("twice.cu")
emulator.launch(source, "twice", np.dtype("float32"), (1,), (2,), [x])
print(*x.tolist(), len(compiled))
"""


def flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


def run(script: Path, cache: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "MINIGAN_CACHE": str(cache)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def damage(files: list[Path], how: Callable[[bytes], bytes]) -> None:
    """As a file that was written so: a new one, not that which a process may have mapped."""
    assert files
    for path in files:
        content = how(path.read_bytes())
        path.unlink()
        path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_kernel_of_the_cpu(suffix: str, tmp_path: Path) -> None:
    """An index that is lost costs one compilation for each signature, as do two lost kernels."""
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(KERNEL)
    assert run(script, cache) == ["3", "3.5", "2"]
    assert run(script, cache) == ["3", "3.5", "0"]
    for name, how in DAMAGE.items():
        damage(sorted(cache.rglob(f"*.{suffix}")), how)
        assert run(script, cache) == ["3", "3.5", "2"], name
    assert run(script, cache) == ["3", "3.5", "0"]


def test_kernels_under_each_others_names(tmp_path: Path) -> None:
    """Two processes that save at one time can leave that: each kernel is whole, but another."""
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(KERNEL)
    run(script, cache)
    first, second = sorted(cache.rglob("*.nbc"))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert run(script, cache) == ["3", "3.5", "2"]
    assert run(script, cache) == ["3", "3.5", "0"]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("suffix", ["so", "sha256"])
def test_a_damaged_library_of_the_emulator(suffix: str, tmp_path: Path) -> None:
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(LAUNCH)
    (tmp_path / "twice.cu").write_text(SOURCE)
    assert run(script, cache) == ["2.0", "4.0", "1"]
    assert run(script, cache) == ["2.0", "4.0", "0"]
    for name in ["empty", "cut in half", "a bit in the middle"]:
        damage(sorted(cache.rglob(f"*.{suffix}")), DAMAGE[name])
        assert run(script, cache) == ["2.0", "4.0", "1"], name
        assert run(script, cache) == ["2.0", "4.0", "0"], name

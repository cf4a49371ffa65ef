"""`minigan bench --vector-bytes`: every library of a limited process uses shorter vectors."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from minigan.bench import vectors
from minigan.cli import main
from minigan.kernels.runtime.cpu.compiler import vector_bytes

X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="not x86")
SCRIPT = """
import numpy as np
import minigan as mg
from minigan.bench import machine
from minigan.kernels.runtime.cpu.simd import REGISTERS, VECTOR_BYTES

description = machine.describe(1)
x = np.arange(12, dtype=np.float32).reshape(3, 4)
print(VECTOR_BYTES, REGISTERS, description["blas"].split()[-1], description["vector_bits"])
print(np.array_equal((mg.tensor(x) @ mg.tensor(x.T)).numpy(), x @ x.T))
print(machine.header(description))
"""


@X86
@pytest.mark.parametrize(("size", "core"), [(16, "Nehalem"), (32, "Haswell")])
def test_a_limited_process_uses_shorter_vectors(size, core):
    if size >= vector_bytes():
        pytest.skip("vectors are not longer here")
    environment = vectors.limited_environment(size, vector_bytes())
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, second, *header = run.stdout.splitlines()
    assert first == f"{size} 16 {core} {8 * size}"
    assert second == "True"
    assert "Warning" not in run.stderr
    limited = " ".join(header)
    assert f"{8 * size}-bit vectors" in limited
    assert f"OPENBLAS_CORETYPE={core}" in limited
    assert "NUMBA_CPU_FEATURES" not in limited


@X86
def test_the_flags_of_xla_are_added_to_those_that_are_set(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    environment = vectors.limited_environment(32, 64)
    assert environment["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false --xla_cpu_max_isa=AVX2"


@X86
@pytest.mark.parametrize("folder", [None, "here"])
def test_compiled_code_of_pytorch_is_kept_by_the_size_of_vectors(folder, monkeypatch):
    # torch.compile ran code that it had compiled for 64 bytes in a process with 32, and crashed.
    monkeypatch.delenv(vectors.INDUCTOR_FOLDER, raising=False)
    if folder is not None:
        monkeypatch.setenv(vectors.INDUCTOR_FOLDER, folder)
    folders = [vectors.limited_environment(x, 64)[vectors.INDUCTOR_FOLDER] for x in (16, 32)]
    assert len(set(folders)) == 2
    assert all(Path(x).name.startswith(folder or "torchinductor_") for x in folders)
    assert vectors.INDUCTOR_FOLDER not in vectors.limits(vectors.limited_environment(32, 64))


@X86
def test_a_user_without_a_name_has_a_folder(monkeypatch):
    monkeypatch.delenv(vectors.INDUCTOR_FOLDER, raising=False)

    def no_name():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", no_name)
    folder = vectors.limited_environment(16, 64)[vectors.INDUCTOR_FOLDER]
    assert Path(folder).name == f"torchinductor_{os.getuid()}_16_bytes"


@X86
def test_a_limited_process_that_crashes_is_an_error(monkeypatch, tmp_path, capsys):
    if vector_bytes() == 16:
        pytest.skip("vectors are not longer here")
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    assert main(["bench", "matmul", "--vector-bytes", "16"]) == 2
    assert "the process with vectors of 16 bytes was ended by SIGSEGV" in capsys.readouterr().err


def test_the_native_size_is_no_limit(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    before = vectors.limits(vectors.limited_environment(vector_bytes(), vector_bytes()))
    assert "OPENBLAS_CORETYPE" not in before


@pytest.mark.parametrize(
    ("size", "native", "words"),
    [(8, 64, "8 is not one of 16, 32, 64"), (64, 32, "64: the vectors in use here have 32 bytes")],
)
def test_a_size_that_is_not_there(size, native, words):
    with pytest.raises(ValueError, match=words):
        vectors.limited_environment(size, native)


def test_the_command_says_which_sizes_there_are(capsys):
    assert main(["bench", "matmul", "--vector-bytes", "12"]) == 2
    assert "12 is not one of 16, 32, 64" in capsys.readouterr().err


@X86
def test_the_command_measures_in_a_limited_process(capfd):
    if vector_bytes() == 16:
        pytest.skip("vectors are not longer here")
    words = ["bench", "--op", "relu", "--threads", "1", "--repeats", "1", "--vector-bytes", "16"]
    assert main(words) == 0
    assert "relu" in capfd.readouterr().out
    # --tasks reaches that process.
    words = ["bench", "step", "--tasks", "ring,rnig", "--vector-bytes", "16"]
    assert main(words) == 2
    assert "unknown task 'rnig'" in capfd.readouterr().err

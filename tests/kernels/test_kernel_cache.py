"""The cache of compiled kernels: stale kernels, pruning, and disks that are full or read-only."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from emulator_helpers import needs_compiler

from minigan.kernels.runtime import cache
from minigan.kernels.runtime.cpu import sources
from minigan.kernels.runtime.cpu.sources import KERNELS_FOLDER, source_hash

SCRIPT = """
import sys
from pathlib import Path
from minigan.kernels.runtime.cpu import compiler
compiled = []
compiler.compile_listener = compiled.append

@compiler.jit
def add(x, y):
    return x + y + OFFSET

print(add(1, 2), len(compiled))
"""


def run(script: Path, folder: Path, file_bytes: int | None = None) -> tuple[list[str], str]:
    """Run a script with a cache folder; `file_bytes` limits the size of files, as a full disk."""

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "MINIGAN_CACHE": str(folder)},
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


# -------------------------------------------------------------------------------- what is hashed
def test_a_kernel_depends_on_its_imports_and_on_nothing_else() -> None:
    names = {
        family: {str(f.relative_to(KERNELS_FOLDER)) for f in sources.sources(path)}
        for family in ("elementwise", "norm", "conv2d")
        if (path := KERNELS_FOLDER / family / "cpu.py")
    }
    assert {"elementwise/cpu.py", "elementwise/functions.py", "runtime/cpu/simd.py"} <= names[
        "elementwise"
    ]
    assert {"matmul/product.py", "reduce/cpu.py", "shape/cpu.py"} <= names["norm"]
    assert {"conv2d/product.py", "conv2d/tables.py", "matmul/micro.py"} <= names["conv2d"]
    for files in names.values():
        assert not {f for f in files if "cuda" in f or "emulator" in f or "optimization" in f}
        assert not files & {"runtime/files.py", "runtime/cache.py", "random/cpu.py"}


def test_every_compiled_module_has_the_sources_of_what_it_calls() -> None:
    """Of the functions of other kernel modules among its globals: none is missing."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not name.startswith("minigan.kernels.") or not name.endswith(".cpu") or not file:
            continue
        known = {str(path) for path in sources.sources(Path(file).resolve())}
        for value in vars(module).values():
            function = getattr(value, "py_func", None)
            if function is not None and Path(function.__code__.co_filename).is_file():
                assert str(Path(function.__code__.co_filename).resolve()) in known


def test_no_host_module_has_a_compiled_function() -> None:
    for path in sources.HOST_MODULES:
        assert "jit" not in path.read_text("utf-8")


def test_the_hash_changes_with_a_file_that_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels"
    (folder / "a").mkdir(parents=True)
    (folder / "runtime").mkdir()
    monkeypatch.setattr(sources, "KERNELS_FOLDER", folder)
    texts = {
        "a/cpu.py": "from . import helper\nfrom ..runtime.tools import (\n    one,  # 1\n)\n",
        "a/helper.py": "x = 1\n",
        "runtime/tools.py": "one = two = 1\n",
        "a/cuda.py": "y = 1\n",
        "a/README.md": "text\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)

    def value() -> str:
        sources.sources.cache_clear()
        source_hash.cache_clear()
        return source_hash(folder / "a" / "cpu.py")

    first = value()
    for name, text in texts.items():
        (folder / name).write_text(text + "# changed\n")
        depends = name in ("a/cpu.py", "a/helper.py", "runtime/tools.py")
        assert (value() != first) is depends, name
        (folder / name).write_text(text)
    assert value() == first
    sources.sources.cache_clear()
    source_hash.cache_clear()


def test_an_edited_script_is_compiled_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("OFFSET", "0"))
    assert run(script, tmp_path / "cache") == (["3", "1"], "")
    assert run(script, tmp_path / "cache") == (["3", "0"], "")
    script.write_text(SCRIPT.replace("OFFSET", "5"))
    assert run(script, tmp_path / "cache") == (["8", "1"], "")


# -------------------------------------------------------------------------------------- pruning
def _age(path: Path, days: float) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


def test_files_that_were_not_used_for_long_are_pruned(tmp_path: Path) -> None:
    names = ["0123456789abcdef", "fedcba9876543210", "0" * 16, "notes", "0123456789abcde"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernel.nbc").write_bytes(b"x")
        _age(tmp_path / name, cache.MAX_UNUSED_DAYS + 1)
    cache.mark_used(tmp_path / names[1], tmp_path / "missing")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / ("a" * 16)).symlink_to(outside)
    cache.prune(tmp_path, "[0-9a-f]{16}")
    left = {path.name for path in tmp_path.iterdir()}
    assert names[0] not in left
    assert names[2] not in left
    assert {names[1], "notes", names[4], "outside", "a" * 16} <= left
    cache.prune(tmp_path / "missing", ".*")


@pytest.mark.slow
def test_a_new_folder_prunes_old_ones_and_use_keeps_them(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(SCRIPT.replace("OFFSET", "0"))
    run(script, folder)
    (first,) = (folder / "kernels").iterdir()
    old = folder / "kernels" / ("0" * 16)
    old.mkdir()
    _age(old, cache.MAX_UNUSED_DAYS + 1)
    _age(first, cache.MAX_UNUSED_DAYS + 1)
    assert run(script, folder) == (["3", "0"], "")  # marks its folder as used
    assert old.is_dir()  # as nothing was compiled
    script.write_text(SCRIPT.replace("OFFSET", "1"))
    assert run(script, folder) == (["4", "1"], "")
    assert not old.exists()
    assert first.is_dir()


def test_a_folder_that_is_removed_while_a_process_uses_it(tmp_path: Path) -> None:
    """It is created again, without a warning, as only time is lost."""
    script, folder = tmp_path / "script.py", tmp_path / "cache"
    removal = "import shutil\nshutil.rmtree(Path(sys.argv[0]).with_name('cache'))\n"
    text = SCRIPT.replace("OFFSET", "0")
    script.write_text(text.replace("print", f"add(1.5, 2)\n{removal}print"))
    assert run(script, folder) == (["3", "2"], "")
    script.write_text(script.read_text().replace(removal, ""))
    assert len(list((folder / "kernels").rglob("*.nbc"))) == 1


# ------------------------------------------------------------------------- full and read-only disks
def test_a_cache_that_is_a_file_is_reported_once(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(SCRIPT.replace("OFFSET", "0").replace("print", "add(1.5, 2)\nprint"))
    folder.write_text("a file")
    output, error = run(script, folder)
    assert output == ["3", "2"]
    assert error.count("compiled kernels cannot be cached in") == 1
    assert "Not a directory" in error
    assert "MINIGAN_CACHE" in error
    assert folder.read_text() == "a file"


def test_a_full_disk_is_reported_once_and_leaves_no_file(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(SCRIPT.replace("OFFSET", "0").replace("print", "add(1.5, 2)\nprint"))
    output, error = run(script, folder, file_bytes=100)
    assert output == ["3", "2"]
    assert error.count("compiled kernels cannot be cached in") == 1
    assert "File too large" in error
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "kernels.lock"]
    assert run(script, folder) == (["3", "2"], "")
    assert run(script, folder) == (["3", "0"], "")


def test_a_read_only_cache_is_used(tmp_path: Path) -> None:
    """Nothing is compiled and nothing is reported, as in a container with a read-only cache."""
    script, folder = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(SCRIPT.replace("OFFSET", "0"))
    run(script, folder)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert run(script, folder, file_bytes=0) == (["3", "0"], "")
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


LAUNCH = """
import pathlib
import numpy as np
from minigan.kernels.runtime.emulator.emulator import Emulator
emulator, compiled = Emulator(), []
emulator.compile_listener = compiled.append
x = emulator.from_numpy(np.array([1, 2], np.float32))
source = pathlib.Path(__file__).with_name("twice.cu")
emulator.launch(source, "twice", np.dtype("float32"), (1,), (2,), [x])
print(*x.tolist(), len(compiled))
"""


@pytest.mark.slow
@needs_compiler
def test_emulator_libraries_are_pruned_and_a_bad_cache_is_reported(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(LAUNCH)
    source = tmp_path / "twice.cu"
    source.write_text('extern "C" __global__ void twice(float* x) {\n    x[threadIdx.x] *= 2;\n}\n')
    assert run(script, folder) == (["2.0", "4.0", "1"], "")
    old = sorted((folder / "emulator").iterdir())
    assert len(old) == 2
    for path in old:
        _age(path, cache.MAX_UNUSED_DAYS + 1)
    assert run(script, folder) == (["2.0", "4.0", "0"], "")  # marks both as used
    source.write_text(source.read_text() + "// changed\n")
    assert run(script, folder) == (["2.0", "4.0", "1"], "")
    assert all(path.exists() for path in old)
    for path in old:
        _age(path, cache.MAX_UNUSED_DAYS + 1)
    source.write_text(source.read_text() + "// again\n")
    assert run(script, folder) == (["2.0", "4.0", "1"], "")
    assert not any(path.exists() for path in old)
    file = tmp_path / "file"
    file.write_text("a file")
    output, error = run(script, file)
    assert output == ["2.0", "4.0", "1"]
    assert error.count("compiled kernels cannot be cached in") == 1

"""Compile a `.cu` file with g++ into a shared library that exports its kernels."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import llvmlite.binding as llvm

from ..cuda.launcher import KernelError, source_text
from ..files import atomic_write, cache_root

EMULATOR_HEADERS = Path(__file__).resolve().parent
# Contraction is off, as for NVRTC: a multiplication and an addition are fused only by `fma`.
FLAGS = (
    *("-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-w", "-DEMULATOR"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
BUILDS = {
    "fast": ("-O3", "-march=native"),
    # With these two optimisations disabled, each access has its own return address, and so a line.
    "checked": ("-O1", "-g", "-DCHECKED", "-fno-ipa-icf", "-fno-crossjumping"),
}


def compile_library(compiler: str, source: Path, flags: list[str], path: Path) -> None:
    """Compile a `.cu` file into a shared library at `path`.

    The kernels' names and parameters are found in the preprocessed text, where NAMES_ONLY keeps
    the keyword __global__; then functions that launch them are added to the text.
    """
    names = [re.sub(r"-DCHECKED", "", flag) for flag in flags] + ["-DNAMES_ONLY", "-E", "-P"]
    with TemporaryDirectory() as folder:
        text = source_text(source)
        file = Path(folder, "kernel.cpp")
        file.write_text(text)
        include = f"-I{EMULATOR_HEADERS}"
        preprocessed = _run([compiler, *filter(None, names), include, str(file)], source)
        kernels = re.findall(
            r'(extern\s+"C"\s+)?__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?'
            r"(\w+)\s*\(([^)]*)\)",
            preprocessed,
        )
        for linkage, kernel, _ in kernels:
            if not linkage and not re.search(r'extern\s+"C"\s*\{[^}]*__global__', text):
                raise KernelError(
                    f'{source}: kernel {kernel!r} needs extern "C" before it: a launch finds it by'
                    " its unmangled name"
                )
        file.write_text(text + _entry_points([kernel[1:] for kernel in kernels]))
        library = Path(folder, "kernel.so")
        _run([compiler, *flags, include, str(file), "-o", str(library)], source)
        content = library.read_bytes()
        atomic_write(path, lambda out: out.write(content))
        atomic_write(digest_path(path), lambda out: out.write(_digest(content)))


def is_whole(path: Path) -> bool:
    """Return whether a library exists and has the content that was compiled.

    The loader maps a file without a check: a missing page would kill the process when it is used.
    """
    try:
        return digest_path(path).read_bytes() == _digest(path.read_bytes())
    except OSError:
        return False


def digest_path(library: Path) -> Path:
    """Return the path of the file with the digest of a library."""
    return library.with_name(library.name + ".sha256")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _entry_points(kernels: list[tuple[str, ...]]) -> str:
    """Return C++ functions that launch each (kernel, parameters), and one that lists them."""
    lines = [
        '\n#line 1 "entry points"',
        'extern "C" {',
        '#define EXPORT __attribute__((visibility("default")))',
    ]
    kernel_lines = []
    for kernel, parameters in kernels:
        names = [re.split(r"[\s*&]+", p.strip())[-1] for p in parameters.split(",") if p.strip()]
        quoted = ", ".join([*(f'"{n}"' for n in names), "nullptr"])
        kernel_lines.append(" ".join([kernel, *names]))
        lines += [
            f"static const char* const names_{kernel}[] = {{{quoted}}};",
            f"EXPORT int emulator_run_{kernel}(const emulator::Launch* launch, void** table) {{",
            f"    emulator::parameters = names_{kernel};",
            f"    return emulator::Entry<{kernel}>::run(*launch, table);",
            "}",
            f"EXPORT int emulator_sizes_{kernel}(int* sizes) {{",
            f"    return emulator::Entry<{kernel}>::sizes(sizes);",
            "}",
        ]
    names_text = "\\n".join(kernel_lines)
    return "\n".join(
        [*lines, f'EXPORT const char* emulator_kernels() {{ return "{names_text}"; }}', "}\n"]
    )


def _run(command: list[str], source: Path) -> str:
    """Return what the command prints; KernelError with the first error message if it fails."""
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        output = process.stderr.strip() or f"it ended with status {process.returncode}"
        first = next((line for line in output.splitlines() if "error" in line), output)
        # g++ detects an unclosed parenthesis only in the entry points, after the file's last line.
        if int((re.findall(r"\.cu:(\d+)", first) or [0])[0]) > len(_lines(source)):
            first = re.sub(r"\.cu:\d+:\d+", ".cu", first)
        raise KernelError(f"{source}: {command[0]} cannot compile it: {first.strip()}")
    return process.stdout


def _lines(source: Path) -> list[str]:
    return source.read_text().splitlines() if source.is_file() else []


@cache
def find_compiler() -> str:
    """Return the path of a C++ compiler: $CXX, g++ or clang++; KernelError if there is none."""
    cxx = os.environ.get("CXX")
    for name in [cxx] if cxx else ["g++", "clang++"]:
        path = shutil.which(name)
        if path:
            return path
    raise KernelError(
        f"the cuda-emulator device needs a C++ compiler, and {cxx or 'g++'} is not found:"
        " install g++, or name another one in the variable CXX"
    )


@cache
def compiler_version() -> str:
    """Return the first line of the compiler's --version."""
    return _run([find_compiler(), "--version"], Path("the compiler")).splitlines()[0]


def host() -> str:
    """Return the name and features of the processor, for which -march=native compiles."""
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def emulator_folder() -> Path:
    """Return the cache folder of compiled libraries."""
    return cache_root() / "emulator"


def temporary_folder() -> Path:
    """Return a temporary folder, for use if there is no cache; it is removed at exit."""
    return Path(_temporary().name)


@cache
def _temporary() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="minigan-")

"""Compile a `.cu` file with g++ into a shared library that exports its kernels."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import llvmlite.binding as llvm

from ..cache import mark_used
from ..cuda.launcher import KernelError, digest, source_text
from ..files import atomic_write, cache_root
from .translate import DeviceVariable, translate

EMULATOR_HEADERS = Path(__file__).resolve().parent
# Contraction is off, as for NVRTC: a multiplication and an addition are fused only by `fma`.
FLAGS = (
    *("-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-w", "-DEMULATOR"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
)
BUILDS = {
    "fast": ("-O3", "-march=native"),
    # With these two optimisations disabled, each access has its own return address, and so a line.
    # addr2line of binutils 2.40 does not find all lines of DWARF 5.
    "checked": ("-O1", "-gdwarf-4", "-DCHECKED", "-fno-ipa-icf", "-fno-crossjumping"),
    "debug": ("-O0", "-gdwarf-4", "-g3"),
}
# In the checked build g++ calls a function before each access to memory (hooks.h). It inserts no
# call where a structure is passed by value straight from memory, so all functions are inlined
# (__global__ in language.h), after which the structure is copied; and _refuse_unchecked looks for
# what is left. Structures stay whole, so that a float4 is read as one.
INSTRUMENTATION = (
    *(
        "-fsanitize=thread,bounds,integer-divide-by-zero",
        "-fno-tree-sra",
        "-fno-threadsafe-statics",
    ),
    *("--param=tsan-instrument-func-entry-exit=0", "-fdump-tree-tsan=/dev/stdout"),
)


def compile_library(compiler: str, source: Path, build: str, flags: list[str], path: Path) -> None:
    """Compile a `.cu` file into a shared library at `path`.

    The kernels' names and parameters are found in the preprocessed text, where NAMES_ONLY keeps
    the keyword __global__; then functions that launch them are added to the text.
    """
    checked = build == "checked"
    names = [re.sub(r"-DCHECKED", "", flag) for flag in flags] + ["-DNAMES_ONLY", "-E", "-P"]
    with TemporaryDirectory() as folder:
        header, marker, text = source_text(source).partition(f'#line 1 "{source.name}"\n')
        text, variables = translate(text, str(source), checked)
        text = header + marker + text
        file = Path(folder, "kernel.cpp")
        file.write_text(text)
        include = f"-I{EMULATOR_HEADERS}"
        preprocessed = _run([compiler, *filter(None, names), include, str(file)], source)
        kernels = re.findall(
            r"(template\s*<[^;{}()]*>\s*)?(?:extern\s+\"C\"\s+)?(?:static\s+)?__global__\s+"
            r"(?:static\s+)?void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(((?:[^()]|\([^()]*\))*)\)",
            preprocessed,
        )
        plain = {name: parameters for template, name, parameters in kernels if not template}
        file.write_text(text + _entry_points(plain, variables, checked))
        library = Path(folder, "kernel.so")
        # g++ runs in the source's folder, where a debugger then looks for the source.
        command = [compiler, *flags, include, str(file)]
        if checked:
            unit = Path(folder, "kernel.o")
            dump = _run([*command, *INSTRUMENTATION, "-c", "-o", str(unit)], source)
            _refuse_unchecked(dump, source)
            runtime = str(_checked_runtime(compiler, tuple(flags), Path(folder)))
            command = [compiler, "-shared", str(unit), runtime]
        _run([*command, "-o", str(library)], source)
        content = library.read_bytes()
        atomic_write(path, lambda out: out.write(content))
        atomic_write(digest_path(path), lambda out: out.write(_digest(content)))


def _checked_runtime(compiler: str, flags: tuple[str, ...], folder: Path) -> Path:
    """Return the object file of the checked build's runtime, compiled once, with -O2."""
    flags = (*flags, "-O2")
    texts = [path.read_text() for path in sorted(EMULATOR_HEADERS.glob("*.h"))]
    name = f"runtime-{digest(compiler_version(), host(), *flags, *texts)}.o"
    with contextlib.suppress(OSError, RuntimeError):
        cached = emulator_folder() / name
        if is_whole(cached):
            mark_used(cached, digest_path(cached))
            return cached
    file, unit = Path(folder, "runtime.cpp"), Path(folder, "runtime.o")
    file.write_text('#include "hooks.h"\n#include "launch.h"\n')
    include = f"-I{EMULATOR_HEADERS}"
    define = "-DEMULATOR_RUNTIME"
    _run([compiler, *flags, define, include, str(file), "-c", "-o", str(unit)], file)
    with contextlib.suppress(OSError, RuntimeError):
        content = unit.read_bytes()
        atomic_write(cached, lambda out: out.write(content))
        atomic_write(digest_path(cached), lambda out: out.write(_digest(content)))
    return unit


def _refuse_unchecked(dump: str, source: Path) -> None:
    """Raise KernelError where a structure is passed or returned by value straight in memory.

    `dump` is what g++ prints after it has inserted its calls. Only a structure can be such an
    operand: numbers are loaded first.
    """
    call = re.compile(r"^  (?:(?P<result>[^=\"]+?) = )?(?P<name>[\w:~<>, ]+) \((?P<values>.*)\);")
    memory = re.compile(r"(?:^|, )(?:\*|MEM|[^&,(]*(?:->|\[))")
    is_own = False  # of the emulator or the C++ library
    for line in dump.splitlines():
        if line.startswith(";; Function "):
            is_own = re.match(r";; Function (std|emulator|__gnu_cxx)::", line) is not None
        match = call.match(re.sub(r'"(?:\\.|[^"\\])*"', "", line))
        if (
            is_own
            or not match
            or re.match(r"(__builtin|if|switch|return|\.|__tsan)", match["name"])
        ):
            continue
        if memory.search(match["values"]) or memory.search(match["result"] or ""):
            raise KernelError(
                f"{source}: {match['name']} takes or returns a structure by value and is not"
                " inlined, so that the checked build cannot check the copy: pass numbers or"
                f" pointers ({line.strip()})"
            )


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


def _entry_points(kernels: dict[str, str], variables: list[DeviceVariable], checked: bool) -> str:
    """Return C++ functions that launch each kernel, given its parameters, and one that lists them.

    Others return the address and the size of each variable.
    """
    lines = [
        '\n#line 1 "entry points"',
        'extern "C" {',
        '#define EXPORT __attribute__((visibility("default")))',
    ]
    kernel_lines = []
    for kernel, parameters in kernels.items():
        split = [p.strip() for p in parameters.split(",") if p.strip() not in ("", "void")]
        names = [re.findall(r"\w+", re.sub(r"\[[^\]]*\]", "", p))[-1] for p in split]
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
    for name in (variable.name for variable in variables):
        lines += [
            f"EXPORT void* emulator_variable_{name}(unsigned long long* bytes) {{",
            f"    *bytes = sizeof {name};",
            f"    return const_cast<void*>(static_cast<const volatile void*>(&{name}));",
            "}",
        ]
    for variable in variables if checked else ():
        lines.append(
            f"static emulator::Declared* const declared_{variable.name} = emulator::declare("
            f'emulator::describe(emulator::Space::{variable.space}, "{variable.name}",'
            f" {variable.name}));"
        )
    names_text = "\\n".join(kernel_lines)
    return "\n".join(
        [*lines, f'EXPORT const char* emulator_kernels() {{ return "{names_text}"; }}', "}\n"]
    )


def _run(command: list[str], source: Path) -> str:
    """Return what the command prints; KernelError with the first error message if it fails."""
    folder = source.parent if source.parent.is_dir() else None
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
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

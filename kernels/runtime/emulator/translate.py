"""Rewrite the declarations of CUDA C++ that no macro can turn into C++ for g++.

    extern __shared__ float s[];       a pointer to the dynamic shared memory
    __shared__ float a[16][17], b;     in the checked build: arrays that are declared to the checks
    return;                            in the checked build: noted, where more follows
    __device__ int n; __constant__ float w[9];     found, to be read and written from Python

Lines keep their numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..cuda.launcher import KernelError

_TYPE = r"(?P<type>[A-Za-z_][\w:*\s]*?(?:<[^;=]*>[\w:*\s]*?)?)"
_ALIGNMENT = r"(?:(?:__align__|alignas)\s*\([^)]*\)\s*)?"
_NAME = r"\w+\s*(?:\[[^\]]*\]\s*)*"
_DYNAMIC = re.compile(rf"extern\s+__shared__\s+{_ALIGNMENT}{_TYPE}\s*\b(?P<name>\w+)\s*\[\s*\]\s*;")
_SHARED = re.compile(rf"__shared__\s+{_ALIGNMENT}{_TYPE}\s*\b(?P<names>{_NAME}(?:,\s*{_NAME})*);")
_VARIABLE = re.compile(
    rf"\b(?P<space>__device__|__constant__|__managed__)\s+(?:(?:__device__|static|const|volatile)\s+)*"
    rf"{_ALIGNMENT}{_TYPE}\s*\b(?P<name>\w+)\s*(?:\[[^\]]*\]\s*)*(?:;|=|\{{)"
)
_LAUNCH = re.compile(r"<<<")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([\w/.]+)[>"]', re.M)
_REFUSED_HEADERS = {
    "cooperative_groups": "write __syncthreads(), __syncwarp(mask) and __shfl_*_sync(mask, ...)",
    "curand": "compute random numbers in the kernel, or pass an array of them",
    "cub/": "write the reduction or scan in the kernel",
    "thrust/": "it is for host code",
    "cuda_fp16": "use float",
    "cuda_bf16": "use float",
    "mma": "tensor cores are not emulated; multiply in float",
}
_IGNORED = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:\\\n|[^\n])*', re.S | re.M
)


@dataclass(frozen=True)
class DeviceVariable:
    """A variable of a file in global or constant memory."""

    name: str
    space: str  # "device" or "constant"


def translate(text: str, name: str, checked: bool) -> tuple[str, list[DeviceVariable]]:
    """Return a `.cu` file's text as C++, and its variables.

    Raises:
        KernelError: the text has a launch `<<<...>>>`, or a declaration that the checked build
            cannot check.
    """
    for match in reversed(list(re.finditer(r"\bstatic(?=\s+__shared__\b)", blank(text)))):
        text = text[: match.start()] + text[match.end() :]  # __shared__ is static here
    for match in _INCLUDE.finditer(text):
        for header, advice in _REFUSED_HEADERS.items():
            if match[1].startswith(header):
                line = _line(text, match)
                raise KernelError(f"{name}:{line}: the emulator has no {match[1]}: {advice}")
    code = blank(text)
    launch = _LAUNCH.search(code)
    if launch:
        raise KernelError(
            f"{name}:{_line(code, launch)}: a launch with <<<...>>>: only kernels and __device__"
            " functions are compiled here; remove the host code and launch from Python:"
            " minigan.cuda.compile(file).kernel[grid, block](...)"
        )
    edits = [
        (match, f'auto* const {match["name"]} = emulator::dynamic_array<{match["type"]}>'
         f'("{match["name"]}");')
        for match in _DYNAMIC.finditer(code)
    ]  # fmt: skip
    if checked:
        dynamic = {match.start("type") for match, _ in edits}
        shared = [m for m in _SHARED.finditer(code) if m.start("type") not in dynamic]
        edits += [
            (match, _shared_variables(match, _is_in_function(code, match))) for match in shared
        ]
        edits += [(match, "{ emulator::note_return(); return; }") for match in _early_returns(code)]
    for match, replacement in sorted(edits, key=lambda edit: -edit[0].start()):
        newlines = "\n" * match[0].count("\n")
        text = text[: match.start()] + replacement + newlines + text[match.end() :]
        code = code[: match.start()] + blank(replacement) + newlines + code[match.end() :]
    left = re.search(r"\b__shared__\b" if checked else r"\bextern\s+__shared__\b", code)
    if left:
        raise KernelError(
            f"{name}:{_line(code, left)}: cannot read this declaration of shared memory; write"
            " __shared__ type name[size]; or extern __shared__ type name[];"
        )
    return text, _variables(code)


def blank(text: str) -> str:
    """Return the text with spaces for comments, strings and preprocessor lines."""
    return _IGNORED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _early_returns(code: str) -> list[re.Match[str]]:
    """Return the statements `return;` but for those at the end of a function.

    The checked build tells a thread that returns before a barrier, which CUDA allows, from one that
    runs past it in a branch, which it does not.
    """
    return [
        match
        for match in re.finditer(r"\breturn\s*;", code)
        if not (_depth(code, match) == 1 and code[match.end() :].lstrip().startswith("}"))
    ]


def _line(code: str, match: re.Match[str]) -> int:
    return code.count("\n", 0, match.start()) + 1


def _is_in_function(code: str, match: re.Match[str]) -> bool:
    return _depth(code, match) > 0


def _depth(code: str, match: re.Match[str]) -> int:
    return code.count("{", 0, match.start()) - code.count("}", 0, match.start())


def _shared_variables(match: re.Match[str], is_in_function: bool) -> str:
    """Return declarations of references to the variables of one `__shared__` declaration."""
    lines = []
    for declared in re.findall(_NAME, match["names"]):
        name, extents = re.fullmatch(r"(\w+)\s*(.*)", declared, re.S).groups()  # type: ignore[union-attr]
        kind = re.sub(r"\s+", " ", match["type"] + extents)
        if is_in_function:
            call = f'emulator::shared_variable<{kind}, __COUNTER__>("{name}")'
            lines.append(f"auto& {name} = {call};")
        else:
            lines.append(
                f"static emulator::Guarded<{kind}> {name}_memory;"
                f" constexpr auto& {name} = {name}_memory.memory; static emulator::Declared* const"
                f" {name}_declared = emulator::declare(emulator::describe("
                f'emulator::Space::shared, "{name}", {name}));'
            )
    return " ".join(lines)


def _variables(code: str) -> list[DeviceVariable]:
    spaces = {"__constant__": "constant"}
    return [
        DeviceVariable(match["name"], spaces.get(match["space"], "device"))
        for match in _VARIABLE.finditer(code)
        if match["name"] != "operator"
    ]

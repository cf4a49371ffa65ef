"""Read the machine code (SASS) that NVRTC makes of a kernel, on a machine without a GPU.

NVIDIA's disassembler, `nvdisasm`, prints the instructions of a cubin. It is in the package
nvidia-cuda-nvdisasm (the extra `device-code`) and in the CUDA toolkit. NVIDIA documents what the
names of the instructions mean (CUDA Binary Utilities, "Instruction Set Reference"), but not how
long they take.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path

PACKAGE = "nvidia-cuda-nvdisasm"
# An instruction: its address, its predicate ("@!P0", or none), its name and its operands.
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
LABEL = re.compile(r"(\S+):")
TARGET = re.compile(r"`\(([^)]+)\)")
REGISTER = re.compile(r"\bR(\d+)\b")
# Bytes per thread of a load or store, by a part of its name; without one it is 4.
ACCESS_BYTES = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
MULTIPLY_ADDS = {"FFMA": 1, "FFMA2": 2, "DFMA": 1}  # per thread
# What an instruction is for, by its name; "other" if not listed.
KINDS = {
    **dict.fromkeys(MULTIPLY_ADDS, "multiply-add"),
    "HMMA": "tensor core",
    **dict.fromkeys(("FADD", "FMUL", "FMNMX", "FSEL", "FSETP", "FCHK", "MUFU"), "arithmetic"),
    **dict.fromkeys(("DADD", "DMUL", "DSETP"), "arithmetic"),
    **dict.fromkeys(("LDG", "STG", "LDGSTS"), "global memory"),
    **dict.fromkeys(("LDS", "LDSM", "STS"), "shared memory"),
    **dict.fromkeys(("LDL", "STL"), "local memory"),
}
STORES = ("STG", "STS", "STL")


@dataclass(frozen=True)
class Instruction:
    """One instruction; `name` has its modifiers, as in "LDG.E.128.CONSTANT"."""

    address: int
    predicate: str
    name: str
    operands: str

    @cached_property
    def base(self) -> str:
        """The name without modifiers, as in "LDG"."""
        return self.name.split(".")[0]

    @property
    def kind(self) -> str:
        """What the instruction is for, of `KINDS`."""
        return KINDS.get(self.base, "other")

    @cached_property
    def global_bytes(self) -> int:
        """The bytes of global memory that it reads or writes, per thread."""
        if self.kind != "global memory":
            return 0
        return next((ACCESS_BYTES[x] for x in self.name.split(".") if x in ACCESS_BYTES), 4)

    @property
    def multiply_adds(self) -> int:
        """The fused multiply-adds that it computes, per thread."""
        return MULTIPLY_ADDS.get(self.base, 0)

    @property
    def loaded_register(self) -> int | None:
        """The (first) register that a load from global memory writes, or None."""
        return int(REGISTER.findall(self.operands)[0]) if self.base == "LDG" else None

    @cached_property
    def registers_read(self) -> frozenset[int]:
        """The first registers of its sources: all operands of a store, else all but the first."""
        sources = self.operands if self.base in STORES else self.operands.partition(",")[2]
        return frozenset(map(int, REGISTER.findall(sources)))

    def __str__(self) -> str:
        predicate = f"@{self.predicate} " if self.predicate else ""
        return f"{predicate}{self.name} {self.operands}".strip()


@dataclass
class Code:
    """A kernel's instructions in the order of their addresses; `labels` are indices of them."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def target(self, instruction: Instruction) -> int | None:
        """Return the index of the instruction to which a branch jumps, or None.

        For 8.0 a loop is also left by a CALL to one of the kernel's own labels (".L_x_2"), which
        does not return. A CALL to a function ("$__internal_0...") does.
        """
        found = TARGET.search(instruction.operands)
        is_jump = instruction.base == "BRA" or (instruction.base == "CALL" and found)
        if not is_jump or found is None or not found[1].startswith("."):
            return None
        return self.labels.get(found[1])


def find_disassembler() -> str | None:
    """Return the path of `nvdisasm`: that of its package, else one on PATH; or None."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    paths = [str(file.locate()) for file in files if file.name == "nvdisasm"]
    return next(iter(paths), shutil.which("nvdisasm"))


def disassemble(cubin: bytes) -> dict[str, Code]:
    """Return the code of each kernel of a cubin.

    Raises:
        FileNotFoundError: there is no `nvdisasm`.
        RuntimeError: it does not accept the cubin.
    """
    program = find_disassembler()
    if program is None:
        raise FileNotFoundError(
            f"machine code is read by NVIDIA's nvdisasm, which is not here: pip install {PACKAGE}"
        )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        command = [program, "--print-code", file.name]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"nvdisasm: {process.stderr.strip()}")
    return parse(process.stdout)


def parse(text: str) -> dict[str, Code]:
    """Read what `nvdisasm --print-code` prints: a section for each kernel."""
    codes: dict[str, Code] = {}
    code = Code()
    for line in text.splitlines():
        if line.startswith(".text."):
            code = codes.setdefault(line.strip().removeprefix(".text.").rstrip(":"), Code())
        elif found := INSTRUCTION.search(line):
            address, predicate, name, operands = found.groups()
            code.instructions.append(
                Instruction(int(address, 16), predicate or "", name, operands.strip())
            )
        elif found := LABEL.fullmatch(line.strip()):
            code.labels[found[1]] = len(code.instructions)
    return codes

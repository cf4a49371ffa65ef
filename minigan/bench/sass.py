"""Read the machine code of NVIDIA GPUs (SASS) as `nvdisasm` prints it: instructions and loops.

A line of it:

    /*0480*/              @!P0 LDG.E.128 R4, desc[UR6][R2.64] ;

is an instruction of 16 bytes at address 0x480. It is predicated: only threads whose P0 is false do
it. Jumps name labels, `(.L_x_3); a loop is what lies between a label and a jump back to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_FUNCTION = re.compile(r"^\.text\.(\S+):")
_LABEL = re.compile(r"^(\.L_\S+):")
_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+)?\s*([A-Z][A-Z0-9_.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\((\.L_\S+)\)")
_JUMPS = ("BRA", "BRX", "JMP")

# The classes of instructions by the first part of their names. What is in no class is "other".
_NAMES = {
    "fma": "FFMA FFMA2 DFMA HFMA2",
    "float": "FADD FADD2 FMUL FMUL2 FMNMX FMNMX3 FSET FSETP FSEL FCHK DADD DMUL DSETP DMNMX",
    "special": "MUFU",
    "integer": "IADD IADD3 IABS IMAD IMNMX ISETP LEA LOP3 SHF SEL PRMT POPC FLO BREV BFE VIADD"
    " VIMNMX VIADDMNMX SGXT PLOP3 P2R R2P ISCADD",
    "uniform": "UIADD3 UIMAD UISETP ULEA ULOP3 USHF USEL UMOV UPRMT UPLOP3 R2UR S2UR UIADD3 UVIADD"
    " UFLO UPOPC USGXT ULDC LDCU",
    "move": "MOV CS2R S2R LDC SHFL VOTE VOTEU MATCH REDUX ELECT",
    "convert": "I2F I2FP F2I F2F F2FP I2I FRND I2IP",
    "global load": "LDG LD",
    "global store": "STG ST",
    "asynchronous copy": "LDGSTS UBLKCP",
    "shared load": "LDS LDSM",
    "shared store": "STS STSM",
    "local": "LDL STL",
    "atomic": "ATOM ATOMG ATOMS RED REDG",
    "tensor": "HMMA IMMA DMMA QMMA OMMA",
    "barrier": "BAR DEPBAR LDGDEPBAR SYNCS ERRBAR MEMBAR",
    "jump": "BRA BRX JMP BSSY BSYNC BREAK CALL RET EXIT WARPSYNC NANOSLEEP YIELD BPT KILL NOP",
}
CLASSES = {name: kind for kind, names in _NAMES.items() for name in names.split()}


class Instruction(NamedTuple):
    """An instruction: its address in bytes, predicate ("" for none), name and operands."""

    address: int
    predicate: str
    name: str
    operands: str

    @property
    def kind(self) -> str:
        """Its class, one of those above."""
        return CLASSES.get(self.name.split(".")[0], "other")

    @property
    def bytes(self) -> int:
        """The bytes that a thread moves by a load or a store; 0 for other instructions."""
        if self.kind not in MEMORY:
            return 0
        widths = {"256": 32, "128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1, "16": 2}
        return next((widths[part] for part in self.name.split(".") if part in widths), 4)


MEMORY = ("global load", "global store", "asynchronous copy", "shared load", "shared store")


class Function(NamedTuple):
    """A kernel's instructions, and the address of each label."""

    name: str
    instructions: list[Instruction]
    labels: dict[str, int]

    def loops(self) -> Iterator[list[Instruction]]:
        """Yield the instructions of each loop, from the label to the jump back to it."""
        for jump in self.instructions:
            target = _TARGET.search(jump.operands)
            if jump.name.split(".")[0] not in _JUMPS or target is None:
                continue
            start = self.labels[target[1]]
            # Behind each kernel is a jump to itself.
            if start < jump.address:
                yield [x for x in self.instructions if start <= x.address <= jump.address]

    def innermost_loops(self) -> list[list[Instruction]]:
        """Return the loops that contain no other loop."""
        loops = list(self.loops())
        spans = [(x[0].address, x[-1].address) for x in loops]
        return [
            loop
            for loop, (first, last) in zip(loops, spans, strict=True)
            if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in spans)
        ]

    def hot_loop(self) -> list[Instruction]:
        """Return the innermost loop with the most arithmetic, or else with the most bytes moved.

        A kernel without loops is returned whole.
        """
        return max(self.innermost_loops(), key=_work, default=self.instructions)


def _work(code: Sequence[Instruction]) -> tuple[int, int]:
    counts = mix(code)
    return counts["fma"] + counts["tensor"], sum(x.bytes for x in code)


def mix(code: Sequence[Instruction]) -> Counter[str]:
    """Return the number of instructions of each class."""
    return Counter(x.kind for x in code)


def parse(text: str) -> list[Function]:
    """Return the functions in the output of `nvdisasm -c`."""
    functions: list[Function] = []
    waiting: list[str] = []  # labels of the next instruction
    for line in text.splitlines():
        if found := _FUNCTION.match(line):
            functions.append(Function(found[1], [], {}))
            waiting = []
        elif not functions:
            continue
        elif found := _LABEL.match(line):
            waiting.append(found[1])
        elif found := _LINE.match(line):
            address, predicate, name, operands = found.groups()
            instruction = Instruction(int(address, 16), predicate or "", name, operands.strip())
            functions[-1].instructions.append(instruction)
            functions[-1].labels.update(dict.fromkeys(waiting, instruction.address))
            waiting = []
    return functions

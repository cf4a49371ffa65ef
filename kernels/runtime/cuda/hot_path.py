"""Find the instructions that a kernel executes most: an iteration of its main loop, or all of them.

A kernel has code for edges, for unaligned arrays and for other strides beside the code for which it
was written. Its *hot path* is found without running it. Of all paths through the control-flow graph
that run each loop once, it is the one that moves the most bytes by the widest accesses to global
memory that the kernel has, and of these the one with the fewest instructions. If loops lie on this
path, the hot path is an iteration of the innermost one that does the most work, in bytes and
multiply-adds.

A condition that is tested twice may have two outcomes on such a path: then it is longer than what a
thread executes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .sass import Code, Instruction

# Instructions that end a path: the thread ends, or returns from a function that was not inlined.
ENDS = ("EXIT", "RET")
PREDICATE = re.compile(r"\bU?P\d\b")
MIN_LOOP_SHARE = 1 / 16  # of the path's work, for a loop to be the hot path


@dataclass(frozen=True)
class HotPath:
    """Instructions that a thread executes in this order; an iteration, if it is of a loop."""

    instructions: tuple[Instruction, ...]
    is_loop: bool

    @property
    def global_bytes(self) -> int:
        """The bytes of global memory that a thread reads and writes."""
        return sum(x.global_bytes for x in self.instructions)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds that a thread computes."""
        return sum(x.multiply_adds for x in self.instructions)

    @property
    def kinds(self) -> Counter[str]:
        """The number of instructions of each kind."""
        return Counter(x.kind for x in self.instructions)

    @property
    def widest_access(self) -> int:
        """The bytes of the widest access to global memory, per thread; 0 if there is none."""
        return max((x.global_bytes for x in self.instructions), default=0)

    @property
    def load_groups(self) -> list[int]:
        """The bytes of each group of loads that are in flight together, per thread.

        A thread goes on after a load, and stops at the first instruction that reads a register
        which is still being loaded. (Asynchronous copies to shared memory make no group.)
        """
        groups: list[int] = []
        waiting: dict[int, int] = {}  # bytes by the first register
        for x in self.instructions:
            arriving = {r + i for r, size in waiting.items() for i in range(-(-size // 4))}
            if arriving & x.registers_read:
                groups.append(sum(waiting.values()))
                waiting = {}
            if x.loaded_register is not None:
                waiting[x.loaded_register] = x.global_bytes
        return [*groups, sum(waiting.values())] if waiting else groups


def find(code: Code) -> HotPath:
    """Return a kernel's hot path."""
    graph = _Graph(code)
    main = graph.best_path(0, None)
    loops = {
        (header, latch): HotPath(graph.instructions(graph.best_path(header, latch)), is_loop=True)
        for header, latch in graph.loops
        if header in main
    }
    innermost = [
        path
        for (header, latch), path in loops.items()
        if not any(
            h != header and h in graph.body(header, latch) and _work(inner) > 0
            for (h, _), inner in loops.items()
        )
    ]
    whole = HotPath(graph.instructions(main), is_loop=False)
    best = max(innermost, key=_merit, default=whole)
    return best if _work(best) > MIN_LOOP_SHARE * _work(whole) else whole


def _work(path: HotPath) -> int:
    return path.global_bytes + path.multiply_adds


def _merit(path: HotPath) -> tuple[int, int]:
    return _work(path), -len(path.instructions)


class _Graph:
    """Basic blocks, numbered in the order of their addresses, and the jumps between them.

    `loops` has (header, latch) for each jump back: the header is a block without which the latch
    cannot be reached, so both are of one loop. `forward` has the jumps of paths on which each loop
    runs once: the latch goes on to where the loop is left.
    """

    def __init__(self, code: Code) -> None:
        x = code.instructions
        targets = {i: code.target(x[i]) for i in range(len(x))}
        jumps = {i: t for i, t in targets.items() if t is not None}
        starts = {0, *jumps.values()}
        starts |= {i + 1 for i in range(len(x)) if i in jumps or x[i].base in ENDS}
        ordered = sorted(i for i in starts if i < len(x))
        number = {start: n for n, start in enumerate(ordered)}
        blocks = [x[a:b] for a, b in zip(ordered, [*ordered[1:], len(x)], strict=True)]
        self.next: list[list[int]] = []
        for n, block in enumerate(blocks):
            last = block[-1]
            index = ordered[n] + len(block) - 1
            follows = _is_conditional(last) or not (last.base in ENDS or index in jumps)
            self.next.append([n + 1] if follows and n + 1 < len(blocks) else [])
            self.next[-1] += [number[jumps[index]]] if index in jumps else []
        self.widest = max(i.global_bytes for i in x)
        self.blocks = [_one_outcome(block, self._block_merit) for block in blocks]
        dominators = self._dominators()
        back = [(h, n) for n, hs in enumerate(self.next) for h in hs if dominators[n] >> h & 1]
        # The code ends with a jump to itself, which nothing reaches.
        self.loops = [(h, n) for h, n in back if dominators[n] & 1]
        self.forward = [
            [m for m in following if (m, n) not in back] for n, following in enumerate(self.next)
        ]
        for header, latch in self.loops:
            body = self.body(header, latch)
            exits = {m for n in body for m in self.next[n] if m not in body}
            self.forward[latch] += sorted(exits - {*self.forward[latch]})
        self.order = self._topological()

    def _dominators(self) -> list[int]:
        """Return for each block, as bits, the blocks on every path to it; 0 if there is no path."""
        all_blocks = (1 << len(self.blocks)) - 1
        sets = [1, *[all_blocks] * (len(self.blocks) - 1)]
        before: list[list[int]] = [[] for _ in self.blocks]
        reached, stack = {0}, [0]
        while stack:
            n = stack.pop()
            for m in self.next[n]:
                before[m].append(n)
                if m not in reached:
                    reached.add(m)
                    stack.append(m)
        changed = True
        while changed:
            changed = False
            for m in range(1, len(self.blocks)):
                common = all_blocks
                for n in before[m]:
                    common &= sets[n]
                new = common | 1 << m if m in reached else 0
                changed, sets[m] = changed or new != sets[m], new
        return sets

    def body(self, header: int, latch: int) -> set[int]:
        """Return the blocks of a loop: from them the latch is reached without its header."""
        body, stack = {header, latch}, [latch]
        while stack:
            n = stack.pop()
            before = [] if n == header else [m for m, ms in enumerate(self.next) if n in ms]
            stack += [m for m in before if m not in body]
            body.update(before)
        return body

    def _topological(self) -> list[int]:
        """Return the blocks that are reached from block 0, each before those that follow it."""
        order: list[int] = []
        state: dict[int, int] = {}
        stack = [(0, iter(self.forward[0]))]
        state[0] = 1
        while stack:
            n, following = stack[-1]
            m = next(following, None)
            if m is None:
                order.append(n)
                stack.pop()
            elif m not in state:
                state[m] = 1
                stack.append((m, iter(self.forward[m])))
        return order[::-1]

    def best_path(self, first: int, last: int | None) -> list[int]:
        """Return the blocks of the best path from `first` to `last`, or, without it, to any end."""
        merits: dict[int, tuple[int, int]] = {}
        following: dict[int, int | None] = {}
        for n in reversed(self.order):
            is_end = n == last or (last is None and not self.forward[n])
            choices: dict[int | None, tuple[int, int]] = {}
            for m in [None] if is_end else [m for m in self.forward[n] if m in merits]:
                own = self._block_merit(self._executed(n, m))
                rest = merits[m] if m is not None else (0, 0)
                choices[m] = own[0] + rest[0], own[1] + rest[1]
            if choices:
                following[n] = max(choices, key=choices.__getitem__)
                merits[n] = choices[following[n]]
        path = [first]
        while (after := following[path[-1]]) is not None:
            path.append(after)
        return path

    def instructions(self, path: Sequence[int]) -> tuple[Instruction, ...]:
        """Return the instructions that are executed on a path, without the padding."""
        pairs = [*pairwise(path), (path[-1], None)]
        return tuple(x for n, m in pairs for x in self._executed(n, m) if x.base != "NOP")

    def _block_merit(self, block: Sequence[Instruction]) -> tuple[int, int]:
        """Return the bytes that the widest accesses move, and minus the number of instructions."""
        return sum(x.global_bytes for x in block if x.global_bytes == self.widest), -len(block)

    def _executed(self, n: int, following: int | None) -> list[Instruction]:
        """Return the instructions of block n that are executed if it goes on to another one.

        If it ends with a jump on a predicate, those are left out which the outcome excludes.
        """
        block = self.blocks[n]
        jump = block[-1]
        if following is None or jump.base not in ("BRA", "CALL") or not jump.predicate:
            return block
        jumps = following != n + 1
        excluded = _negation(jump.predicate) if jumps else jump.predicate
        name = excluded.lstrip("!")
        # The predicate is computed here; instructions before it depend on another value of it.
        computed = max(
            (i for i, x in enumerate(block) if name in _predicates_written(x)), default=-1
        )
        return [x for i, x in enumerate(block[:-1]) if i <= computed or x.predicate != excluded] + [
            jump
        ]


def _one_outcome(
    block: Sequence[Instruction], merit: Callable[[Sequence[Instruction]], Any]
) -> list[Instruction]:
    """Return a block without instructions that its other ones exclude.

    A short branch is compiled without a jump: to instructions that are executed if a predicate is
    true, between others that are executed if it is false. The outcome that does more work stays,
    or the one of fewer instructions.
    """
    outcomes: dict[str, list[Instruction]] = {}
    dropped: set[int] = set()

    def close(predicate: str) -> None:
        pair = [outcomes.pop(predicate, []), outcomes.pop(f"!{predicate}", [])]
        if all(pair):
            dropped.update(x.address for x in min(pair, key=merit))

    for x in block:
        for name in _predicates_written(x):
            close(name)
        if x.predicate and x.base not in (*ENDS, "BRA"):
            outcomes.setdefault(x.predicate, []).append(x)
    for name in {name.lstrip("!") for name in outcomes}:
        close(name)
    return [x for x in block if x.address not in dropped]


def _negation(predicate: str) -> str:
    return predicate[1:] if predicate.startswith("!") else f"!{predicate}"


def _predicates_written(x: Instruction) -> set[str]:
    """Return the predicates that an instruction writes, and perhaps some that it reads."""
    return set(PREDICATE.findall(",".join(x.operands.split(",")[:2])))


def _is_conditional(x: Instruction) -> bool:
    """Return whether the thread may also go on to the next instruction."""
    # "BRA !UP0, `(target)" and "BRA.U UP0, ..." have their predicate among the operands.
    return bool(x.predicate) or "UP" in x.operands.partition("`")[0]

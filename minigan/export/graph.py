"""Build an ONNX graph: nodes, constants and sizes that depend on the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .trace import Constant, Size, Value

OPSET = 17  # of 2022: runtimes of the last years have it


class GraphBuilder:
    """The nodes and constants of an ONNX graph, and the names of its values.

    A value's name is that of the node that computes it; inputs of the graph are added by
    `name_value`.
    """

    def __init__(self, first_input: str) -> None:
        import onnx.helper

        self.helper = onnx.helper
        self.first_input = first_input
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.names: dict[int, str] = {}  # of traced values, by their number
        self._counts: dict[str, int] = {}
        self._batch: str | None = None

    def name_value(self, value: Value, name: str) -> None:
        """Set the name of the value of an input or of a node."""
        self.names[value.number] = name

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node of one output, and return the name of the output."""
        output = self._unique(kind.lower())
        self.nodes.append(
            self.helper.make_node(kind, list(inputs), [output], name=output, **attributes)
        )
        return output

    def constant(self, values: Any, dtype: Any = None, name: str = "constant") -> str:
        """Add an array, and return its name; an array that is there already is not added again."""
        array = np.array(values, dtype, order="C")  # a copy: views of a parameter may be transposed
        base = name.removesuffix(".")
        for other in (x for x in self.constants if x == base or x.startswith(f"{base}~")):
            known = self.constants[other]
            is_equal = known.dtype == array.dtype and known.shape == array.shape
            if is_equal and known.tobytes() == array.tobytes():
                return other
        unique = self._unique(base)
        self.constants[unique] = array
        return unique

    def input_name(self, x: Any, dtype: np.dtype) -> str:
        """Return the name of an input of a call; a number becomes a constant of the dtype."""
        if isinstance(x, Value):
            return self.names[x.number]
        if isinstance(x, Constant):
            return self.constant(x.array, name=x.name)
        return self.constant(x, dtype)

    def sizes(self, shape: Sequence[int | Size], infer: bool = False) -> str:
        """Return the name of a vector of sizes.

        Args:
            shape: sizes, which may depend on the batch size n.
            infer: whether -1 stands for the only one that does, as Reshape accepts.
        """
        dynamic = [x for x in shape if isinstance(x, Size)]
        if infer and len(dynamic) == 1:
            return self.constant([-1 if isinstance(x, Size) else x for x in shape], np.int64)
        if not dynamic:
            return self.constant(list(shape), np.int64)
        return self.node("Concat", list(map(self._size, shape)), axis=0)

    def _size(self, size: int | Size) -> str:
        """Return the name of a vector of one size."""
        if not isinstance(size, Size):
            return self.constant([size], np.int64)
        if self._batch is None:
            self._batch = self.node("Shape", [self.first_input], start=0, end=1)
        name = self._batch
        if size.b != 1:
            name = self.node("Mul", [name, self.constant([size.b], np.int64)])
        if size.a != 0:
            name = self.node("Add", [name, self.constant([size.a], np.int64)])
        return name

    def _unique(self, base: str) -> str:
        """Return a name that no other value has: conv, conv~1, conv~2, ..."""
        count = self._counts.get(base, 0)
        self._counts[base] = count + 1
        return f"{base}~{count}" if count else base

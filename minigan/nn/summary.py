"""The text that `print(net)` shows: a line for each layer, with its parameters, and the total."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .parameters import layer_name

if TYPE_CHECKING:
    from .module import Module


class _Line(NamedTuple):
    text: str  # the layer, indented
    tensors: str  # its own parameters and buffers


def describe(net: Module) -> str:
    """Return the settings of a layer; for a net, a line for each layer, and the total.

        Sequential(
          0: Dense(2, 128)    weight (2, 128), bias (128,)
          1: ReLU()
          2: Dense(128, 1)    weight (128, 1), bias (1,)
        )                     513 parameters

    Buffers, among them frozen parameters, are listed after the parameters. A layer that occurs
    again is named by its first place, and counted once.
    """
    has_children = next(net.children(), None) is not None
    if not has_children and (net.extra_repr() or not _own_tensors(net)):
        return layer_name(net)
    lines = list(_lines(net, "", "", {}))
    if not has_children:
        lines.append(_Line("", ""))
    parameters = sum(x.size for x in net.parameters())
    others = {id(x): x.size for _, x in net.tensors() if not x.requires_grad}
    total = f"{parameters:,} parameters" + f", {sum(others.values()):,} in buffers" * bool(others)
    lines[-1] = _Line(lines[-1].text, total)
    width = max(len(line.text) for line in lines if line.tensors)
    return "\n".join(f"{text:{width}}    {tensors}".rstrip() for text, tensors in lines)


def _lines(module: Module, path: str, indent: str, known: dict[int, str]) -> Iterator[_Line]:
    """Yield the lines of a module at `path` in the net; `known` has the paths of modules before."""
    label = f"{indent}{path.rpartition('/')[2]}: " if path else indent
    first = known.setdefault(id(module), path.replace("/", "."))
    if first != path.replace("/", "."):
        yield _Line(f"{label}{layer_name(module)}, the same as {first}", "")
        return
    children = list(module.children())
    if not children:
        yield _Line(label + layer_name(module), _own_tensors(module))
        return
    yield _Line(f"{label}{type(module).__name__}({module.extra_repr()}", _own_tensors(module))
    for name, child in children:
        yield from _lines(child, f"{path}/{name}" if path else name, indent + "  ", known)
    yield _Line(indent + ")", "")


def _own_tensors(module: Module) -> str:
    """Return the names and shapes of a module's parameters and buffers without its children's."""
    inner = {id(x) for _, child in module.children() for _, x in child.tensors()}
    own = [(name, x) for name, x in module.tensors() if id(x) not in inner]
    names: list[list[str]] = [[], []]
    for name, x in own:
        names[not x.requires_grad].append(f"{name} {x.shape}")
    parameters, buffers = map(", ".join, names)
    return "; ".join(filter(None, [parameters, buffers and f"buffers {buffers}"]))

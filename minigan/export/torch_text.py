"""Write the text of PyTorch modules that compute what a network of minigan's layers computes.

LAYERS has the text of each layer without children. A module whose `forward` calls its children has
an entry in FORWARDS: the parameters of its `forward`, and the expression that it returns. Add one
for a module of your own:

    mg.export.FORWARDS[Residual] = "x", "x + torch.relu(self.inner(x))"
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import nn
from ..gan.conditional import ConditionalGenerator
from ..gan.convolutional import UpBlock
from .trace import ExportError

COUNT = "num_batches_tracked"


def _call(name: str, *arguments: Any, **options: Any) -> str:
    """Return the text of nn.NAME(arguments, option=value); options of None are left out."""
    words = [repr(x) for x in arguments]
    words += [f"{key}={value!r}" for key, value in options.items() if value is not None]
    return f"nn.{name}({', '.join(words)})"


def _same(name: str) -> Callable[[Any], str]:
    return lambda layer: _call(name)


def _linear(layer: Any) -> str:
    bias = None if layer.bias is not None else False
    return _call("Linear", layer.in_features, layer.out_features, bias=bias)


def _short(size: Any) -> Any:
    """Return a pair of equal sizes as one number."""
    return size[0] if isinstance(size, tuple) and size[0] == size[1] else size


def _convolution(layer: Any, name: str | None = None) -> str:
    extra = getattr(layer, "output_padding", (0, 0))
    return _call(
        name or _kind(layer).__name__,
        layer.in_channels,
        layer.out_channels,
        *map(_short, (layer.kernel_size, layer.stride, layer.padding)),
        output_padding=None if extra == (0, 0) else _short(extra),
        bias=None if layer.bias is not None else False,
    )


def _conv2d(layer: Any) -> str:
    """Return the text of the convolution in a layer that also resizes."""
    return _convolution(layer, "Conv2d")


def _eps(layer: Any) -> float | None:
    return None if layer.eps == 1e-5 else float(layer.eps)


def _batch_norm(layer: Any) -> str:
    affine = None if layer.weight is not None else False
    return _call(_kind(layer).__name__, layer.num_features, eps=_eps(layer), affine=affine)


def _layer_norm(layer: Any) -> str:
    affine = None if layer.weight is not None else False
    return _call("LayerNorm", layer.normalized_shape, eps=_eps(layer), elementwise_affine=affine)


def _group_norm(layer: Any) -> str:
    affine = None if layer.weight is not None else False
    sizes = layer.num_groups, layer.num_channels
    return _call("GroupNorm", *sizes, eps=_eps(layer), affine=affine)


def _instance_norm(layer: Any) -> str:
    affine = True if layer.weight is not None else None
    return _call("InstanceNorm2d", layer.num_channels, eps=_eps(layer), affine=affine)


def _pool(layer: Any) -> str:
    stride = None if layer.stride is None else _short(layer.stride)
    padding = None if layer.padding in (0, (0, 0)) else _short(layer.padding)
    ceil = getattr(layer, "ceil_mode", False) or None
    kernel = _short(layer.kernel_size)
    return _call(_kind(layer).__name__, kernel, stride=stride, padding=padding, ceil_mode=ceil)


# The text of layers without children. Dropout and noise act in training only.
LAYERS: dict[type[nn.Module], Callable[[Any], str]] = {
    nn.AvgPool2d: _pool,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.Dense: _linear,
    nn.DepthToSpace: lambda layer: _call("PixelShuffle", layer.block),
    nn.Dropout: lambda layer: _call("Dropout", float(layer.p)),
    nn.Embedding: lambda layer: _call("Embedding", *layer.weight.shape),
    nn.Flatten: _same("Flatten"),
    nn.GaussianNoise: _same("Identity"),
    nn.GroupNorm: _group_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.LayerNorm: _layer_norm,
    nn.LeakyReLU: lambda layer: _call("LeakyReLU", layer.slope),
    nn.MaxPool2d: _pool,
    nn.ReLU: _same("ReLU"),
    nn.Sigmoid: _same("Sigmoid"),
    nn.Tanh: _same("Tanh"),
    nn.Upsample: lambda layer: _call("Upsample", scale_factor=_short(layer.scale)),
    nn.GELU: lambda layer: _call("GELU", approximate=layer.approximate),
    nn.Identity: _same("Identity"),
    nn.Linear: _linear,
    nn.SiLU: _same("SiLU"),
    nn.Softplus: lambda layer: _call("Softplus", layer.beta),
}
# Layers that are two layers in PyTorch: the text of each, and the index of the one with tensors.
PAIRS: dict[type[nn.Module], Callable[[Any], tuple[str, str, int]]] = {
    nn.UpsampleConv2d: lambda layer: (_call("Upsample", scale_factor=2), _conv2d(layer), 1),
    nn.ConvAvgPool2d: lambda layer: (_conv2d(layer), _call("AvgPool2d", 2), 0),
}
# Of modules with children: the parameters of `forward`, and what it returns.
FORWARDS: dict[type[nn.Module], tuple[str, str]] = {
    ConditionalGenerator: (
        "latent, labels",
        "self.net(torch.cat([latent, self.embedding(labels)], dim=1))",
    ),
    UpBlock: ("x", "self.main(x) + self.shortcut(x)"),
}
# Layers that take (n, features) to (n, features).
_FLAT: tuple[type[nn.Module], ...] = (
    *(nn.Dense, nn.Linear, nn.Dropout, nn.GaussianNoise, nn.Identity, nn.BatchNorm1d, nn.LayerNorm),
    *(nn.LeakyReLU, nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus),
)


@dataclass
class TorchText:
    """The PyTorch form of a network.

    Attributes:
        expression: makes the module.
        tensors: its state dict, by PyTorch's names.
        classes: the text of the classes that the expression uses, by name.
        is_flat: whether the module's input, and then its output, is known to be (n, features).
    """

    expression: str = ""
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    is_flat: bool = False


def torch_text(module: nn.Module, is_flat: bool = True) -> TorchText:
    """Return the PyTorch form of a module, for inputs (n, features) if `is_flat`.

    Raises:
        ExportError: a module has no entry in LAYERS, PAIRS or FORWARDS, or methods of its own.
    """
    kind = _kind(module)
    if kind in LAYERS:
        flat = (is_flat and issubclass(kind, _FLAT)) or kind is nn.Flatten
        return TorchText(LAYERS[kind](module), _tensors(module), is_flat=flat)
    if kind in PAIRS:
        *texts, index = PAIRS[kind](module)
        tensors = {f"{index}.{key}": x for key, x in _tensors(module).items()}
        return TorchText(f"nn.Sequential({', '.join(texts)})", tensors)
    if kind is nn.Reshape:
        return _reshape(module, is_flat)
    if kind is nn.SpectralNorm:
        return _without_spectral_norm(module, is_flat)
    if kind is nn.Sequential or kind is nn.ModuleList:
        return _numbered(module, kind, is_flat)
    if kind in FORWARDS:
        return _own_class(module, kind)
    names = ", ".join(sorted(x.__name__ for x in (*LAYERS, *PAIRS, *FORWARDS)))
    raise ExportError(
        f"the module {type(module).__name__} has no form in PyTorch here; these have: Sequential,"
        f" Reshape, {names}; mg.export.FORWARDS takes others, and --onnx needs no such form"
    )


def _kind(module: nn.Module) -> type[nn.Module]:
    """Return the known class whose methods the module runs unchanged, else its own class."""
    cls = type(module)
    known = (*LAYERS, *PAIRS, *FORWARDS, nn.Sequential, nn.ModuleList, nn.Reshape, nn.SpectralNorm)
    bases: list[Any] = [base for base in cls.__mro__ if base in known]
    return next((base for base in bases if not _overridden(cls, base)), cls)


def _overridden(cls: type[nn.Module], base: type[nn.Module]) -> bool:
    """Return whether `cls` replaces a method of `base` that computes something."""
    own = {name for x in base.__mro__[: base.__mro__.index(nn.Module)] for name in vars(x)}
    names = {name for name in own - {"extra_repr"} if not name.startswith("__")}
    names |= {"forward", "__call__", "__iter__"}
    return any(
        inspect.getattr_static(cls, name, None) is not inspect.getattr_static(base, name, None)
        for name in names
    )


def _tensors(module: Any) -> dict[str, np.ndarray]:
    """Return the state of a layer without children as PyTorch has it."""
    if isinstance(module, nn.GaussianNoise):
        return {}
    result = {name: x.numpy() for name, x in module.tensors()}
    if isinstance(module, nn.Dense):
        result["weight"] = np.ascontiguousarray(result["weight"].T)
    if "running_mean" in result:
        result[COUNT] = np.array(0, np.int64)
    return result


def _reshape(module: Any, is_flat: bool) -> TorchText:
    unflatten = _call("Unflatten", 1, tuple(map(int, module.shape)))
    text = unflatten if is_flat else f"nn.Sequential(nn.Flatten(), {unflatten})"
    return TorchText(text, is_flat=len(module.shape) == 1)


def _without_spectral_norm(module: Any, is_flat: bool) -> TorchText:
    """Return the inner layer, with the weight that is divided by its largest singular value."""
    result = torch_text(module.module, is_flat)
    with nn.evaluating(module):
        weight = module.normalized_weight().numpy()
    is_transposed = isinstance(module.module, nn.Dense)
    name = next(x for x in result.tensors if x.split(".")[-1] == "weight")
    result.tensors[name] = np.ascontiguousarray(weight.T) if is_transposed else weight
    return result


def _numbered(module: Any, kind: type[nn.Module], is_flat: bool) -> TorchText:
    """Return nn.Sequential(...) or nn.ModuleList([...]), with a line for each child."""
    result, texts = TorchText(is_flat=is_flat), []
    for name, child in module.children():
        is_next = kind is nn.Sequential
        part = torch_text(child, result.is_flat and is_next)
        texts.append(part.expression)
        _add(result, part, name)
        result.is_flat = part.is_flat and is_next
    brackets = ("", "") if kind is nn.Sequential else ("[", "]")
    result.expression = f"nn.{kind.__name__}({brackets[0]}{_lines(texts)}{brackets[1]})"
    return result


def _own_class(module: nn.Module, kind: type[nn.Module]) -> TorchText:
    """Return a module of a class whose children are arguments, and the text of that class."""
    children = dict(module.children())
    own = [name for name, _ in module.tensors() if name.partition(".")[0] not in children]
    if own:
        raise ExportError(
            f"{kind.__name__} has parameters of its own ({', '.join(own)}), which have no form in"
            " PyTorch here; those of its layers have"
        )
    result, texts = TorchText(), []
    for name, child in children.items():
        part = torch_text(child, kind is ConditionalGenerator)
        texts.append(f"{name}={part.expression}")
        _add(result, part, name)
    result.classes[kind.__name__] = _class_text(kind, list(children))
    result.expression = f"{kind.__name__}({_lines(texts)})"
    return result


def _class_text(kind: type[nn.Module], children: list[str]) -> str:
    """Return the definition of a class whose arguments are its children."""
    parameters, returned = FORWARDS[kind]
    lines = [f"class {kind.__name__}(nn.Module):"]
    if children:
        lines += [f"    def __init__(self, {', '.join(children)}):", "        super().__init__()"]
        lines += [*(f"        self.{name} = {name}" for name in children), ""]
    lines += [f"    def forward(self, {parameters}):", f"        return {returned}"]
    return "\n".join(lines)


def _add(whole: TorchText, part: TorchText, name: str) -> None:
    """Add the tensors and classes of a child to those of its parent."""
    whole.tensors |= {f"{name}.{key}": x for key, x in part.tensors.items()}
    whole.classes |= part.classes


def _lines(texts: Iterable[str]) -> str:
    """Return arguments as indented lines; "" for none."""
    lines = [textwrap.indent(text, "    ") + ",\n" for text in texts]
    return "\n" * bool(lines) + "".join(lines)

"""State dicts of PyTorch: load one, what to leave out, and weights of another layout."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..engine.assign import load_tensors
from ..engine.tensor import Tensor
from ..utils.names import shorten
from ..utils.notices import Notice
from .parameters import DenseWeight

if TYPE_CHECKING:
    from .module import Module

_COUNT = "num_batches_tracked"
# The names of spectral norm in PyTorch, by `spectral_norm` of torch.nn.utils and of its
# parametrizations, and here.
_SPECTRAL = {
    "weight_orig": "module.weight",
    "weight_u": "u",
    "weight_v": "v",
    "parametrizations.weight.original": "module.weight",
    "parametrizations.weight.0._u": "u",
    "parametrizations.weight.0._v": "v",
}


def load_torch(net: Module, state: Mapping[str, Any]) -> None:
    """Copy a state dict of PyTorch into the parameters and buffers of a net, in place.

        mg.nn.load_torch(G, torch.load("G.pt"))     # of a net with the same layers
        mg.nn.load_torch(G, safetensors.numpy.load_file("G.safetensors"))

    The weight of a PyTorch `Linear`, (out, in), is transposed where the net has a `Dense`. Spectral
    norm has other names there, which are known. What is left out (`num_batches_tracked` of batch
    norm) is said in a Notice. Names agree too if all do without a prefix of the state or of the
    net, such as "module."; if none agrees, tensors are matched by their order, where each pair
    agrees in shape and in the last part of the name ("weight"). A Notice says either.

    Args:
        net: of the same layers in the same order.
        state: tensors of PyTorch or numpy arrays, all in PyTorch's layout. float16 and bfloat16
            become float32. PyTorch is not imported.

    Raises:
        TypeError: the state is no dict.
        ValueError: tensors are missing or unexpected, a shape or dtype differs, or names of one
            shared tensor have different values. Nothing is changed then.
    """
    owner, tensors = type(net).__name__, net.tensors_by_name()
    if not isinstance(state, Mapping):
        hint = ": write torch_net.state_dict()" if hasattr(state, "state_dict") else ""
        raise TypeError(f"{owner}: the state to load is {type(state).__name__}, not a dict{hint}")
    counts = [key for key in state if key.endswith(_COUNT) and key not in tensors]
    _warn_left_out(counts, owner)
    values = {key: _to_numpy(x) for key, x in state.items() if key not in counts}
    values = _rename_spectral(values)
    if values.keys() != tensors.keys():
        values = _match_names(values, tensors, owner)
    for key, x in tensors.items():
        _check_shape(key, values[key], x, owner)
        if isinstance(x, DenseWeight):
            values[key] = values[key].T
    load_tensors(tensors, values, owner)


def _to_numpy(x: Any) -> np.ndarray:
    """Return a tensor of PyTorch, or what numpy reads, as an array; half precision as float32."""
    for method in ("detach", "cpu"):
        x = getattr(x, method)() if hasattr(x, method) else x
    if str(getattr(x, "dtype", "")) == "torch.bfloat16":  # which numpy does not have
        x = x.float()
    array = np.asarray(x)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _rename_spectral(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the state with the names that spectral norm has here, "0.module.weight", "0.u"."""
    pattern = re.compile(rf"((?:.*\.)?)({'|'.join(map(re.escape, _SPECTRAL))})$")
    matches = {key: match for key in values if (match := pattern.match(key))}
    prefixes = {match[1] for match in matches.values()}
    names = {key: match[1] + _SPECTRAL[match[2]] for key, match in matches.items()}
    names |= {f"{prefix}bias": f"{prefix}module.bias" for prefix in prefixes}
    return {names.get(key, key): x for key, x in values.items()}


def _match_names(
    values: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor], owner: str
) -> dict[str, np.ndarray]:
    """Return the state by the net's names, where the names of both differ.

    All names may agree without a prefix that those of the state or those of the net have in
    common, as the "module." of `DataParallel`. If no name agrees, the order pairs the tensors.

    Raises:
        ValueError: some names agree and others do not; or none does, nor the order.
    """
    candidates = [
        _agreeing(values, tensors, a, b) for a in _prefixes(values) for b in _prefixes(tensors)
    ]
    agreeing = max(candidates, key=len)
    if len(agreeing) == len(values) == len(tensors):
        pairs, how = agreeing, "by name, but for a prefix of all"
    else:
        _refuse_some(candidates, values, tensors, owner)
        pairs, how = dict(zip(values, tensors, strict=False)), "by order"
        if not _fit_in_order(pairs, values, tensors):
            reason = "the order and shapes of all do not agree either"
            _raise_differing(agreeing, values, tensors, owner, reason)
    renamed = [f"{key} -> {name}" for key, name in pairs.items() if key != name]
    warnings.warn(
        f"{owner}: the names differ; tensors are matched {how}: {shorten(renamed, 3)}",
        Notice,
        stacklevel=3,
    )
    return {name: values[key] for key, name in pairs.items()}


def _agreeing(values: Iterable[str], tensors: Container[str], a: str, b: str) -> dict[str, str]:
    """Return name of the net by name of the state, of those that agree but for prefixes a and b."""
    names = {key: b + key.removeprefix(a) for key in values}
    return {key: name for key, name in names.items() if name in tensors}


def _refuse_some(
    candidates: list[dict[str, str]],
    values: Iterable[str],
    tensors: Iterable[str],
    owner: str,
) -> None:
    """Raise ValueError if a name agrees that is more than the number of a layer.

    The numbers of layers in a Sequential are an order too, and one more activation in one of both
    moves them: that such names agree says nothing.
    """
    start = _prefixes(values)[-1]
    named = [[k for k in c if not _is_numbered(k.removeprefix(start))] for c in candidates]
    i = max(range(len(named)), key=lambda i: len(named[i]))
    if named[i]:
        reason = f"as other names agree ({shorten(named[i], 1)}), the order is not used"
        _raise_differing(candidates[i], values, tensors, owner, reason)


def _is_numbered(rest: str) -> bool:
    """Return whether a name has only numbers of layers before its last part, as "0.weight".

    The "module" of spectral norm is no name of a layer.
    """
    layers = rest.split(".")[:-1]
    return bool(layers) and all(part.isdigit() or part == "module" for part in layers)


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes, "" and those that end in ".", that all names have, shortest first."""
    parts = [name.split(".")[:-1] for name in names]
    result = [""]
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        result.append(f"{result[-1]}{column[0]}.")
    return result


def _fit_in_order(
    pairs: Mapping[str, str], values: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]
) -> bool:
    """Return whether all pairs agree in shape and in the last part of the name.

    A state whose layer 10 comes before its layer 2, as in a file that sorts its names, is not in
    the order of the layers.
    """
    return (
        len(values) == len(tensors)
        and _is_ascending(values)
        and all(
            key.rpartition(".")[2] == name.rpartition(".")[2]
            and values[key].shape == _torch_shape(tensors[name])
            for key, name in pairs.items()
        )
    )


def _is_ascending(names: Iterable[str]) -> bool:
    """Return whether the numbers of layers ascend, where two successive names differ in one."""
    for first, second in itertools.pairwise(names):
        parts = zip(first.split("."), second.split("."), strict=False)
        a, b = next(((a, b) for a, b in parts if a != b), ("", ""))
        if a.isdigit() and b.isdigit() and int(a) > int(b):
            return False
    return True


def _raise_differing(
    by_name: Mapping[str, str],
    values: Iterable[str],
    tensors: Iterable[str],
    owner: str,
    reason: str,
) -> NoReturn:
    """Raise ValueError with the names of the net and of the state that have no partner."""
    partners = set(by_name.values())
    missing = [name for name in tensors if name not in partners]
    unexpected = [key for key in values if key not in by_name]
    texts = [
        f"{what} {shorten(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    raise ValueError(f"{owner}: {'; '.join(texts)} in the state to load, and {reason}")


def _torch_shape(x: Tensor) -> tuple[int, ...]:
    """Return the shape that a tensor has in PyTorch."""
    return x.shape[::-1] if isinstance(x, DenseWeight) else x.shape


def _check_shape(key: str, value: np.ndarray, x: Tensor, owner: str) -> None:
    """Raise ValueError where a tensor does not have the shape that PyTorch has for it."""
    expected = _torch_shape(x)
    if value.shape != expected:
        raise ValueError(
            f"{owner}: {key} is {value.shape} in the state to load, where PyTorch has {expected}"
            " for this layer"
        )


# -------------------------------------------------------------- what `Module.load_state_dict` says
def without_batch_counts(
    state: Mapping[str, Any], tensors: Mapping[str, Tensor], owner: str
) -> dict[str, Any]:
    """Return the state without the counters of PyTorch's batch norm, and say so in a Notice."""
    counts = [
        key
        for key in state
        if key.rpartition(".")[2] == _COUNT
        and key not in tensors
        and key.removesuffix(_COUNT) + "running_mean" in tensors
    ]
    _warn_left_out(counts, owner)
    return {key: value for key, value in state.items() if key not in counts}


def _warn_left_out(counts: list[str], owner: str) -> None:
    """Say in a Notice that the counters of PyTorch's batch norm are left out, if there are any."""
    if counts:
        warnings.warn(
            f"{owner}: {', '.join(counts)} in the state to load: left out, as batch norm has no"
            " such counter here",
            Notice,
            stacklevel=4,
        )


def refuse_transposed(state: Mapping[str, Any], tensors: Mapping[str, Tensor], owner: str) -> None:
    """Raise ValueError for the weight of a PyTorch Linear, (out, in), in the place of a Dense's.

    It is known by its shape, or, as a square shape says nothing, by being a tensor of PyTorch.
    """
    for key, x in tensors.items():
        value = state.get(key)
        if not isinstance(x, DenseWeight) or value is None:
            continue
        shape = tuple(np.shape(value))
        is_torchs = type(value).__module__.partition(".")[0] == "torch"
        if shape == x.shape[::-1] and (shape != x.shape or is_torchs):
            dtype = str(value.dtype).removeprefix("torch.") if hasattr(value, "dtype") else ""
            raise ValueError(
                f"{owner}: {key} is {dtype}{shape} in the state to load, but {x.dtype}{x.shape}"
                " here; nn.Dense has the transpose of PyTorch's layout: mg.nn.load_torch(net,"
                " state) transposes it, and nn.Linear has that layout itself"
            )

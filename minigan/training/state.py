"""Check the state that a checkpoint holds, before anything is built from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..utils.names import shorten
from .config import MAX_CLASSES, Config

if TYPE_CHECKING:
    from ..translation.config import TranslationConfig

AnyConfig = TypeVar("AnyConfig", bound="Config | TranslationConfig")

# The options in which a run may differ from its checkpoint, as no later step depends on them. The
# path of the data is one of them, as the data themselves are compared.
MAY_DIFFER = {
    *("steps", "data", "data_dir", "max_gb", "device"),
    *("log_every", "sample_every", "evaluate_every", "checkpoint_every", "keep"),
}
# The options whose default a Trainer sets, so that None in a config means the checkpoint's value.
FILLED = (
    *("model", "latent_size", "schedule_steps", "penalty_steps", "noise_steps"),
    "evaluate_every",
)
MAX_COUNT = 2**53  # steps and lines of metrics; every integer below it is exact as a float
MAX_SAMPLE_VALUES = 2**27  # numbers in a sample
OWN_TENSORS = (
    *("batches.order", "fixed_latent", "points"),
    *("gauges.d", "gauges.g", "gauges.samples"),
)  # all others belong to Players


class DataChangedError(ValueError):
    """A state belongs to other data; the message says what changed."""


def check_state(tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> Config:
    """Return the config of a state, and check the types, shapes and dtypes of its parts.

    Raises:
        KeyError, TypeError, ValueError: a part is missing, of another type, or not finite.
    """
    config = check_sampler_state(tensors, info)
    check_count("metrics_lines", info["metrics_lines"])
    for name in ("batches.order", "fixed_latent"):
        if name not in tensors:
            raise ValueError(f"{name} is missing")
    latent = tensors["fixed_latent"]
    if latent.dtype != np.float32 or latent.shape[1:] != (config.latent_size,):
        raise ValueError(
            f"fixed_latent is {latent.dtype} of shape {latent.shape}, where latent_size ="
            f" {config.latent_size}"
        )
    if "data" in info:
        samples = info["data"]["samples"]
        check_order(tensors["batches.order"], samples - round(config.holdout * samples))
    return config


def check_sampler_state(tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> Config:
    """Return the config of a state or a snapshot, and check what samples depend on.

    Raises:
        KeyError, TypeError, ValueError: a part is missing, of another type, or not finite.
    """
    check_count("step", info["step"])
    if not isinstance(info["config"], dict):
        raise ValueError("its config is not an object")
    config = Config.from_dict(info["config"])
    for name, x in tensors.items():
        if not np.isfinite(x).all():
            raise ValueError(f"{name} has values that are NaN or infinite")
    if "data" in info:
        _check_data(info["data"], tensors)
    return config


def check_count(name: str, value: Any) -> int:
    """Return a count; ValueError unless it is an integer in [0, 2^53)."""
    if type(value) is not int or not 0 <= value < MAX_COUNT:
        raise ValueError(f"{name} = {str(value)[:40]} is not an integer in [0, 2^53)")
    return value


def _check_data(data: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless a sampler can be built from the description of the data."""
    if not isinstance(data, dict):
        raise ValueError("data is not an object")
    samples = check_count("data.samples", data["samples"])
    if check_count("data.classes", data["classes"]) > max(MAX_CLASSES, samples):
        raise ValueError(f"data.classes = {data['classes']}: at most {MAX_CLASSES} are accepted")
    names = data["class_names"]
    if names is not None and not _are_names(names):
        raise ValueError(f"data.class_names = {str(names)[:40]} is not a list of names")
    if names is not None and len(names) != data["classes"]:
        raise ValueError(f"data.class_names has {len(names)} of {data['classes']} classes")
    shape = data["shape"]
    if not isinstance(shape, list) or len(shape) not in (1, 3):
        raise ValueError(f"data.shape = {str(shape)[:40]} is neither [D] nor [C, H, W]")
    values = 1
    for n in shape:
        values *= check_count("data.shape", n)
    if not 0 < values <= MAX_SAMPLE_VALUES:
        raise ValueError(f"data.shape = {shape}: samples of 1 to 2^27 numbers are accepted")
    if type(data["scale"]) is not float or not 0 < data["scale"] < np.finfo(np.float32).max:
        raise ValueError(f"data.scale = {str(data['scale'])[:40]} is not a positive number")
    if len(shape) == 1:
        points = tensors["points"]
        if points.dtype != np.float32 or points.shape[1:] != (shape[0],) or not len(points):
            raise ValueError(f"points are {points.dtype} of shape {points.shape}, not of {shape}")


def check_order(order: np.ndarray, samples: int) -> None:
    """Raise ValueError unless an order of batches has rows of so many training samples."""
    if order.dtype != np.int64 or order.ndim != 1:
        raise ValueError(
            f"batches.order is {order.dtype} of shape {order.shape}, not a row of int64"
        )
    if order.size and not 0 <= order.min() <= order.max() < samples:
        raise ValueError(f"the checkpoint belongs to other data than these {samples} samples")


def merge_config(
    config: AnyConfig,
    saved: AnyConfig,
    has_digest: bool,
    may_differ: Collection[str] = MAY_DIFFER,
    filled: Collection[str] = FILLED,
) -> AnyConfig:
    """Return the config of a run, with options of None replaced by those of its checkpoint.

    Args:
        config, saved: the config of the run and of its checkpoint, of one class.
        has_digest: whether the data are compared themselves, so that their path may differ.
        may_differ: the options in which they may differ. filled: those that may be None.

    Raises:
        ValueError: an option that later steps depend on differs from the checkpoint's.
    """
    values, saved_values = config.as_dict(), saved.as_dict()
    values |= {name: saved_values[name] for name in filled if values[name] is None}
    for name, value in values.items():
        is_free = name in may_differ and (name != "data" or has_digest)
        if not is_free and value != saved_values[name]:
            raise ValueError(f"it was written with {name} = {saved_values[name]!r}, not {value!r}")
    return type(config)(**values)


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return text on what differs between two digests of data; "" if nothing does."""
    kinds = {"samples": "{} samples", "shape": "samples of shape {}", "class_names": "classes {}"}
    changes = [
        f"{text.format(_text(now.get(name)))} (before: {_text(before.get(name))})"
        for name, text in kinds.items()
        if before.get(name) != now.get(name)
    ]
    old, new = before.get("class_names") or [], now.get("class_names") or []
    if old != new and sorted(old) == sorted(new):
        changes.append("older versions sorted classes as text, 10 before 2")
    if not changes:
        changes = [
            f"other {name}" for name in ("values", "labels") if before.get(name) != now.get(name)
        ]
    return ", ".join(changes)


def _text(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if _are_names(value):
        return shorten(value)
    return "none" if value is None else str(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)

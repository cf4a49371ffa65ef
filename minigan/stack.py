"""Several runs as one: a device on which every tensor is one array per seed.

How good a GAN is, is a mean over seeds, and ten small runs cost ten times the launches of one. So
the seeds become a device. An array there has a leading axis, the seeds, which a tensor's shape does
not show, and an op runs on the device below with its axes moved on by one. What is made of ops and
updates, nets, losses, penalties, gradients of gradients, optimizers, needs no change: it is written
for one run. (As `jax.vmap` does with functions; Bradbury et al. 2018.)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from .engine.device import Device, current_device, get_device, signed
from .engine.op import Op, Update
from .engine.tensor import Tensor

Attributes = dict[str, Any]


def stacked(seeds: Iterable[int], device: str | Device | None = None) -> Stacked:
    """A device that does a run per seed, all of them in each launch.

        with mg.use_device(mg.stacked(range(10))):
            generator = ...                    # ten, each drawn from its own seed
            z = mg.random.normal((256, 2))     # z.shape is (256, 2)
            generator(z).numpy()               # (10, 256, 2)

    Code in the block is that of one run, and each run has the bits that it would have alone, after
    `mg.manual_seed(seed)`. What differs: `numpy()` and state dicts have a leading axis, the seeds,
    which `load_state_dict` takes back, and `item()` raises. `mg.tensor` and `from_numpy` give
    all runs the same values, each a copy of its own; `share` gives them one. `mg.manual_seed(n)`
    starts all runs anew, from their seeds + n.

    Args:
        seeds: one per run, integers in [0, 2**64); equal seeds make equal runs.
        device: which holds the arrays and has the kernels; None: the current one.

    Returns:
        The device of these seeds, the same object for the same arguments.

    Raises:
        TypeError: a seed is no integer, or there is only one number.
        ValueError: there is no seed, or one is out of range; the device is stacked already.
    """
    if not np.iterable(seeds):
        raise TypeError(f"stacked: seeds is {type(seeds).__name__}; one seed per run, as range(10)")
    given = tuple(_seed(x) for x in seeds)
    if not given:
        raise ValueError("stacked: there are no seeds; each run needs one")
    below = current_device() if device is None else get_device(device)
    if isinstance(below, Stacked):
        raise ValueError(f"stacked: device {below.name!r} is stacked already")
    return _stacked(given, below)


def _seed(x: Any) -> int:
    try:
        found = operator.index(x)
    except TypeError:
        raise TypeError(f"stacked: seed {x!r} is no integer") from None
    if not 0 <= found < 2**64:
        raise ValueError(f"stacked: seed {found} is outside [0, 2**64)")
    return found


class Stack:
    """One array per run: `values` is (runs, *shape), an array of the device below.

    Where it is `shared`, all runs look into the same memory.
    """

    __slots__ = ("shared", "values")

    def __init__(self, values: Any, shared: bool = False) -> None:
        self.values, self.shared = values, shared

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def ndim(self) -> int:
        return self.values.ndim - 1

    @property
    def size(self) -> int:
        return self.values.size // len(self.values)


# --------------------------------------------------------------------------------------- the ops
# How the attributes of an op that sees one run become those of one that sees all. Ops that
# broadcast keep theirs; what is in neither is done run by run.
MOVED: dict[str, Callable[[int, Attributes], Attributes]] = {
    "reshape": lambda runs, a: {"shape": (runs, *a["shape"])},
    "broadcast_to": lambda runs, a: {"shape": (runs, *a["shape"])},
    "transpose": lambda runs, a: {"axes": (0, *(i + 1 for i in a["axes"]))},
    "slice": lambda runs, a: {"index": (slice(None), *a["index"])},
    "slice_scatter": lambda runs, a: {
        "shape": (runs, *a["shape"]),
        "index": (slice(None), *a["index"]),
        "value": a["value"],
    },
    **dict.fromkeys(
        ("concatenate", "gather", "scatter_add"),
        lambda runs, a: {**a, "axis": a["axis"] + 1},
    ),
    **dict.fromkeys(
        ("sum", "max"),
        lambda runs, a: {**a, "axis": tuple(i + 1 for i in a["axis"])},
    ),
    **dict.fromkeys(
        ("cast", "dense", "l1_distances", "l1_distances_grad", "l1_distances_jvp"),
        lambda runs, a: a,
    ),
}


class Stacked(Device):
    """The device that `stacked` gives; its arrays are `Stack`s."""

    def __init__(self, seeds: tuple[int, ...], below: Device) -> None:
        self.seeds, self.below = seeds, below
        self.name = f"{below.name} x {len(seeds)}"

    # ------------------------------------------------------------------------------- arrays
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Stack:
        return Stack(self.below.empty((len(self.seeds), *shape), dtype))

    def from_numpy(self, array: np.ndarray) -> Stack:
        """The same values for every run, each a copy of its own."""
        return self.restore(np.broadcast_to(array, (len(self.seeds), *array.shape)))

    def from_seed(self, seed: int) -> Stack:
        return self.restore(np.array([[signed(seed + own)] for own in self.seeds], np.int64))

    def to_numpy(self, array: Stack) -> np.ndarray:
        """A copy of the values, (runs, *shape)."""
        return self.below.to_numpy(array.values)

    def restore(self, array: np.ndarray) -> Stack:
        """An array (runs, *shape) as each run's own part of it."""
        if array.shape[:1] != (len(self.seeds),):
            raise ValueError(
                f"device {self.name!r}: values of shape {array.shape} have no leading axis of"
                f" {len(self.seeds)} runs"
            )
        return Stack(self.below.from_numpy(array))

    def adopt(self, array: np.ndarray, source: Device) -> Stack:
        if not isinstance(source, Stacked):
            return self.from_numpy(array)
        if source.seeds != self.seeds:
            raise ValueError(
                f"a tensor of seeds {list(source.seeds)} does not go to a device of seeds"
                f" {list(self.seeds)}; numpy() has its values"
            )
        return self.restore(array)

    def share(self, x: Tensor) -> Tensor:
        """A tensor of the device below as a constant that all runs read where it lies.

        Raises:
            TypeError, ValueError: x is no tensor, or lies on another device.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"share: a tensor is needed, not {type(x).__name__}")
        if x.device is not self.below:
            raise ValueError(
                f"share: the tensor is on {x.device.name!r}; {self.name!r} shares those of"
                f" {self.below.name!r}"
            )
        row = self._view("reshape", x.array, shape=(1, *x.shape))
        row = self._view("broadcast_to", row, shape=(len(self.seeds), *x.shape))
        shared = Tensor(Stack(row, shared=True), self)
        shared.version_cell = x.version_cell
        return shared

    def copy(self, target: Stack, source: Stack) -> None:
        self.below.copy(target.values, source.values)

    # ----------------------------------------------------------------------------- launches
    def run(self, op: Op, arrays: tuple[Any, ...], attributes: Attributes) -> Stack:
        values = tuple(x.values if isinstance(x, Stack) else x for x in arrays)
        moved = MOVED.get(op.name)
        if moved is None and not op.broadcasts:
            return self._run_by_run(op, arrays, attributes)
        if moved is not None:
            attributes = moved(len(self.seeds), attributes)
        if op.broadcasts or op.name == "broadcast_to":
            values = self._aligned(values, len(attributes.get("shape", ())))
        return Stack(self.below.run(op, values, attributes), op.view and arrays[0].shared)

    def _aligned(self, values: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
        """Arrays of as many axes each: axes of size 1 go between the seeds and a run's own."""
        most = max(ndim, *(x.ndim for x in values if hasattr(x, "ndim")))
        return tuple(
            self._view("reshape", x, shape=(len(x), *(1,) * (most - x.ndim), *x.shape[1:]))
            if hasattr(x, "ndim") and x.ndim < most
            else x
            for x in values
        )

    def _run_by_run(self, op: Op, arrays: tuple[Any, ...], attributes: Attributes) -> Stack:
        rows = [self.below.run(op, self._of(i, arrays), attributes) for i in range(len(self.seeds))]
        rows = [self._view("reshape", x, shape=(1, *x.shape)) for x in rows]
        return Stack(self.below.run(Op.registry["concatenate"], tuple(rows), {"axis": 0}))

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: Attributes) -> None:
        for i in update.writes:
            written = arrays[i] if isinstance(arrays[i], list) else [arrays[i]]
            if any(x.shared for x in written):
                raise ValueError(
                    f"{update.name}: a tensor that all runs share is a constant; mg.tensor makes"
                    " one that each run may change"
                )
        if update.name == "assign":
            return self.below.update(update, tuple(x.values for x in arrays), attributes)
        for i, own in enumerate(self.seeds):
            given = attributes
            if update.name == "reseed":
                given = {**attributes, "to_seed": signed(attributes["to_seed"] + own)}
            self.below.update(update, self._of(i, arrays), given)

    def _of(self, run: int, arrays: Iterable[Any]) -> tuple[Any, ...]:
        """The arrays, and lists of arrays, as one run has them."""
        return tuple(
            list(self._of(run, x))
            if isinstance(x, list)
            else self._view("slice", x.values, index=(run, ...))
            if isinstance(x, Stack)
            else x
            for x in arrays
        )

    def _view(self, name: str, array: Any, **attributes: Any) -> Any:
        return self.below.run(Op.registry[name], (array,), attributes)

    def program(self, recording: Any) -> Callable[[], None]:
        return self.below.program(recording)

    def on_compile(self, listener: Callable[[str], None] | None) -> None:
        self.below.on_compile(listener)

    def synchronize(self) -> None:
        self.below.synchronize()


_stacked = cache(Stacked)

"""The class Update: a launch that changes tensors in place and has no derivative."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np

from .op import KINDS, registered
from .recording import active_step
from .tensor import Tensor

# An update remembers at most so many combinations of shapes and dtypes that passed its check.
MAX_CHECKED_SIGNATURES = 256


class Argument(NamedTuple):
    """The declaration of one argument of an update (see `Update`)."""

    name: str
    kind: str  # "f", "x" or the name of a dtype
    is_list: bool
    is_optional: bool
    sizes: tuple[str, ...] | None  # None: any shape

    def __str__(self) -> str:
        kind = KINDS.get(self.kind, f"a {self.kind} tensor")
        return f"a list, each element {kind}" if self.is_list else kind

    def label(self, i: int) -> str:
        """Return the name of element i of a list, or of the tensor."""
        return f"{self.name}[{i}]" if self.is_list else self.name


class Update:
    """A change in place, without a derivative: `reference(*arrays, **attributes)`.

    Each argument is a tensor or a list of tensors (all of a model's parameters in one launch).
    Those numbered in `writes` are changed: their versions rise, so that `grad` refuses a graph
    that was recorded from the values they had before.

    `signature` declares what the arguments are, one word each, as in "f(m) f(n) f(m,n)":

        f, x        a float tensor, any tensor; all f and x of an update share one dtype
        int64, ...  a tensor of exactly this dtype
        (m,n)       its shape; a number is a size, a name is one size wherever it occurs
        [f]         a list; all lists have one length, and elements of one index one shape
        [f]?        a list that may also be empty

    Kernels trust it: they compute addresses from the shape and dtype of one argument for all.

    Raises:
        TypeError: an argument is no tensor or list of tensors, or its dtype is not as declared.
        ValueError: shapes, lengths or devices do not agree, or an array cannot be written.
    """

    registry: ClassVar[dict[str, Update]] = {}

    def __init__(
        self,
        name: str,
        reference: Callable[..., None],
        signature: str,
        writes: Sequence[int] = (0,),
    ) -> None:
        if name in Update.registry:
            raise ValueError(f"an update named {name!r} exists already")
        self.name, self.reference, self.writes = name, reference, tuple(writes)
        self.arguments = _parse_signature(reference, signature)
        self._agreed: set[tuple[Any, ...]] = set()  # shapes and dtypes that passed the check
        Update.registry[name] = self

    def __repr__(self) -> str:
        return f"Update({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return registered, (Update, self.name)

    def __call__(self, *arguments: Tensor | Sequence[Tensor], **attributes: Any) -> None:
        device, arrays = self._arrays(arguments)
        if device is None:
            return  # lists without a tensor: nothing to change
        self._check_agreement(arrays)
        self._check_writable(device, arrays)
        device.update(self, arrays, attributes)
        self._record(device, arguments)
        for i in self.writes:
            argument = arguments[i]
            for x in [argument] if isinstance(argument, Tensor) else argument:
                x.version_cell[0] += 1

    def _arrays(self, arguments: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
        """Return the device of all tensors (None if there is no tensor), and the arrays."""
        device = None
        arrays: list[Any] = []
        for number, argument in enumerate(arguments):
            single = isinstance(argument, Tensor)
            if not single and not isinstance(argument, (list, tuple)):
                raise TypeError(
                    f"{self.name}: argument {number} is {type(argument).__name__}, not a tensor or"
                    " a list of tensors"
                )
            for i, x in enumerate((argument,) if single else argument):
                if not isinstance(x, Tensor):
                    raise TypeError(
                        f"{self.name}: element {i} of argument {number} is {type(x).__name__}, not"
                        " a tensor"
                    )
                if x.device is not device:
                    if device is not None:
                        raise ValueError(
                            f"{self.name}: tensors lie on {device.name!r} and on"
                            f" {x.device.name!r}; an update works on one device"
                        )
                    device = x.device
            arrays.append(argument.array if single else [x.array for x in argument])
        return device, tuple(arrays)

    def _check_agreement(self, arrays: tuple[Any, ...]) -> None:
        """Raise unless the arrays are as declared.

        Shapes within lists are compared in each call. Other combinations of shapes and dtypes that
        passed the check are remembered, so that the check takes little time beside the launch.
        """
        kinds: list[Any] = []
        shapes: Any = None
        for x in arrays:
            if not isinstance(x, list):
                kinds += x.shape, x.dtype
                continue
            kinds.append(frozenset([y.dtype for y in x]))
            list_shapes = [y.shape for y in x]
            if shapes is None:
                shapes = list_shapes
            elif list_shapes and list_shapes != shapes:
                break
        else:
            if tuple(kinds) in self._agreed:
                return
        self._check_arrays(arrays)
        if len(self._agreed) >= MAX_CHECKED_SIGNATURES:
            self._agreed.clear()
        self._agreed.add(tuple(kinds))

    def _check_writable(self, device: Any, arrays: tuple[Any, ...]) -> None:
        """Raise ValueError for an array that cannot be changed in place."""
        can_write = device.can_write
        for i in self.writes:
            array = arrays[i]
            for k, x in enumerate(array if isinstance(array, list) else (array,)):
                if not can_write(x):
                    raise ValueError(
                        f"{self.name}: {self.arguments[i].label(k)} cannot be changed in place: its"
                        f" array ({type(x).__name__}, shape {x.shape}) is read-only, broadcast,"
                        " unaligned or a view of other memory"
                    )

    def _check_arrays(self, arrays: tuple[Any, ...]) -> None:
        """Raise unless the number of arguments, dtypes, lengths and shapes are as declared."""
        if len(arrays) != len(self.arguments):
            names = ", ".join(declared.name for declared in self.arguments)
            raise TypeError(
                f"{self.name}: takes {len(self.arguments)} arguments ({names}), not {len(arrays)}"
            )
        dtype: Any = None  # of all arguments of kind f and x
        lists: tuple[Argument, list[Any]] | None = None  # the first list, and its shapes
        sizes: dict[str, int] = {}
        for declared, array in zip(self.arguments, arrays, strict=True):
            if declared.is_list is not isinstance(array, list):
                actual = "a tensor" if declared.is_list else "a list"
                raise TypeError(f"{self.name}: {declared.name} is {actual}, not {declared}")
            xs = array if declared.is_list else [array]
            if not xs and declared.is_optional:
                continue
            dtypes = {x.dtype for x in xs}
            if dtype is None and declared.kind in "fx" and xs:
                dtype = xs[0].dtype
            accepted = dtype if declared.kind in "fx" else np.dtype(declared.kind)
            if dtypes != {accepted} or (declared.kind == "f" and accepted.kind != "f"):
                self._refuse_dtype(declared, xs, accepted)
            if declared.is_list:
                shapes = [x.shape for x in xs]
                if lists is None:
                    lists = declared, shapes
                elif shapes != lists[1]:
                    self._refuse_list(declared, shapes, *lists)
            elif declared.sizes is not None:
                self._check_shape(declared, array.shape, sizes)

    def _refuse_dtype(self, declared: Argument, xs: list[Any], accepted: Any) -> NoReturn:
        """Raise TypeError for the first tensor of another dtype, ValueError for an empty list."""
        for i, x in enumerate(xs):
            if declared.kind == "f" and x.dtype.kind != "f":
                raise TypeError(f"{self.name}: {declared.label(i)} is {x.dtype}, not {KINDS['f']}")
            if x.dtype != accepted:
                if declared.kind not in "fx":
                    raise TypeError(
                        f"{self.name}: {declared.label(i)} is {x.dtype}, not {accepted}"
                    )
                raise TypeError(
                    f"{self.name}: {declared.label(i)} is {x.dtype}, the tensors before it"
                    f" {accepted}; {self._agreeing_names()} share one dtype"
                )
        raise ValueError(f"{self.name}: {declared.name} is an empty list")

    def _refuse_list(
        self, declared: Argument, shapes: list[Any], first: Argument, first_shapes: list[Any]
    ) -> NoReturn:
        """Raise ValueError for a list whose length or shapes are not those of the first list."""
        if len(shapes) != len(first_shapes):
            raise ValueError(
                f"{self.name}: {declared.name} has length {len(shapes)}, {first.name}"
                f" {len(first_shapes)}; {self._agreeing_names()} are lists of one length"
            )
        i = next(i for i, shape in enumerate(shapes) if shape != first_shapes[i])
        raise ValueError(
            f"{self.name}: {declared.label(i)} has shape {tuple(shapes[i])}, {first.label(i)}"
            f" {tuple(first_shapes[i])}; elements of {self._agreeing_names()} agree in shape"
        )

    def _check_shape(self, declared: Argument, shape: Any, sizes: dict[str, int]) -> None:
        """Raise unless the shape is as declared; add the sizes that have names to `sizes`."""
        names = declared.sizes or ()
        if len(shape) == len(names) and all(
            n == (int(name) if name.isdigit() else sizes.setdefault(name, n))
            for name, n in zip(names, shape, strict=True)
        ):
            return
        known = ", ".join(f"{name} = {sizes[name]}" for name in names if name in sizes)
        raise ValueError(
            f"{self.name}: {declared.name} has shape {tuple(shape)}; accepted is"
            f" ({', '.join(names)}{',' * (len(names) == 1)})" + f" with {known}" * bool(known)
        )

    def _agreeing_names(self) -> str:
        """Return the names of the arguments that must agree, for error messages."""
        names = [x.name for x in self.arguments if x.kind in "fx"]
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))

    def _record(self, device: Any, arguments: Sequence[Tensor | Sequence[Tensor]]) -> None:
        """Record the tensors that this update changes, while a step is captured."""
        recording = active_step()
        if recording is None:
            return
        recording.devices[device] = None
        for i, argument in enumerate(arguments):
            for x in [argument] if isinstance(argument, Tensor) else argument:
                if i in self.writes:
                    recording.add_tensor(x, written=True)
                    if id(x.version_cell) in recording.read_only:
                        raise ValueError(
                            f"capture: {self.name} changes an argument of the step, which is a"
                            " copy; take the tensor from outside instead"
                        )
                    recording.written_versions.append(x.version_cell)


def _parse_signature(reference: Callable[..., None], signature: str) -> tuple[Argument, ...]:
    """Return the arguments that a signature declares, named as the parameters of `reference`."""
    names = list(inspect.signature(reference).parameters)
    arguments = []
    for name, word in zip(names, signature.split(), strict=False):
        match = re.fullmatch(r"(\[?)(\w+)\]?(\??)(?:\(([\w,]*)\))?", word)
        if match is None:
            raise ValueError(f"{word!r} in the signature {signature!r} declares no argument")
        bracket, kind, optional, sizes = match.groups()
        shape = None if sizes is None else tuple(filter(None, sizes.split(",")))
        arguments.append(Argument(name, kind, bool(bracket), bool(optional), shape))
    return tuple(arguments)

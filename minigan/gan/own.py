"""Make entries of MODELS and LOSSES of a user's own functions and classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import nn
from ..engine.tensor import Tensor
from ..utils.code_files import CodeError, describe_error

if TYPE_CHECKING:
    from .losses import GANLoss

Shape = tuple[int, ...]
LATENT_SIZE = 100  # where the user's model names none


@dataclass(frozen=True)
class OwnModel:
    """A `Model` whose nets a user's function `build(sample_shape, latent_size)` makes.

    The function returns (generator, discriminator), two modules. If it has a third parameter, it
    gets the shape of the discriminator's input, which differs from that of a sample with `pack` and
    with condition = "concat".
    """

    name: str
    function: Callable[..., Any]
    about: str
    latent_size: int

    def build(
        self, sample_shape: Shape, latent_size: int, discriminator_shape: Shape | None = None
    ) -> Any:
        """Return (generator, discriminator); ValueError where the function does not make them."""
        shape = discriminator_shape or sample_shape
        arguments: list[Any] = [sample_shape, latent_size, shape]
        if _count_parameters(self.function) < 3:
            if shape != sample_shape:
                raise ValueError(
                    f"model {self.name!r}: its discriminator gets inputs of shape {shape} (pack, or"
                    " condition = 'concat'), so build(sample_shape, latent_size) needs a third"
                    " parameter, discriminator_shape"
                )
            del arguments[2]
        try:
            networks = self.function(*arguments)
        except Exception as error:
            raise CodeError(f"model {self.name!r}: {describe_error(error)}") from error
        if not isinstance(networks, (tuple, list)) or len(networks) != 2:
            raise CodeError(
                f"model {self.name!r}: build returns {type(networks).__name__}, not"
                " (generator, discriminator)"
            )
        for net in networks:
            if not isinstance(net, nn.Module):
                raise CodeError(
                    f"model {self.name!r}: build returns a {type(net).__name__}, not an nn.Module"
                )
        return tuple(networks)


def as_model(name: str, thing: Any) -> OwnModel:
    """Return the entry of MODELS for a function `build`, or a class or object with that method.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(thing, type) and issubclass(thing, nn.Module):
        raise TypeError(
            f"model {name!r} is one net; a function build(sample_shape, latent_size) that returns"
            " (generator, discriminator) is needed"
        )
    owner = thing() if isinstance(thing, type) else thing
    function = getattr(owner, "build", owner)
    if not callable(function) or _count_parameters(function) < 2:
        raise TypeError(
            f"model {name!r} is neither a function build(sample_shape, latent_size) nor a class"
            " with that method"
        )
    about = str(getattr(owner, "about", "")) or (inspect.getdoc(owner) or "").partition("\n")[0]
    return OwnModel(name, function, about, int(getattr(owner, "latent_size", LATENT_SIZE)))


def as_loss(base: type[GANLoss], name: str, thing: Any) -> type[GANLoss]:
    """Return the entry of LOSSES for a class with the methods `discriminator` and `generator`.

    It may be a subclass of GANLoss. Of any other class, `generator` may have one parameter, the
    logits of fakes, or two, with those of real samples; `threshold`, `unit` and `levels` are taken
    from it where it has them.

    Raises:
        TypeError: it is no such class.
    """
    methods = [getattr(thing, method, None) for method in ("discriminator", "generator")]
    if not isinstance(thing, type) or not all(map(callable, methods)):
        raise TypeError(
            f"loss {name!r} is not a class with the methods discriminator(real_logits, fake_logits)"
            " and generator(fake_logits)"
        )
    if issubclass(thing, base):
        return thing
    takes_real = _count_parameters(methods[1]) > 2  # type: ignore[arg-type] # self is one of them

    class OwnLoss(base):  # type: ignore[misc, valid-type]
        threshold = getattr(thing, "threshold", 0.0)
        unit = getattr(thing, "unit", "loss")
        has_targets = False
        is_relativistic = takes_real

        def __init__(self, smooth: float = 1.0) -> None:
            super().__init__(smooth)
            self.own = thing()

        @property
        def levels(self) -> tuple[float | None, float | None]:
            return getattr(self.own, "levels", (None, None))

        def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
            return self.own.discriminator(real_logits, fake_logits)

        def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
            others = (real_logits,) if takes_real else ()
            return self.own.generator(fake_logits, *others)

    OwnLoss.__name__ = OwnLoss.__qualname__ = thing.__name__
    return OwnLoss


def _count_parameters(function: Callable[..., Any]) -> int:
    """Return how many positional arguments a function takes."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.kind in kinds for parameter in parameters)

"""What the benchmarks measure, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import nn
from ..gan.models import MODELS, Model
from .modes import CONTESTS, Contest


@dataclass(frozen=True)
class Game:
    """A GAN: one of `minigan.models`, the shape of a sample, and batch sizes."""

    model: Model
    sample_shape: tuple[int, ...]
    batches: tuple[int, ...]

    def nets(self) -> tuple[nn.Sequential, nn.Sequential]:
        """(generator, discriminator), newly initialised."""
        return self.model.build(self.sample_shape, self.model.latent_size)


GAMES = {
    "ring": Game(MODELS["toy"], (2,), (256,)),
    "MLP": Game(MODELS["mlp"], (1, 28, 28), (64, 128, 512)),
    "DCGAN": Game(MODELS["dcgan"], (1, 28, 28), (64,)),
}


@dataclass(frozen=True)
class Convolution:
    """Square images of `edge` pixels, square kernels."""

    batch: int
    inputs: int
    outputs: int
    edge: int
    kernel: int
    stride: int
    padding: int

    @property
    def result(self) -> int:
        """The edge of what it makes."""
        return (self.edge + 2 * self.padding - self.kernel) // self.stride + 1


CONVOLUTIONS = (
    *(Convolution(batch, 1, 64, 28, 4, 2, 1) for batch in (64, 128)),  # the DCGAN's two,
    *(Convolution(batch, 64, 128, 14, 4, 2, 1) for batch in (64, 128)),  # transposed in G
    Convolution(64, 128, 256, 8, 4, 2, 1),
    *(Convolution(64, 64, 64, edge, 3, 1, 1) for edge in (16, 28)),  # of residual nets
    Convolution(64, 128, 64, 16, 1, 1, 0),
)


@dataclass(frozen=True)
class Plan:
    """GANs, sizes, and the lengths of turns in seconds; tests take less of everything.

    Args:
        games: whose training steps are measured, the quickest first; products are "MLP"'s.
        square: edge of the one large square product.
        convolutions: those that are measured by themselves.
        matmul_seconds, step_seconds, conv_seconds: how long a contender runs each case in one of
            its turns.
        rest_seconds: how long to sleep at a time between two turns, until all threads sleep.
        cached_bytes, uncached_bytes: what a kernel moves where second-level caches hold it, for
            each thread, and where no cache does, in all.
        kernel_seconds: as step_seconds, for each kernel.
        contests: mixtures, and the methods that are compared on them.
        memory_steps: training steps before resident memory is read.
    """

    games: Mapping[str, Game] = field(default_factory=lambda: GAMES)
    square: int = 1024
    convolutions: tuple[Convolution, ...] = CONVOLUTIONS
    matmul_seconds: float = 0.01
    step_seconds: float = 0.1
    conv_seconds: float = 0.03
    rest_seconds: float = 0.02
    cached_bytes: int = 128 * 2**10
    uncached_bytes: int = 64 * 2**20
    kernel_seconds: float = 0.02
    memory_steps: int = 100
    contests: Mapping[str, Contest] = field(default_factory=lambda: CONTESTS)


@dataclass(frozen=True)
class DevicePlan:
    """What is measured on several devices, from the smallest on; tests take less of everything.

    Args:
        edges: of the square products.
        elements: of the arrays of all other kernels.
        games: GANs whose training steps are measured, the quickest first.
        kernel_seconds, step_seconds: how long a contender runs a case in one of its turns.
        longest: seconds of a call; a device that takes longer measures nothing larger.
        host_bytes: memory of a case's arrays, for devices that live in the host's.
        rest_seconds: as in Plan.
    """

    edges: tuple[int, ...] = (16, 33, 64, 127, 256, 511, 1024, 2049, 4096, 8192)
    elements: tuple[int, ...] = (
        *(64, 1_000, 2**12, 2**14, 65_537, 2**18, 1_000_003, 2**22, 16_777_259, 2**26),
    )
    games: Mapping[str, Game] = field(default_factory=lambda: GAMES)
    kernel_seconds: float = 0.02
    step_seconds: float = 0.1
    longest: float = 0.25
    host_bytes: int = 2**30
    rest_seconds: float = 0.01

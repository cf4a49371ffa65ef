"""The tasks, sizes and durations of the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import nn
from ..gan.conditional import input_sizes, make_conditional
from ..gan.models import MODELS, Model

CLASSES = 10  # the number of labels of a conditional task


@dataclass(frozen=True)
class Task:
    """A GAN to train: one of `minigan.gan.models`, the shape of a sample, and batch sizes.

    With a `penalty` above 0 it is a WGAN with gradient penalty of that weight (Gulrajani et al.
    2017), else the non-saturating GAN. `condition` is "none", "concat" or "projection".
    """

    model: Model
    sample_shape: tuple[int, ...]
    batches: tuple[int, ...]
    penalty: float = 0.0
    condition: str = "none"

    def build_networks(self) -> tuple[nn.Module, nn.Module]:
        """Return a new (generator, discriminator)."""
        shape, latent_size = self.sample_shape, self.model.latent_size
        if self.condition == "none":
            return self.model.build(shape, latent_size)
        inputs = input_sizes(self.condition, latent_size, shape, CLASSES)
        networks = self.model.build(shape, *inputs)
        return make_conditional(self.condition, *networks, shape, CLASSES)


TASKS = {
    "ring": Task(MODELS["toy"], (2,), (256,)),
    "MLP": Task(MODELS["mlp"], (1, 28, 28), (64, 128, 512)),
    "WGAN-GP": Task(MODELS["mlp"], (1, 28, 28), (64,), penalty=10.0),
    "DCGAN": Task(MODELS["dcgan"], (1, 28, 28), (64,)),
    "cGAN": Task(MODELS["mlp"], (1, 28, 28), (64,), condition="concat"),
    "SNGAN": Task(MODELS["sngan"], (1, 28, 28), (64,)),
    "SNGAN-projection": Task(MODELS["sngan"], (1, 28, 28), (64,), condition="projection"),
    "ResNet": Task(MODELS["resnet"], (1, 28, 28), (64,)),
}
# The tasks of `minigan bench --devices`, the fastest first; few, as all devices measure them.
DEVICE_TASKS = {name: TASKS[name] for name in ("ring", "MLP", "WGAN-GP", "DCGAN")}


@dataclass(frozen=True)
class Convolution:
    """A convolution of square images (`edge` pixels wide) with square kernels."""

    batch: int
    in_channels: int
    out_channels: int
    edge: int
    kernel: int
    stride: int
    padding: int

    @property
    def output_edge(self) -> int:
        """The width of the output in pixels."""
        return (self.edge + 2 * self.padding - self.kernel) // self.stride + 1


CONVOLUTIONS = (
    # The two layers of the DCGAN's discriminator; its generator has their transposes.
    *(Convolution(batch, 1, 64, 28, 4, 2, 1) for batch in (64, 128)),
    *(Convolution(batch, 64, 128, 14, 4, 2, 1) for batch in (64, 128)),
    Convolution(64, 128, 256, 8, 4, 2, 1),
    # Layers of residual networks.
    *(Convolution(64, 64, 64, edge, 3, 1, 1) for edge in (16, 28)),
    Convolution(64, 128, 64, 16, 1, 1, 0),
)


@dataclass(frozen=True)
class Plan:
    """The tasks, sizes and durations of `minigan bench`; tests use smaller ones.

    Args:
        tasks: whose training steps are measured; `matmul` takes "MLP".
        square: edge of the one large square matrix product.
        convolutions: those of `conv`.
        matmul_seconds, step_seconds, conv_seconds, kernel_seconds: time of a case per round.
        rest_seconds: length of one sleep between two contenders, until all threads are idle.
        cached_bytes: bytes that a kernel of `kernels` moves per thread, to stay in the L2 caches.
        uncached_bytes: bytes that it moves in all where no cache is large enough.
        memory_steps: training steps before resident memory is read.
    """

    tasks: Mapping[str, Task] = field(default_factory=lambda: TASKS)
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


@dataclass(frozen=True)
class DevicePlan:
    """The tasks, sizes and durations of `minigan bench --devices`; tests use smaller ones.

    Args:
        edges: of the square matrix products.
        elements: of the arrays of all other kernels.
        tasks: GANs whose training steps are measured, the fastest first.
        kernel_seconds, step_seconds: how long a contender runs a case in one round.
        max_call_seconds: a device whose call takes longer is not measured at larger sizes.
        max_host_bytes: memory of a case's arrays on devices that use the host's memory.
        rest_seconds: as in Plan.
    """

    edges: tuple[int, ...] = (16, 33, 64, 127, 256, 511, 1024, 2049, 4096, 8192)
    elements: tuple[int, ...] = (
        *(64, 1_000, 2**12, 2**14, 65_537, 2**18, 1_000_003, 2**22, 16_777_259, 2**26),
    )
    tasks: Mapping[str, Task] = field(default_factory=lambda: DEVICE_TASKS)
    kernel_seconds: float = 0.02
    step_seconds: float = 0.1
    max_call_seconds: float = 0.25
    max_host_bytes: int = 2**30
    rest_seconds: float = 0.01

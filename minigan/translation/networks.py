"""The networks of images from images: a U-Net generator and a patch discriminator.

Both consist of convolutions alone, so that they take images of any size: a net that was trained on
28 x 28 pixels repairs a whole photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from .. import nn, ops
from ..engine import random
from ..engine.assign import assign
from ..engine.tensor import Tensor

# The norm of hidden layers, a function of the number of channels.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "none": lambda channels: nn.Identity(),
}


class _Residual(nn.Module):
    """Add two convolutions of 3 x 3 pixels to their input (He et al. 2016)."""

    def __init__(self, channels: int, norm: str) -> None:
        first, second = (
            nn.Conv2d(channels, channels, 3, 1, 1, bias=norm == "none") for _ in range(2)
        )
        self.main = nn.Sequential(
            first, NORMS[norm](channels), nn.ReLU(), second, NORMS[norm](channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class UNet(nn.Module):
    """Map images to images of the same size by a net with skips (Ronneberger et al. 2015).

    Convolutions of 4 x 4 pixels and stride 2 halve the sides `depth` times and double the channels,
    residual blocks follow at the smallest size, and transposed convolutions double the sides again.
    Each of them has the map of the same size from the way down beside its input, so that edges need
    not pass through the smallest map; this is the generator of pix2pix (Isola et al. 2017), with
    the residual blocks of CycleGAN's (Zhu et al. 2017) in its middle. The output is in [-1, 1].

    Both sides of an image must be multiples of `multiple`.

    Args:
        inputs, outputs: the channels of the images.
        width: the channels at the full size.
        depth: how often the sides are halved.
        blocks: the number of residual blocks.
        norm: the norm of hidden layers, a name of NORMS.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 32,
        depth: int = 2,
        blocks: int = 2,
        norm: str = "batch",
    ) -> None:
        widths = [width * 2**i for i in range(depth + 1)]
        # A norm subtracts the mean, and with it a bias: the layers before one have none.
        bias = norm == "none"
        self.multiple = 2**depth
        self.first = nn.Sequential(nn.Conv2d(inputs, width, 3, 1, 1), nn.LeakyReLU(0.2))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, 2, 1, bias=bias), NORMS[norm](b), nn.LeakyReLU(0.2))
            for a, b in pairwise(widths)
        )
        self.middle = nn.Sequential(*(_Residual(widths[-1], norm) for _ in range(blocks)))
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(a if i == 0 else 2 * a, b, 4, 2, 1, bias=bias),
                *(NORMS[norm](b), nn.ReLU()),
            )
            for i, (a, b) in enumerate(pairwise(reversed(widths)))
        )
        self.last = nn.Sequential(nn.Conv2d(2 * width, outputs, 3, 1, 1), nn.Tanh())
        draw_small_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"UNet: images of {width}x{height} pixels; sides that are multiples of"
                f" {self.multiple} are needed"
            )
        x = self.first(x)
        skips = [x]
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        x = self.middle(skips.pop())
        for layer in self.up:
            x = ops.concatenate([layer(x), skips.pop()], axis=1)
        return self.last(x)


class InpaintingNet(nn.Module):
    """Fill the hole of an image: the net's output inside, the image itself outside.

    The input (n, C + 1, H, W) is the image with its hole set to 0, and a mask that is 1 in the
    hole. So a known pixel is never changed (as in Yang et al. 2017, section 3).
    """

    def __init__(self, net: UNet) -> None:
        self.net = net

    @property
    def multiple(self) -> int:
        """The number of which both sides must be multiples."""
        return self.net.multiple

    def forward(self, x: Tensor) -> Tensor:
        image, mask = x[:, :-1], x[:, -1:]
        return image * (1 - mask) + self.net(x) * mask


class PatchDiscriminator(nn.Module):
    """Classify each patch of an image as real or not (PatchGAN, Isola et al. 2017, section 3.2.2).

    Each of the `depth` convolutions of 4 x 4 pixels halves the sides; a last one of 3 x 3 makes the
    logits (n, 1, h, w), one for each patch: with two halvings a patch has 18 x 18 pixels. All
    layers have spectral norm (Miyato et al. 2018), so that no statistics of the batch are needed.
    """

    def __init__(self, inputs: int, width: int = 32, depth: int = 2) -> None:
        widths = [inputs, *(width * 2**i for i in range(depth))]
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2))
            for a, b in pairwise(widths)
        )
        self.last = nn.spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all hidden layers, and the logits (n, 1, h, w) as the last one."""
        maps = []
        for layer in self.hidden:
            x = layer(x)
            maps.append(x)
        return [*maps, self.last(x)]

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[-1]


def draw_small_weights(net: nn.Module, deviation: float = 0.02) -> None:
    """Draw weights from N(0, deviation^2), and set biases to 0 (Isola et al. 2017, 6.2)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            weight = layer.weight
            noise = random.normal(
                weight.shape, dtype=weight.dtype, device=weight.device, stream="init"
            )
            assign(weight, noise * deviation)
            if layer.bias is not None:
                assign(layer.bias, layer.bias.detach() * 0.0)


def pair_features(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return the mean over hidden layers of |D_i(real) - D_i(fake)|, each a mean over its numbers.

    This is the feature matching loss of pix2pixHD (Wang et al. 2018, equation 4). `real` and `fake`
    are what `PatchDiscriminator.features` returns; the logits are left out.
    """
    terms = [(r.detach() - f).abs().mean() for r, f in zip(real[:-1], fake[:-1], strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total / len(terms)

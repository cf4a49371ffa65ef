"""The training steps of images from images: pix2pix's of pairs, CycleGAN's without pairs."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import reduce
from typing import Any, cast

import numpy as np

from .. import nn, ops, optim
from ..engine.autograd import grad
from ..engine.device import Device
from ..engine.tensor import Tensor, no_grad
from ..gan.losses import LOSSES
from ..gan.players import discriminate, load_parts
from ..optim.schedules import factor
from .config import TranslationConfig
from .networks import InpaintingNet, PatchDiscriminator, UNet, pair_features


class TranslationPlayers:
    """Two nets with their optimizers and losses; subclasses have the training step.

    Attributes:
        config: the options, filled.
        generator, discriminator: the nets; of unpaired images `generator` is the one that
            translates, and each part is trained beside its counterpart.
        loss: the adversarial loss.
        optimizers: by player, "g" and "d".
        average: the moving average of the generator, None without `ema`.
    """

    def __init__(
        self, config: TranslationConfig, generators: nn.ModuleList, discriminators: nn.ModuleList
    ) -> None:
        self.config = config
        self.generators, self.discriminators = generators, discriminators
        self.loss = LOSSES[config.loss]()
        nets = {"g": generators, "d": discriminators}
        self.rates = {"g": float(config.lr_g or 0), "d": float(config.lr_d or 0)}
        settings = config.beta1, config.beta2, config.weight_decay
        self.optimizers = {
            player: optim.OPTIMIZERS[config.optimizer](
                net.parameters(), self.rates[player], *settings
            )
            for player, net in nets.items()
        }
        self.average = (
            optim.ExponentialMovingAverage(generators, config.ema, warmup=True)
            if config.ema
            else None
        )

    @property
    def generator(self) -> nn.Module:
        """The net that makes images, as it is trained."""
        return self.generators[0]

    @property
    def sampler(self) -> nn.Module:
        """The net that makes images: the generator's average if there is one."""
        if self.average is None:
            return self.generator
        return cast(nn.ModuleList, self.average.module)[0]

    @property
    def back(self) -> nn.Module:
        """Of unpaired images the net of the other direction; its average if there is one."""
        nets = self.generators if self.average is None else self.average.module
        return cast(nn.ModuleList, nets)[1]

    @property
    def device(self) -> Device:
        """The device of the nets."""
        return self.generators.parameters()[0].device

    @property
    def levels(self) -> dict[str, float | None]:
        """The losses at equilibrium, where D cannot tell G's images from true ones."""
        loss_d, loss_g = self.loss.levels
        return {"loss_d": loss_d, "loss_g": loss_g}

    @property
    def unit(self) -> str:
        """The unit of the losses."""
        return self.loss.unit

    def parts(self) -> dict[str, Any]:
        """Return everything that has a state dict, by its name in a checkpoint."""
        parts: dict[str, Any] = {
            "generator": self.generators,
            "discriminator": self.discriminators,
            **{f"optimizer_{player}": x for player, x in self.optimizers.items()},
        }
        return parts if self.average is None else {**parts, "average": self.average}

    def load_state(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restore all parts from a checkpoint's tensors, by name "part.tensor"."""
        load_parts(self.parts(), tensors)

    def prepare(self, step: int) -> None:
        """Set the learning rates of a step, counted from 0."""
        config = self.config
        if config.schedule != "constant" or config.warmup:
            steps = config.schedule_steps or config.steps
            rate = factor(config.schedule, step, steps, config.warmup)
            for player, optimizer in self.optimizers.items():
                optimizer.lr = self.rates[player] * rate

    def step(self, batch: list[Tensor]) -> dict[str, Any]:
        """Update D, then G, on a batch; return the losses, logits and gradients by name."""
        raise NotImplementedError

    def _update(self, player: str, net: nn.Module, terms: list[Tensor]) -> list[Tensor]:
        """Do an optimizer step on the sum of terms; return the gradients before clipping."""
        total = reduce(operator.add, terms)
        gradients = cast(list[Tensor], list(grad(total, net.parameters())))
        clipped = gradients
        if self.config.clip_norm:
            clipped = optim.clip_grad_norm(clipped, self.config.clip_norm)
        self.optimizers[player].step(clipped)
        if player == "g" and self.average is not None:
            self.average.update()
        return gradients

    def _adversarial(self, discriminator: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
        """Return G's adversarial loss."""
        real_logits = discriminator(real) if self.loss.is_relativistic else None
        return self.loss.generator(discriminator(fake), real_logits)


class PairedPlayers(TranslationPlayers):
    """One generator and one discriminator, trained on inputs x and truths y (Isola et al. 2017).

        loss_d = loss.discriminator(D([x, y]), D([x, G(x)].detach()))
        loss_g = adversarial * loss.generator(D([x, G(x)])) + l1 * mean |G(x) - y|
                 + features * mean over layers of |D_i([x, y]) - D_i([x, G(x)])|

    The discriminator sees the input beside the image, so that it can tell whether the two belong
    together. G has no noise: pix2pix's dropout changed its images little (section 3.1).
    """

    def step(self, batch: list[Tensor]) -> dict[str, Any]:
        config, (x, y) = self.config, batch
        generator, discriminator = self.generators[0], self.discriminators[0]
        fake = generator(x)
        real_pair, fake_pair = (ops.concatenate([x, image], axis=1) for image in (y, fake))
        logits = discriminate(discriminator, real_pair, fake_pair.detach())
        n = len(x)
        loss_d = self.loss.discriminator(logits[:n], logits[n:])
        gradients_d = self._update("d", self.discriminators, [loss_d])
        terms = {"l1": (fake - y).abs().mean() * float(config.l1 or 0)}
        if config.adversarial or config.features:
            net = cast(PatchDiscriminator, discriminator)
            fake_maps, real_maps = net.features(fake_pair), None
            if config.features or self.loss.is_relativistic:
                real_maps = net.features(real_pair)
            loss_g = self.loss.generator(
                fake_maps[-1], None if real_maps is None else real_maps[-1]
            )
            terms["adversarial"] = loss_g * config.adversarial
            if config.features and real_maps is not None:
                terms["features"] = pair_features(real_maps, fake_maps) * config.features
        else:  # D is trained all the same: its loss says how well the images can be told apart.
            with no_grad():
                loss_g = self._adversarial(discriminator, fake_pair, real_pair)
        gradients_g = self._update("g", self.generators, list(terms.values()))
        added = {name: value for name, value in terms.items() if name != "adversarial"}
        return {
            **{"loss_d": loss_d, "loss_g": loss_g, **added, "logits": logits.reshape(-1, 1)},
            **{"gradients_d": gradients_d, "gradients_g": gradients_g},
        }


class UnpairedPlayers(TranslationPlayers):
    """Generators and discriminators of both directions, without pairs (Zhu et al. 2017).

    With images a and b of the two kinds, F from a to b and B back:

        loss_d = loss.discriminator(D_b(b), D_b(F(a))) + loss.discriminator(D_a(a), D_a(B(b)))
        loss_g = adversarial * (loss.generator(D_b(F(a))) + loss.generator(D_a(B(b))))
                 + cycle * (mean |B(F(a)) - a| + mean |F(B(b)) - b|)
                 + identity * (mean |F(b) - b| + mean |B(a) - a|)

    The fakes are those of this step; CycleGAN shows D some of earlier steps too (section 4).
    """

    def step(self, batch: list[Tensor]) -> dict[str, Any]:
        config, (a, b) = self.config, batch
        (there, back), (net_b, net_a) = self.generators, self.discriminators
        fake_b, fake_a = there(a), back(b)
        losses_d, logits = [], []
        for net, real, fake in ((net_b, b, fake_b), (net_a, a, fake_a)):
            output = discriminate(net, real, fake.detach())
            n = len(real)
            losses_d.append(self.loss.discriminator(output[:n], output[n:]))
            logits.append(output)
        gradients_d = self._update("d", self.discriminators, losses_d)
        loss_g = self._adversarial(net_b, fake_b, b) + self._adversarial(net_a, fake_a, a)
        terms = {"adversarial": loss_g * config.adversarial}
        if config.cycle:
            there_and_back = (back(fake_b) - a).abs().mean() + (there(fake_a) - b).abs().mean()
            terms["cycle"] = there_and_back * config.cycle
        if config.identity:
            changes = (there(b) - b).abs().mean() + (back(a) - a).abs().mean()
            terms["identity"] = changes * config.identity
        gradients_g = self._update("g", self.generators, list(terms.values()))
        added = {name: value for name, value in terms.items() if name != "adversarial"}
        # The real logits of both kinds, then the fake ones.
        halves = [[part[:n], part[n:]] for part in logits]
        ordered = [part for both in zip(*halves, strict=True) for part in both]
        return {
            "loss_d": losses_d[0] + losses_d[1],
            "loss_g": loss_g,
            **added,
            "logits": ops.concatenate(ordered).reshape(-1, 1),
            **{"gradients_d": gradients_d, "gradients_g": gradients_g},
        }

    @property
    def levels(self) -> dict[str, float | None]:
        """The losses at equilibrium, sums over both directions."""
        return {
            name: None if level is None else 2 * level for name, level in super().levels.items()
        }


def build_players(config: TranslationConfig, inputs: int, channels: int) -> TranslationPlayers:
    """Return new nets of a filled config, with weights from the random stream "init".

    Args:
        inputs: the channels of G's input.
        channels: the channels of the images it makes.
    """
    shape = config.width, config.depth, config.blocks, str(config.norm)
    if config.is_unpaired:
        generators = nn.ModuleList(UNet(channels, channels, *shape) for _ in range(2))
        discriminators = nn.ModuleList(
            PatchDiscriminator(channels, config.width, config.depth) for _ in range(2)
        )
        return UnpairedPlayers(config, generators, discriminators)
    net: nn.Module = UNet(inputs, channels, *shape)
    if config.task == "inpaint":
        net = InpaintingNet(cast(UNet, net))
    discriminator = PatchDiscriminator(inputs + channels, config.width, config.depth)
    return PairedPlayers(config, nn.ModuleList([net]), nn.ModuleList([discriminator]))

"""The two players: how they are built, and one turn of each, on whatever device they live.

What a turn does beyond "judge, differentiate, step" is a table or an option of the Config: losses,
penalties, limits, augmentation, packing, labels.
"""

from __future__ import annotations

from typing import Any, cast

from .. import nn, ops, optim
from ..engine.assign import assign
from ..engine.autograd import grad
from ..engine.device import Device
from ..engine.random import LATENTS
from ..engine.tensor import Tensor, no_grad, tensor
from ..optim.schedules import factor
from ..training.config import Config
from .augment import diff_augment
from .conditional import CONDITIONS, ConditionalGenerator, embedding_size, extra_shape, head_inputs
from .losses import LOSSES, cross_entropy, feature_matching
from .models import MODELS
from .penalties import PENALTIES, orthogonal_penalty

Shape = tuple[int, ...]


# --------------------------------------------------------------------------------------- building
def build(config: Config, sample_shape: Shape, classes: int | None) -> tuple[nn.Module, nn.Module]:
    """(generator, discriminator) for samples of that shape, (C, H, W) or (D,), and their labels.

    Raises:
        ValueError: the model cannot take such samples, or the options need what they have not.
    """
    made = CONDITIONS[config.condition]
    if made is not None and not classes:
        raise ValueError(
            f"condition = {config.condition!r} needs labels, and the data have none"
            " (glyphs, mnist, ring and grid do, and an .npz or a folder of folders may)"
        )
    if config.augment != "none" and len(sample_shape) != 3:
        raise ValueError(f"augment = {config.augment!r} is for images, not for {sample_shape}")
    model = MODELS[config.model or "mlp"]
    latent_size = config.latent_size or model.latent_size
    first, *rest = sample_shape
    inputs, judged = latent_size, (config.pack * first, *rest)
    if made is not None and classes:
        inputs += embedding_size(classes)
        if config.condition == "concat":
            judged = (first + extra_shape(sample_shape, classes)[0], *rest)
    nets = model.build(sample_shape, inputs, judged)
    for net, shape in zip(nets, ((inputs,), judged), strict=True):
        nn.shapes(net, shape)  # a layer that does not fit is told here, with the shapes up to it
    generator: nn.Module = nets[0]
    plain = with_minibatch(nets[1], config.minibatch)
    discriminator: nn.Module = plain
    if made is not None and classes:
        generator = ConditionalGenerator(nets[0], classes)
        discriminator = made(plain, sample_shape, classes)
    if config.penalties and nn.has_batch_norm(discriminator):
        raise ValueError(
            f"penalty = {config.penalty!r}, but the discriminator of model = {config.model!r} has"
            " batch norm, so a sample's logit has no slope of its own (Gulrajani et al. 2017,"
            " section 4); a model without it is needed, such as mlp, toy, sngan or resnet"
        )
    return generator, discriminator


def with_minibatch(net: nn.Sequential, layer: str) -> nn.Sequential:
    """The discriminator with such a layer before its last one, which is made anew."""
    if layer == "none":
        return net
    inputs = head_inputs(net)
    more = {"stddev": 1, "discrimination": 8}[layer]
    found: nn.Module = nn.MinibatchStdDev()
    if layer == "discrimination":
        found = nn.MinibatchDiscrimination(inputs, more, kernel_dims=4)
    head: nn.Module = nn.Dense(inputs + more, 1)
    head = nn.spectral_norm(head) if isinstance(net[-1], nn.SpectralNorm) else head
    return nn.Sequential(*net[:-1], found, head)


# ---------------------------------------------------------------------------------------- playing
class Players:
    """Two nets with their optimizers, and what a turn of each is by the options of a Config.

    Of the Config's options it reads those that shape a turn. Of those that are None,
    `penalty_weight` means the penalty's usual weight; `schedule_steps`, `penalty_steps` and
    `noise_steps` mean `steps`.
    """

    def __init__(self, config: Config, generator: nn.Module, discriminator: nn.Module) -> None:
        self.config = config
        self.generator, self.discriminator = generator, discriminator
        self.loss = LOSSES[config.loss](smooth=config.smooth)
        self.labelled = config.condition != "none"
        nets = {"g": generator, "d": discriminator}
        self.optimizers = {
            k: optim.OPTIMIZERS[config.optimizer](
                net.parameters(), rate, config.beta1, config.beta2, config.weight_decay
            )
            for (k, net), rate in zip(nets.items(), (config.lr_g, config.lr_d), strict=True)
        }
        self.histories = {
            k: optim.HistoricalAverage(net.parameters())
            for k, net in nets.items()
            if config.historical
        }
        self.average = optim.ExponentialMovingAverage(generator, config.ema) if config.ema else None
        self.noise = nn.GaussianNoise(config.instance_noise)
        # A number that all penalties' weights are multiplied by, on the device, as it may fall.
        self.penalty_scale = tensor(1.0, dtype="float32")

    def parts(self) -> dict[str, Any]:
        """All that has a state, by name."""
        parts: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            **{f"optimizer_{k}": x for k, x in self.optimizers.items()},
            **{f"history_{k}": x for k, x in self.histories.items()},
        }
        return parts if self.average is None else {**parts, "average": self.average}

    @property
    def device(self) -> Device:
        return self.generator.parameters()[0].device

    @property
    def sampler(self) -> nn.Module:
        """What makes samples: the generator's average, where there is one."""
        return self.generator if self.average is None else self.average.module

    @property
    def levels(self) -> dict[str, float | None]:
        """By the metrics' names: where the losses and the penalty are at equilibrium, if known.

        That is where generator and data agree and D is at its best. Feature matching is 0 there, up
        to the noise of the batches. A penalty is 0 there if the loss, and every other penalty, lets
        D have the slope it asks for: all losses let it be flat, Wasserstein's any slope.
        """
        loss_d, loss_g = self.loss.levels
        slopes = {PENALTIES[name].slope for name in self.config.penalties} - {None}
        agreed = slopes <= {0} or (slopes == {1} and self.config.loss == "wasserstein")
        if not agreed:
            loss_d = loss_g = None
        if self.config.generator_loss == "feature-matching":
            loss_g = 0.0
        penalty = 0.0 if agreed and self.config.penalties else None
        return {"loss_d": loss_d, "loss_g": loss_g, "penalty": penalty}

    @property
    def unit(self) -> str:
        """That of the losses."""
        return self.loss.unit

    def prepare(self, step: int) -> None:
        """Set what changes with the number of the step (from 0): learning rates, instance noise."""
        config = self.config
        if config.schedule != "constant" or config.warmup:
            steps = config.schedule_steps or config.steps
            rate = factor(config.schedule, step, steps, config.warmup)
            self.optimizers["g"].lr = config.lr_g * rate
            self.optimizers["d"].lr = config.lr_d * rate
        if config.instance_noise:
            left = factor("linear", step, config.noise_steps or config.steps)
            self.noise.sigma = config.instance_noise * left
        if config.penalty_end is not None:
            progress = 1 - factor("linear", step, config.penalty_steps or config.steps)
            scale = (config.penalty_end / self._weight(config.penalties[0])) ** progress
            assign(self.penalty_scale, tensor(scale, dtype="float32", device=self.device))

    def play(self, reals: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
        """A turn of D on each of these batches, then G's turns; tensors by name.

        `reals` are (batch, ...), `labels` as many of (batch,), or none without a condition. Fakes
        take the labels of the real samples beside them. All happens on the device, so that it can
        be captured.
        """
        found: dict[str, Any] = {}
        for i, real in enumerate(reals):
            given = labels[i : i + 1]
            fake = self._fake(given)
            found |= self._turn_d(real, fake, given)
        for turn in range(self.config.n_generator):
            if turn:  # the first turn takes the fakes that D has just seen
                fake = self._fake(given)
            found |= self._turn_g(fake, real, given)
        return found

    def _fake(self, labels: list[Tensor]) -> Tensor:
        latent = self.latent(self.config.batch)
        return self.generator(latent, *labels)

    def latent(self, n: int, stream: str = "latent") -> Tensor:
        size = self.config.latent_size or MODELS[self.config.model or "mlp"].latent_size
        return LATENTS[self.config.latent]((n, size), device=self.device, stream=stream)

    # ------------------------------------------------------------------------------------- turns
    def _turn_d(self, real: Tensor, fake: Tensor, labels: list[Tensor]) -> dict[str, Any]:
        """The fakes are constants here."""
        seen = self._seen(real), self._seen(fake.detach())
        judged = judge(self.discriminator, *seen, *labels)
        logits, classes = self._columns(judged)
        n = len(seen[0])
        loss = self.loss.discriminator(logits[:n], logits[n:])
        found: dict[str, Any] = {"loss_d": loss, "logits": logits}
        beside = []
        if self.config.condition == "acgan":
            both = ops.add(cross_entropy(classes[:n], *labels), cross_entropy(classes[n:], *labels))
            found["class_d"] = ops.multiply(both, 0.5)
            beside.append(both)
        if self.config.penalties:
            found["penalty"] = self._penalty(*seen, labels)
            beside.append(found["penalty"])
        found["gradients_d"] = self._step("d", self.discriminator, loss, beside)
        if self.config.clip_weights:
            optim.clip_weights(self.discriminator.parameters(), self.config.clip_weights)
        return found

    def _turn_g(self, fake: Tensor, real: Tensor, labels: list[Tensor]) -> dict[str, Any]:
        seen, found = self._seen(fake), dict[str, Any]()
        beside: list[Tensor] = []
        if self.config.generator_loss == "feature-matching":
            with no_grad():
                wanted = self._features(self._seen(real), labels)
            loss = feature_matching(wanted, self._features(seen, labels))
        else:
            logits, classes = self._columns(self.discriminator(seen, *labels))
            real_logits = None
            if self.loss.is_relativistic:
                with no_grad():
                    judged = self.discriminator(self._seen(real), *labels)
                real_logits = self._columns(judged)[0]
            loss = self.loss.generator(logits, real_logits)
            if self.config.condition == "acgan":
                found["class_g"] = cross_entropy(classes, *labels)
                beside.append(found["class_g"])
        found["gradients_g"] = self._step("g", self.generator, loss, beside)
        if self.average is not None:
            self.average.update()
        return {"loss_g": loss, **found}

    def _step(self, k: str, net: nn.Module, loss: Tensor, beside: list[Tensor]) -> list[Tensor]:
        """Step on the loss and all that is added to it; the gradients, before any limit."""
        config = self.config
        if config.orthogonal:
            beside.append(ops.multiply(orthogonal_penalty(net), config.orthogonal))
        if config.historical:
            beside.append(ops.multiply(self.histories[k].penalty(), config.historical))
        for more in beside:
            loss = ops.add(loss, more)
        gradients = cast(list[Tensor], list(grad(loss, net.parameters())))
        limited = gradients
        if config.clip_norm:
            limited = optim.clip_grad_norm(limited, config.clip_norm)
        if config.clip_value:
            limited = optim.clip_grad_value(limited, config.clip_value)
        self.optimizers[k].step(limited)
        if config.historical:
            self.histories[k].update()
        return gradients

    # ----------------------------------------------------------------------------- what D sees
    def _seen(self, x: Tensor) -> Tensor:
        """Samples as D sees them: augmented, noisy, and `pack` of them side by side as one."""
        config = self.config
        if config.augment != "none":
            x = diff_augment(x, config.augment)
        if config.instance_noise:
            x = self.noise(x)
        if config.pack > 1:
            n, first, *rest = x.shape
            x = ops.reshape(x, n // config.pack, config.pack * first, *rest)
        return x

    def _penalty(self, real: Tensor, fake: Tensor, labels: list[Tensor]) -> Tensor:
        """All penalties on D's slope, each by its weight."""

        def critic(x: Tensor) -> Tensor:
            return self._columns(self.discriminator(x, *labels))[0]

        total: Tensor | None = None
        for name in self.config.penalties:
            value = ops.multiply(PENALTIES[name].of(critic, real, fake), self._weight(name))
            total = value if total is None else ops.add(total, value)
        assert total is not None
        falls = self.config.penalty_end is not None
        return ops.multiply(total, self.penalty_scale) if falls else total

    def _weight(self, name: str) -> float:
        return self.config.penalty_weight or PENALTIES[name].weight

    def _columns(self, judged: Tensor) -> tuple[Tensor, Tensor]:
        """The logit, and behind it what an auxiliary classifier says."""
        if self.config.condition != "acgan":
            return judged, judged
        return judged[:, :1], judged[:, 1:]

    def _features(self, x: Tensor, labels: list[Tensor]) -> Tensor:
        """(n, features): what D's last layer sees."""
        net: Any = self.discriminator
        return net.features(x, *labels) if self.labelled else net[:-1](x)


def judge(discriminator: nn.Module, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
    """What D says of both batches: in one pass, unless a sample's logit depends on its batch.

    `labels`: none, or those of the real samples, which the fakes share.
    """
    if nn.depends_on_batch(discriminator):
        return ops.concatenate([discriminator(real, *labels), discriminator(fake, *labels)])
    return discriminator(ops.concatenate([real, fake]), *(ops.concatenate([y, y]) for y in labels))

"""The training step of a GAN: discriminator steps, then generator steps.

Each method is an option of the Config that names an entry of a table: of losses, penalties,
optimizers or conditions. All arithmetic of a step is on the device, so that it can be captured.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np

from .. import nn, ops, optim
from ..engine.assign import assign
from ..engine.autograd import grad
from ..engine.creation import zeros_like
from ..engine.device import Device
from ..engine.latents import LATENTS
from ..engine.tensor import Tensor, no_grad, tensor
from ..optim.schedules import factor
from ..training.config import Config
from .augment import diff_augment
from .conditional import CLASSIFYING, information_losses
from .losses import LOSSES, cross_entropy, feature_matching
from .models import MODELS
from .penalties import PENALTIES, orthogonal_penalty, penalty_input, r1_and_r2_penalties
from .progressive import GrowingFeatures, growing_parts, growth_at


class Players:
    """A generator and a discriminator with their optimizers, and one training step of both.

    The step is algorithm 1 of Goodfellow et al. 2014. Without further options it is

        for real in real_batches:                # n_critic of them
            fake = generator(latent)
            loss_d = loss.discriminator(D(real), D(fake.detach()))
            optimizer_d.step(grad(loss_d, D.parameters()))
        loss_g = loss.generator(D(fake))
        optimizer_g.step(grad(loss_g, G.parameters()))

    Attributes:
        config: the options. None for `penalty_weight` means the penalty's usual weight, None for
            `schedule_steps`, `penalty_steps` and `noise_steps` means `steps`, None for
            `grow_steps` means 0.
        generator, discriminator: the networks.
        loss: the GAN loss.
        optimizers: by player, "g" and "d".
        average: the exponential moving average of the generator, None without `ema`.
        is_conditional: whether the networks are called with labels.
    """

    def __init__(self, config: Config, generator: nn.Module, discriminator: nn.Module) -> None:
        self.config = config
        self.generator, self.discriminator = generator, discriminator
        self.loss = LOSSES[config.loss](smooth=config.smooth)
        self.is_conditional = config.condition != "none"
        networks = {"g": generator, "d": discriminator}
        self.optimizers = {
            player: optim.OPTIMIZERS[config.optimizer](
                net.parameters(), lr, config.beta1, config.beta2, config.weight_decay
            )
            for (player, net), lr in zip(networks.items(), (config.lr_g, config.lr_d), strict=True)
        }
        self.histories = {
            player: optim.HistoricalAverage(net.parameters())
            for player, net in networks.items()
            if config.historical
        }
        self.average = (
            optim.ExponentialMovingAverage(generator, config.ema, warmup=True)
            if config.ema
            else None
        )
        nets = [generator, discriminator, *([] if self.average is None else [self.average.module])]
        self.growing = growing_parts(*nets)  # of a model that grows
        self._set_growth(0)
        self.instance_noise = nn.GaussianNoise(config.instance_noise)
        # All penalty weights are multiplied by this number. It is on the device because it changes
        # from step to step with `penalty_end`.
        self.penalty_scale = tensor(1.0, dtype="float32")

    def parts(self) -> dict[str, Any]:
        """Return everything that has a state dict, by its name in a checkpoint."""
        parts: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            **{f"optimizer_{player}": x for player, x in self.optimizers.items()},
            **{f"history_{player}": x for player, x in self.histories.items()},
        }
        return parts if self.average is None else {**parts, "average": self.average}

    def load_state(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restore all parts from a checkpoint's tensors, by name "part.tensor".

        Raises:
            ValueError: a tensor is missing, unknown, or of another shape or dtype.
        """
        load_parts(self.parts(), tensors)
        self.read_growth()

    def read_growth(self) -> None:
        """Let nets that grow choose their parts, after their states were loaded."""
        for net in self.growing:
            net.read_growth()

    @property
    def device(self) -> Device:
        """The device of the networks."""
        return self.generator.parameters()[0].device

    @property
    def sampler(self) -> nn.Module:
        """The network that draws samples: the generator's average if there is one."""
        return self.generator if self.average is None else self.average.module

    @property
    def levels(self) -> dict[str, float | None]:
        """The values of loss_d, loss_g and penalty at equilibrium; None where there is no value.

        At equilibrium the generator's distribution is the data's, and the discriminator is optimal.
        Feature matching is then 0, up to the noise of the batches. A penalty is 0 if its target
        slope agrees with the loss and with all other penalties: an optimal discriminator is flat
        for every loss but Wasserstein's, for which it may have any slope.
        """
        loss_d, loss_g = self.loss.levels
        slopes = {PENALTIES[name].target_slope for name in self.config.penalties} - {None}
        slopes_agree = slopes <= {0} or (slopes == {1} and self.config.loss == "wasserstein")
        if not slopes_agree:
            loss_d = loss_g = None
        if self.config.generator_loss == "feature-matching":
            loss_g = 0.0
        penalty = 0.0 if slopes_agree and self.config.penalties else None
        return {"loss_d": loss_d, "loss_g": loss_g, "penalty": penalty}

    @property
    def unit(self) -> str:
        """The unit of the losses."""
        return self.loss.unit

    def prepare(self, step: int) -> None:
        """Set the learning rates, instance noise, penalty scale and growth of a step, from 0 on."""
        config = self.config
        self._set_growth(step)
        if config.schedule != "constant" or config.warmup:
            steps = config.schedule_steps or config.steps
            rate = factor(config.schedule, step, steps, config.warmup)
            self.optimizers["g"].lr = config.lr_g * rate
            self.optimizers["d"].lr = config.lr_d * rate
        if config.instance_noise:
            remaining = factor("linear", step, config.noise_steps or config.steps)
            self.instance_noise.sigma = config.instance_noise * remaining
        if config.penalty_end is not None:
            progress = 1 - factor("linear", step, config.penalty_steps or config.steps)
            start = self._penalty_weight(config.penalties[0])
            scale = (config.penalty_end / start) ** progress
            assign(self.penalty_scale, tensor(scale, dtype="float32", device=self.device))

    def _set_growth(self, step: int) -> None:
        """Set the resolution of nets that grow, for a step.

        When another one begins, the optimizers begin anew, as in the paper's code: the second
        moments of its weights are those of no gradient so far, and the steps would be too large.
        """
        if not self.growing:
            return
        last, before = self.growing[0].last, self.growing[0].level
        for net in self.growing:
            net.grow(growth_at(step, self.config.grow_steps or 0, last))
        if self.growing[0].level > before:
            for optimizer in self.optimizers.values():
                optimizer.reset()

    @property
    def latent_size(self) -> int:
        """The length of a latent."""
        return self.config.latent_size or MODELS[self.config.model or "mlp"].latent_size

    def latent(self, n: int, stream: str = "latent") -> Tensor:
        """Draw latents (n, latent_size) from the distribution `config.latent`."""
        draw = LATENTS[self.config.latent].draw
        return draw((n, self.latent_size), device=self.device, stream=stream)

    # --------------------------------------------------------------------------- training steps
    def step(self, real_batches: list[Tensor], label_batches: list[Tensor]) -> dict[str, Any]:
        """Do a discriminator step on each real batch, then `n_generator` generator steps.

        Args:
            real_batches: tensors (batch, ...), `n_critic` of them.
            label_batches: their labels (batch,), int64; empty without a condition. Fakes have the
                labels of the real batch. For InfoGAN they are the fakes' categorical code.

        Returns:
            The results of the last discriminator step and of the last generator step, by name.
        """
        results: dict[str, Any] = {}
        for i, batch in enumerate(real_batches):
            labels = label_batches[i : i + 1]
            real = self._fade(batch)
            latent = self.latent(self.config.batch)
            fake = self.generator(latent, *labels)
            results |= self.discriminator_step(real, fake, labels, latent)
        for i in range(self.config.n_generator):
            if i:  # the first generator step uses the fakes of the last discriminator step
                latent = self.latent(self.config.batch)
                fake = self.generator(latent, *labels)
            results |= self.generator_step(fake, real, labels, latent)
        return results

    def discriminator_step(
        self, real: Tensor, fake: Tensor, labels: list[Tensor], latent: Tensor | None = None
    ) -> dict[str, Any]:
        """Update the discriminator; the fakes are constants. InfoGAN needs their latent.

        Returns:
            loss_d, without added terms; logits (2n, 1), those of real samples first; gradients_d,
            before clipping; penalty, class_d and code_d (nats per sample) with such options.
        """
        real, fake = self._discriminator_input(real), self._discriminator_input(fake.detach())
        # R1 and R2 use the samples whose logits the loss needs: one forward pass serves them too.
        is_shared = {"r1", "r2"} <= set(self.config.penalties)
        if is_shared:
            real, fake = penalty_input(real), penalty_input(fake)
        output = discriminate(self.discriminator, real, fake, *labels)
        logits, class_logits = self._split_output(output)
        n = len(real)
        loss = self.loss.discriminator(logits[:n], logits[n:])
        results: dict[str, Any] = {"loss_d": loss, "logits": logits}
        added_terms = []
        if self.config.condition == "acgan":
            class_losses = cross_entropy(class_logits[:n], *labels) + cross_entropy(
                class_logits[n:], *labels
            )
            results["class_d"] = class_losses * 0.5
            added_terms.append(class_losses)
        losses = self._information_losses(class_logits[n:], labels, latent)
        results |= {f"{name}_d": x for name, x in losses.items()}
        added_terms += losses.values()
        if self.config.penalties:
            results["penalty"] = self._penalty(real, fake, labels, logits if is_shared else None)
            added_terms.append(results["penalty"])
        results["gradients_d"] = self._update("d", self.discriminator, loss, added_terms)
        if self.config.clip_weights:
            optim.clip_weights(self.discriminator.parameters(), self.config.clip_weights)
        return results

    def generator_step(
        self, fake: Tensor, real: Tensor, labels: list[Tensor], latent: Tensor | None = None
    ) -> dict[str, Any]:
        """Update the generator, which made `fake` (of `latent`), and its average.

        Returns:
            loss_g, without added terms; gradients_g, before clipping; class_g (nats) for AC-GAN,
            class_g and code_g for InfoGAN.
        """
        results: dict[str, Any] = {}
        added_terms: list[Tensor] = []
        fake = self._discriminator_input(fake)
        if self.config.generator_loss == "feature-matching":
            with no_grad():
                real_features = self._features(self._discriminator_input(real), labels)
            loss = feature_matching(real_features, self._features(fake, labels))
        else:
            logits, class_logits = self._split_output(self.discriminator(fake, *labels))
            real_logits = None
            if self.loss.is_relativistic:
                with no_grad():
                    real_output = self.discriminator(self._discriminator_input(real), *labels)
                real_logits, _ = self._split_output(real_output)
            loss = self.loss.generator(logits, real_logits)
            if self.config.condition == "acgan":
                results["class_g"] = cross_entropy(class_logits, *labels)
                added_terms.append(results["class_g"])
            losses = self._information_losses(class_logits, labels, latent)
            results |= {f"{name}_g": x for name, x in losses.items()}
            added_terms += losses.values()
        results["gradients_g"] = self._update("g", self.generator, loss, added_terms)
        if self.average is not None:
            self.average.update()
        return {"loss_g": loss, **results}

    def _update(
        self, player: str, net: nn.Module, loss: Tensor, added_terms: list[Tensor]
    ) -> list[Tensor]:
        """Do an optimizer step on the sum of all terms; return the gradients before clipping."""
        config = self.config
        if config.orthogonal:
            added_terms.append(orthogonal_penalty(net) * config.orthogonal)
        if config.historical:
            added_terms.append(self.histories[player].penalty() * config.historical)
        total = reduce(operator.add, added_terms, loss)
        gradients = self._gradients(total, net)
        clipped = gradients
        if config.clip_norm:
            clipped = optim.clip_grad_norm(clipped, config.clip_norm)
        if config.clip_value:
            clipped = optim.clip_grad_value(clipped, config.clip_value)
        self.optimizers[player].step(clipped)
        if config.historical:
            self.histories[player].update()
        return gradients

    def _gradients(self, loss: Tensor, net: nn.Module) -> list[Tensor]:
        """Return the gradients; zeros for the parts of a net that grows which it does not use yet.

        With such gradients Adam leaves them as they are; only weight decay changes them.
        """
        parameters = net.parameters()
        gradients = grad(loss, parameters, allow_unused=bool(self.growing))
        pairs = zip(gradients, parameters, strict=True)
        return [zeros_like(p.detach()) if g is None else g for g, p in pairs]

    # ------------------------------------------------------ input and output of the discriminator
    def _fade(self, real: Tensor) -> Tensor:
        """Fade real samples as a generator that grows fades its own; see `GrowingFeatures`."""
        for net in self.growing:
            if isinstance(net, GrowingFeatures):
                real = net.fade_real(real)
        return real

    def _discriminator_input(self, x: Tensor) -> Tensor:
        """Augment samples, add instance noise, and pack each `pack` of them into one (PacGAN)."""
        config = self.config
        if config.augment != "none":
            x = diff_augment(x, config.augment)
        if config.instance_noise:
            x = self.instance_noise(x)
        if config.pack > 1:
            n, first, *rest = x.shape
            x = x.reshape(n // config.pack, config.pack * first, *rest)
        return x

    def _split_output(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (n, 1) and, for AC-GAN and InfoGAN, the columns after them."""
        if self.config.condition not in CLASSIFYING:
            return output, output
        return output[:, :1], output[:, 1:]

    def _information_losses(
        self, output: Tensor, labels: list[Tensor], latent: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the losses of Q's output for fakes, for InfoGAN; {} for the others."""
        if self.config.condition != "infogan":
            return {}
        assert latent is not None
        (categories,) = labels
        return information_losses(output, categories, latent[:, : self.config.codes])

    def _features(self, x: Tensor, labels: list[Tensor]) -> Tensor:
        """Return the input of the discriminator's last layer, (n, features)."""
        net: Any = self.discriminator
        return net.features(x, *labels) if self.is_conditional else net[:-1](x)

    def _penalty(
        self, real: Tensor, fake: Tensor, labels: list[Tensor], logits: Tensor | None
    ) -> Tensor:
        """Return the weighted sum of all gradient penalties.

        `logits`: those of real and fake, for R1 and R2; None: each penalty computes its own.
        """

        def discriminator(x: Tensor) -> Tensor:
            return self._split_output(self.discriminator(x, *labels))[0]

        values: dict[str, Tensor] = {}
        if logits is not None:
            values["r1"], values["r2"] = r1_and_r2_penalties(logits, real, fake)
        for name in self.config.penalties:
            if name not in values:
                values[name] = PENALTIES[name].compute(discriminator, real, fake)
        terms = [values[name] * self._penalty_weight(name) for name in self.config.penalties]
        total = reduce(operator.add, terms)
        return total if self.config.penalty_end is None else total * self.penalty_scale

    def _penalty_weight(self, name: str) -> float:
        return self.config.penalty_weight or PENALTIES[name].weight


def discriminate(discriminator: nn.Module, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
    """Return the discriminator's output for a real and a fake batch, the real samples first.

    Both batches are one forward pass, with larger and faster matrix products, unless a sample's
    output depends on its batch (batch norm, minibatch layers): then each has a pass of its own.

    Args:
        labels: none, or those of the real samples, which the fakes share.
    """
    if nn.depends_on_batch(discriminator):
        return ops.concatenate([discriminator(real, *labels), discriminator(fake, *labels)])
    return discriminator(ops.concatenate([real, fake]), *(ops.concatenate([y, y]) for y in labels))


def load_parts(parts: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Load the state of each part from the tensors with its name, "part.tensor".

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape or dtype.
    """
    unknown = sorted(name for name in tensors if name.split(".")[0] not in parts)
    if unknown:
        raise ValueError(f"unknown {unknown} in the state to load")
    for part, owner in parts.items():
        prefix = part + "."
        state = {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}
        owner.load_state_dict(state)

"""A variational autoencoder, the other generative model of the tutorials, beside the GAN."""

from __future__ import annotations

import math

from . import nn, ops
from .engine import random
from .engine.tensor import Tensor, tensor
from .utils.names import choose

LOG_2_PI = math.log(2 * math.pi)


class VAE(nn.Module):
    """A generative model p(x|z) p(z) with an encoder q(z|x) (Kingma and Welling 2014).

    The latents have the prior N(0, 1). The encoder maps x to mean and log variance of a normal
    distribution q(z|x) with independent coordinates, the decoder z to the parameters of p(x|z):

    - "bernoulli": logits of pixels in [0, 1]. The bound is one of a likelihood where pixels are 0
      or 1; of pixels between it is a cross-entropy.
    - "gaussian": means of pixels of any range, with one standard deviation for all of them, a
      parameter `log_sigma` that is learned (Rybkin et al. 2021). The bound is that of a density.

    Both nets are trained to maximize `elbo`:

        vae = mg.VAE(encoder, decoder, latent_size=32)  # nets from x to (n, 64), from (n, 32) to x
        optimizer = mg.optim.Adam(vae.parameters())

        @mg.capture
        def step(x):
            loss = -vae.elbo(x).mean()
            optimizer.step(mg.grad(loss, vae.parameters()))

    Args:
        encoder: a net from x (n, ...) to (n, 2 latent_size): the means, then the log variances.
        decoder: a net from z (n, latent_size) to (n, ...).
        latent_size: the numbers per latent.
        likelihood: "bernoulli" or "gaussian".

    Raises:
        ValueError: there is no such likelihood; later, a net's output has another shape.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_size: int,
        likelihood: str = "bernoulli",
    ) -> None:
        names = {"bernoulli": False, "gaussian": True}
        self.is_gaussian = choose("likelihood", likelihood, names)
        self.encoder, self.decoder = encoder, decoder
        self.latent_size, self.likelihood = latent_size, likelihood
        if self.is_gaussian:
            like = decoder.parameters()[0]
            self.log_sigma = tensor(0.0, dtype=like.dtype, device=like.device, requires_grad=True)

    # ------------------------------------------------------------------------------- the two nets
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z|x), each (n, latent_size)."""
        output, k = self.encoder(x), self.latent_size
        if output.shape != (len(x), 2 * k):
            raise ValueError(
                f"VAE: the encoder makes {output.shape} of {x.shape}; means and log variances,"
                f" {(len(x), 2 * k)}, are needed"
            )
        return output[:, :k], output[:, k:]

    def pixels(self, output: Tensor) -> Tensor:
        """Return the mean of p(x|z) for the decoder's output: the sigmoid of logits, or itself."""
        return output if self.is_gaussian else ops.sigmoid(output)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x|z) at the mean z of q(z|x), as images of x's shape."""
        return self.pixels(self.decoder(self.encode(x)[0]))

    def sample(self, n: int) -> Tensor:
        """Return the means of p(x|z) for n latents of the prior, drawn from the stream "samples".

        What is usually shown as a VAE's samples are these means, without the likelihood's noise.
        """
        like = self.decoder.parameters()[0]
        z = random.normal((n, self.latent_size), like.dtype, like.device, stream="samples")
        return self.pixels(self.decoder(z))

    # --------------------------------------------------------------------------------- the bounds
    def log_likelihood(self, x: Tensor, output: Tensor) -> Tensor:
        """Return log p(x|z), in nats per sample (n,), for the decoder's output."""
        if output.shape != x.shape:
            raise ValueError(f"VAE: the decoder makes {output.shape}, x is {x.shape}")
        if self.is_gaussian:
            error = (x - output) * ops.exp(-self.log_sigma)
            terms = error * error * -0.5 - self.log_sigma - LOG_2_PI / 2
        else:  # x log p + (1 - x) log(1 - p) with p = sigmoid(output)
            terms = x * output - ops.softplus(output)
        return _sum_samples(terms)

    def elbo(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the evidence lower bound on log p(x), in nats per sample (n,).

            E log p(x|z) - KL(q(z|x) || p(z)),  z = mean + sigma noise

        This is the paper's equation 10 with one sample z, whose gradient goes through z (the
        reparameterization); the KL divergence is in closed form (appendix B).

        Args:
            x: (n, ...).
            noise: (n, latent_size) from N(0, 1); None: it is drawn from the stream "latent".
        """
        mean, log_variance = self.encode(x)
        z = reparameterize(mean, log_variance, noise)
        return self.log_likelihood(x, self.decoder(z)) - kl_to_prior(mean, log_variance)

    def importance_bound(self, x: Tensor, samples: int = 50) -> Tensor:
        """Return the importance-weighted bound on log p(x), in nats per sample (n,).

            E log (1/k) sum_i p(x|z_i) p(z_i) / q(z_i|x)

        of k = `samples` latents (Burda et al. 2016, equation 8). In expectation it is the elbo for
        k = 1, rises with k, and is never above log p(x). Each of the k passes has the noise of a
        draw of its own.
        """
        if samples < 1:
            raise ValueError(f"VAE: samples = {samples}; at least one latent is needed")
        mean, log_variance = self.encode(x)
        logs = []
        for _ in range(samples):
            noise = random.normal(mean.shape, mean.dtype, mean.device)
            z = reparameterize(mean, log_variance, noise)
            # log p(z) - log q(z|x): the constants of both normal densities cancel.
            ratio = _sum_samples((noise * noise - z * z + log_variance) * 0.5)
            logs.append(self.log_likelihood(x, self.decoder(z)) + ratio)
        weights = ops.stack(logs)
        top = weights.detach().max(axis=0)  # taken out, so that no exponential overflows
        return ops.log(ops.exp(weights - top).mean(axis=0)) + top

    def extra_repr(self) -> str:
        return f"latent_size={self.latent_size}, likelihood={self.likelihood!r}"


def reparameterize(mean: Tensor, log_variance: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return z = mean + exp(log_variance / 2) noise, a draw of q(z|x) with a gradient.

    `noise` is from N(0, 1); None: it is drawn from the stream "latent".
    """
    if noise is None:
        noise = random.normal(mean.shape, mean.dtype, mean.device)
    return mean + ops.exp(log_variance * 0.5) * noise


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) in nats per sample (n,); see appendix B."""
    return _sum_samples(mean * mean + ops.exp(log_variance) - 1.0 - log_variance) * 0.5


def _sum_samples(x: Tensor) -> Tensor:
    """Sum over all axes but the first: (n, ...) to (n,)."""
    return x.sum(axis=tuple(range(1, x.ndim)))

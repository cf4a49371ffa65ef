"""The VAE: its bound by hand, derivatives, parity with PyTorch, that it learns, what it refuses."""

import math

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan import nn
from minigan.vae import kl_to_prior, reparameterize

RNG = np.random.default_rng
D, K, H = 5, 2, 4  # pixels, latents, hidden units
both_likelihoods = pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])


def small_vae(likelihood, device="cpu", dtype="float64"):
    encoder = nn.Sequential(nn.Dense(D, H), nn.Tanh(), nn.Dense(H, 2 * K))
    decoder = nn.Sequential(nn.Dense(K, H), nn.Tanh(), nn.Dense(H, D))
    for net in (encoder, decoder):
        net.to(device, dtype)
    return mg.VAE(encoder, decoder, K, likelihood)


def inputs(n=3):
    rng = RNG(0)
    return rng.random((n, D)), rng.standard_normal((n, K))


# ------------------------------------------------------------------------------------ by hand
@DEVICES
@both_likelihoods
def test_the_bound_is_the_formula(device, likelihood):
    vae, (x, noise) = small_vae(likelihood, device), inputs()
    if likelihood == "gaussian":
        mg.optim.assign(vae.log_sigma, mg.tensor(-0.7, dtype="float64", device=device))
    mean, log_variance = np.split(vae.encoder(mg.tensor(x, device=device)).numpy(), 2, axis=1)
    z = mean + np.exp(log_variance / 2) * noise
    output = vae.decoder(mg.tensor(z, device=device)).numpy()
    if likelihood == "bernoulli":
        p = 1 / (1 + np.exp(-output))
        log_p = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)
    else:
        s = math.exp(-0.7)
        log_p = (-((x - output) ** 2) / (2 * s * s) - math.log(s * math.sqrt(2 * math.pi))).sum(1)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1)
    bound = vae.elbo(*(mg.tensor(a, device=device) for a in (x, noise)))
    assert_close(bound.numpy(), log_p - kl, 1e-12)


def test_the_divergence_is_that_of_many_draws():
    mean, log_variance = mg.tensor([[0.8, -0.3]]), mg.tensor([[-1.0, 0.5]])
    noise = RNG(0).standard_normal((200_000, 2))
    m, v = mean.numpy(), np.exp(log_variance.numpy())
    z = m + np.sqrt(v) * noise
    ratio = 0.5 * (z**2 - noise**2 - np.log(v))  # log q(z) - log p(z)
    np.testing.assert_allclose(
        kl_to_prior(mean, log_variance).numpy(), ratio.sum(1).mean(), rtol=0.01
    )


def test_draws_have_the_mean_and_the_variance():
    mg.manual_seed(0)
    z = reparameterize(mg.full((100_000, 1), 3.0), mg.full((100_000, 1), math.log(4))).numpy()
    np.testing.assert_allclose([z.mean(), z.std()], [3, 2], rtol=0.01)


def test_the_gradient_goes_through_the_draw():
    """d z / d mean is 1, d z / d log variance is sigma noise / 2."""
    mean = mg.tensor([[1.0]], requires_grad=True)
    log_variance = mg.tensor([[math.log(9.0)]], requires_grad=True)
    z = reparameterize(mean, log_variance, mg.tensor([[0.4]]))
    gradients = mg.grad(z.sum(), [mean, log_variance])
    np.testing.assert_allclose([g.item() for g in gradients], [1, 3 * 0.4 / 2], rtol=1e-6)


# ------------------------------------------------------------------------------ a known posterior
def linear_gaussian(posterior_mean_factor=1.0):
    """p(x|z) = N(2 z, 1): log p(x) = log N(x; 0, 5), with the posterior N(2 x / 5, 1 / 5)."""
    encoder, decoder = nn.Dense(1, 2), nn.Dense(1, 1, bias=False)
    weight = np.array([[0.4 * posterior_mean_factor, 0.0]], np.float32)
    encoder.load_state_dict({"weight": weight, "bias": np.array([0, -math.log(5)], np.float32)})
    decoder.load_state_dict({"weight": np.array([[2.0]], np.float32)})
    return mg.VAE(encoder, decoder, 1, "gaussian")


X = np.array([[-3.0], [0.5], [2.0]], np.float32)
EXACT = (-(X**2) / 10 - 0.5 * math.log(2 * math.pi * 5))[:, 0]


def test_with_the_exact_posterior_each_weight_is_the_likelihood():
    mg.manual_seed(0)
    bound = linear_gaussian().importance_bound(mg.tensor(X), 3).numpy()
    np.testing.assert_allclose(bound, EXACT, atol=1e-5)


def test_bounds_are_below_the_likelihood_and_more_latents_come_nearer():
    mg.manual_seed(0)
    vae, x = linear_gaussian(0.3), mg.tensor(np.repeat(X, 4000, axis=0))
    elbo, *bounds = (
        bound.numpy().reshape(3, -1).mean(1)
        for bound in (vae.elbo(x), *(vae.importance_bound(x, k) for k in (1, 5, 50)))
    )
    np.testing.assert_allclose(bounds[0], elbo, atol=0.08)
    assert (elbo < bounds[1]).all()
    assert (bounds[1] < bounds[2]).all()
    assert (bounds[2] < EXACT + 0.01).all()
    assert (EXACT - bounds[2] < 0.2).all()
    assert (EXACT - elbo).max() > 1


# ------------------------------------------------------------------------------------ derivatives
@DEVICES
@both_likelihoods
def test_derivatives_up_to_order_2(device, likelihood):
    """The bound as a function of the sample and of all parameters, along random directions."""
    vae, arrays = small_vae(likelihood, device), list(inputs(2))

    def f(x, noise, *parameters):
        for (name, _), value in zip(names, parameters, strict=True):
            *path, last = name.split(".")
            owner = vae
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, last, value)
        return vae.elbo(x, noise)

    names = list(vae.named_parameters())
    arrays += [p.numpy() for _, p in names]
    assert len(names) == 8 + (likelihood == "gaussian")
    mg.check_gradients(f, arrays, device=device, rtol=1e-5)


# -------------------------------------------------------------------------------- parity, learning
@both_likelihoods
def test_ten_steps_as_in_pytorch(likelihood):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    vae = small_vae(likelihood)
    tensors = {name: torch.tensor(p.numpy(), requires_grad=True) for name, p in named(vae).items()}

    def net(player, x):
        w = [tensors[f"{player}.{i}.{key}"] for i in (0, 2) for key in ("weight", "bias")]
        return torch.tanh(x @ w[0] + w[1]) @ w[2] + w[3]

    def loss(x, noise):
        mean, log_variance = net("encoder", x).chunk(2, dim=1)
        output = net("decoder", mean + torch.exp(log_variance / 2) * noise)
        if likelihood == "bernoulli":
            p = torch.distributions.Bernoulli(logits=output, validate_args=False)
        else:
            p = torch.distributions.Normal(output, torch.exp(tensors["log_sigma"]))
        q = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
        return -(p.log_prob(x).sum(1) - kl.sum(1)).mean()

    other = torch.optim.Adam(tensors.values(), lr=0.01)
    optimizer = mg.optim.Adam(vae.parameters(), lr=0.01)

    @mg.capture
    def step(x, noise):
        value = -vae.elbo(x, noise).mean()
        optimizer.step(mg.grad(value, vae.parameters()))
        return value

    rng, losses = RNG(1), []
    for _ in range(10):
        x, noise = rng.random((8, D)), rng.standard_normal((8, K))
        ours = step(mg.tensor(x), mg.tensor(noise)).item()
        other.zero_grad()
        theirs = loss(torch.tensor(x), torch.tensor(noise))
        theirs.backward()
        other.step()
        losses.append(ours)
        assert abs(ours - theirs.item()) < 1e-8
    assert losses[-1] != losses[0]
    for name, p in named(vae).items():
        assert_close(p.numpy(), tensors[name].detach().numpy(), 1e-8, name)


def named(net):
    return dict(net.named_parameters())


@both_likelihoods
def test_it_learns_two_clusters_and_samples_both(likelihood):
    """Binary patterns 11000 and 00111: the bound nears -log 2, samples are these patterns."""
    mg.manual_seed(0)
    patterns = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], np.float32)
    encoder = nn.Sequential(nn.Dense(D, 16), nn.Tanh(), nn.Dense(16, 2 * K))
    decoder = nn.Sequential(nn.Dense(K, 16), nn.Tanh(), nn.Dense(16, D))
    vae = mg.VAE(encoder, decoder, K, likelihood)
    optimizer = mg.optim.Adam(vae.parameters(), lr=0.01)

    @mg.capture
    def step(x):
        optimizer.step(mg.grad(-vae.elbo(x).mean(), vae.parameters()))

    x = mg.tensor(np.tile(patterns, (32, 1)))
    for _ in range(600):
        step(x)
    with mg.no_grad():
        samples, again = vae.sample(400).numpy(), vae.reconstruct(x).numpy()
        bound = vae.importance_bound(x, 20).numpy().mean()
    np.testing.assert_allclose(again, x.numpy(), atol=0.1)
    distances = np.abs(samples[:, None] - patterns).max(axis=2)
    shares = (distances < 0.25).mean(axis=0)
    assert (shares > 0.25).all(), shares
    if likelihood == "bernoulli":
        assert -0.9 < bound < -math.log(2) + 0.01
    else:
        assert vae.log_sigma.item() < -2


def test_samples_do_not_change_a_training():
    vae = small_vae("bernoulli", dtype="float32")
    x = mg.tensor(np.zeros((2, D), np.float32))

    def bounds(draws):
        mg.manual_seed(3)
        for _ in range(draws):
            vae.sample(5)
        return vae.elbo(x).numpy()

    np.testing.assert_array_equal(bounds(0), bounds(2))


# ------------------------------------------------------------------------------------- bad input
def test_what_is_not_accepted():
    net = nn.Dense(D, 2 * K)
    with pytest.raises(ValueError, match="likelihood 'normal'"):
        mg.VAE(net, nn.Dense(K, D), K, "normal")
    x = mg.tensor(np.zeros((3, D), np.float32))
    with pytest.raises(ValueError, match=r"the encoder makes \(3, 4\) .* \(3, 6\), are needed"):
        mg.VAE(net, nn.Dense(3, D), 3).elbo(x)
    with pytest.raises(ValueError, match=r"the decoder makes \(3, 7\), x is \(3, 5\)"):
        mg.VAE(net, nn.Dense(K, 7), K).elbo(x)
    with pytest.raises(ValueError, match="samples = 0"):
        mg.VAE(net, nn.Dense(K, D), K).importance_bound(x, 0)

# %% [markdown]
# # 10 A zoo of losses
#
# 在同样的条件下比较各种损失和训练技巧，每次只改一处：先算最优判别器传给生成器的梯度，再看判别器
# 估计的是什么，最后用五个随机种子检验教程 003、004 的说法，每个结果都给出标准误差。
#
# Tutorial 003 says that the generator's loss (3.2), such as least squares (4.3), measures how
# similar fakes are to data, and recommends smooth labels (3.3); 004 (9.1) names the Wasserstein
# GAN, noise layers, labels and minibatch discrimination against collapse. What do they change?
#
# Needs: 05 (the optimal discriminator), 06 (training a GAN).

# %%
from types import SimpleNamespace

import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.data import Dataset
from minigan.gan.losses import Hinge, LeastSquares, NonSaturating, Relativistic, Wasserstein
from minigan.gan.models import MODELS, Perceptrons
from minigan.metrics import mixture_quality
from minigan.utils.figures import DATA, DISCRIMINATOR, GENERATOR, GREEN, GREY, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("10_zoo_of_losses", "A zoo of losses")

# %% [markdown]
# ## The gradient at a distance
#
# Real data are $p = N(0, 1)$; fakes are $x = d + z$ with normal $z$, so $q = N(d, 1)$. The
# generator's one parameter is $d$, and a good gradient takes it to 0. The log-ratio is linear:
# $$\ell(x) = \log \frac{p(x)}{q(x)} = \frac{d^2}{2} - d\,x .$$
# The optimal discriminator $D^*$ outputs $\ell$ for the logistic losses (minimax, non-saturating)
# and for RpGAN, which compares each fake with real samples; the probability $\sigma(\ell)$ for
# least squares; the sign of $\ell$ for hinge (smoothed here, to have a gradient); $-x$ for
# Wasserstein, where its slope is at most 1; and with labels $a$ (real) and $b$ (fake), the logit of
# $(a\,p + b\,q)/(p + q)$. The engine differentiates G's mean loss (see code), $D^*$ held fixed.
#
# Before you run it: least squares was proposed because cross-entropy saturates. Is its gradient at
# $d = 8$ near 0 or near 8? And which labels lose the gradient, 0.9 and 0, or 0.9 and 0.1?

# %%
Z = mg.tensor(np.linspace(-12, 12, 481))
WEIGHT = mg.tensor(np.exp(-(Z.numpy() ** 2) / 2) / np.sqrt(2 * np.pi) * 0.05)


def log_ratio(x, d):
    return d * d / 2 - x * d


def smoothed(b):
    return lambda x, d: ops.log(
        (0.9 * ops.exp(log_ratio(x, d)) + b) / (0.1 * ops.exp(log_ratio(x, d)) + 1 - b)
    )


OPTIMAL = {  # D*(x), and the generator's loss of its output f; d is a constant in both
    "minimax": (log_ratio, lambda f, d: -ops.softplus(f)),
    "hinge": (lambda x, d: ops.tanh((d / 2 - x) * 8.0), lambda f, d: -f),
    "least squares": (lambda x, d: ops.sigmoid(log_ratio(x, d)), lambda f, d: (f - 1.0) ** 2 / 2),
    "Wasserstein": (lambda x, d: -x, lambda f, d: -f),
    "non-saturating": (log_ratio, lambda f, d: ops.softplus(-f)),
    "labels 0.9 and 0": (smoothed(0.0), lambda f, d: ops.softplus(-f)),
    "labels 0.9 and 0.1": (smoothed(0.1), lambda f, d: ops.softplus(-f)),
    "RpGAN": (log_ratio, lambda f, d: ops.softplus(log_ratio(Z, d) - f.reshape(-1, 1)) @ WEIGHT),
}


def gradient(d, best, loss):
    theta = mg.tensor(float(d), dtype="float64", requires_grad=True)
    return mg.grad((WEIGHT * loss(best(theta + Z, d), d)).sum(), [theta])[0].item()


DISTANCES = np.linspace(0.125, 10, 80)
curves = {name: [gradient(d, *row) for d in DISTANCES] for name, row in OPTIMAL.items()}
for name, curve in curves.items():
    lesson.record(f"gradient at d = 8: {name}", curve[63])
lesson.expect("gradient at d = 8, least squares", curves["least squares"][63], at_most=0.01)
two_sided = curves["labels 0.9 and 0.1"][63] / curves["labels 0.9 and 0"][63]
lesson.expect("label smoothing: two-sided / one-sided", two_sided, at_most=0.01)

# %% Figure
COLOURS = (PINK, PINK, PINK, GREY, GREEN, GREEN, PINK, GREEN)
with lesson.figure(9, 4.2, "gradients") as figure:
    axes = figure.add_subplot(ylim=(1e-6, 40), xlabel="d", title="Generator's gradient")
    for name, colour in zip(curves, COLOURS, strict=True):
        axes.semilogy(DISTANCES, curves[name], color=colour)
    axes.text(3.9, 3e-5, "two-sided smoothing\nminimax\nhinge\nleast squares", color=PINK)
    axes.text(8.2, 1.3, "Wasserstein", color=GREY)
    axes.text(2.2, 12, "non-saturating, RpGAN, one-sided smoothing", color=GREEN)

# %% [markdown]
# *Minimax, hinge and least squares vanish* like $e^{-d^2/8}$, the overlap of the densities: where
# $D^*$ is certain, it is flat (hinge, least squares) or the loss is (minimax). *Wasserstein is
# constant*, as the slope of its discriminator (the *critic*) is. *Non-saturating and RpGAN grow*:
# $\ell$ has slope $-d$, and a recognized fake has weight 1. No net is involved, so convolutions
# and ResNets (004, 9.2) cannot help. *Two-sided smoothing* puts $q$ into the numerator: where only
# fakes are, $D^*$ is flat. At $d = 0$ hinge and Wasserstein still push: the distances that they
# measure (next section) have a corner there, like $|d|$. Which losses will be slow to settle?
#
# ## What a discriminator estimates
#
# Take five cells with the probabilities $p$ and $q$ below (from the book d2l-neu). The
# discriminator is a table of five numbers, so training can reach its optimum. It is stored as the
# first number and four steps between cells; for Wasserstein these are clipped to $[-1, 1]$, so its
# slope is at most 1. The loss at the optimum contains a divergence. With $m = (p + q) / 2$:
# - logistic: $2 \log 2 - 2\,\mathrm{JS}(p, q)$; hinge: $2 - 2\,\mathrm{TV}(p, q)$, total variation;
# - least squares: $\frac14 (1 - \chi^2(p \,\|\, m))$, with Pearson's $\chi^2$ to the mixture $m$;
# - Wasserstein: $-W_1(p, q)$; RpGAN: $\log 2 - \mathrm{JS}(p \times q, q \times p)$, since it asks
#   which sample of a pair is real. Is this JS of pairs smaller or larger than that of samples?

# %%
p, q = np.array([[35, 25, 20, 12, 8], [2, 5, 13, 30, 50]]) / 100
cells = [np.repeat(np.arange(5), np.rint(100 * x).astype(int)) for x in (p, q)]
real, fake = (mg.tensor(x.reshape(-1, 1)) for x in np.meshgrid(*cells))  # all 10,000 pairs


def js(p, q):
    return (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))).sum() / 2


ratio, js_pairs = np.log(p / q), js(np.outer(p, q), np.outer(q, p))
ESTIMATES = {  # the loss, the divergence computed from its value, that from p and q, and D*
    "JS": (NonSaturating(), lambda v: np.log(2) - v / 2, js(p, q), ratio),
    "chi^2": (LeastSquares(), lambda v: 1 - 4 * v, ((p - q) ** 2 / (p + q)).sum() / 2, p / (p + q)),
    "TV": (Hinge(), lambda v: 1 - v / 2, abs(p - q).sum() / 2, np.sign(ratio)),
    "W1": (Wasserstein(), lambda v: -v, abs(np.cumsum(p - q)).sum(), -np.arange(5.0)),
    "JS of pairs": (Relativistic(), lambda v: np.log(2) - v, js_pairs, ratio - ratio[0]),
}
tables, errors = {}, []
for name, (gan_loss, divergence, exact, _) in ESTIMATES.items():
    w = mg.tensor(np.zeros((5, 1)), requires_grad=True)
    optimizer = mg.optim.Adam([w])
    for i in range(600):
        table = mg.tensor(np.tri(5)) @ w  # cumulative sums
        loss = gan_loss.discriminator(ops.gather(table, real), ops.gather(table, fake))
        optimizer.lr = 0.1 * (1 - i / 600)
        optimizer.step(mg.grad(loss, [w]))
        if isinstance(gan_loss, Wasserstein):
            mg.optim.clip_weights([w], 1.0)
    tables[name], estimate = table.numpy()[:, 0], divergence(loss.item())
    lesson.record(f"a discriminator's estimate: {name}", estimate)
    errors.append(abs(estimate - exact))
lesson.expect("five estimates, the largest error", max(errors), at_most=1e-3)

# %% Figure
with lesson.figure(12, 2.8, "critics") as figure:
    for axes, name in zip(figure.subplots(1, 5), ESTIMATES, strict=True):
        axes.plot(ESTIMATES[name][3], color=GREY, lw=5, alpha=0.5)
        axes.plot(tables[name], "o", color=DISCRIMINATOR)
        axes.set(xticks=range(5), xlabel="cell", title=f"{name} = {ESTIMATES[name][2]:.3f}")

# %% [markdown]
# Two samples tell more than one: 0.377 beside 0.234 nats. And only the logistic discriminator
# (through a sigmoid) and that of least squares estimate a probability: 003 (4.2) says that all do.
#
# ## Eight losses, one problem
#
# The data: three Gaussians (sigma 0.7). The generator: three Gaussians with free means and shapes,
# so that JS(p, q) is a sum over a grid and needs no samples. They start too narrow, too far out and
# turned by 40 degrees, at a JS of 0.64. Each row of a table has options of `minigan train`. JS is
# what the logistic losses estimate. How far from 0 will the others end?


# %%
def dataset(k, radius, sigma, start=0.0, n=50_000):  # k Gaussians on a circle
    angles, rng = np.radians(start + 360 / k * np.arange(k)), np.random.default_rng(0)
    modes, labels = radius * np.stack([np.cos(angles), np.sin(angles)], 1), rng.integers(k, size=n)
    return Dataset("toy", modes[labels] + sigma * rng.normal(size=(n, 2)), labels, k, modes, sigma)


class ThreeGaussians(nn.Module):  # mean_i + (z_1, z_2) matrix_i, where z_0 chooses i
    def __init__(self):
        self.dense = nn.Dense(9, 2, bias=False)
        start = np.r_[dataset(3, 3.5, 0.4, start=130).modes, 0.4 * np.eye(2).repeat(3, axis=0)]
        self.dense.load_state_dict({"weight": start.astype("float32")})

    def forward(self, z):
        low, high = ops.less(z[:, :1], -0.4307), ops.greater(z[:, :1], 0.4307)  # thirds of N(0, 1)
        low, high = low.to("float32"), high.to("float32")
        i = ops.concatenate([low, 1.0 - low - high, high], axis=1)
        return self.dense(ops.concatenate([i, i * z[:, 1:2], i * z[:, 2:]], axis=1))


def train(data, seed, steps, lr, ratio=1, **row):  # ratio: D's learning rate / G's
    rates = {"lr_g": lr, "lr_d": ratio * lr, "schedule": "linear", "beta2": 0.99}
    config = mg.Config(steps=500 if lesson.fast else steps, seed=seed, holdout=0, **rates, **row)
    trainer = mg.Trainer(config, data)
    for _ in range(config.steps):
        trainer.step()
    return trainer


def on_grid(rows):  # probabilities of squares of side 0.1
    grid, total = np.stack(np.meshgrid(*[np.linspace(-7, 7, 141)] * 2), axis=-1), 1e-300
    for mean, matrix in ((rows[i], rows[3 + i :: 3]) for i in range(3)):
        z = (grid - mean) @ np.linalg.inv(matrix)
        total = total + np.exp(-(z**2).sum(axis=-1) / 2) / abs(np.linalg.det(matrix))
    return total / (6 * np.pi) * 0.01


small = MODELS["small"] = Perceptrons("two layers of 64", (64, 64), (64, 64), 2, slope=0.0)
MODELS["three"] = SimpleNamespace(
    latent_size=3, build=lambda *shapes: (ThreeGaussians(), small.build(*shapes)[1])
)
THREE, EIGHT = dataset(3, 2.4, 0.7, start=90), dataset(8, 1, 0.05)
TARGET = on_grid(np.r_[THREE.modes, 0.7 * np.eye(2).repeat(3, axis=0)])
GP = {"loss": "wasserstein", "penalty": "wgan-gp", "penalty_weight": 1.0}
NAMES = "nonsaturating", "minimax", "leastsquares", "hinge", "relativistic"  # the last is RpGAN
LOSSES = {name: {"loss": name} for name in NAMES} | {
    "WGAN-GP": GP,
    "WGAN-GP, 5 D steps": {**GP, "n_critic": 5},
    "WGAN, clipped": {"loss": "wasserstein", "clip_weights": 0.1},
}
# Fast mode: one seed, every seventh row, fewer steps.
SEEDS, EVERY, LR = (range(1), 7, 16e-3) if lesson.fast else (range(5), 1, 8e-3)
CALM = {"model": "three", "beta1": 0.0, "batch": 256, "steps": 2000, "lr": LR, "ratio": 2}
finals = {}
for name in list(LOSSES)[::EVERY]:
    nets = [train(THREE, i, **(CALM | LOSSES[name])).generator for i in SEEDS]
    finals[name] = [js(TARGET, on_grid(net.dense.weight.numpy())) for net in nets]
    lesson.record(f"JS: {name}", finals[name])
best, clipped = np.mean(finals["nonsaturating"]), np.mean(finals["WGAN, clipped"])
lesson.expect("JS, nonsaturating", best, at_most=0.1 if lesson.fast else 0.0011)
lesson.expect("JS, WGAN with clipped weights: times that", clipped / best, at_least=4)

# %% [markdown]
# All but one end below 0.005. For scale: 15 numbers fitted to n real points leave a JS of about
# 15/(8n), so 0.0009 (non-saturating) is a fit to 2,000 points. (d2l-neu, another start, 6000 steps,
# PyTorch and JAX: logistic 0.0011, 0.0008; least squares 0.0013, 0.0005; hinge 0.0059, 0.0041.)
# Hinge (0.0031 ± 0.0003) and WGAN-GP (0.0046 ± 0.0012) end higher, as a corner suggests; five D
# steps bring WGAN-GP to 0.0010. With clipped weights, the Gaussians shrink to lines (0.40 ± 0.06).
#
# ## Techniques against collapse
#
# Now eight Gaussians (the *modes*, sigma 0.05) on a circle, and nets of two layers of 64. The
# baseline, non-saturating with Adam's default beta1 of 0.9 (as in 001), loses most modes. What will
# help most: another loss, a technique that was made against collapse, or something else?

# %%
TECHNIQUES = {
    **LOSSES,  # the first is the baseline
    "TTUR": {"ratio": 4},  # D learns 4 times faster, and stays nearer its optimum
    "label smoothing": {"smooth": 0.9},  # one-sided: bounds D's logit on real samples
    "instance noise": {"instance_noise": 0.3},  # blurs what D sees; falls to 0
    "packing": {"pack": 2},  # D judges two samples at once, and sees repetition
    "minibatch stddev": {"minibatch": "stddev"},  # D sees how much a batch varies
    "minibatch discrimination": {"minibatch": "discrimination"},  # D sees who is close to whom
    "beta1 = 0": {"beta1": 0.0},  # no momentum: D changes, and old gradients mislead
    "WGAN, clipped, beta1 = 0": {**LOSSES["WGAN, clipped"], "beta1": 0.0},
    "weight decay": {"optimizer": "adamw", "weight_decay": 0.1},  # shrinks both nets' weights
    "labels": {"condition": "concat"},  # both players see the mode's number
}
BASE = {"beta1": 0.9, "model": "small", "batch": 128, "steps": 1000, "lr": 4e-3}
modes, shares = {}, {}
for name in list(TECHNIQUES)[::EVERY]:
    samples = [train(EIGHT, i, **(BASE | TECHNIQUES[name])).sample(2500) for i in SEEDS]
    found = [mixture_quality(x, EIGHT.modes, EIGHT.sigma) for x in samples]
    modes[name], shares[name] = [x.modes for x in found], [x.high_quality for x in found]
    lesson.record(f"modes of 8: {name}", modes[name])
    lesson.record(f"high quality: {name}", shares[name])
gain = np.mean(modes["beta1 = 0"]) - np.mean(modes["nonsaturating"])
lesson.expect("modes with beta1 = 0, more than the baseline's", gain, at_least=3)

# %% Figure
PANELS = (("JS, three Gaussians (nats)", finals, 15 / 8e4), ("Modes of 8", modes, 8))
PANELS += (("Share within 3 sigma", shares, 0.989),)
with lesson.figure(13, 6) as figure:
    for axes, (title, table, real) in zip(figure.subplots(1, 3), PANELS, strict=True):
        errors = [np.std(x) / np.sqrt(max(len(x) - 1, 1)) for x in table.values()]
        axes.barh(list(table), [np.mean(x) for x in table.values()], xerr=errors, color=GENERATOR)
        axes.axvline(real, color=DATA, ls="--")
        axes.set(title=title, xscale="log" if table is finals else "linear")
        axes.invert_yaxis()
    axes.set_yticks([])
lesson.finish()

# %% [markdown]
# Dashed: real data (left: a fit to 10,000 points). *No loss alone cures it*: the baseline covers
# 1.2 ± 0.4 modes, the others (one D step) 0.4 ± 0.2 (WGAN, clipped) to 5.0 ± 1.5 (least squares).
# *It helps if D keeps up with G*: no momentum (8 modes, 79 % within 3 sigma), TTUR (8, 42 %), five
# D steps for WGAN-GP (7.6 ± 0.4). WGAN does not "solve" collapse: clipped, it needs beta1 = 0 too.
# Minibatch discrimination (7.8 ± 0.2) works; packing, noise and smoothing (2.0 to 4.0, ± 0.6 to
# 1.6) do not reliably, in this short training. Labels (7.6) give both players the mode. And D sees
# collapse less well than 004 (2.3) says: where fakes match one mode of eight, $D^*$ is 1/9, not 0.
#
# ## Exercises
#
# 1. Add the gradients of minimax and non-saturating at any $d$. Why is the sum $d$?
#    <details><summary>Answer</summary> They are the means of $d\,\sigma(\ell)$ and $d\,(1 -
#    \sigma(\ell))$. So non-saturating descends KL(q || p) - 2 JS (lesson 05).</details>
# 2. Put `nn.GaussianNoise(0.3)` behind both hidden layers of the baseline's G. More modes?
#    <details><summary>Answer</summary> No: 0, 1, 0, 2, 0 (five seeds). Noise blurs them.</details>
# 3. Train `ThreeGaussians` without D, on the squared maximum mean discrepancy of two batches (128
#    points, Gaussian kernels of widths 0.5, 1, 2; Adam as in `CALM`). Where does JS end?
#    <details><summary>Answer</summary> At 0.0002: in the plane, a fixed kernel is enough.</details>
#
# Next: 11 WGAN-GP.

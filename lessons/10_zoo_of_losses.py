# %% [markdown]
# # 10 A zoo of losses
# 在同样的条件下比较各种损失和训练技巧，每次只改一处：先算最优判别器传给生成器的梯度，再看判别器
# 估计的是什么，最后用五个随机种子检验教程 003、004 的说法，每个结果都给出标准误差。
#
# Tutorial 003 says that G's loss (3.2), such as least squares (4.3), measures how similar fakes are
# to data, and recommends smooth labels (3.3). Against collapse, 004 (9.1) names the Wasserstein
# GAN, noise layers, labels and minibatch discrimination. What does each of them change? First, two
# small problems with exact answers; then eighteen GANs. Needs: 05 (the optimal D), 06 (training).

# %%
from types import SimpleNamespace

import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.data import Dataset
from minigan.gan.losses import Hinge, LeastSquares, NonSaturating, Relativistic, Wasserstein
from minigan.gan.models import MODELS, Perceptrons
from minigan.utils.figures import DATA, DISCRIMINATOR, GENERATOR, GREEN, GREY, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("10_zoo_of_losses", "A zoo of losses")

# %% [markdown]
# ## Six losses
# D gives each sample a number: $r$ to a real one, $f$ to a fake. Losses are means over a batch.
# softplus(t) = log(1 + e^t), so softplus(-f) = -log D where D = sigmoid(f). relu(t) = max(t, 0).
#
# | name | D minimizes | G minimizes | in words |
# | --- | --- | --- | --- |
# | minimax | softplus(-r) + softplus(f) | -softplus(f) | G loses what D gains on fakes |
# | non-saturating | the same | softplus(-f) | G wants its fakes to be called real |
# | least squares | ((r - 1)² + f²) / 2 | (f - 1)² / 2 | real should give 1, fake 0 |
# | hinge | relu(1 - r) + relu(1 + f) | -f | beyond 1 and -1, D is right enough |
# | Wasserstein | f - r | -f | a difference of means; D's slope must be limited |
# | RpGAN (relativistic paired) | softplus(f - r) | softplus(r - f) | which of a pair is real? |
#
# ## The gradient at a distance
# Real data are $N(0, 1)$, with density $p$. Fakes are $x = d + z$ with normal $z$; their density
# is $q$. G's one parameter $d$, the distance, should become 0. The log-ratio is linear in x:
# $$\ell(x) = \log \frac{p(x)}{q(x)} = \frac{d^2}{2} - d\,x .$$
# Each loss has its best discriminator $D^*$. For minimax and non-saturating (the *logistic* losses)
# and for RpGAN it is $\ell$. For least squares it is the probability of "real", $p/(p + q)$, which
# is the sigmoid of $\ell$. For hinge it is the sign of $\ell$ (here smoothed). For Wasserstein it
# is $-x$, as steep as allowed. *Label smoothing* trains a logistic D with the label 0.9 for real
# samples and $b$ for fakes: one-sided means $b = 0$, two-sided $b = 0.1$. Its $D^*$ is the logit of
# $(0.9\,p + b\,q)/(p + q)$. Before you run it: least squares was proposed because cross-entropy
# saturates. At $d = 8$, is its gradient near 0 or near 8? And which smoothing loses its gradient?


# %%
def log_ratio(x, d):
    return d * d / 2 - x * d


def smoothed(x, d, b):  # trained with the labels 0.9 (real) and b (fake)
    odds = ops.exp(log_ratio(x, d))
    return ops.log((0.9 * odds + b) / (0.1 * odds + 1 - b))


def gradient(d, best, loss):
    theta = mg.tensor(float(d), dtype="float64", requires_grad=True)
    return mg.grad((WEIGHT * loss(best(theta + Z, d), d)).sum(), [theta])[0].item()


def js(p, q):
    return (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))).sum() / 2


Z = mg.tensor(np.linspace(-12, 12, 481))
WEIGHT = mg.tensor(np.exp(-(Z.numpy() ** 2) / 2) / np.sqrt(2 * np.pi) * 0.05)
OPTIMAL = {  # D*(x), and the generator's loss of its output f; d is a constant in both
    "minimax": (log_ratio, lambda f, d: -ops.softplus(f)),
    "hinge": (lambda x, d: ops.tanh((d / 2 - x) * 8.0), lambda f, d: -f),
    "least squares": (lambda x, d: ops.sigmoid(log_ratio(x, d)), lambda f, d: (f - 1.0) ** 2 / 2),
    "Wasserstein": (lambda x, d: -x, lambda f, d: -f),
    "non-saturating": (log_ratio, lambda f, d: ops.softplus(-f)),
    "labels 0.9 and 0": (lambda x, d: smoothed(x, d, 0.0), lambda f, d: ops.softplus(-f)),
    "labels 0.9 and 0.1": (lambda x, d: smoothed(x, d, 0.1), lambda f, d: ops.softplus(-f)),
    "RpGAN": (log_ratio, lambda f, d: ops.softplus(log_ratio(Z, d) - f.reshape(-1, 1)) @ WEIGHT),
}
DISTANCES = np.linspace(0.125, 10, 80)
curves = {name: [gradient(d, *row) for d in DISTANCES] for name, row in OPTIMAL.items()}
for name, curve in curves.items():
    lesson.record(f"gradient at d = 8: {name}", curve[63])
lesson.expect("gradient at d = 8, least squares", curves["least squares"][63], at_most=0.01)
two_sided = curves["labels 0.9 and 0.1"][63] / curves["labels 0.9 and 0"][63]
lesson.expect("label smoothing: two-sided / one-sided", two_sided, at_most=0.01)

# %% Figure
COLOURS = (PINK, PINK, PINK, GREY, GREEN, GREEN, PINK, GREEN)
STYLES = ("-", "--", ":", "-", "-", "-", "-.", "-")
HEIGHTS = (1e-5, 3.6e-6, 1.3e-6, 1, 60, 7, 2.8e-5, 20)  # of the labels
with lesson.figure(10, 4.6, "gradients") as figure:
    axes = figure.add_subplot(xlim=(0, 10), ylim=(1e-6, 60), xlabel="d", title="G's gradient")
    for name, colour, style, y in zip(curves, COLOURS, STYLES, HEIGHTS, strict=True):
        axes.semilogy(DISTANCES, curves[name], style, color=colour)
        axes.plot([10, 10.5], [curves[name][-1], y], color=colour, lw=0.8, clip_on=False)
        axes.text(10.55, y, name, color=colour, va="center")

# %% [markdown]
# *Minimax, hinge and least squares vanish* like $e^{-d^2/8}$, the overlap of the densities. Where D
# is certain, the loss is flat (minimax), or D is. *Wasserstein is constant*, as the slope of D is.
# *Non-saturating and RpGAN grow*: $\ell$ has slope $-d$, and fakes that D recognizes count fully.
# *Two-sided smoothing loses its gradient*: where only fakes are, $D^*$ is flat, the logit of 0.1.
# Near $d = 0$, hinge and Wasserstein still push: what they measure has a corner there, like $|d|$.
#
# ## What a discriminator estimates
# Take five cells with the probabilities $p$ and $q$ below (from the book d2l-neu). D is a table of
# five numbers, stored as the first and four steps from cell to cell. For Wasserstein, the steps are
# clipped to $[-1, 1]$: no slope exceeds 1. Training can reach the optimum of such a D. The loss
# there contains a distance between $p$ and $q$. With the mean $m = (p + q)/2$ it is
# - logistic (minimax, non-saturating): $2 \log 2 - 2\,\mathrm{JS}(p, q)$, as in 05;
# - least squares: $(1 - \chi^2)/4$, with the relative squared error $\chi^2 = \sum (p - m)^2 / m$;
# - hinge: $2 - 2\,\mathrm{TV}$. The total variation TV is half the area between $p$ and $q$;
# - Wasserstein: $-W_1$. To turn $q$ into $p$, samples must move by $W_1$ on average, at least;
# - RpGAN: $\log 2 - \mathrm{JS}$ of pairs, (real, fake) or (fake, real). Will this JS be larger?

# %%
p, q = np.array([[35, 25, 20, 12, 8], [2, 5, 13, 30, 50]]) / 100
cells = [np.repeat(np.arange(5), np.rint(100 * x).astype(int)) for x in (p, q)]
real, fake = (mg.tensor(x.reshape(-1, 1)) for x in np.meshgrid(*cells))  # all 10,000 pairs
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
        if name == "W1":
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
# Larger: two samples tell more than one. And only the logistic D (through a sigmoid) and that of
# least squares estimate a probability; 003 (4.2) says that every D does.
#
# ## Eight losses, one problem
# The data are three Gaussians (sigma 0.7). G is three Gaussians too, with free means and shapes, so
# JS is a sum over a grid. It starts too narrow, too far out and rotated by 40 degrees: JS = 0.64. D
# is a net. To limit its slope for Wasserstein, WGAN *clips its weights* to [-0.1, 0.1]. WGAN-GP
# adds a *gradient penalty* to its loss (lesson 11), here with one or five steps of D for each of G.
# Only logistic losses estimate JS. Before you run it: how far from 0 will the others end?


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
    for i in range(3):
        z = (grid - rows[i]) @ np.linalg.inv(rows[3 + i :: 3])
        total = total + np.exp(-(z**2).sum(axis=-1) / 2) / abs(np.linalg.det(rows[3 + i :: 3]))
    return total / (6 * np.pi) * 0.01


small = MODELS["small"] = Perceptrons("two layers of 64", (64, 64), (64, 64), 2, slope=0.0)
MODELS["three"] = three = SimpleNamespace(latent_size=3)
three.build = lambda *shapes: (ThreeGaussians(), small.build(*shapes)[1])
THREE, EIGHT = dataset(3, 2.4, 0.7, start=90), dataset(8, 1, 0.05)
TARGET = on_grid(np.r_[THREE.modes, 0.7 * np.eye(2).repeat(3, axis=0)])
GP = {"loss": "wasserstein", "penalty": "wgan-gp", "penalty_weight": 1.0}
CLIPPED = {"loss": "wasserstein", "clip_weights": 0.1}
NAMES = "nonsaturating", "minimax", "leastsquares", "hinge", "relativistic"  # the last is RpGAN
LOSSES = {name: {"loss": name} for name in NAMES}
LOSSES |= {"WGAN-GP": GP, "WGAN-GP, 5 D steps": {**GP, "n_critic": 5}, "WGAN, clipped": CLIPPED}
SEEDS, EVERY, LR = (range(1), 7, 16e-3) if lesson.fast else (range(5), 1, 8e-3)
CALM = {"model": "three", "beta1": 0.0, "batch": 256, "steps": 2000, "lr": LR, "ratio": 2}
finals, modes, shares = {}, {}, {}
for name in list(LOSSES)[::EVERY]:  # in fast mode every seventh row, for one seed
    nets = [train(THREE, i, **(CALM | LOSSES[name])).generator for i in SEEDS]
    finals[name] = [js(TARGET, on_grid(net.dense.weight.numpy())) for net in nets]
    lesson.record(f"JS: {name}", finals[name])
best, clipped = np.mean(finals["nonsaturating"]), np.mean(finals["WGAN, clipped"])
lesson.expect("JS, nonsaturating", best, at_most=0.1 if lesson.fast else 0.0011)
lesson.expect("JS, WGAN with clipped weights: times that", clipped / best, at_least=4)

# %% [markdown]
# For scale: 15 numbers fitted to n real points leave a JS of about 15/(8n). So 0.0009
# (non-saturating) is a fit to 2,000 points. All but one end below 0.005. Hinge (0.0031 ± 0.0003)
# and WGAN-GP (0.0046 ± 0.0012) end higher, as a corner suggests; five D steps bring WGAN-GP to
# 0.0010. With clipped weights, the Gaussians shrink to lines (0.40 ± 0.06).
#
# ## Techniques against collapse
# Now eight Gaussians on a circle (the *modes*, sigma 0.05), and nets with two layers of 64. The
# baseline, non-saturating with Adam's default beta1 = 0.9 (001), loses most modes. What helps most?
#
# | technique | what it changes | why somebody thought that it helps |
# | --- | --- | --- |
# | TTUR (two time-scale update rule) | D's learning rate is 4 times G's | D stays near $D^*$ |
# | label smoothing (one-sided) | D's label for real samples is 0.9 | D is never certain |
# | instance noise | noise on all that D sees, falling to 0 | then $p$ and $q$ overlap |
# | packing | D judges two samples as one | D sees when they are alike |
# | minibatch stddev | D sees the standard deviation of 4 samples | collapse makes it small |
# | minibatch discrimination | D sees how close a sample is to its batch | likewise |
# | beta1 = 0 | Adam has no momentum | D changes, so old gradients mislead |
# | weight clipping (WGAN) | D's weights stay in [-0.1, 0.1] | its slope is limited |
# | weight decay | all weights of both nets shrink a little in each step | D stays smooth |
# | labels | both players see the number of the mode | G need not find the modes |

# %%
TECHNIQUES = LOSSES | {"TTUR": {"ratio": 4}, "label smoothing": {"smooth": 0.9}}
TECHNIQUES |= {"instance noise": {"instance_noise": 0.3}, "packing": {"pack": 2}}
TECHNIQUES |= {f"minibatch {name}": {"minibatch": name} for name in ("stddev", "discrimination")}
TECHNIQUES |= {"beta1 = 0": {"beta1": 0.0}, "WGAN, clipped, beta1 = 0": {**CLIPPED, "beta1": 0.0}}
TECHNIQUES |= {"weight decay": {"optimizer": "adamw", "weight_decay": 0.1}}
TECHNIQUES |= {"labels": {"condition": "concat"}}
BASE = {"beta1": 0.9, "model": "small", "batch": 128, "steps": 1000, "lr": 4e-3}
for name in list(TECHNIQUES)[::EVERY]:
    samples = [train(EIGHT, i, **(BASE | TECHNIQUES[name])).sample(2500) for i in SEEDS]
    found = [mg.metrics.mixture_quality(x, EIGHT.modes, EIGHT.sigma) for x in samples]
    modes[name], shares[name] = [x.modes for x in found], [x.high_quality for x in found]
    lesson.record(f"modes of 8: {name}", modes[name])
    lesson.record(f"high quality: {name}", shares[name])
gain = np.mean(modes["beta1 = 0"]) - np.mean(modes["nonsaturating"])
lesson.expect("modes with beta1 = 0, more than the baseline's", gain, at_least=3)

# %% Figure
PANELS = (("JS (nats), three Gaussians", finals, 15 / 8e4, (1e-4, 1)),)
PANELS += ("Modes of 8", modes, 8, (0, 8.5)), ("Share within 3 sigma", shares, 0.989, (0, 1.05))
with lesson.figure(13, 6.2) as figure:
    for axes, (title, table, real, limits) in zip(figure.subplots(1, 3), PANELS, strict=True):
        values = np.array(list(table.values()))
        errors = values.std(axis=1) / np.sqrt(max(len(SEEDS) - 1, 1))
        axes.errorbar(values.mean(axis=1), list(table), xerr=errors, fmt="o", ms=9, c=GENERATOR)
        axes.axvline(real, color=DATA, ls="--")
        axes.grid(axis="y", color="0.9")
        axes.set(title=title, xlim=limits, xscale="log" if table is finals else "linear")
        axes.invert_yaxis()
    axes.set_yticklabels([])
    figure.supxlabel("dashed: real data (on the left: a fit to 10,000 points)", color=DATA)
lesson.finish()

# %% [markdown]
# *No loss alone cures it.* The baseline covers 1.2 ± 0.4 modes, the others (with one D step) from
# 0.4 ± 0.2 (WGAN, clipped) to 5.0 ± 1.5 (least squares). *It helps if D keeps up with G*: no
# momentum (8 modes, 79 % within 3 sigma), TTUR (8, 42 %), five D steps for WGAN-GP (7.6 ± 0.4).
# WGAN does not "solve" collapse: clipped, it needs beta1 = 0 too. Of the techniques that show D its
# batch, minibatch discrimination works (7.8 ± 0.2); stddev (5.8 ± 1.3) helps less. Instance noise
# (4.0 ± 1.6), packing (3.2 ± 1.3), weight decay (3.0 ± 1.4) and label smoothing (2.0 ± 0.6) do not
# help reliably, in this short training. Labels (7.6 ± 0.2) give both players the mode.
#
# ## Exercises
# 1. Put the five cells twice as far apart: clip the steps to [-2, 2]. Which estimates change?
#    <details><summary>Answer</summary> Only $W_1$: it is 3.76. Others know no distance.</details>
# 2. Put `nn.GaussianNoise(0.3)` behind both hidden layers of the baseline's G. More modes?
#    <details><summary>Answer</summary> No: 0, 1, 0, 2, 0 (five seeds). Noise blurs them.</details>
# 3. Train `ThreeGaussians` without D, on the squared maximum mean discrepancy of two batches (128
#    points, Gaussian kernels of widths 0.5, 1, 2; Adam as in `CALM`). Where does JS end?
#    <details><summary>Answer</summary> At 0.0002: in the plane, a fixed kernel is enough.</details>
#
# Next: 11 WGAN-GP.

# %% [markdown]
# # 06 The first GAN: a Gaussian, then digits
#
# 教程 001 只打印损失和名不副实的“准确率”，又用同一次前向传播更新两个网络。这里两个网络轮流更新。
#
# None of the tutorials (README.md lists them) measures what its GAN has learned: 000 prints
# nothing, 001 prints two losses and an "accuracy" that is the share of batches that fool the
# discriminator (section 5.2). Both give the discriminator real images in [0, 1] and fakes in [-1,
# 1], so that the sign of one pixel distinguishes them; 004 passes a sigmoid to a loss that expects
# logits (so does 000, where Keras detects it and takes the logits). This lesson trains a GAN
# correctly: first in the plane, where the divergence and the best discriminator are known exactly,
# then on digits.

# %%
import math

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import minigan as mg
from minigan import nn, ops
from minigan.training.evaluate import evaluate
from minigan.utils import figures as pictures
from minigan.utils.figures import BLUE, GREY, ORANGE
from minigan.utils.lesson import Lesson, digits

lesson = Lesson("06_first_gan", "The first GAN: a Gaussian, then digits")

# %% [markdown]
# ## The data, and a generator that can match them
#
# Real points are x = z A + b for standard normal z: a correlated Gaussian (the example of Dive into
# Deep Learning, section 20.1). The generator is one dense layer, G(z) = z W + c. So the points that
# it generates are Gaussian too, with mean c and covariance W' W, and the Kullback-Leibler
# divergence between the two is known exactly at every step, without a sample.

# %%
A = np.array([[1.0, 2.0], [-0.1, 0.5]])
MEAN, COVARIANCE = np.array([1.0, 2.0]), A.T @ A


def real_batch(n, stream="data"):
    z = mg.random.normal((n, 2), stream=stream)
    return z @ mg.tensor(A, dtype="float32") + mg.tensor(MEAN, dtype="float32")


def gaussian(G):
    """Return the mean and the covariance of what G generates."""
    W, c = (p.numpy().astype(np.float64) for p in G.parameters())
    return c, W.T @ W


def kl_to_data(mean, covariance):
    """Return KL(q || p) in nats, from q = N(mean, covariance) to the data's p."""
    inverse, d = np.linalg.inv(COVARIANCE), mean - MEAN
    ratio = np.linalg.det(COVARIANCE) / np.linalg.det(covariance)
    return 0.5 * (np.trace(inverse @ covariance) + d @ inverse @ d - 2 + math.log(ratio))


# %% [markdown]
# ## Two losses, on logits
#
# The discriminator estimates the probability that a sample is real: D = sigmoid(s), s its logit.
# Its loss is the cross-entropy, -log D(x) - log(1 - D(G(z))), and the generator's is -log D(G(z))
# (Goodfellow et al. 2014, section 3). Written like that, the loss of a fake with logit 40 is
# infinite in float32, because 1 - sigmoid(40) is zero. As softplus(-s) and softplus(s) it is 40.
# The library uses the latter.

# %%
r, f = (mg.tensor(np.linspace(low, 5, 11)[:, None]) for low in (-5, -2))  # real and fake logits
by_probability = -(ops.sigmoid(r).log().mean() + (1 - ops.sigmoid(f)).log().mean())
gan_loss = mg.losses.NonSaturating()
gap = abs(float(by_probability) - float(gan_loss.discriminator(r, f)))
lesson.expect("D's loss, from probabilities and from logits: gap", gap, at_most=1e-12)

with np.errstate(divide="ignore"):
    loss = float(-(1 - ops.sigmoid(mg.tensor([40.0]))).log())
lesson.expect("loss of a fake with logit 40, by its probability", loss, equal=math.inf)
lesson.expect("the same by its logit", float(ops.softplus(mg.tensor([40.0]))), equal=40.0)

# %% [markdown]
# ## Alternating updates
#
# One step: first the discriminator is updated, on a new real batch and on detached fakes. Then the
# generator is updated, with the gradient through the *updated* discriminator. Both updates use the
# same fakes and share nothing else. Learning rates fall to zero: with constant rates the noise of
# the batches, and the rotation of the two-player game, keep them away from the equilibrium
# (exercise 1). The generator starts with weights so small that its points nearly coincide.

# %%
STEPS, BATCH = 600, 256
FRAMES = np.unique(np.geomspace(1, STEPS + 1, 7 if lesson.fast else 45).astype(int) - 1)


def discriminator():
    return nn.Sequential(nn.Dense(2, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh(), nn.Dense(32, 1))


def train(seed, steps=STEPS, gan_loss=gan_loss, decay=True):
    """Return a row per step: losses, KL, G's state, and D's where the film has a frame."""
    mg.manual_seed(seed)
    G, D = nn.Dense(2, 2), discriminator()
    G.load_state_dict({name: 0.1 * x for name, x in G.state_dict().items()})
    optimizer_g = mg.optim.Adam(G.parameters(), betas=(0.5, 0.99))
    optimizer_d = mg.optim.Adam(D.parameters(), betas=(0.5, 0.99))
    rows = [{"step": 0, "kl": kl_to_data(*gaussian(G)), "G": G.state_dict(), "D": D.state_dict()}]
    for step in lesson.progress(range(steps), f"seed {seed}"):
        factor = 1 - step / steps if decay else 1.0
        optimizer_g.lr, optimizer_d.lr = 0.015 * factor, 0.04 * factor
        fake = G(mg.random.normal((BATCH, 2)))
        loss_d = gan_loss.discriminator(D(real_batch(BATCH)), D(fake.detach()))
        optimizer_d.step(mg.grad(loss_d, D.parameters()))
        loss_g = gan_loss.generator(D(fake))
        optimizer_g.step(mg.grad(loss_g, G.parameters()))
        losses = {"step": step + 1, "loss_d": float(loss_d), "loss_g": float(loss_g)}
        rows.append({**losses, "kl": kl_to_data(*gaussian(G)), "G": G.state_dict()})
        if step + 1 in FRAMES:
            rows[-1]["D"] = D.state_dict()
    return rows


runs = [train(seed) for seed in range(5)]
starts, ends = ([run[i]["kl"] for run in runs] for i in (0, -1))
lesson.expect("KL at the start, the best of five seeds (nats)", np.min(starts), at_least=2)
lesson.expect("KL at the last step, the worst of five seeds", np.max(ends), at_most=0.05)

# %% [markdown]
# For comparison: the stored runs of this example in d2l-neu, the book's successor, end at 0.128
# (PyTorch) and 0.051 nats (JAX).
#
# And the losses? The discriminator's does *not* go to zero. When real and fake points have the same
# distribution, the best discriminator is D = 1/2 everywhere, and its loss is 2 log 2 = 1.386. Good
# training ends there; a discriminator's loss near zero means that the generator fails. (The loss of
# a discriminator that has learned nothing is 1.386 too. So the loss alone proves nothing; the KL
# does.)

# %%
final_losses = [np.mean([row["loss_d"] for row in run[-100:]]) for run in runs]
distance = np.max(abs(np.array(final_losses) - 2 * math.log(2)))
lesson.expect("D's loss, last 100 steps: distance to 1.386, worst seed", distance, at_most=0.02)

# %% [markdown]
# ## The best discriminator
#
# Take the generator from the step where its KL was nearest to 0.25, freeze it, and train a new
# discriminator against it. The best one is D = p / (p + q), that is, its logit is log p(x) -
# log q(x) (Goodfellow et al. 2014, proposition 1). Both densities are known here, so we can check
# how close to it the trained one comes.


# %%
def log_density(x, mean, covariance):
    d = x - mean
    distance = np.einsum("ni,ij,nj->n", d, np.linalg.inv(covariance), d)
    return -0.5 * (distance + math.log(np.linalg.det(2 * np.pi * covariance)))


frozen = min(runs[0], key=lambda row: abs(math.log(row["kl"] / 0.25)))
G, D = nn.Dense(2, 2), discriminator()
G.load_state_dict(frozen["G"])
lesson.expect("KL of the frozen generator", frozen["kl"], at_least=0.1, at_most=0.5)
optimizer = mg.optim.Adam(D.parameters(), betas=(0.5, 0.99))
for step in lesson.progress(range(STEPS), "discriminator"):
    optimizer.lr = 0.02 * (1 - step / STEPS)
    fake = G(mg.random.normal((BATCH, 2))).detach()
    loss = gan_loss.discriminator(D(real_batch(BATCH)), D(fake))
    optimizer.step(mg.grad(loss, D.parameters()))

points = ops.concatenate([real_batch(1000, "test"), G(mg.random.normal((1000, 2), stream="test"))])
logit, x = D(points).numpy()[:, 0], points.numpy().astype(np.float64)
exact_logit = log_density(x, MEAN, COVARIANCE) - log_density(x, *gaussian(G))
correlation = np.corrcoef(logit, exact_logit)[0, 1]
lesson.expect("correlation of D's logit with log p/q", correlation, at_least=0.95)
lesson.expect("mean |logit - log p/q| (nats)", abs(logit - exact_logit).mean(), at_most=0.15)

# %% [markdown]
# ## Digits
#
# Now train the tutorials' nets on images in [-1, 1], which is the range of tanh. Here the exact KL
# is unknown. We measure the sliced Wasserstein distance to held-out digits, and for comparison its
# floor: the distance of *real* digits to them. `mg.Trainer` does the same steps, except that the
# real and the fake batch go through the discriminator in one pass. With the same seed, three steps
# of ours and three of the Trainer's have the same losses, up to rounding.

# %%
data = digits(1000 if lesson.fast else 20_000)
steps, rate = (200, 1e-3) if lesson.fast else (12_000, 2e-4)
config = mg.Config(data=data.name, steps=steps, lr_g=rate, lr_d=rate)


def our_step(t):
    (rows,) = t.batches.next()
    real = rows.reshape(-1, *t.data.sample_shape)
    fake = t.generator(t.random.normal((config.batch, t.config.latent_size)))
    loss_d = gan_loss.discriminator(t.discriminator(real), t.discriminator(fake.detach()))
    t.players.optimizers["d"].step(mg.grad(loss_d, t.discriminator.parameters()))
    loss_g = gan_loss.generator(t.discriminator(fake))
    t.players.optimizers["g"].step(mg.grad(loss_g, t.generator.parameters()))
    return {"loss_d": float(loss_d), "loss_g": float(loss_g)}


# A Trainer has a random generator of its own, `random`, from which both draw the same latents.
losses = []
for step in (our_step, mg.Trainer.step):
    trainer = mg.Trainer(config, data)
    rows = [step(trainer) for _ in range(3)]
    losses.append([[row["loss_d"], row["loss_g"]] for row in rows])
gap = abs(np.subtract(*losses)).max()
lesson.expect("three steps, ours and the Trainer's: difference of the losses", gap, at_most=1e-5)

# %%
trainer = mg.Trainer(config, data)
start = evaluate(trainer)["sliced_wasserstein"]
rows = [trainer.step() for _ in lesson.progress(range(config.steps), "digits")]
now, floor = evaluate(trainer).values()
print(f"  distance to held-out digits: {start} at the start, {now} now;")
print(f"  of real digits: {floor} (draws of one run; the README has five runs)")
last = np.mean([row["loss_d"] for row in rows[-100:]])
print(f"  D's loss, last 100 steps: {last:.2f} (1.39 at equilibrium)")
limit = start.mean * 2 / 3 if lesson.fast else 5 * floor.mean
lesson.expect("distance of generated digits", now.mean, at_most=limit)

# %% Figure
XS, YS = np.linspace(-2.5, 4.5, 61), np.linspace(-4, 8, 61)
grid_points = mg.tensor(np.stack(np.meshgrid(XS, YS), axis=-1).reshape(-1, 2), dtype="float32")
colours = LinearSegmentedColormap.from_list("fake to real", ["#8ec5e8", "#ffffff", "#f7b58c"])
latent, shown = (mg.random.normal((400, 2), stream=name) for name in ("samples", "shown"))
real_points = (shown.numpy() @ A + MEAN).T
moments = [row for row in runs[0] if "D" in row]


def scene(axes, row):
    """Draw real points, fakes, and behind them where D > 1/2 (orange) and D < 1/2 (blue)."""
    G.load_state_dict(row["G"])
    D.load_state_dict(row["D"])
    probability = ops.sigmoid(D(grid_points)).numpy().reshape(61, 61)
    extent = (XS[0], XS[-1], YS[0], YS[-1])
    style = {"origin": "lower", "aspect": "auto", "cmap": colours, "vmin": 0, "vmax": 1}
    axes.imshow(probability, extent=extent, **style)
    axes.plot(*real_points, "o", ms=3, mew=0, color=ORANGE, alpha=0.7)
    axes.plot(*G(latent).numpy().T, "o", ms=3, mew=0, color=BLUE, alpha=0.7)
    axes.set(xlim=(XS[0], XS[-1]), ylim=(YS[0], YS[-1]), xticks=[], yticks=[])
    axes.set_title(f"step {row['step']}, KL {row['kl']:.2g}")


with lesson.figure(13, 7) as figure:
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    chosen = np.linspace(0, len(moments) - 1, 5).round().astype(int)
    strip = above.subplots(1, 5)
    for axes, i in zip(strip, chosen, strict=True):
        scene(axes, moments[i])
    strip[0].set_ylabel("real orange, fake blue")
    losses, divergence, grid = below.subplots(1, 3, width_ratios=(1.4, 1.2, 1))
    levels = dict(zip(("loss_d", "loss_g"), gan_loss.levels, strict=True))
    pictures.draw_losses(losses, runs[0][1:], levels, gan_loss.unit)
    losses.set(title="Losses, seed 0: neither goes to zero", ylim=(0.4, 2.2))
    losses.legend(fontsize=10, ncols=2)
    for run in runs:
        divergence.semilogy([row["kl"] for row in run], color=BLUE, lw=1.2)
    divergence.axhline(0.05, color=GREY, ls="--", lw=1)
    divergence.text(0, 0.045, "limit: 0.05", va="top", color="#555555")
    divergence.set(xlabel="step", ylabel="KL(fake || real) (nats)", title="Five seeds")
    sheet = pictures.tile(trainer.generate(trainer.fixed_latent))
    grid.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    grid.set_axis_off()
    grid.set_title(f"{data.name}, {config.steps} steps")
lesson.film(moments, scene, seconds=6)

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. Call `train(0, decay=False)`. How large does the KL get in its last 100 steps, and how large in
#    those of `train(0)`?
# 2. Call `train(0, gan_loss=mg.losses.Minimax())`, the generator's loss in the formulas of 000 and
#    001. At a fake with logit -8 its derivative is 3000 times smaller than that of ours: compute
#    both. The KL at the end is as good. Do fakes get such logits with either loss? And if *every*
#    gradient were 3000 times smaller, what would Adam do?
# 3. The best discriminator's loss is 2 log 2 - 2 JS(p, q). Estimate the Jensen-Shannon divergence
#    for the frozen generator from `exact_logit`, and compare with the loss of the trained D.

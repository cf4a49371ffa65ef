# %% [markdown]
# # 07 Five tutorials, run as they stand
#
# 五篇教程的代码，有的报错，有的不报错却训错。这里带错重现，量出后果，逐一改正，并说明怎样发现。
#
# A mistake that stops the program is the lucky case. We rebuild the training loops of tutorials 000
# (section 5.2), 001 (4.2, 5.2), 002 (4.1 to 4.4) and 004 (5.1) with their mistakes (003 has no
# code), where the true distance to the data is known at every step. You will see which mistakes
# matter and which do not, and that the worst ones print the numbers of a success. Needs: 06.

# %%
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import minigan as mg
from minigan import nn
from minigan.ops import sigmoid, softplus
from minigan.utils.figures import DATA, GENERATOR, GREEN, PINK, tile
from minigan.utils.lesson import Lesson

lesson = Lesson("07_five_tutorials", "Five tutorials, run as they stand")

# %% [markdown]
# ## A test bench
#
# The data are lesson 06's Gaussian $p$ in the plane. The generator $G(z) = zW + c$ makes a Gaussian
# $q$ too, so $\mathrm{KL}(q\,\|\,p)$ is exact. $D$ returns a logit $s$; its probability is
# $\sigma(s) = 1/(1+e^{-s})$. A `Program` says what the losses are and how a step updates both nets.
# Each mistake changes one of its fields; `train` is the same for all.

# %%
A, MEAN = np.array([[1.0, 2.0], [-0.1, 0.5]]), np.array([1.0, 2.0])
INVERSE, SEEDS = np.linalg.inv(A.T @ A), range(1 if lesson.fast else 10)
gan = mg.losses.NonSaturating()


def kl(W, c):  # KL(q || p) in nats, for q = N(c, W'W)
    d, ratio = c - MEAN, np.linalg.det(INVERSE @ W.T @ W)
    return 0.5 * (np.trace(INVERSE @ W.T @ W) + d @ INVERSE @ d - 2 - math.log(ratio))


def real_points(step):
    z = mg.random.normal((256, 2), stream="data")
    return z @ mg.tensor(A, dtype="float32") + mg.tensor(MEAN, dtype="float32")


def plane_nets():
    hidden = [nn.Dense(2, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh()]
    return nn.Dense(2, 2), nn.Sequential(*hidden, nn.Dense(32, 1))


def alternate(p, G, D, opt_g, opt_d, real):
    """Update D, then G with the updated D; return both losses, mean D(real), mean D(fake)."""
    fake = G(p.latent(p.size))
    r, f = D(real), D(fake.detach())
    loss_d = p.loss_d(r, f)
    opt_d.step(mg.grad(loss_d, D.parameters()))
    loss_g = p.loss_g(D(fake))
    opt_g.step(mg.grad(loss_g, G.parameters()))
    return loss_d, loss_g, sigmoid(r).mean(), sigmoid(f).mean()


@dataclass(frozen=True)
class Program:
    loss_d: Callable = gan.discriminator  # of the logits of a real and a fake batch
    loss_g: Callable = gan.generator  # of the logits of a fake batch
    update: Callable = alternate
    nets: Callable = plane_nets
    real: Callable = real_points
    latent: Callable = mg.random.normal
    size: tuple = (256, 2)  # of a batch of latents
    rates: tuple = (0.015, 0.04)  # Adam's, of G and of D
    decay: bool = True  # the rates fall to zero
    betas: tuple = (0.5, 0.99)
    start: tuple = (0.1, 1.0)  # factors on the initial weights of G and of D


def train(p, seed, steps=600, nets=None):  # returns losses, D(real), D(fake), KL; and the nets
    mg.manual_seed(seed)
    G, D = nets or p.nets()
    for net, factor in zip((G, D), p.start, strict=True):
        net.load_state_dict({name: factor * x for name, x in net.state_dict().items()})
    optimizers, rows = [mg.optim.Adam(net.parameters(), betas=p.betas) for net in (G, D)], []
    step = mg.capture(lambda real: p.update(p, G, D, *optimizers, real))
    for i in lesson.progress(range(steps), f"seed {seed}"):
        for optimizer, rate in zip(optimizers, p.rates, strict=True):
            optimizer.lr = rate * (1 - i / steps if p.decay else 1)
        rows.append([*map(float, step(p.real(i)))])
        if p.nets is plane_nets:
            rows[-1].append(kl(*(x.numpy().astype(float) for x in G.parameters())))
    return np.array(rows), (G, D)


# %% [markdown]
# ## What stops at once
#
# None of the four programs runs as printed: names are missing (`image_dim` in 000, `device` in 001,
# `BATCH_SIZE` in 004, `tf.log_prob` in 002). With these repaired, four mistakes stop (TensorFlow
# 2.21 with Keras 3.15, PyTorch 2.13); lesson 02 shows two of them at work.
#
# | mistake | its framework says | minigan says |
# | --- | --- | --- |
# | 000: fakes outside the tape | `No gradients provided` | `... does not depend on input 0` |
# | 000, 001: image sizes | `Invalid input shape`, `shapes cannot be multiplied` | `do not fit` |
# | 001: two losses, one graph | `backward through the graph a second time` | nothing; it is right |
# | 001: D updated in between | `modified by an inplace operation` | `the graph is stale` |
#
# ## What does not stop
#
# **Which of these `PROGRAMS` will end as near to the data as the mended one?** 004 makes
# *simultaneous* steps, both gradients from one forward pass (000 too: exercise 1). 001 runs with
# `retain_graph=True`, as its error message proposes; but then `backward()` sums the gradients of
# both losses in *all* weights.


# %%
def one_pass(p, G, D, opt_g, opt_d, real, is_summed=False):
    r, f = D(real), D(G(p.latent(p.size)))
    loss_d, loss_g = p.loss_d(r, f), p.loss_g(f)
    for_d, for_g = (loss_d + loss_g,) * 2 if is_summed else (loss_d, loss_g)
    gradients = mg.grad(for_d, D.parameters()), mg.grad(for_g, G.parameters())
    opt_d.step(gradients[0])
    opt_g.step(gradients[1])
    return loss_d, loss_g, sigmoid(r).mean(), sigmoid(f).mean()


MENDED = Program()
SUM = replace(MENDED, update=lambda *players: one_pass(*players, is_summed=True))
TWICE = replace(MENDED, loss_g=lambda f: gan.generator(sigmoid(f)))
PROGRAMS = {
    "mended": MENDED,
    "simultaneous": replace(MENDED, update=one_pass),
    "mended, constant rates": replace(MENDED, decay=False),
    "simultaneous, constant rates": replace(MENDED, update=one_pass, decay=False),
    "001 with retain_graph": SUM,
    "001, sign of G's loss": replace(MENDED, loss_g=lambda f: softplus(f).mean()),  # -log(1 - D)
    "004, two sigmoids": replace(TWICE, loss_d=lambda *s: gan.discriminator(*map(sigmoid, s))),
    "002, no cross-entropy": replace(MENDED, loss_d=lambda r, f: sigmoid(r).mean() + f.mean()),
}
LOSS_D, LOSS_G, D_REAL, D_FAKE, KL = range(5)
runs, late = {}, {}  # late: means over the last 100 steps, a row per seed
for name, program in PROGRAMS.items():
    runs[name] = [train(program, seed) for seed in SEEDS]
    late[name] = np.array([rows[-100:].mean(axis=0) for rows, _ in runs[name]])
    for what, column in (("KL", KL), ("D's loss", LOSS_D), ("mean D(real)", D_REAL)):
        lesson.record(f"{what}, {name}", late[name][:, column])
lesson.record("KL after one step", [rows[0, KL] for rows, _ in runs["mended"]])
batches = [real_points(0).numpy().astype(float) for _ in SEEDS]
fits = [kl(np.linalg.cholesky(np.cov(x.T)).T, x.mean(axis=0)) for x in batches]
lesson.record("KL of a Gaussian fitted to 256 real points", fits)

# %% Figure
COLUMNS = {
    "001 with retain_graph": (D_FAKE, "mean D(fake): a perfect 0.5"),
    "001, sign of G's loss": (LOSS_G, "G's loss: all learned"),
    "004, two sigmoids": (LOSS_D, "D's loss: a perfect 1.386"),
    "002, no cross-entropy": (LOSS_D, "D's loss: better and better"),
}
z = mg.random.normal((256, 2))
with lesson.figure(13, 8.2) as figure:
    grid = figure.subplots(3, 4, height_ratios=(1.1, 1.2, 1))
    for (name, (column, printed)), axes in zip(COLUMNS.items(), grid.T, strict=True):
        axes[0].plot(*batches[0].T, "o", ms=4, mew=0, color=DATA, alpha=0.35)
        G = runs[name][0][1][0]
        axes[0].plot(*G(z).numpy().T, "o", ms=5, mew=0, color=GENERATOR)
        axes[0].set(title=name, xlim=(-3, 5), ylim=(-4.5, 8), xticks=[], yticks=[])
        for which, colour in (("mended", GREEN), (name, PINK)):
            for rows, _ in runs[which]:
                axes[1].semilogy(rows[:, KL], color=colour, lw=0.8, alpha=0.7)
            axes[2].plot(runs[which][0][0][:, column], color=colour, lw=1.2)
        axes[1].set(ylim=(1e-3, 100), xticklabels=[])
        axes[2].set(xlabel="step")
        axes[2].set_title(printed, fontsize=12)
    for i, label in enumerate(
        ("data, fakes (seed 0)", "KL (nats), all seeds", "what you would watch")
    ):
        grid[i, 0].set_ylabel(label)
    grid[1, 0].text(600, 40, "with the mistake", color=PINK, ha="right")
    grid[1, 0].text(30, 0.003, "mended", color=GREEN)

# %% [markdown]
# Mended: KL 0.010 ± 0.002 (mean and standard error of ten seeds). A Gaussian fitted to one batch of
# *real* points has 0.014; a generator that never trains, as in 000 with its fakes outside the tape,
# keeps 6.0. Correctly detached simultaneous steps are as good, 0.013 ± 0.002, while the rates fall.
# With constant rates, as in the programs that set one, they have 0.100 ± 0.029, alternating ones
# 0.025 ± 0.004.
#
# ## 001: `retain_graph=True`
#
# Both players descend $L_D + L_G$. For a fake with logit $s$, G minimizes $\mathrm{softplus}(-s) +
# \mathrm{softplus}(s)$, with derivative $2\sigma(s) - 1$: it seeks $D = 1/2$. D minimizes
# $-\log D$ on data and $-\log D - \log(1-D)$ on fakes, so
#
# $$D^* = \frac{p+q}{p+2q}, \qquad s^* = \log(1 + p/q).$$
#
# **Where is $D^* = 1/2$? What will D say about the fakes? Does a perfect G, $q = p$, stay?**

# %%
for name in ("mended", "001 with retain_graph"):
    accuracy = [np.mean(rows[-100:, D_FAKE] > 0.5) for rows, _ in runs[name]]
    lesson.record(f"001's accuracy, {name}", accuracy)
fooled = np.max(abs(late["001 with retain_graph"][:, D_FAKE] - 0.5))
lesson.expect("001 with retain_graph: mean D(fake), distance to 0.5", fooled, at_most=0.02)
ends = []
for seed in SEEDS:
    G, D = plane_nets()
    G.load_state_dict({"weight": np.float32(A), "bias": np.float32(MEAN)})
    ends.append(train(replace(SUM, start=(1, 1)), seed, 100, (G, D))[0][-1, KL])
lesson.record("KL, 001 with retain_graph, 100 steps after q = p", ends)
lesson.expect("its KL 100 steps after q = p, smallest", np.min(ends), at_least=5)

# %% [markdown]
# Only where $p/q \to 0$: off the data, or on a point, where $q = \infty$. G does both (KL 20.1 ±
# 0.7; 12.2 ± 0.8 just 100 steps after a perfect start). Yet mean D(fake) is 0.50, and what 001
# prints as "accuracy" (5.2), the share of batches with more than 0.5, is 67 %, against 29 % for the
# mended program. One number shows the failure, and 001 computes it without printing it: mean
# D(real) is 0.999, where section 3.1 expects 0.5.
#
# The wrong *sign* of 4.2 trains G to be detected. It flees too (20.8 ± 0.8), and both losses go to
# zero, as if the task were learned.
#
# ## 004: two sigmoids
#
# D returns $u = \sigma(s)$, and its loss takes $u$ for a logit. (So does 000; but Keras 3.15 finds
# the sigmoid, warns, and uses the logit.) A fake gives G the gradient $-(1-\sigma(u))\,u(1-u)$, not
# $-(1-u)$. D's loss cannot fall below $\mathrm{softplus}(-1) + \mathrm{softplus}(0) = 1.006$. At
# $q = p$ its best is $2\log 2 = 1.386$, as it should be, but for which $u$? **So what is mean
# D(real)?**

# %%
largest = np.max(late["004, two sigmoids"][:, D_REAL])
lesson.expect("004: mean D(real), largest of the seeds", largest, at_most=0.1)
s = mg.tensor([0.0, -3.0, -6.0], requires_grad=True)
right, wrong = (mg.grad(p.loss_g(s), [s])[0].numpy() for p in (MENDED, TWICE))
for x, factor in zip((0, -3, -6), wrong / right, strict=True):
    lesson.record(f"004: G's gradient at logit {x}, share of the right one", factor)

# %% [markdown]
# At $u = 0$: $s \to -\infty$. D's loss is a perfect 1.386, and mean D(real) 0.019. At logit -6, for
# the worst fakes, G has 0.12 % of its gradient. Adam hides most of that, because it divides a
# gradient by its size: KL 0.046 ± 0.025. In the figure most seeds end well, and a few do not.
#
# ## 002: no minimum, and a test that trains
#
# 002's loss has no minimum: it falls to -400 and on (a cross-entropy is never negative), with KL
# 3.7 ± 0.5. (Its own loss for G does not contain D; G got the right one.) And its test loop runs
# G's *training* op. The test set has a sixth of the images: 100 steps with D frozen, after constant
# rates. **Better or worse?**

# %%
TEST = replace(MENDED, rates=(0.015, 0.0), decay=False, start=(1, 1))
tested = [train(TEST, 0, 100, nets)[0][-1, KL] for _, nets in runs["mended, constant rates"]]
lesson.record("KL, mended, constant rates, after 002's test loop", tested)

# %% [markdown]
# From 0.025 to 19 ± 6: G moves to where the frozen D is largest, and shrinks.
#
# ## Images: a D of rows, and the wrong range
#
# A dense layer acts on the *last* axis: 002's D judges each row of a 28 x 28 image alone, and gives
# 28 verdicts. 000 and 001 compare data in [0, 1] with a tanh in [-1, 1]. Here are both, on digits
# of 14 x 14. **What does a D of rows say about digits whose rows stand in the reverse order?**

# %%
pixels = mg.data.load("glyphs", size=6000).values.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
DIGITS, HELD = mg.tensor(pixels[:5000]), pixels[5000:]


def image_nets(n=196):
    G = [nn.Dense(10, 200), nn.ReLU(), nn.Dense(200, 196), nn.Tanh(), nn.Reshape(14, 14)]
    D = [nn.Flatten()] * (n == 196) + [nn.Dense(n, 200), nn.ReLU(), nn.Dense(200, 1)]
    return nn.Sequential(*G), nn.Sequential(*D)


def judge(name, sets):  # record distances of sets of images to held-out ones, and diversity
    for what, n in (("images", 196), ("rows", 14)):
        pairs = [(x.reshape(-1, n), HELD.reshape(-1, n)) for x in sets]
        distances = [mg.metrics.sliced_wasserstein(*pair) for pair in pairs]
        lesson.record(f"distance of {what}, {name}", distances)
    diversity = [math.sqrt(x.var(axis=0).sum() / HELD.var(axis=0).sum()) for x in sets]
    lesson.record(f"diversity, {name}", diversity)
    return diversity


def train_images(name, p, scale=1):
    done = [train(p, seed, 200 if lesson.fast else 1500) for seed in SEEDS[:5]]
    sets = [G(p.latent((1000, 10))).numpy() * scale - (scale - 1) for _, (G, _) in done]
    lesson.record(f"D's loss, {name}", [rows[-100:, LOSS_D].mean() for rows, _ in done])
    samples[name] = sets[0]
    return judge(name, sets), done[0][1][1]


samples = {"real digits": HELD}
IMAGES = replace(MENDED, nets=image_nets, size=(64, 10), real=lambda i: DIGITS[i % 78 * 64 :][:64])
IMAGES = replace(IMAGES, rates=(2e-3, 2e-3), betas=(0.0, 0.99), start=(1, 1))
judge("real digits", [pixels[:1000]])
train_images("digits, mended", IMAGES)
train_images("data in [0, 1]", replace(IMAGES, real=lambda i: (IMAGES.real(i) + 1) / 2), scale=2)
negative = samples["data in [0, 1]"].min(axis=(1, 2)) < -1.01  # below 0 in the range of the data
lesson.record("data in [0, 1]: share of fakes with a negative pixel, seed 0", negative.mean())
_, D = train_images("D of rows", replace(IMAGES, nets=lambda: image_nets(14)))
up, down = (float(D(mg.tensor(x)).mean()) for x in (HELD, np.flip(HELD, axis=1).copy()))
lesson.expect("D of rows: change with the rows reversed", abs(up - down), at_most=1e-5)

# %% [markdown]
# The same. Its G gets the rows right (distance 0.024 ± 0.001; mended 0.037 ± 0.002) and the images
# wrong: 0.397 ± 0.014, against 0.059 ± 0.002 (real digits: 0.023). D's loss is a perfect 1.385.
#
# The range does less harm than its reputation. A negative pixel betrays a fake, every fake has one,
# and D does win more (loss 0.80, not 1.13), yet the distance is as small: 0.062 ± 0.003. What it
# costs is a grey noise on the background, where tanh is steepest (rows: 0.052 ± 0.001).
#
# ## Encore: a GAN that "always collapses"
#
# So says the GAN example of the library HIPS/autograd, and asks for help. Its D maximizes
# $E\log\sigma(s_r) - E\log\sigma(s_f) = \int (p - q)\log\sigma(s)\,dx$: unbounded where $q > p$. It
# also has momentum 0.9, rates of 0.01, first weights near 0.001, latents in [0, 1], simultaneous
# steps. **Mend its loss: does the collapse end?** Then put each of these into the mended program.

# %%
AUTOGRAD = replace(IMAGES, loss_d=lambda r, f: softplus(-r).mean() - softplus(-f).mean())
AUTOGRAD = replace(AUTOGRAD, betas=(0.9, 0.999), rates=(0.01, 0.01), start=(0.02, 0.02))
AUTOGRAD = replace(AUTOGRAD, latent=mg.random.uniform, update=one_pass, decay=False)
train_images("autograd's", AUTOGRAD)
cured, _ = train_images("autograd's, loss mended", replace(AUTOGRAD, loss_d=gan.discriminator))
lesson.expect("autograd's, loss mended: largest diversity", np.max(cured), at_most=0.2)
FIELDS = {"loss": "loss_d", "momentum": "betas", "rates": "rates", "first weights": "start"}
for name, field in (FIELDS | {"latents": "latent", "simultaneous steps": "update"}).items():
    one_mistake = replace(IMAGES, **{field: getattr(AUTOGRAD, field)})
    train_images(f"mended, but autograd's {name}", one_mistake)

# %% Figure
SHEETS = ["real digits", "digits, mended", "data in [0, 1]", "D of rows", "autograd's"]
SHEETS += ["autograd's, loss mended", "mended, but autograd's loss"]
SHEETS += ["mended, but autograd's momentum"]
with lesson.figure(13, 7, "images") as figure:
    for name, axes in zip(SHEETS, figure.subplots(2, 4).flat, strict=True):
        axes.imshow(tile(samples[name][:36, None], 6), cmap="gray", vmin=0, vmax=255)
        axes.set_title(name)
        axes.set_axis_off()

lesson.finish()

# %% [markdown]
# No, not on our digits. Diversity (the standard deviation, as a share of real digits') is 0.09 ±
# 0.01 as it stands and 0.002 ± 0.002 with the right loss. Put back alone, the loss doubles the
# distance, 0.135 ± 0.017, at a diversity of 0.94. Momentum alone nearly collapses, 0.21 ± 0.01; the
# other four have 0.84 to 0.93. The mistake that you can prove need not be the one that you see.
#
# ## What to measure
#
# | you see | measure | cause |
# | --- | --- | --- |
# | G's samples never change | the norm of G's gradient | fakes outside the graph |
# | D(fake) = 0.5, bad samples | D(real) beside it | gradients of both losses summed |
# | both losses near 0 | does a step of G raise D(fake)? | the sign of G's loss |
# | D's loss 1.386, D(real) near 0 | the range of what enters the loss | probabilities for logits |
# | a negative loss that falls | its minimum, on paper | no cross-entropy |
# | D's loss 1.386, scrambled samples | the shape of D's output: (n, 1)? | D of parts |
# | noise where data are constant | min and max of data and of fakes | ranges |
# | one sample for all latents | diversity; then one change at a time | here: momentum |

# %% [markdown]
# ## Exercises
#
# 1. Write 000's order as an `update`: fakes, G's step, then D's step on those fakes. How far are
#    its rows from those of `simultaneous`, seed 0?
#    <details><summary>Answer</summary>
#    0, to the last bit: D's gradient was computed with the old G's fakes, and G's with the old D.
#    What counts is which weights a gradient has seen, not the order of the lines.</details>
# 2. Repair one half of 001: sum the losses for D only, or for G only. Which half was fatal?
#    <details><summary>Answer</summary>
#    G's. With D alone on the sum, D says 2/3 everywhere and the KL is 0.02: $D^*$ still grows
#    with p/q. With G alone on the sum, q = p is at rest, but nothing leads there: G moves its
#    points to the curve where D = 1/2, and the KL stays at 0.87.</details>
# 3. 000 and 001 (4.1) write $\min_G \max_D L_G + L_D$, so D counts fakes twice. What does D say at
#    the end, and how large is the KL?
#    <details><summary>Answer</summary>
#    $D^* = p/(p+2q)$: 1/3, and its loss $\log 3 + 2\log 1.5 = 1.910$. The KL is as small, 0.007:
#    twice the fakes change D's numbers, and not where G ends.</details>
#
# Next: 08, how GANs die.

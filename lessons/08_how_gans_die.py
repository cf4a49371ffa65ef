# %% [markdown]
# # 08 How GANs die
#
# 逼出 GAN 的四种失败：模式崩溃、判别器太强、振荡、判别器背下数据；每种用一个简单指标看见，再治好。
# 教程 004 说崩溃让判别器的损失变小、梯度消失；这里测到的正好相反。
#
# Your GAN has trained for an hour and its samples are bad. There are four common reasons, and the
# two losses do not tell them apart. Here each failure is forced in a small world, one short
# function (a *gauge*) shows it, and one change cures it. Tutorial 004 says that collapse makes
# gradients vanish (2.3), explains that by saturated layers (4.2), and names cures (9.1, 9.2): we
# test all four. Numbers are means of five seeds ± their standard error. Needs: 06.

# %%
from types import SimpleNamespace

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import minigan as mg
from minigan import nn, ops
from minigan.utils.figures import DATA, GENERATOR, GREEN, GREY, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("08_how_gans_die", "How GANs die")
SEEDS, STEPS = (range(1), 400) if lesson.fast else (range(5), 1000)

# %% [markdown]
# ## Four gauges to take home
#
# Let $s$ be D's logit, $D(x) = \sigma(s(x))$, and $\bar G$ the generator with averaged weights
# (over the last 100 steps or so). The gauges need only forward passes, on any kind of data:
# - diversity: mean distance between two fakes, divided by that of two real samples; 1 is healthy;
# - slope left: mean $\sigma(s)$ of the fakes; section 2 explains the name; about 1/2 is healthy;
# - swing: distance from the mean of $G$'s fakes to that of $\bar G$'s, in the same unit; 0 at rest;
# - memory: D's mean logit on training data minus that on real data it has not seen; 0 is healthy.


# %%
def distance(x):
    return np.linalg.norm(x[:200, None] - x[None, :200], axis=2).mean()  # 200 are enough


def diversity(fake, real):
    return distance(fake) / distance(real)


def slope_left(fake_logits):
    return float(ops.sigmoid(fake_logits).mean())


def swing(fake, averaged_fake, real):
    return np.linalg.norm(fake.mean(0) - averaged_fake.mean(0)) / distance(real)


def memory(training_logits, held_out_logits):
    return float(training_logits.mean()) - float(held_out_logits.mean())


RANGE = {"diversity": (0.5, 2), "slope left": (0.01, 1), "swing": (0, 0.2), "memory": (-1, 1)}

# %% [markdown]
# ## One GAN with options
#
# Two worlds: `ring`, 8 Gaussians of standard deviation 0.01 on the unit circle, and `normal`, one
# standard normal cloud in the plane. `HEALTHY` is the patient before the illness: one update of D
# and of G per step (`turns`), Adam without momentum, D's rate twice G's, both falling to zero.

# %%
BATCH, EVERY, RING = 128, 25, mg.data.load("ring", size=8).modes
NS, MINIMAX, WGAN = mg.losses.NonSaturating(), mg.losses.Minimax(), mg.losses.Wasserstein()
HEALTHY = {"world": "ring", "n": 20_000, "loss": NS, "turns": (1, 1), "rates": (2e-3, 1e-3)}
HEALTHY |= {"falling": True, "beta1": 0, "sgd": 0, "r1": 0, "gp": 0, "noise": 0, "statistic": False}


def points(world, n, seed):
    if world == "ring":
        return mg.data.load("ring", size=n, seed=seed).values
    return np.random.default_rng(seed).standard_normal((n, 2), np.float32)


def net(activation, outputs=1, statistic=False):
    layers = [nn.Dense(2, 64), activation(), nn.Dense(64, 64), activation()]
    layers += [nn.MinibatchStdDev()] * statistic
    return nn.Sequential(*layers, nn.Dense(64 + statistic, outputs))


def train(seed, G=None, D=None, **options):
    """Return the nets, and what was measured every 25 steps."""
    o = SimpleNamespace(**HEALTHY | options)
    mg.manual_seed(seed)
    data, held_out = (mg.tensor(points(o.world, *x)) for x in ((o.n, seed), (1000, seed + 100)))
    G, D = G or net(nn.ReLU, 2), D or net(nn.LeakyReLU, 1, o.statistic)
    opt_d, opt_g = (mg.optim.Adam(x.parameters(), betas=(o.beta1, 0.99)) for x in (D, G))
    opt_g = mg.optim.SGD(G.parameters(), o.sgd) if o.sgd else opt_g  # plain gradient descent
    average = mg.optim.ExponentialMovingAverage(G, 0.99)
    z, real = mg.random.normal((500, 2), stream="test"), held_out.numpy()[:500]

    def seen(x):  # what D sees
        return x + o.noise * mg.random.normal(x.shape, stream="noise") if o.noise else x

    @mg.capture
    def update_d(real):
        real, fake = seen(real), seen(G(mg.random.normal((BATCH, 2))).detach())
        loss_d = o.loss.discriminator(D(real), D(fake))
        loss_d = loss_d + o.r1 * mg.losses.r1_penalty(D, real) if o.r1 else loss_d
        loss_d = loss_d + o.gp * mg.losses.gradient_penalty(D, real, fake) if o.gp else loss_d
        opt_d.step(mg.grad(loss_d, D.parameters()))

    @mg.capture
    def update_g():
        loss_g = o.loss.generator(D(seen(G(mg.random.normal((BATCH, 2))))))
        opt_g.step(mg.grad(loss_g, G.parameters()))
        average.update()

    size, batch, rows = min(BATCH, o.n), 0, []
    for step in lesson.progress(range(STEPS), f"seed {seed}"):
        fall = 1 - step / STEPS if o.falling else 1.0
        opt_d.lr, opt_g.lr = o.rates[0] * fall, o.sgd or o.rates[1] * fall
        for _ in range(o.turns[0]):
            update_d(data[batch * size :][:size])
            batch = (batch + 1) % (o.n // size)
        for _ in range(o.turns[1]):
            update_g()
        if (step + 1) % EVERY == 0:
            fake, mean, logits = G(z).numpy(), average.module(z).numpy(), D(G(z))
            grads = [mg.grad(x.generator(logits), G.parameters()[::2]) for x in (MINIMAX, NS)]
            row = {"step": step + 1, "fake": fake, "average": mean, "D": D.state_dict()}
            row["norms"] = [[np.linalg.norm(g.numpy()) for g in layers] for layers in grads]
            row["D's loss"] = NS.discriminator(D(held_out), logits).item()
            row["off"], row["off, average"] = (np.linalg.norm(x.mean(0)) for x in (fake, mean))
            row["diversity"], row["slope left"] = diversity(fake, real), slope_left(logits)
            row["swing"] = swing(fake, mean, real)
            row["memory"] = memory(D(data[:1000]), D(held_out))
            rows.append(row)
    result = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return result | {"data": data.numpy(), "real": real, "world": o.world, "G": G, "net": D}


def late(name, key):  # the mean over the last third of the training, per seed
    return np.array([x[key][-(len(x[key]) // 3) :].mean(0) for x in runs[name]], float)


def study(name, failure, cures=None):
    """Train with the failure's options, and with each cure; --fast: with the first cure alone."""
    for cure, change in list({"": {}, **(cures or {})}.items())[: 2 if lesson.fast else None]:
        key = f"{name}, {cure}" if cure else name
        runs[key] = [train(seed, **failure | change) for seed in SEEDS]
        for what, x in (("W1", "fake"), ("W1 of its average", "average")):
            for r in runs[key]:
                r[what] = mg.metrics.wasserstein1(r[x][-1], r["real"])
            lesson.record(f"{key}: {what}", [r[what] for r in runs[key]])


runs = {}
study("healthy", {})
study("healthy, normal", {"world": "normal"})
for name, x in runs.items():
    pairs = [(points(r["world"], 500, seed + 50), r["real"]) for seed, r in enumerate(x)]
    floor = [mg.metrics.wasserstein1(*pair) for pair in pairs]
    lesson.record(f"{name}: W1 of real points", floor)

# %% [markdown]
# W1 is the Wasserstein distance of 500 fakes to 500 held-out points. For 500 real points it is
# 0.081 ± 0.006 (ring) and 0.193 ± 0.005 (cloud); after these runs 0.18 ± 0.01 and 0.22 ± 0.01.
#
# ## 1. Mode collapse: the best answer to a fixed D is one point
#
# G minimizes $\mathrm{mean}_z[-\log\sigma(s(G(z)))]$. While D is fixed, each latent $z$ can be
# treated alone, and all have the same best answer, $x^* = \arg\max_x s(x)$. Nothing in the loss
# asks for diversity; only D's next move does. Freeze the healthy run's D, which knows all eight
# modes, and train a new G against it. *Before you run it: how many modes will this G cover?*

# %%
answers = [train(seed, D=x["net"], turns=(0, 1)) for seed, x in enumerate(runs["healthy"])]
largest = max(x["diversity"][-1] for x in answers)
lesson.expect("fixed D: diversity of G's answer, worst seed", largest, at_most=0.1)
to_mode = [np.linalg.norm(x["fake"][-1].mean(0) - RING, axis=1).min() for x in answers]
lesson.record("fixed D: distance from G's answer to the nearest mode", to_mode)

# %% [markdown]
# One: it is a point, 0.004 ± 0.001 from the centre of a mode. Now force this in training: five
# updates of G for one of D, with momentum. G jumps to D's best point, D lowers its logit there, the
# best point is now elsewhere, and G hops on. 004 (2.3) says: collapsed fakes look alike, so D's
# task is easy, so its loss is small, so the gradient vanishes. *Will D's loss be smaller than in
# the healthy run, or larger?*

# %%
wgan = {"loss": WGAN, "gp": 1.0}
CURES = {"minibatch std": {"statistic": True}, "one update each": {"turns": (1, 1)}}
CURES |= {"WGAN-GP": wgan, "WGAN-GP, its own turns": wgan | {"turns": (5, 1), "beta1": 0}}
study("collapse", {"turns": (1, 5), "beta1": 0.5, "falling": False}, CURES)
difference = late("collapse", "D's loss") - late("healthy", "D's loss")
lesson.expect("D's loss, collapse - healthy, worst seed", difference.min(), at_least=0.1)
for name in ("healthy", "collapse"):
    lesson.record(f"{name}: D's loss", late(name, "D's loss"))
    norms = np.linalg.norm(late(name, "norms")[:, 1], axis=1)
    lesson.record(f"{name}: norm of G's gradient", norms)

# %% Figure
SIDE = np.linspace(-4, 4, 120)
GRID = mg.tensor(np.stack(np.meshgrid(SIDE, SIDE), -1).reshape(-1, 2).astype(np.float32))
COLOURS = LinearSegmentedColormap.from_list("fake to real", ["#8ec5e8", "#ffffff", "#f7b58c"])


def scene(axes, name, i=-1, scale=3.0):
    """Draw data and fakes of seed 0, and behind them where D says real (orange) and fake (blue)."""
    r = runs[name][0]
    r["net"].load_state_dict(r["D"][i])
    logits = r["net"](GRID).numpy().reshape(120, 120) * ("std" not in name)  # that D needs a batch
    colours = {"cmap": COLOURS, "vmin": -scale, "vmax": scale, "interpolation": "bilinear"}
    axes.imshow(logits, extent=(-4, 4, -4, 4), origin="lower", **colours)
    axes.plot(*r["data"][:300].T, "o", ms=3, mew=0, color=DATA)
    axes.plot(*r["fake"][i].T, "o", ms=3, mew=0, color=GENERATOR, alpha=0.4)
    if "oscillation" in name:  # the path of the fakes' mean
        axes.plot(*r["fake"].mean(1)[-12:].T, ".-", color=PINK, lw=1.5)
    limits = (-1.7, 1.7) if r["world"] == "ring" else (-3, 3)
    axes.set(xlim=limits, ylim=limits, xticks=[], yticks=[])
    return r


with lesson.figure(12, 2.3, "hops") as figure:
    for axes, i in zip(figure.subplots(1, 6), range(-6, 0), strict=True):
        axes.set_title(f"step {scene(axes, 'collapse', i, 0.3)['step'][i]}")

# %% [markdown]
# Larger: 1.390 ± 0.002, against 1.10 ± 0.02. A D that knows nothing has $2 \log 2 = 1.386$. The
# fakes are never where D has just learned them to be, so its task is hard, and nothing saturates:
# the slope left is 1/2. G's gradient (0.11 ± 0.02) is smaller than in the healthy run (1.8 ± 0.3),
# but because D is flat, not because it is sure; it moves G across the ring in 25 steps.
#
# **The cure: show D the gauge.** D judges samples one by one, so it cannot see that all are alike.
# `MinibatchStdDev` gives it the standard deviation within groups of four, a simple form of the
# minibatch discrimination that 004 recommends (9.1): W1 falls from 1.13 ± 0.08 to 0.12 ± 0.01. One
# update each cures too (0.19 ± 0.01). And WGAN, which 004 (9.1) says solves collapse? With the same
# five updates of G, WGAN-GP collapses (1.23 ± 0.02); with five of D, its recipe, not (0.16 ± 0.01).
#
# ## 2. A discriminator that is too strong: the gradient vanishes
#
# The slopes of G's two losses by the logit $s$ of a fake:
# $$\log(1 - \sigma(s)):\ -\sigma(s) \qquad\qquad -\log \sigma(s):\ -(1 - \sigma(s))$$
# At $s = -8$, where D is sure, the first is $-0.0003$, the second $-0.9997$. The chain rule
# multiplies it by $\partial s / \partial G$, so it scales the gradient of *all* layers of G. Its
# mean is the gauge `slope left`. 004 (4.2) describes something else: a gradient that shrinks from
# layer to layer, in saturated activations. Arjovsky and Bottou (2017, figures 2 and 3) trained D
# alone, against a fixed G, and measured G's gradient. We do it with a new G, for LeakyReLU and for
# tanh in D, and with the healthy run's G. *By which factor will the losses' gradients differ in the
# end, and will it be the same in the first layer of G and in the last?*

# %%
ALONE = {"turns": (1, 0), "falling": False}
for kind in ("LeakyReLU", "Tanh"):
    D = [net(getattr(nn, kind)) for _ in SEEDS]
    runs[f"D alone, {kind}"] = [train(seed, D=D[seed], **ALONE) for seed in SEEDS]
healthy = [x["G"] for x in runs["healthy"]]
runs["D alone, trained G"] = [train(seed, G=G, **ALONE) for seed, G in enumerate(healthy)]
curves = {}  # the norm of G's gradient, by seed and time
for key in [key for key in runs if "alone" in key]:
    norms = np.linalg.norm([r["norms"] for r in runs[key]], axis=3)
    for loss, name in enumerate(("minimax", "-log D")):
        curves[key, name] = norms[:, :, loss]
        lesson.record(f"{key}: log10 |gradient|, {name}", np.log10(norms[:, -1, loss]))
last = np.array([r["norms"][-1] for r in runs["D alone, LeakyReLU"]])
ratio = last[:, 0] / last[:, 1]  # by seed, layer
typical, uneven = np.exp(np.log(ratio).mean()), (ratio.max(1) / ratio.min(1)).max()
lesson.expect("minimax gradient / that of -log D", typical, at_most=1e-3)
lesson.expect("this ratio, largest / smallest of G's layers", uneven, at_most=3)

# %% Figure
with lesson.figure(11, 3.6, "gradients") as figure:
    row = figure.subplots(1, 3, sharey=True)
    panels = dict(zip(dict.fromkeys(key for key, _ in curves), row, strict=True))
    for (key, name), curve in curves.items():
        colour, y = (GENERATOR, 0.45) if name == "minimax" else (PINK, 0.7)
        panels[key].semilogy(runs[key][0]["step"], curve.T, color=colour, lw=1.2)
        panels[key].set(title=key, xlabel="updates of D")
        if "Leaky" in key:
            panels[key].text(0.6, y, name, color=colour, transform=panels[key].transAxes)
    figure.supylabel("norm of G's gradient")

# %% [markdown]
# The minimax gradient is 0.00002 of the other, in all layers alike (within a factor of 1.4). The
# activation does not matter: with LeakyReLU, which 004 (9.2) recommends, it falls to 0.0003, with
# tanh to 0.0009. With the healthy run's G it does not fall: its fakes lie on the data, where D
# cannot be sure. The other gradient *grows*, to 17, because D becomes steeper and steeper.
#
# In training: ten updates of D for one of G by plain gradient descent. *Which will save it: Adam,
# Adam and the loss -log D, or a D that may not be steep?* (Adam divides a gradient by its own size,
# so its steps hide that it vanishes, until it is near Adam's epsilon, 1e-8: exercise 2.)

# %%
CURES = {"R1": {"r1": 0.05}, "Adam": {"sgd": 0}, "-log D, Adam": {"loss": NS, "sgd": 0}}
study("strong D", {"loss": MINIMAX, "turns": (10, 1), "sgd": 0.1}, CURES)

# %% [markdown]
# W1 without a cure: 4.2 ± 0.7; Adam: 0.60 ± 0.13; Adam and -log D: 0.93 ± 0.06. There is a slope
# now, but D is so steep that G overshoots. **The cure: a smooth D.** R1 adds 0.05 times the mean of
# $|\nabla s(x)|^2$ at real points to D's loss: W1 0.19 ± 0.01, with the same ten updates, plain
# descent, and the loss that "saturates".
#
# ## 3. Oscillation: the players circle around the solution
#
# If the fakes lie left of the data, D learns to rise to the right, and G moves right. D turns only
# when G has passed the data; then G is driven back. Like a pendulum without friction, the pair
# circles (09 derives it). Large constant rates and momentum force it. *The centre of a circle is
# the solution. Will the average $\bar G$ be nearer to it than G?*

# %%
CURES = {"R1": {"r1": 2.0}, "falling rates": {"falling": True}}
FORCED = {"world": "normal", "rates": (1e-2, 1e-2), "beta1": 0.5, "falling": False}
study("oscillation", FORCED, CURES)
ratio = late("oscillation", "off") / late("oscillation", "off, average")
lesson.expect("oscillation: error of the mean, G / its average", ratio.min(), at_least=1.5)

# %% [markdown]
# Yes: the mean of its fakes is at least five times nearer to the data's. But averaging does not
# repair the shape: W1 is 0.90 ± 0.15, and of the average 0.80 ± 0.08. **The cure: friction.** R1
# pulls D's slope to zero: 0.41 ± 0.07, and of the average 0.27 ± 0.02. Falling rates do as well
# (0.38 ± 0.04, 0.28 ± 0.02).
#
# ## 4. D learns the training set by heart
#
# With 30 training points and five updates a step, D can raise its logit at 30 places. *What will it
# say about real points that it has not seen?*

# %%
CURES = {"noise": {"noise": 0.5}, "20000 points": {"n": 20_000}}
study("memory", {"world": "normal", "n": 30, "turns": (5, 1)}, CURES)
gap = late("memory", "memory").min()
lesson.expect("D's logit, training - held-out, worst seed", gap, at_least=1)

# %% [markdown]
# It rates them 4.6 ± 1.2 logits lower, and G learns to please a D that knows 30 points: W1 0.64 ±
# 0.05. **The cure: noise** (0.5 per coordinate) on all that D sees, real and fake, so that no point
# looks the same twice: 0.42 ± 0.06. More data is best: 20,000 points, 0.21 ± 0.01. For images, the
# noise is augmentation.
#
# ## Does each gauge see its own failure, and is it quiet on healthy and cured runs?

# %%
OWN = dict(zip(RANGE, ("collapse", "strong D", "oscillation", "memory"), strict=True))
CURED = ["collapse, minibatch std", "strong D, R1", "oscillation, R1", "memory, noise"]
wrong = 0
for name in ["healthy", "healthy, normal", *OWN.values(), *CURED]:
    for gauge, (low, high) in RANGE.items():
        value, own = late(name, gauge), name == OWN[gauge]
        lesson.record(f"{name}: {gauge}", value)
        if own or name not in OWN.values():  # a failure may alarm other gauges too
            wrong += int((((value < low) | (value > high)) != own).sum())
lesson.expect("missed and false alarms", wrong, equal=0)

# %% Figure
with lesson.figure(11, 13) as figure:
    grid = figure.subplots(4, 3, width_ratios=(1, 1.2, 1))
    for axes, (gauge, name), cure in zip(grid, OWN.items(), CURED, strict=True):
        for panel, key in ((axes[0], name), (axes[2], cure)):
            panel.set_title(f"{key}: W1 {scene(panel, key)['W1']:.2f}", fontsize=12)
        healthy = "healthy" if runs[name][0]["world"] == "ring" else "healthy, normal"
        for key, colour in ((name, PINK), (cure, GREEN), (healthy, GREY)):
            for r in runs[key]:
                axes[1].plot(r["step"], r[gauge], color=colour, lw=1.2, alpha=0.8)
        axes[1].set_title(f"gauge: {gauge}", fontsize=12)
    for y, text, colour in ((0.8, "failure", PINK), (0.7, "cured", GREEN), (0.6, "healthy", GREY)):
        grid[3, 1].text(0.05, y, text, color=colour, transform=grid[3, 1].transAxes)
    grid[1, 1].set(yscale="log", ylim=(1e-12, 2))
    grid[3, 1].set_xlabel("step")
lesson.finish()

# %% [markdown]
# | | diversity | slope left | swing | memory |
# | --- | --- | --- | --- | --- |
# | healthy, ring | 0.984 ± 0.009 | 0.414 ± 0.005 | 0.006 ± 0.000 | -0.005 ± 0.006 |
# | healthy, normal | 0.99 ± 0.01 | 0.501 ± 0.000 | 0.050 ± 0.005 | 0.000 ± 0.000 |
# | collapse | **0.13 ± 0.02** | 0.501 ± 0.001 | **0.77 ± 0.04** | 0.000 ± 0.000 |
# | strong D | 1.9 ± 0.3 | **2e-11 ± 1e-11** | 0.03 ± 0.02 | -0.09 ± 0.19 |
# | oscillation | 0.71 ± 0.04 | 0.490 ± 0.003 | **0.40 ± 0.04** | -0.002 ± 0.001 |
# | memory | 0.70 ± 0.06 | 0.30 ± 0.02 | 0.008 ± 0.001 | **4.6 ± 1.2** |
#
# Swing sees the collapse too: a G that hops does not rest. The figure shows seed 0 and, of the
# gauges, all seeds; D of the second row has thrown the fakes out of the frame.
#
# ## Exercises
#
# 1. Train the healthy run's *own* G against its fixed D: `train(0, G, D, turns=(0, 1))`. Does it
#    collapse, as the new G of section 1 did with the same loss?
#    <details><summary>Answer</summary> No: its diversity stays near 1. One point is the best
#    answer, but gradient descent moves each fake up its own hill, and G has some on all. </details>
# 2. Adam's first step is its rate times $g / (|g| + 10^{-8})$. Which share of the rate is it for a
#    gradient of $\sigma(s)$ at $s = -8$ and at $s = -25$, and where is it half?
#    <details><summary>Answer</summary> 0.99997; 0.0014; half at $s = -18.4$, where $\sigma(s) =
#    10^{-8}$. Adam hides a vanishing gradient until then; at -25, G stands still. </details>
# 3. Repeat section 4 with 300 points: `train(0, world="normal", turns=(5, 1), n=300)`. How much
#    smaller is the gauge `memory`?
#    <details><summary>Answer</summary> More than five times: D has to bend around ten times as many
#    points, and new points lie closer to known ones. </details>
#
# Next: 09, why the players circle, exactly.

# %% [markdown]
# # 08 How GANs die
#
# 逼出 GAN 的四种失败：模式崩溃、判别器太强、振荡、判别器背下数据；每种用一个简单的指标看见它，再治好它。
# 教程 004 说崩溃会让判别器的损失变小、梯度消失；这里测到的正好相反。
#
# Your GAN has trained for an hour and its samples are bad. There are four common reasons, and the two
# losses do not tell them apart. Here each failure is forced in a small world, one short function (a
# *gauge*) shows it, and one change cures it. Tutorial 004 says that collapse makes gradients vanish
# (2.3), explains the latter by saturated layers (4.2), and names cures (9.1, 9.2): we test that.
# Needs: 06.

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
# Let $s$ be D's logit, $D(x) = \sigma(s(x))$, and $\bar G$ the generator with averaged weights (here
# over the last 100 steps or so). The gauges need only forward passes, on any kind of data:
#
# - diversity: mean distance between two fakes, divided by that of two real samples; 1 is healthy;
# - slope left: mean $\sigma(s)$ of the fakes; section 2 explains the name; about 1/2 is healthy;
# - swing: distance from the mean of $G$'s fakes to that of $\bar G$'s, in the same unit; 0 at rest;
# - memory: D's mean logit on training data minus that on real data it has never seen; 0 is healthy.


# %%
def distance(x):
    return np.linalg.norm(x[:, None] - x[None], axis=2).mean()


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
HEALTHY |= {"falling": True, "beta1": 0, "sgd": 0, "penalty": None, "noise": 0, "statistic": False}


def points(world, n, seed):
    if world == "ring":
        return mg.data.load("ring", size=n, seed=seed).values
    return np.random.default_rng(seed).standard_normal((n, 2), np.float32)


def net(activation, outputs=1, statistic=False):
    layers = [nn.Dense(2, 64), activation(), nn.Dense(64, 64), activation()]
    layers += [nn.MinibatchStdDev()] * statistic
    return nn.Sequential(*layers, nn.Dense(64 + statistic, outputs))


def train(seed, G=None, D=None, **options):
    """Return the nets, what was measured every 25 steps, and W1 to held-out points at the end."""
    o = SimpleNamespace(**HEALTHY | options)
    mg.manual_seed(seed)
    data, held_out = (mg.tensor(points(o.world, *x)) for x in ((o.n, seed), (1000, seed + 100)))
    G, D = G or net(nn.ReLU, 2), D or net(nn.LeakyReLU, 1, o.statistic)
    opt_d, opt_g = (mg.optim.Adam(x.parameters(), betas=(o.beta1, 0.99)) for x in (D, G))
    opt_g = mg.optim.SGD(G.parameters(), o.sgd) if o.sgd else opt_g  # plain gradient descent
    average = mg.optim.ExponentialMovingAverage(G, 0.99)
    weights = [p for p in G.parameters() if p.ndim == 2]
    z, real = mg.random.normal((500, 2), stream="test"), held_out.numpy()[:500]

    def seen(x):  # what D sees
        return x + o.noise * mg.random.normal(x.shape, stream="noise") if o.noise else x

    @mg.capture
    def update_d(real):
        real, fake = seen(real), seen(G(mg.random.normal((BATCH, 2))).detach())
        loss_d = o.loss.discriminator(D(real), D(fake))
        loss_d = loss_d + o.penalty(D, real, fake) if o.penalty else loss_d
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
            grads = [mg.grad(x.generator(logits), weights) for x in (MINIMAX, NS)]
            row = {"step": step + 1, "fake": fake, "D": D.state_dict()}
            row["norms"] = [[np.linalg.norm(g.numpy()) for g in layers] for layers in grads]
            row["D's loss"] = NS.discriminator(D(held_out), logits).item()
            row["off"], row["off, average"] = (np.linalg.norm(x.mean(0)) for x in (fake, mean))
            row["diversity"], row["slope left"] = diversity(fake, real), slope_left(logits)
            row["swing"] = swing(fake, mean, real)
            row["memory"] = memory(D(data[:1000]), D(held_out))
            rows.append(row)
    final = {"": fake, " of its average": mean, " of real points": points(o.world, 500, seed + 50)}
    result = {f"W1{key}": mg.metrics.wasserstein1(x, real) for key, x in final.items()}
    result |= {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return result | {"data": data.numpy(), "world": o.world, "G": G, "net": D}


def late(name, key):  # the mean over the last third of the training, per seed
    return np.array([x[key][-(len(x[key]) // 3) :].mean(0) for x in runs[name]], float)


def study(name, failure, cures=None):
    """Train with the failure's options, and with each cure; --fast: with the first cure alone."""
    for cure, change in list({"": {}, **(cures or {})}.items())[: 2 if lesson.fast else None]:
        key = f"{name}, {cure}" if cure else name
        runs[key] = [train(seed, **failure | change) for seed in SEEDS]
        for what in ("W1", "W1 of its average", "W1 of real points")[: None if not cures else 2]:
            lesson.record(f"{key}: {what}", [x[what] for x in runs[key]])


def r1(weight):
    return lambda D, real, fake: weight * mg.losses.r1_penalty(D, real)


runs = {}
study("healthy", {})
study("healthy, normal", {"world": "normal"})

# %% [markdown]
# W1 is the Wasserstein distance of 500 fakes to 500 held-out points; real points have @floor too.
#
# ## 1. Mode collapse: the best answer to a fixed D is one point
#
# G minimizes $\mathrm{mean}_z[-\log\sigma(s(G(z)))]$. While D stays fixed, each latent $z$ can be
# treated alone, and all have the same best answer, $x^* = \arg\max_x s(x)$. Nothing in the loss asks
# for diversity; only D's next move does. Freeze the healthy run's D, which knows all eight modes,
# and train a new G against it. *Before you run it: how many modes will this G cover?*

# %%
answers = [train(seed, D=x["net"], turns=(0, 1)) for seed, x in enumerate(runs["healthy"])]
largest = max(x["diversity"][-1] for x in answers)
lesson.expect("fixed D: diversity of G's answer, worst seed", largest, at_most=0.1)
to_mode = [np.linalg.norm(x["fake"][-1].mean(0) - RING, axis=1).min() for x in answers]
lesson.record("fixed D: distance from G's answer to the nearest mode", to_mode)

# %% [markdown]
# One, and exactly on it (@tomode from its centre). Now force this in training: five updates of G
# for each of D, with some momentum. Then G reaches D's best point, D lowers its logit there, the
# best point is elsewhere, and G hops (figure 08_how_gans_die-hops.png).
#
# 004 (2.3) says that collapsed fakes look alike, so D's task is easy, its loss becomes small, and the
# gradient vanishes. *Will D's loss be smaller than in the healthy run, or larger?*

# %%
wgan = {"loss": WGAN, "penalty": mg.losses.gradient_penalty}
CURES = {"minibatch std": {"statistic": True}, "one update each": {"turns": (1, 1)}}
CURES |= {"WGAN-GP": wgan, "WGAN-GP, its own turns": wgan | {"turns": (5, 1), "beta1": 0}}
study("collapse", {"turns": (1, 5), "beta1": 0.5, "falling": False}, CURES)
difference = late("collapse", "D's loss") - late("healthy", "D's loss")
lesson.expect("D's loss, collapse - healthy, worst seed", difference.min(), at_least=0.1)
for name in ("healthy", "collapse"):
    lesson.record(f"{name}: D's loss", late(name, "D's loss"))
    norms = np.linalg.norm(late(name, "norms")[:, 1], axis=1)
    lesson.record(f"{name}: norm of G's gradient", norms)

# %% [markdown]
# @collapse3

# %%
ALONE = {"turns": (1, 0), "falling": False}
for kind in ("LeakyReLU", "Tanh"):
    D = [net(getattr(nn, kind)) for _ in SEEDS]
    runs[f"D alone, {kind}"] = [train(seed, D=D[seed], **ALONE) for seed in SEEDS]
healthy = [x["G"] for x in runs["healthy"]]
runs["D alone, trained G"] = [train(seed, G=G, **ALONE) for seed, G in enumerate(healthy)]
for key in [key for key in runs if "alone" in key]:
    last = np.array([x["norms"][-1] for x in runs[key]])  # by seed, loss, layer
    for loss, norm in zip(("minimax", "-log D"), np.linalg.norm(last, axis=2).T, strict=True):
        lesson.record(f"{key}: log10 |gradient|, {loss}", np.log10(norm))
    ratio = last[:, 0] / last[:, 1]  # by seed, layer
    if key == "D alone, LeakyReLU":
        typical, uneven = np.exp(np.log(ratio).mean()), (ratio.max(1) / ratio.min(1)).max()
        lesson.expect("minimax gradient / that of -log D", typical, at_most=1e-3)
        lesson.expect("this ratio, largest / smallest of G's layers", uneven, at_most=3)

# %% [markdown]
# @strong2

# %%
CURES = {"R1": {"penalty": r1(0.05)}, "Adam": {"sgd": 0}, "-log D": {"loss": NS}}
CURES["-log D, Adam"] = {"loss": NS, "sgd": 0}
study("strong D", {"loss": MINIMAX, "turns": (10, 1), "sgd": 0.1}, CURES)

# %% [markdown]
# @osc

# %%
CURES = {
    "R1": {"penalty": r1(2.0)},
    "falling rates": {"falling": True},
    "no momentum": {"beta1": 0},
}
FORCED = {"world": "normal", "rates": (1e-2, 1e-2), "beta1": 0.5, "falling": False}
study("oscillation", FORCED, CURES)
ratio = late("oscillation", "off") / late("oscillation", "off, average")
lesson.expect("oscillation: error of the mean, G / its average", ratio.min(), at_least=1.5)

# %% [markdown]
# @memory

# %%
CURES = {"noise": {"noise": 0.5}, "R1": {"penalty": r1(0.5)}, "20000 points": {"n": 20_000}}
study("memory", {"world": "normal", "n": 30, "turns": (5, 1)}, CURES)
gap = late("memory", "memory").min()
lesson.expect("D's logit, training - held-out, worst seed", gap, at_least=1)

# %% [markdown]
# @table

# %%
OWN = dict(zip(RANGE, ("collapse", "strong D", "oscillation", "memory"), strict=True))
CURED = ["collapse, minibatch std", "strong D, R1", "oscillation, R1", "memory, noise"]
wrong = 0
for name in ["healthy", "healthy, normal", *OWN.values(), *CURED]:
    print(f"  {name:24}", end="")
    for gauge, (low, high) in RANGE.items():
        value, own = late(name, gauge), name == OWN[gauge]
        alarms = (value < low) | (value > high)
        if own or name not in OWN.values():  # a failure may alarm other gauges too
            wrong += int((alarms != own).sum())
        print(f" {gauge} {value.mean():.2g} ± {value.std() / 2:.1g}{' !' * alarms.any()};", end="")
    print()
lesson.expect("missed and false alarms", wrong, equal=0)

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
    if "oscillation" in name:
        axes.plot(*r["fake"].mean(1)[-12:].T, ".-", color=PINK, lw=1.5)
    limit = 1.7 if r["world"] == "ring" else 3
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return r


with lesson.figure(11, 13) as figure:
    grid = figure.subplots(4, 3, width_ratios=(1, 1.2, 1))
    for axes, (gauge, name), cure in zip(grid, OWN.items(), CURED, strict=True):
        for panel, key in ((axes[0], name), (axes[2], cure)):
            panel.set_title(f"{key}: W1 {scene(panel, key)['W1']:.2f}", fontsize=12)
        healthy = "healthy" if runs[name][0]["world"] == "ring" else "healthy, normal"
        for row, (key, colour) in enumerate(((name, PINK), (cure, GREEN), (healthy, GREY))):
            for r in runs[key]:
                axes[1].plot(r["step"], r[gauge], color=colour, lw=1.2, alpha=0.8)
            text = ("failure", "with the cure", "healthy")[row]
            axes[1].text(
                1.0, 0.93 - 0.1 * row, text, color=colour, ha="right", transform=axes[1].transAxes
            )
        axes[1].set_title(f"gauge: {gauge}, all seeds", fontsize=12)
    grid[1, 1].set(yscale="log", ylim=(1e-12, 2))
    grid[3, 1].set_xlabel("step")

with lesson.figure(12, 2.3, "hops") as figure:
    for axes, i in zip(figure.subplots(1, 6), range(-6, 0), strict=True):
        axes.set_title(f"step {scene(axes, 'collapse', i, 0.3)['step'][i]}")

with lesson.figure(11, 3.6, "gradients") as figure:
    alone = [key for key in runs if "alone" in key]
    for axes, key in zip(figure.subplots(1, 3, sharey=True), alone, strict=True):
        for r in runs[key]:
            axes.semilogy(r["step"], np.linalg.norm(r["norms"][:, 0], axis=1), color=GENERATOR)
            axes.semilogy(r["step"], np.linalg.norm(r["norms"][:, 1], axis=1), color=PINK)
        axes.set(title=key, xlabel="step of D")

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. x
# 2. x
# 3. x

# %% [markdown]
# # 08 How GANs die
#
# 本课故意让 GAN 出现四种失败：模式崩溃、判别器太强、振荡、判别器死记训练数据，并逐一诊断、治好。
# 教程 004 说模式崩溃会使判别器的损失变小、梯度消失；这里测到：损失不减反增，梯度也没有消失。
#
# Your GAN has trained for an hour, and its samples are bad. There are four common reasons, and the
# two losses do not tell you which one it is. Here you cause each failure on purpose, detect it with
# a *gauge* (a number that takes one line to compute), and cure it. Four statements of tutorial 004
# are tested: on vanishing gradients (2.3, 4.2) and on cures (9.1, 9.2). Needs: 00, 05.

# %%
import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.utils.figures import DATA, GENERATOR, GREEN, GREY, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("08_how_gans_die", "How GANs die")
SEEDS, STEPS = (range(1), 400) if lesson.fast else (range(5), 1000)

# %% [markdown]
# ## Four gauges to take home
#
# $s$ is D's logit: $D(x) = \sigma(s(x))$, $\sigma(s) = 1/(1+e^{-s})$. In brackets: a healthy value.
# - **Diversity** (1): mean distance between two fakes, divided by that between two real samples.
# - **Slope left** (about 1/2): the mean D(fake), that is $\sigma(s)$. Section 2 explains the name.
# - **Swing** (near 0): how far the fakes' mean moves in 25 steps, in units of that real distance.
# - **Memory** (0): D's mean logit on its training data, minus that on other real, *held-out* data.
#
# Every run trains a small GAN in the plane with the options `HEALTHY`; each failure changes some of
# them. *Adam* divides a gradient by its usual size, so a weight moves by about the learning rate.


# %%
def gauges(fake, before, real, s_fake, s_training, s_held_out):
    distances = [np.linalg.norm(x[:200, None] - x[:200], axis=2).mean() for x in (fake, real)]
    return {
        "diversity": distances[0] / distances[1],
        "slope left": ops.sigmoid(s_fake).mean().item(),
        "swing": np.linalg.norm(fake.mean(0) - before.mean(0)) / distances[1],
        "memory": s_training.mean().item() - s_held_out.mean().item(),
    }


QUIET = {"diversity": (0.5, 2), "slope left": (0.05, 1), "swing": (0, 0.25), "memory": (-1, 1)}
NS, MINIMAX, WGAN = mg.losses.NonSaturating(), mg.losses.Minimax(), mg.losses.Wasserstein()
HEALTHY = {"world": "ring", "n": 20_000, "loss": NS}  # the data: 8 small clusters, or "normal"
HEALTHY |= {"turns": (1, 1), "rates": (2e-3, 1e-3), "falling": True}  # (D, G); rates fall to 0
HEALTHY |= {"beta1": 0, "sgd": 0}  # Adam's momentum; rate of G where it descends without Adam
HEALTHY |= {"penalty": lambda D, real, fake: 0, "noise": 0, "extra": ()}  # cures; see below
BATCH, RING = 128, mg.data.load("ring", samples=8).modes  # samples per minibatch; cluster centres


def points(world, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2), np.float32)
    x = RING[rng.integers(0, 8, n)] + 0.01 * x if world == "ring" else x
    return mg.tensor(x, dtype="float32")


def net(activation, outputs=1, extra=()):
    layers = [nn.Dense(2, 64), activation(), nn.Dense(64, 64), activation(), *extra]
    return nn.Sequential(*layers, nn.Dense(64 + len(extra), outputs))


def train(seed, G=None, D=None, **options):  # returns the nets, and gauges every 25 steps
    o = HEALTHY | options
    mg.manual_seed(seed)
    data, held_out = points(o["world"], o["n"], seed), points(o["world"], 1000, seed + 100)
    G, D = G or net(nn.ReLU, 2), D or net(nn.LeakyReLU, 1, o["extra"])
    opt_d, opt_g = (mg.optim.Adam(x.parameters(), betas=(o["beta1"], 0.99)) for x in (D, G))
    opt_g = mg.optim.SGD(G.parameters(), o["sgd"]) if o["sgd"] else opt_g

    def seen(x):  # what D sees
        return x + o["noise"] * mg.random.normal(x.shape, stream="noise") if o["noise"] else x

    @mg.capture  # only makes it faster
    def update_d(real):
        real, fake = seen(real), seen(G(mg.random.normal((BATCH, 2))).detach())
        loss_d = o["loss"].discriminator(D(real), D(fake)) + o["penalty"](D, real, fake)
        opt_d.step(mg.grad(loss_d, D.parameters()))

    @mg.capture
    def update_g():
        loss_g = o["loss"].generator(D(seen(G(mg.random.normal((BATCH, 2))))))
        opt_g.step(mg.grad(loss_g, G.parameters()))

    z, real, batch, rows = mg.random.normal((500, 2)), held_out.numpy()[:500], 0, []
    fake = G(z).numpy()
    for step in lesson.progress(range(1, STEPS + 1), f"seed {seed}"):
        fall = 1 - step / (STEPS + 1) if o["falling"] else 1.0
        opt_d.lr, opt_g.lr = o["rates"][0] * fall, o["sgd"] or o["rates"][1] * fall
        for _ in range(o["turns"][0]):
            update_d(data[batch : batch + BATCH])
            batch = (batch + BATCH) % max(1, o["n"] - BATCH)
        for _ in range(o["turns"][1]):
            update_g()
        if step % 25 == 0:
            before, fake, s, s_held_out = fake, G(z).numpy(), D(G(z)), D(held_out)
            rows.append(gauges(fake, before, real, s, D(data[:1000]), s_held_out))
            loss = NS.discriminator(s_held_out, s).item()
            rows[-1] |= {"D's loss": loss, "fake": fake, "D": D.state_dict()}
    result = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    late = {key: result[key][-(STEPS // 75) :].mean() for key in [*QUIET, "D's loss"]}  # 1/3 of it
    w1 = {"W1": mg.metrics.wasserstein1(fake, real), "data": data.numpy(), "real": real}
    return result | w1 | {"late": late, "world": o["world"], "G": G, "net": D}


def study(name, failure, cures):  # trains with the failure alone, then with each cure added
    for cure, change in [("", {}), *cures.items()][: 2 if lesson.fast else None]:
        key = f"{name}, {cure}" if cure else name
        runs[key] = [train(seed, **failure | change) for seed in SEEDS]
        lesson.record(f"{key}: W1", [r["W1"] for r in runs[key]])


runs = {}
study("healthy", {}, {"normal": {"world": "normal"}})
for key, rs in runs.items():
    pairs = [(points(r["world"], 500, seed + 50).numpy(), r["real"]) for seed, r in enumerate(rs)]
    lesson.record(f"{key}: W1 of real points", [mg.metrics.wasserstein1(*pair) for pair in pairs])

# %% [markdown]
# *W1*, the Wasserstein distance, says how bad a run is: pair 500 fakes with 500 held-out points so
# that the mean distance in a pair, W1, is smallest. Healthy runs on ring and normal: 0.15 ± 0.01,
# 0.23 ± 0.01 (mean of five seeds ± standard error); two *real* sets: 0.087 ± 0.007, 0.193 ± 0.005.
#
# ## 1. Mode collapse: the best answer to a fixed D is one point
#
# G lowers the mean of $-\log D(G(z))$ over its noise $z$. As long as D does not change, every $z$
# has the same best answer: the point where D is highest. Only D's updates ask for diversity. *Take
# the D of a healthy run with all eight modes (clusters), and fix it. How many will a new G cover?*

# %%
answers = [train(seed, D=r["net"], turns=(0, 1)) for seed, r in enumerate(runs["healthy"])]
largest = max(r["diversity"][-1] for r in answers)
lesson.expect("fixed D: diversity of G's answer, worst seed", largest, at_most=0.1)

# %% [markdown]
# One: all fakes land on one point. Now let D learn, but G more: five updates for one of D, with
# momentum (a step also repeats half of the step before). G jumps to D's highest point. D lowers its
# logit there, and G jumps on. 004 (2.3) says: collapsed fakes look alike, so D detects them easily,
# its loss gets small, and the gradient vanishes. *Is D's loss smaller than in a healthy run?*

# %%
wgan = {"loss": WGAN, "penalty": mg.losses.gradient_penalty}
CURES = {"minibatch std": {"extra": [nn.MinibatchStdDev()]}, "one update each": {"turns": (1, 1)}}
CURES |= {"WGAN-GP": wgan, "WGAN-GP, its own turns": wgan | {"turns": (5, 1), "beta1": 0}}
study("collapse", {"turns": (1, 5), "beta1": 0.5, "falling": False}, CURES)
healthy, collapse = ([r["late"]["D's loss"] for r in runs[x]] for x in ("healthy", "collapse"))
lesson.record("healthy: D's loss", healthy)
lesson.record("collapse: D's loss", collapse)
difference = np.subtract(collapse, healthy).min()
lesson.expect("D's loss, collapse - healthy, worst seed", difference, at_least=0.1)


# %% Figure
def scene(axes, key, title, i=-1, scale=3.0):
    r = runs[key][0]  # seed 0; the background is orange where D says real, white where it says fake
    limit = max(1.7 if r["world"] == "ring" else 3.0, 1.4 * abs(r["fake"][i].mean(0)).max())
    grid = np.stack(np.meshgrid(*[np.linspace(-limit, limit, 99)] * 2), -1).reshape(-1, 2)
    r["net"].load_state_dict(r["D"][i])
    if "std" not in key:  # that D does not judge single points
        s = np.tanh(r["net"](mg.tensor(grid, dtype="float32")).numpy() / scale).reshape(99, 99)
        style = {"cmap": "Oranges", "vmin": -1, "vmax": 2.5, "origin": "lower"}
        axes.imshow(s, extent=(-limit, limit) * 2, interpolation="bilinear", **style)
    axes.plot(*r["data"][:300].T, "o", ms=3, mew=0, color=DATA)
    axes.plot(*r["fake"][i].T, "o", ms=3, mew=0, color=GENERATOR, alpha=0.4)
    if "oscillation" in key:  # the path of the mean fake
        axes.plot(*r["fake"].mean(1)[-12:].T, ".-", color="#003f66", lw=1.5)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, color="#117755" if "," in key else "#b04a87", fontsize=12)


with lesson.figure(12, 2.3, "hops") as figure:
    for axes, i in zip(figure.subplots(1, 6), range(-6, 0), strict=True):
        scene(axes, "collapse", f"step {STEPS + 25 * (i + 1)}", i, scale=0.3)

# %% [markdown]
# Larger: 1.395 ± 0.003, against 1.09 ± 0.02; a D that always answers 1/2 has $2 \log 2 = 1.386$.
# Once D has learned where the fakes are, they move on. The gradient is alive: slope left is 1/2.
#
# **The cure: let D see diversity.** D judges each sample alone, so it cannot see that all fakes are
# alike. `MinibatchStdDev`, a simple form of 004's minibatch discrimination (9.1), tells it how much
# the samples of a group of four differ: W1 falls from 1.38 ± 0.08 to 0.10 ± 0.01. One update each
# cures too: 0.16 ± 0.02. WGAN (004, 9.1; lesson 11) cures only with its own schedule, five updates
# of D for one of G and no momentum: 0.14 ± 0.01. With five of G, W1 stays at 1.21 ± 0.05.
#
# ## 2. A discriminator that is too strong: the gradient vanishes
#
# 05 derived how G's two losses change with the logit $s$ of a fake:
# $$\log(1 - D):\ -\sigma(s) \qquad\qquad -\log D:\ -(1 - \sigma(s))$$
# At $s = -8$ D is sure: the first (*minimax*) is $-0.0003$, the second $-0.9997$. The chain rule
# multiplies the gradient of every weight of G by this slope, so a small slope shrinks the gradients
# of *all* layers alike. 004 (4.2) says something else: the gradient shrinks from layer to layer.
#
# Train D alone, against a fixed G, as Arjovsky and Bottou (2017) did; D has LeakyReLUs (004, 9.2).
# *By what factor will G's two gradients differ? Is it the same in G's first and last layer?*

# %%
norms = np.zeros((2, len(SEEDS), 3))  # of G's gradient, by loss, seed, layer
for seed in SEEDS:
    r = train(seed, turns=(1, 0), falling=False)
    s, weights = r["net"](r["G"](mg.random.normal((500, 2)))), r["G"].parameters()[::2]
    for i, loss in enumerate((MINIMAX, NS)):
        norms[i, seed] = [np.linalg.norm(g.numpy()) for g in mg.grad(loss.generator(s), weights)]
for name, size in zip(("minimax", "-log D"), np.linalg.norm(norms, axis=2), strict=True):
    lesson.record(f"D alone, LeakyReLU: log10 |gradient|, {name}", np.log10(size))
ratio = norms[0] / norms[1]
typical, uneven = np.exp(np.log(ratio).mean()), (ratio.max(1) / ratio.min(1)).max()
lesson.expect("minimax gradient / that of -log D", typical, at_most=1e-3)
lesson.expect("this ratio, largest / smallest of G's layers", uneven, at_most=3)

# %% [markdown]
# The minimax gradient is 0.00004 of the other, in all layers within a factor of 1.3: the sigmoid in
# the loss saturates; LeakyReLU is no cure. Now minimax, ten updates of D for one of G (no Adam:
# exercise 2). *Will R1 help?* It adds to D's loss 0.05 times the mean $|\nabla s|^2$ on real data.

# %%
CURES = {"R1": {"penalty": lambda D, real, fake: 0.05 * mg.losses.r1_penalty(D, real)}}
study("strong D", {"loss": MINIMAX, "turns": (10, 1), "sgd": 0.1}, CURES)

# %% [markdown]
# Yes: W1 falls from 3.1 ± 0.6 to 0.18 ± 0.01. **The cure: a smooth D.** Exercise 3 tries -log D.
#
# ## 3. Oscillation: the players circle around the solution
#
# If the fakes lie left of the data, D learns to rise to the right, and G moves right. D's slope is
# reversed only after G has passed the data; then G is driven back, and so on, like a pendulum
# without friction (09 derives it). Large rates and momentum cause it. *Will R1 help here too?*

# %%
CURES = {"R1": {"penalty": lambda D, real, fake: 2 * mg.losses.r1_penalty(D, real)}}
CURES |= {"falling rates": {"falling": True}}
FORCED = {"world": "normal", "rates": (1e-2, 1e-2), "beta1": 0.7, "falling": False}
study("oscillation", FORCED, CURES)

# %% [markdown]
# It does: W1 falls from 1.23 ± 0.22 to 0.42 ± 0.02. **The cure: friction.** R1 pulls D's slope to
# zero, which damps the swings (09). Rates that fall to zero help less reliably: 0.69 ± 0.23.
#
# ## 4. D learns the training set by heart
#
# With only 30 training points, and five updates for one of G, D can raise its logit at just these
# points. *What will it say about real points that it has not seen?*

# %%
CURES = {"noise": {"noise": 0.5}, "20000 points": {"n": 20_000}}
study("memory", {"world": "normal", "n": 30, "turns": (5, 1)}, CURES)
gap = min(r["late"]["memory"] for r in runs["memory"])
lesson.expect("D's logit, training - held-out, worst seed", gap, at_least=1)

# %% [markdown]
# It finds them less real: their logit is 4.3 ± 0.8 lower. G learns to please a D that knows only 30
# points: W1 is 0.68 ± 0.09. **The cure: noise** (sd 0.5 per coordinate) on all that D sees, real
# and fake, so that no point looks the same twice: 0.43 ± 0.05. With 20,000 points: 0.20 ± 0.01.
#
# A gauge must leave its `QUIET` range at its own failure, not in healthy or cured runs. *Does it?*

# %%
OWN = dict(zip(QUIET, ("collapse", "strong D", "oscillation", "memory"), strict=True))
CURED = ["collapse, minibatch std", "strong D, R1", "oscillation, R1", "memory, noise"]
wrong = 0
for key in ["healthy", "healthy, normal", *OWN.values(), *CURED]:
    for gauge, (low, high) in QUIET.items():
        value, own = np.array([r["late"][gauge] for r in runs[key]]), key == OWN[gauge]
        if own or key not in OWN.values():  # a failure may alarm other gauges too
            wrong += int((((value < low) | (value > high)) != own).sum())
        lesson.record(f"{key}: {gauge}", value)
lesson.expect("missed and false alarms", wrong, equal=0)

# %% Figure
with lesson.figure(11, 13) as figure:
    grid = figure.subplots(4, 3, width_ratios=(1, 1.2, 1))
    for (left, middle, right), (gauge, name), cure in zip(grid, OWN.items(), CURED, strict=True):
        scene(left, name, f"{name}: W1 {runs[name][0]['W1']:.2f}")
        scene(right, cure, f"{cure}: W1 {runs[cure][0]['W1']:.2f}")
        healthy = "healthy" if runs[name][0]["world"] == "ring" else "healthy, normal"
        for key, colour in ((name, PINK), (cure, GREEN), (healthy, GREY)):
            curves = np.transpose([r[gauge] for r in runs[key]])
            middle.plot(range(25, STEPS + 1, 25), curves, color=colour, lw=1.2, alpha=0.8)
        middle.set(title=f"gauge: {gauge} (grey: healthy)", xlabel="step")
    grid[1, 1].set(yscale="log", ylim=(1e-12, 2))
lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. `r = runs["healthy"][0]; train(0, r["G"], r["net"], turns=(0, 1))`: will its *own* G collapse?
#    <details><summary>Answer</summary>No: its diversity stays near 1. Each fake climbs the nearest
#    hill of D, and this G has fakes on all hills.</details>
# 2. Adam's first step is its rate times $g / (|g| + 10^{-8})$. What share of the rate is it for a
#    gradient $g = \sigma(s)$ at $s = -8$ and at $s = -25$, and where is it half?
#    <details><summary>Answer</summary>0.99997; 0.0014; half at $s = -18.4$, where $\sigma(s) =
#    10^{-8}$. Adam hides a vanishing gradient until then; at -25, G stands still.</details>
# 3. `train(0, turns=(10, 1))["W1"]`: do Adam and $-\log D$ save a G whose D is too strong?
#    <details><summary>Answer</summary>No: W1 is 0.86. G has a gradient, but it collapses.</details>
#
# Next: 09, why the players circle, exactly.

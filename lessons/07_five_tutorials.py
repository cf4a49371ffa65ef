# %% [markdown]
# # 07 Five tutorials, run as they stand
#
# 四篇教程附有代码：有的报错；有的不报错，训练结果却是错的。本课重现这些错误，量出后果，再逐一改正。
#
# A mistake that stops the program is the lucky case. We rebuild the training loops of tutorials 000
# (5.2), 001 (4.2, 5.2), 002 (4.1 to 4.4) and 004 (5.1) with their mistakes (003 has no code), and
# measure how far from the data they end. The worst print the numbers of a success. Needs: 06.
#
# ## A test bench
#
# The data are lesson 06's Gaussian $p$ in the plane. The generator $G(z) = zW + c$ makes a Gaussian
# $q$ too, so $\mathrm{KL}(q\,\|\,p)$ is exact. $D$ returns a logit $s$; its probability is
# $\sigma(s) = 1/(1+e^{-s})$. `train` runs any program: a mistake changes an entry of `BENCH`, such
# as Adam's `rates` (of G, D), whether they `decay` to zero, or `start`, factors of initial weights.

# %%
import numpy as np

import minigan as mg
from minigan import nn
from minigan.metrics import sliced_wasserstein as distance
from minigan.ops import sigmoid, softplus
from minigan.utils.figures import DATA, GENERATOR, GREEN, PINK, tile
from minigan.utils.lesson import Lesson

lesson = Lesson("07_five_tutorials", "Five tutorials, run as they stand")
A, MEAN = mg.tensor([[1.0, 2.0], [-0.1, 0.5]]), mg.tensor([1.0, 2.0])
INVERSE, SEEDS = np.linalg.inv((A.T @ A).numpy()), range(1 if lesson.fast else 10)
gan = mg.losses.NonSaturating()


def kl(W, c):  # KL(q || p) in nats, for q = N(c, W'W)
    d, ratio = c - MEAN.numpy(), np.linalg.det(INVERSE @ W.T @ W)
    return 0.5 * (np.trace(INVERSE @ W.T @ W) + d @ INVERSE @ d - 2 - np.log(ratio))


def plane_nets():
    hidden = [nn.Dense(2, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh()]
    return nn.Dense(2, 2), nn.Sequential(*hidden, nn.Dense(32, 1))


BENCH = {"loss_d": gan.discriminator, "loss_g": gan.generator, "order": "alternating"}
BENCH |= {"real": lambda i: mg.random.normal((256, 2), stream="data") @ A + MEAN}
BENCH |= {"nets": plane_nets, "latent": mg.random.normal, "size": (256, 2)}  # of latents
BENCH |= {"rates": (0.015, 0.04), "decay": True, "betas": (0.5, 0.99), "start": (0.1, 1.0)}


def update(p, G, D, opt_g, opt_d, real):
    fake = G(p["latent"](p["size"]))
    r, f = D(real), D(fake)
    loss_d, loss_g = p["loss_d"](r, f), p["loss_g"](f)
    if p["order"] == "alternating":  # G's step sees the updated D
        opt_d.step(mg.grad(loss_d, D.parameters()))
        opt_g.step(mg.grad(p["loss_g"](D(fake)), G.parameters()))
    else:
        for_d, for_g = (loss_d + loss_g,) * 2 if p["order"] == "summed" else (loss_d, loss_g)
        gradients = mg.grad(for_d, D.parameters()), mg.grad(for_g, G.parameters())
        opt_d.step(gradients[0])
        opt_g.step(gradients[1])
    return loss_d, loss_g, sigmoid(r).mean(), sigmoid(f).mean()


def train(changes, seed, steps=600, nets=None):  # returns a row per step, and both nets
    p = BENCH | changes
    mg.manual_seed(seed)
    G, D = nets or p["nets"]()
    for net, factor in zip((G, D), p["start"], strict=True):
        net.load_state_dict({name: factor * x for name, x in net.state_dict().items()})
    optimizers, rows = [mg.optim.Adam(net.parameters(), betas=p["betas"]) for net in (G, D)], []
    step = mg.capture(lambda real: update(p, G, D, *optimizers, real))
    for i in lesson.progress(range(steps), f"seed {seed}"):
        for optimizer, rate in zip(optimizers, p["rates"], strict=True):
            optimizer.lr = rate * (1 - i / steps if p["decay"] else 1)
        rows.append([*map(float, step(p["real"](i)))])
        if p["nets"] is plane_nets:
            rows[-1].append(kl(*(x.numpy().astype(float) for x in G.parameters())))
    return np.array(rows), (G, D)


# %% [markdown]
# ## What stops, and what does not
#
# None of the four runs: names are missing. With these repaired, four mistakes stop (TensorFlow 2.21
# with Keras 3.15, PyTorch 2.13; lesson 02 shows two of them at work):
#
# | mistake | its framework says | minigan says |
# | --- | --- | --- |
# | 000: fakes outside the tape | `No gradients provided` | `... does not depend on input 0` |
# | 000, 001: image sizes | `Invalid input shape`, `shapes cannot be multiplied` | `is needed` |
# | 001: two losses, one graph | `backward through the graph a second time` | nothing; it is right |
# | 001: D updated in between | `modified by an inplace operation` | `the graph is stale` |
#
# **Which of these `PROGRAMS` will end as near to the data as the mended one?** 000 and 004 make
# *simultaneous* steps: neither player sees the other's update. 001 runs with `retain_graph=True`,
# as its error message proposes; then `backward()` adds up both losses' gradients in *all* weights.

# %%
TWICE = {"loss_g": lambda f: gan.generator(sigmoid(f))}
PROGRAMS = {"mended": {}, "simultaneous": {"order": "simultaneous"}}
PROGRAMS |= {f"{name}, constant rates": p | {"decay": False} for name, p in PROGRAMS.items()}
PROGRAMS["001 with retain_graph"] = {"order": "summed"}
PROGRAMS["001, sign of G's loss"] = {"loss_g": lambda f: softplus(f).mean()}  # -log(1 - D)
PROGRAMS["004, two sigmoids"] = TWICE | {"loss_d": lambda *s: gan.discriminator(*map(sigmoid, s))}
PROGRAMS["002, no cross-entropy"] = {"loss_d": lambda r, f: sigmoid(r).mean() + f.mean()}
LOSS_D, LOSS_G, D_REAL, D_FAKE, KL = range(5)
runs, late = {}, {}  # late: means over the last 100 steps, a row per seed
for name, program in PROGRAMS.items():
    runs[name] = [train(program, seed) for seed in SEEDS]
    late[name] = np.array([rows[-100:].mean(axis=0) for rows, _ in runs[name]])
    for what, column in (("KL", KL), ("D's loss", LOSS_D), ("mean D(real)", D_REAL)):
        lesson.record(f"{what}, {name}", late[name][:, column])
    accuracy = [np.mean(rows[-100:, D_FAKE] > 0.5) for rows, _ in runs[name]]
    lesson.record(f"001's accuracy, {name}", accuracy)
lesson.record("KL after one step", [rows[0, KL] for rows, _ in runs["mended"]])
batches = [BENCH["real"](0).numpy() for _ in SEEDS]
fits = [kl(np.linalg.cholesky(np.cov(x.T)).T, x.mean(axis=0)) for x in batches]
lesson.record("KL of a Gaussian fitted to 256 real points", fits)

# %% Figure
SHOWN = [(D_FAKE, "mean D(fake): a perfect 0.5"), (LOSS_G, "G's loss: all learned")]
SHOWN += [(LOSS_D, "D's loss: a perfect 1.386"), (LOSS_D, "D's loss: better and better")]
with lesson.figure(13, 8.2) as figure:
    grid = figure.subplots(3, 4, height_ratios=(1.1, 1.2, 1))
    for name, (column, printed), axes in zip(list(PROGRAMS)[4:], SHOWN, grid.T, strict=True):
        fakes = runs[name][0][1][0](mg.random.normal((256, 2))).numpy()
        axes[0].plot(*batches[0].T, "o", ms=4, mew=0, color=DATA, alpha=0.35)
        axes[0].plot(*fakes.T, "o", ms=5, mew=0, color=GENERATOR)
        axes[0].set(title=name, xlim=(-3, 5), ylim=(-4.5, 8), xticks=[], yticks=[])
        for which, colour in (("mended", GREEN), (name, PINK)):
            curves = np.transpose([rows[:, KL] for rows, _ in runs[which]])
            axes[1].semilogy(curves, color=colour, lw=0.8, alpha=0.7)
            axes[2].plot(runs[which][0][0][:, column], color=colour, lw=1.2)
        axes[1].set(ylim=(1e-3, 100), xticklabels=[])
        axes[2].set(xlabel="step", title=printed)
    grid[1, 0].set_ylabel("KL (nats), all seeds")
    grid[0, 0].text(-1.7, 1, "all fakes", color=GENERATOR, ha="center")
    grid[1, 0].text(600, 40, "with the mistake", color=PINK, ha="right")
    grid[1, 0].text(30, 0.003, "mended", color=GREEN)

# %% [markdown]
# Mended: KL 0.010 ± 0.002 (mean and standard error of ten seeds). A Gaussian fitted to one batch of
# *real* points has 0.014; a generator that never trains, as in 000 with its fakes outside the tape,
# keeps 6.0. With rates that fall, simultaneous steps are about as good: 0.013 ± 0.002.
# With constant rates, as in the tutorials, they have 0.100 ± 0.029, alternating ones 0.025 ± 0.004.
#
# ## Three that print good numbers
#
# **001**: both players descend $L_D + L_G$. For a fake with logit $s$, G minimizes
# $\mathrm{softplus}(-s) + \mathrm{softplus}(s)$, with derivative $2\sigma(s) - 1$: it seeks
# $D = 1/2$. D minimizes $-\log D$ on data and $-\log D - \log(1-D)$ on fakes, and so $D^* = (p+q) /
# (p+2q)$, $s^* = \log(1 + p/q)$. **Where is $D^* = 1/2$? So what will D say about the fakes?**
#
# **004**: D returns $u = \sigma(s)$, and its loss takes $u$ for a logit. (So does 000, but Keras
# 3.15 finds the sigmoid and takes the logit.) A fake gives G the gradient $-(1-\sigma(u))\,u(1-u)$
# and not $-(1-u)$. D's loss is at least $\mathrm{softplus}(-1) + \mathrm{softplus}(0) = 1.006$; at
# $q = p$ its best is $2\log 2 = 1.386$, as it should be, but for which $u$? **So what is D(real)?**
#
# **002**: D's loss adds a probability to a logit. (G's does not contain D; ours is right.) Its test
# loop (4.4) runs G's *training* op, with D frozen: here, 100 steps. **Does G get better?**

# %%
fooled = np.max(abs(late["001 with retain_graph"][:, D_FAKE] - 0.5))
lesson.expect("001 with retain_graph: mean D(fake), distance to 0.5", fooled, at_most=0.02)
largest = np.max(late["004, two sigmoids"][:, D_REAL])
lesson.expect("004: mean D(real), largest of the seeds", largest, at_most=0.1)
s = mg.tensor([0.0, -3.0, -6.0], requires_grad=True)
right, wrong = (mg.grad(p["loss_g"](s), [s])[0].numpy() for p in (BENCH, TWICE))
for x, factor in zip((0, -3, -6), wrong / right, strict=True):
    lesson.record(f"004: G's gradient at logit {x}, share of the right one", factor)
TEST = {"rates": (0.015, 0.0), "decay": False, "start": (1, 1)}
tested = [train(TEST, 0, 100, nets)[0][-1, KL] for _, nets in runs["mended, constant rates"]]
lesson.record("KL, mended, constant rates, after 002's test loop", tested)

# %% [markdown]
# **001**: only where $p/q \to 0$: off the data, or where all fakes shrink to a point ($q \to
# \infty$). G does both (KL 20.1 ± 0.7). Yet mean D(fake) is 0.50, and 001's "accuracy" (5.2), the
# share of batches above 0.5, is 67 % (mended: 29 %). It does not print mean D(real): it is 0.999,
# not 0.5. The wrong *sign* (4.2) trains G to be detected: KL 20.8 ± 0.8, and both losses near 0.
#
# **004**: at $u = 0$, so $s \to -\infty$. D's loss is a perfect 1.386, mean D(real) 0.019. At logit
# 0 G keeps 19 % of its gradient, at -6 (clearly bad fakes) 0.12 %. Adam hides most of that, as it
# divides a gradient by its size: KL 0.046 ± 0.025. Most seeds end well, and a few do not.
#
# **002**: the loss falls without end (-400 here; a cross-entropy is never negative), KL 3.7 ± 0.5.
# The test takes the mended program from 0.025 to 19 ± 6: G moves to where the frozen D is largest.
#
# ## Images: a D of rows, and the wrong range
#
# A dense layer acts on the *last* axis: 002's D judges each row of a 28 x 28 image alone, and gives
# 28 answers. 000 and 001 compare data in [0, 1] with a tanh in [-1, 1]. Here are both, on digits
# of 14 x 14. **What does a D of rows say about digits whose rows are in reverse order?**

# %%
pixels = mg.data.load("glyphs", samples=6000).values.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
DIGITS, HELD = mg.tensor(pixels[:5000].reshape(-1, 196)), pixels[5000:].reshape(-1, 196)
samples, diversity, ROWS = {"real digits": HELD}, {}, HELD.reshape(-1, 14)


def image_nets(n=196):
    G = nn.Sequential(nn.Dense(10, 200), nn.ReLU(), nn.Dense(200, 196), nn.Tanh())
    D = [nn.Reshape(14, 14)] * (n == 14) + [nn.Dense(n, 200), nn.ReLU(), nn.Dense(200, 1)]
    return G, nn.Sequential(*D)


def train_images(name, changes, scale=1):  # returns D of seed 0
    p = IMAGES | changes
    done = [train(p, seed, 200 if lesson.fast else 1500) for seed in SEEDS[:5]]
    sets = [G(p["latent"]((1000, 10))).numpy() * scale - (scale - 1) for _, (G, _) in done]
    samples[name] = sets[0]
    diversity[name] = [np.sqrt(x.var(axis=0).sum() / HELD.var(axis=0).sum()) for x in sets]
    lesson.record(f"D's loss, {name}", [rows[-100:, LOSS_D].mean() for rows, _ in done])
    lesson.record(f"distance of images, {name}", [distance(x, HELD) for x in sets])
    lesson.record(f"distance of rows, {name}", [distance(x.reshape(-1, 14), ROWS) for x in sets])
    lesson.record(f"diversity, {name}", diversity[name])
    return done[0][1][1]


IMAGES = BENCH | {"nets": image_nets, "real": lambda i: DIGITS[i % 78 * 64 :][:64]}
IMAGES |= {"size": (64, 10), "rates": (2e-3, 2e-3), "betas": (0.0, 0.99), "start": (1, 1)}
lesson.record("distance of images, real digits", distance(pixels[:1000].reshape(-1, 196), HELD))
train_images("digits, mended", {})
train_images("data in [0, 1]", {"real": lambda i: (IMAGES["real"](i) + 1) / 2}, scale=2)
D = train_images("D of rows", {"nets": lambda: image_nets(14)})
reversed_rows = np.flip(pixels[5000:], axis=1).reshape(-1, 196)
up, down = (float(D(mg.tensor(x)).mean()) for x in (HELD, reversed_rows))
lesson.expect("D of rows: change with the rows reversed", abs(up - down), at_most=1e-5)

# %% [markdown]
# The same. In sliced Wasserstein distance (06), G gets rows right (0.024 ± 0.001; mended 0.037 ±
# 0.002) and images wrong: 0.397 ± 0.014, against 0.059 ± 0.002 (real digits: 0.023). D's loss is a
# perfect 1.385. The range does little harm: negative pixels betray a fake, and D wins more (loss
# 0.80, not 1.13), but the distance is 0.062 ± 0.003. What it costs is grey noise (rows: 0.052).
#
# ## Encore: a GAN that "always collapses"
#
# So says the GAN example of the library HIPS/autograd, and asks for help. Its D is high on fakes;
# with the sign of $s$ changed it is high on data, and minimizes $\int (p - q)\log(1 - D)\,dx$, with
# $-\log(1 - D) = \mathrm{softplus}(s)$: unbounded where $p > q$ (lesson 05). G minimizes
# $E\log(1-D)$, the saturating loss. `PARTS` has five more suspects. **Mend D's loss: does the
# collapse end?** Then mend more, one by one; and put each part alone into the mended program:
# **which loss does harm?** (*Diversity*: the standard deviation of fakes over that of digits.)

# %%
PARTS = {"D's loss": {"loss_d": lambda r, f: softplus(f).mean() - softplus(r).mean()}}
PARTS |= {"momentum": {"betas": (0.9, 0.999)}, "rates": {"rates": (0.01, 0.01), "decay": False}}
PARTS |= {"latents": {"latent": mg.random.uniform}, "first weights": {"start": (0.02, 0.02)}}
PARTS |= {"simultaneous steps": {"order": "simultaneous"}}
PARTS |= {"G's loss": {"loss_g": mg.losses.Minimax().generator}}
STAGES = "as is", "D's loss mended", "momentum too", "rates too", "latents too", "weights too"
RUNS = {f"autograd's, {stage}": list(PARTS)[i:] for i, stage in enumerate(STAGES)}
RUNS |= {f"only autograd's {name}": [name] for name in PARTS}
RUNS["only autograd's losses"] = ["D's loss", "G's loss"]
for name, parts in RUNS.items():
    train_images(name, {key: value for part in parts for key, value in PARTS[part].items()})
for name, bound in (("autograd's, D's loss mended", 0.2), ("only autograd's D's loss", 0.6)):
    lesson.expect(f"{name}: largest diversity", np.max(diversity[name]), at_most=bound)

# %% Figure
SHEETS = ["real digits", "digits, mended", "data in [0, 1]", "D of rows", *list(RUNS)[:6]]
with lesson.figure(13, 5.6, "images") as figure:
    for name, axes in zip(SHEETS, figure.subplots(2, 5).flat, strict=True):
        axes.imshow(tile(samples[name][:36].reshape(-1, 1, 14, 14), 6), "gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=11)
        axes.set_axis_off()
lesson.finish()

# %% [markdown]
# No. Diversity is 0.006 ± 0.006 as it is, 0.04 ± 0.02 with D's loss mended, 0.10 ± 0.01 with the
# momentum too, 0.09 ± 0.01 with the rates too. Normal latents end the collapse, 1.01 ± 0.03, at a
# distance of 0.23 ± 0.05; with larger first weights it is 0.072 ± 0.002. The rest may stay. Alone,
# D's loss (diversity 0.39, distance 0.41) and momentum (0.21, 0.30) do the most harm. With D's loss
# all logits grow: D calls fakes real, where $-\log D$ has no slope. G's saturating loss has one: it
# does no harm alone (0.96, 0.06), and *both* losses do less harm than D's alone (0.86, 0.15).
#
# ## What to measure
#
# | you see | measure | cause |
# | --- | --- | --- |
# | G's samples never change | the norm of G's gradient | fakes outside the graph |
# | D(fake) = 0.5, bad samples | D(real) beside it | gradients of both losses summed |
# | both losses near 0 | does a step of G raise D(fake)? | wrong sign of G's loss |
# | D's loss 1.386, D(real) near 0 | the range of what enters the loss | probabilities for logits |
# | a negative loss that falls | its minimum, on paper | it is no cross-entropy |
# | D's loss 1.386, scrambled samples | the shape of D's output: (n, 1)? | D judges parts |
# | noise where data are constant | min and max of data and of fakes | ranges differ |
# | one sample for all latents | diversity; mend more and more | here, four mistakes together |
#
# ## Exercises
#
# 1. Write 000's order: fakes, G's step, D's step on these fakes. Does it differ from simultaneous?
#    <details><summary>Answer</summary> Not by a bit: D's gradient used the old G's fakes, and G's
#    the old D. What counts is which weights a gradient saw, not the order of the lines.</details>
# 2. Repair one half of 001: sum the losses for D only, or for G only. Which half was fatal?
#    <details><summary>Answer</summary> G's. With D alone on the sum, D says 2/3 everywhere and the
#    KL is 0.02: $D^*$ still grows with p/q. With G alone on it, the KL stays at 0.87.</details>
# 3. 000 and 001 (4.1) write $\min_G \max_D L_G + L_D$: D counts fakes twice. What will it say?
#    <details><summary>Answer</summary> $p/(p+2q)$: 1/3. The KL is as small, 0.007.</details>
#
# Next: 08, how GANs die.

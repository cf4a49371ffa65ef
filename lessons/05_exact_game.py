# %% [markdown]
# # 05 The game, solved exactly
#
# 最优判别器为什么是 p/(p+q)？判别器太强会出什么问题？本课精确求解这个博弈，
# 并检验教程 000 和 001 的目标 min_G max_D (L_G + L_D)：它把生成样本那一项算了两遍。
#
# Training prints two losses and the outputs of D: which values are good? For two known densities
# the best D, the value of the game and G's gradient are known exactly. The tutorials (README.md):
# 000 (4.1, 4.2) and 001 (4.1) train with $\min_G \max_D L_G + L_D$; 001 (3.1) says that D ends at
# 1/2; 004 (2.2) says that a D that is too strong gives G no gradient. Which of this is true?
# Needs: 00 (the two players, the sigmoid, the two losses).

# %%
import math

import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.utils.figures import DATA, DISCRIMINATOR, GENERATOR, GREEN, GREY, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("05_exact_game", "The game, solved exactly")

# %% [markdown]
# ## The best discriminator, one point at a time
#
# Real samples have the density $p$, generated ones the density $q$. D(x) is the probability with
# which the discriminator believes that x is real. Both players fight over one number, the value
#
# $$V(D, G) = \mathbb{E}_{x \sim p} \log D(x) + \mathbb{E}_{x \sim q} \log (1 - D(x))$$
#
# an average over real samples and one over generated samples. Each is a score for the answers of D:
# 0 for an answer that is certain and right, $-\infty$ for one that is certain and wrong. D makes V
# as large as it can, G as small as it can. Always answering 1/2 gives $2 \log \tfrac12 = -1.386$.
#
# As integrals, the averages are $V = \int [\,p(x) \log D(x) + q(x) \log (1 - D(x))\,]\, dx$. D may
# take any value at any x, so each x is a problem of its own: with $a = p(x)$, $b = q(x)$ and
# $y = D(x)$, maximize $a \log y + b \log (1 - y)$. The derivative is zero where
#
# $$\frac{a}{y} - \frac{b}{1 - y} = 0, \qquad \text{that is}, \qquad
#   D^*(x) = \frac{p(x)}{p(x) + q(x)}$$
#
# (a maximum: the second derivative is negative). The best D is the share of real samples among all
# samples at x: 3/4 where real samples are three times as dense as fakes.
#
# Now forget the formula and *train* a discriminator: a table with one logit s for each of 1401
# points x, D = sigmoid(s). It starts at D = 1/2 and increases V by gradient ascent. (With
# softplus(s) = log(1 + e^s), log D = -softplus(-s) and log(1 - D) = -softplus(s).) Will it find D*?


# %%
def normal(x, mean, sd):
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


x, dx = np.linspace(-7, 7, 1401, retstep=True)
p = 0.5 * normal(x, -1.5, 0.6) + 0.5 * normal(x, 1.5, 0.6)
q = normal(x, 0.8, 1.3)


def best_d(a, b, steps=400, rate=0.5):
    """Return the D that maximizes the integral of a log D + b log(1 - D), by gradient ascent."""
    a, b, s = mg.tensor(a), mg.tensor(b), mg.tensor(0 * x, requires_grad=True)
    # Adam (06) divides a gradient by its size + eps: with a tiny eps, D learns where p, q are tiny.
    optimizer = mg.optim.Adam([s], betas=(0.9, 0.99), eps=1e-30)
    for i in range(steps):
        optimizer.lr = rate * (1 - i / steps)
        loss = a * ops.softplus(-s) + b * ops.softplus(s)
        optimizer.step(mg.grad(loss.sum(), [s]))
    return ops.sigmoid(s).numpy()


D = best_d(p, q)
gap = abs(D - p / (p + q)).max()
lesson.expect("D trained on a grid: largest |D - p/(p+q)|", gap, at_most=1e-3)

# %% Figure
with lesson.figure(7.5, 3.8, "pointwise") as figure:
    axes, y = figure.add_subplot(), np.linspace(0.001, 0.999, 999)
    for place, colour, up in ((-1.5, GREEN, 0.04), (2.18, "black", -0.17), (0.3, PINK, 0.04)):
        a, b = (np.interp(place, x, density) for density in (p, q))
        curve, label = a * np.log(y) + b * np.log(1 - y), f"p = {a:.2f}, q = {b:.2f}"
        axes.plot(y, curve, color=colour)
        axes.plot(a / (a + b), curve.max(), "o", color=DISCRIMINATOR, ms=9)
        axes.text(a / (a + b), curve.max() + up, label, color=colour, ha="center")
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.8, 0), xlabel="y, the answer of D at x")
    axes.set_title("$p\\,\\log y + q\\,\\log(1 - y)$ at three points x, and D* = p/(p + q)")

# %% [markdown]
# ## What the best discriminator measures
#
# Put D* into V. With the mean of both densities, $m = (p + q)/2$, it is $D^* = p / (2m)$, so
#
# $$V(D^*, G) = \mathbb{E}_p \log \frac{p}{2m} + \mathbb{E}_q \log \frac{q}{2m}
#   = \mathrm{KL}(p \| m) + \mathrm{KL}(q \| m) - 2 \log 2
#   = 2\, \mathrm{JS}(p, q) - 2 \log 2$$
#
# $\mathrm{KL}(p \| m) = \mathbb{E}_p \log (p/m)$ is the Kullback-Leibler divergence; the
# Jensen-Shannon divergence JS is half the sum of the two. JS is 0 if p = q, and positive otherwise.
# So a generator that minimizes V against the best D minimizes a divergence from the data. At its
# minimum, p = q, D is 1/2 everywhere and V = -1.386: 001 (3.1) is right. Check with the trained D:


# %%
def js_divergence(x, p, q):
    """Return JS(p, q) in nats, integrated over the grid x."""
    m = (p + q) / 2
    return 0.5 * np.sum(p * np.log(p / m) + q * np.log(q / m)) * (x[1] - x[0])


value = np.sum(p * np.log(D) + q * np.log(1 - D)) * dx
gap = value - (2 * js_divergence(x, p, q) - 2 * math.log(2))
lesson.expect("V of the trained D - (2 JS - 2 log 2)", gap, at_least=-1e-6, at_most=1e-6)

# %% [markdown]
# ## Other objectives, other answers
#
# 000 and 001 define $L_G = \mathbb{E}_q \log(1 - D)$, $L_D = V$, and train with $\min_G \max_D L_G
# + L_D$, which contains the fake term twice: b = 2q. Two more objectives come from code. 001 calls
# `loss_G.backward()` and `loss_D.backward()` on one graph; with `retain_graph=True`, the usual
# repair, D gets both gradients and maximizes $V + \mathbb{E}_q \log D$: a = p + q, b = q. In the
# GAN example of the library autograd, D is to be high on fakes and minimizes $\mathbb{E}_p \log D -
# \mathbb{E}_q \log D$: a = q - p, b = 0. What is each best D where p = q? Does the last one exist?

# %%
answers = {"V": D, "fake twice": best_d(p, 2 * q), "retain_graph": best_d(p + q, q)}
answers["autograd"] = best_d(q - p, 0 * q)
equal = np.argmin(abs(p / q - 1) + 9 * (x < 2))  # p = q at this place
twice = answers["fake twice"][equal]
lesson.expect("fake twice: D where p = q", twice, at_least=0.332, at_most=0.335)
lesson.record("retain_graph: D where p = q", answers["retain_graph"][equal])
for steps in (100, 200, 400):
    lesson.record(f"autograd: lowest D, {steps} steps", best_d(q - p, 0 * q, steps).min())

# %% Figure
with lesson.figure(11, 4.6) as figure:
    axes = figure.add_subplot()
    axes.fill_between(x, p, color=DATA, alpha=0.22, lw=0)
    axes.fill_between(x, q, color=GENERATOR, alpha=0.22, lw=0)
    for D, colour in zip(answers.values(), (DISCRIMINATOR, PINK, GREEN, GREY), strict=True):
        axes.plot(x, D, color=colour, lw=3.5 if colour == DISCRIMINATOR else 2)
        axes.plot(x[equal], D[equal], "o", color=colour, ms=8 * (colour != GREY))
    axes.text(2.75, 0.36, "$V$: 1/2 where p = q", color=DISCRIMINATOR)
    axes.text(-2.12, 0.6, "fake term twice: 1/3", color=PINK, ha="center")
    axes.text(2.3, 0.66, "retain_graph: 2/3", color=GREEN)
    axes.text(2.3, 0.87, "autograd: high on fakes,\nand no best D", color="#777777")
    axes.text(-1.5, 0.1, "real, p", color=DATA, ha="center")
    axes.text(-0.28, 0.03, "fake, q", color=GENERATOR, ha="center")
    axes.axvline(x[equal], color="black", lw=1, ls=":")
    axes.set(xlim=(-4, 4), ylim=(0, 1.05), xlabel="x", title="The best D(x) of four objectives")

# %% [markdown]
# 1/3, and 2/3. The last D falls without end where p > q: lower is always better there. Does a GAN
# with D = p/(p + 2q) still learn? Its logit is $\log(p/q) - \log 2$, right except for a constant.
# And with retain_graph, where G minimizes $-\log D - \log(1 - D)$? Predict, then train: data
# N(1, 0.5²), G(z) = wz + c starts as N(-2, 1), G's loss is -log D. KL(q || p) is 18.8 at first.

# %%
SEEDS, STEPS = (range(2), 600) if lesson.fast else (range(5), 2000)


def train(seed, fake_terms, both):
    """Return KL and D(fake), means of the last 100 steps."""
    mg.manual_seed(seed)
    G = nn.Dense(1, 1)
    D = nn.Sequential(nn.Dense(1, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh(), nn.Dense(32, 1))
    G.load_state_dict({"weight": np.float32([[1]]), "bias": np.float32([-2])})
    optimizer_g, optimizer_d = (mg.optim.Adam(n.parameters(), betas=(0.5, 0.99)) for n in (G, D))

    @mg.capture
    def step():
        real = 1.0 + 0.5 * mg.random.normal((128, 1), stream="data")
        fake = G(mg.random.normal((128, 1)))
        s, r = D(fake.detach()), D(real)
        loss = ops.softplus(-r) + fake_terms * ops.softplus(s) + both * ops.softplus(-s)
        optimizer_d.step(mg.grad(loss.mean(), D.parameters()))
        s = D(fake)
        loss = ops.softplus(-s) + both * ops.softplus(s)
        optimizer_g.step(mg.grad(loss.mean(), G.parameters()))
        return ops.sigmoid(s).mean()

    rows = []
    for i in range(STEPS):
        optimizer_g.lr, optimizer_d.lr = 0.01 * (1 - i / STEPS), 0.02 * (1 - i / STEPS)
        output, sd, mean = step(), abs(G.weight.item()), G.bias.item()
        kl = math.log(0.5 / sd) + (sd**2 + (mean - 1) ** 2) / 0.5 - 0.5
        rows.append((kl, output.item()))
    return np.mean(rows[-100:], axis=0)


kl = {}
for name, terms in {"V": (1, 0), "fake twice": (2, 0), "retain_graph": (1, 1)}.items():
    kl[name], outputs = zip(*(train(seed, *terms) for seed in SEEDS), strict=True)
    lesson.record(f"{name}: KL after training", kl[name])
    lesson.record(f"{name}: D(fake) after training", outputs)
lesson.expect("fake twice: KL, worst seed", max(kl["fake twice"]), at_most=0.05)

# %% [markdown]
# It learns: KL 0.0021 ± 0.0010, and with V 0.0029 ± 0.0004 (mean ± standard error of five seeds).
# The constant changes the numbers that you read (D ends at 1/3, its loss at $\log 3 + 2 \log
# \tfrac32 = 1.910$), not the direction in which G is sent. retain_graph changes the direction: G's
# loss is lowest at D = 1/2, and D is 1/2 only where p = 0: G runs away, to KL 28.5 ± 0.2 (07).
#
# ## The ceiling
#
# Move q away from p until they hardly overlap. D becomes certain and right, V rises to 0, and JS to
# its ceiling, log 2 = 0.693147. Take N(0, 1) and N(d, 1). Before you run it: how far below the
# ceiling is JS at d = 8? And how much does it fall from d = 16 to 8, half of the way to the data?

# %%
wide, distances = np.linspace(-14, 26, 8001), np.linspace(0, 16, 81)
curve = [js_divergence(wide, normal(wide, 0, 1), normal(wide, d, 1)) for d in distances]
lesson.expect("d = 8: log 2 - JS", math.log(2) - curve[40], at_least=9.3e-5, at_most=9.4e-5)
lesson.record("JS at d = 16 - JS at d = 8", curve[80] - curve[40])

# %% [markdown]
# Both are 0.00009; 0.69305 remain. At distance 8, JS says that G is wrong, but not where to go.
#
# ## Why -log D
#
# In V, G minimizes $\log (1 - D)$; most programs minimize $-\log D$ instead. Both fall when D(fake)
# rises. Their derivatives with respect to the logit s of a fake, where D = sigmoid(s), are
#
# $$\frac{d}{ds} \log (1 - D) = -D, \qquad \frac{d}{ds} \big(-\log D\big) = -(1 - D)$$
#
# The first vanishes ("saturates") where D is certain that the sample is fake: where G is bad, it
# learns least. Predict both for D(fake) = 0.001. Then let G(z) = z + theta start at theta = 8, with
# the data N(0, 1). In each step it faces the best D, with the logit $\log p(x) - \log q(x) =
# \theta^2/2 - \theta x$, and descends with rate 0.1. D is as good as it can be: is that good for G?

# %%
s = mg.tensor([math.log(0.001 / 0.999)], dtype="float64", requires_grad=True)
losses = (mg.losses.Minimax(), mg.losses.NonSaturating())
slopes = [float(mg.grad(loss.generator(s), [s])[0]) for loss in losses]
lesson.record("D(fake) = 0.001: derivative of log(1 - D)", slopes[0])
lesson.record("D(fake) = 0.001: derivative of -log D", slopes[1])
lesson.expect("their ratio", slopes[1] / slopes[0], at_least=998.5, at_most=999.4)

z, weights = mg.tensor(x), mg.tensor(normal(x, 0, 1) * dx)  # the mean over z, without sampling


def descend(loss, steps=200, optimizer_class=mg.optim.SGD):
    theta = mg.tensor(8.0, dtype="float64", requires_grad=True)
    optimizer, path = optimizer_class([theta], lr=0.1), [8.0]
    for _ in range(steps):
        t = theta.detach()  # D stays what it is while G takes its step
        s = t * t * 0.5 - t * (z + theta)
        optimizer.step(mg.grad((weights * loss(s)).sum(), [theta]))
        path.append(theta.item())
    return path


stuck, arriving = descend(lambda s: -ops.softplus(s)), descend(lambda s: ops.softplus(-s))
lesson.expect("log(1 - D): theta after 200 steps", stuck[-1], at_least=7.9, at_most=8)
lesson.record("-log D: theta after 200 steps", arriving[-1])

# %% Figure
with lesson.figure(13, 4, "gradients") as figure:
    ceiling, slope, path = figure.subplots(1, 3)
    ceiling.plot(distances, curve, color=DISCRIMINATOR)
    ceiling.axhline(math.log(2), color="black", lw=1, ls=":")
    ceiling.text(0.3, 0.71, "log 2")
    ceiling.set(xlim=(0, 16), ylim=(0, 0.78), xlabel="d", title="JS of N(0, 1) and N(d, 1)")
    s = np.linspace(-8, 8, 200)
    styles = (1, stuck, "log(1 - D)", PINK), (-1, arriving, "-log D", GENERATOR)
    for sign, steps, name, colour in styles:
        slope.plot(s, 1 / (1 + np.exp(-sign * s)), color=colour)
        slope.text(5 * sign, 1.03, name, color=colour, ha="center")
        path.plot(steps, color=colour)
        path.text(60, steps[30] + 0.3, name, color=colour)
    slope.axvline(math.log(0.001 / 0.999), color="black", lw=1, ls=":")
    slope.text(-6.6, 0.3, "D = 0.001:\n0.999\nagainst\n0.001")
    slope.set(
        xlim=(-8, 8), ylim=(0, 1.13), xlabel="logit of a fake", title="Size of the gradient of G"
    )
    path.set(xlim=(0, 200), ylim=(0, 9), xlabel="step", title="theta, facing the best D")

lesson.finish()

# %% [markdown]
# 004 (2.2) is right about log(1 - D), not about -log D, the loss in its code (5.1). And 4.2 blames
# sigmoids in deep layers; what saturates is the one sigmoid at the output of D.
#
# ## Exercises
#
# 1. 000 (4.2) lets D minimize $L_D$, and 001 (4.2) lets G minimize $-\log(1 - D)$. What does
#    `best_d(-p, -q)` find, and what does such a G learn?
#    <details><summary>Answer</summary>D falls to 0 where p > q and rises to 1 where q > p, without
#    end: real is called fake. And such a G learns to be recognized as fake.</details>
# 2. Use `mg.optim.Adam` in `descend`. Does theta still hardly move with log(1 - D)?
#    <details><summary>Answer</summary>No: it is 1.8 after 50 steps and below 0.001 after 200,
#    because Adam divides a gradient by its size. But within a batch nothing changes: under
#    log(1 - D), a fake with D = 0.001 has 1/500 of the weight of one with D = 0.5.</details>
# 3. At theta = d, add the derivatives of the two losses of G with respect to theta. Why is it d?
#    <details><summary>Answer</summary>$-\log D + \log(1 - D) = -s = \log q/p$, with the mean
#    KL(q || p) = d²/2 over fakes. So facing the best D, -log D descends KL(q || p) - 2 JS (Arjovsky
#    and Bottou 2017): its slope is 7.9996 at d = 8, that of log(1 - D) is 0.0004.</details>
#
# Next: 06 trains a GAN in the plane, where the best discriminator is known at every step.

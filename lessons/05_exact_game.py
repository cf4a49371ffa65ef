# %% [markdown]
# # 05 The game, solved exactly
#
# 最优判别器为什么是 p/(p+q)？判别器太强对生成器有什么影响？本课精确求解这个博弈，
# 并检验教程 000 和 001 的目标 min_G max_D (L_G + L_D)：它把生成样本那一项算了两遍。
#
# Training prints two losses and the outputs of D. Which values are good? If the distributions of
# real samples and fakes are known, you can compute the best D, what it measures, and how it moves
# G. Then you can judge the tutorials (README.md): 001 (3.1) says that D ends at 1/2; 004 (2.2) says
# that a D that is too strong gives G no gradient; 000 (4.1, 4.2) and 001 (4.1) write the game as
# $\min_G \max_D L_G + L_D$. Needs: 00 (the two players, the logit, the two losses).

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
# A *density* says where samples are frequent: with the density $p$, a real sample falls between x
# and x + dx with probability $p(x)\,dx$. Fakes have the density $q$. D(x) is D's estimate of the
# probability that x is real. The players fight over one number, the *value*
# $$V(D, G) = \mathbb{E}_{x \sim p} \log D(x) + \mathbb{E}_{x \sim q} \log (1 - D(x))$$
# $\mathbb{E}_{x \sim p}$ is the mean over samples with density p; log is the natural logarithm.
# In both, a sample counts 0 if D is certain and right, $-\infty$ if certain and wrong. D maximizes
# V, G minimizes it. (-V is D's loss in 00.) If D always answers 1/2, $V = -2 \log 2 = -1.386$.
#
# As an integral, $V = \int [\,p(x) \log D(x) + q(x) \log (1 - D(x))\,]\, dx$. D may take any value
# at any x, so each x is a problem of its own: with $a = p(x)$, $b = q(x)$ and $y = D(x)$, maximize
# $a \log y + b \log (1 - y)$. It is largest where the derivative is zero:
# $$\frac{a}{y} - \frac{b}{1 - y} = 0 \;\Rightarrow\; D^* = \frac{a}{a + b} = \frac{p}{p + q}$$
# The best D is the share of real samples among all samples at x: 3/4 where they are three times as
# dense as fakes.
#
# Now forget the formula and *train* a D: a table with one logit s for each of 1401 points x. As
# D = sigmoid(s) = $1 / (1 + e^{-s})$, -log(1 - D) is $\log(1 + e^s)$ = softplus(s), and -log D is
# softplus(-s). D minimizes -V with Adam: gradient descent that divides each gradient by its usual
# size, so D also learns where p and q are tiny. Will it come close to D* everywhere?


# %%
def normal(x, mean, sd):
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


x, dx = np.linspace(-7, 7, 1401, retstep=True)
p = 0.5 * normal(x, -1.5, 0.6) + 0.5 * normal(x, 1.5, 0.6)
q = normal(x, 0.8, 1.3)


def best_d(a, b, steps=400, rate=0.5):
    """Return the D that maximizes the integral of a log D + b log(1 - D)."""
    a, b, s = mg.tensor(a), mg.tensor(b), mg.tensor(0 * x, requires_grad=True)
    optimizer = mg.optim.Adam([s], betas=(0.9, 0.99), eps=1e-30)  # eps is added to that size
    for i in range(steps):
        optimizer.lr = rate * (1 - i / steps)
        loss = a * ops.softplus(-s) + b * ops.softplus(s)
        optimizer.step(mg.grad(loss.sum(), [s]))
    return ops.sigmoid(s).numpy()


D = best_d(p, q)
gap = abs(D - p / (p + q)).max()
lesson.expect("D trained on a grid: largest |D - p/(p+q)|", gap, at_most=1e-3)

# %% Figure
with lesson.figure(13, 4.4) as figure:
    (point, line), y = figure.subplots(1, 2), np.linspace(0.001, 0.999, 999)
    for i, colour, up in ((550, GREEN, 0.04), (918, "black", -0.16), (730, "#777777", 0.04)):
        curve = p[i] * np.log(y) + q[i] * np.log(1 - y)
        point.plot(y, curve, color=colour)
        point.plot(D[i], curve.max(), "o", color=DISCRIMINATOR, ms=9, zorder=3)
        point.text(D[i], curve.max() + up, f"x = {x[i]:.2f}", color=colour, ha="center")
        line.axvline(x[i], color=colour, ls=":")
    point.set(ylim=(-0.8, 0), xlabel="y, D's answer", title="Three x: p log y + q log(1 - y)")
    for density, colour, place, name in ((p, DATA, -2.6, "real, p"), (q, GENERATOR, 1, "fake, q")):
        line.fill_between(x, density, color=colour, alpha=0.22, lw=0)
        line.text(place, 0.05, name, color=colour)
    line.plot(x, D, "-o", color=DISCRIMINATOR, lw=3, ms=9, markevery=[550, 730, 918])
    line.set(xlim=(-4, 4), ylim=(0, 1.05), xlabel="x", title="All x: the trained D(x)")

# %% [markdown]
# Yes: within 0.0003. Left, each dot is the best answer at one x; right, the same dots on D's curve.
#
# ## What the best discriminator measures
#
# Put D* into V. With the average of the two densities, $m = (p + q)/2$, it is $D^* = p / (2m)$, so
# $$V(D^*, G) = \mathbb{E}_p \log \frac{p}{2m} + \mathbb{E}_q \log \frac{q}{2m}
#   = \mathrm{KL}(p \| m) + \mathrm{KL}(q \| m) - 2 \log 2 = 2\, \mathrm{JS}(p, q) - 2 \log 2$$
# $\mathrm{KL}(p \| m) = \mathbb{E}_p \log (p/m)$ is the *Kullback-Leibler divergence*. In words:
# how many times more likely is a sample from p under p than under m? KL is the mean logarithm of
# this factor. With the natural logarithm, its unit is the *nat*. The *Jensen-Shannon divergence* JS
# is the mean of the two KL: 0 if p = q, otherwise positive. So a generator that minimizes V against
# the best D minimizes a divergence from the data. At its minimum, p = q, D is 1/2 everywhere and
# V = -1.386: here 001 (3.1) is right. How close to 2 JS - 2 log 2 will V of the trained D come?


# %%
def js_divergence(x, p, q):
    """Return JS(p, q) in nats, integrated over the grid x."""
    m = (p + q) / 2
    return 0.5 * np.sum(p * np.log(p / m) + q * np.log(q / m)) * (x[1] - x[0])


value = np.sum(p * np.log(D) + q * np.log(1 - D)) * dx
gap = value - (2 * js_divergence(x, p, q) - 2 * math.log(2))
lesson.expect("V of the trained D - (2 JS - 2 log 2)", gap, at_least=-1e-6, at_most=1e-6)

# %% [markdown]
# ## The ceiling of JS
#
# $N(\mu, s^2)$ is the normal distribution with mean $\mu$ and standard deviation s. Data: N(0, 1),
# fakes: N(d, 1). The larger d, the less they overlap, and the more often D is certain and right:
# V rises to 0, and JS to its ceiling, log 2 = 0.693147. Before you run it: how far below the
# ceiling is JS at d = 8? How much does JS fall if the fakes move from d = 16 to d = 8, half way?

# %%
wide, distances = np.linspace(-14, 26, 8001), np.linspace(0, 16, 81)
curve = [js_divergence(wide, normal(wide, 0, 1), normal(wide, d, 1)) for d in distances]
lesson.expect("d = 8: log 2 - JS", math.log(2) - curve[40], at_least=9.3e-5, at_most=9.4e-5)
lesson.record("JS at d = 16 - JS at d = 8", curve[80] - curve[40])

# %% [markdown]
# At d = 8, JS is still 0.69305, only 0.00009 below its ceiling, and half of the way from d = 16 to
# the data has lowered it by no more. That far away, JS says that G is wrong, but not where to go.
#
# ## Why -log D
#
# In V, G minimizes $\log (1 - D)$. Most programs minimize $-\log D$ instead. Both fall when D(fake)
# rises. Their derivatives with respect to the logit s of a fake are
# $$\frac{d}{ds} \log (1 - D) = -D, \qquad \frac{d}{ds} \big(-\log D\big) = -(1 - D)$$
# The first vanishes ("saturates") where D is certain that the sample is fake: where G is bad, it
# learns least. Predict both for D(fake) = 0.001. Then let G(z) = z + theta start at theta = 8, with
# z and the data from N(0, 1). In each step G faces the best D for its theta, with the logit
# $\log p(x) - \log q(x) = \theta^2/2 - \theta x$, and descends with rate 0.1. D is as good as it
# can be: is that good for G? Predict where theta ends with each loss.


# %%
def descend(loss, steps=200, optimizer_class=mg.optim.SGD):
    z, weights = mg.tensor(x), mg.tensor(normal(x, 0, 1) * dx)  # a mean over z without sampling
    theta = mg.tensor(8.0, dtype="float64", requires_grad=True)
    optimizer, path = optimizer_class([theta], lr=0.1), [8.0]
    for _ in range(steps):
        t = theta.detach()  # D stays what it is while G takes its step
        s = t * t * 0.5 - t * (z + theta)
        optimizer.step(mg.grad((weights * loss(s)).sum(), [theta]))
        path.append(theta.item())
    return path


s = mg.tensor([math.log(0.001 / 0.999)], dtype="float64", requires_grad=True)
losses = (mg.losses.Minimax(), mg.losses.NonSaturating())
slopes = [float(mg.grad(loss.generator(s), [s])[0]) for loss in losses]
lesson.record("D(fake) = 0.001: derivative of log(1 - D)", slopes[0])
lesson.record("D(fake) = 0.001: derivative of -log D", slopes[1])
lesson.expect("their ratio", slopes[1] / slopes[0], at_least=998.5, at_most=999.4)

stuck, arriving = descend(lambda s: -ops.softplus(s)), descend(lambda s: ops.softplus(-s))
lesson.expect("log(1 - D): theta after 200 steps", stuck[-1], at_least=7.9, at_most=8)
lesson.record("-log D: theta after 200 steps", arriving[-1])

# %% Figure
with lesson.figure(13, 4, "gradients") as figure:
    (ceiling, slope, path), s = figure.subplots(1, 3), np.linspace(-8, 8, 200)
    ceiling.plot(distances, curve, color=DISCRIMINATOR)
    ceiling.axhline(math.log(2), color="black", lw=1, ls=":")
    ceiling.text(0.3, 0.71, "log 2")
    ceiling.set(xlim=(0, 16), ylim=(0, 0.78), xlabel="d", title="JS of N(0, 1) and N(d, 1)")
    styles = (1, stuck, "log(1 - D)", PINK), (-1, arriving, "-log D", GENERATOR)
    for sign, steps, name, colour in styles:
        slope.plot(s, 1 / (1 + np.exp(-sign * s)), color=colour)
        slope.text(5 * sign, 0.88, name, color=colour, ha="center")
        path.plot(steps, color=colour)
        path.text(60, steps[30] + 0.3, name, color=colour)
    slope.axvline(math.log(0.001 / 0.999), color="black", lw=1, ls=":")
    slope.set(xlabel="logit s of a fake (dotted: D = 0.001)", title="Size of the derivative by s")
    path.set(xlim=(0, 200), ylim=(0, 9), xlabel="step", title="theta, facing the best D")

# %% [markdown]
# With log(1 - D), the best D is bad for G: after 200 steps theta is 7.992, and G has hardly moved.
# With -log D it is good for G: theta is 0.0001, and the fakes lie on the data. Whether D is "too
# good" depends on the loss of G.
#
# So 004 (2.2) is right about log(1 - D), which leaves G no slope, but not about -log D, the loss in
# its code (5.1): its slope is 8.0 at theta = 8. (A net D that is too strong does harm with -log D
# too, but not because the gradient vanishes: 08, exercise 3.) 004 (4.2) blames activations such as
# the sigmoid inside a deep net; what saturates here is the sigmoid at the output of D.
#
# ## Other people's objectives
#
# Three objectives that people use differ from V: each has another a and b, and D maximizes
# $\int [a \log D + b \log(1 - D)]\, dx$. So D* = a/(a + b). What is it for each where p = q?
#
# - *Fake term twice:* 000 and 001 define $L_G = \mathbb{E}_q \log(1 - D)$ and $L_D = V$. Their
#   $L_G + L_D$ contains the fake term twice: a = p, b = 2q, D* = p/(p + 2q).
# - *retain_graph=True*, an option of PyTorch's `backward()`, makes 001's program run: two backward
#   passes through one graph. But then each player also gets the gradient of the other's loss, so D
#   maximizes $V + \mathbb{E}_q \log D$: a = p + q, b = q, D* = (p + q)/(p + 2q).
# - *autograd:* In the GAN example of the library HIPS/autograd, D should be high on fakes: it
#   minimizes $\mathbb{E}_p \log D - \mathbb{E}_q \log D$: a = q - p, b = 0. Is there a D*?

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
with lesson.figure(11, 4.4, "objectives") as figure:
    axes, colours = figure.add_subplot(), (DISCRIMINATOR, PINK, GREEN, GREY)
    places = (2.8, 0.38), (-2.6, 0.62), (2.3, 0.68), (2.3, 0.93)
    for (name, best), colour, place in zip(answers.items(), colours, places, strict=True):
        axes.plot(x, best, "-o", markevery=[equal], ms=8 * (colour != GREY), color=colour)
        axes.text(*place, name, color=colour)
    axes.set(xlim=(-4, 4), xlabel="x", title="The best D of four objectives (dots: where p = q)")
    axes.set_yticks((0, 1 / 3, 1 / 2, 2 / 3, 1), ("0", "1/3", "1/2", "2/3", "1"))

# %% [markdown]
# 1/3 and 2/3. The last has no best D: where p > q, lower is always better (1e-44 after 400 steps).
# Can G still learn? With the fake term twice, the logit of the best D is $\log(p/q) - \log 2$:
# right, except for a constant. G minimizes $-\log D$; with retain_graph, $-\log D - \log(1 - D)$.
# Predict for both, then train: the data are N(1, 0.5²), D is a small net, and G(z) = wz + c starts
# as N(-2, 1), with KL(q || p) = 18.8.


# %%
def train(seed, fake_terms, both):
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
    return np.mean(rows[-100:], axis=0)  # KL(q || p) and D(fake)


SEEDS, STEPS = (range(2), 600) if lesson.fast else (range(5), 2000)
kl = {}
for name, terms in {"V": (1, 0), "fake twice": (2, 0), "retain_graph": (1, 1)}.items():
    kl[name], outputs = zip(*(train(seed, *terms) for seed in SEEDS), strict=True)
    lesson.record(f"{name}: KL after training", kl[name])
    lesson.record(f"{name}: D(fake) after training", outputs)
lesson.expect("fake twice: KL, worst seed", max(kl["fake twice"]), at_most=0.05)

# %%
lesson.finish()

# %% [markdown]
# With the fake term twice it learns: KL 0.0021 ± 0.0010; with V 0.0029 ± 0.0004 (mean ± standard
# error of five seeds). The constant changes the numbers (D ends at 1/3, its loss at $\log 3 +
# 2 \log \tfrac32 = 1.910$), not where G is sent. With retain_graph, G's loss is lowest at D = 1/2.
# The best D is 1/2 only where p = 0, so G runs away, to KL 28.5 ± 0.2 (07).
#
# ## Exercises
#
# 1. 000 (4.2) lets D minimize $L_D$, and 001 (4.2) lets G minimize $-\log(1 - D)$. What does
#    `best_d(-p, -q)` find, and what does such a G learn?
#    <details><summary>Answer</summary>D falls to 0 where p > q and rises to 1 where q > p, without
#    end: real is called fake. And such a G learns to be recognized as fake.</details>
# 2. Use `mg.optim.Adam` in `descend`. Does theta still hardly move with log(1 - D)?
#    <details><summary>Answer</summary>No: it is 1.8 after 50 steps, below 0.001 after 200. Adam
#    divides a gradient by its size. But in a batch, log(1 - D) still gives a fake with D = 0.001
#    only 1/500 of the weight of one with D = 0.5.</details>
# 3. At theta = d, add up the derivatives of G's two losses with respect to theta. Why is the sum d?
#    <details><summary>Answer</summary>$-\log D + \log(1 - D) = -s = \log q/p$, with the mean
#    KL(q || p) = d²/2 over fakes. So facing the best D, -log D descends KL(q || p) - 2 JS (Arjovsky
#    and Bottou 2017): its slope is 7.9996 at d = 8, that of log(1 - D) is 0.0004.</details>
#
# Next: 06 trains a GAN in the plane, where the best discriminator is known at every step.

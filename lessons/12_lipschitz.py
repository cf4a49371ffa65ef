# %% [markdown]
# # 12 Lipschitz by spectral norm; R1 and R2
#
# 判别器的斜率要不要限制？教程 003 说谱归一化能限制参数的增长；实测参数照样增长，受限的是斜率。
#
# A discriminator that becomes better also becomes steeper. What does a bound on the slope bring,
# and what does it cost? You will look at $D(x)$ in one dimension, compute the number that spectral
# normalization divides by, then break a GAN on 25 Gaussians with two changes that do little harm
# alone, and look for the cause and for cures. Tutorial 003 (section 3.3; README.md lists the
# tutorials) says that spectral normalization limits the growth of the parameters, 004 (section 9.1)
# that a Wasserstein GAN solves mode collapse: we test both.
#
# Needs: 06, 09 (the Dirac-GAN: why R1 makes training converge), 11 (the gradient penalty).

# %%
import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.metrics import mixture_quality
from minigan.utils.figures import DATA, DISCRIMINATOR, GENERATOR, GREEN, GREY
from minigan.utils.lesson import Lesson

lesson = Lesson("12_lipschitz", "Lipschitz by spectral norm; R1 and R2")
rng = np.random.default_rng(0)

# %% [markdown]
# ## A slope without a bound
#
# Real points near 1, fakes near -1. A discriminator $D$ that tells them apart has a lower loss if
# its outputs, logits, are doubled; so the loss alone never stops them from growing. We train three
# for 1000 steps: a plain one; one with *spectral normalization*, which bounds the slope by 1 (how,
# comes below); and one with R1 (Mescheder et al. 2018), which adds to its loss
#
# $$\frac\gamma2\,\frac1n\sum_i |\nabla_x D(x_i)|^2 \quad\text{at the real points } x_i.$$
#
# (R2 is the same at the fakes.) Before you run it: the plain one has a certain largest slope after
# 100 steps. Will it be the same after 1000, or more than one and a half times as large?


# %%
def discriminator(inputs, norm=None):
    sizes = (inputs, 128), (128, 128), (128, 1)
    first, second, head = (norm(nn.Dense(*s)) if norm else nn.Dense(*s) for s in sizes)
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), head)


def slope(D, x):
    x = mg.tensor(x, "float32", requires_grad=True)
    return np.linalg.norm(mg.grad(D.eval()(x).sum(), [x])[0].numpy(), axis=1)


GAN, MOMENTS = mg.losses.NonSaturating(), (10, 30, 100, 300, 1000)
grid, nets, steepest = np.linspace(-3, 3, 601)[:, None], {}, {}
kinds = {"plain": (None, 0), "R1": (None, 1), "spectral norm": (nn.spectral_norm, 0)}
for name, (norm, gamma) in kinds.items():
    mg.manual_seed(0)
    D = nets[name] = discriminator(1, norm)
    optimizer = mg.optim.Adam(D.parameters(), lr=2e-3, betas=(0, 0.99))
    at_start, steepest[name] = D.state_dict(), []

    @mg.capture
    def step(D=D, optimizer=optimizer, gamma=gamma):
        noise = 0.1 * mg.random.normal((64, 2))
        real, fake = noise[:, :1] + 1.0, noise[:, 1:] - 1.0
        loss = GAN.discriminator(D(real), D(fake))
        if gamma:
            loss = loss + gamma / 2 * mg.losses.r1_penalty(D, real)
        optimizer.step(mg.grad(loss, D.parameters()))

    for k in range(MOMENTS[-1]):
        D.train()
        step()
        if k + 1 in MOMENTS:
            steepest[name].append(slope(D, grid).max())
    lesson.record(f"{name}: largest slope after 1000 steps", steepest[name][-1])
lesson.record("R1: slope at the real points", slope(nets["R1"], [[1.0]])[0])
growth = steepest["plain"][-1] / steepest["plain"][2]
lesson.expect("plain: largest slope, 1000 steps / 100", growth, at_least=1.5)

# %% Figure
with lesson.figure(11, 3.6, "slopes") as figure:
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    for (name, D), colour in zip(nets.items(), (GREY, GREEN, DISCRIMINATOR), strict=True):
        left.plot(grid, D(mg.tensor(grid, "float32")).numpy(), color=colour)
        right.loglog(MOMENTS, steepest[name], "o-", color=colour)
        right.text(1250, steepest[name][-1], name, color=colour, va="center")
    for x, name, colour in ((-1, "fakes", GENERATOR), (1, "real", DATA)):
        left.plot([x], [0], "o", ms=9, color=colour)
        left.text(x, 3 * x, name, color=colour, ha="center", va="center")
    left.set(ylim=(-12, 12), xlabel="x", title="D(x) after 1000 steps")
    right.set(xlim=(8, 30000), xlabel="step", title="Its largest slope")

# %% [markdown]
# The plain one's slope keeps growing: a generator's gradient depends on how long $D$ has been
# trained. R1 makes $D$ flat at the real points (slope 0.02), not everywhere (up to 6.6).
#
# ## How much a layer stretches
#
# A function is $K$-Lipschitz if two outputs are never further apart than $K$ times their inputs.
# For a dense layer with weights $W$, $K$ is $\sigma_1$, the largest singular value of $W$; it is 1
# for LeakyReLU, and for a sequence of layers the product of theirs. So if each $W$ is divided by
# its $\sigma_1$, the slope of $D$ is at most 1 (Miyato et al. 2018).
#
# The *power iteration* finds $\sigma_1$ with two products per step: $u = Wv$, then $v = W^\top u$,
# normalized. Write the start as $v = \sum_i c_i v_i$ in right singular vectors. After $k$ steps,
# before normalizing, it is $(W^\top W)^k v = \sum_i \sigma_i^{2k} c_i v_i$. Relative to the first
# component, the second is $\rho^{2k} c_2/c_1$, where $\rho = \sigma_2 / \sigma_1 < 1$; this is the
# error of the *direction*. The estimate of $\sigma_1$ is $|Wv| / |v|$, with
#
# $$\frac{|Wv|^2}{|v|^2} = \frac{\sum_i \sigma_i^{4k+2} c_i^2}{\sum_i \sigma_i^{4k} c_i^2} \approx
# \sigma_1^2 \left(1 - (1 - \rho^2)\,\frac{c_2^2}{c_1^2}\,\rho^{4k}\right).$$
#
# So by which factor does the error of the *estimate* fall per step: $\rho$, $\rho^2$ or $\rho^4$?

# %%
W, v = rng.normal(size=(32, 32)), rng.normal(size=32)
_, sigmas, vectors = np.linalg.svd(W)
rho, errors = sigmas[1] / sigmas[0], []
for _ in range(60):
    v /= np.linalg.norm(v)
    u = W @ v
    sine = np.linalg.norm(v - vectors[0] * (v @ vectors[0]))
    errors.append((sine, 1 - np.linalg.norm(u) / sigmas[0]))
    v = W.T @ u
direction, estimate = (np.array(errors)[-1] / np.array(errors)[-11]) ** 0.1
lesson.record("direction: factor per step / rho^2", direction / rho**2)
lesson.expect("sigma: factor per step / rho^4", estimate / rho**4, at_least=0.95, at_most=1.05)

# %% [markdown]
# During training `nn.spectral_norm` does one iteration per pass and keeps $u$ and $v$ for the next.
#
# Does it limit the growth of the parameters? The layer uses $W / \sigma_1(W)$, and $\sigma_1(cW) =
# c\,\sigma_1(W)$: the scale of $W$ cancels, so nothing limits it. It even grows: the loss $L$ is
# the same for all multiples of $W$, hence $\langle W, \nabla L \rangle = 0$, and a step of gradient
# descent makes $W$ longer: $|W - \eta \nabla L|^2 = |W|^2 + \eta^2 |\nabla L|^2$. (With Adam too:
# above, $\sigma_1$ of the second layer grew 2.9 times.) What if we multiply its $W$ by 1000?

# %%
D, state = nets["spectral norm"], nets["spectral norm"].state_dict()
own = [np.linalg.norm(s["2.module.weight"], 2) for s in (at_start, state)]
lesson.record("spectral norm: sigma of its own weights, end / start", own[1] / own[0])
x = mg.tensor(grid, "float32")
before, state["2.module.weight"] = D(x).numpy(), 1000 * state["2.module.weight"]
D.load_state_dict(state)
lesson.expect("weights times 1000: change of D", abs(D(x).numpy() - before).max(), at_most=1e-4)

# %% [markdown]
# ## Break a GAN
#
# 25 Gaussians of standard deviation 0.05, two apart. A sample within 3 standard deviations of a
# mode *covers* it and is of *high quality* (98.9 % of real points are); the *reverse KL* measures
# how unevenly these samples are distributed over the modes (in nats; 0: evenly).
#
# We start with 2 latent numbers and the rates 0.002 (generator) and 0.004, which fall to zero.
# Change 1: 64 latent numbers. Change 2: three times the rates. With one of them, $G$ still covers
# over 20 modes. Before you run it: how many with *both*?

# %%
data, BATCH = mg.data.load("grid"), 128
SCALE = data.values.std()
SEEDS, STEPS = (range(1), 2000) if lesson.fast else (range(5), 5000)


def planar_share(G, z):
    """Return the share of G's squared Jacobian in the two strongest directions of z."""
    z = mg.tensor(z, requires_grad=True)
    x = G(z)
    rows = [mg.grad(x[:, i : i + 1].sum(), [z])[0].numpy() for i in (0, 1)]
    squares = np.linalg.svd(np.concatenate(rows), compute_uv=False) ** 2
    return squares[:2].sum() / squares.sum()


def train(seed, latent=2, rate=1, scale=1.0, first=1.0, norm=None, loss=GAN, penalty=None):
    mg.manual_seed(seed)
    hidden = nn.Dense(latent, 128), nn.ReLU(), nn.Dense(128, 128), nn.ReLU()
    G, D = nn.Sequential(*hidden, nn.Dense(128, 2)), discriminator(2, norm)
    G.load_state_dict({**G.state_dict(), "0.weight": first * G.state_dict()["0.weight"]})
    average = mg.optim.ExponentialMovingAverage(G, 0.99)
    optimizer_g, optimizer_d = (mg.optim.Adam(m.parameters(), betas=(0, 0.99)) for m in (G, D))
    points = mg.tensor(data.values / SCALE, "float32")
    z = scale * mg.random.normal((5000, latent), stream="samples")

    @mg.capture
    def step():
        rows = mg.random.uniform((BATCH, 1), stream="data") * len(data)
        real = ops.gather(points, rows.to("int64"))
        fake = G(scale * mg.random.normal((BATCH, latent)))
        logits = D(ops.concatenate([real, fake.detach()]))
        loss_d = loss.discriminator(logits[:BATCH], logits[BATCH:])
        if penalty:
            loss_d = loss_d + 0.1 / 2 * penalty(D, real, fake)
        optimizer_d.step(mg.grad(loss_d, D.parameters()))
        loss_g = loss.generator(D(fake))
        optimizer_g.step(mg.grad(loss_g, G.parameters()))
        average.update()

    for k in lesson.progress(range(STEPS), "25 Gaussians"):
        optimizer_g.lr, optimizer_d.lr = (x * rate * (1 - k / STEPS) for x in (2e-3, 4e-3))
        step()
        if k == STEPS // 5:
            share = planar_share(G, z.numpy())
    fakes = average.module(z).numpy()
    quality = mixture_quality(fakes * SCALE, data.modes, data.sigma)
    columns = quality.modes, quality.high_quality, quality.reverse_kl, slope(D, fakes).mean(), share
    return fakes * SCALE, columns


HARD, losses = {"latent": 64, "rate": 3}, mg.losses
ROWS = {
    "2 latents": {},
    "64 latents": {"latent": 64},
    "2 latents, rates x 3": {"rate": 3},
    "64 latents, rates x 3": HARD,
    "short latents": HARD | {"scale": 32**-0.5},
    "shorter steps": HARD | {"scale": 1 / 32, "first": 32.0},
    "R1": HARD | {"penalty": lambda D, x, y: losses.r1_penalty(D, x)},
    "R1 + R2": HARD
    | {"penalty": lambda D, x, y: losses.r1_penalty(D, x) + losses.r2_penalty(D, y)},
    "spectral norm": HARD | {"norm": nn.spectral_norm},
    "WGAN-GP": HARD | {"penalty": losses.gradient_penalty, "loss": losses.Wasserstein()},
}
COLUMNS = "modes", "high quality", "reverse KL", "slope of D at fakes", "planar share of G"
samples, modes = {}, {}
for row in [*ROWS][: 5 if lesson.fast else None]:  # 2000 steps are too few for the others
    samples[row], results = zip(*(train(seed, **ROWS[row]) for seed in SEEDS), strict=True)
    for column, values in zip(COLUMNS, np.array(results).T, strict=True):
        lesson.record(f"{row}: {column}", values)
    modes[row] = np.mean([columns[0] for columns in results])
alone = min(modes["64 latents"], modes["2 latents, rates x 3"])
ratio = modes["64 latents, rates x 3"] / alone
lesson.expect("modes: both changes / one, the worse", ratio, at_most=0.75)

# %% [markdown]
# The full run, means of five seeds. (The 2000 steps of the fast run are too few for the last
# five rows.) Rows 4 to 10: 64 latents and high rates; $\gamma = 0.1$ (WGAN-GP: $\lambda = 0.05$).
#
# | | modes | high quality | reverse KL | slope of $D$ | planar share |
# | --- | --- | --- | --- | --- | --- |
# | 2 latents | 24.4 ± 0.2 | 62 % | 0.28 | 4.3 | 1.00 |
# | 64 latents | 21.4 ± 1.1 | 45 % | 0.82 | 6.2 | 0.95 |
# | 2 latents, rates x 3 | 22.8 ± 2.0 | 48 % | 0.50 | 4.5 | 1.00 |
# | 64 latents, rates x 3 | **8.6 ± 1.0** | 65 % | 2.05 | 8.2 | 0.87 |
# | short latents | 21.0 ± 1.0 | 56 % | 0.70 | 6.4 | 0.98 |
# | shorter steps | 12.4 ± 1.6 | 44 % | 1.60 | 9.1 | 0.86 |
# | R1 | 24.8 ± 0.2 | 25 % | 0.39 | 0.5 | 0.91 |
# | R1 + R2 | 24.8 ± 0.2 | 18 % | 0.36 | 0.4 | 0.94 |
# | spectral norm | 20.0 ± 3.9 | 21 % | 0.91 | 0.05 | 0.92 |
# | WGAN-GP | 25.0 ± 0.0 | 25 % | 0.44 | 2.0 | 0.89 |
#
# ## Why both? Two guesses, two tests
#
# *The steps are too long.* Adam moves each weight by about the rate, however small its gradient, so
# a step moves a neuron of the first layer, $\sum_i w_i z_i$, up to 32 times as far with 64 latents
# as with 2. Test: divide $z$ by 32 and multiply these weights by 32: the same generator at the
# start, with 32 times shorter steps in its first layer. Only 12.4 modes: not the main cause.
#
# *The other directions are noise.* The plane needs two directions of $z$; the other 62 only blur.
# The "planar share" measures it after a fifth of the training: the part of $|\partial G / \partial
# z|^2$ in its two strongest directions, 0.95 with 64 latents, only 0.87 with the high rates too.
# Test: divide $z$ by $\sqrt{32}$ and leave the weights alone, so that all directions are weak at
# first and training strengthens those it needs. Will these "short latents" cover more modes?

# %%
ratio = modes["short latents"] / modes["64 latents, rates x 3"]
lesson.expect("modes: short latents / long ones", ratio, at_least=1.25)

# %% Figure
with lesson.figure(13, 3.5 if lesson.fast else 6.3) as figure:
    grid_of_axes = figure.subplots(-(-len(samples) // 5), 5).flat
    for axes, (row, fakes) in zip(grid_of_axes, samples.items(), strict=True):
        axes.plot(*data.modes.T, "o", ms=8, mfc="none", mec=DATA, mew=0.8)
        axes.plot(*fakes[0][:2000].T, ".", ms=2.6, mew=0, color=GENERATOR)
        axes.set(xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[], aspect="equal")
        axes.set_title(f"{row}\n{modes[row]:.1f} modes", fontsize=12)

lesson.finish()

# %% [markdown]
# They do (21.0, not 8.6), though nothing bounds $D$: this supports the second guess. A bound on the
# slope cures differently: the blur stays, but $D$ is less steep at the fakes (R1: 0.5, not 8.2). R1
# and WGAN-GP cover nearly all modes; with spectral norm it depends on the seed. The price: 18 to
# 25 % are of high quality. (By this alone, the row with 8.6 modes would be the best.) So 004 is
# right that a WGAN helps against collapse; "solves" says too much: in lesson 10 it loses modes.
#
# ## Exercises
#
# 1. A convolution's weight is normalized as a matrix (out, in * kh * kw). Does the layer stretch by
#    this matrix's sigma? Try a 3 x 3 kernel, stride 1, padding 1, all weights equal, on 16 x 16
#    pixels: power iteration with `ops.conv2d` and its transpose, `ops.conv_transpose2d`.
#    <details><summary>Answer</summary> No: windows overlap. A layer stretches at least as much as
#    its matrix and at most ceil(kernel / stride) = 3 times as much; this one 2.93. </details>
# 2. What does the power iteration converge to if the two largest singular values are equal?
#    <details><summary>Answer</summary> Its estimate to their value, its direction to a mixture of
#    the two, in the proportions of the start. </details>
# 3. A normalized layer's weights are multiplied by 10. By which factor does their gradient change,
#    and their relative change in a step of gradient descent?
#    <details><summary>Answer</summary> 1/10; 1/100. Growing weights learn more slowly. </details>
#
# Next: 13 Convolutions and the checkerboard

# %% [markdown]
# # 12 Lipschitz by spectral norm; R1 and R2
#
# 教程 003 说谱归一化“限制参数的增长”，梯度惩罚“防止梯度消失”；004 说 WGAN 解决模式崩溃。这里来量。
#
# Tutorial 003 (section 3.3; README.md lists the tutorials) says that spectral normalization "limits
# the growth of the network's parameters" and that a gradient penalty "prevents vanishing or
# exploding gradients"; 004 (section 9.1) says that a Wasserstein GAN "solves mode collapse". In
# fact spectral normalization limits how much a layer stretches its input, and the parameters
# continue to grow. R1, the penalty of today's GANs, makes the gradient of the discriminator vanish
# at the data, on purpose. And which method covers 25 modes has to be measured: this lesson does, on
# ten seeds.

# %%
from functools import partial

import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.gan.losses import (
    Minimax,
    NonSaturating,
    Relativistic,
    Wasserstein,
    gradient_penalty,
    r1_penalty,
    r2_penalty,
)
from minigan.metrics import mixture_quality
from minigan.seeds import map_seeds
from minigan.training.evaluate import Estimate
from minigan.utils.figures import BLUE, GREEN, GREY, ORANGE, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("12_lipschitz", "Lipschitz by spectral norm; R1 and R2")
rng = np.random.default_rng(0)

# %% [markdown]
# ## How much a layer stretches
#
# A function is K-Lipschitz if the distance of two outputs is at most K times the distance of their
# inputs. A dense layer with weights W is K-Lipschitz with K = sigma, the largest singular value of
# W; LeakyReLU and tanh are with K = 1; and a sequence of layers is with the product of their K. So
# if each W is divided by its sigma, the slope of the discriminator is at most 1 everywhere (Miyato
# et al. 2018).
#
# A singular value decomposition in each step would be slow. A step of the *power iteration* takes
# two products: one with W, one with its transpose. The direction that W stretches most comes to
# dominate: relative to it, a step multiplies every other component by at most (sigma_2 /
# sigma_1)^2, where sigma_2 is the second largest singular value.


# %%
def power_iteration(forward, adjoint, v, steps=300):
    """Return the factor by which a linear map stretches v, at each step."""
    sigmas = []
    for _ in range(steps):
        u = forward(v / np.linalg.norm(v))
        sigmas.append(np.linalg.norm(u))
        v = adjoint(u)
    return np.array(sigmas)


W, v = rng.normal(size=(64, 128)), rng.normal(size=128)
error = 1 - power_iteration(lambda v: W @ v, lambda u: W.T @ u, v) / np.linalg.norm(W, 2)
lesson.expect("power iteration: relative error", error[-1], at_least=-1e-12, at_most=1e-6)

# %% [markdown]
# ## Weights that change
#
# A GAN's weights change little from step to step, so one step of the iteration in each pass is
# enough if it starts from the vectors of the previous pass: that is `nn.spectral_norm`. As an
# example, train a normalized discriminator to distinguish 25 Gaussians from a single wide one.

# %%
data = mg.data.load("grid")
SCALE, D_STEPS, EVERY = data.values.std(), 50 if lesson.fast else 400, 10


def discriminator(norm=None):
    dense = [nn.Dense(*sizes) for sizes in ((2, 128), (128, 128), (128, 1))]
    first, second, head = map(norm, dense) if norm else dense
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), head)


mg.manual_seed(0)
D, trace = discriminator(nn.spectral_norm), []
optimizer = mg.optim.Adam(D.parameters(), lr=2e-3, betas=(0, 0.99))
for step in range(D_STEPS + 1):
    if step % EVERY == 0:
        layer = D.eval()[2]
        pair = layer.module.weight, layer.normalized_weight()
        trace.append([np.linalg.norm(w.numpy(), 2) for w in pair])
    real = mg.tensor(data.values[rng.integers(len(data), size=128)] / SCALE, dtype="float32")
    loss = NonSaturating().discriminator(D.train()(real), D(mg.random.normal((128, 2))))
    optimizer.step(mg.grad(loss, D.parameters()))
stored, in_use = np.array(trace).T
limit = 1.1 if lesson.fast else 1.5
lesson.expect("one step per pass: largest sigma in use", in_use.max(), at_least=1, at_most=limit)

points = mg.tensor(rng.normal(size=(4000, 2)), dtype="float32", requires_grad=True)
slopes = mg.grad(D.eval()(points).sum(), [points])[0].numpy()
lesson.expect("its largest slope", np.linalg.norm(slopes, axis=1).max(), at_least=0.05, at_most=1.1)

# %% [markdown]
# The sigma in use is a little above 1, once by a third: while the weights change, the vectors lag
# behind, and the estimate of sigma is too small. (Without the step, with the vectors of the start,
# it reached 3 and 15 in two trials of 400 steps.) And the slope of the whole net is much smaller
# than 1, because no direction is the one that every layer stretches most. The product is only an
# upper bound.
#
# Does it "limit the growth of the parameters"? The layer's own weights have grown all the time, and
# nothing limits them: with a thousand times the weights the layer is the same. Moreover, where the
# scale has no effect, the gradient is orthogonal to the weights, so each step of plain gradient
# descent makes them *longer* (exercise 2).

# %%
lesson.expect("sigma of its own weights, end / start", stored[-1] / stored[0], at_least=1.2)
x, state = mg.random.normal((100, 128)), layer.state_dict()
before, state["module.weight"] = layer(x).numpy(), 1000 * state["module.weight"]
layer.load_state_dict(state)
lesson.expect("weights times 1000: change", abs(layer(x).numpy() - before).max(), at_most=1e-5)

# %% [markdown]
# ## A convolution is not its matrix
#
# What is W of a convolution? Usually one reshapes the weights to a matrix (out, in * kh * kw). But
# this matrix is applied to one window at a time, and the windows overlap: a pixel lies in up to
# ceil(k / stride)^2 of them, and contributes to the output of each. So the layer stretches by *at
# least* the sigma of its matrix, and by at most ceil(k / stride) times that (Tsuzuku et al. 2018).
# To measure it, iterate with the layer itself; lesson 13 shows that the transposed convolution is
# its adjoint.


# %%
def conv_sigma(w, stride, padding):  # on images of 16 x 16 pixels
    w = mg.tensor(w, dtype="float64")
    return power_iteration(
        lambda v: ops.conv2d(mg.tensor(v), w, None, stride, padding).numpy(),
        lambda u: ops.conv_transpose2d(mg.tensor(u), w, None, stride, padding).numpy(),
        rng.normal(size=(1, w.shape[1], 16, 16)),
    )[-1]


for k, stride, padding in ((2, 2, 0), (4, 2, 1), (3, 1, 1)):
    layer = nn.spectral_norm(nn.Conv2d(16, 16, k, stride, padding), steps=100)
    sigma = conv_sigma(layer.normalized_weight().numpy(), stride, padding)
    bounds = {"at_least": 0.999, "at_most": 1.001 * -(-k // stride)}
    lesson.expect(f"{k}-{stride}-{padding}, normalized, stretches by", sigma, **bounds)
ratio = conv_sigma(np.ones((16, 16, 3, 3)), 1, 1) / np.linalg.norm(np.ones((16, 144)), 2)
lesson.expect("3-1-1, all weights equal: sigma / its matrix's", ratio, at_least=2.9, at_most=3)

# %% [markdown]
# So a sequence of four normalized 3-1-1 layers may be up to 81-Lipschitz. In practice this matters
# little: K need not be 1, it only has to be bounded. But a proof that relies on "1-Lipschitz" must
# divide by the layer's own sigma.
#
# ## R1: no slope at the data
#
# A bound on the slope everywhere does not determine where training ends. Take the smallest GAN
# (Mescheder et al. 2018): the data are the point 0, the generator returns the point theta, and D(x)
# = -psi x. The equilibrium is theta = psi = 0. Both players are updated simultaneously, in 500
# steps of 0.2, from (1, 1).
#
# Around the equilibrium the gradient field rotates: the eigenvalues of its Jacobian are +-i/2, and
# finite steps lead outward. R1 adds gamma / 2 times |grad D|^2 *at the data* to D's loss. Then the
# eigenvalues are -gamma / 2 +- sqrt(gamma^2 / 4 - 1 / 4), with negative real parts: the orbit is a
# spiral inward.


# %%
def gradients(theta, psi, gamma):
    """Return those of the generator's loss by theta, and of the discriminator's by psi."""
    real, fake = mg.tensor([[0.0]], dtype="float64"), theta.reshape(1, 1)

    def D(x):
        return -psi * x

    loss_g = Minimax().generator(D(fake))
    loss_d = Minimax().discriminator(D(real), D(fake)) + r1_penalty(D, real) * (gamma / 2)
    losses = ((loss_g, theta), (loss_d, psi))
    return [mg.grad(loss, [p], create_graph=True)[0] for loss, p in losses]


def orbit(gamma, steps=500, h=0.2):
    theta, psi = (mg.tensor(1.0, dtype="float64", requires_grad=True) for _ in range(2))
    optimizer = mg.optim.SGD([theta, psi], lr=h)
    step, path = mg.capture(lambda: optimizer.step(gradients(theta, psi, gamma))), [(1.0, 1.0)]
    for _ in range(steps):
        step()
        path.append((theta.item(), psi.item()))
    return np.array(path)


orbits = {gamma: orbit(gamma) for gamma in (0.0, 0.3)}
for gamma, bounds in ((0.0, {"at_least": 3.09694, "at_most": 3.09696}), (0.3, {"at_most": 1e-4})):
    lesson.expect(f"gamma {gamma}: radius after 500 steps", np.hypot(*orbits[gamma][-1]), **bounds)
origin = [mg.tensor(0.0, dtype="float64", requires_grad=True) for _ in range(2)]
rows = [mg.grad(x, origin, allow_unused=True) for x in gradients(*origin, gamma=0.3)]
jacobian = [[0 if x is None else -x.item() for x in row] for row in rows]
formula = -0.3 / 2 + np.array([-1, 1]) * np.sqrt(0.3**2 / 4 - 1 / 4 + 0j)
gap = abs(np.sort(np.linalg.eigvals(jacobian)) - np.sort(formula)).max()
lesson.expect("gamma 0.3: eigenvalues by autograd and by formula, difference", gap, at_most=1e-9)

# %% [markdown]
# Look at the slope of D, which is psi: it goes to zero. When the generator is right, real and fake
# samples are the same, and a discriminator with a slope there can only drive the generator away:
# with clipped weights, or with a slope kept at 1, this GAN never converges (section 3 of that
# paper). R1 does the opposite of "preventing vanishing gradients". (R2 is the same penalty at the
# fakes; here the two are equal.)
#
# ## 25 Gaussians, and what covers them
#
# Now a task at which a generator can fail: 25 Gaussians of sigma 0.05, at distance 2. A single run
# depends more on luck than on the method, so each row below is a mean over seeds with its standard
# error. The runs are independent, so `map_seeds(train, seeds)` distributes them to processes, one
# per core: a run has the same bits in any of them. And since a step consists of the same launches
# each time, `mg.capture` records them once and replays them.
#
# There are two settings. *Gentle*: latents of 2 numbers, learning rates 0.002 and 0.004. *Hard*:
# latents of 64 numbers and three times the rates. In both, the rates fall linearly to zero, beta1
# is 0, the data are divided by their standard deviation, and the samples come from averaged
# weights. R3GAN's recipe (Huang et al. 2024) is a loss that compares each fake with a real sample,
# with R1 and R2. Penalties have gamma = 0.1, which falls to 0.0001 during training; the penalty of
# the Wasserstein GAN keeps its weight.

# %%
RUNS, STEPS = (range(2), 250) if lesson.fast else (range(10), 5000)
BATCH, PLAIN, DECAY = 128, NonSaturating(), 0.9 if lesson.fast else 0.99


def train(seed, steps=STEPS, hard=0, beta1=0, norm=None, gan_loss=PLAIN, penalty=None, fall=1e-3):
    mg.manual_seed(seed)
    latent, rate = (64, 3) if hard else (2, 1)
    hidden = nn.Dense(latent, 128), nn.ReLU(), nn.Dense(128, 128), nn.ReLU()
    G, D = nn.Sequential(*hidden, nn.Dense(128, 2)), discriminator(norm)
    average = mg.optim.ExponentialMovingAverage(G, DECAY)
    nets, betas = (G, D), (beta1, 0.99)
    optimizer_g, optimizer_d = (mg.optim.Adam(x.parameters(), betas=betas) for x in nets)
    points = mg.tensor(data.values / SCALE, dtype="float32")
    gamma = mg.tensor(0.1, dtype="float32")  # a tensor, because it changes between replays

    @mg.capture
    def step():
        rows = mg.random.uniform((BATCH, 1), stream="data") * len(data)
        real = ops.gather(points, rows.to("int64"))
        fake = G(mg.random.normal((BATCH, latent)))
        logits = D(ops.concatenate([real, fake.detach()]))
        penalty_d = penalty(D, real, fake) * (gamma / 2) if penalty else 0.0
        loss_d = gan_loss.discriminator(logits[:BATCH], logits[BATCH:]) + penalty_d
        optimizer_d.step(mg.grad(loss_d, D.parameters()))
        loss_g = gan_loss.generator(D(fake), D(real) if gan_loss.is_relativistic else None)
        optimizer_g.step(mg.grad(loss_g, G.parameters()))
        average.update()

    for t in np.arange(steps) / steps:
        optimizer_g.lr, optimizer_d.lr = 2e-3 * rate * (1 - t), 4e-3 * rate * (1 - t)
        mg.optim.assign(gamma, mg.tensor(0.1 * fall**t, dtype="float32"))
        step()
    fakes = average.module(mg.random.normal((5000, latent), stream="samples")).numpy()
    return fakes * SCALE, D.state_dict()


fakes, (_, (other, _)) = train(1, steps=20)[0], map_seeds(partial(train, steps=20), [0, 1])
lesson.expect("a run here and in a process: difference", abs(fakes - other).max(), equal=0.0)
ceiling = mixture_quality(data.values, data.modes, data.sigma).high_quality
lesson.expect("real draws: high quality", ceiling, at_least=0.987, at_most=0.991)

# %% [markdown]
# What do we measure? Of 5000 samples, those within 3 sigma of a mode are of *high quality*; a mode
# is covered if it has one; and the *reverse KL* measures how unevenly the samples are distributed
# over the modes, in nats, 0 at best (Lin et al. 2018). Of real data, 98.9 % are of high quality: a
# larger share means modes that are too narrow. (Fast mode, with 250 steps, leaves out two rows; it
# shows that the code runs, not which method is best.)

# %%
R3GAN = {"gan_loss": Relativistic(), "penalty": lambda D, x, y: r1_penalty(D, x) + r2_penalty(D, y)}
ROWS = {
    "gentle, beta1 0.5": {"beta1": 0.5},
    "gentle, plain": {},
    "gentle, R3GAN": R3GAN,
    "hard, plain": {"hard": 1},
    "hard, spectral norm": {"hard": 1, "norm": nn.spectral_norm},
    "hard, WGAN-GP": {"hard": 1, "gan_loss": Wasserstein(), "penalty": gradient_penalty, "fall": 1},
    "hard, R1": {"hard": 1, "penalty": lambda D, x, y: r1_penalty(D, x)},
    "hard, R3GAN": {"hard": 1, **R3GAN},
}
samples, states, table = {}, {}, {"modes": {}, "high_quality": {}, "reverse_kl": {}}
print(f"  {len(RUNS)} seeds, {STEPS} steps", *(f"{key:>18}" for key in table))
for row in (x for x in ROWS if not lesson.fast or x[-2:] not in ("R1", "GP")):
    runs = map_seeds(partial(train, **ROWS[row]), RUNS, label=row)
    samples[row], states[row] = zip(*runs, strict=True)
    qualities = [vars(mixture_quality(x, data.modes, data.sigma)) for x in samples[row]]
    for key, column in table.items():
        column[row] = Estimate.of([quality[key] for quality in qualities])
    print(f"  {row:19}", *(f"{column[row]!s:>18}" for column in table.values()))
high, modes = table["high_quality"], table["modes"]
ratio = high["gentle, beta1 0.5"].mean / high["gentle, plain"].mean
lesson.expect("gentle: high quality, beta1 0.5 / beta1 0", ratio, at_most=0.85)
ratio = modes["hard, plain"].mean / modes["hard, R3GAN"].mean
lesson.expect("hard: modes, plain / R3GAN", ratio, at_most=1.5 if lesson.fast else 0.6)
sigmas = [np.linalg.norm(x["2.module.weight"], 2) for x in states["hard, spectral norm"]]
lesson.expect("hard, spectral norm: sigma of its weights, mean", np.mean(sigmas), at_least=3)

# %% [markdown]
# In a full run, with ten seeds and 5000 steps:
#
# | | modes | high quality | reverse KL |
# | --- | --- | --- | --- |
# | gentle, beta1 0.5 | 24.4 +- 0.3 | 46 +- 3 % | 0.46 +- 0.03 |
# | gentle, plain | 24.4 +- 0.2 | 66 +- 2 % | 0.28 +- 0.04 |
# | gentle, R3GAN | 24.7 +- 0.2 | 58 +- 2 % | 0.21 +- 0.03 |
# | hard, plain | 9.0 +- 0.6 | 64 +- 3 % | 2.07 +- 0.16 |
# | hard, spectral norm | 22.6 +- 2.1 | 25 +- 3 % | 0.67 +- 0.16 |
# | hard, WGAN-GP | 24.8 +- 0.1 | 25 +- 2 % | 0.45 +- 0.04 |
# | hard, R1 | 23.3 +- 0.6 | 40 +- 4 % | 0.73 +- 0.09 |
# | hard, R3GAN | 24.2 +- 0.2 | 34 +- 2 % | 0.61 +- 0.05 |
#
# - In the gentle setting the plain loss covers nearly all modes. What matters there is the
#   optimizer: beta1 0.5 costs more than a quarter of the high quality, more than any method adds.
#   R3GAN's recipe is perhaps more even and less sharp, but by at most two standard errors.
# - In the hard setting, the plain loss loses two modes out of three. All methods that limit D's
#   slope keep most of them: spectral norm with luck (its seeds differ most), R1, R3GAN, and WGAN-GP
#   nearly all. So what 004 recommends does help. "Solves" is too strong: the plain loss needed no
#   help in the gentle setting.
# - It has a price. With the same net and the same number of steps there are more modes, and each is
#   less sharp. By high quality alone, the row that has lost 16 modes would be one of the best.
# - No row is near 98.9 % yet. `minigan bench modes` trains the gentle setting for five times as
#   many steps.
#
# And the weights of the normalized D? The sigma by which it divides was 1.2 at the start and 10.5
# at the end, the mean of the seeds. Their growth is not limited.

# %% Figure
NAMES = ("plain", "beta1 0.5", "spectral norm", "WGAN-GP", "R1", "R3GAN")
COLOURS = dict(zip(NAMES, (GREY, PINK, GREEN, "#E69F00", BLUE, ORANGE), strict=True))


def draw_sigmas(axes):
    steps = EVERY * np.arange(len(stored))
    axes.plot(steps, stored, color=GREEN, lw=1.5)
    axes.plot(steps, in_use, color=GREEN, lw=3.5)
    axes.axhline(1, color="black", lw=1, ls=":")
    axes.text(0.98, 0.1, "weights in use", color=GREEN, ha="right", transform=axes.transAxes)
    axes.text(0.98, 0.55, "its own weights", color=GREEN, ha="right", transform=axes.transAxes)
    axes.set(xlabel="step", ylabel="sigma", title="Normalised, and growing", ylim=(0.75, None))


def draw_orbits(axes):
    for path, colour in zip(orbits.values(), (ORANGE, BLUE), strict=True):
        axes.plot(*path.T, color=colour, lw=1.6)
    axes.plot(1, 1, "o", color="black", ms=6)
    axes.text(0.2, 2.85, "no penalty", color=ORANGE, ha="center")
    axes.text(0.1, -0.95, "R1", color=BLUE, ha="center")
    axes.set(xlabel="theta (generator)", ylabel="psi (slope of D)", aspect="equal")
    axes.set(xlim=(-3.3, 3.3), ylim=(-3.3, 3.6), xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    axes.set_title("Dirac-GAN, 500 steps")


def draw_bars(axes, column, title, level, ticks):
    for height, (row, x) in enumerate(table[column].items()):
        axes.barh(height, x.mean, 0.72, color=COLOURS[row.split(", ")[1]])
        axes.errorbar(x.mean, height, xerr=x.error, color="black", lw=1.5)
    axes.axvline(level, color="black", lw=1, ls=":")
    axes.axhline(2.5, color="black", lw=0.6)
    axes.set(title=title, yticks=[], ylim=(len(samples) - 0.5, -0.5))
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])


with lesson.figure(13, 6.8) as figure:
    above, below = figure.subfigures(2, 1, height_ratios=(1.8, 1))
    sigmas, spiral, *bars = above.subplots(1, 5, width_ratios=(1.3, 1.6, 1, 1, 1))
    draw_sigmas(sigmas)
    draw_orbits(spiral)
    draw_bars(bars[0], "modes", "Modes", 25, (0, 25))
    draw_bars(bars[1], "high_quality", "High quality", ceiling, (0, 0.5, 1))
    draw_bars(bars[2], "reverse_kl", "Reverse KL", 0, (0, 1, 2))
    bars[0].set_yticks(range(len(samples)), samples, fontsize=11)
    for axes, (row, fakes) in zip(below.subplots(1, len(samples)), samples.items(), strict=True):
        colour = COLOURS[row.split(", ")[1]].replace(GREY, "#555555")
        axes.plot(*data.modes.T, "o", ms=7, mfc="none", mec=GREY, mew=0.8)
        axes.plot(*fakes[0][:2000].T, ".", ms=2.6, mew=0, color=colour)
        axes.set(xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[], aspect="equal")
        axes.set_title(row.replace(", ", "\n"), fontsize=12)

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. By which factor does the error of the power iteration fall per step, near the end? Express it
#    by the singular values of `W`. And what does it converge to if the two largest are equal?
# 2. Train one spectrally normalized dense layer by plain SGD. What is the sum of the products of
#    its weights with their gradient? By how much does the sum of the squared weights grow in a
#    step? Why, then, do they grow less and less?
# 3. A step of 0.2 multiplies the distance from the equilibrium by |1 + 0.2 lambda|, for each
#    eigenvalue lambda. Does that agree with `orbits[0.3]`? Which gamma converges fastest, and above
#    which gamma does it diverge? Try `orbit(12.0, steps=40)`.

# %% [markdown]
# # 14 Batch norm and a DCGAN
#
# 批归一化使一个样本的输出取决于整批样本。教程 002 每层都放；本课测量放在哪里有用，哪里有害。
#
# Tutorial 002 (sections 3.1 and 3.2; README.md lists the tutorials) puts batch norm after *every*
# convolution of both nets; its code (4.1, 4.2) has neither. The DCGAN paper (Radford et al. 2016)
# leaves it out at two places, and calls it critical for deep generators. You will train 75 small
# GANs with and without it, then a DCGAN on digits.
#
# Needs: 06 (how a GAN is trained) and 13 (convolutions).

# %%
from itertools import pairwise, product

import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.gan.models import MODELS
from minigan.metrics import sliced_wasserstein as distance
from minigan.utils import figures as pictures
from minigan.utils.figures import DATA, GENERATOR, GREY
from minigan.utils.lesson import Lesson

lesson = Lesson("14_dcgan", "Batch norm and a DCGAN")
rng = np.random.default_rng(0)

# %% [markdown]
# ## What batch norm computes
#
# For one channel, let $\mu$ and $\sigma^2$ be the mean and the variance of its numbers over the
# batch (and over the pixels). Batch norm (Ioffe and Szegedy 2015) returns
#
# $$y_i = \gamma \, \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta$$
#
# with learned $\gamma$ (at first 1) and $\beta$ (at first 0), and $\varepsilon = 10^{-5}$ against a
# division by 0. But $\mu$, $\sigma$ belong to the batch. Put the sample $x = 1$ into a batch with
# 63 numbers from $N(0, 1)$, then with 63 from $N(5, 1)$. *Before you run it:* what are its outputs?


# %%
def batch_norm(x, eps=1e-5):
    return (x - x.mean()) / np.sqrt(x.var() + eps)


near, far = rng.normal(0, 1, 63), rng.normal(5, 1, 63)
first, second = (batch_norm(np.array([1, *others]))[0] for others in (near, far))
lesson.expect("the same sample in two batches: difference", first - second, at_least=4)

# %% [markdown]
# About 1, and about -3.6. A discriminator with batch norm does not score an image, but an image in
# its batch. (WGAN-GP therefore uses layer norm in $D$: Gulrajani et al. 2017, section 4.) So should
# real and fake images go through $D$ in one batch, or in two? Let real numbers be $N(3, 1)$ and
# fakes $N(0, 1)$. In one batch of both, 93.5 % of the fakes become negative. *Before you run it:*
# what share of the fakes is negative when they are normalized alone?

# %%
fake, real = rng.normal(0, 1, 2000), rng.normal(3, 1, 2000)
together, alone = batch_norm(np.concatenate([fake, real])), batch_norm(fake)
lesson.record("share of fakes below 0, one batch of both", (together[:2000] < 0).mean())
lesson.expect("share of fakes below 0, alone", (alone < 0).mean(), at_least=0.45, at_most=0.55)

# %% Figure
with lesson.figure(9, 3.2, "batch") as figure:
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, *both in (left, together[:2000], together[2000:]), (right, alone, batch_norm(real)):
        axes.hist(both, 50, color=(GENERATOR, DATA), histtype="stepfilled", alpha=0.6)
        axes.axvline(0, color=GREY, lw=1, ls="--")
        axes.set(yticks=[], xlabel="output of batch norm")
    left.set_title("One batch: fake left, real right")
    right.set_title("Two batches: both around 0")

# %% [markdown]
# Half: the mean is gone. In the generator's step the fakes *are* alone, so a rule learned from
# mixed batches does not hold there. Therefore real and fake images go through $D$ separately. The
# price: after batch norm, $D$ cannot see that fakes are too dark, so its *first* layer has none.
#
# ## Train mode and eval mode
#
# To make one image there is no batch. So batch norm keeps running moments, which each training
# batch moves towards its own by a factor $m$ (*momentum*, 0.1 here and in PyTorch): after $t$
# batches $(1 - m)^t$ of the start is left. Eval mode uses them in place of $\mu$ and $\sigma$.
# *Before you run it:* from 0, after how many times the same batch is the running mean within 1 %?

# %%
norm, count = nn.BatchNorm1d(1, momentum=0.1, dtype="float64"), 0
while abs(norm.running_mean.item() / far.mean() - 1) > 0.01 and count < 1000:
    norm(mg.tensor(far[:, None]))
    count += 1
lesson.expect("batches until the running mean is within 1 %", count, equal=44)

# %% [markdown]
# ## The number 0.8
#
# In Keras *momentum* means $1 - m$: `BatchNormalization(momentum=0.8)` is $m = 0.2$. A widely used
# collection, PyTorch-GAN, has `BatchNorm1d(256, 0.8)` instead (its issue 116), and the second
# argument there is $\varepsilon$: variance $v$ becomes $v / (v + 0.8)$. Initial weights, uniform in
# $\pm 1/\sqrt n$ for $n$ inputs, leave a third of the variance, LeakyReLU half. *Before you run
# it:* after that generator's second layer and its batch norm, is it about 1, 1/2 or less?

# %%
mg.manual_seed(0)
layers = nn.Sequential(nn.Dense(100, 128), nn.LeakyReLU(0.2), nn.Dense(128, 256))
channels = layers(mg.random.normal((1000, 100))).numpy()
lesson.record("variance before batch norm, mean of 256 channels", channels.var(axis=0).mean())
after = np.mean([batch_norm(x, eps=0.8).var() for x in channels.T])
lesson.expect("variance after batch norm with eps 0.8", after, at_least=0.05, at_most=0.06)

# %% [markdown]
# Far less: $v$ is 0.05, and each channel is divided by 0.92. (minigan takes `eps` by name only.)
#
# ## Does batch norm make a DCGAN trainable?
#
# Now a DCGAN in small, for 16 x 16 pixels: a dense layer makes 2 x 2 pixels of 32 channels, and
# three transposed convolutions 4-2-1 double the side; $D$ is the same in reverse. The paper's
# recipe: batch norm except at $D$'s first layer and $G$'s last, ReLU in $G$, LeakyReLU in $D$,
# weights from $N(0, 0.02^2)$. Without batch norm these are small for narrow nets. He's
# weights (He et al. 2015), $N(0, 2 / n)$ for sums of $n$ products, keep the size from layer to
# layer. (Of a transposed kernel 4-2-1, 4 of 16 weights meet in a pixel: lesson 13.)

# %%
LATENT, BATCH, N = 64, 32, 400 if lesson.fast else 1000  # images: N held out


def generator(channels, side, norm=True, norm_last=False):
    layers = [nn.Dense(LATENT, channels[0] * side * side), nn.Reshape(channels[0], side, side)]
    for inputs, outputs in pairwise([*channels, 1]):
        layers += [nn.BatchNorm2d(inputs)] * norm + [nn.ReLU()]
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
    return nn.Sequential(*layers, *[nn.BatchNorm2d(1)] * norm_last, nn.Tanh())


def discriminator(channels, side, norm=True, norm_first=False):
    layers = []
    for inputs, outputs in pairwise([1, *channels[::-1]]):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1)]
        layers += [nn.BatchNorm2d(outputs)] * (norm_first if inputs == 1 else norm)
        layers += [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dense(channels[0] * side * side, 1))


def start(net, he=False):
    """Draw the weights from N(0, 0.02^2), or He's; set the biases to zero."""
    for layer in net:
        if hasattr(layer, "as_matrix"):  # dense or convolution
            n = layer.as_matrix(layer.weight).shape[1] / 4 ** isinstance(layer, nn.ConvTranspose2d)
            weight = mg.random.normal(layer.weight.shape, stream="init").numpy()
            weight *= (2 / n) ** 0.5 if he else 0.02
            layer.load_state_dict({"weight": weight, "bias": 0 * layer.bias.numpy()})
    return net


def train(G, D, images, rate, steps, seed, frames=1):
    """Return (step, N images by the average of G's weights) at `frames` steps, or the last."""
    opt_g, opt_d = (mg.optim.Adam(x.parameters(), lr=rate, betas=(0.5, 0.999)) for x in (G, D))
    average, gan_loss = mg.optim.ExponentialMovingAverage(G, 0.99), mg.losses.NonSaturating()
    rows, latent = np.random.default_rng(seed), mg.random.normal((N, LATENT), stream="test")

    @mg.capture
    def step(real):
        fake = G(mg.random.normal((BATCH, LATENT)))
        opt_d.step(mg.grad(gan_loss.discriminator(D(real), D(fake.detach())), D.parameters()))
        opt_g.step(mg.grad(gan_loss.generator(D(fake)), G.parameters()))
        average.update()

    film, moments = [], set(np.geomspace(steps, 20, frames).astype(int))
    for i in lesson.progress(range(1, steps + 1), f"seed {seed}"):
        step(mg.tensor(images[rows.integers(N, len(images), BATCH)]))
        if i in moments:
            film.append((i, average.module(latent).numpy()))
    return film


# %% [markdown]
# The measure is the sliced Wasserstein distance (lesson 06) of fake digits (eval mode, averaged
# weights) to held-out ones after 600 steps; its floor is that of *real* digits. *Before you run
# it:* without batch norm in $G$, but with He's weights, is the distance larger or smaller than with
# it, at the paper's rate 0.0002? And at 25 times that rate?

# %%
images = lesson.digits(3000 if lesson.fast else 20_000).values
images = images[rng.permutation(len(images))]
small = np.full((len(images), 1, 16, 16), -1, np.float32)  # 14 x 14 pixels and a black border
small[:, :, 1:15, 1:15] = ops.avg_pool2d(mg.tensor(images), 2).numpy()
parts = range(N, 6 * N, N)  # where parts of N training images begin

WITH, WITHOUT = "the paper's recipe", "G without it,\nHe's weights"
CASES = {  # options of generator(), of discriminator(), and who starts with He's weights
    WITH: ({}, {}, ""),
    "G without it": ({"norm": False}, {}, ""),
    WITHOUT: ({"norm": False}, {}, "G"),
    "D without it,\nHe's weights": ({}, {"norm": False}, "D"),
    "after every\nlayer (002)": ({"norm_last": True}, {"norm_first": True}, ""),
}
RATES, SEEDS = (2e-4, 1e-3, 5e-3), range(1 if lesson.fast else 5)


def small_gan(case, rate, seed, steps=600):
    g_options, d_options, he = CASES[case]
    mg.manual_seed(seed)
    G = start(generator((32, 16, 8), 2, **g_options), "G" in he)
    D = start(discriminator((32, 16, 8), 2, **d_options), "D" in he)
    steps = 500 if lesson.fast and rate < 1e-3 else steps
    return train(G, D, small, rate, steps, seed)[-1][1]


samples, distances = {}, {}
for case, rate in product((WITH, WITHOUT), RATES[::2]) if lesson.fast else product(CASES, RATES):
    samples[case, rate] = [small_gan(case, rate, seed) for seed in SEEDS]
    distances[case, rate] = [distance(x, small[:N]) for x in samples[case, rate]]
    lesson.record(f"distance, {' '.join(case.split())}, rate {rate:g}", distances[case, rate])
lesson.record("floor, 16 x 16", [distance(small[i : i + N], small[:N]) for i in parts])
for rate, bounds in ((2e-4, {"at_most": 0.8}), (5e-3, {"at_least": 1.2})):
    what = f"rate {rate:g}: distance without batch norm in G / with it"
    ratio = np.mean(distances[WITHOUT, rate]) / np.mean(distances[WITH, rate])
    lesson.expect(what, ratio, **bounds)

# %% Figure
with lesson.figure(13, 7, "norm") as figure:
    for axes, (case, rate) in zip(figure.subplots(5, 3).flat, product(CASES, RATES), strict=True):
        axes.set(xticks=[], yticks=[], title=f"rate {rate:g}" if case == WITH else "")
        axes.spines[:].set_visible(False)
        if rate == RATES[0]:
            axes.set_ylabel(case, rotation=0, ha="right", va="center")
        if (case, rate) in samples:
            sheet = pictures.tile(samples[case, rate][0][:20], 10)
            axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)
            mean, error = np.mean(distances[case, rate]), np.std(distances[case, rate]) / 2
            axes.set_xlabel(f"{mean:.3f} ± {error:.3f}")  # of five seeds: sqrt(5 - 1) is 2

# %% [markdown]
# (Pictures: seed 0; numbers: five seeds; floor: 0.021.) So this small generator does not need batch
# norm: with weights of the right size, its distance is a third without it, at the paper's rate and
# at five times that. But batch norm makes $G$ robust: at 25 times the rate, the distance without it
# is three times as large. In the *discriminator* it helps at every rate: without it, samples are
# alike at the two lower ones. As 002 places it, the distance is 1.5 to 2 times the recipe's.
#
# ## A DCGAN on digits
#
# For 28 x 28 pixels the generator doubles 7 x 7 twice; the rate is 0.001. A step of lesson 06's MLP
# takes two thirds of the time, so it gets 1.5 times as many; and it has nine times as many weights.
# *Before you run it:* which comes nearer to the digits?

# %%
STEPS = {"MLP": 220, "DCGAN": 220} if lesson.fast else {"MLP": 1500, "DCGAN": 1000}


def digit_gan(kind, seed):
    mg.manual_seed(seed)
    nets = MODELS["mlp"].build((1, 28, 28), LATENT)
    if kind == "DCGAN":
        nets = start(generator((32, 16), 7)), start(discriminator((32, 16), 7))
    frames = 1 if seed else 5 if lesson.fast else 20
    return train(*nets, images, 1e-3, STEPS[kind], seed, frames)


films = {kind: [digit_gan(kind, seed) for seed in SEEDS] for kind in STEPS}
final = {kind: [distance(film[-1][1], images[:N]) for film in films[kind]] for kind in STEPS}
for kind, values in final.items():
    lesson.record(f"distance of the {kind}'s digits", values)
lesson.record("floor, 28 x 28", [distance(images[i : i + N], images[:N]) for i in parts])
ratio = np.mean(final["DCGAN"]) / np.mean(final["MLP"])
lesson.expect("distance at equal time, DCGAN / MLP", ratio, at_most=1 if lesson.fast else 0.7)

# %% Figure
with lesson.figure(12, 4.3) as figure:
    shown = {"real digits": images[N : N + 64]}
    for kind, values in final.items():
        shown[f"{kind}: distance {np.mean(values):.3f}"] = films[kind][0][-1][1][:64]
    for axes, (title, pixels) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.imshow(pictures.tile(pixels), cmap="gray", vmin=0, vmax=255)
        axes.set(title=title, xticks=[], yticks=[])


def scene(axes, moment):
    axes.imshow(pictures.tile(moment[1][:36], 6), cmap="gray", vmin=0, vmax=255)
    axes.set(title=f"DCGAN, step {moment[0]}", xticks=[], yticks=[])


lesson.film(films["DCGAN"][0], scene, seconds=6)
lesson.finish()

# %% [markdown]
# The DCGAN has half the MLP's distance and clean strokes, but after 1000 steps many are no digits.
#
# ## Exercises
#
# 1. Which of 002's two additional batch norms does the harm at rate 0.001? Add both to `CASES`.
#    <details><summary>Answer</summary> Each: that after $D$'s first layer alone gives 0.48, that
#    after $G$'s last alone 0.41, both together 0.33, the recipe 0.17. </details>
# 2. After 3000 steps at rate 0.001, is the recipe still behind $G$ without batch norm?
#    <details><summary>Answer</summary> No: 0.038 ± 0.002 and 0.039 ± 0.001 (five seeds). Here batch
#    norm slows the beginning, and does not change the end. </details>
# 3. What is the gradient of a bias before batch norm? And if that layer's weights are multiplied by
#    10, what changes in the output of batch norm, and in their gradient?
#    <details><summary>Answer</summary> Zero: the mean contains the bias, so DCGANs usually have
#    none. The output stays the same, and the gradient is a tenth. </details>
#
# Next: 15 Conditional and controllable generators.

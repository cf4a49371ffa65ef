# %% [markdown]
# # 13 A DCGAN, from its convolutions up
#
# 教程 001 称网络为卷积网络，代码却无卷积；002 让判别器含转置卷积，每层都批归一化。
#
# Tutorial 001 (section 5.3; README.md lists the tutorials) calls its nets convolutional; its code
# has no convolution. 002 (sections 3.1 and 3.2) builds both nets from "convolutions and transposed
# convolutions", with batch norm after each. But a discriminator only makes images smaller, so it
# needs no transposed convolution, and its first layer and the generator's last have no batch norm
# (Radford et al. 2016). Why? This lesson writes a convolution as loops, transposes it, looks for
# the checkerboard artifacts of the transposed one, and measures the side effects of batch norm.
# Then it trains a DCGAN, which consists of these parts.

# %%
from dataclasses import replace

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import minigan as mg
from minigan import nn, ops
from minigan.gan.models import MODELS
from minigan.kernels.conv2d import tables
from minigan.training.evaluate import evaluate
from minigan.utils import figures as pictures
from minigan.utils.figures import BLUE, GREEN, GREY, ORANGE, PINK
from minigan.utils.lesson import Lesson, digits, error_of

lesson = Lesson("13_dcgan", "A DCGAN, from its convolutions up")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Seven loops
#
# A convolution puts a small kernel on an image at positions that are `stride` apart, and takes a
# weighted sum of the pixels under it. There are n images of c channels, o kernels, positions (a, b)
# and weights (h, v): seven loops. The image is surrounded by zeros, `padding` pixels wide.


# %%
def direct(x, w, stride, padding):
    size = ((m + 2 * padding - len(w[0, 0])) // stride + 1 for m in x.shape[2:])
    y = np.zeros((len(x), len(w), *size))
    for n, o, a, b, c, h, v in np.ndindex(*y.shape, *w.shape[1:]):
        i, j = a * stride + h - padding, b * stride + v - padding
        if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
            y[n, o, a, b] += x[n, c, i, j] * w[o, c, h, v]
    return y


def conv(x, w, stride=2, padding=1):
    return ops.conv2d(mg.tensor(x), mg.tensor(w), None, stride, padding).numpy()


x, w = rng.normal(size=(2, 3, 8, 6)), rng.normal(size=(4, 3, 4, 4))
y = conv(x, w)
gap = abs(direct(x, w, stride=2, padding=1) - y).max()
lesson.expect("seven loops and ops.conv2d: largest difference", gap, at_most=1e-12)

# %% [markdown]
# ## A matrix product without the matrix
#
# Lesson 03 made a matrix product fast. A convolution is one: give the matrix *im2col* a row for
# each position (n, a, b), which contains the pixels under the kernel in the order of the weights
# (c, h, v). Times the weights, that is y. But a pixel belongs to many positions: with 4 x 4 weights
# and stride 2, the matrix is four times as large as the images, and all of it has to be written and
# read again.
#
# It need not be written. In padded images, from one position to the next, or from one weight to the
# next, the address changes by a fixed number of elements, *independent of the other*: the element
# (position, weight) of im2col is at rows[position] + steps[weight]. Two small tables describe all
# of it. The library's kernel reads its elements in this way, and passes them to the register tile
# of lesson 03 (`kernels/conv2d/product.py`). Its tables are the same as ours, in bytes.

# %%
padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
index = np.arange(padded.size).reshape(padded.shape)  # of each pixel in memory
rows, steps = index[:, 0, :-3:2, :-3:2].reshape(-1), index[0, :, :4, :4].reshape(-1)
matrix = padded.reshape(-1)[rows[:, None] + steps]  # im2col
product = (matrix @ w.reshape(4, -1).T).reshape(2, 4, 3, 4).transpose(0, 3, 1, 2)
lesson.expect("im2col @ weights: largest difference", abs(product - y).max(), at_most=1e-12)
lesson.expect("im2col / images: elements", matrix.size / x.size, equal=4.0)

library = tables.forward((10, 8), (2, 2), (4, 3), w.shape, w.strides, x.itemsize).tables
depth, first_step, first_row = library[:3]  # the number of weights, and the tables' beginnings
theirs = [*library[first_step : first_step + depth], *library[first_row : first_row + 12]]
same = theirs == [x.itemsize * element for element in (*steps, *rows[:12])]  # of one image
lesson.expect("the library's kernel reads by the same tables", same, equal=True)

# %% [markdown]
# ## The transposed convolution
#
# A generator has to increase the number of pixels. Its layer is called a *transposed* convolution,
# and the name is exact. As a function of the image, a convolution is linear, so there is a matrix A
# with conv(x) = A x, 48 x 144 here for one image; its columns are the results for images with a
# single pixel of 1. The transposed convolution is A', with the same weights: each input pixel adds
# a weighted kernel to the output, and where kernels overlap they add up. It is not the inverse (the
# name "deconvolution" is wrong): A has no inverse, as 48 numbers do not determine 144, and A' A x
# is not x.
#
# A' is also what backpropagation multiplies by (lesson 01). The forward pass of a generator uses
# the kernel of a discriminator's backward pass, and one number can be computed in three ways, which
# checks all three kernels at once:
#
#     < conv(x, w), g >  =  < x, conv_transpose(g, w) >  =  < w, weight_grad(x, g) >


# %%
def up(g, w, stride=2, padding=1, more=0):
    return ops.conv_transpose2d(mg.tensor(g), mg.tensor(w), None, stride, padding, more).numpy()


g, weights = rng.normal(size=y.shape), mg.tensor(w, requires_grad=True)
loss = (ops.conv2d(mg.tensor(x), weights, stride=2, padding=1) * mg.tensor(g)).sum()
weight_grad = mg.grad(loss, [weights])[0].numpy()
numbers = [(y * g).sum(), (x * up(g, w)).sum(), (w * weight_grad).sum()]
lesson.expect("one number, three ways: range", np.ptp(numbers) / abs(numbers[0]), at_most=1e-12)

A = conv(np.eye(144).reshape(-1, 3, 8, 6), w).reshape(144, 48).T
B = up(np.eye(48).reshape(-1, 4, 4, 3), w).reshape(48, 144).T
lesson.expect("transposed convolution, as a matrix, - A'", abs(B - A.T).max(), at_most=1e-12)
restored = up(y, w)
restored *= (restored * x).sum() / (restored * restored).sum()  # the factor that fits x best
error = np.linalg.norm(restored - x) / np.linalg.norm(x)
lesson.expect("|A' A x - x| / |x|, at the best scale", error, at_least=0.3)

# %% [markdown]
# ## Why 4-2-1
#
# Kernel 4, stride 2, padding 1 is a DCGAN's usual layer. From m pixels, a convolution with kernel
# k, stride s and padding p makes floor((m + 2p - k) / s) + 1, and a transposed one makes (m - 1) s
# - 2p + k. With s = 2 the first is m / 2 for all even m if k is 2p + 1 or 2p + 2; the second is 2m
# only if k is 2p + 2. So kernels that do both have even sizes, and 4-2-1 is the smallest one whose
# positions overlap.
#
# 3-2-1 halves too. But 28 and 27 pixels both become 14, so the transposed convolution has to choose
# a size, and chooses 27. With `output_padding=1` it makes 28.


# %%
def size(layer, m, k, p, **more):
    return layer(np.zeros((1, 1, m, m)), np.zeros((1, 1, k, k)), 2, p, **more).shape[2]


def exact(layer, factor):
    """List the kernels k and paddings p, as k-2-p, that change any even size m to m * factor."""
    pairs = [(k, p) for k in range(1, 7) for p in range(3)]
    for m in (8, 10, 12, 28):
        pairs = [(k, p) for k, p in pairs if size(layer, m, k, p) == m * factor]
    return " ".join(f"{k}-2-{p}" for k, p in pairs)


for k, p in ((3, 1), (4, 1), (5, 2)):
    (of_28, of_27), of_14 = [size(conv, m, k, p) for m in (28, 27)], size(up, 14, k, p)
    print(f"  {k}-2-{p}: 28 pixels to {of_28}, 27 to {of_27}, and back to {of_14}")
lesson.expect("halve", exact(conv, 0.5), equal="1-2-0 2-2-0 3-2-1 4-2-1 5-2-2 6-2-2")
lesson.expect("double", exact(up, 2), equal="2-2-0 4-2-1 6-2-2")
lesson.expect("14 by 3-2-1, output_padding=1", size(up, 14, 3, 1, more=1), equal=28)

# %% [markdown]
# ## The checkerboard
#
# Place kernels of 3 x 3 weights two pixels apart: some pixels are covered once, some twice, some
# four times. A constant input becomes a checkerboard (Odena et al. 2016). A kernel whose size is a
# multiple of the stride covers all pixels equally often; that is one of their two solutions.
#
# To measure a checkerboard, take the Fourier transform of each row of pixels. A pattern with a
# period of two pixels has the highest frequency that a row can have, 1/2. With all weights 1 and
# kernel 3, pixels are covered in the ratio 1 : 2 along a row, and the energy at frequency 1/2 is
# ((2 - 1) / (2 + 1))^2 = 1/9 of that at frequency 0.


# %%
def spectrum(images):
    """Return the energy at the frequencies 0, ..., 1/2 along a row, the mean of all rows."""
    energy = abs(np.fft.rfft(images, axis=-1)) ** 2
    return energy.reshape(-1, energy.shape[-1]).mean(axis=0)


def resize(x, w):
    return conv(ops.upsample_nearest(mg.tensor(x)).numpy(), w.transpose(1, 0, 2, 3), stride=1)


def inside(layer, weights, k):
    """Apply the layer with 1000 kernels to a constant image; return the output without borders."""
    return layer(np.ones((1, 1, 18, 18)), weights((1, 1000, k, k)))[0, :, 2:34, 2:34]


for k, times in ((3, "1 2 4"), (4, "4")):
    counts = " ".join(map(str, np.unique(inside(up, np.ones, k)).astype(int)))
    lesson.expect(f"kernel {k}: how often pixels are covered", counts, equal=times)

# %% [markdown]
# So with kernel 4 there is no checkerboard? There is none with weights 1. But a net starts with
# random weights, of mean 0. A pixel is then the sum of *its* weights, four with kernel 4, and its
# neighbour the sum of four others: all frequencies that the layer can produce have the same
# expected energy, and kernel 4 is no better than 3. With equal coverage the weights can avoid a
# checkerboard, but they do not do so by themselves. Their other solution makes it impossible: first
# enlarge the image (each pixel becomes a block of four), then convolve with stride 1. Then all
# pixels are sums of the same weights.

# %%
normal = rng.standard_normal
CASES = {
    "kernel 3, weights 1": (up, np.ones, 3, {"at_least": 0.111, "at_most": 0.112}),
    "kernel 4, weights 1": (up, np.ones, 4, {"at_most": 1e-20}),
    "kernel 3, random weights": (up, normal, 3, {"at_least": 0.8, "at_most": 1.25}),
    "kernel 4, random weights": (up, normal, 4, {"at_least": 0.8, "at_most": 1.25}),
    "resized, kernel 3, random weights": (resize, normal, 3, {"at_most": 1e-20}),
}
outputs = {name: inside(layer, draw, k) for name, (layer, draw, k, _) in CASES.items()}
for name, images in outputs.items():
    energy = spectrum(images)
    lesson.expect(f"{name}: energy at 1/2 / at 0", energy[-1] / energy[0], **CASES[name][-1])

# %% [markdown]
# ## Batch norm: outputs depend on the whole batch
#
# Batch norm subtracts a channel's mean and divides by its standard deviation, both over the batch
# (Ioffe and Szegedy 2015). It makes DCGANs trainable, but the output for a sample then depends on
# the other samples of the batch. In eval mode it does not: running moments, collected during
# training, replace those of the batch.


# %%
def apply(net, *parts):
    return net(mg.tensor(np.concatenate(parts))).numpy()[:, 0]


def batch_norm(**options):
    return nn.BatchNorm1d(1, dtype="float64", **options)


sample, others, shifted = (normal((n, 1)) + mean for n, mean in ((1, 0), (63, 0), (63, 5)))
for mode, bounds in (("train", {"at_least": 4}), ("eval", {"equal": 0.0})):
    norm = getattr(batch_norm(), mode)()
    gap = abs(apply(norm, sample, others) - apply(norm, sample, shifted))[0]
    lesson.expect(f"{mode}: a sample in two batches, difference", gap, **bounds)

# %% [markdown]
# This has two consequences for a GAN. First, **real and fake samples in one batch** share their
# moments. Say that fakes have mean 0 and real samples mean 3. In one batch, their sign
# distinguishes them after batch norm. But in the generator's step the fakes are alone, their mean
# is subtracted, and by their sign half of them are real: the discriminator has learned a criterion
# that does not apply to the generator's batch. So real and fake samples go through it as separate
# batches, as in minigan's Trainer. The price is that batch norm now hides a difference of the means
# from the layers above it. The paper has no batch norm at the discriminator's input and at the
# generator's output, because samples oscillated with it.

# %%
fakes, reals = normal((500, 1)), normal((500, 1)) + 3
for rest, bounds in (([reals], {"at_least": 0.9}), ([], {"at_least": 0.4, "at_most": 0.6})):
    share = (apply(batch_norm(), fakes, *rest)[:500] < 0).mean()
    batch = "with real samples" if rest else "alone"
    lesson.expect(f"fakes in a batch {batch}: share below 0", share, **bounds)

# %% [markdown]
# Second, **a gradient penalty**. WGAN-GP moves |dD(x)/dx| towards 1 for each sample, which assumes
# that D(x) depends on x alone. With batch norm, the first output also has a gradient by all other
# inputs. With layer norm, which normalizes within a sample, it has none (Gulrajani et al. 2017,
# section 4).


# %%
def by_others(norm):
    """Return |gradient of the first output by the other inputs| / |by its own input|."""
    D = nn.Sequential(nn.Dense(8, 16), norm, nn.LeakyReLU(0.2), nn.Dense(16, 1))
    points = mg.tensor(normal((16, 8)), dtype="float32", requires_grad=True)
    gradient = mg.grad(D(points)[:1].sum(), [points])[0].numpy()
    return np.linalg.norm(gradient[1:]) / np.linalg.norm(gradient[0])


lesson.expect("batch norm: gradient by others / own", by_others(nn.BatchNorm1d(16)), at_least=0.05)
lesson.expect("layer norm: gradient by others / own", by_others(nn.LayerNorm(16)), equal=0.0)

# %% [markdown]
# ## Batch norm: momentum, and the number 0.8
#
# The running moments start at 0 and 1, and each batch moves them towards its own by a factor m.
# After t batches, (1 - m)^t of the start is left: with m = 0.1, PyTorch's default and ours, it
# takes 44 batches until that is 1 %. Until then, a generator that makes good images in training may
# make noise in eval mode. In Keras, *momentum* means 1 - m, and its default is 0.99. (A small
# difference remains: the variance of the batch is a sum of squares over n, the running variance
# over n - 1.)


# %%
def convergence(momentum, steps=480):
    """Return |train - eval| after each batch, and the batch at which the mean is within 1 %."""
    norm, gaps, errors = batch_norm(momentum=momentum), [], []
    for _ in range(steps):
        train_output = apply(norm.train(), shifted)
        gaps.append(abs(apply(norm.eval(), shifted) - train_output).max())
        errors.append(abs(1 - norm.running_mean.item() / shifted.mean()))
    return gaps, 1 + int(np.argmax(np.array(errors) < 0.01))


convergences = {momentum: convergence(momentum) for momentum in (0.2, 0.1, 0.01)}
counts = " ".join(str(count) for _, count in convergences.values())
lesson.expect("batches, momentum 0.2, 0.1, 0.01 (Keras 0.8, 0.9, 0.99)", counts, equal="21 44 459")

# %% [markdown]
# A common mistake is to translate Keras's `BatchNormalization(momentum=0.8)` to PyTorch as
# `BatchNorm2d(128, 0.8)`. The second argument there is eps, which is added to the variance (issue
# 116 of PyTorch-GAN; a comment there names other code with the same mistake). The output of a
# channel of variance 1 then has variance 0.56, and that of a channel of variance 0.05, which is
# common with small weights, has 0.06: it is hardly normalized. In minigan both are keyword-only.

# %%
for variance in (1.0, 0.05):
    channel = shifted / shifted.std() * np.sqrt(variance)
    measured, formula = apply(batch_norm(eps=0.8), channel).var(), variance / (variance + 0.8)
    what = f"eps 0.8: variance of the output of a channel of variance {variance}"
    lesson.expect(what, round(measured, 4), equal=round(formula, 4))
message = error_of(lambda: nn.BatchNorm2d(128, 0.8))
lesson.expect("BatchNorm2d(128, 0.8)", message, says="takes 2 positional arguments but 3")

# %% [markdown]
# ## The DCGAN
#
# 28 = 7 x 2 x 2: the generator starts with 7 x 7 pixels of many channels and doubles the size twice
# by 4-2-1; the discriminator has the same layers in reverse. Batch norm everywhere except at the
# discriminator's input and the generator's output, ReLU in the generator, LeakyReLU in the
# discriminator, tanh at the end, weights from N(0, 0.02^2), Adam with beta1 0.5: this is the
# paper's recipe, with narrower nets. The samples come from an average of the generator's weights
# over about two hundred steps.

# %%
data = digits(1000 if lesson.fast else 20_000)
steps, rate, batch, ema = (300, 1e-3, 32, 0.9) if lesson.fast else (4000, 2e-4, 64, 0.995)
MODELS["narrow"] = replace(MODELS["dcgan"], width=8 if lesson.fast else 32)
options = {"steps": steps, "batch": batch, "lr_g": rate, "lr_d": rate, "ema": ema}
trainer = mg.Trainer(mg.Config(data=data.name, model="narrow", **options), data)
del MODELS["narrow"]
print(trainer.generator, trainer.discriminator, sep="\n")
start = evaluate(trainer)["sliced_wasserstein"]
before = trainer.average.state_dict()
untrained = trainer.average.module.train()(trainer.fixed_latent).numpy()
rows = [trainer.step() for _ in lesson.progress(range(steps), "digits")]
now, floor = evaluate(trainer).values()
print(f"  distance to held-out digits: {start} at the start, {now} now;")
print(f"  of real digits: {floor} (draws of one run)")
limit = start.mean / 2 if lesson.fast else 4 * floor.mean
lesson.expect("distance of generated digits", now.mean, at_most=limit)

# %% [markdown]
# An average of weights needs running moments too: a copy with averaged parameters and initial
# moments is a different net. minigan's average copies the moments from the generator.

# %%
after = trainer.average.state_dict()
initial_moments = {name: before[name] if "running" in name else x for name, x in after.items()}
trainer.average.load_state_dict(initial_moments)
ratio = evaluate(trainer)["sliced_wasserstein"].mean / now.mean
trainer.average.load_state_dict(after)
lesson.expect("distance without the moments / with them", ratio, at_least=1.5)

# %% [markdown]
# And the checkerboard? It is a peak at frequency 1/2: we divide the energy there by the mean of the
# three frequencies below. Before its first step the generator has one, though its kernels have size
# 4, because its weights are random (and another at 1/4 in the figure, from the layer before, whose
# pixels are doubled after it). Real digits have none, so a discriminator can detect it, and
# training removes it, though slowly. In twelve runs of the fast mode's nets (six seeds, MNIST and
# minigan's own digits) the peak was 1.9 to 16 at the start, 0.4 to 4.8 after 100 steps, 0.8 to 2.2
# after 300, and 0.87 to 0.97 after 800, while real digits have 0.84 and 0.93. So the limit in fast
# mode, after 300 steps, is less strict.

# %%
images = {"real": trainer.held_out.values[:256], "untrained": untrained}
images["generated"] = trainer.sample(256)
spectra = {name: spectrum(x) for name, x in images.items()}
peaks = {name: energy[-1] / energy[-4:-1].mean() for name, energy in spectra.items()}
print("  peak at 1/2:", ", ".join(f"{name} {peak:.2f}" for name, peak in peaks.items()))
lesson.expect("peak, untrained / real", peaks["untrained"] / peaks["real"], at_least=2)
ratio = peaks["generated"] / peaks["real"]
lesson.expect("peak, generated / real", ratio, at_most=4 if lesson.fast else 1.5)

# %% Figure
TINTS = LinearSegmentedColormap.from_list("below and above 0", [BLUE, "#ffffff", ORANGE])


def show(axes, picture, title, **options):
    axes.imshow(picture, **options)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)


def features(D, x):
    """Return x (n, 1, 28, 28), and for each image seven dissimilar maps of the first layer."""
    maps = np.kron(D[1](D[0](mg.tensor(x))).numpy(), np.ones((1, 1, 2, 2)))
    flat = maps.transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    correlation, chosen = abs(np.corrcoef(flat)), [int(flat.std(axis=1).argmax())]
    while len(chosen) < 7:
        chosen.append(int(correlation[chosen].max(axis=0).argmin()))
    maps = maps[:, chosen] / abs(maps[:, chosen]).max(axis=(0, 2, 3), keepdims=True)
    return np.concatenate([x, maps], axis=1).reshape(-1, 1, 28, 28)


with lesson.figure(13, 7.2) as figure:
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    for axes, (name, output) in zip(above.subplots(1, 5), outputs.items(), strict=True):
        patch, energy = output[0, :8, :8], spectrum(output)
        scale = 1.6 * abs(patch).max()
        show(axes, patch / scale, name.replace("resized, ", "resized, 3 x 3, "), cmap=TINTS)
        axes.images[0].set_clim(-1, 1)
        axes.set_title(name.replace(", random", ",\nrandom").replace(", weights", ",\nweights"))
        axes.set_xlabel(f"energy at 1/2 / at 0: {energy[-1] / energy[0]:.2f}")
        if "weights 1" in name:
            for (i, j), times in np.ndenumerate(patch.astype(int)):
                axes.text(j, i, times, ha="center", va="center", fontsize=10)

    curves, grid, maps, lines = below.subplots(1, 4, width_ratios=(1, 1.1, 1.1, 1))
    for (momentum, (gaps, count)), colour in zip(
        convergences.items(), (GREEN, BLUE, PINK), strict=True
    ):
        label = f"momentum {momentum}: {count}"
        curves.semilogy(np.arange(1, len(gaps) + 1), gaps, color=colour, label=label)
    curves.set(xlabel="batches", ylabel="largest |train - eval|", ylim=(0.01, 40))
    curves.set_title("Batches until eval agrees")
    curves.legend(fontsize=10, loc="upper right")
    sheet = pictures.tile(trainer.generate(trainer.fixed_latent))
    show(grid, sheet, f"{data.name}, {steps} steps", cmap="gray", vmin=0, vmax=255)
    samples = np.concatenate([images[name][:4] for name in ("real", "generated")])
    sheet = pictures.tile(features(trainer.discriminator, samples))
    show(maps, sheet, "What D's first layer sees", cmap="gray", vmin=0, vmax=255)
    maps.set_ylabel("generated             real")
    for (name, energy), colour in zip(spectra.items(), (GREY, ORANGE, BLUE), strict=True):
        lines.semilogy(np.arange(15) / 28, energy / energy.sum(), color=colour, label=name)
    lines.set(xlabel="frequency (1 / pixel)", ylabel="share of the energy")
    lines.set_title("Spectrum along a row")
    lines.legend(fontsize=10)

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. Many DCGANs use kernel 5 with stride 2. How often does it cover a pixel? With weights 1, what
#    is its energy at frequency 1/2 over that at 0, and what is it for any odd kernel? With which
#    padding and output_padding does it double every size?
# 2. How many conditions must the 16 weights of a 4 x 4 kernel satisfy so that a constant image
#    stays constant (except at its border) when it is enlarged with stride 2? Show that the outer
#    product of (1, 3, 3, 1) / 4 with itself satisfies them. What is the output for a ramp, with
#    pixels 0, 1, 2, ... along each row?
# 3. In the nets printed above, layers before a batch norm have bias=False. Give one a bias: what is
#    its gradient? And if all its weights are multiplied by 10, what changes in the output of the
#    batch norm, and what in the gradient by these weights?

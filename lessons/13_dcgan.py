# %% [markdown]
# # 13 A DCGAN, from its convolutions up
#
# 教程 001 称网络为卷积网络，代码却无卷积；002 让判别器含转置卷积，每层都批归一化。
#
# Tutorial 001 (section 5.3) calls its nets convolutional; its code has no convolution. 002
# (sections 3.1 and 3.2) builds both players of "convolutions and transposed convolutions", with
# batch norm after each, where a discriminator only ever makes images smaller, and its first layer
# and the generator's last have no batch norm (Radford et al. 2016). Why? This lesson builds one
# convolution from loops, turns it around, looks for the checkerboard that this leaves, and measures
# what batch norm does behind one's back. Then it trains the DCGAN that is made of all this.

# %%
from dataclasses import replace

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import minigan as mg
from frame import Lesson, digits, error_of
from minigan import nn, ops
from minigan.gan.models import MODELS
from minigan.kernels.conv2d import tables
from minigan.training.evaluate import evaluate
from minigan.utils import figures as pictures
from minigan.utils.figures import BLUE, GREEN, GREY, ORANGE, PINK

lesson = Lesson("13_dcgan", "A DCGAN, from its convolutions up")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Seven loops
#
# A convolution lays a small kernel on an image at places that are `stride` apart, and takes a
# weighted sum of the pixels below it. There are n images of c channels, o kernels, places (a, b)
# and weights (h, v): seven loops, and outside of the image there are zeros, `padding` wide.


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
# ## One matrix product that is never written down
#
# Lesson 03 made a matrix product fast. A convolution is one: give the matrix *im2col* a row for
# each place (n, a, b) and, in it, the pixels below the kernel, in the order of the weights (c, h,
# v). Times the weights, that is y. But a pixel lies below many places: with 4 x 4 weights and
# stride 2, the matrix is four times as large as the images, and all of it has to be written, and
# read again.
#
# It need not be written. Where images are padded, going from a place to the next, or from a weight
# to the next, is a fixed number of elements in memory, *whatever the other is*: im2col's element
# (place, weight) lies at rows[place] + steps[weight]. Two small tables hold all of it. The
# library's kernel looks its numbers up like this, and feeds them to the register tile of lesson 03
# (`kernels/conv2d/product.py`). Its tables are ours, in bytes.

# %%
padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
at = np.arange(padded.size).reshape(padded.shape)  # where each pixel lies
rows, steps = at[:, 0, :-3:2, :-3:2].reshape(-1), at[0, :, :4, :4].reshape(-1)
matrix = padded.reshape(-1)[rows[:, None] + steps]  # im2col
product = (matrix @ w.reshape(4, -1).T).reshape(2, 4, 3, 4).transpose(0, 3, 1, 2)
lesson.expect("im2col @ weights: largest difference", abs(product - y).max(), at_most=1e-12)
lesson.expect("im2col / images: elements", matrix.size / x.size, equal=4.0)

library = tables.forward((10, 8), (2, 2), (4, 3), w.shape, w.strides, x.itemsize).tables
depth, first, place = library[:3]  # a record: how many weights, and where the tables begin
theirs = [*library[first : first + depth], *library[place : place + 12]]  # of one image
same = theirs == [x.itemsize * element for element in (*steps, *rows[:12])]
lesson.expect("the library's kernel reads by the same tables", same, equal=True)

# %% [markdown]
# ## Turned around
#
# A generator must go from few pixels to many. Its layer is known as a *transposed* convolution,
# and that is what it is. As a function of the image, a convolution is linear, so there is a matrix
# A with conv(x) = A x, 48 x 144 here for one image; we get its columns by sending in images of one
# pixel each. The transposed convolution is A', with the same weights: each input pixel lays a
# weighted kernel down, and where kernels overlap they add up. It is not the inverse (the name
# "deconvolution" is wrong): A has none, as 48 numbers do not tell 144, and A' A x is not x.
#
# Lesson 01 says what else A' is: what backpropagation multiplies by. A generator's forward pass is
# the kernel of a discriminator's backward pass, and one number can be had in three ways, which
# checks all three kernels at once:
#
#     < conv(x, w), g >  =  < x, conv_transpose(g, w) >  =  < w, weight_grad(x, g) >


# %%
def up(g, w, stride=2, padding=1, more=0):
    return ops.conv_transpose2d(mg.tensor(g), mg.tensor(w), None, stride, padding, more).numpy()


g, weights = rng.normal(size=y.shape), mg.tensor(w, requires_grad=True)
loss = ops.sum(ops.conv2d(mg.tensor(x), weights, stride=2, padding=1) * mg.tensor(g))
weight_grad = mg.grad(loss, [weights])[0].numpy()
ways = [(y * g).sum(), (x * up(g, w)).sum(), (w * weight_grad).sum()]
lesson.expect("one number, three ways: spread", np.ptp(ways) / abs(ways[0]), at_most=1e-12)

A = conv(np.eye(144).reshape(-1, 3, 8, 6), w).reshape(144, 48).T
B = up(np.eye(48).reshape(-1, 4, 4, 3), w).reshape(48, 144).T
lesson.expect("transposed convolution, as a matrix, - A'", abs(B - A.T).max(), at_most=1e-12)
back = up(y, w)
back *= (back * x).sum() / (back * back).sum()  # as near to x as a factor can bring it
off = np.linalg.norm(back - x) / np.linalg.norm(x)
lesson.expect("|A' A x - x| / |x|, at the best scale", off, at_least=0.3)

# %% [markdown]
# ## Why 4-2-1
#
# Kernel 4, stride 2, padding 1 is a DCGAN's usual layer. Of m pixels, a convolution with kernel k,
# stride s and padding p leaves floor((m + 2p - k) / s) + 1, and the way back from m is (m - 1) s -
# 2p + k. With s = 2 the first is m / 2 for all even m if k is 2p + 1 or 2p + 2; the second is 2m
# only if k is 2p + 2. So kernels that do both have even sizes, and 4-2-1 is the smallest one that
# overlaps.
#
# 3-2-1 halves too. But 28 and 27 pixels both become 14: the way back has to choose, and takes 27.
# `output_padding=1` says that 28 was meant.


# %%
def size(layer, m, k, p, **more):
    return layer(np.zeros((1, 1, m, m)), np.zeros((1, 1, k, k)), 2, p, **more).shape[2]


def exact(layer, factor):
    """The kernels k and paddings p, as k-2-p, that bring any even size m to m * factor."""
    found = [(k, p) for k in range(1, 7) for p in range(3)]
    for m in (8, 10, 12, 28):
        found = [(k, p) for k, p in found if size(layer, m, k, p) == m * factor]
    return " ".join(f"{k}-2-{p}" for k, p in found)


for k, p in ((3, 1), (4, 1), (5, 2)):
    to, back = [size(conv, m, k, p) for m in (28, 27)], size(up, 14, k, p)
    print(f"  {k}-2-{p}: 28 pixels to {to[0]}, 27 to {to[1]}, and back to {back}")
lesson.expect("halve", exact(conv, 0.5), equal="1-2-0 2-2-0 3-2-1 4-2-1 5-2-2 6-2-2")
lesson.expect("double", exact(up, 2), equal="2-2-0 4-2-1 6-2-2")
lesson.expect("14 by 3-2-1, output_padding=1", size(up, 14, 3, 1, more=1), equal=28)

# %% [markdown]
# ## The checkerboard
#
# Lay kernels of 3 x 3 weights down two pixels apart: some pixels are covered once, some twice, some
# four times. A constant input comes out as a checkerboard (Odena et al. 2016). A kernel whose size
# is a multiple of the stride covers all pixels alike: their remedy.
#
# To measure it, take the Fourier transform of each row of pixels. A pattern that repeats every
# second pixel is the highest frequency that a row can have, 1/2. With all weights 1 and kernel 3,
# pixels are covered in the ratio 1 : 2 along a row, and the energy at frequency 1/2 is ((2 - 1) /
# (2 + 1))^2 = 1/9 of that at frequency 0.


# %%
def spectrum(images):
    """The energy at the frequencies 0, ..., 1/2 along a row, mean of all rows."""
    energy = abs(np.fft.rfft(images, axis=-1)) ** 2
    return energy.reshape(-1, energy.shape[-1]).mean(axis=0)


def resize(x, w):
    return conv(ops.upsample_nearest(mg.tensor(x)).numpy(), w.transpose(1, 0, 2, 3), stride=1)


def inside(layer, weights, k):
    """What the layer makes of a constant image, without its border; 1000 kernels."""
    return layer(np.ones((1, 1, 18, 18)), weights((1, 1000, k, k)))[0, :, 2:34, 2:34]


for k, times in ((3, "1 2 4"), (4, "4")):
    covered = " ".join(map(str, np.unique(inside(up, np.ones, k)).astype(int)))
    lesson.expect(f"kernel {k}: pixels are covered", covered, equal=times)

# %% [markdown]
# So with kernel 4 there is no checkerboard? There is none with weights 1. A net begins with random
# weights, of mean 0. A pixel then gets the sum of *its* weights, four with kernel 4, and its
# neighbour the sum of four others: all frequencies that the layer can make have the same expected
# energy, and kernel 4 is no better than 3. An even coverage makes it possible for the weights to
# avoid a checkerboard; it does not do it for them. What makes it impossible is their other remedy,
# to enlarge first (each pixel becomes a block of four) and to convolve after, with stride 1: then
# all pixels get the sum of the same weights.

# %%
normal = rng.standard_normal
CASES = {
    "kernel 3, weights 1": (up, np.ones, 3, {"at_least": 0.111, "at_most": 0.112}),
    "kernel 4, weights 1": (up, np.ones, 4, {"at_most": 1e-20}),
    "kernel 3, random weights": (up, normal, 3, {"at_least": 0.8, "at_most": 1.25}),
    "kernel 4, random weights": (up, normal, 4, {"at_least": 0.8, "at_most": 1.25}),
    "resized, kernel 3, random weights": (resize, normal, 3, {"at_most": 1e-20}),
}
made = {name: inside(layer, draw, k) for name, (layer, draw, k, _) in CASES.items()}
for name, images in made.items():
    energy = spectrum(images)
    lesson.expect(f"{name}: energy at 1/2 / at 0", energy[-1] / energy[0], **CASES[name][-1])

# %% [markdown]
# ## Batch norm: a sample is not alone
#
# Batch norm subtracts a channel's mean and divides by its standard deviation, both over the batch
# (Ioffe and Szegedy 2015). It makes DCGANs trainable, and it has a price: what comes out for a
# sample depends on the samples beside it. In eval mode, moments that were collected during training
# take the batch's place, and it does not.


# %%
def through(net, *parts):
    return net(mg.tensor(np.concatenate(parts))).numpy()[:, 0]


def batch_norm(**options):
    return nn.BatchNorm1d(1, dtype="float64", **options)


sample, near, far = (normal((n, 1)) + mean for n, mean in ((1, 0), (63, 0), (63, 5)))
for mode, bounds in (("train", {"at_least": 4}), ("eval", {"equal": 0.0})):
    norm = getattr(batch_norm(), mode)()
    gap = abs(through(norm, sample, near) - through(norm, sample, far))[0]
    lesson.expect(f"{mode}: a sample in two batches, difference", gap, **bounds)

# %% [markdown]
# Two things follow for a GAN. First, **real and fake samples in one batch** share their moments.
# Say that fakes have mean 0 and real samples mean 3. In one batch, a look at the sign tells them
# apart. But when the generator asks, its fakes are alone, their mean is subtracted, and the same
# look finds half of them real: the discriminator has learned a game that the generator does not
# play. So each kind gets a batch of its own, as in minigan's Trainer. There is a price: batch norm
# now hides any difference of the means from the layers above it. The paper leaves it out where the
# discriminator's images come in, and where the generator's go out: with it there, samples
# oscillated.

# %%
fakes, reals = normal((500, 1)), normal((500, 1)) + 3
for company, bounds in (([reals], {"at_least": 0.9}), ([], {"at_least": 0.4, "at_most": 0.6})):
    caught = (through(batch_norm(), fakes, *company)[:500] < 0).mean()
    beside = "with real samples" if company else "alone"
    lesson.expect(f"fakes in a batch {beside}: share below 0", caught, **bounds)

# %% [markdown]
# Second, **a gradient penalty**. WGAN-GP asks that |dD(x)/dx| be 1 for each sample, which takes
# for granted that D(x) depends on x alone. With batch norm, the first output has a gradient by all
# other inputs too. Layer norm, which normalises within a sample, has none (Gulrajani et al. 2017,
# section 4).


# %%
def by_others(norm):
    """|gradient of the first output by the other inputs| / |by its own|"""
    D = nn.Sequential(nn.Dense(8, 16), norm, nn.LeakyReLU(0.2), nn.Dense(16, 1))
    points = mg.tensor(normal((16, 8)), dtype="float32", requires_grad=True)
    (found,) = mg.grad(ops.sum(D(points)[:1]), [points])
    return np.linalg.norm(found.numpy()[1:]) / np.linalg.norm(found.numpy()[0])


lesson.expect("batch norm: gradient by others / own", by_others(nn.BatchNorm1d(16)), at_least=0.05)
lesson.expect("layer norm: gradient by others / own", by_others(nn.LayerNorm(16)), equal=0.0)

# %% [markdown]
# ## Batch norm: momentum, and the number 0.8
#
# Running moments begin at 0 and 1, and each batch moves them a share m of the way. After t
# batches, (1 - m)^t of the beginning is left: with PyTorch's m = 0.1, which is ours, it takes 44
# batches until it is 1 %. Before, a generator that makes good images in training may make noise in
# eval mode. Keras gives the word *momentum* to 1 - m, and its default is 0.99. (A small difference
# stays: the batch divides its sum of squares by n, the running variance is divided by n - 1.)


# %%
def arrive(momentum, steps=480):
    """|train - eval| after each of `steps` batches, and when the mean is within 1 %."""
    norm, gaps, left = batch_norm(momentum=momentum), [], []
    for _ in range(steps):
        there = through(norm.train(), far)
        gaps.append(abs(through(norm.eval(), far) - there).max())
        left.append(abs(1 - norm.running_mean.item() / far.mean()))
    return gaps, 1 + int(np.argmax(np.array(left) < 0.01))


arrivals = {momentum: arrive(momentum) for momentum in (0.2, 0.1, 0.01)}
found = " ".join(str(count) for _, count in arrivals.values())
lesson.expect("batches, momentum 0.2, 0.1, 0.01 (Keras 0.8, 0.9, 0.99)", found, equal="21 44 459")

# %% [markdown]
# Who carries Keras's `BatchNormalization(momentum=0.8)` over to PyTorch as `BatchNorm2d(128, 0.8)`
# has set something else: the second argument is eps, which is added to the variance (issue 116 of
# PyTorch-GAN; a comment there knows other code that does). A channel of variance 1 comes out with
# 0.56, and one of variance 0.05, as small weights make them, with 0.06: it is hardly normalised. In
# minigan both are given by name or not at all.

# %%
for variance in (1.0, 0.05):
    channel = far / far.std() * np.sqrt(variance)
    kept, share = through(batch_norm(eps=0.8), channel).var(), variance / (variance + 0.8)
    what = f"eps 0.8: a channel of variance {variance} gets"
    lesson.expect(what, round(kept, 4), equal=round(share, 4))
refused = error_of(lambda: nn.BatchNorm2d(128, 0.8))
lesson.expect("BatchNorm2d(128, 0.8)", refused, says="takes 2 positional arguments but 3")

# %% [markdown]
# ## The DCGAN
#
# 28 = 7 x 2 x 2: the generator begins with 7 x 7 pixels of many channels and doubles them twice by
# 4-2-1; the discriminator is its mirror image. Batch norm everywhere but where images come in or
# go out, ReLU in the generator, LeakyReLU in the discriminator, tanh at the end, weights from N(0,
# 0.02^2), Adam with beta1 0.5: the paper's recipe, on narrower nets. The samples come from an
# average of the generator's weights over some two hundred steps.

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
played = [trainer.step() for _ in lesson.progress(range(steps), "digits")]
now, floor = evaluate(trainer).values()
print(f"  distance to held-out digits: {start} at the start, {now} now;")
print(f"  of real digits: {floor} (draws of one run)")
bar = start.mean / 2 if lesson.fast else 4 * floor.mean
lesson.expect("distance of generated digits", now.mean, at_most=bar)

# %% [markdown]
# An average of weights needs running moments too: a copy that averages parameters and leaves the
# moments where they began is another net. minigan's average takes them from the generator.

# %%
after = trainer.average.state_dict()
lost = {name: before[name] if "running" in name else x for name, x in after.items()}
trainer.average.load_state_dict(lost)
without = evaluate(trainer)["sliced_wasserstein"].mean / now.mean
trainer.average.load_state_dict(after)
lesson.expect("distance without the moments / with them", without, at_least=1.5)

# %% [markdown]
# And the checkerboard? It stands out as a tooth at frequency 1/2: energy there, over the mean of
# the three frequencies below. Before its first step the generator has one, kernel 4 or not, as its
# weights are random (and another at 1/4 in the figure, from the layer before, whose pixels were
# doubled since). Real digits have none, so a discriminator can see it, and training wears it away,
# though not at once. In twelve runs of the fast mode's nets (six seeds, MNIST and minigan's own
# digits) the tooth was 1.9 to 16 at the start, 0.4 to 4.8 after 100 steps, 0.8 to 2.2 after 300,
# and after 800 it was 0.87 to 0.97, where real digits have 0.84 and 0.93. So in fast mode, after
# 300 steps, we ask for less.

# %%
images = {"real": trainer.held_out.values[:256], "untrained": untrained}
images["generated"] = trainer.sample(256)
spectra = {name: spectrum(x) for name, x in images.items()}
teeth = {name: energy[-1] / energy[-4:-1].mean() for name, energy in spectra.items()}
print("  tooth at 1/2:", ", ".join(f"{name} {tooth:.2f}" for name, tooth in teeth.items()))
worn = teeth["generated"] / teeth["real"]
lesson.expect("tooth, untrained / real", teeth["untrained"] / teeth["real"], at_least=2)
lesson.expect("tooth, generated / real", worn, at_most=4 if lesson.fast else 1.5)

# %% Figure
TINTS = LinearSegmentedColormap.from_list("below and above 0", [BLUE, "#ffffff", ORANGE])


def show(axes, picture, title, **look):
    axes.imshow(picture, **look)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)


def features(D, x):
    """x (n, 1, 28, 28), then seven maps of the first layer, unlike each other: a row for each."""
    maps = np.kron(D[1](D[0](mg.tensor(x))).numpy(), np.ones((1, 1, 2, 2)))
    flat = maps.transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    alike, chosen = abs(np.corrcoef(flat)), [int(flat.std(axis=1).argmax())]
    while len(chosen) < 7:
        chosen.append(int(alike[chosen].max(axis=0).argmin()))
    maps = maps[:, chosen] / abs(maps[:, chosen]).max(axis=(0, 2, 3), keepdims=True)
    return np.concatenate([x, maps], axis=1).reshape(-1, 1, 28, 28)


with lesson.figure(13, 7.2) as figure:
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    for axes, (name, images_made) in zip(above.subplots(1, 5), made.items(), strict=True):
        patch, energy = images_made[0, :8, :8], spectrum(images_made)
        reach = 1.6 * abs(patch).max()
        show(axes, patch / reach, name.replace("resized, ", "resized, 3 x 3, "), cmap=TINTS)
        axes.images[0].set_clim(-1, 1)
        axes.set_title(name.replace(", random", ",\nrandom").replace(", weights", ",\nweights"))
        axes.set_xlabel(f"energy at 1/2 / at 0: {energy[-1] / energy[0]:.2f}")
        if "weights 1" in name:
            for (i, j), times in np.ndenumerate(patch.astype(int)):
                axes.text(j, i, times, ha="center", va="center", fontsize=10)

    curves, grid, maps, lines = below.subplots(1, 4, width_ratios=(1, 1.1, 1.1, 1))
    for (momentum, (gaps, count)), colour in zip(
        arrivals.items(), (GREEN, BLUE, PINK), strict=True
    ):
        label = f"momentum {momentum}: {count}"
        curves.semilogy(np.arange(1, len(gaps) + 1), gaps, color=colour, label=label)
    curves.set(xlabel="batches", ylabel="largest |train - eval|", ylim=(0.01, 40))
    curves.set_title("Batches until eval agrees")
    curves.legend(fontsize=10, loc="upper right")
    sheet = pictures.tile(trainer.generate(trainer.fixed_latent))
    show(grid, sheet, f"{data.name}, {steps} steps", cmap="gray", vmin=0, vmax=255)
    four = np.concatenate([images[name][:4] for name in ("real", "generated")])
    sheet = pictures.tile(features(trainer.discriminator, four))
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
# 1. Kernel 5 with stride 2 is in many DCGANs. How often does it cover a pixel? With weights 1, what
#    is its energy at frequency 1/2 over that at 0, and what is it for any odd kernel? Which padding
#    and output_padding make it double every size?
# 2. How many conditions must the 16 weights of a 4 x 4 kernel fulfil so that a constant image stays
#    constant (inside) when it is enlarged by stride 2? Show that the outer product of (1, 3, 3, 1)
#    / 4 with itself fulfils them. What does it make of a ramp, with pixels 0, 1, 2, ... along each
#    row?
# 3. In the listing above, layers before a batch norm have bias=False. Give one a bias: what is its
#    gradient? And if its weights are all multiplied by 10, what changes in the output of the batch
#    norm, and what in the gradient by these weights?

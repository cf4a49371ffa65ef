# %% [markdown]
# # 13 Convolutions and the checkerboard
#
# 教程 002 说判别器也含转置卷积。判别器只缩小图像，用不着它；生成器用得着，却会产生棋盘格。
#
# Most GANs for images are built from convolutions. Tutorial 001 (section 5.3; README.md lists the
# tutorials) calls its nets convolutional, and 002 (3.1, 3.2) says that both nets have convolutions
# *and* transposed ones; the code of both has only dense layers. You will write a convolution as
# loops and as a product with a matrix that is never stored, see that a transposed convolution is
# exactly the transposed matrix, and find out why so many GANs use kernel 4, stride 2, padding 1.
# Then you will see the checkerboard that transposed convolutions make, and that the usual advice
# against it, a kernel size divisible by the stride, is only half of the truth.
#
# Needs: 01 (a gradient is a product with a transposed matrix); 03 helps (the fast matrix product).

# %%
import numpy as np

import minigan as mg
from minigan import ops
from minigan.utils.figures import DISCRIMINATOR, GENERATOR, GREEN, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("13_convolutions", "Convolutions and the checkerboard")
rng = np.random.default_rng(0)
normal = rng.standard_normal

# %% [markdown]
# ## Seven loops
#
# A convolution puts a small kernel $w$ on an image at positions that are $s$ pixels apart (the
# *stride*), and takes a weighted sum of the pixels under it. The image is surrounded by $p$ pixels
# of zeros (the *padding*). Along one axis, with a kernel of size $k$:
#
# $$y_a = \sum_{h=0}^{k-1} w_h \, x_{as + h - p}$$
#
# For $n$ images of $c$ channels, $o$ kernels, positions $(a, b)$ and weights $(h, v)$ that is seven
# loops.


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


x, w = normal((2, 3, 8, 6)), normal((4, 3, 4, 4))  # two images of three channels, four kernels
y = conv(x, w)
gap = abs(direct(x, w, stride=2, padding=1) - y).max()
lesson.expect("seven loops and ops.conv2d: largest difference", gap, at_most=1e-12)

# %% [markdown]
# ## A matrix product without the matrix
#
# Lesson 03 made a matrix product fast, and a convolution is one. Give a matrix, *im2col*, a row for
# each position $(n, a, b)$, with the pixels under the kernel in the order of the weights
# $(c, h, v)$. Times the weights, that is $y$. But a pixel is under the kernel at several positions,
# so it is copied several times. *Before you run it:* with 4 x 4 weights and stride 2, how many
# times as large as the images is the matrix?
#
# The library does not store it. Where a pixel of the padded images lies in memory is a sum of two
# numbers: one depends only on the position, the other only on the weight. So the element (position,
# weight) of im2col is the number at `rows[position] + steps[weight]`: two short tables describe all
# of it, and the library's kernel reads its input through these two, without what is padding
# (`kernels/conv2d/README.md`, "implicit GEMM": two to three times as fast).

# %%
padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
index = np.arange(padded.size).reshape(padded.shape)  # of each pixel in memory
rows, steps = index[:, 0, :-3:2, :-3:2].reshape(-1), index[0, :, :4, :4].reshape(-1)
matrix = padded.reshape(-1)[rows[:, None] + steps]  # im2col, written here only to measure it
product = (matrix @ w.reshape(4, -1).T).reshape(2, 4, 3, 4).transpose(0, 3, 1, 2)
lesson.record("im2col @ weights and ops.conv2d: largest difference", abs(product - y).max())
print(f"  numbers: images {x.size}, im2col {matrix.size}, tables {len(rows) + len(steps)}")
lesson.expect("numbers in im2col / numbers in the images", matrix.size / x.size, equal=4.0)

# %% [markdown]
# ## The transposed convolution
#
# A generator has to *increase* the number of pixels. Its layer is called a transposed convolution,
# and the name is exact. A convolution is linear in the image, so there is a matrix $A$ with
# $\mathrm{conv}(x) = A x$. The transposed convolution is $A^\top$, with the same weights: where the
# convolution reads pixel $i$ with weight $w_h$ and adds to $y_a$, the transposed one reads $y_a$,
# multiplies by $w_h$ and adds to pixel $i$. Arrows turn round, colours stay (figure below). For
# every $x$ and every $g$ of the size of $y$
#
# $$\langle A x, g \rangle = \langle x, A^\top g \rangle$$
#
# This *adjoint test* finds any error in one of the two kernels. *Before you run it:* would the two
# sides still agree if one of the two used the weights in reverse order?


# %%
def up(g, w, stride=2, padding=1, more=0):
    return ops.conv_transpose2d(mg.tensor(g), mg.tensor(w), None, stride, padding, more).numpy()


g = normal(y.shape)
left, right = (y * g).sum(), (x * up(g, w)).sum()
lesson.expect("adjoint test: |left - right| / |left|", abs(left / right - 1), at_most=1e-12)

# %% [markdown]
# They agree only with the same order: `--bug 3` reverses it. $A^\top$ is not the inverse (the name
# "deconvolution" is wrong): here 4 x 4 x 3 = 48 numbers cannot bring back 3 x 8 x 6 = 144, and
# $A^\top A x$ is far from $x$, even at the scale that fits best: the error is 0.90 of $|x|$.
#
# Now back to tutorial 002: does a *discriminator* contain transposed convolutions? It maps 784
# pixels to one number, so its layers make images smaller, and a layer that enlarges them would
# only add work for the next. (A generator of both kinds can work. Discriminators that judge
# every pixel do enlarge again: Schönfeld et al. 2020.) But backpropagation multiplies by transposed
# matrices (lesson 01). *Before you run it:* which operation computes the gradient of a
# discriminator's loss with respect to the input of a convolution?

# %%
image = mg.tensor(x, requires_grad=True)
loss = (ops.conv2d(image, mg.tensor(w), stride=2, padding=1) * mg.tensor(g)).sum()
gap = abs(mg.grad(loss, [image])[0].numpy() - up(g, w)).max()
lesson.expect("gradient by the input - transposed convolution", gap, at_most=1e-12)
restored = up(y, w)
restored *= (restored * x).sum() / (restored * restored).sum()  # the factor that fits x best
lesson.record("|A'A x - x| / |x|, best scale", np.linalg.norm(restored - x) / np.linalg.norm(x))

# %% Figure
COLOURS = [GENERATOR, DISCRIMINATOR, GREEN, PINK]  # of the weights 0, 1, 2, 3
ARROW = {"arrowstyle": "-|>", "lw": 1.6, "shrinkA": 9, "shrinkB": 9}


def wires(axes, k, transposed):
    """Draw, for kernel k, stride 2, padding 1, which pixels belong to which of 4 positions."""
    pixels, centre = 4 + k, (k - 3) / 2
    counts, pixel_row = np.zeros(pixels, int), 0 if transposed else 1
    for a, h in np.ndindex(4, k):
        i = 2 * a + h - 1
        if 0 <= i < pixels:
            counts[i] += 1
            ends = [(i, pixel_row), (2 * a + centre, 1 - pixel_row)]
            style = {**ARROW, "color": COLOURS[h]}
            axes.annotate("", ends[1 - transposed], ends[transposed], arrowprops=style)
    for places, row in ((range(pixels), pixel_row), (2 * np.arange(4) + centre, 1 - pixel_row)):
        axes.plot(places, np.full(len(places), row), "s", ms=17, mfc="white", mec="#555555")
    for i in range(pixels * transposed):
        axes.text(i, 0, counts[i], ha="center", va="center")
    axes.set(xlim=(-0.7, 7.7), ylim=(-0.15, 1.1))
    axes.set_axis_off()


with lesson.figure(13, 3.2, "reads") as figure:
    first, matrix, second, third = figure.subplots(1, 4, width_ratios=(1.1, 0.8, 1.1, 1.1))
    for axes, k, transposed, title in (
        (first, 4, False, "Convolution 4-2-1: 8 to 4"),
        (second, 4, True, "Transposed: 4 to 8"),
        (third, 3, True, "Transposed, kernel 3: 4 to 7"),
    ):
        wires(axes, k, transposed)
        axes.set_title(title)
    for a, h in np.ndindex(4, 4):
        if 0 <= 2 * a + h - 1 < 8:
            matrix.plot(2 * a + h - 1, a, "s", ms=18, color=COLOURS[h])
            matrix.text(2 * a + h - 1, a, f"$w_{h}$", color="white", ha="center", va="center")
    matrix.set(xlim=(-0.6, 7.6), ylim=(3.6, -0.6), aspect="equal", xticks=[], yticks=[])
    matrix.set(title="Its matrix A", xlabel="8 pixels", ylabel="4 positions")

# %% [markdown]
# ## Why 4-2-1
#
# From $m$ pixels, a convolution with kernel $k$, stride $s$, padding $p$ makes
# $\lfloor (m + 2p - k) / s \rfloor + 1$, and a transposed one makes $(m - 1) s - 2p + k$. With
# $s = 2$ the second is $2m$ only if $k = 2p + 2$; then the first halves every even $m$. 3-2-1
# halves too, but both 28 and 27 pixels become 14, so the transposed layer has to choose, and
# chooses 27 (or 28 with `output_padding=1`). *Before you run it:* which kernels up to 6 double
# every size exactly?


# %%
def size(layer, m, k, p, **more):
    return layer(np.zeros((1, 1, m, m)), np.zeros((1, 1, k, k)), 2, p, **more).shape[2]


def exact(layer, factor):
    """List the kernels k and paddings p, as k-2-p, that change any even size m to m * factor."""
    pairs = [(k, p) for k in range(1, 7) for p in range(3)]
    for m in (8, 10, 12, 28):
        pairs = [(k, p) for k, p in pairs if size(layer, m, k, p) == m * factor]
    return " ".join(f"{k}-2-{p}" for k, p in pairs)


print("  halve:", exact(conv, 0.5))
lesson.expect("kernel-stride-padding that double", exact(up, 2), equal="2-2-0 4-2-1 6-2-2")

# %% [markdown]
# 2-2-0 writes blocks that do not overlap, so 4-2-1 is the smallest kernel that doubles exactly and
# whose neighbouring positions share pixels.
#
# ## The checkerboard
#
# Place kernels of 3 x 3 weights two pixels apart: along each axis, pixels are covered once, twice,
# once, twice (figure above, right); in the plane 1, 2 or 4 times. With all weights 1, a constant
# input becomes a checkerboard (Odena et al. 2016). A kernel whose size is a multiple of the stride
# covers all pixels equally often. That is the usual advice: take kernel 4.
#
# To measure a checkerboard, take the Fourier transform of each row of pixels. The checkerboard has
# a period of two pixels, the highest frequency that a row can have. Divide its energy by that at
# frequency 0. For the pattern 1, 2, 1, 2 that is $((2 - 1) / (2 + 1))^2 = 1/9$.
#
# But a net starts with *random* weights. A pixel is then the sum of its four weights, and its
# neighbour the sum of four *other* weights. *Before you run it:* for random weights, is the ratio
# of kernel 4 about 0, about 1/9 or about 1? And if the image is first enlarged (each pixel becomes
# a block of 2 x 2) and then convolved with stride 1?


# %%
def resize(x, w):
    return conv(ops.upsample_nearest(mg.tensor(x)).numpy(), w.transpose(1, 0, 2, 3), stride=1)


def ratio(images):
    """Return the energy at the highest frequency along a row over that at 0, mean of all rows."""
    energy = (abs(np.fft.rfft(images, axis=-1)) ** 2).reshape(-1, 17).mean(axis=0)
    return energy[-1] / energy[0]


CASES = {
    "kernel 3, weights 1": (up, np.ones((1, 1, 3, 3))),
    "kernel 4, weights 1": (up, np.ones((1, 1, 4, 4))),
    "kernel 3, random": (up, normal((1, 1000, 3, 3))),  # the mean of a thousand kernels
    "kernel 4, random": (up, normal((1, 1000, 4, 4))),
    "resized, 3, random": (resize, normal((1, 1000, 3, 3))),
}
flat = np.ones((1, 1, 18, 18))
outputs = {name: layer(flat, w)[0, :, 2:34, 2:34] for name, (layer, w) in CASES.items()}
ratios = {name: ratio(images) for name, images in outputs.items()}
for name in list(CASES)[:3]:
    lesson.record(f"checkerboard energy, {name}", ratios[name])
random = ratios["kernel 4, random"]
lesson.expect("checkerboard energy, kernel 4, random", random, at_least=0.8, at_most=1.25)
resized = ratios["resized, 3, random"]
lesson.expect("checkerboard energy, resized, 3, random", resized, at_most=1e-20)

# %% [markdown]
# About 1: as much energy at the highest frequency as at zero, so kernel 4 is no better than 3 when
# training begins. Weights *can* avoid the checkerboard (those of kernel 3 too: 1, 2, 1 along each
# axis), but must learn it: the four sums must become equal (exercise 2). With the other solution of
# Odena et al., a constant image stays constant: its pixels are sums of the *same* weights. The
# figure shows each case on a constant image and on a digit; of a thousand random kernels, the one
# with the largest mean, so that it is bright.

# %% Figure
digit = lesson.digits(1000).values[:1]
half = ops.avg_pool2d(mg.tensor(digit.astype(np.float64)), 2).numpy() + 1  # black is 0

with lesson.figure(13, 6.1) as figure:
    grid = figure.subplots(2, 5)
    for (above, below), (name, (layer, w)) in zip(grid.T, CASES.items(), strict=True):
        brightest = int(outputs[name].mean(axis=(1, 2)).argmax())
        patch, picture = outputs[name][brightest, :8, :8], layer(half, w)[0, brightest]
        decimals = 0 if "weights 1" in name else 1
        above.imshow(patch, cmap="Greys", vmin=0, vmax=1.7 * patch.max())
        for (i, j), value in np.ndenumerate(patch):
            above.text(j, i, f"{value:.{decimals}f}", ha="center", va="center", fontsize=8)
        above.set_title(name)
        below.imshow(picture, cmap="gray", vmin=0, vmax=np.quantile(picture, 0.995))
        below.set_xlabel(f"checkerboard energy: {ratios[name]:.2f}")
        for axes in (above, below):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    grid[0, 0].set_ylabel("of a constant image")
    grid[1, 0].set_ylabel("of a digit, 14 x 14")

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. Many nets use kernel 5 with stride 2. With weights 1, how often is a pixel covered, and what is
#    the checkerboard's energy? With which padding and output padding does it double every size?
#    <details><summary>Answer</summary> 4, 6 or 9 times (2 or 3 along an axis). The energy is 1/25
#    ((3 - 2) / (3 + 2), squared), for an odd kernel k it is 1/k^2: larger kernels have a weaker
#    checkerboard, but have one. Padding 2 and output padding 1. </details>
# 2. How many conditions must the 16 weights of a 4 x 4 kernel satisfy so that a constant image
#    stays constant (except at its border)? Does the outer product of (1, 3, 3, 1) / 4 with itself
#    satisfy them, and what does it make of a ramp with pixels 0, 1, 2, ... along each row?
#    <details><summary>Answer</summary> Three: the four sums of every second weight, along both
#    axes, must be equal. It does: along each axis the sums are (1 + 3) / 4 = 1 and (3 + 1) / 4 = 1.
#    A ramp stays a ramp, half as steep: it is bilinear interpolation. </details>
# 3. A discriminator begins with a convolution 3-2-1 of weights 1, and the gradient at all of its
#    outputs is 1. What is the gradient at the pixels of the image? And with 4-2-1?
#    <details><summary>Answer</summary> The gradient is a transposed convolution, so it is a
#    checkerboard of 1, 2 and 4: the pixels of a fake are pushed with unequal force. With 4-2-1 it
#    is 4 everywhere inside. So the kernel size matters in the discriminator too. </details>
#
# Next: 14 Batch norm and a DCGAN.

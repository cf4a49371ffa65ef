# %% [markdown]
# # 01 A gradient by finite differences
#
# 四篇教程的代码都靠框架求梯度，没有检验过；001 手推的生成器梯度就是错的。
# 这一课只用函数值来检验梯度，并说明什么样的检验会放过错误。
#
# Training a GAN means following gradients, so a wrong gradient ruins it, mostly without any error
# message. Four of the five tutorials (README.md in this folder lists them) contain code; it takes
# all gradients from a framework and checks none. 001 also derives two by hand. In its section 4.2,
# the generator's loss, and its gradient with respect to the generated samples, are
#
# $$L_G = -\frac1N \sum_{i=1}^N \log\big(1 - D(G(z_i))\big), \qquad
#   \nabla_{G(z)} L_G = -\frac1N \sum_{i=1}^N \nabla_{G(z)} D(G(z_i))$$
#
# Is that gradient right? You will find out with two evaluations of the loss, then see how accurate
# such a check can be, and two checks that accept a wrong gradient.
# Needs: 00 (the discriminator D, the generator G, the sigmoid).

# %%
import numpy as np

import minigan as mg
from minigan import ops
from minigan.engine.check import check_gradients, check_op
from minigan.utils.figures import DATA, GENERATOR, GREEN, GREY, PINK
from minigan.utils.lesson import Lesson, error_of

lesson = Lesson("01_finite_differences", "A gradient by finite differences")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Is it right?
#
# Take one fake x = G(z), a number, and the simplest discriminator, D(x) = sigmoid(x). Then the
# loss is $L = -\log(1 - D(x)) = \log(1 + e^x)$, a function called softplus, and the printed
# gradient is $-D'(x) = -D(x)(1 - D(x))$. From x - h to x + h, with a small h, the loss changes by
# about $2h$ times its derivative. So its derivative is about
#
# $$\frac{L(x + h) - L(x - h)}{2h}$$
#
# a *central difference*. Take a fake that D takes for real: D(x) = 0.9. Before you run it: are the
# sign and the size of the printed gradient right there?


# %%
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


def printed(x):
    return -sigmoid(x) * (1 - sigmoid(x))


ratio = printed(np.log(9)) / central(softplus, np.log(9), 1e-5)  # sigmoid(log 9) = 0.9
lesson.expect("001's gradient / measured, D = 0.9", ratio, at_least=-0.101, at_most=-0.099)

# %% Figure
with lesson.figure(8, 3.9, "tutorial") as figure:
    axes, line = figure.add_subplot(), np.linspace(-5, 5, 201)
    dots = np.log(9) + 0.75 * np.arange(-9, 4)
    axes.plot(line, sigmoid(line), color=GENERATOR, lw=1.5)
    axes.plot(dots, central(softplus, dots, 1e-5), "o", color=GENERATOR)
    axes.plot(line, printed(line), color=PINK)
    axes.axhline(0, color="black", lw=0.8)
    axes.axvline(np.log(9), color="black", lw=1, ls=":")
    axes.text(np.log(9) + 0.12, 0.45, "D = 0.9:\n0.9 against $-$0.09")
    axes.text(-4.9, 0.3, "dots: differences of the loss\nline: $D'/(1 - D) = D$", color=GENERATOR)
    axes.text(-4.9, -0.3, "printed in 001: $-D'$", color=PINK)
    axes.set(xlabel="the fake x", ylim=(-0.4, 1.05), title="The gradient of $-\\log(1 - D(x))$")

# %% [markdown]
# The sign is wrong, and the size too: -0.09 where the loss has the slope 0.9. By the chain rule,
#
# $$\frac{d}{dx} \big[-\log(1 - D(x))\big] = \frac{D'(x)}{1 - D(x)}$$
#
# The printed gradient is that of $-D(x)$: the factor $1/(1 - D)$ is missing, and the sign is wrong.
# It is easy to overlook, because the loss has a wrong sign too: a G that minimizes $-\log(1 - D)$
# learns to be detected. The two signs cancel: a program that descended the printed gradient would
# fool D, with steps of another size. (The program in 5.2 uses neither: its loss is $-\log D$.)
#
# ## How small should h be?
#
# Such differences check every gradient of this library, so they should be accurate. There is a
# cheaper one too, the *forward* difference. By Taylor's theorem,
#
# $$\frac{f(x + h) - f(x)}{h} = f'(x) + \frac h2 f''(x) + \dots, \qquad
#   \frac{f(x + h) - f(x - h)}{2h} = f'(x) + \frac{h^2}6 f'''(x) + \dots$$
#
# With a ten times smaller h, the error of the first is ten times smaller, that of the second a
# hundred times. But f is computed with rounding: each value is off by at most about $u |f|$, where
# $u = 2^{-53}$ is half the distance between 1 and the next float64. Divided by h, that error
# *grows* as h shrinks. For the central one, the bound on both errors and the best h are
#
# $$\frac{h^2}6 |f'''| + \frac{u |f|}h, \qquad h^* = \Big(\frac{3\, u\, |f|}{|f'''|}\Big)^{1/3}$$
#
# Before you run it: about how large is that best h for softplus, if f is about 1.7 and its third
# derivative 0.1? ($u \approx 10^{-16}$.) The cell measures the error at 1001 points x for each h.


# %%
def forward(f, x, h):
    return (f(x + h) - f(x)) / h


def error_curve(difference, x, steps):
    """Return the median over the points x of |difference - derivative|, for each step."""
    slopes = [difference(softplus, x, x.dtype.type(h)) for h in steps]
    return np.median(abs(slopes - sigmoid(x.astype(np.float64))), axis=1)


points, steps = rng.uniform(1, 2, 1001), 2.0 ** -np.arange(3, 45)
errors = {f.__name__: error_curve(f, points, steps) for f in (forward, central)}
D = sigmoid(points)
third = D * (1 - D) * (1 - 2 * D)
u = 2.0**-53
h_best = np.median((3 * u * softplus(points) / abs(third)) ** (1 / 3))
best = steps[errors["central"].argmin()]
lesson.expect("best h, measured / predicted", best / h_best, at_least=1 / 3, at_most=3)
lesson.record("predicted best h", h_best)
lesson.record("smallest error, central", errors["central"].min())
lesson.record("smallest error, forward", errors["forward"].min())

# %% [markdown]
# About $2 \cdot 10^{-5}$; there a central difference has eleven correct digits; a forward one has
# eight at its own best h. An h of $10^{-12}$, "as small as possible", would leave four.
#
# ## The first trap: float32
#
# Training runs in float32, where $u = 2^{-24}$ is half a billion times larger. Suppose that a
# gradient is wrong by 0.4 % (a mean divided by 255 in place of 256), and that you check it in
# float32 with h = 1e-6. Before you run it: is the error of the check itself below 0.4 %?

# %%
single = error_curve(central, points.astype(np.float32), np.array([1e-6]))[0] / np.median(D)
lesson.expect("float32, h = 1e-6: relative error", single, at_least=0.004)
double = error_curve(central, points, np.array([1e-6]))[0] / np.median(D)
lesson.record("float64, h = 1e-6: relative error", double)
errors["float32"] = error_curve(central, points.astype(np.float32), steps)

# %% Figure
with lesson.figure(10, 4.9) as figure:
    axes = figure.add_subplot()
    for name, colour in {"float32": PINK, "forward": GREEN, "central": "black"}.items():
        axes.loglog(steps, errors[name], "o-", color=colour, ms=4, lw=1)
    bound = steps**2 / 6 * np.median(abs(third)) + u * np.median(softplus(points)) / steps
    axes.loglog(steps, bound, color=GREY, lw=3, zorder=0)
    axes.axvline(h_best, color=GREY, lw=1, ls="--", zorder=0)
    axes.axvline(1e-6, color="black", lw=1, ls=":", zorder=0)
    axes.text(h_best * 1.2, 2e-14, f"$h^*$ = {h_best:.0e}", color=DATA)
    axes.text(0.8e-6, 2e-14, "h = 1e-6", ha="right")
    axes.text(1e-11, 2, "float32, central", color=PINK)
    axes.text(0.8e-6, 8e-7, "float64, forward", color=GREEN, ha="right")
    axes.text(2e-3, 3e-9, "float64, central")
    axes.text(2e-12, 2e-4, "the bound, $h^2 |f'''|/6 + u|f|/h$", color=DATA)
    axes.set(xlabel="h", ylabel="median error of the derivative", ylim=(1e-15, 20))
    axes.set_title("Too large an h, and too small")

# %% [markdown]
# It is not: 4.6 %. The rounding of f alone makes noise of 3 %; and x + h is rounded too: near 1.5,
# float32 numbers are $2^{-23}$ apart. So h is 8.4 of these steps, x + h becomes x + 8 steps, and
# every result is 4.6 % too small. (With h below half a step, x + h equals x: the flat part of
# the curve.) If you loosen the tolerance until the check passes, it accepts wrong gradients too. So
# **check in float64**. The code is the same for both; only the dtype differs.
#
# ## Many inputs, many outputs
#
# A net has a matrix of derivatives, the *Jacobian*: $J_{ij} = \partial f_i / \partial x_j$. Central
# differences give one column for each input. For two small layers, $y = \tanh(x A) B$, the chain
# rule gives it too, $J = B^T \mathrm{diag}(1 - \tanh^2(x A))\, A^T$. minigan's `mg.grad` goes
# backwards: given one number per output, the *cotangent* g, it computes the vector-Jacobian product
# (VJP) $g J$ without ever building J. With g = (0, 1, 0), that is the second row of J.


# %%
def jacobian(f, x, h=1e-6):
    columns = [(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))]
    return np.stack(columns, axis=1)


x, A, B = rng.normal(size=5), rng.normal(size=(5, 4)), rng.normal(size=(4, 3))
J = jacobian(lambda x: np.tanh(x @ A) @ B, x)
by_hand = B.T @ np.diag(1 - np.tanh(x @ A) ** 2) @ A.T
with mg.use_device("reference"):  # numpy in float64
    t = mg.tensor(x, requires_grad=True)
    y = (t @ mg.tensor(A)).tanh() @ mg.tensor(B)
    rows = np.stack([mg.grad(y, [t], grad_output=mg.tensor(g))[0].numpy() for g in np.eye(3)])
lesson.record("two layers: |differences - chain rule|", abs(J - by_hand).max())
lesson.record("two layers: |differences - mg.grad|", abs(J - rows).max())

# %% [markdown]
# ## One random direction, one random cotangent
#
# The generator of tutorial 000 has 560,000 parameters and 784 outputs: its Jacobian by central
# differences costs a million forward passes. A cheaper test needs two. For any direction v and any
# cotangent g, with $\langle a, b \rangle$ the sum of products of the elements,
#
# $$\langle g,\, J v \rangle = \langle g J,\, v \rangle$$
#
# The left side is a central difference along v, the right side one VJP. If the VJP is wrong, the
# two differ for random g and v (with probability one). This is the complete check:


# %%
def mismatch(f, vjp, x, g, v, h=1e-6):
    """Return |<g, Jv> - <vjp(g), v>| over the larger of the two."""
    numeric = ((f(x + h * v) - f(x - h * v)) / (2 * h) * g).sum()
    exact = (vjp(g) * v).sum()
    return abs(numeric - exact) / max(abs(numeric), abs(exact))


# %% [markdown]
# ## The second trap: a cotangent of ones
#
# Many home-made checks differentiate `f(x).sum()`: the cotangent 1, 1, 1, .... Here is a function
# that reorders three axes. Its VJP has to reverse that. A common mistake is to apply the same
# permutation once more (with two axes that would be right). Before you run it: does a check with
# 60 random directions v notice the mistake if g is all ones? And if g is random?


# %%
def rotate(x):
    return x.transpose(1, 2, 0)


def right_vjp(g):
    return g.transpose(2, 0, 1)


def wrong_vjp(g):
    return g.transpose(1, 2, 0)


cube, ones = rng.normal(size=(4, 4, 4)), np.ones((4, 4, 4))
draws = [rng.normal(size=(2, 4, 4, 4)) for _ in range(60)]
by_ones = [mismatch(rotate, wrong_vjp, cube, ones, v) for _, v in draws]
by_random = [mismatch(rotate, wrong_vjp, cube, g, v) for g, v in draws]
lesson.expect("wrong VJP, g = ones: largest mismatch", np.max(by_ones), at_most=1e-6)
lesson.expect("wrong VJP, random g: smallest mismatch", np.min(by_random), at_least=1e-3)
right = [mismatch(rotate, right_vjp, cube, g, v) for g, v in draws]
lesson.record("right VJP, random g: largest mismatch", np.max(right))

# %% Figure
with lesson.figure(11, 4.2, "cotangents") as figure:
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    cases = [(right_vjp, draws, "Right VJP, random g"), (wrong_vjp, draws, "Wrong VJP, random g")]
    cases.append((wrong_vjp, [(ones, v) for _, v in draws], "Wrong VJP, g = ones"))
    for axes, (vjp, pairs, title) in zip(panels, cases, strict=True):
        axes.axline((0, 0), slope=1, color=GREY, lw=1, zorder=0)
        for g, v in pairs:
            colour = GREEN if vjp is right_vjp else PINK
            axes.plot((rotate(v) * g).sum(), (vjp(g) * v).sum(), "o", mew=0, color=colour)
        axes.set(xlabel="$\\langle g, Jv \\rangle$, by differences", title=title)
    panels[0].set_ylabel("$\\langle gJ, v \\rangle$, by the VJP")

# %% [markdown]
# A sum does not change when its terms are reordered, so ones never detect a permutation; a random g
# did every time. `check_gradients`, the library's checker, draws g and v and compares in float64 as
# `mismatch` does. It rejects an op with this VJP. (An `Op` is a function with its VJPs: lesson 02.)
# Then every op of the library is checked, except at kinks, where there is no derivative; and the
# gradients of the gradients, which WGAN-GP needs (lesson 11). How many of the ops are wrong?

# %%
rotate_op = mg.Op("rotate", rotate, vjps=(lambda g, y, x: ops.transpose(g, 1, 2, 0),))
print(" ", error_of(lambda: check_gradients(rotate_op, [cube])))
del mg.Op.registry["rotate"]

results = [check_op(op, "reference", order=2) for op in mg.Op.registry.values()]
lesson.record("ops that have a derivative to check", sum(bool(r.samples) for r in results))
wrong = [r.failure for r in results if r.failure]
lesson.expect("ops whose gradients of order 1 or 2 are wrong", len(wrong), equal=0)

# %%
lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. $(-f(x + 2h) + 8 f(x + h) - 8 f(x - h) + f(x - 2h)) / 12h$ is the five-point formula. How does
#    its error fall with h, and how many times smaller is its smallest error than that of `central`?
#    <details><summary>Answer</summary>Like $h^4$: its smallest error, at h = 0.002, is
#    about 90 times smaller.</details>
# 2. Softmax has the VJP $(g - \langle g, y \rangle)\, y$. Someone forgets the second term: $g y$.
#    Does a cotangent of ones find that? Why not the same answer as in the second trap?
#    <details><summary>Answer</summary>It does, and so does a random g. The outputs of softmax add
#    up to 1, whatever x does, so with ones the differences say 0, and the wrong VJP says
#    $\langle y, v \rangle$. Ones find what breaks a sum, not what reorders it.</details>
# 3. For a function that accepts complex numbers, $\mathrm{Im} f(x + ih) / h$ has no subtraction, so
#    rounding does no harm. How small may h be, and how large is the error for softplus at 1e-100?
#    <details><summary>Answer</summary>As small as float64 can be without losing digits, about
#    1e-308; the error at 1e-100 is at most 2.3e-16, the last digit.</details>
#
# Next: 02 writes `grad` itself.

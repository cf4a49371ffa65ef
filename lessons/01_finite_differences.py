# %% [markdown]
# # 01 A gradient by finite differences
#
# 五篇教程的代码都靠框架求梯度，没有检验过；001 手推的生成器梯度就是错的。这一课教怎样检验梯度。
#
# The five tutorials (README.md in this folder lists them) never check a gradient. Their code takes
# all of them from a framework, and of the two that 001 writes by hand (section 4.2), the
# generator's lacks a factor, and its sign does not fit the loss above it. This lesson shows how to
# check a gradient with nothing but the function itself, how accurate that can be, and two ways in
# which a check can mislead. Everything else in this project relies on such checks.

# %%
import numpy as np

import minigan as mg
from minigan import ops
from minigan.engine.check import check_gradients, check_op
from minigan.utils.figures import BLUE, GREY, ORANGE, PINK
from minigan.utils.lesson import Lesson, error_of

lesson = Lesson("01_finite_differences", "A gradient by finite differences")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Two differences
#
# The discriminator's loss on a fake of logit x is softplus(x) = log(1 + exp(x)), and its derivative
# is sigmoid(x). Suppose we did not know that. By Taylor's theorem,
#
#     forward:  (f(x + h) - f(x)) / h         = f'(x) + h/2 f''(x) + ...
#     central:  (f(x + h) - f(x - h)) / (2h)  = f'(x) + h^2/6 f'''(x) + ...
#
# so a smaller h is better, and central differences gain two digits for each digit of h.


# %%
def softplus(x):
    return np.log1p(np.exp(x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(f, x, h):
    return (f(x + h) - f(x)) / h


def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


def error_curve(difference, x, steps):
    """Median over the points x of |difference - derivative|, for each step."""
    exact = sigmoid(x.astype(np.float64))
    return np.array(
        [np.median(abs(difference(softplus, x, x.dtype.type(h)) - exact)) for h in steps]
    )


points = rng.uniform(1, 2, 1001)
steps = 2.0 ** -np.arange(3, 45)
errors = {f.__name__: error_curve(f, points, steps) for f in (forward, central)}

# %% [markdown]
# But f is computed with rounding: each value is off by at most about u |f|, where u = 2^-53 is half
# the spacing of float64 above 1. Divided by h, that error grows as h shrinks. So in a log-log plot
# the error is a V with two straight arms, of slopes +2 (or +1) and -1. The sum h^2/6 |f'''| +
# u |f| / h is smallest at
#
#     h* = (3 u |f| / |f'''|)^(1/3)
#
# (The measured left arm lies below this estimate, because most rounding errors are smaller than
# their bound.)


# %%
def slope(errors, largest, smallest):
    """d log(error) / d log(h) over the steps from `largest` down to `smallest`."""
    part = (steps <= largest) & (steps >= smallest)
    return np.polyfit(np.log(steps[part]), np.log(errors[part]), 1)[0]


lesson.expect(
    "central differences, large h: slope of the error",
    slope(errors["central"], 1e-1, 1e-3),
    at_least=1.9,
    at_most=2.1,
)
lesson.expect(
    "forward differences, large h: slope",
    slope(errors["forward"], 1e-1, 1e-5),
    at_least=0.9,
    at_most=1.1,
)
lesson.expect(
    "both, small h: slope",
    slope(errors["central"] + errors["forward"], 1e-9, 1e-13),
    at_least=-1.1,
    at_most=-0.9,
)

D = sigmoid(points)
third = D * (1 - D) * (1 - 2 * D)
u = 2.0**-53
best_in_theory = np.median((3 * u * softplus(points) / abs(third)) ** (1 / 3))
best = steps[errors["central"].argmin()]
lesson.expect("best h / h*", best / best_in_theory, at_least=1 / 3, at_most=3)

# %% [markdown]
# ## The first trap: float32
#
# Training runs in float32, where u = 2^-24: the left arm of its V is 2^29 times higher. Check a
# float32 gradient at h = 1e-6, a usual step for float64, and the error is 5 %: a derivative that is
# wrong by 0.4 % (say, 255 in place of 256) is not detected. The rounding of f alone is noise of
# 3 %. And x + h is rounded as well: 1e-6 is 8.4 spacings of x and is rounded to 8, so all results
# are 4.6 % too small. (Where h is below half a spacing, x + h equals x: the flat part in the
# figure.) People then loosen the tolerance until the check passes; from then on it passes
# everything. So: **check in float64**. The code is the same for both, only the dtype differs.

# %%
BUG = 0.004
for dtype, bounds in (("float64", {"at_most": BUG / 1e4}), ("float32", {"at_least": BUG})):
    noise = error_curve(central, points.astype(dtype), [1e-6])[0] / np.median(D)
    lesson.expect(f"relative error in {dtype} at h = 1e-6 (the bug: {BUG})", noise, **bounds)
errors["float32"] = error_curve(central, points.astype(np.float32), steps)

# %% [markdown]
# ## Many inputs, many outputs
#
# A net has a matrix of derivatives, the Jacobian J. Central differences give it column by column.
# For two small layers, y = tanh(x A) B, the chain rule gives it too:
#
#     J = B' diag(1 - tanh(x A)^2) A'        (' transposes)


# %%
def jacobian(f, x, h=1e-6):
    """J[i, j] = d f_i / d x_j, two evaluations of f for each input."""
    columns = [(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))]
    return np.stack(columns, axis=1)


x, A, B = rng.normal(size=5), rng.normal(size=(5, 4)), rng.normal(size=(4, 3))
J = jacobian(lambda x: np.tanh(x @ A) @ B, x)
by_hand = B.T @ np.diag(1 - np.tanh(x @ A) ** 2) @ A.T
lesson.expect("two layers: |differences - chain rule|", abs(J - by_hand).max(), at_most=1e-8)

# %% [markdown]
# minigan's `grad` goes backwards: from a cotangent g, one number per output, it computes g J, the
# vector-Jacobian product (VJP), without ever building J. With g = (0, 1, 0) it is J's second row.

# %%
with mg.use_device("reference"):
    t = mg.tensor(x, requires_grad=True)
    y = (t @ mg.tensor(A)).tanh() @ mg.tensor(B)
    rows = [mg.grad(y, [t], grad_output=mg.tensor(g))[0].numpy() for g in np.eye(3)]
lesson.expect("two layers: |differences - mg.grad|", abs(J - rows).max(), at_most=1e-8)

# %% [markdown]
# ## One random direction, one random cotangent
#
# Tutorial 000's generator has 560,000 parameters and 784 outputs: its Jacobian by central
# differences costs a million forward passes. There is a cheaper test. For any direction v and
# cotangent g, both sides of
#
#     < g, J v >  =  < g J, v >
#
# are the same number: the left one takes two evaluations of f, the right one takes one VJP. If the
# VJP is wrong, then for random g and v the two differ (with probability one). The function
# `mismatch` is the whole checker.


# %%
def mismatch(f, vjp, x, g, v, h=1e-6):
    """|<g, Jv> - <vjp(g), v>| over the larger of the two."""
    numeric = ((f(x + h * v) - f(x - h * v)) / (2 * h) * g).sum()
    exact = (vjp(g) * v).sum()
    return abs(numeric - exact) / max(abs(numeric), abs(exact))


# %% [markdown]
# ## The second trap: a cotangent of ones
#
# Many home-made checks differentiate `f(x).sum()`. That is the cotangent g = 1, 1, 1, ..., which no
# permutation changes. Here is a transposition of three axes, whose VJP is the inverse
# transposition, and a common bug: the same permutation again. (With two axes it would be right,
# which is why this bug survives.)


# %%
def rotate(x):
    return x.transpose(1, 2, 0)


def right_vjp(g):
    return g.transpose(2, 0, 1)


def wrong_vjp(g):
    return g.transpose(1, 2, 0)


cube = rng.normal(size=(4, 4, 4))
draws = [[rng.normal(size=cube.shape) for _ in "gv"] for _ in range(60)]
ones = np.ones_like(cube)
wrong_ones = [mismatch(rotate, wrong_vjp, cube, ones, v) for _, v in draws]
wrong_random = [mismatch(rotate, wrong_vjp, cube, g, v) for g, v in draws]
right_random = [mismatch(rotate, right_vjp, cube, g, v) for g, v in draws]
lesson.expect("wrong VJP, cotangent of ones: largest mismatch", np.max(wrong_ones), at_most=1e-6)
lesson.expect(
    "wrong VJP, random cotangents: smallest mismatch", np.min(wrong_random), at_least=1e-3
)
lesson.expect("right VJP, random cotangents: largest mismatch", np.max(right_random), at_most=1e-6)

# %% [markdown]
# ## The library's checker is this one
#
# `mg.check.check_gradients` draws g and v, takes central differences in float64 at h = 1e-6, and
# asks for |difference| <= 1e-8 + 1e-6 max(...). With our g and v it finds our number (at h = 0.01,
# where the error is no longer rounding). An op with the wrong VJP is refused. (`Op` is what lesson
# 02 is about.)


# %%
def net(t):
    return (t @ mg.tensor(A, device="reference")).tanh()


def net_vjp(g):
    return (g * (1 - np.tanh(x @ A) ** 2)) @ A.T


theirs = check_gradients(net, [x], order=1, seed=7, eps=0.01, rtol=1, atol=0)[0]
draw = np.random.default_rng(7)
g, v = draw.standard_normal(4), draw.standard_normal(5)
ours = mismatch(lambda x: np.tanh(x @ A), net_vjp, x, g, v, h=0.01)
gap = abs(theirs / ours - 1)
lesson.expect("the library's mismatch / ours - 1", gap, at_most=1e-6)

mg.Op.registry.pop("rotate", None)  # A notebook may run this cell twice.
rotate_op = mg.Op("rotate", rotate, vjps=(lambda g, y, x: ops.transpose(g, 1, 2, 0),))
message = error_of(lambda: check_gradients(rotate_op, [cube]))
lesson.expect("the wrong VJP as an op", message, says="GradientError: f, order 1")
del mg.Op.registry["rotate"]

# %% [markdown]
# And now every op of the library that has a derivative, on all of its samples that do not lie on a
# kink: its gradients, and the gradients of those (a WGAN-GP penalty needs them).

# %%
results = [check_op(op, "reference", order=2) for op in mg.Op.registry.values()]
checked = [result for result in results if result.samples or result.failure]
worst = max(error for result in checked for error in result.errors)
samples = sum(result.samples for result in checked)
print(f"  {len(checked)} ops, {samples} samples; the worst error is {worst:.2f} of what is allowed")
lesson.expect("ops that have a derivative to check", len(checked), at_least=40)
wrong = [result.failure for result in checked if result.failure]
lesson.expect("ops whose gradients of order 1 or 2 are wrong", len(wrong), equal=0)

# %% Figure
with lesson.figure(11, 4.6) as figure:
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    curves = (("forward", ORANGE, "float64, forward"), ("central", BLUE, "float64, central"))
    for name, colour, label in (*curves, ("float32", PINK, "float32, central")):
        left.loglog(steps, errors[name], "o-", color=colour, ms=3, lw=1, label=label)
    theory = steps**2 / 6 * np.median(abs(third)) + u * np.median(softplus(points)) / steps
    left.loglog(
        steps, theory, color=GREY, zorder=0, label="rounding at u|f|: $h^2|f'''|/6 + u|f|/h$"
    )
    left.axvline(best_in_theory, color=GREY, lw=1, ls="--", zorder=0)
    left.text(best_in_theory * 1.3, 1, f"$h^*$ = {best_in_theory:.0e}", color="#555555")
    left.set(xlabel="step h", ylabel="median |error| of f'", ylim=(1e-15, 10))
    left.set_title("A step that is too large, and one that is too small")
    left.legend(loc="lower left", fontsize=10)

    ones_only = [(ones, v) for _, v in draws]
    kinds = ((right_vjp, draws, BLUE, "right VJP"), (wrong_vjp, draws, ORANGE, "wrong VJP"))
    for vjp, pairs, colour, label in (*kinds, (wrong_vjp, ones_only, PINK, "wrong VJP, g = ones")):
        numeric = [(rotate(v) * g).sum() for g, v in pairs]
        exact = [(vjp(g) * v).sum() for g, v in pairs]
        right.plot(numeric, exact, "o", ms=5, mew=0, alpha=0.7, color=colour, label=label)
    right.set(xlabel="< g, J v >, how f changes along v", ylabel="< VJP(g), v >")
    right.set_title("Ones do not detect a permutation")
    right.legend(loc="lower right", fontsize=10)
    right.set(ylim=(-35, 22))

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. Add the five-point formula (-f(x+2h) + 8 f(x+h) - 8 f(x-h) + f(x-2h)) / (12 h). What are the
#    slopes of its V, and how many times smaller is its smallest error than that of central
#    differences?
# 2. A VJP of softmax that forgets its second term returns g y instead of (g - <g, y>) y, where < >
#    sums over the softmax's axis. Does a cotangent of ones find it? Does a random one? Why does the
#    first answer differ from what the second trap above makes you expect?
# 3. For complex-analytic f, Im f(x + ih) / h has no subtraction and so no left arm. How small can h
#    be, and what error do you get for softplus at h = 1e-100?

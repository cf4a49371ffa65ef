# %% [markdown]
# # 00 A GAN in twenty lines of numpy
#
# 用二十行 numpy 写出一个完整的 GAN，梯度手工推导；本课解释每一行的作用，并指出后面哪一课展开讲。
#
# A program that draws new faces has no rule for faces; it has only seen examples. How can it learn
# from examples to make more of them? One answer is a *generative adversarial network*, a GAN
# (Goodfellow et al. 2014): a game of two players. This lesson builds one in twenty lines and shows
# what happens inside. The examples are numbers instead of faces, so each sample is a point on a
# line and you can see everything. Each later lesson opens up some of these twenty lines.
#
# The five Chinese tutorials that the lessons discuss (README.md lists them) describe the game in
# words (000 and 001, section 3.1; 003, section 2.2), then go straight to images, where nobody sees
# how a gradient moves a sample. Needs: some Python and the chain rule.

# %%
import numpy as np

from minigan.utils.figures import DATA, DISCRIMINATOR, GENERATOR
from minigan.utils.lesson import Lesson  # for checks and figures; the GAN is only numpy

lesson = Lesson("00_gan_in_numpy", "A GAN in twenty lines of numpy")

# %% [markdown]
# ## The game
#
# - **The data.** Somebody gives us examples, as many as we like, but not the rule that makes them.
#   These are the *real* samples. Here they are numbers from a normal distribution with mean 2 and
#   standard deviation (sd) 0.7. (You could simply compute the mean and the sd of the examples. But
#   what would you compute for faces? A GAN needs no answer to that.)
# - **The generator, G,** makes samples too: the *fakes*. Without something random it would always
#   make the same number. So it gets a random number $z$, the *noise*, from a normal distribution
#   with mean 0 and sd 1, and turns it into $G(z) = a z + b$. It learns its two *parameters* $a$ and
#   $b$. The fakes have mean $b$ and sd $|a|$; the goal is $b = 2$ and $|a| = 0.7$.
# - **The discriminator, D,** gets a sample, real or fake, and answers with the probability that it
#   is real, a number $D(x)$ between 0 and 1. It learns to be right.
# - **The game.** D wants to distinguish real from fake; G wants D to believe that its fakes are
#   real. G never sees a real sample. All that it learns about the data, it learns through D.

# %% Figure
with lesson.figure(10, 3.4, "game") as figure:
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(0, 34))
    axes.set_axis_off()
    boxes = [(8, 25, "noise  z", "#777777"), (8, 8, "data", DATA), (92, 16, "0 to 1", "#777777")]
    boxes += [(34, 25, "generator G", GENERATOR), (66, 16, "discriminator D", DISCRIMINATOR)]
    for x, y, text, colour in boxes:
        box = {"boxstyle": "round,pad=0.6", "fc": "white", "ec": colour, "lw": 2}
        axes.text(x, y, text, ha="center", va="center", bbox=box, color=colour)
    ways = [((14, 25), (25.5, 25), 0, "#777777", "", 0, 0)]
    ways += [((42.5, 23.5), (55.5, 18), 0, GENERATOR, "fakes", 47, 17)]
    ways += [((12, 8.5), (55.5, 14), 0, DATA, "real samples", 32, 6.5)]
    ways += [((76.5, 16), (87, 16), 0, "#777777", "real?", 81.5, 17.5)]
    ways += [((92, 12.5), (66, 12), -0.4, DISCRIMINATOR, "Was D right? Change D.", 79, 1)]
    text = "Did D take the fakes\nfor real? Change G."
    ways += [((92, 19.5), (36, 28.5), 0.3, GENERATOR, text, 67, 23.5)]
    for start, end, bend, colour, text, x, y in ways:
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1.5, "ls": "--" if bend else "-"}
        style["connectionstyle"] = f"arc3,rad={bend}"
        axes.annotate("", end, start, arrowprops=style)
        axes.text(x, y, text, color=colour, ha="center")

# %% [markdown]
# ## How D answers, and what the players want
#
# D computes a score, the *logit* $s$, with three parameters $w$, and turns it into a probability:
#
# $$s(x) = w_0 + w_1 x + w_2 x^2, \qquad D(x) = \frac{1}{1 + e^{-s(x)}}.$$
#
# Logit 0 means D = 1/2, logit 5 means 0.993, logit -5 means 0.007. A positive $w_1$ says "further
# right is more real", a positive $w_2$ "the sides are more real than the middle".
#
# A *loss* is a number that a player wants to make small. For a real sample D's loss is
# $-\log D(x)$: near 0 if D is sure that it is real, large if D is sure of the opposite. For a fake
# it is $-\log(1 - D(x))$. G's loss is large where D recognizes its fakes. Averaged over many
# samples (the bar is the average, and $|w|^2 = w_0^2 + w_1^2 + w_2^2$):
#
# $$L_D = -\overline{\log D(\text{real})} - \overline{\log(1 - D(\text{fake}))}
# + 0.05\,|w|^2, \qquad L_G = -\overline{\log D(\text{fake})}.$$
#
# (Exercise 2 is about the last term of $L_D$. 000, section 4.2, and 002, section 3.3, say that G
# *minimizes* the rate of D's errors on fakes: the opposite. 002's formula, section 3.4, is right.)
#
# ## Three derivatives
#
# Each player lowers its loss by *gradient descent*: it computes the derivative of its loss with
# respect to each of its parameters (together: the *gradient*), and changes each a little in the
# opposite direction. How does the loss change with the logit? Because $dD/ds = D (1 - D)$,
#
# $$\frac{d}{ds}\bigl(-\log D\bigr) = -\frac{D (1 - D)}{D} = D - 1, \qquad
# \frac{d}{ds}\bigl(-\log(1 - D)\bigr) = \frac{D (1 - D)}{1 - D} = D - 0.$$
#
# Both are *the answer minus the right answer*, which is 1 for a real sample and 0 for a fake: D's
# *error*. The derivatives of the logit with respect to $w_0, w_1, w_2$ are $1, x, x^2$. So take the
# mean of error times $(1, x, x^2)$ over real samples, add that over fakes, and $0.1\,w$ for the
# extra term: this is the gradient of $L_D$.
#
# G's parameters act *through* D: parameter, fake, logit, loss. The derivative of the logit with
# respect to the fake $x$ is $w_1 + 2 w_2 x$. So
#
# $$\text{arrow}(x) = -\frac{d}{dx}\bigl(-\log D(x)\bigr) = (1 - D(x))\,(w_1 + 2 w_2 x)$$
#
# says in which direction, and how strongly, this fake should move to look more real to D. A fake
# $a z + b$ moves by $z$ if $a$ grows by 1, and by 1 if $b$ does. So the gradient of $L_G$ is
# $-\overline{\text{arrow} \cdot z}$ for $a$, and $-\overline{\text{arrow}}$ for $b$.
#
# ## The twenty lines: the complete GAN


# %%
def D(x, w):
    return 1 / (1 + np.exp(-(w[0] + w[1] * x + w[2] * x**2)))


def gradient_d(w, real, fake):
    x = np.concatenate([real, fake])
    error = np.concatenate([D(real, w) - 1, D(fake, w) - 0])
    return np.array([error.sum(), (error * x).sum(), (error * x**2).sum()]) / len(real) + 0.1 * w


def gradient_g(a, b, z, w):
    fake = a * z + b
    arrow = (1 - D(fake, w)) * (w[1] + 2 * w[2] * fake)
    return np.array([-(arrow * z).mean(), -arrow.mean()])


def train(seed, steps=1000, n=1000, rate_d=0.1, rate_g=0.1):
    random = np.random.default_rng(seed)
    a, b, w = 1.0, 0.0, np.zeros(3)
    path = [(a, b, *w)]
    for _ in range(steps):
        real, z = random.normal(2.0, 0.7, n), random.normal(0.0, 1.0, n)
        w = w - rate_d * gradient_d(w, real, a * z + b)
        a, b = (a, b) - rate_g * gradient_g(a, b, z, w)
        path.append((a, b, *w))
    return np.array(path)


# %% [markdown]
# At first G returns its noise unchanged (`a, b = 1.0, 0.0`), and D answers 1/2 to everything (`w`
# is 0). Each step draws `n` real samples and `n` random numbers. D learns a little from real
# samples and fakes; then G learns a little from the D that has just learned. Each changes only its
# own parameters. (000, section 3.1, updates G in D's step too: a mistake.) The rates say how far a
# step goes: with `rate_d=0.2`, D overshoots, and the fakes shrink to a point. `path` is for
# figures. Each line leads to a later lesson:
#
# | in the twenty lines | the question behind it | lesson |
# | --- | --- | --- |
# | `gradient_d`, `gradient_g` | Is my derivative right? Can a program derive it? | 01, 02 |
# | `np.exp`, `*`, `.sum()` | How does a CPU, or a GPU, do this fast? | 03, 04 |
# | `D(x, w)` | What is the best D, and what does G minimize against it? | 05 |
# | `for _ in range(steps)` | The same loop with nets, for points in the plane and digits | 06 |
# | `- 1`, `- 0`, `rate_g` | Which mistakes run without an error message? | 07 |
# | `a, b = ...` | How does G fail, and how do you notice? | 08 |
# | `+ 0.1 * w` | Why do the players circle, and what stops them? | 09, 12 |
# | `(1 - D(fake, w))` | Which other losses are there? | 10, 11 |
# | `a * z + b`, `w[0] + ...` | What takes their place for images? | 13, 14 |
#
# ## Are the gradients right?
#
# A wrong derivative raises no error message, so we test ours. Change one parameter by a tiny $h$,
# up and down: $(L(w + h) - L(w - h)) / 2h$ is nearly the derivative. Its error is about $h^2$, plus
# that of rounding, about $10^{-16} / h$. Before you run it: how large is it for $h = 10^{-5}$?


# %%
def losses(parameters, real, z):
    a, b, *w = parameters
    fake = a * z + b
    loss_d = -np.log(D(real, w)).mean() - np.log(1 - D(fake, w)).mean() + 0.05 * np.dot(w, w)
    return np.array([loss_d, -np.log(D(fake, w)).mean()])


random, h = np.random.default_rng(0), 1e-5
real, z, at = random.normal(2.0, 0.7, 1000), random.normal(size=1000), random.normal(size=5)
nudges = h * np.eye(5)  # one parameter at a time
slopes = [losses(at + nudge, real, z) - losses(at - nudge, real, z) for nudge in nudges]
slopes_d, slopes_g = np.transpose(slopes) / (2 * h)
gap_d = slopes_d[2:] - gradient_d(at[2:], real, at[0] * z + at[1])
gap_g = slopes_g[:2] - gradient_g(at[0], at[1], z, at[2:])
gap = np.abs([*gap_d, *gap_g]).max()
lesson.expect("gradients by hand and by differences: gap", gap, at_most=1e-7)

# %% [markdown]
# ## Does it learn, every time?
#
# With GANs one good run proves little: with another *seed* (the number that starts the random
# numbers) it may fail. So we run ten seeds and look at the worst. For comparison: the mean of 1000
# real samples misses 2 by about $0.7 / \sqrt{1000} = 0.022$, their sd 0.7 by about 0.016. Will the
# mean and the sd of the fakes miss by less than 0.05 with every seed?

# %%
seeds = range(3 if lesson.fast else 10)
paths = np.array([train(seed) for seed in seeds])  # (seeds, steps + 1, parameters)
mean, sd = paths[:, :, 1], abs(paths[:, :, 0])
lesson.expect("mean of the fakes: worst seed's error", abs(mean[:, -1] - 2).max(), at_most=0.05)
lesson.expect("sd of the fakes: worst seed's error", abs(sd[:, -1] - 0.7).max(), at_most=0.05)
lesson.record("mean of the fakes after 1000 steps (data: 2)", mean[:, -1])
lesson.record("sd of the fakes after 1000 steps (data: 0.7)", sd[:, -1])

# %% Figure
x = np.linspace(-3, 5, 400)
density = np.exp(-0.5 * ((x - 2) / 0.7) ** 2) / (0.7 * np.sqrt(2 * np.pi))
with lesson.figure(13, 7) as figure:
    figure.get_layout_engine().set(w_pad=0.08)
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    strip = above.subplots(1, 4, sharey=True)
    for axes, step in zip(strip, (0, 30, 150, 1000), strict=True):
        a, b, *w = paths[0, step]
        fakes = a * np.random.default_rng(1).normal(size=20_000) + b
        axes.fill_between(x, density, color=DATA, alpha=0.35, lw=0)
        axes.hist(fakes, np.linspace(-3, 5, 65), density=True, color=GENERATOR, alpha=0.55)
        axes.plot(x, D(x, w), color=DISCRIMINATOR, lw=2.5)
        for fake in a * np.array([-1.6, -0.8, 0, 0.8, 1.6]) + b:
            arrow = 3 * (1 - D(fake, w)) * (w[1] + 2 * w[2] * fake)
            axes.plot(fake, -0.07, "o", ms=4, color=GENERATOR)
            if abs(arrow) > 0.05:
                style = {"arrowstyle": "-|>", "color": GENERATOR, "lw": 1.5, "shrinkA": 0}
                axes.annotate("", (fake + arrow, -0.07), (fake, -0.07), arrowprops=style)
        axes.set(xlim=(-3, 5), ylim=(-0.14, 1.05), yticks=(0, 0.5, 1), title=f"step {step}")
    strip[0].set_ylabel("density, or D's probability")
    strip[0].text(3.1, 0.32, "real", color=DATA)
    strip[0].text(-2.2, 0.3, "fake", color=GENERATOR)
    strip[0].text(-2.9, 0.54, "D(x)", color=DISCRIMINATOR)
    panels = zip(below.subplots(1, 2), (mean, sd), (2, 0.7), ("mean", "sd"), strict=True)
    for axes, curves, target, name in panels:
        axes.plot(curves.T, color=GENERATOR, lw=1, alpha=0.7)
        axes.axhline(target, color=DATA, ls="--", lw=1.5)
        title = f"{name} of the fakes, {len(seeds)} seeds (dashed: of the data, {target})"
        axes.set(xlabel="step", xlim=(0, 1000), title=title)

# %% [markdown]
# Every seed is within 0.014 of the mean and 0.010 of the sd. Upper row (seed 0): data grey, fakes
# blue, D orange; the dots are five fakes, with their arrows (drawn three times as long).
#
# - **Step 0.** D's curve is flat: no fake is pushed anywhere. D must learn first.
# - **Step 30.** D has noticed that real samples lie further right. The arrows point there, too.
# - **Step 150.** The fakes have arrived, and crowd where D's answer is highest. D lags behind: soon
#   it notices that samples at the sides are mostly real; then the arrows turn, and the fakes move
#   apart again (lower row, right).
# - **Step 1000.** Real and fake are alike, and D's curve is flat again, at 1/2.
#
# ## What is D's loss at the end?
#
# Usually in machine learning a loss near zero means success. Before you run the next cell: will D's
# loss (without its extra term) go to zero?

# %%
loss, answer = [], []
for path in paths:
    real, z = random.normal(2.0, 0.7, 100_000), random.normal(0.0, 1.0, 100_000)
    loss.append(losses(path[-1], real, z)[0] - 0.05 * (path[-1, 2:] ** 2).sum())
    answer.append(D(real, path[-1, 2:]).mean())
lesson.expect("D's loss at the end, mean of the seeds", np.mean(loss), at_least=1.38, at_most=1.39)
lesson.record("D's answer for real samples at the end", answer)

# %% [markdown]
# No: it ends where it began. If real and fake are alike, D's best answer is 1/2, as 001 says
# (section 3.1), and its loss $2 \log 2 = 1.386$. A D with loss zero recognizes every fake: bad news
# for G. But the loss was 1.386 at step 0 too, so it does not tell you whether G is good.
#
# ## G learns only what D can see
#
# Now take $x^2$ away from D: with the rate 0, $w_2$ stays 0. D can still say "further right is more
# real", and nothing else. What will G learn, and what not?

# %%
blind = np.array([train(seed, rate_d=np.array([0.1, 0.1, 0.0]))[-1] for seed in seeds])
lesson.record("mean of the fakes, D without x^2 (data: 2)", blind[:, 1])
lesson.record("sd of the fakes, D without x^2 (data: 0.7)", blind[:, 0])
gap = abs(blind[:, 0] - 0.7).min()
lesson.expect("D without x^2: error of the sd, the best seed", gap, at_least=0.1)

# %%
lesson.finish()

# %% [markdown]
# The mean is right, the sd is 0.56 and stays there: once the means agree, this D's curve is flat,
# and nothing pushes G. If fakes are to look real to *you*, D must see what you see. So D becomes a
# net, and most later lessons are about D.
#
# ## Exercises
#
# 1. Stop D: take `a, b, *w = paths[0, 40]`, and repeat G's update 1000 times with this `w`. Where
#    do the fakes go?
#    <details><summary>Answer</summary> Past the data: their mean is 3.1 after 100 updates and 6.6
#    after 1000. This D says "further right is more real". Only a D that goes on learning, from the
#    fakes of *now*, pushes them back.</details>
# 2. Delete `+ 0.1 * w`, and plot the sd of `train(0, steps=5000)`. What does the term do?
#    <details><summary>Answer</summary> The sd swings: up to 1.2, down to 0.05, up to 1.25 at step
#    730. Only after 4000 steps does it stay within 0.02 of 0.7. D lags behind, so G overshoots,
#    again and again. The term, the derivative of $0.05 |w|^2$, flattens D's curve and so damps the
#    swings. It does not move the goal, where $w = 0$.</details>
# 3. Draw `real` with two peaks, `random.choice([1.0, 3.0], n) + random.normal(0.0, 0.2, n)`, and
#    call `train(0, steps=2000, rate_d=0.05)`. Which mean and sd does G reach? Do fakes look real?
#    <details><summary>Answer</summary> Mean 2.0 and sd 1.0, as the data. But the fakes have one
#    peak, at 2, where there are almost no real samples. D sees only $x$ and $x^2$, hence mean and
#    sd; and $a z + b$ has one peak. Both players must become nets.</details>
#
# Next: [06, a GAN with nets](06_first_gan.py), or [01](01_finite_differences.py), derivatives.

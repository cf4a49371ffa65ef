# %% [markdown]
# # 18 Images from images
#
# 给生成器的不是噪声而是图像：补洞、放大、转换。符合输入的图像往往不止一幅：
# L1 损失得到逐像素的中位数，平方误差得到均值，判别器使结果成为其中的一幅。本课先预测，再测量。
#
# Tutorials 000 and 001 (section 3.4) and 003 (6.1) say that GANs fill holes, remove noise, increase
# the resolution and transfer styles. For this $G$ is given an image instead of noise, and what it
# makes has to fit. Usually many images fit, and one idea explains what follows: **an L1 loss makes,
# pixel by pixel, the median of all images that fit, a discriminator makes one of them.** The nets
# are those of minigan's package `translation` (`minigan train --task inpaint`). Needs: 05, 13.

# %%
import numpy as np

import minigan as mg
from minigan import nn
from minigan.metrics import classify, psnr, sharpness
from minigan.translation.measures import measured_part
from minigan.translation.networks import PatchDiscriminator
from minigan.translation.players import UnpairedPlayers
from minigan.translation.restore import BASELINES
from minigan.translation.trainer import TranslationTrainer
from minigan.utils import figures as pictures
from minigan.utils.figures import DATA, GENERATOR, GREEN, GREY, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("18_images_from_images", "Images from images")
SEEDS, rng = range(1 if lesson.fast else 4), np.random.default_rng(0)

# %% [markdown]
# ## Three images that fit
#
# The smallest problem of this kind: a hole of three pixels, of which one is white (1) and two are
# black (-1). Three images fit, each as likely as the others. *Before you run it:* a net is trained
# on such images with the loss $|G - y|$. What does it paint?
#
# The loss is a sum over pixels, so each pixel is chosen by itself: $E\,|g - y|$ is smallest at the
# median of $y$, $E\,(g - y)^2$ at its mean. $G$ gets two random numbers, to use or to ignore.

# %%
BARS = 2 * np.eye(3, dtype=np.float32) - 1
FITS = BARS[rng.integers(0, 3, 2000)]  # 2000 times the truth


def net(inputs, outputs):
    layers = [nn.Dense(inputs, 32), nn.LeakyReLU(0.2), nn.Dense(32, 32), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Dense(32, outputs), *[nn.Tanh()] * (outputs == 3))


def paint(l1, squared, adversarial, seed, steps=600 if lesson.fast else 1500):
    """Train G with these weights of its losses; return 2000 of its images, (2000, 3)."""
    mg.manual_seed(seed)
    G, D, gan_loss = net(2, 3), net(3, 1), mg.losses.NonSaturating()
    opt_g, opt_d = (mg.optim.Adam(x.parameters(), betas=(0, 0.99)) for x in (G, D))

    @mg.capture
    def step(y):
        fake = G(mg.random.normal((64, 2)))
        loss_d = gan_loss.discriminator(D(y), D(fake.detach())) + 0.1 * mg.losses.r1_penalty(D, y)
        opt_d.step(mg.grad(loss_d, D.parameters()))
        loss_g = l1 * (fake - y).abs().mean() + squared * ((fake - y) ** 2).mean()
        loss_g = loss_g + adversarial * gan_loss.generator(D(fake))
        opt_g.step(mg.grad(loss_g, G.parameters()))

    rows = np.random.default_rng(seed)
    for i in range(steps):
        opt_g.lr = opt_d.lr = 2e-3 * (1 - i / steps)
        step(mg.tensor(BARS[rows.integers(0, len(BARS), 64)]))
    return G(mg.random.normal((2000, 2), stream="test")).numpy()


LOSSES = {"L1": (1, 0, 0), "squared error": (0, 1, 0), "adversarial": (0, 0, 1)}
painted = {name: [paint(*weights, seed) for seed in SEEDS] for name, weights in LOSSES.items()}
errors = {name: [((x - FITS) ** 2).mean() for x in images] for name, images in painted.items()}
for name, images in painted.items():
    fits = [(np.abs(x[:, None] - BARS).max(axis=2).min(axis=1) < 0.3).mean() for x in images]
    lesson.record(f"{name}: share of images that fit", fits)
    lesson.record(f"{name}: squared error", errors[name])
lesson.expect("L1: the brightest pixel", np.max(painted["L1"]), at_most=-0.9)

# %% [markdown]
# Nothing. Each pixel is black with probability 2/3, so its median is black. The empty image has the
# smallest L1 error and is none of the three: thin strokes vanish in this way. The squared error
# makes three grey pixels of -1/3. With $D$, 96 % of the images are one of the three.
#
# *Before you run it:* which of the three $G$s has the smallest squared error, which the largest?
# Let $y$ be the truth, $m$ its mean, and $g$ another image that fits, drawn independently of $y$:
#
# $$E\,(g - y)^2 = E\,(g - m)^2 + E\,(m - y)^2 = 2\,E\,(m - y)^2$$

# %%
ratio = np.mean(errors["adversarial"]) / np.mean(errors["squared error"])
lesson.expect("squared error: one that fits / the mean", ratio, at_least=1.8, at_most=2.1)

# %% Figure
with lesson.figure(8, 2.4, "bars") as figure:
    shown = [FITS, *(painted[name][0] for name in LOSSES)]
    pixels = np.concatenate([x[:12, None, None].repeat(6, 3).repeat(10, 2) for x in shown])
    axes = figure.subplots()
    axes.imshow(pictures.tile(pixels, 12), cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=np.arange(4) * 11 + 6, title="Twelve images of each")
    axes.set_yticklabels(["what fits", *LOSSES])

# %% [markdown]
# The mean has 8/9, the empty image 4/3, one that fits 16/9. So **a GAN that does its task perfectly
# has 3 dB less PSNR** ($-10 \log_{10}$ of the squared error) than the blurred mean. That is no
# fault: the mean is closest to the truth, but is no image that fits (Blau and Michaeli 2018).
#
# ## What a patch discriminator sees
#
# L1 gets the coarse shape right. So pix2pix (Isola et al. 2017) lets $D$ classify only *patches*:
# two convolutions 4-2-1, then one of 3 x 3 that makes a logit at each place. *Before you run it:*
# on how many pixels does one logit depend? (Count backwards, from 3 x 3.)

# %%
mg.manual_seed(0)
image = mg.tensor(rng.normal(size=(1, 1, 64, 64)), dtype="float32", requires_grad=True)
logits = PatchDiscriminator(1, depth=2)(image)
gradient = mg.grad(logits[0, 0, 8, 8], [image])[0].numpy()[0, 0]
lesson.expect("side of the patch of one logit", np.count_nonzero(gradient.any(axis=0)), equal=18)

# %% [markdown]
# $3 \to 2 \cdot 3 + 2 = 8 \to 18$. A digit of 28 x 28 pixels gets 7 x 7 logits, each for 18 x 18 of
# its pixels: enough for strokes, corners and loops. No logit sees whether the whole is a digit.
#
# ## A hole in a digit
#
# A square of 14 x 14 pixels is missing, anywhere. $G$ is a U-Net, and $D$ sees the damaged image
# beside the filled one. $G$ minimizes L1 alone, or L1 and the adversarial loss (least squares).
# Without a net: the mean image, or a smooth continuation of the border. On held-out digits: PSNR
# and sharpness (energy at periods below four pixels, truth 1) of the holes, and how often a
# classifier still finds the class. *Before you run it:* which is best in which?

# %%
data = lesson.digits(2000 if lesson.fast else 10_000)
train, test = data.holdout(0.1, 0)
truth, labels = test.values, test.labels
classifier = mg.metrics.train_classifier(train.values, train.labels, 10, 60 if lesson.fast else 300)
SIZE = {"width": 16, "steps": 500}
if lesson.fast:
    SIZE = {"width": 8, "batch": 8, "lr_g": 5e-3, "lr_d": 2e-3, "steps": 120}


def class_kept(images):
    return (classify(classifier, images) == labels).mean()


def trained(**options):
    config = mg.TranslationConfig(holdout=0, blocks=1, **{"lr_d": 1e-3} | options)
    trainer = TranslationTrainer(config, train)
    for _ in lesson.progress(range(config.steps), f"{config.task}, seed {config.seed}"):
        trainer.step()
    return trainer


def study(task):
    """Record what no net, L1 alone, and L1 and GAN make; return inputs, images, mean measures."""
    made, means, options = {}, {}, {"task": task, "l1": 1} | SIZE
    for name, weight in {"L1 alone": 0, "L1 and GAN": 1}.items():
        nets = [trained(seed=seed, adversarial=weight, **options) for seed in SEEDS]
        with mg.random.fork_rng(0):  # the same holes for all
            x, _ = nets[0].inputs_and_truths(truth)
        made = made or {method: [f(nets[0], x)] for method, f in BASELINES[task].items()}
        made[name] = [trainer.translate(x) for trainer in nets]
    for name, images in made.items():
        pairs = [[measured_part(z, x, task) for z in (y, truth)] for y in images]
        rows = {"PSNR": [psnr(*pair) for pair in pairs]}
        rows |= {"sharpness": [sharpness(*pair) for pair in pairs]}
        rows |= {"class kept": [class_kept(y) for y in images]}
        for what, values in rows.items():
            lesson.record(f"{task}, {name}: {what}", values)
            means[name, what] = np.mean(values)
    return x, {name: images[0] for name, images in made.items()}, means


holes, filled, means = study("inpaint")
lesson.record("class kept: the truth", class_kept(truth))
lesson.record("class kept: the hole grey", class_kept(holes[:, :1]))
ratio = means["L1 and GAN", "sharpness"] / means["L1 alone", "sharpness"]
lesson.expect("hole: sharpness, L1 and GAN / L1 alone", ratio, at_least=1.1 if lesson.fast else 1.2)

# %% [markdown]
# L1 alone has the highest PSNR: 10.4 dB, with GAN 9.8, mean fill 9.2 (standard errors below 0.05).
# But its strokes fade where they could go on in several ways: sharpness 0.43, with GAN 0.83, mean
# fill 0.003. The class is kept in 82.0 ± 0.5 % and 83.2 ± 0.5 %, mean fill 69 %: what the GAN adds
# looks right, but tells little more about what was in the hole.
#
# ## 7 x 7 pixels become 28 x 28
#
# Each square of 4 x 4 pixels is replaced by its mean; that is the input. Without a net, bicubic
# interpolation. *Before you run it:* how sharp are bicubic, L1 alone, L1 and GAN (truth 1)? Does
# the GAN cost PSNR here too?

# %%
small, enlarged, means = study("super-resolution")
cost = means["L1 alone", "PSNR"] - means["L1 and GAN", "PSNR"]
least = 0.1 if lesson.fast else 0.2
lesson.expect("enlarged: PSNR that the GAN costs, dB", cost, at_least=least, at_most=3)


# %% Figure
def power(images):
    squares = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=(0, 1)).ravel()
    radius = np.hypot(*np.meshgrid(*[28 * np.fft.fftfreq(28)] * 2)).round().astype(int).ravel()
    return (np.bincount(radius, squares) / np.bincount(radius))[1:15]


def sheet(axes, rows, title):
    axes.imshow(pictures.tile(np.concatenate([x[:8] for x in rows.values()])), cmap="gray")
    axes.set(xticks=[], yticks=np.arange(len(rows)) * 29 + 15, title=title)
    axes.set_yticklabels(rows)


with lesson.figure(13, 3.8) as figure:
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1.2, 1))
    sheet(left, {"given": holes[:, :1]} | filled | {"truth": truth}, "A hole of 14 x 14 pixels")
    sheet(middle, {"given": small} | enlarged | {"truth": truth}, "7 x 7 become 28 x 28")
    right.axhline(1, color=DATA, label="truth")
    for name, colour in zip(enlarged, (GREY, PINK, GENERATOR), strict=True):
        share = power(enlarged[name]) / power(truth)
        right.plot(np.arange(1, 15) / 28, share, color=colour, label=name)
    right.set(xlabel="periods per pixel", title="power / true power", ylim=(0, 1.4))
    right.legend()

# %% [markdown]
# Their sharpness is 0.001, 0.756 ± 0.005 and 0.963 ± 0.007. PSNR: L1 alone 19.5 dB, with GAN 0.56
# less, bicubic 14.5. The class is kept in 88.6, 93.4 ± 0.2 and 93.1 ± 0.1 %. The spectrum shows
# what one number does not: the GAN makes *too much* of the finest detail.
#
# ## Without pairs: what the cycle loss cannot forbid
#
# CycleGAN (Zhu et al. 2017) has images $a$ and $b$ of two kinds, but no pairs. $F$ translates, $B$
# back; each kind has its $D$. The *cycle loss* is $|B(F(a)) - a|$. The *identity loss* $|F(b) - b|$
# tells $F$ to leave what is of the other kind already (both likewise for $B$). Let $a$ be the three
# bars, $b$ the inverted ones, black on white. *Before you run it:* in what share of the seeds does
# each bar become its own inverse: without the two losses, with the first, with both?


# %%
UNPAIRED = {"task": "unpaired", "target": "inverted"}


def translate_bars(seed, cycle, identity, steps=300 if lesson.fast else 600):
    """Train a CycleGAN; return (3, 3): how far bar i's translation is from inverted bar j."""
    mg.manual_seed(seed)
    options = UNPAIRED | {"cycle": cycle, "identity": identity, "loss": "nonsaturating"}
    config = mg.TranslationConfig(steps=steps, lr_g=2e-3, lr_d=2e-3, **options).filled()
    players = UnpairedPlayers(config, *(nn.ModuleList([net(3, n), net(3, n)]) for n in (3, 1)))
    step, rows = mg.capture(players.step), np.random.default_rng(seed)
    for i in range(steps):
        players.prepare(i)  # sets the rates, which fall to 0
        step([mg.tensor(sign * BARS[rows.integers(0, 3, 64)]) for sign in (1, -1)])
    there = players.generator(mg.tensor(BARS)).numpy()
    return np.abs(there[:, None] + BARS).max(axis=2)


def outcome(distances):
    nearest = distances.argmin(axis=1)
    if distances.min(axis=1).max() > 0.3:
        return "not a bar"
    if len(set(nearest)) < 3:
        return "two become one"
    return "its own inverse" if (nearest == range(3)).all() else "exchanged"


CASES = {"GAN alone": (0, 0), "cycle loss": (10, 0), "cycle and identity": (10, 5)}
OUTCOMES = ("its own inverse", "exchanged", "two become one", "not a bar")
shares = {}
for case, weights in CASES.items():
    kinds = [outcome(translate_bars(seed, *weights)) for seed in range(8 if lesson.fast else 30)]
    shares[case] = [np.mean([kind == x for kind in kinds]) for x in OUTCOMES]
    for kind, share in zip(OUTCOMES, shares[case], strict=True):
        lesson.record(f"bars, {case}: share of {kind}", share)
lesson.expect("bars, cycle loss: share of exchanged", shares["cycle loss"][1], at_least=0.4)

# %% [markdown]
# Each bar becomes its own inverse in 17, 20 and 0 % of the seeds. The GAN alone often makes one bar
# of two. The cycle loss forbids that: $B$ could not tell them apart. But it is 0 for all six ways
# to pair the bars with inverted ones, and only one of six is right. With the identity loss none is:
# bar (1, -1, -1) differs from its own inverse in three pixels, from the two others in one. $F$ has
# to leave those as they are, and so takes the bar to one of them. It prefers small changes.
#
# *Before you run it:* the same with digits, white on black and black on white. How often does a
# digit keep its class, without and with the identity loss?

# %%
translated = {}
options = UNPAIRED | {"width": 8, "batch": 8, "lr_g": 1e-3, "steps": 80 if lesson.fast else 300}
for case, (cycle, identity) in list(CASES.items())[1:]:
    nets = [trained(seed=s, cycle=cycle, identity=identity, **options) for s in SEEDS]
    translated[case] = [trainer.translate(truth) for trainer in nets]
untrained = trained(seed=0, **options | {"steps": 1, "lr_g": 1e-9})  # a step that changes nothing
translated |= {"untrained": [untrained.translate(truth)], "as it is": [truth]}
kept = {}
for case, images in translated.items():
    kept[case] = [class_kept(-y) for y in images]
    lesson.record(f"inverted digits, {case}: class kept", kept[case])
    lesson.record(f"inverted digits, {case}: PSNR", [psnr(y, -truth) for y in images])
gain = np.mean(kept["cycle loss"]) - np.mean(kept["cycle and identity"])
lesson.expect("inverted digits: class kept, without - with identity loss", gain, at_least=0.4)

# %% Figure
with lesson.figure(11, 4, "unpaired") as figure:
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    bottom = np.zeros(3)
    for i, colour in enumerate((GREEN, PINK, GREY, "#dddddd")):
        height = np.array([shares[case][i] for case in CASES])
        left.bar(range(3), height, 0.6, bottom, color=colour, label=OUTCOMES[i])
        bottom += height
    left.set(xticks=range(3), ylim=(0, 1.5), yticks=(0, 0.5, 1), title="Bars: share of seeds")
    left.set_xticklabels(["GAN\nalone", "cycle\nloss", "cycle and\nidentity"])
    left.legend(ncols=2, loc="upper center", fontsize=10)
    rows = {"given": truth}
    for case in list(CASES)[1:]:
        rows |= {f"{case}, {i}": y for i, y in enumerate(translated[case][:3])}
    sheet(right, rows, "Digits: three seeds")
lesson.finish()

# %% [markdown]
# The class is kept in 95 % without it, 6 % with it (untrained net: 14 %; digits as they are: 2 %).
# With it digits stay white; one seed paints black shadows around them to please the patches.
# Without it, that each digit becomes its own inverse is due to the U-Net, not to the losses
# (exercise 3): the cycle loss is as small for any other translation that can be undone.
#
# ## Exercises
#
# 1. One bar is three times as likely: `BARS = BARS[[0, 0, 0, 1, 2]]`. What does each $G$ paint?
#    <details><summary>Answer</summary>L1: this bar, always, as its probability is 3/5: the median
#    is an image if one is likelier than all others together. Squared error: (0.2, -0.6, -0.6).
#    Adversarial: all three bars, the first in about 60 % of its images.</details>
# 2. `PatchDiscriminator(1, depth=3)`: how large are its patches?
#    <details><summary>Answer</summary>38 x 38, as $18 \to 2 \cdot 18 + 2$.</details>
# 3. In `translate_bars`, let $F$ and $B$ be 1 x 1 convolutions, which treat all pixels alike. What
#    is learned with the cycle loss, and why?
#    <details><summary>Answer</summary>No bars are exchanged, as a function of one pixel cannot do
#    that: what the losses leave open, the net decides. In 11 of 20 seeds each bar becomes its own
#    inverse; in 9 white stays white, as a constant $F$ on the way has a large cycle loss.</details>
#
# Next: 20 Does augmentation by a GAN help?

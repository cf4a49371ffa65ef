# %% [markdown]
# # 20 Does augmentation by a GAN help?
#
# 教程说：用 GAN 生成的样本扩充训练集，分类器会更好。本课测量：什么时候有用，什么时候有害。
#
# Four of five tutorials name data augmentation as a use of GANs: 000 (3.3), 001 (1.3, 3.4), 004
# (6); none measures it. The idea sounds like a perpetual motion machine: from $n$ labelled digits
# a GAN makes thousands, and a classifier learns from all of them. But the GAN has seen the same $n$
# digits. You will train a classifier with and without its samples, and test it on real digits that
# neither has seen.
#
# Needs: 06 (how a GAN is trained), 12 (R1 and R2).

# %%
import numpy as np

import minigan as mg
from minigan import Config, Trainer, ops
from minigan.data import Dataset
from minigan.gan.augment import shift
from minigan.metrics import classify, sliced_wasserstein, train_classifier
from minigan.utils import figures as pictures
from minigan.utils.figures import DATA, GENERATOR, GREY
from minigan.utils.lesson import Lesson

lesson = Lesson("20_does_augmentation_help", "Does augmentation by a GAN help?")
SEEDS = range(1 if lesson.fast else 5)

# %% [markdown]
# ## Few labelled digits
#
# The classifier is a small convolutional net (`minigan/metrics/classifier.py`), trained with 300
# batches of 128; digits have 14 x 14 pixels. It gets $n$ labelled digits, as many of each class,
# drawn by the seed, and is tested on digits that are never drawn. *Before you run it:* which share
# does it name correctly after five examples of each digit? And after a hundred?

# %%
digits = lesson.digits(3000 if lesson.fast else 10_000)
images = ops.avg_pool2d(mg.tensor(digits.values), 2).numpy()
order = np.random.default_rng(0).permutation(len(images))
N = 1000 if lesson.fast else 2000
test, pool = order[:N], order[N:]
FEW, MANY, ALL = 50, 1000, 1500 if lesson.fast else 5000


def choose(n, seed):
    """Return the rows of n digits of the pool, n / 10 of each class; the first are few's too."""
    rng, labels = np.random.default_rng(seed), digits.labels[pool]
    return np.concatenate([rng.permutation(pool[labels == c])[: n // 10] for c in range(10)])


def accuracy(n, seed, **options):
    rows, steps = choose(n, seed), 150 if lesson.fast else 300
    net = train_classifier(images[rows], digits.labels[rows], 10, steps, seed, **options)
    return (classify(net, images[test]) == digits.labels[test]).mean()


def one_pixel(x):
    return shift(x, 1, fill=-1.0)


alone = {n: np.array([accuracy(n, seed) for seed in SEEDS]) for n in (FEW, MANY)}
shifted = {n: np.array([accuracy(n, s, augment=one_pixel) for s in SEEDS]) for n in (FEW, MANY)}
for n in (FEW, MANY):
    lesson.record(f"{n} digits: accuracy alone", alone[n])
    lesson.record(f"{n} digits: accuracy with shifts", shifted[n])
gain = (shifted[MANY] - alone[MANY]).mean()
lesson.expect(f"{MANY} digits: gain by shifts", gain, at_least=0.01)

# %% [markdown]
# About 0.7 and 0.92. *Shifts* are the simplest augmentation: each image of a batch moves by -1, 0
# or 1 pixel, anew in every batch. They add 2 to 4 points, because they add *knowledge* that no
# digit contains: where a digit stands does not matter. What does a GAN know that you do not?
#
# ## The samples of a plain GAN
#
# The GAN of 000 and 001, with the label as a second input of both nets, is trained on the same 50
# digits. Then half of each batch of the classifier are its samples, with the labels they were asked
# for. *Before you run it:* does that help the classifier, and does the GAN make new digits?


# %%
PLAIN = {"steps": 300 if lesson.fast else 2000}
SMOOTH = {"loss": "relativistic", "penalty": "r1+r2", "penalty_weight": 0.5, "ema": 0.995}
SMOOTH |= {"lr_g": 1e-3, "lr_d": 1e-3, "beta1": 0.0, "beta2": 0.99}
SMOOTH |= {"steps": 400 if lesson.fast else 1500}


def gan(n, seed, **options):
    """Return N samples of a GAN that was trained on n digits, and their labels."""
    rows, asked = choose(n, seed), np.arange(N) % 10
    config = Config(condition="concat", batch=32, holdout=0.0, seed=seed, **options)
    trainer = Trainer(config, Dataset("digits", images[rows], digits.labels[rows], 10))
    for _ in lesson.progress(range(config.steps), f"GAN of {n} digits, seed {seed}"):
        trainer.step()
    return trainer.sample(N, seed, asked), asked


def distance(samples):
    return sliced_wasserstein(samples[0], images[test])


plain = [gan(FEW, seed, **PLAIN) for seed in SEEDS]
naive = np.array([accuracy(FEW, seed, more=plain[seed]) for seed in SEEDS])
gain = (naive - alone[FEW]).mean()
lesson.record("50 digits: gain by samples of a plain GAN", naive - alone[FEW])
lesson.expect("50 digits: mean gain by samples of a plain GAN", gain, at_most=0.01)


def to_nearest(x, seed):
    """Return the mean distance of images to the nearest of the seed's 50 digits."""
    return mg.metrics.nearest_distances(x, images[choose(FEW, seed)])[0].mean()


near = [to_nearest(plain[seed][0], seed) / to_nearest(images[test], seed) for seed in SEEDS]
lesson.record("distance to the nearest of the 50 digits, samples / real ones", near)

# %% [markdown]
# It does harm: the samples lie near the 50 digits, at NEAR of the distance at which other real digits
# lie. D has learned these digits by heart (lesson 08), and G copies them, with noise.
#
# ## A smooth discriminator
#
# R1 and R2 bound the slope of D around real and generated digits (lesson 12), so D cannot single
# out 50 points. The samples are then further from the 50 digits. Give them to the classifier, with
# shifts on everything. *Before you run it:* with 50 labelled digits, and a GAN of the same 50, is
# that better than shifts alone? And with 1000, and a GAN of 1000?

# %%
smooth, gains = {}, {}
for n in (FEW, MANY):
    smooth[n] = [gan(n, seed, **SMOOTH) for seed in SEEDS]
    both = np.array([accuracy(n, s, augment=one_pixel, more=smooth[n][s]) for s in SEEDS])
    gains[n] = both - shifted[n]
    lesson.record(f"{n} digits: gain by samples of a smooth GAN, over shifts", gains[n])
lesson.expect("50 digits: mean gain by samples", gains[FEW].mean(), at_least=0.005)
lesson.expect("1000 digits: mean gain by samples", gains[MANY].mean(), at_most=-0.005)

# %% [markdown]
# With 50 digits it is better, with 1000 worse. TEXT
#
# ## Whose digits were they?
#
# Papers often train the GAN on a large set and the classifier on a part of it. *Before you run it:*
# how much do the samples add to the same 50 digits when the GAN has seen 5000, *with labels*?

# %%
smooth[ALL] = [gan(ALL, seed, **SMOOTH) for seed in SEEDS]
both = np.array([accuracy(FEW, s, augment=one_pixel, more=smooth[ALL][s]) for s in SEEDS])
gains[ALL] = both - shifted[FEW]
lesson.record("control: 50 digits, gain by samples of a GAN of many", gains[ALL])
ratio = gains[ALL].mean() / max(gains[FEW].mean(), 1e-3)
lesson.expect("control: mean gain / that by the GAN of 50", ratio, at_least=2)

far = {n: np.array([distance(x) for x in smooth[n]]) for n in smooth}
for n, values in far.items():
    lesson.record(f"distance of the GAN of {'many' if n == ALL else n} digits", values)
floor = [distance((images[np.random.default_rng(seed).choice(pool, N)], None)) for seed in SEEDS]
lesson.record("floor: distance of real digits", floor)
ratio = far[FEW].mean() / far[ALL].mean()
lesson.expect("distance of the GAN of 50 digits / of many", ratio, at_least=1.2)

# %% Figure
rows = {
    "plain GAN of 50,\nadded to 50": (naive - alone[FEW], plain),
    "smooth GAN of 50,\nadded to 50 and shifts": (gains[FEW], smooth[FEW]),
    f"smooth GAN of {MANY},\nadded to {MANY} and shifts": (gains[MANY], smooth[MANY]),
    f"control: GAN of {ALL},\nadded to 50 and shifts": (gains[ALL], smooth[ALL]),
}
with lesson.figure(13, 4.2) as figure:
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    for y, (values, _) in enumerate(rows.values()):
        left.plot(100 * values, [y] * len(values), "o", color=GENERATOR, alpha=0.5)
        left.plot([100 * values.mean()], [y], "|", color=GENERATOR, ms=28, mew=3)
    left.axvline(0, color=GREY, lw=1)
    left.set(
        yticks=range(4), yticklabels=rows, ylim=(3.5, -0.5), xlabel="points of accuracy gained"
    )
    pixels = np.concatenate([made[0][0][:40] for _, made in rows.values()])
    right.imshow(pictures.tile(pixels, 20), cmap="gray", vmin=0, vmax=255, aspect="auto")
    right.set(xticks=[], yticks=[], title="samples (seed 0)")

# %% [markdown]
# TEXT
#
# ## Augmenting the data of the GAN itself
#
# 002 (5, 6.3) and 001 (9 Q2) turn the sentence around: augment the data of the *GAN*. If only real
# images are shifted, G learns to make shifted ones. DiffAugment (Zhao et al. 2020) shifts what D
# sees, real and generated alike, anew in each step, and passes the gradient through the shift.
# *Before you run it:* for the plain GAN of 200 digits, which distance is larger, with or without?

# %%
POLICIES = ("none", "translation")
diff = {}
for policy in POLICIES:
    options = PLAIN | {"augment": policy, "ema": 0.995}
    diff[policy] = np.array([distance(gan(200, seed, **options)) for seed in SEEDS])
    lesson.record(f"200 digits, {policy}: distance", diff[policy])
more = diff["translation"].mean() / diff["none"].mean()
lesson.expect("200 digits: distance with DiffAugment / without", more, at_most=0.9)

# %% Figure
with lesson.figure(10, 3.4, "distance") as figure:
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot(list(far), [far[n].mean() for n in far], color=GENERATOR)
    for n, values in far.items():
        left.plot([n] * len(values), values, "o", color=GENERATOR, alpha=0.5)
    left.set(xscale="log", ylim=(0, None), xlabel="digits of the GAN", title="More data")
    left.set_ylabel("distance to held-out digits")
    for x, values in enumerate(diff.values()):
        right.plot([x] * len(values), values, "o", color=GENERATOR, alpha=0.5)
    right.set(xticks=range(len(diff)), xticklabels=diff, xlim=(-0.5, len(diff) - 0.5))
    right.set_title("DiffAugment, plain GAN of 200")
    for axes in (left, right):
        axes.axhline(np.mean(floor), color=DATA, lw=1, ls="--", label="real digits")
    left.legend()
lesson.finish()

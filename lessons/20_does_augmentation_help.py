# %% [markdown]
# # 20 Does augmentation by a GAN help?
#
# 教程说：用 GAN 生成的样本扩充训练集，分类器会更好。本课测量：什么时候有用，什么时候有害。
#
# Three of the five tutorials name data augmentation as a use of GANs: 000 (3.3), 001 (1.3, 3.4)
# and 004 (6). None measures it. The idea sounds too good to be true: from $n$ labelled
# digits a GAN makes thousands, and a classifier learns from all of them. But the GAN has seen only
# these $n$. You will train a classifier with and without its samples, and test it on real digits
# that neither has seen.
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
SEEDS = range(1 if lesson.fast else 3)

# %% [markdown]
# ## Few labelled digits
#
# The classifier is a small convolutional net (`minigan/metrics/classifier.py`), trained with 300
# batches of 128; digits have 14 x 14 pixels. It gets $n$ labelled digits, as many of each class,
# drawn by the seed, and is tested on 2000 digits that are never drawn. *Before you run it:* which
# share does it name correctly after five examples of each digit? And after a hundred? Which of the
# two gains more by *shifts*: each image of a batch moved by -1, 0 or 1 pixel, anew in every batch?

# %%
digits = lesson.digits(3000 if lesson.fast else 10_000)
images = ops.avg_pool2d(mg.tensor(digits.values), 2).numpy()
order = np.random.default_rng(0).permutation(len(images))
N = 1000 if lesson.fast else 2000
test, pool = order[:N], order[N:]
FEW, MANY, ALL = 50, 1000, 1500 if lesson.fast else 5000


def choose(n, seed):
    """Return the rows of n digits of the pool, n / 10 of each class; more contain fewer."""
    rng, labels = np.random.default_rng(seed), digits.labels[pool]
    return np.concatenate([rng.permutation(pool[labels == c])[: n // 10] for c in range(10)])


def accuracy(n, seed, **options):
    rows, steps = choose(n, seed), 120 if lesson.fast else 300
    net = train_classifier(images[rows], digits.labels[rows], 10, steps, seed, **options)
    return (classify(net, images[test]) == digits.labels[test]).mean()


def one_pixel(x):
    return shift(x, 1, fill=-1.0)


alone = {n: np.array([accuracy(n, seed) for seed in SEEDS]) for n in (FEW, MANY)}
shifted = {n: np.array([accuracy(n, s, augment=one_pixel) for s in SEEDS]) for n in (FEW, MANY)}
for n in (FEW, MANY):
    lesson.record(f"{n} digits: accuracy alone", alone[n])
    lesson.record(f"{n} digits: gain by shifts", shifted[n] - alone[n])
gain = alone[MANY].mean() - alone[FEW].mean()
lesson.expect("gain by 950 more digits", gain, at_least=0.1)

# %% [markdown]
# 0.68 ± 0.02 and 0.916 ± 0.002 (mean of three seeds ± standard error). Shifts gain 4.9 ± 1.0 points
# with 50 digits and 2.2 ± 0.3 with 1000, because they add *knowledge* that the digits do not
# contain: it does not matter where a digit stands. What does a GAN know that its digits do not?
#
# ## The samples of a plain GAN
#
# The GAN of 000 and 001, with the label as a second input of both nets, is trained on the same 50
# digits. Half of each batch of the classifier are then its samples, with the labels that they were
# asked for. *Before you run it:* does that help? And how near are its samples to the 50 digits,
# beside the digits of the test?


# %%
PLAIN = {"steps": 300 if lesson.fast else 2000}
SMOOTH = {"loss": "relativistic", "penalty": "r1+r2", "penalty_weight": 0.5, "ema": 0.995}
SMOOTH |= {"lr_g": 1e-3, "lr_d": 1e-3, "beta1": 0.0, "beta2": 0.99}
SMOOTH |= {"steps": 300 if lesson.fast else 1500}
asked = np.arange(N) % 10


def gan(n, seed, measured_steps=None, **options):
    """Train a GAN on n digits; return N samples with their labels, those of the last moment."""
    rows, distances = choose(n, seed), []
    config = Config(condition="concat", batch=32, holdout=0.0, seed=seed, **options)
    trainer = Trainer(config, Dataset("digits", images[rows], digits.labels[rows], 10))
    for i in lesson.progress(range(1, config.steps + 1), f"GAN of {n} digits, seed {seed}"):
        trainer.step()
        if i in (measured_steps or [config.steps]):
            samples = trainer.sample(N, seed, asked)
            distances.append(sliced_wasserstein(samples, images[test]))
    return samples, distances


def with_samples(n, made, seed, **options):
    return accuracy(n, seed, more=(made[seed][0], asked), share=0.5, **options)


def nearness(x, seed):
    """Return the mean distance of images to the nearest of the seed's 50 digits."""
    return mg.metrics.nearest_distances(x, images[choose(FEW, seed)])[0].mean()


plain = [gan(FEW, seed, **PLAIN) for seed in SEEDS]
naive = np.array([with_samples(FEW, plain, seed) for seed in SEEDS]) - alone[FEW]
lesson.record("50 digits: gain by samples of a plain GAN", naive)
lesson.expect("50 digits: mean gain by a plain GAN", naive.mean(), at_most=0.01)
near = [nearness(plain[seed][0], seed) / nearness(images[test], seed) for seed in SEEDS]
lesson.record("distance to the nearest of the 50 digits, samples / test", near)

# %% [markdown]
# It does not help: -1.4 ± 1.4 points. The samples are nearly copies, at 0.54 ± 0.03 of the distance
# at which test digits lie (the first two rows of the figure below): D has learned the 50 digits by
# heart (lesson 08), and copies teach nothing new.
#
# ## A smooth discriminator
#
# R1 and R2 bound the slope of D around real and generated digits (lesson 12), so D cannot single
# out 50 points. Now the classifier gets the samples of such a GAN, and shifts on everything.
# *Before you run it:* is that better than shifts alone, with 50 labelled digits and a GAN of the
# same 50? With 1000 and a GAN of 1000?

# %%
smooth = {n: [gan(n, seed, **SMOOTH) for seed in SEEDS] for n in (FEW, MANY)}
gains = {}
for n in (FEW, MANY):
    both = np.array([with_samples(n, smooth[n], s, augment=one_pixel) for s in SEEDS])
    gains[n] = both - shifted[n]
    lesson.record(f"{n} digits: gain by samples of a smooth GAN, over shifts", gains[n])
low = -0.06 if lesson.fast else 0.005
lesson.expect("50 digits: mean gain by a smooth GAN", gains[FEW].mean(), at_least=low)
lesson.expect("1000 digits: mean gain by a smooth GAN", gains[MANY].mean(), at_most=-0.005)

# %% [markdown]
# With 50 digits it is better, by 2.2 ± 0.4 points; with 1000 it is worse, by 2.5 ± 0.3. The samples
# lie further from the 50 digits, at 0.72 ± 0.02. A smooth net that must pass through few digits
# makes plausible ones between them, and this is worth something while digits are few. Later the
# errors of the samples outweigh it. With 1000 digits and a tenth of each batch instead of half,
# the gain is 0.0 ± 0.1. (`minigan reproduce augmentation` has ten seeds: 2.1 ± 0.4 with 50 digits;
# with a projection GAN and a tenth of each batch, 0.3 ± 0.1 with 200 and 0.1 ± 0.1 with 1000.)
#
# ## Whose digits were they?
#
# In some papers the GAN has been trained on more data than the classifier. A control: the
# classifier has the same 50 digits, but the GAN 5000, *with labels*. *Before you run it:* how much
# do its samples add?

# %%
smooth[ALL] = [gan(ALL, seed, **SMOOTH) for seed in SEEDS]
both = np.array([with_samples(FEW, smooth[ALL], s, augment=one_pixel) for s in SEEDS])
gains[ALL] = both - shifted[FEW]
lesson.record("control: gain by samples of a GAN of many digits", gains[ALL])
lesson.expect("control: mean gain by a GAN of many digits", gains[ALL].mean(), at_least=0.06)
far = {n: np.array([distances[-1] for _, distances in smooth[n]]) for n in smooth}
for n, values in far.items():
    lesson.record(f"distance to test digits, smooth GAN of {'many' if n == ALL else n}", values)
real = [images[np.random.default_rng(seed).choice(pool, N)] for seed in SEEDS]
floor = [sliced_wasserstein(x, images[test]) for x in real]
lesson.record("floor: distance of real digits", floor)

# %% Figure
rows = {
    "plain GAN of 50,\nadded to 50": (naive, plain),
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
    left.set(yticks=range(4), yticklabels=rows, ylim=(3.5, -0.5))
    left.set(xlabel="points of accuracy gained by samples")
    pixels = np.concatenate([made[0][0][:40] for _, made in rows.values()])
    right.imshow(pictures.tile(pixels, 20), cmap="gray", vmin=0, vmax=255, aspect="auto")
    right.set(xticks=[], yticks=[], title="samples (seed 0)")

# %% [markdown]
# 14.6 ± 0.8 points, seven times as much: the knowledge of 4950 *other labelled digits*, which
# reaches the classifier through G. So where samples of a GAN improve a classifier, ask first what
# the GAN was trained on.
#
# The distances say how a GAN profits from more data: 0.072 ± 0.005 with 50 digits, 0.041 ± 0.002
# with 1000; 5000 have no further effect in 1500 steps (0.042). The floor is 0.020.
#
# ## Augmenting what the GAN sees
#
# 002 (5, 6.3) and 001 (9 Q2) turn the sentence around: augment the data of the *GAN*. If only real
# images are shifted, G learns to make shifted ones. DiffAugment (Zhao et al. 2020) shifts all that
# D sees, real and generated, anew in each step, and passes G's gradient through the shift. *Before
# you run it:* for a plain GAN of 200 digits, is the distance with it smaller from the beginning?

# %%
MOMENTS = (100, 250) if lesson.fast else (250, 500, 1000, 2000, 3500, 5000)
diff = {}
for policy in ("none", "translation"):
    options = {"steps": MOMENTS[-1], "augment": policy, "ema": 0.995, "lr_g": 1e-3, "lr_d": 1e-3}
    diff[policy] = np.array([gan(200, s, MOMENTS, **options)[1] for s in SEEDS])
    lesson.record(f"DiffAugment {policy}: smallest distance", diff[policy].min(axis=1))
    lesson.record(f"DiffAugment {policy}: distance at the end", diff[policy][:, -1])
at_250 = MOMENTS.index(250)
early = diff["translation"][:, at_250].mean() / diff["none"][:, at_250].mean()
lesson.expect("step 250: distance with DiffAugment / without", early, at_least=1.3)

# %% Figure
with lesson.figure(7, 3.8, "diffaugment") as figure:
    axes = figure.subplots()
    for (policy, values), style in zip(diff.items(), ("--", "-"), strict=True):
        axes.plot(MOMENTS, values.T, color=GENERATOR, lw=1, alpha=0.3, ls=style)
        axes.plot(MOMENTS, values.mean(axis=0), color=GENERATOR, ls=style, label=policy)
    axes.axhline(np.mean(floor), color=DATA, lw=1, label="real digits")
    axes.set(ylim=(0, 0.25), xlabel="step", ylabel="distance to test digits")
    axes.legend()
lesson.finish()

# %% [markdown]
# No: at step 250 it is more than twice as large, because G now has to satisfy a D that sees each
# digit at 25 places. But without it the distance is smallest (0.056 ± 0.001) at step 2000 and then
# rises, to 0.089 ± 0.001: D learns the digits by heart. With it the distance still falls at step
# 5000, to 0.071 ± 0.002. So here it prevents the decay, and does not yet beat stopping in time.
#
# ## Exercises
#
# 1. Train the classifier on samples only (`share=1.0`, no shifts), of the smooth GAN of 50 and of
#    the plain one. Which is nearer to the accuracy with the 50 digits themselves?
#    <details><summary>Answer</summary>The smooth one: 0.676 ± 0.010 beside 0.679 ± 0.021 with the
#    digits. The plain one has 0.525 ± 0.005.</details>
# 2. How many more labelled digits are worth as much as the samples of the smooth GAN of 50?
#    <details><summary>Answer</summary>Fewer than ten: `accuracy(60, seed, augment=one_pixel)` is
#    4.1 ± 0.1 points above that of 50. Label one more of each digit before you train a GAN.
#    </details>
# 3. Let the classifier of 50 digits and shifts name the samples of that GAN, and keep only those
#    whose label it confirms. Does that help?
#    <details><summary>Answer</summary>No: the gain is 1.3 ± 0.8 points in place of 2.2 ± 0.4.
#    Only 4 % of the samples are removed, those from which there was something to learn.</details>
#
# Next: 21.

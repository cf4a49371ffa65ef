# %% [markdown]
# # 15 Conditional and controllable generators
#
# 如果输入只有噪声，生成什么就无法控制。本课让输入有意义：类别标签（三种条件 GAN）、
# 不需要标签的编码（InfoGAN），以及潜变量的截断、插值和方向；并测量每种控制的效果和代价。
#
# Tutorial 001 (sections 3.3 and 8.3; README.md lists the tutorials) says that what a GAN generates
# cannot be controlled; 004 (1.2, 6) says that GANs make images from a description. Both ask one
# question: what does a number in the generator's input mean? Noise means nothing that you know in
# advance. Here you give the input a meaning, and measure how much that controls, and what it costs.
#
# Needs: 06 (how a GAN is trained). R1 is a penalty on D's slope (08, 12).

# %%
import numpy as np

import minigan as mg
from minigan import ops
from minigan.data import Dataset
from minigan.metrics import matched_agreement, nearest_distances, precision_recall
from minigan.metrics import sliced_wasserstein as distance
from minigan.training.walk import lerp, slerp
from minigan.utils import figures as pictures
from minigan.utils.figures import DATA, GENERATOR, GREEN, GREY
from minigan.utils.lesson import Lesson

lesson = Lesson("15_conditional_and_controllable", "Conditional and controllable generators")
rng = np.random.default_rng(0)
SEEDS, STEPS = (range(1), 500) if lesson.fast else (range(3), 2000)

# %% [markdown]
# ## Digits, and a classifier
#
# The digits have 14 x 14 pixels, so that small dense nets learn them in seconds. A classifier that
# is trained on real digits tells of which class a sample is. Two more measures are those of
# lesson 08's questions. **Precision** is the share of samples that lie among the real ones,
# **recall** the share of real ones that lie among the samples (Kynkaanniemi et al. 2019), both by
# the classifier's last features. The first falls with bad samples, the second with missing variety.

# %%
digits = lesson.digits(4000 if lesson.fast else 20_000)
pixels = ops.avg_pool2d(mg.tensor(digits.values), 2).numpy().reshape(len(digits), 196)
data = Dataset("small digits", pixels, digits.labels, digits.classes)
train_part, held_out = data.holdout(0.1)
real, CLASSES, N = held_out.values, data.classes, len(held_out)


def as_images(x):
    return np.asarray(x).reshape(-1, 1, 14, 14)


classifier = mg.metrics.train_classifier(
    as_images(train_part.values), train_part.labels, CLASSES, steps=120 if lesson.fast else 500
)


def class_of(x):
    return classifier(mg.tensor(as_images(x))).numpy().argmax(1)


def overlap(x):  # of samples with real digits
    net = classifier[:-1]
    return precision_recall(*(net(mg.tensor(as_images(a))).numpy() for a in (real, x)))


accuracy = (class_of(real) == held_out.labels).mean()
lesson.record("the classifier's accuracy on held-out digits", accuracy)
others = overlap(train_part.values[:N])
lesson.record("precision of real digits", others.precision)
lesson.record("recall of real digits", others.recall)

# %% [markdown]
# ## 1. A label, and somebody who checks it
#
# Each conditional generator gets the label $y$ as $e(y)$, a learned row of numbers beside the noise
# $z$. But if D does not check that sample and label fit, G can ignore it. Three ways to check, with
# $\phi(x)$ for D's last features:
#
# | `--condition` | D computes | so G is asked for samples that |
# | --- | --- | --- |
# | `concat` (cGAN, Mirza and Osindero 2014) | $D([x, e(y)])$ | look real beside $y$ |
# | `acgan` (Odena et al. 2017) | $D(x)$, and a class | look real, and are easy to classify as $y$ |
# | `projection` (Miyato and Koyama 2018) | $D(x) + \langle e(y), \phi(x) \rangle$ | fit $y$ |
#
# A control is trained on digits with shuffled labels. *Before you run it:* ask for each class in
# turn. What share of the samples is of the class that was asked for? Which of the three is most
# right most often, and which is the best?


# %%
def train(condition, seed, data=data, steps=STEPS, **options):
    options = {"penalty": "r1", "ema": 0.998, "latent_size": 16} | options
    config = mg.Config(model="toy", condition=condition, seed=seed, steps=steps, **options)
    trainer = mg.Trainer(config.replace(lr_g=2e-3, lr_d=2e-3, beta1=0.0), data)
    for _ in lesson.progress(range(steps), f"{condition}, seed {seed}"):
        trainer.step()
    return trainer


def study(name, values):
    lesson.record(name, values)
    return np.mean(values)


asked = np.arange(N) % CLASSES
CONDITIONS = ("concat", "acgan", "projection")
shuffled = Dataset("shuffled", pixels, rng.permutation(digits.labels), CLASSES)
runs = {name: [train(name, seed) for seed in SEEDS] for name in CONDITIONS}
runs["shuffled"] = [train("projection", seed, shuffled) for seed in SEEDS]
agreement, recall = {}, {}
for name, group in runs.items():
    samples = [run.sample(N, 1, asked) for run in group]
    shares = [(class_of(x) == asked).mean() for x in samples]
    agreement[name] = study(f"{name}: class asked for", shares)
    study(f"{name}: precision", [overlap(x).precision for x in samples])
    recall[name] = study(f"{name}: recall", [overlap(x).recall for x in samples])
lowest = min(agreement[name] for name in CONDITIONS)
lesson.expect("class asked for, lowest of three", lowest, at_least=0.9 if lesson.fast else 0.95)
lesson.expect("class asked for, shuffled labels", agreement["shuffled"], at_most=0.2)
lesson.expect("recall, acgan / projection", recall["acgan"] / recall["projection"], at_most=0.5)

# %% [markdown]
# All three follow the label: 97.4 %, 98.3 % and 96.1 % (mean of three seeds; of real digits the
# classifier knows 96.5 %). With shuffled labels it is chance, 10 %, though the nets are the same:
# only data in which label and sample belong together give the label a meaning. So 001 is right
# about a GAN that gets nothing but noise; a D that checks the label is all that is missing.
#
# Agreement is not quality. AC-GAN follows the label as well as the others, and its recall is 0.008:
# its G is rewarded for samples that are easy to classify, and draws few kinds of each digit.
# Projection has the best recall of the three, 0.72 (concat 0.59). A share that rises with less
# variety needs a second number beside it (exercise 1).
#
# ## 2. A code without labels: InfoGAN
#
# Without labels, a part $c$ of the input can be a *code* that is drawn at random: a category of
# ten, and two of the latent's numbers. D gets a second head, Q, which must find the code of a fake;
# G helps it, so the code must be visible in the sample (Chen et al. 2016). Both minimize
# $-\log q(c \mid G(z, c))$, for the category the cross-entropy. The entropy of the category,
# $\log 10 = 2.30$ nats, minus this number is a lower bound of what a sample tells about it (their
# mutual information). *Before you run it:* how near does it come to 2.30? And are the categories
# digits? (Each category is matched with one digit, in the best way; k-means with ten clusters is
# the rival, random categories are the floor.)


# %%
def k_means(x, k, seed, rounds=10 if lesson.fast else 40):
    centres = x[np.random.default_rng(seed).choice(len(x), k, replace=False)]
    for _ in range(rounds):
        nearest = nearest_distances(x, centres)[1][:, 0]
        centres = np.stack([x[nearest == i].mean(0) for i in range(k)])
    return centres


def q_of(run, x):  # Q's log-probabilities of the categories
    logits = run.discriminator(mg.tensor(x)).numpy()[:, 1 : 1 + CLASSES].astype(float)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


INFO = {"categories": CLASSES, "codes": 2, "penalty": "none", "steps": 3 * STEPS // 2}
runs["infogan"] = [train("infogan", seed, **INFO) for seed in SEEDS]
samples = [run.sample(N, 1, asked) for run in runs["infogan"]]
pairs = zip(runs["infogan"], samples, strict=True)
known = [q_of(run, x)[np.arange(N), asked].mean() for run, x in pairs]
information = study("InfoGAN: information on the category, nats", np.log(CLASSES) + known)
study("InfoGAN: recall", [overlap(x).recall for x in samples])
shares = [matched_agreement(class_of(x), asked) for x in samples]
study("InfoGAN: samples of their category's digit", shares)
centres = [k_means(train_part.values, CLASSES, seed) for seed in SEEDS]
untrained = [mg.Trainer(run.config, data) for run in runs["infogan"]]
found = {
    "InfoGAN": [q_of(run, real).argmax(1) for run in runs["infogan"]],
    "InfoGAN, untrained": [q_of(run, real).argmax(1) for run in untrained],
    "k-means": [nearest_distances(real, c)[1][:, 0] for c in centres],
    "random": rng.integers(CLASSES, size=(len(SEEDS), N)),
}
for name, groups in found.items():
    shares = [matched_agreement(codes, held_out.labels) for codes in groups]
    found[name] = study(f"real digits in their category, {name}", shares)
lesson.expect("information on the category, nats", information, at_least=2)
ratio = found["InfoGAN"] / found["k-means"]
lesson.expect("real digits in their category, InfoGAN / k-means", ratio, at_most=0.95)

# %% Figure
with lesson.figure(11, 5.6) as figure:
    shown = {"concat": "concat: asked for 0 to 9", "infogan": "InfoGAN: ten categories, no labels"}
    for axes, (name, title) in zip(figure.subplots(1, 2), shown.items(), strict=True):
        sheet = as_images(runs[name][0].sample(10 * CLASSES, 1))
        axes.imshow(pictures.tile(sheet, CLASSES), cmap="gray", vmin=0, vmax=255)
        axes.set(title=title, xticks=[], yticks=[], xlabel="a column for each label or category")

# %% [markdown]
# The code is nearly all there: 2.24 of 2.30 nats. But the categories are not the digits: on real
# digits Q agrees with 47 %, k-means with 53 % (random categories: 14 %, a Q that was not trained:
# 19 %). Of the fakes, 58 % are of the digit of their category; the others follow slant and stroke
# width too. Q is free to choose *which* ten kinds it tells apart, and knows nothing of digits;
# its recall is only 0.15. (The paper reports 95 %, with convolutional nets and longer training.)
#
# ## 3. Truncation: fewer, but better samples?
#
# BigGAN (Brock et al. 2019) draws the numbers of a latent from $N(0, 1)$, and draws those beyond a
# limit $T$ again (`run.sample(n, truncation=T)`). There, precision rises as $T$ falls, at the price
# of recall. The paper adds that some of its nets made saturated pictures instead, and were trained
# with a further regularization. *Before you run it:* will precision rise here?

# %%
LIMITS = (None, 2.0, 1.5, 1.0, 0.7, 0.4)
runs["none"] = [train("none", seed, latent_size=100) for seed in SEEDS]
curves = {}
for name in ("none", "projection"):
    for limit in LIMITS:
        values = [overlap(run.sampler.sample(N, 1, truncation=limit)) for run in runs[name]]
        for what in ("precision", "recall"):
            shares = [getattr(value, what) for value in values]
            curves[name, what, limit] = study(f"{name}, T = {limit}: {what}", shares)
kept = curves["none", "recall", 1.0] / curves["none", "recall", None]
lesson.expect("recall, T = 1 / no truncation", kept, at_most=0.5)

# %% [markdown]
# It depends on the label. With it (projection), precision rises from 0.81 to 0.91 at T = 1, above
# that of real digits (0.865: real ones are diverse), and recall falls from 0.72 to 0.15, as in
# BigGAN. Without a label, precision rises from 0.70 to 0.73 at T = 2, then falls to 0.50 at T = 1
# and 0.04 at T = 0.4: the latents around 0 lie *between* the digits. Inside of a class there is
# less in between.
#
# A side effect of the limit: the norm. 100 numbers from N(0, 1) have a norm of about 10, with
# T = 1 of 5.4, and no training step showed such latents to G. Section 4 uses that.
#
# ## 4. Between two latents: straight line or arc?
#
# Now the middle between two samples. On the straight line (`lerp`) it is $(z_0 + z_1) / 2$, on an
# arc (`slerp`, White 2016) a latent of the same norm as the ends. *Before you run it:* in 100
# dimensions, what is the norm of the first middle, if the ends have 10? Whose middles are farther
# from the real digits?

# %%
ends = rng.normal(size=(2, N, 100)).astype(np.float32)
middles = {path.__name__: path(*ends, np.array([0.5]))[:, 0] for path in (lerp, slerp)}
middles["ends"] = ends[0]
far = {}
for name, z in middles.items():
    samples = [run.generate(mg.tensor(z, dtype="float32")) for run in runs["none"]]
    lesson.record(f"{name}: norm of the latents", np.linalg.norm(z, axis=1).mean())
    far[name] = study(f"{name}: distance to real digits", [distance(x, real) for x in samples])
    study(f"{name}: recall", [overlap(x).recall for x in samples])
    study(f"{name}: precision", [overlap(x).precision for x in samples])
lesson.expect("distance of middles, lerp / slerp", far["lerp"] / far["slerp"], at_least=1.5)

# %% Figure
with lesson.figure(11, 3.6, "truncation") as figure:
    left, middle, right = figure.subplots(1, 3)
    for axes, name in (left, "none"), (middle, "projection"):
        for what, colour in (("precision", DATA), ("recall", GENERATOR)):
            values = [curves[name, what, limit] for limit in LIMITS]
            axes.plot(range(len(LIMITS)), values, "o-", color=colour, label=what)
            axes.axhline(getattr(others, what), color=colour, lw=1, ls=":")
        axes.set_xticks(range(len(LIMITS)), ["none", *map(str, LIMITS[1:])])
        axes.set(
            ylim=(0, 1),
            xlabel="limit T; dotted: real digits",
            title={"none": "Without a label"}.get(name, "With it (projection)"),
        )
    left.legend()
    right.bar(list(far), list(far.values()), color=(GREEN, GENERATOR, GREY))
    right.set_title("Middles: distance to real digits")

# %% [markdown]
# 7.07: two independent latents are nearly perpendicular. The middles of straight lines are 3.5
# times as far from the digits as those of arcs (0.188 and 0.054), and cover 47 % of them, not 81 %;
# the arcs' middles are as good as any samples. Yet the precision of both is about the same: a blend
# may pass as a digit, but together they are too much alike, as with truncation. So minigan's walks
# (`minigan sample --walk`) go along arcs, but for latents from a cube.
#
# ## 5. Directions
#
# A direction of the latent space may mean something too. `run.traverse` sets a latent's component
# along a direction to -2, ..., 2 standard deviations, and leaves the rest. InfoGAN's two codes are
# such directions. SeFa (Shen and Zhou 2021) needs no training: the output of G's first layer moves
# most along the singular vectors of its weight with the largest singular values.

# %%
moves = {}
for run in runs["none"]:
    generator = run.sampler
    random_ones = rng.normal(size=(5, 100))
    for name, directions in (("SeFa", generator.directions(5)), ("random", random_ones)):
        strips = generator.traverse(directions, 20, 2)
        change = np.linalg.norm(strips[:, :, 1] - strips[:, :, 0], axis=-1).mean()
        moves.setdefault(name, []).append(change)
for name, changes in moves.items():
    lesson.record(f"change along a direction, {name}", changes)

# %% Figure
with lesson.figure(11, 4, "directions") as figure:
    info, plain = runs["infogan"][0].sampler, runs["none"][0].sampler
    codes = info.traverse(info.codes(), 3, labels=np.arange(3)).reshape(-1, 196)
    shown = {"InfoGAN: code 1 (three samples), then code 2": codes}
    shown["SeFa: a row for each of six directions"] = plain.traverse(plain.directions(6), 1)[:, 0]
    for axes, (title, strips) in zip(figure.subplots(1, 2), shown.items(), strict=True):
        axes.imshow(pictures.tile(as_images(strips), 10), cmap="gray", vmin=0, vmax=255)
        axes.set(title=title, xticks=[], yticks=[], xlabel="from -2 to 2 standard deviations")

lesson.finish()

# %% [markdown]
# Along SeFa's five directions the images change by 8.4 (the norm of the difference of the two
# ends), along random directions by 2.6: no training was needed to find them. What they mean you
# must find out by looking: they turn one digit into another. InfoGAN's codes were found by Q in
# every category, so here code 1 is the weight of the strokes and code 2 the slant, in all rows.
#
# ## Exercises
#
# 1. A generator that needs no training answers each label with the mean of the training images of
#    that class. How often does the classifier see the class that was asked for? What are
#    precision and recall? <details><summary>Answer</summary> Always (1.0), precision is 1.0, and
#    recall is 0: the first two numbers are better than those of all GANs of this lesson. </details>
# 2. Why do the arcs of `slerp` not have exactly the norm of a typical latent, and what is the norm
#    of the middle of a straight line between two latents of $d$ numbers, for large $d$?
#    <details><summary>Answer</summary> The norm goes linearly from that of the one end to that of
#    the other, and these differ. $|z_0 + z_1|^2 / 4$ has the mean $2 d / 4$, so $\sqrt{d / 2}$:
#    7.07 for $d = 100$. </details>
# 3. In two dimensions, are arcs still better? Train without a label and with `latent_size=2`.
#    <details><summary>Answer</summary> No: the middles of lines are at 0.16 from the digits, those
#    of arcs at 0.18, in each of three seeds. Norms of two numbers vary widely, so small ones are
#    nothing new to G. </details>
#
# Next: 18 Images from images.

# %% [markdown]
# # 21 Adversarial examples
#
# 对抗样本不同于 GAN 的对抗训练：网络固定，只改动输入。本课测量攻击、防御，以及判别器能否识破攻击。
#
# The word *adversarial* stands for two things. A GAN is a game of two nets. An *adversarial
# example* is an input of one fixed net, changed so little that we hardly see it, so that the net
# errs. Tutorial 001 (2.1; README.md lists the tutorials) makes the second a product of the first,
# and 000 (9) and 001 (9) let it improve a GAN. You will attack a classifier, train one that
# resists, ask a GAN's discriminator whether it sees the attack, and then train a GAN with attacks.
#
# Needs: 05 (what a discriminator estimates) and 14 (a convolutional GAN).

# %%
from functools import partial

import numpy as np

import minigan as mg
from minigan import ops
from minigan.gan.models import MODELS
from minigan.metrics import classify, roc_auc, train_classifier
from minigan.metrics import sliced_wasserstein as distance
from minigan.utils import figures as pictures
from minigan.utils.figures import BLUE, GREY, ORANGE
from minigan.utils.lesson import Lesson

lesson = Lesson("21_adversarial_examples", "Adversarial examples")
N, STEPS = (200, 200) if lesson.fast else (1000, 600)  # digits to attack; steps of a training
data = lesson.digits(4000 if lesson.fast else 10_000)
order = np.random.default_rng(0).permutation(len(data))
images, labels = data.values[order], data.labels[order]
clean, truth = images[:N], labels[:N]  # the others are for training


def accuracy(net, digits):
    return (classify(net, digits) == truth).mean()


# %% [markdown]
# ## A change that is chosen
#
# A net has a loss $L(x)$ for an image $x$ with its label. Move every pixel by $\pm r$: by which
# signs does the loss rise most? For a small $r$, $L(x + d) \approx L(x) + g \cdot d$ with the
# gradient $g$ by the *pixels*. So the best change is $d = r \, \mathrm{sign}(g)$, and $L$ rises by
# $r \sum |g_i|$. This is the fast gradient sign method, FGSM (Goodfellow et al. 2015). With random
# signs the terms cancel: the change is about $\pm r \sqrt{\sum g_i^2}$. If all slopes were alike
# this would be $\sqrt{784} = 28$ times less. *Projected gradient descent*, PGD (Madry et al.
# 2018), takes several smaller steps, and after each goes back to at most $r$ from $x$, and into the
# range.
#
# The papers have pixels in $[0, 1]$ and call the size $\varepsilon$; ours are in $[-1, 1]$, so that
# $r = 2 \varepsilon$. *Before you run it:* the net is right for 98 % of the digits. What is
# left after noise of size $\varepsilon = 0.2$, and what after PGD of the same size?


# %%
def pgd(net, x, y, epsilon, steps=10):
    r, moved = 2 * epsilon, x
    for _ in range(steps):
        moved = moved * 1.0  # a copy without a graph
        moved.requires_grad = True
        (g,) = mg.grad(mg.nn.functional.cross_entropy(net(moved), y), [moved])
        moved = moved.detach() + 2.5 * r / steps * ops.sign(g)
        moved = ops.minimum(ops.maximum(moved, ops.maximum(x - r, -1)), ops.minimum(x + r, 1))
    return moved


def noise(net, x, y, epsilon):
    return ops.clip(x + 2 * epsilon * mg.random.uniform(x.shape, -1, 1), -1, 1)


ATTACKS = {"noise": noise, "FGSM": mg.adversarial.fgsm, "PGD": pgd}
EPSILONS = (0.05, 0.1, 0.2, 0.3)


def attacked(attack, net, epsilon):
    return attack(net, mg.tensor(clean), mg.tensor(truth), epsilon).numpy()


def all_attacks(net):
    return {(name, e): attacked(ATTACKS[name], net, e) for name in ATTACKS for e in EPSILONS}


plain = train_classifier(images[N:], labels[N:], 10, STEPS)
changed = {"plain": all_attacks(plain)}
lesson.record("accuracy, clean", accuracy(plain, clean))
lesson.record("accuracy, FGSM 0.2", accuracy(plain, changed["plain"]["FGSM", 0.2]))
after_noise, after_pgd = (accuracy(plain, changed["plain"][x, 0.2]) for x in ("noise", "PGD"))
lesson.expect("accuracy, noise 0.2", after_noise, at_least=0.9)
lesson.expect("accuracy, PGD 0.2", after_pgd, at_most=0.1)


# %% Figure
def show(axes, name, digits):
    axes.imshow(pictures.tile(digits[:10], 10), cmap="gray", vmin=0, vmax=255)
    answers = classify(plain, digits[:10])
    axes.set_xticks([14 + 29 * i for i in range(10)], answers)
    for label, answer, correct in zip(axes.get_xticklabels(), answers, truth, strict=False):
        label.set_color("black" if answer == correct else ORANGE)
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


with lesson.figure(10, 4.6, "digits") as figure:
    shown = {"clean": clean} | {f"{x} 0.2": changed["plain"][x, 0.2] for x in ATTACKS}
    for axes, (name, digits) in zip(figure.subplots(4, 1), shown.items(), strict=True):
        show(axes, name, digits)

# %% [markdown]
# (Below each digit: what the net answers.) The noise is as large, and harmless. So this is no
# matter of image quality, and no generator took part: 001's product of a game needs no game.
#
# ## The other adversarial training
#
# Madry et al. (2018) train a net on the worst change of each image of the batch:
# $$\min_\theta \, E_{x, y} \; \max_{|d_i| \le r} \; L_\theta(x + d, y)$$
# Goodfellow's GAN solves $\min_G \max_D V(D, G)$. Both are a minimum of a maximum, hence the name.
# But here the inner player has no weights: it starts anew at each image, and vanishes afterwards.
# *Before you run it:* after such a training with $\varepsilon = 0.2$ (three steps of PGD each), how
# many digits does the net recognize under PGD of that size, and how many clean ones does it lose?

# %%
worst = partial(mg.adversarial.pgd, epsilon=0.2, steps=3)
robust = train_classifier(images[N:], labels[N:], 10, STEPS, perturb=worst)
changed["trained with PGD 0.2"] = all_attacks(robust)
of_robust = changed["trained with PGD 0.2"]
lesson.record("robust net: accuracy, clean", accuracy(robust, clean))
lesson.record("robust net: accuracy, PGD 0.3", accuracy(robust, of_robust["PGD", 0.3]))
under_pgd = accuracy(robust, of_robust["PGD", 0.2])
least = 0.4 if lesson.fast else 0.7
lesson.expect("robust net: accuracy, PGD 0.2", under_pgd, at_least=least)

# %% Figure
with lesson.figure(9, 3.6) as figure:
    for axes, (name, digits) in zip(
        figure.subplots(1, 2, sharey=True), changed.items(), strict=True
    ):
        net = plain if name == "plain" else robust
        for attack, colour in zip(ATTACKS, (GREY, BLUE, ORANGE), strict=True):
            shares = [accuracy(net, clean), *(accuracy(net, digits[attack, e]) for e in EPSILONS)]
            axes.plot([0, *EPSILONS], 100 * np.array(shares), "o-", color=colour, label=attack)
        axes.set(title=f"classifier: {name}", xlabel="epsilon", ylim=(-3, 103))
    figure.axes[0].set_ylabel("accuracy, %")
    figure.axes[1].legend(loc="lower left")

# %% [markdown]
# It loses two clean digits in a hundred, and holds up to the size that it was trained for, not
# beyond: 80 % under PGD 0.2, 17 % under 0.3.
#
# ## Does a discriminator see the attack?
#
# A GAN's $D$ has learned what real digits look like. If it rejects attacked ones, it is a detector
# for free. We train three small GANs on the same training digits; the score of an image is minus
# the logit of $D$. The *area under the ROC curve*, AUC, is the probability that an attacked digit
# scores higher than a clean one (1: perfect; 1/2: guessing). A detector has to beat a simple one:
# as nearly all pixels of these digits are black or white, we also count grey ones. *Before you run
# it:* which of the two detects PGD 0.2 better? Does $D$ flag noise of that size as much?

# %%
SEEDS, LATENT, BATCH = range(1 if lesson.fast else 3), 64, 32
GAN_STEPS = 300 if lesson.fast else 600


def train_gan(seed, epsilon=0.0):
    """Train a small convolutional GAN; return D, and N digits by the average of G's weights."""
    mg.manual_seed(seed)
    G, D = MODELS["narrow"].build((1, 28, 28), LATENT)
    opt_g, opt_d = (mg.optim.Adam(x.parameters(), lr=1e-3, betas=(0.0, 0.99)) for x in (G, D))
    average, loss = mg.optim.ExponentialMovingAverage(G, 0.99), mg.losses.NonSaturating()
    rows = np.random.default_rng(seed)

    @mg.capture
    def step(real):
        fake = G(mg.random.normal((BATCH, LATENT)))
        if epsilon:  # real digits, changed so that this D takes them for fakes: FGSM
            one_step = {"steps": 1, "step_size": epsilon, "random_start": False}
            real = mg.adversarial.ascend(lambda x: -D(x)[:, 0], real, epsilon, **one_step)
        loss_d = loss.discriminator(D(real), D(fake.detach())) + 0.5 * mg.losses.r1_penalty(D, real)
        opt_d.step(mg.grad(loss_d, D.parameters()))
        opt_g.step(mg.grad(loss.generator(D(fake)), G.parameters()))
        average.update()

    for _ in lesson.progress(range(GAN_STEPS), f"seed {seed}"):
        step(mg.tensor(images[rows.integers(N, len(images), BATCH)]))
    return D, average.module(mg.random.normal((N, LATENT), stream="test")).numpy()


def score(D, digits):
    return -D(mg.tensor(digits)).numpy()[:, 0]


def grey(digits):
    return (abs(digits) < 0.9).mean(axis=(1, 2, 3))


gans = [train_gan(seed) for seed in SEEDS]
of_plain = {name: changed["plain"][name, 0.2] for name in ATTACKS}
auc = {x: [roc_auc(score(D, clean), score(D, of_plain[x])) for D, _ in gans] for x in of_plain}
for name, values in auc.items():
    lesson.record(f"AUC of D, {name} 0.2", values)
noisy, strong = of_plain["noise"], of_plain["PGD"]
against = [roc_auc(score(D, noisy), score(D, strong)) for D, _ in gans]
lesson.record("AUC of D, PGD 0.2 against noise 0.2", against)
lesson.expect("AUC of D, PGD 0.2 against clean", np.mean(auc["PGD"]), at_least=0.75)
lesson.expect("AUC of grey pixels, PGD 0.2", roc_auc(grey(clean), grey(strong)), at_least=0.99)

# %% [markdown]
# $D$ does see something: AUC 0.94 ± 0.01. Only a part of it is noise, for which it is 0.79 ± 0.01,
# and between the two it is 0.78 ± 0.02. But counting grey pixels is perfect, without any training.
#
# These attacks did not know that they are watched. Now the attacker knows $D$, and ascends
# $L - 10 \max(0, s - s_0)$, where $s$ is the score, and $s_0$ that of the clean digit. (Carlini and
# Wagner 2017 evaded ten published detectors like this.) *Before you run it:* what AUC is left, and
# is the classifier still deceived?


# %%
def evade(D):
    x, y = mg.tensor(clean), mg.tensor(truth)

    def objective(moved):
        loss = mg.adversarial.cross_entropy_per_sample(plain(moved), y)
        return loss - 10 * ops.relu(D(x) - D(moved))[:, 0]

    return mg.adversarial.ascend(objective, x, 0.2, steps=10 if lesson.fast else 30).numpy()


evading = [evade(D) for D, _ in gans]
left = [roc_auc(score(D, clean), score(D, x)) for (D, _), x in zip(gans, evading, strict=True)]
lesson.record("AUC of D, attack that evades it", left)
lesson.record("accuracy, attack that evades D", [accuracy(plain, x) for x in evading])
lesson.expect("AUC of D, attack that evades it, largest", max(left), at_most=0.6)

# %% Figure
with lesson.figure(10, 2.6, "evading") as figure:
    shown = {"PGD 0.2": strong, "evading D": evading[0]}
    for axes, (name, digits) in zip(figure.subplots(2, 1), shown.items(), strict=True):
        show(axes, name, digits)

# %% [markdown]
# D guesses now, and the classifier is right for one digit in five. A detector has to be measured by
# the attack that knows it.
#
# ## Do adversarial examples help a GAN?
#
# 000 and 001 hope that they improve samples, without a method. The direct one: at each step,
# change the *real* digits by FGSM against $D$, so that it takes them for fakes, and let it learn
# that they are real. *Before you run it:* will the samples be nearer to held-out digits (sliced
# Wasserstein distance, lesson 06), or farther away?

# %%
sizes = (0.1,) if lesson.fast else (0.02, 0.1)
samples = {0.0: [fake for _, fake in gans]}
samples |= {e: [train_gan(seed, e)[1] for seed in SEEDS] for e in sizes}
distances = {e: [distance(fake, clean) for fake in fakes] for e, fakes in samples.items()}
for epsilon, values in distances.items():
    lesson.record(f"distance of samples, D trained with FGSM {epsilon:g}", values)
lesson.record("distance of real digits", distance(images[N : 2 * N], clean))
ratio = np.mean(distances[0.1]) / np.mean(distances[0.0])
least = 1.1 if lesson.fast else 1.5
lesson.expect("distance of samples, with FGSM 0.1 / without", ratio, at_least=least)

# %%
lesson.finish()

# %% [markdown]
# Farther: 0.042 ± 0.001 without, 0.045 ± 0.001 with $\varepsilon = 0.02$, and 0.083 ± 0.002 with
# 0.1. $D$ no longer sees a clean digit, and $G$ learns what $D$ takes for real. (Other methods may
# do better: Liu and Hsieh 2019 report gains with a $D$ that classifies, too.)
#
# ## Exercises
#
# 1. Train the classifier with *noise* of size 0.2 in place of PGD, `perturb=partial(noise,
#    epsilon=0.2)`. What is its accuracy under PGD 0.2?
#    <details><summary>Answer</summary>3 %, as good as nothing; of clean digits 98 %. Random changes
#    do not show the net the direction that hurts.</details>
# 2. Show the attacked digits to *another* classifier, `train_classifier(..., seed=1)`. Is it
#    deceived, though the attack did not know it?
#    <details><summary>Answer</summary>Yes: it is right for 18 to 26 % (three seeds). Attacks
#    *transfer*: nets that learn from the same data have similar gradients.</details>
# 3. How can an attack evade the count of grey pixels?
#    <details><summary>Answer</summary>By changing only pixels that are grey already, a tenth of
#    them. The AUC falls to 0.22, but the classifier is still right for 86 %.</details>
#
# Next: back to the [start](README.md).

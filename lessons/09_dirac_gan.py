# %% [markdown]
# # 09 Dirac-GAN: why it rotates
#
# 只有 theta 和 psi 两个数的 GAN：它为什么绕圈，同时更新为什么向外发散，R1 为什么像摩擦力？
# 本课用自动求导算出向量场、轨迹和特征值，并检验教程 000、001、003、004 的训练步骤。
#
# Lesson 05 found the equilibrium of the game. Does training go there? 003 (4.4) calls it the goal
# and does not ask; 001 (5.2) computes both losses from one forward pass, then updates both players,
# and 004 (3.1) lists the same order, though 001 (3.1) says "alternately". Here is the smallest GAN
# in which all this can be seen: one number against one number. Needs: 05.

# %%
import math

import numpy as np

import minigan as mg
from minigan import ops
from minigan.gan.losses import Minimax, NonSaturating, Wasserstein, gradient_penalty, r1_penalty
from minigan.utils.figures import DATA, DISCRIMINATOR, GENERATOR, GREEN, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("09_dirac_gan", "Dirac-GAN: why it rotates")

# %% [markdown]
# ## Two numbers
#
# All data are the point 0. The generator has no noise: its fake is the point theta. The
# discriminator is a line through 0 with slope psi: here $D(x) = \psi x$ is the logit (Mescheder,
# Geiger and Nowozin 2018; their psi has the other sign). The equilibrium is $\theta = \psi = 0$:
# the fake is the data, and D is flat. With the losses of lesson 05 and $D(0) = 0$, D minimizes
# $\log 2 + \log(1 + e^{\psi\theta})$, G minimizes $-\log(1 + e^{\psi\theta})$. Each goes downhill,
# against the derivative of its own loss. So their velocities are
#
# $$\dot\theta = \psi\,\sigma(\psi\theta), \qquad \dot\psi = -\theta\,\sigma(\psi\theta),
#   \qquad \sigma = \text{sigmoid}$$
#
# G moves as fast as D is steep, D tilts as fast as G is far from the data. Follow a turn: (1) G is
# wrong and D flat, so D tilts. (2) That moves G to the data; but now D is at its steepest and
# pushes G past them. (3) G is wrong on the other side, D tilts back, (4) and G is pushed past
# again. Each player chases the other, and each is right just when the other is most wrong.
#
# Before you run it: does the velocity point towards the equilibrium, away from it, or neither?

# %%
STEP, MINIMAX = 0.2, Minimax()


def gradients(theta, psi, gan=MINIMAX, penalty=None, noise=0.0):
    """Return dL_G/dtheta and dL_D/dpsi, which can be differentiated again."""
    theta, psi = theta * 1.0, psi * 1.0  # copies: one may depend on the other, through a step

    def D(x):
        return x * psi

    real = mg.tensor([[-noise], [noise]], dtype="float64")  # two points at 0, if there is no noise
    fake = real + theta
    loss_d = gan.discriminator(D(real), D(fake))
    if penalty is not None:
        loss_d = loss_d + penalty(D, real, fake)
    (g,) = mg.grad(gan.generator(D(fake)), [theta], create_graph=True)
    (d,) = mg.grad(loss_d, [psi], create_graph=True)
    return g, d


def leaf(value):
    return mg.tensor(value, dtype="float64", requires_grad=True)


places = np.stack(np.meshgrid(*[np.linspace(-1.5, 1.5, 9)] * 2), axis=-1).reshape(-1, 2)
velocity = np.array([[-x.item() for x in gradients(leaf(t), leaf(s))] for t, s in places])
radial = abs((places * velocity).sum(axis=1)).max()
lesson.expect("81 places: largest position times velocity", radial, at_most=1e-12)

# %% Figure
with lesson.figure(13, 3.3, "field") as figure:
    *stages, field = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
    texts, turn = ("D tilts", "G overshoots") * 2, ((1, 0), (0, -1), (-1, 0), (0, 1))
    for i, (axes, (t, s)) in enumerate(zip(stages, turn, strict=True)):
        axes.plot([-1.5, 1.5], [-1.5 * s, 1.5 * s], color=DISCRIMINATOR, lw=3)
        axes.plot(0, 0, "o", color=DATA, ms=15)
        axes.plot(t, 0, "o", color=GENERATOR, ms=9)
        end, start = ((s, 0), (0, 0)) if s else ((1.5, -t), (1.5, 0))
        arrow = {"arrowstyle": "-|>", "lw": 2.5, "mutation_scale": 20}
        arrow["color"] = GENERATOR if s else DISCRIMINATOR
        axes.annotate("", end, start, arrowprops=arrow)
        axes.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), title=f"({i + 1}) {texts[i]}")
        axes.set_axis_off()
    for x, name, colour in ((0, "data", DATA), (1, "G", GENERATOR), (-1.2, "D", DISCRIMINATOR)):
        stages[0].text(x, 0.2, name, color=colour, ha="center")
    field.quiver(*places.T, *velocity.T, color="#777777", angles="xy", scale=9, width=0.008)
    for i, (t, s) in enumerate(turn, 1):
        field.text(t, s, i, ha="center", va="center", bbox={"fc": "white", "boxstyle": "circle"})
    field.set_xlabel("theta (G)", color=GENERATOR)
    field.set_ylabel("psi (slope of D)", color=DISCRIMINATOR)
    field.set(aspect="equal", title="The velocity")

# %% [markdown]
# Neither: $\theta\dot\theta + \psi\dot\psi = 0$, so $\theta^2 + \psi^2$ never changes. With
# infinitely small steps, this GAN circles for ever at the distance from which it started. The
# equilibrium exists, and is never reached.
#
# ## Steps that are not infinitely small
#
# A *simultaneous* step computes both gradients at one place, then moves both players by h times
# their velocity, along the tangent. A tangent leaves the circle on the outside: $r^2 = \theta^2 +
# \psi^2$ becomes $r^2 (1 + h^2 \sigma^2)$. This is Euler's method on a rotation, and it spirals out
# for any h. In an *alternating* step G moves first (D first is as good), and D sees where G went.
# Near the equilibrium, where $\sigma = 1/2$, the matrix of such a step and its determinant are
#
# $$\begin{pmatrix} 1 & h/2 \\ -h/2 & 1 - h^2/4 \end{pmatrix}, \qquad
#   1 \cdot (1 - h^2/4) + h^2/4 = 1$$
#
# A determinant of 1 keeps areas, and the step turns, so orbits neither grow nor shrink. Seven GANs,
# h = 0.2, 500 steps from theta = 1, psi = -1 (radius 1.414): which arrive at 0? NSGAN: G's loss is
# -log D. WGAN (11): logits are the losses, and psi is clipped to [-1, 1], or (WGAN-GP) a penalty
# wants slope 1 or -1. *Instance noise* is added to real and fake samples (here 0.7 and -0.7, so
# averages are exact). R1 adds $\tfrac{\gamma}{2} D'(0)^2 = \tfrac{\gamma}{2} \psi^2$ to D's loss.


# %%
def step(theta, psi, alternating=False, h=STEP, **game):
    g, d = gradients(theta, psi, **game)
    new = theta - h * g
    if alternating:
        d = gradients(new, psi, **game)[1]
    return new, psi - h * d


def orbit(steps=500, clip=math.inf, **options):
    theta, psi, path = leaf(1.0), leaf(-1.0), [(1.0, -1.0)]

    @mg.capture
    def advance():
        new_theta, new_psi = step(theta, psi, **options)
        mg.optim.assign(theta, new_theta.detach())
        mg.optim.assign(psi, ops.clip(new_psi.detach(), -clip, clip))

    for _ in range(steps):
        advance()
        path.append((theta.item(), psi.item()))
    return np.array(path)


def r1(gamma):
    return {"penalty": lambda D, real, fake: r1_penalty(D, real) * (gamma / 2)}


GAMES = {
    "GAN": {},
    "NSGAN": {"gan": NonSaturating()},
    "WGAN, clipped": {"gan": Wasserstein(), "clip": 1.0},
    "WGAN-GP": {"gan": Wasserstein(), "penalty": lambda D, x, y: 0.35 * gradient_penalty(D, x, y)},
    "GAN, noise": {"noise": 0.7},
    "R1, gamma 0.3": r1(0.3),
    "R1, gamma 1": r1(1.0),
}
# Simultaneous and alternating, from gradients by hand, in numpy (the tests do it again).
KNOWN = {"GAN": (3.09695, 1.42102), "NSGAN": (0.64021, 0.28392)}
KNOWN |= {"WGAN, clipped": (1.00215, 1.02412), "WGAN-GP": (1.80179, 1.22107)}
orbits = {
    name: [orbit(alternating=alternating, **game) for alternating in (False, True)]
    for name, game in GAMES.items()
}
ends = {name: [np.hypot(*path[-1]) for path in paths] for name, paths in orbits.items()}
for name, radii in ends.items():
    for order, radius in zip(("simultaneous", "alternating"), radii, strict=True):
        lesson.record(f"{name}, {order}: radius", radius)
gap = max(abs(np.subtract(ends[name], radii)).max() for name, radii in KNOWN.items())
lesson.expect("first four GANs: radius - known radius", gap, at_most=1e-5)
worst = max(max(ends[name]) for name in ("GAN, noise", "R1, gamma 0.3", "R1, gamma 1"))
lesson.expect("noise and R1: radius after 500 steps", worst, at_most=1e-4)

# %% Figure
with lesson.figure(13, 4.3) as figure:
    for row, (order, colour) in enumerate((("simultaneous", PINK), ("alternating", GREEN))):
        for column, (name, paths) in enumerate(orbits.items()):
            axes = figure.add_subplot(2, 7, 7 * row + column + 1)
            axes.plot(*paths[row].T, color=colour, lw=1)
            axes.plot(0, 0, "+", color="black", ms=9)
            axes.plot(1, -1, "o", color="black", ms=5)
            axes.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xticks=[], yticks=[], aspect="equal")
            axes.set_title("" if row else name, fontsize=12)
            axes.set_xlabel(f"radius {ends[name][row]:.2g}")
            if not column:
                axes.set_ylabel(order, color=colour)

# %% [markdown]
# - **GAN**: outwards with simultaneous steps, an orbit with alternating ones.
# - **NSGAN**: G is pulled a little harder where it is worse, so it comes nearer, but ever more
#   slowly; with simultaneous steps it stays at a radius of about 0.63 (exercise 3).
# - **WGAN**: clipping leaves the rotation as it is; the penalty keeps D steep where G is right.
# - **Noise, R1**: they arrive. Why?
#
# ## Eigenvalues
#
# Near the equilibrium, the velocity is J times (theta, psi), where J is the matrix of its
# derivatives, the Jacobian. Along an eigenvector of J with the eigenvalue $\lambda$, the distance
# grows like $e^{\lambda t}$: the real part says how fast it grows, the imaginary part how fast it
# turns. R1 adds the velocity $-\gamma\psi$ to D, so
#
# $$J = \begin{pmatrix} 0 & 1/2 \\ -1/2 & -\gamma \end{pmatrix}, \qquad
#   \lambda = -\frac{\gamma}{2} \pm \sqrt{\frac{\gamma^2}{4} - \frac{1}{4}}$$
#
# So $\ddot\theta = -\tfrac14 \theta - \gamma \dot\theta$, a pendulum with small swings: R1 is
# friction. Without it the pendulum swings for ever. With $\gamma < 1$ it swings and comes to rest,
# at $\gamma = 1$ it comes to rest without swinging (critical damping), and with more it creeps.
# Instance noise n is friction too: in the mean over n, the tilt of D costs $\tfrac14 \psi^2
# \mathbb{E}\,n^2$ in D's loss, as with R1 and $\gamma = \mathbb{E}\,n^2 / 2$.
#
# The engine finds J without any of this: each row is the gradient of one velocity, that is, of a
# gradient. A step, as a function of (theta, psi), has a Jacobian too; if it is simultaneous, its
# eigenvalues are $1 + h\lambda$. Steps converge if all moduli (sizes) are below 1. Predict the
# largest modulus for the GAN without R1, for both orders.


# %%
def eigenvalues(f):
    """Return the two eigenvalues of the Jacobian of f at theta = psi = 0."""
    origin = [leaf(0.0), leaf(0.0)]
    columns = mg.jacobian(mg.stack(f(*origin)), origin)
    J = np.stack([column.numpy() for column in columns], axis=1)
    root = np.sqrt(J.trace() ** 2 / 4 - np.linalg.det(J) + 0j)
    return J.trace() / 2 + np.array([root, -root])


def of_velocity(**game):
    return eigenvalues(lambda *x: [-g for g in gradients(*x, **game)])


def largest_modulus(**options):
    return abs(eigenvalues(lambda *x: step(*x, **options))).max()


def formula(gamma):
    return -gamma / 2 + np.array([1, -1]) * np.sqrt(gamma**2 / 4 - 1 / 4 + 0j)


gammas = np.linspace(0, 2, 41)
found = np.array([of_velocity(**r1(gamma)) for gamma in gammas])
gap = abs(found - [formula(gamma) for gamma in gammas]).max()
lesson.expect("R1: eigenvalues, by autograd - by formula", gap, at_most=1e-9)
gap = abs(of_velocity(noise=0.7) - formula(0.7**2 / 2)).max()
lesson.expect("noise 0.7: eigenvalues - those of R1 with 0.245", gap, at_most=1e-9)
moduli = [[largest_modulus(alternating=order, **r1(gamma)) for gamma in gammas] for order in (0, 1)]
for order, row in zip(("simultaneous", "alternating"), moduli, strict=True):
    lesson.record(f"GAN, {order}: largest modulus", row[0])
    lesson.record(f"R1, {order}: lowest modulus", min(row))
    lesson.record(f"R1, {order}: gamma of the lowest modulus", gammas[np.argmin(row)])
gap = abs(np.subtract([m[0] for m in moduli], [math.sqrt(1 + STEP**2 / 4), 1])).max()
lesson.expect("GAN: largest moduli - those predicted", gap, at_most=1e-9)

# %% Figure
with lesson.figure(13, 4.3, "eigenvalues") as figure:
    plane, curve = figure.subplots(1, 2, width_ratios=(1.7, 1))
    plane.axvspan(0, 0.3, color="#eeeeee")
    plane.text(0.15, -0.3, "grows", color="#777777", ha="center")
    plane.axhline(0, color="#cccccc", lw=1, zorder=0)
    plane.plot(found.real, found.imag, "o", color="black", ms=4)
    for gamma, x, y in ((0, 0.15, 0.48), (0.3, -0.22, 0.53), (1, -0.56, 0.05), (2, -1.87, 0.05)):
        plane.text(x, y, f"$\\gamma = {gamma}$", ha="center")
    plane.set(xlim=(-2, 0.3), ylim=(-0.6, 0.6), xlabel="real part", ylabel="imaginary part")
    plane.set(aspect="equal", title="Eigenvalues of the velocity, R1")
    curve.plot(gammas, moduli[0], color=PINK)
    curve.plot(gammas, moduli[1], color=GREEN)
    curve.text(0.36, 0.975, "simultaneous", color=PINK)
    curve.text(0.66, 0.925, "alternating", color=GREEN, ha="right")
    curve.axhline(1, color="black", lw=1, ls=":")
    curve.set(xlim=(0, 2), xlabel="$\\gamma$", title="Largest modulus of a step, R1")

lesson.finish()

# %% [markdown]
# Near the equilibrium, a simultaneous step of the GAN multiplies the distance by 1.005; an
# alternating one has modulus 1, exactly. R1 takes both below 1 (the simultaneous one if $\gamma >
# h/4 = 0.05$), down to 0.9 near $\gamma = 1$. So the steps of 001 (5.2) and 004 (3.1) are
# simultaneous: without friction, this GAN then converges at no learning rate. 003 (3.1) alternates,
# and 000 in words (3.2); but its code (5.2) shows D the fakes from before G's step: simultaneous
# again. As to 003 (4.4): the equilibrium exists, but only the three with friction arrive with both
# orders. Real GANs have many parameters, but their players chase each other too: lesson 08 shows
# it, and lesson 12 what R1 does for 25 Gaussians.
#
# ## Exercises
#
# 1. Are smaller steps a remedy? Try `orbit(5000, h=0.02)`: the same time in smaller steps.
#    <details><summary>Answer</summary>The radius is 1.74 instead of 3.10, still above 1.41. Near
#    the equilibrium a step multiplies it by about $1 + h^2/8$, and a time T has T/h steps:
#    $e^{hT/8}$. Smaller steps go outwards more slowly, but never inwards.</details>
# 2. More friction is not always better: above which gamma do simultaneous steps of 0.2 diverge?
#    <details><summary>Answer</summary>An eigenvalue of the step reaches -1 at $h\gamma = 2 +
#    h^2/8$, gamma = 10.025. With gamma = 12, the radius is above 100 after 40 steps: psi overshoots
#    more each time.</details>
# 3. NSGAN with simultaneous steps: is its radius smaller after 5000 steps than after 500? Why?
#    <details><summary>Answer</summary>Hardly: 0.624 after 0.640. Its eigenvalues are those of the
#    GAN, so near the equilibrium it is pushed out (r² grows by $h^2 r^2/4$ in a step); farther out
#    -log D pulls it in (by $h r^4/8$ on average). Both are equal at $r = \sqrt{2h} = 0.632$: it
#    circles there. With alternating steps there is no push, and r falls like
#    $\sqrt{8/(hn)}$ in n steps: 0.28 after 500, 0.09 after 5000.</details>
#
# Next: 10 compares losses on one task.

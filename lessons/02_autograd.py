# %% [markdown]
# # 02 Autograd from scratch
#
# 教程 001 补全变量之后，第二次反向传播会报错；000 的生成器永远得不到梯度。这里亲手实现自动微分。
#
# Once the undefined names and the image size of tutorial 001 (README.md lists the tutorials) are
# corrected, its second `backward()` crashes; the usual fix, `retain_graph=True`, makes it run, but
# it then trains the two networks on the wrong losses. In tutorial 000 the generator never gets a
# gradient at all. To understand both, we build automatic differentiation: first for numbers, then
# for arrays, then so that gradients have gradients. In the end it is minigan's own engine. There
# 001's mistake cannot happen by accident, and 000's raises an error that says what to do.

# %%
from types import SimpleNamespace

import numpy as np

import minigan as mg
from minigan import nn
from minigan.utils.figures import BLUE, GREY, ORANGE
from minigan.utils.lesson import Lesson, error_of

lesson = Lesson("02_autograd", "Autograd from scratch")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Numbers that record how they were computed
#
# Each number keeps the numbers it was computed from, its parts, and the derivative with respect to
# each. The chain rule then says: go backwards, and add to every part its share of the derivative.
# Only the order matters. A number that is used twice must have collected both shares before it
# passes them on. So we list the numbers such that parts come before what is computed from them (a
# topological order), and go through that list from its end.


# %%
class Number:
    def __init__(self, value, parts=()):
        self.value, self.parts, self.derivative = value, parts, 0.0

    def __add__(self, other):
        return Number(self.value + other.value, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Number(self.value * other.value, [(self, other.value), (other, self.value)])


def topological(t, parts):
    """List what t was computed from, parts first; parts(t) gives (part, derivative) pairs."""
    order, visited = [], set()

    def visit(t):
        if id(t) not in visited:
            visited.add(id(t))
            for part, _ in parts(t):
                visit(part)
            order.append(t)

    visit(t)
    return order


def backward(y):
    y.derivative = 1.0
    for t in reversed(topological(y, lambda t: t.parts)):
        for part, slope in t.parts:
            part.derivative += slope * t.derivative


x = Number(3.0)
square = x * x
backward(square * square + square)  # x^4 + x^2, and `square` is used three times
lesson.expect("d(x^4 + x^2)/dx at x = 3, 4 x^3 + 2 x", x.derivative, equal=114.0)

# %% [markdown]
# ## Arrays, and the adjoint of broadcasting
#
# For arrays the "derivative with respect to a part" would be a Jacobian. Nobody builds it: an op
# knows its vector-Jacobian product (VJP), the function g -> g J of lesson 01. Most VJPs are one
# line. The one that people forget is that of broadcasting. When a bias (3,) is added to a batch (4,
# 3), it is read four times, so its cotangent is the *sum* of four. Broadcasting and summing are
# each other's adjoint: < broadcast(b), g > = < b, sum(g) > for all b and g.


# %%
def sum_to_shape(g, shape):
    """Apply the adjoint of broadcasting from `shape`: sum over the axes it added or stretched."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = [i for i, n in enumerate(shape) if n == 1]
    return g.sum(axis=tuple(stretched), keepdims=True)


gaps = []
for shape in ((3,), (4, 1), (1, 1), ()):
    b, g = rng.normal(size=shape), rng.normal(size=(4, 3))
    gaps.append(abs(np.vdot(np.broadcast_to(b, (4, 3)), g) - np.vdot(b, sum_to_shape(g, shape))))
lesson.expect("broadcasting: |<broadcast(b), g> - <b, sum(g)>|", np.max(gaps), at_most=1e-14)

# %% [markdown]
# ## The engine
#
# Now the whole engine. A `Tensor` is an array with the op and the inputs it was computed from; an
# `Op` is a numpy function, its reference, and one VJP per input. The most important decision: **a
# VJP is written in ops, not in arrays.** Then a gradient is a Tensor with a graph like any other,
# and can be differentiated again.
#
# There is no `.grad` to fill and to clear. `grad(output, inputs)` returns the gradients by these
# inputs, and visits only the tensors on a path from them to the output.


# %%
class Tensor:
    def __init__(self, array, op=None, inputs=()):
        self.array, self.op, self.inputs = np.asarray(array, float), op, inputs


class Op:
    def __init__(self, reference, *vjps):
        self.reference, self.vjps = reference, vjps

    def __call__(self, *inputs):
        return Tensor(self.reference(*[x.array for x in inputs]), self, inputs)


def parts(t):
    """List (input, VJP) for the inputs of t that receive a gradient."""
    pairs = zip(t.inputs, t.op.vjps, strict=True) if t.op else ()
    return [(x, vjp) for x, vjp in pairs if vjp and isinstance(x, Tensor | mg.Tensor)]


def on_path(output, inputs):
    """Return the ids of all tensors on a path from one of the inputs to the output."""
    ids = {id(x) for x in inputs}
    for t in topological(output, parts):
        if any(id(x) in ids for x, _ in parts(t)):
            ids.add(id(t))
    return ids


def grad(output, inputs):
    path = on_path(output, inputs)
    cotangents = {id(output): Tensor(np.ones_like(output.array))}
    for t in reversed(topological(output, parts)):
        for x, vjp in parts(t):
            if id(x) in path:
                gx = vjp(cotangents[id(t)], t, *t.inputs)
                earlier = cotangents.get(id(x))
                cotangents[id(x)] = gx if earlier is None else add(earlier, gx)
    return [cotangents[id(x)] for x in inputs]


# %% [markdown]
# Here are ten ops, each a numpy reference and its VJPs, which are called with the cotangent g, the
# result y and the inputs. Look at the first two: each is the other's VJP. (Of `like` only the shape
# is used, so it has no gradient.)

# %%
expand = Op(
    lambda x, like: np.broadcast_to(x, like.shape), lambda g, y, x, like: sum_to(g, x), None
)
sum_to = Op(lambda x, like: sum_to_shape(x, like.shape), lambda g, y, x, like: expand(g, x), None)
add = Op(np.add, lambda g, y, a, b: sum_to(g, a), lambda g, y, a, b: sum_to(g, b))
negative = Op(np.negative, lambda g, y, x: negative(g))
multiply = Op(
    np.multiply,
    lambda g, y, a, b: sum_to(multiply(g, b), a),
    lambda g, y, a, b: sum_to(multiply(g, a), b),
)
T = Op(np.transpose, lambda g, y, x: T(g))
matmul = Op(np.matmul, lambda g, y, a, b: matmul(g, T(b)), lambda g, y, a, b: matmul(T(a), g))
one = Tensor(1.0)
tanh = Op(np.tanh, lambda g, y, x: multiply(g, add(one, negative(multiply(y, y)))))
sigmoid = Op(
    lambda x: 1 / (1 + np.exp(-x)),
    lambda g, y, x: multiply(g, multiply(y, add(one, negative(y)))),
)
softplus = Op(lambda x: np.logaddexp(0, x), lambda g, y, x: multiply(g, sigmoid(x)))

# %% [markdown]
# Take a small GAN's generator loss, -log D(G(z)) summed over the batch, written so that any engine
# with these ops can run it. Check it as in lesson 01, along a random direction v. At order 1,
# compare `grad` with differences of the loss; at order 2, the gradient of < grad(loss), v > with
# differences of `grad`. No line of the engine deals with second derivatives; they come for free.


# %%
def generator_loss(ops, z, A, a, B, b):
    fake = ops.tanh(ops.add(ops.matmul(z, A), a))
    logits = ops.add(ops.matmul(ops.tanh(fake), B), b)
    return ops.sum(ops.softplus(ops.negative(logits)))


ours = SimpleNamespace(add=add, negative=negative, matmul=matmul, tanh=tanh, softplus=softplus)
ours.sum = lambda x: sum_to(x, Tensor(0.0))
arrays = [rng.normal(size=shape) for shape in ((4, 2), (2, 3), (3,), (3, 1), (1,))]
v = [rng.normal(size=a.shape) for a in arrays]


def directional(arrays):
    """Return the loss, < its gradient, v > as a tensor, and the inputs of both."""
    inputs = [Tensor(a) for a in arrays]
    loss = generator_loss(ours, *inputs)
    gs = grad(loss, inputs)
    total = Tensor(0.0)
    for g, w in zip(gs, v, strict=True):
        total = add(total, ours.sum(multiply(g, Tensor(w))))
    return loss, total, inputs


def central(which, h=1e-5):
    """Compute the derivative of directional(...)[which] along v, by central differences."""
    shifted = [[a + s * h * w for a, w in zip(arrays, v, strict=True)] for s in (1, -1)]
    plus, minus = (directional(arrays)[which].array for arrays in shifted)
    return (plus - minus) / (2 * h)


loss, slope, inputs = directional(arrays)
curvature = sum((g.array * w).sum() for g, w in zip(grad(slope, inputs), v, strict=True))
lesson.expect("order 1: |differences / grad - 1|", abs(central(0) / slope.array - 1), at_most=1e-6)
lesson.expect(
    "order 2: |differences / grad of grad - 1|", abs(central(1) / curvature - 1), at_most=1e-6
)

# %% [markdown]
# ## The library's engine is the same
#
# minigan's `Op`, `Tensor` and `grad` are these, with more ops and several devices. It also checks
# shapes and dtypes, frees cotangents early, and needs no recursion. It computes the same numbers;
# and since its tensors have `inputs` too, our own `on_path` works on its graphs.

# %%
with mg.use_device("reference"):
    theirs = [mg.tensor(a, requires_grad=True) for a in arrays]
    gradients = mg.grad(generator_loss(mg.ops, *theirs), theirs)
gaps = [abs(g.array - h.numpy()).max() for g, h in zip(grad(loss, inputs), gradients, strict=True)]
lesson.expect("largest difference to mg.grad", np.max(gaps), at_most=1e-15)

# %% [markdown]
# ## Tutorial 000: a generator that cannot train
#
# The Keras tutorial (with its two undefined names defined) generates its fakes *before* it opens
# the gradient tape (section 5.2). So the tape records no path from the generator's weights to the
# loss: their gradients are None, and `apply_gradients` stops with "No gradients provided", which
# does not say why. Here the same program (fakes generated under `no_grad`) raises an error that
# names the input: a parameter that the loss does not depend on is nearly always a mistake.

# %%
mg.manual_seed(0)
G = nn.Sequential(nn.Dense(2, 3), nn.Tanh(), nn.Dense(3, 2))
D = nn.Sequential(nn.Dense(2, 3), nn.LeakyReLU(0.2), nn.Dense(3, 1))
optimizer_d = mg.optim.Adam(D.parameters(), 1e-3)
gan_loss = mg.losses.NonSaturating()
z, real = mg.random.normal((4, 2)), mg.random.normal((4, 2), stream="data")

with mg.no_grad():
    fake = G(z)
message = error_of(lambda: mg.grad(gan_loss.generator(D(fake)), G.parameters()))
lesson.expect("fakes under no_grad", message, says="the output does not depend on input 0")

# %% [markdown]
# ## Tutorial 001: `backward()` twice, and a stale graph
#
# The PyTorch tutorial computes both losses from one forward pass and calls `backward()` on both.
# The first call frees the graph, the second crashes. With `retain_graph=True` it runs, and is
# worse: both losses add their gradients to the weights of *both* nets, because `backward()` fills
# every `.grad` it can reach. `mg.grad` computes only the gradients it is called for: 001's program
# would run, as simultaneous updates. One mistake remains possible: to update one player, and then
# to differentiate through weights that have changed. A tensor counts the changes of its memory (its
# `version`), so this is detected. (PyTorch counts too: "modified by an inplace operation".)

# %%
fake = G(z)
loss_d = gan_loss.discriminator(D(real), D(fake.detach()))
loss_g = gan_loss.generator(D(fake))
optimizer_d.step(mg.grad(loss_d, D.parameters()))
message = error_of(lambda: mg.grad(loss_g, G.parameters()))
lesson.expect("G's gradient through D's old weights", message, says="the graph is stale")

# %% [markdown]
# The fix is what the message says: compute the loss again, with the *updated* discriminator.

# %%
loss_g = gan_loss.generator(D(fake))
message = error_of(lambda: mg.grad(loss_g, G.parameters()))
lesson.expect("G's gradient through D's new weights", message, says="no error")

# %% [markdown]
# ## What grad visits
#
# The figure is drawn from the graphs of the two losses. What `grad(loss_d, D.parameters())` visits
# is orange; it ends at the detached fakes. What `grad(loss_g, G.parameters())` visits is blue; it
# passes through D and skips D's weights, though the graph contains them too: `backward()` would
# fill all eight. Nothing has to be frozen.

# %%
loss_d = gan_loss.discriminator(D(real), D(fake.detach()))
owner = {id(p): name for name, net in (("G", G), ("D", D)) for p in net.parameters()}


def parameters_in(loss):
    """Say how many parameters of which net the loss's graph contains."""
    owners = [owner[id(t)] for t in topological(loss, parts) if id(t) in owner]
    return ", ".join(f"{owners.count(name)} of {name}" for name in sorted(set(owners)))


lesson.expect("parameters in loss_d's graph", parameters_in(loss_d), equal="4 of D")
lesson.expect("parameters in loss_g's graph", parameters_in(loss_g), equal="4 of D, 4 of G")


# %% Figure
def chain(t):
    """List the tensors from the data or the noise to t, following each tensor's first input."""
    tensors = [t]
    while t.op:
        t = t.inputs[0]
        tensors.append(t)
    return tensors[::-1]


LANES = {"real": 2.3, "detached": 0.8, "fake": -0.8}
position, label = {}, {}
ends = (("real", loss_d.inputs[0], 3), ("detached", loss_d.inputs[1], 3), ("fake", loss_g, 0))
for lane, end, start in ends:
    for i, t in enumerate(chain(end)):
        position[id(t)], label[id(t)] = (start + i, LANES[lane]), t.op.name if t.op else lane
label[id(z)], label[id(loss_d)], label[id(loss_g)] = "z", "loss_d = add", "loss_g = divide"
position[id(loss_d)], position[id(loss_g)] = (11.2, 1.55), (10.4, LANES["fake"])
for net, first, y in ((G, 1, -1.7), (D, 4, 1.55)):
    for i, (name, p) in enumerate(net.named_parameters()):
        position[id(p)] = (first + i // 2 * 2 + (i % 2 - 0.5) * 0.5, y)
        label[id(p)] = f"{'Wb'[i % 2]}$_{name[0]}$"

with lesson.figure(13, 5.2) as figure:
    axes = figure.add_subplot()

    def edge(start, end, colour, visited, bend=0.0):
        style = {"color": colour if visited else GREY, "lw": 2.2 if visited else 1}
        style |= {"arrowstyle": "-", "connectionstyle": f"arc3,rad={bend}"}
        axes.annotate("", end, start, arrowprops=style, zorder=2 if visited else 1)

    for loss, net, colour in ((loss_d, D, ORANGE), (loss_g, G, BLUE)):
        path = on_path(loss, net.parameters())
        for t in topological(loss, parts):
            for x, _ in parts(t):
                start, end = position[id(t)], position[id(x)]
                is_long = id(x) in owner and abs(start[1] - end[1]) > 2
                edge(start, end, colour, id(t) in path and id(x) in path, -0.3 * is_long)
    edge((3, LANES["fake"]), (3, LANES["detached"]), GREY, False)
    axes.text(2.9, 0, "detach()", color="#555555", fontsize=11, ha="right")
    axes.axvspan(3.45, 6.5, color="#f3f3f3", lw=0, zorder=0)
    axes.axvspan(0.5, 3.4, ymax=0.33, color="#f3f3f3", lw=0, zorder=0)
    axes.text(5, 2.62, "discriminator", ha="center")
    axes.text(2, -0.42, "generator", ha="center", va="top")
    for key, (x, y) in position.items():
        colour = {"G": BLUE, "D": ORANGE}.get(owner.get(key), "black")
        box = {"boxstyle": "square" if key in owner else "round", "fc": "white", "ec": colour}
        axes.text(x, y, label[key], ha="center", va="center", fontsize=11, bbox=box, zorder=3)
    axes.text(-0.4, 2.3, "grad(loss_d, D.parameters())", color=ORANGE)
    axes.text(-0.4, 1.95, "grad(loss_g, G.parameters())", color=BLUE)
    axes.text(-0.4, 1.6, "computed, not visited", color="#777777")
    axes.set(xlim=(-0.5, 12.2), ylim=(-2.1, 2.8))
    axes.set_title("One step of a small GAN, and what each player's gradient visits")
    axes.set_axis_off()

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. Add `relu` to the ten ops. Its VJP needs the op "1 where x > 0", which has no gradient. What
#    is the second derivative of sum(relu(x)^2) at x = (-1, 2), by `grad` of `grad`?
# 2. In `backward`, replace the topological order by a queue. Each number enters it once, when it is
#    first reached, and leaves it after passing on the derivative it has by then. What is the
#    derivative of `square + square * square` now? And of `square * square + square`? Check that it
#    is right on a tree, where every number is used once.
# 3. With `retain_graph=True`, tutorial 001's discriminator is trained on -log D(x) - log(1 - D(y))
#    - log D(y), x real and y fake. For densities p and q, which D is best at a point? What is it
#    where p = q, and what where p = 0?

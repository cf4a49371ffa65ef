# %% [markdown]
# # 02 Autograd from scratch
#
# 本课亲手实现自动微分，再运行教程 001 补上 retain_graph=True 之后的程序：它不报错，
# 但生成的样本离数据越来越远。教程 000 的生成器则根本得不到梯度。
#
# Two tutorials (README.md lists them) misuse automatic differentiation. 001 (5.2), its undefined
# names and image size corrected, crashes in its second `backward()`; with the usual repair,
# `retain_graph=True`, it runs. What does it train then? And 000's generator gets no gradient. To
# understand both, build an engine, a small copy of minigan's. Needs: 01 (VJPs), 00 (the losses).

# %%
import numpy as np

import minigan as mg
from minigan import nn
from minigan.utils.figures import DATA, DISCRIMINATOR, GENERATOR, GREY, PINK
from minigan.utils.lesson import Lesson, error_of

lesson = Lesson("02_autograd", "Autograd from scratch")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Backwards through a graph
#
# Take $y = s \cdot s + s$ with $s = x \cdot x$, that is $x^4 + x^2$. The derivative of y with
# respect to any number t in it, written $\bar t$, is a sum with one share for each use of t:
#
# $$\bar t = \sum_{u \,\text{computed from}\, t} \bar u \, \frac{\partial u}{\partial t}$$
#
# So start from $\bar y = 1$ and go backwards. Only the order matters: s is used three times, and
# must have all three shares before it passes them on to x. So list the numbers such that each comes
# after those it is computed from (a *topological order*), and go through the list from its end.
#
# The engine does this for arrays. A `Tensor` is an array with the op and the inputs it was computed
# from; an `Op` is a numpy function with one VJP (lesson 01) per input. Most important: **a VJP is
# written in ops, not in arrays.** Then a gradient is a Tensor with a graph like any other. There is
# no `.grad` to fill and to clear: `grad(output, inputs)` returns these gradients, and visits only
# tensors on a path from the inputs to the output.


# %%
class Tensor:
    def __init__(self, array, op=None, inputs=()):
        self.array, self.op, self.inputs = np.asarray(array, float), op, inputs


class Op:
    def __init__(self, function, *vjps):
        self.function, self.vjps = function, vjps

    def __call__(self, *inputs):
        return Tensor(self.function(*[x.array for x in inputs]), self, inputs)


def parts(t):
    """List (input, VJP) for the inputs of t that receive a gradient."""
    pairs = zip(t.inputs, t.op.vjps, strict=True) if t.op else ()
    return [(x, vjp) for x, vjp in pairs if vjp and isinstance(x, Tensor | mg.Tensor)]


def topological(t, order=None):
    """Return {id: tensor} of all that t was computed from, each after its own inputs, and of t."""
    order = {} if order is None else order
    for x, _ in parts(t):
        if id(x) not in order:
            topological(x, order)
    order[id(t)] = t
    return order


def on_path(output, inputs):
    """Return the ids of all tensors on a path from one of the inputs to the output."""
    ids = {id(x) for x in inputs}
    for t in topological(output).values():
        if any(id(x) in ids for x, _ in parts(t)):
            ids.add(id(t))
    return ids


def grad(output, inputs):
    path = on_path(output, inputs)
    cotangents = {id(output): Tensor(np.ones_like(output.array))}
    for t in reversed(topological(output).values()):
        for x, vjp in parts(t):
            if id(x) in path:
                gx, earlier = vjp(cotangents[id(t)], t, *t.inputs), cotangents.get(id(x))
                cotangents[id(x)] = gx if earlier is None else earlier + gx
    return [cotangents[id(x)] for x in inputs]


# %% [markdown]
# Ten ops; their VJPs are called with the cotangent g, the result y and the inputs. The VJP that is
# often forgotten is that of broadcasting: a bias (3,) added to a batch (4, 3) is used 4 times, so
# its gradient is the *sum* of four rows. Before you run it: what is the derivative at x = 3?


# %%
def sum_to_shape(g, shape):
    """Sum over the axes that broadcasting from `shape` adds or stretches."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


expand = Op(lambda x, to: np.broadcast_to(x, to.shape), lambda g, y, x, to: sum_to(g, x), None)
sum_to = Op(lambda x, to: sum_to_shape(x, to.shape), lambda g, y, x, to: expand(g, x), None)
add = Op(np.add, lambda g, y, a, b: sum_to(g, a), lambda g, y, a, b: sum_to(g, b))
mul = Op(np.multiply, lambda g, y, a, b: sum_to(g * b, a), lambda g, y, a, b: sum_to(g * a, b))
neg = Op(np.negative, lambda g, y, x: -g)
T = Op(np.transpose, lambda g, y, x: T(g))
matmul = Op(np.matmul, lambda g, y, a, b: g @ T(b), lambda g, y, a, b: T(a) @ g)
for name, op in {"add": add, "mul": mul, "neg": neg, "matmul": matmul}.items():
    setattr(Tensor, f"__{name}__", lambda *inputs, op=op: op(*inputs))  # the operators + * - @
one = Tensor(1)
tanh = Op(np.tanh, lambda g, y, x: g * (one + -(y * y)))
sigmoid = Op(lambda x: 1 / (1 + np.exp(-x)), lambda g, y, x: g * y * (one + -y))
softplus = Op(lambda x: np.logaddexp(0, x), lambda g, y, x: g * sigmoid(x))

x = Tensor(3)
s = x * x
lesson.expect("derivative of x^4 + x^2 at x = 3", grad(s * s + s, [x])[0].array, equal=114)

# %% [markdown]
# 114: three shares give $\bar s = 9 + 9 + 1 = 19$, two give $\bar x = 2 \cdot 3 \cdot 19$. Next,
# G's loss in a small GAN, $-\log D(G(z))$ or softplus(-logit), along a line: z and all weights are
# $a + t v$ with random a and v. `grad` gives its derivative by t; call it again on the result. No
# line of the engine deals with second derivatives. Before you run it: is this one right?


# %%
line = [[Tensor(rng.normal(size=n)) for _ in "av"] for n in ((4, 2), (2, 3), 3, (3, 1), 1)]


def loss_at(t):
    z, A, a, B, b = (start + t * v for start, v in line)
    return sum_to(softplus(-(tanh(tanh(z @ A + a)) @ B + b)), Tensor(0))


t, h = Tensor(0), 1e-4
(second,) = grad(grad(loss_at(t), [t])[0], [t])
before, now, after = (loss_at(Tensor(h * i)).array for i in (-1, 0, 1))
gap = abs((after - 2 * now + before) / h**2 / second.array - 1)
lesson.expect("|second difference / grad of grad - 1|", gap, at_most=1e-6)

# %% [markdown]
# ## Tutorial 000: a generator that cannot train
#
# The Keras program (5.2) makes its fakes *before* it opens the gradient tape, as under `no_grad`
# here. So the tape knows no path from G's weights to the loss, and TensorFlow stops with "No
# gradients provided", which does not say why. Predict: does `grad` return zeros, None, an error?

# %%
mg.manual_seed(0)
G = nn.Sequential(nn.Dense(2, 3), nn.Tanh(), nn.Dense(3, 2))
D = nn.Sequential(nn.Dense(2, 3), nn.LeakyReLU(0.2), nn.Dense(3, 1))
gan = mg.losses.NonSaturating()  # -log D(fake) for G, -log D(real) - log(1 - D(fake)) for D
z, real = mg.random.normal((4, 2)), mg.random.normal((4, 2), stream="data")
with mg.no_grad():
    fake = G(z)
message = error_of(lambda: mg.grad(gan.generator(D(fake)), G.parameters()))
lesson.expect("fakes under no_grad", message, says="the output does not depend on input 0")

# %% [markdown]
# An error: a loss that does not depend on a parameter is nearly always a mistake.
#
# ## Tutorial 001: `backward()` twice
#
# The PyTorch program computes both losses from one forward pass and calls `backward()` on both. The
# first call frees the graph, so the second crashes; `retain_graph=True` keeps it. But `backward()`
# fills the `.grad` of *every* parameter in the graph. Here it is, for minigan's tensors. G and D
# have four parameters each. Before you run it: how many does `loss_G.backward()` fill?


# %%
def backward(loss, grads, inputs=None):
    """Add gradients to grads[id(p)], as PyTorch to p.grad, for the inputs or all parameters p."""
    inputs = inputs or [t for t in topological(loss).values() if t.requires_grad and not t.op]
    for p, g in zip(inputs, mg.grad(loss, inputs), strict=True):
        grads[id(p)] = grads[id(p)] + g if id(p) in grads else g


fake, filled = G(z), {}
loss_d, loss_g = gan.discriminator(D(real), D(fake.detach())), gan.generator(D(fake))
backward(loss_g, filled)
lesson.expect("parameters that loss_G.backward() fills", len(filled), equal=8)

# %% Figure
colours = {id(p): c for c, net in ((DISCRIMINATOR, D), (GENERATOR, G)) for p in net.parameters()}
place = {id(loss_d): (10.9, 1.55, "loss_D"), id(loss_g): (10.3, -0.8, "loss_G")}
lanes = {"real": 2.3, "detach()": 0.8, "z": -0.8}
for end, name in zip((*loss_d.inputs, loss_g.inputs[0]), lanes, strict=True):
    chain = [end]
    while chain[-1].op:
        chain.append(chain[-1].inputs[0])
    for i, t in enumerate(reversed(chain)):
        place[id(t)] = i + 3 * (name != "z"), lanes[name], t.op.name if t.op else name
for net, left, y in ((G, 0.75, -1.7), (D, 3.75, 1.55)):
    for i, p in enumerate(net.parameters()):
        place[id(p)] = left + i // 2 * 2 + i % 2 * 0.5, y, "Wb"[i % 2]
with lesson.figure(13, 5) as figure:
    axes = figure.add_subplot(xlim=(-0.5, 11.6), ylim=(-2, 2.7), title="What a gradient visits")
    for loss, net, colour in ((loss_d, D, DISCRIMINATOR), (loss_g, G, GENERATOR)):
        path = on_path(loss, net.parameters())
        for t in topological(loss).values():
            for x, _ in parts(t):
                visited, extra = id(t) in path and id(x) in path, id(x) in colours
                style = {"color": colour if visited else PINK if extra else GREY, "arrowstyle": "-"}
                style |= {"lw": 2, "connectionstyle": f"arc3,rad={0.3 * (extra and not visited)}"}
                axes.annotate("", place[id(x)][:2], place[id(t)][:2], arrowprops=style, zorder=1)
    axes.plot([3, 3], [0.8, -0.8], color=GREY, zorder=0)
    for key, (x, y, label) in place.items():
        box = {"boxstyle": "round", "fc": "white", "ec": colours.get(key, "black")}
        axes.text(x, y, label, ha="center", va="center", fontsize=11, bbox=box)
    axes.text(-0.4, 2.3, "grad(loss_D, D.parameters())", color=DISCRIMINATOR)
    axes.text(-0.4, 1.9, "grad(loss_G, G.parameters())", color=GENERATOR)
    axes.text(-0.4, 1.5, "loss_G.backward(), too", color=PINK)
    axes.set_axis_off()

# %% [markdown]
# All eight; pink is what G does not need. So in 001 both players descend the *sum* of both losses.
# With densities p of real and q of fake samples, D minimizes $-(p + q) \log D - q \log (1 - D)$ at
# each point, so $D^* = (p + q)/(p + 2q)$. And G minimizes $-\log D - \log(1 - D)$ at its fakes: it
# looks for D = 1/2, and D* is 1/2 only where p = 0. Run it: data N(1, 0.5²); G(z) = wz + c. With
# G fixed at N(0, 1), what is D where p = q? If G trains too, from N(-2, 1), does the mean of its
# fakes come closer to 1? And where does D(fake) end? Predict all three.

# %%
SEEDS, STEPS = (range(2), 600) if lesson.fast else (range(5), 2000)


def train(seed, retain_graph, start=-2.0, rate_g=0.005):
    """Return D, and the D(fake) and the mean of the fakes after each step."""
    mg.manual_seed(seed)
    G, tanh = nn.Dense(1, 1), nn.Tanh()
    D = nn.Sequential(nn.Dense(1, 32), tanh, nn.Dense(32, 32), tanh, nn.Dense(32, 1))
    G.load_state_dict({"weight": np.float32([[1]]), "bias": np.float32([start])})
    optimizer_g = mg.optim.Adam(G.parameters(), rate_g, betas=(0.5, 0.99))
    optimizer_d = mg.optim.Adam(D.parameters(), 0.01, betas=(0.5, 0.99))

    @mg.capture
    def step():
        real, z = 1 + 0.5 * mg.random.normal((256, 1), stream="data"), mg.random.normal((256, 1))
        output, grads = D(G(z)), {}
        loss_g, loss_d = gan.generator(output), gan.discriminator(D(real), output)
        for loss, net in ((loss_g, G), (loss_d, D)):
            backward(loss, grads, inputs=None if retain_graph else net.parameters())
        optimizer_g.step([grads[id(p)] for p in G.parameters()])
        optimizer_d.step([grads[id(p)] for p in D.parameters()])
        return mg.ops.sigmoid(output).mean()

    return D, np.array([(step().item(), G.bias.item()) for _ in range(STEPS)])


x = np.linspace(-2.5, 3, 551)
p, q = (np.exp(-0.5 * ((x - m) / sd) ** 2) / sd for m, sd in ((1, 0.5), (0, 1)))
D_fixed, _ = train(0, True, start=0.0, rate_g=0.0)
answers = mg.ops.sigmoid(D_fixed(mg.tensor(np.float32(x[:, None])))).numpy()[:, 0]
equal = np.interp(0.381, x, answers)  # p = q here
lesson.expect("retain_graph, G fixed: D where p = q", equal, at_least=0.64, at_most=0.69)
runs = {}
for name in ("own gradients", "retain_graph"):
    runs[name] = [train(seed, name == "retain_graph")[1] for seed in SEEDS]
    ends = np.mean([path[-100:] for path in runs[name]], axis=1)
    lesson.record(f"{name}: mean of the fakes", ends[:, 1])
    lesson.record(f"{name}: D(fake)", ends[:, 0])
lesson.expect("retain_graph: mean of the fakes, best seed", ends[:, 1].max(), at_most=-2.2)

# %% Figure
with lesson.figure(11, 4, "retain_graph") as figure:
    left, right = figure.subplots(1, 2)
    left.plot(x, answers, color=DISCRIMINATOR, lw=4)
    left.plot(x, (p + q) / (p + 2 * q), color="black", lw=1, ls="--")
    left.plot(x, p / (p + q), color=GREY)
    left.text(-2.4, 0.6, "D after training\ndashed: (p + q) / (p + 2q)\n\n\n\ngrey: p / (p + q)")
    left.set(xlabel="x", ylim=(0, 1), title="retain_graph, G fixed at N(0, 1)")
    right.axhline(1, color=DATA, lw=1, ls=":")
    for name, colour, y in (("own gradients", GENERATOR, 0.5), ("retain_graph", PINK, -2.4)):
        right.plot(runs[name][0][:, 1], color=colour)
        right.text(STEPS, y, name, color=colour, ha="right")
    right.set(xlabel="step", ylim=(-3.2, 1.6), title="Mean of the fakes (dotted: of the data)")
lesson.finish()

# %% [markdown]
# G runs away, from -2 to -2.71 ± 0.03, where there are no data. And D(fake) ends at 0.50, as at the
# equilibrium: alone, it does not show the failure (D(real) does: 07). `mg.grad` computes only what
# you ask for, so both players may use one forward pass (*simultaneous* updates): G ends at 1.00.
#
# ## Exercises
#
# 1. Update D, then call `mg.grad(loss_g, G.parameters())` on the loss from before. What happens?
#    <details><summary>Answer</summary>An error, "the graph is stale": a tensor counts the changes
#    of its memory, and D's weights have changed. Compute the loss again, with the new D.</details>
# 2. In `grad`, visit the tensors in the order in which a queue that starts at the output reaches
#    them. What is now the derivative of s + s * s at x = 3? And of s * s + s?
#    <details><summary>Answer</summary>6 and 114: in s + s * s, it reaches s before s * s.</details>
# 3. Let only D, or only G, descend the sum of the losses. Which of the two does the damage?
#    <details><summary>Answer</summary>G, but it runs away only if both do. If only D does, D ends
#    at 2/3 and the fakes reach the data. If only G does, they are too narrow: sd 0.14.</details>
#
# Next: 03 opens one op, the matrix product.

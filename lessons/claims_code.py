"""Small tests of the tutorials' claims that no lesson tests; claims.md shows their numbers.

Each function is one test: it asserts what claims.md says, and returns the numbers behind it by
name. `python lessons/write_claims.py` runs all of them, in some seconds.
"""

from __future__ import annotations

import math

import numpy as np

import minigan as mg
from minigan import Tensor, nn, ops

Numbers = dict[str, float | int | str]


def slope_of(y: Tensor, x: Tensor) -> np.ndarray:
    """Return the gradient of `y` by `x` as an array."""
    (slope,) = mg.grad(y, [x])
    assert slope is not None
    return slope.numpy()


def sigmoid(s):
    return 1 / (1 + np.exp(-np.asarray(s, float)))


# ------------------------------------------------------------------------------ the formulas
def any_prior() -> Numbers:
    """From normal, uniform and Laplacian noise, a generator makes the same exponential samples."""
    rng = np.random.default_rng(0)
    z = {"normal": rng.normal(size=20_000), "uniform": rng.random(20_000)}
    z["Laplacian"] = rng.laplace(size=20_000)
    cdf = {
        "normal": lambda z: 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in z])),
        "uniform": lambda z: z,
        "Laplacian": lambda z: np.where(z < 0, np.exp(-abs(z)) / 2, 1 - np.exp(-abs(z)) / 2),
    }
    grid = np.arange(1, 20_001) / 20_000
    distances = {}
    for name, noise in z.items():
        x = -np.log1p(-cdf[name](noise))  # G(z): the inverse CDF of the data, after that of z
        distances[name] = abs(1 - np.exp(-np.sort(x)) - grid).max()
    assert max(distances.values()) < 0.012  # 1.63 / sqrt(n): the test of Kolmogorov at 1 %
    return {
        f"{name} noise: Kolmogorov distance of G(z) to the data": d for name, d in distances.items()
    }


def labels_and_halves() -> Numbers:
    """The cross-entropy with labels, averaged over real and fake, is half of the usual loss."""
    rng = np.random.default_rng(0)
    D = sigmoid(rng.normal(size=1000))
    y = np.repeat([1, 0], 500)  # 500 real, then 500 fake
    with_labels = -(y * np.log(D) + (1 - y) * np.log(1 - D)).mean()
    usual = -np.log(D[:500]).mean() - np.log(1 - D[500:]).mean()
    assert abs(with_labels / usual - 0.5) < 1e-12
    return {"cross-entropy with labels / usual loss of D": with_labels / usual}


def whole_set_or_minibatch() -> Numbers:
    """The loss of a minibatch is an unbiased estimate of that of the whole data set."""
    rng = np.random.default_rng(0)
    losses = np.log1p(np.exp(-rng.normal(size=60_000)))  # -log D(x) of 60,000 samples
    batches = losses[rng.permutation(60_000)[: 468 * 128]].reshape(468, 128).mean(axis=1)
    bias = (batches.mean() - losses.mean()) / losses.mean()
    assert abs(bias) < 1e-3
    scatter = batches.std() / losses.mean()
    return {
        "mean of the minibatch losses / loss of the whole set - 1": bias,
        "standard deviation of a minibatch of 128 / loss": scatter,
    }


def sign_of_the_generator_loss() -> Numbers:
    """Descend on -mean log(1 - D(G(z))), and on +mean log(1 - D(G(z))), from D = 1/2."""
    ends = {}
    for sign in (-1, +1):
        s = 0.0  # the logit of a fake
        for _ in range(1000):
            s -= 0.1 * sign * -sigmoid(s)  # d log(1 - sigmoid(s)) / ds = -sigmoid(s)
        ends[sign] = float(sigmoid(s))
    assert ends[-1] < 0.05
    assert ends[+1] > 0.95
    return {
        "D(G(z)) after 1000 steps with the printed sign (start 0.5)": ends[-1],
        "with the other sign": ends[+1],
    }


def sign_of_the_discriminator_loss() -> Numbers:
    """Descend on E log D(x) + E log(1 - D(G(z))) by the logits of a real and a fake sample."""
    real, fake = 0.0, 0.0
    for _ in range(100):
        real, fake = real - 0.1 * (1 - sigmoid(real)), fake + 0.1 * sigmoid(fake)
    answers = float(sigmoid(real)), float(sigmoid(fake))
    assert answers[0] < 0.05
    assert answers[1] > 0.95
    return {"minimized: D(real) after 100 steps": answers[0], "minimized: D(fake)": answers[1]}


def printed_gradient() -> Numbers:
    """The gradient of -log(1 - D) by differences, over the printed one, -1 for every D."""
    D, h = np.array([0.1, 0.5, 0.9]), 1e-6
    true = (-np.log(1 - D - h) + np.log(1 - D + h)) / (2 * h)
    assert np.allclose(true, 1 / (1 - D))
    return {
        f"true gradient / printed gradient at D = {d}": t / -1 for d, t in zip(D, true, strict=True)
    }


def gradient_of_the_discriminator() -> Numbers:
    """The gradients of log D and log(1 - D) by the logit: 1 - D and -D; compare differences."""
    s, h = np.linspace(-5, 5, 101), 1e-6
    real = (np.log(sigmoid(s + h)) - np.log(sigmoid(s - h))) / (2 * h)
    fake = (np.log(1 - sigmoid(s + h)) - np.log(1 - sigmoid(s - h))) / (2 * h)
    gap = max(abs(real - (1 - sigmoid(s))).max(), abs(fake + sigmoid(s)).max())
    assert gap < 1e-8
    return {"gradient of L_D: largest difference to differences": "below 1e-8"}


def optimum_of_least_squares() -> Numbers:
    """Minimize LSGAN's loss of D point by point: D* = p / (p + q), and its levels at p = q."""
    outputs = np.linspace(-1, 2, 30_001)
    for p, q in ((0.3, 0.1), (0.2, 0.2), (0.05, 0.4)):
        best = outputs[np.argmin(0.5 * p * (outputs - 1) ** 2 + 0.5 * q * outputs**2)]
        assert abs(best - p / (p + q)) < 1e-4
    loss = mg.losses.LeastSquares()
    half = mg.tensor(np.full((8, 1), 0.5))
    return {
        "D's least-squares loss at equilibrium (D = 1/2)": float(loss.discriminator(half, half)),
        "G's": float(loss.generator(half)),
    }


def loss_is_no_similarity() -> Numbers:
    """G's loss is the same for a perfect G and for a useless one whose D has learned nothing."""
    loss = mg.losses.NonSaturating()
    perfect = float(loss.generator(mg.tensor(np.zeros((8, 1)))))  # p = q: the best D has logit 0
    untrained = nn.Sequential(nn.Dense(2, 16), nn.ReLU(), nn.Dense(16, 1))
    zero = {name: 0 * x for name, x in untrained.state_dict().items()}
    untrained.load_state_dict(zero)  # a D that has learned nothing
    far = mg.tensor(np.full((8, 2), 1000.0), dtype="float32")  # fakes nowhere near any data
    useless = float(loss.generator(untrained(far)))
    assert abs(perfect - useless) < 1e-6
    return {"G's loss: perfect G, optimal D": perfect, "G's loss: useless G, untrained D": useless}


def outputs_beyond_one() -> Numbers:
    """Least squares and Wasserstein train D without a sigmoid: its output need not be in [0, 1]."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(1, 1, 1000), rng.normal(-1, 1, 1000)])  # real, then fake
    features, target = np.stack([x, np.ones_like(x)], 1), np.repeat([1.0, 0.0], 1000)
    output = features @ np.linalg.lstsq(features, target, rcond=None)[0]  # the best linear LSGAN D
    outside = np.mean((output < 0) | (output > 1))
    assert outside > 0.05
    return {"best linear D of LSGAN: share of outputs outside [0, 1]": outside}


def js_and_w_of_two_points() -> Numbers:
    """Data at 0 and fakes at theta: JS is log 2 for every theta, the Wasserstein distance theta."""
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])  # on the two points, which never overlap
    m = (p + q) / 2
    js = 0.5 * sum((r[r > 0] * np.log(r[r > 0] / m[r > 0])).sum() for r in (p, q))
    w = [mg.metrics.wasserstein1(np.zeros((4, 1)), np.full((4, 1), t)) for t in (0.1, 10.0)]
    assert abs(js - math.log(2)) < 1e-12
    return {"JS of two separate points": js, "W1 at distance 0.1": w[0], "W1 at distance 10": w[1]}


# -------------------------------------------------------------------------- vanishing gradients
def saturation_without_depth() -> Numbers:
    """D is one linear layer, so nothing shrinks from layer to layer; its loss saturates anyway."""
    x = mg.tensor(np.array([[-10.0]]), requires_grad=True)
    slopes = {}
    for name, loss in (("log(1 - D)", mg.losses.Minimax()), ("-log D", mg.losses.NonSaturating())):
        slopes[name] = abs(slope_of(loss.generator(x), x).item())
    assert slopes["log(1 - D)"] < 1e-4
    assert slopes["-log D"] > 0.999
    return {f"one linear layer, logit -10: |gradient| of {name}": s for name, s in slopes.items()}


def slope_of_the_sigmoid() -> Numbers:
    """The derivative of a sigmoid: 1/4 at most, and nearly 0 for large inputs of either sign."""
    s = np.linspace(-10, 10, 2001)
    slope = sigmoid(s) * (1 - sigmoid(s))
    assert slope.argmax() == 1000
    return {"largest slope of a sigmoid": slope.max(), "slope at ±10": slope[0]}


def depth_and_residuals(depth: int = 50) -> Numbers:
    """The gradient through 50 layers of sigmoids, of tanh, and of tanh with skip connections."""
    ratios = {}
    for name, function, skip in (
        ("sigmoid", ops.sigmoid, 0),
        ("tanh", ops.tanh, 0),
        ("tanh with skips", ops.tanh, 1),
    ):
        rng = np.random.default_rng(0)
        x = mg.tensor(rng.normal(size=(16, 64)), requires_grad=True)
        h = x
        for _ in range(depth):
            h = skip * h + function(h @ mg.tensor(rng.normal(size=(64, 64)) / 8))
        ratios[name] = np.sqrt((slope_of(h.sum(), x) ** 2).mean())
    assert ratios["sigmoid"] < 1e-20
    assert ratios["tanh with skips"] > 1
    return {f"{depth} layers, {name}: size of the gradient": r for name, r in ratios.items()}


def exploding_with_depth(depth: int = 50) -> Numbers:
    """The same 50 layers without activations, with weights 1.5 times as large and 1 / 1.5 times."""
    sizes = {}
    for factor in (1.5, 1 / 1.5):
        rng = np.random.default_rng(0)
        slope = rng.normal(size=(16, 64))
        for _ in range(depth):
            slope = slope @ (factor * rng.normal(size=(64, 64)) / 8)
        sizes[factor] = np.sqrt((slope**2).mean())
    assert sizes[1.5] > 1e6
    assert sizes[1 / 1.5] < 1e-6
    return {
        f"{depth} linear layers, scale {f:.2g}: size of the gradient": v for f, v in sizes.items()
    }


def leaky_relu_and_the_loss() -> Numbers:
    """LeakyReLU's slope is never 0, but a D made of it still has a loss that saturates."""
    rng = np.random.default_rng(0)
    W, a = rng.normal(size=(2, 32)), rng.normal(size=(32, 1))
    sizes = {}
    for name, loss in (("log(1 - D)", mg.losses.Minimax()), ("-log D", mg.losses.NonSaturating())):
        x = mg.tensor(np.array([[0.3, -0.2]]), requires_grad=True)
        features = ops.leaky_relu(x @ mg.tensor(W), 0.2)
        s = features @ mg.tensor(a)
        sure = s + (-10.0 - s.item())  # the logit of a D that is sure
        sizes[name] = float(np.linalg.norm(slope_of(loss.generator(sure), x)))
    z = mg.tensor(np.array([-3.0]), requires_grad=True)
    negative = slope_of(ops.leaky_relu(z, 0.2).sum(), z).item()
    ratio = sizes["log(1 - D)"] / sizes["-log D"]
    assert ratio < 1e-4
    return {
        "slope of LeakyReLU at -3": negative,
        "D of LeakyReLU, logit -10: gradient of log(1 - D) / of -log D": ratio,
    }


# ----------------------------------------------------------------------------------- the game
def local_optima_are_not_the_problem() -> Numbers:
    """Descent solves a non-convex problem (XOR), and fails at a game without any local optimum."""
    rng = np.random.default_rng(0)
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([0, 1, 1, 0])
    W, b, a, c = rng.normal(size=(2, 8)), np.zeros(8), rng.normal(size=8), 0.0
    for _ in range(5000):  # cross-entropy of a net with one hidden layer, by hand
        h = np.tanh(x @ W + b)
        d = sigmoid(h @ a + c) - y
        dh = np.outer(d, a) * (1 - h * h)
        W, b, a, c = W - 0.1 * x.T @ dh, b - 0.1 * dh.sum(0), a - 0.1 * h.T @ d, c - 0.1 * d.sum()
    loss = -np.log(np.where(y == 1, sigmoid(h @ a + c), 1 - sigmoid(h @ a + c))).mean()
    theta, psi = 1.0, 1.0  # min over theta, max over psi of theta * psi: linear in each player
    for _ in range(500):
        theta, psi = theta - 0.2 * psi, psi + 0.2 * theta
    distance = math.hypot(theta, psi)
    assert loss < 0.02
    assert distance > 1000
    return {
        "XOR, not convex: loss after descent (start 0.7)": loss,
        "theta * psi, linear in each: distance to equilibrium, 500 steps (start 1.41)": distance,
    }


def noise_in_the_data() -> Numbers:
    """Data with 10 % outliers: the generator with the smallest JS has 10 % outliers too."""
    x = np.linspace(-20, 20, 4001)
    normal, uniform = np.exp(-x * x / 2), np.where(abs(x) <= 15, 1.0, 0.0)
    normal, uniform = normal / normal.sum(), uniform / uniform.sum()
    p = 0.9 * normal + 0.1 * uniform
    shares, js = np.linspace(0, 0.3, 301), []
    for w in shares:
        q = (1 - w) * normal + w * uniform
        m = (p + q) / 2
        terms = [r[r > 0] * np.log(r[r > 0] / m[r > 0]) for r in (p, q)]
        js.append(0.5 * sum(t.sum() for t in terms))
    best = shares[np.argmin(js)]
    assert abs(best - 0.1) < 1e-9
    return {"share of outliers: data": 0.1, "of the generator with the smallest JS": best}


def tokens_have_no_gradient() -> Numbers:
    """Move the logits of 10,000 sampled tokens a little: no token changes, so its slope is 0."""
    rng = np.random.default_rng(0)
    logits, noise = rng.normal(size=(10_000, 50)), rng.gumbel(size=(10_000, 50))
    before = (logits + noise).argmax(1)  # samples of softmax(logits)
    after = (logits + 1e-6 * rng.normal(size=logits.shape) + noise).argmax(1)
    assert (before != after).sum() <= 1
    return {
        "10,000 sampled tokens, logits moved by 1e-6: tokens that change": int(
            (before != after).sum()
        )
    }


def collapsed_on_one_mode() -> Numbers:
    """Eight equal modes far apart, and a generator that makes one of them perfectly."""
    D = (1 / 8) / (1 / 8 + 1)  # the best D at this mode, p / (p + q); at the others it is 1
    loss_d = -math.log(D) / 8 - math.log(1 - D)
    logit = mg.tensor(np.array([[math.log(D / (1 - D))]]), requires_grad=True)
    slope = slope_of(mg.losses.NonSaturating().generator(logit), logit).item()
    assert abs(D - 1 / 9) < 1e-12
    assert loss_d > 0.3
    return {
        "collapsed onto one of eight modes: best D(G(z))": D,
        "its loss (equilibrium 1.386)": loss_d,
        "size of the gradient of -log D by the logit (largest: 1)": abs(slope),
    }


# -------------------------------------------------------------------------------- the programs
def accuracy_of_001() -> Numbers:
    """The 'accuracy' of 001 for a D that is 1/2 up to 0.001, and for two that are 0.01 off."""
    rng = np.random.default_rng(0)
    shares = {}
    for centre in (0.49, 0.5, 0.51):
        D = centre + 0.001 * rng.normal(size=(79, 128))  # the scores of 79 batches of fakes
        shares[centre] = 100 * (D.mean(axis=1) > 0.5).mean()
    assert shares[0.49] == 0
    assert shares[0.51] == 100
    return {f"'accuracy' in % when D(G(z)) is about {c}": share for c, share in shares.items()}


def convolutions_in_the_mlps() -> Numbers:
    """Build the nets of 001 and 002: every weight is a matrix, no layer is a convolution."""
    g001 = [nn.Dense(100, 256), nn.Dense(256, 512), nn.Dense(512, 784)]
    d001 = [nn.Dense(784, 512), nn.Dense(512, 256), nn.Dense(256, 1)]
    d002 = [nn.Dense(28, 1024), nn.Dense(1024, 1024), nn.Dense(1024, 1)]
    weights = [p for layer in g001 + d001 + d002 for p in layer.parameters() if len(p.shape) > 1]
    convolutions = sum(len(p.shape) == 4 for p in weights)
    assert convolutions == 0
    count = [
        sum(int(np.prod(p.shape)) for n in net for p in n.parameters()) for net in (g001, d001)
    ]
    return {
        "weights that are convolutions, of nine layers": convolutions,
        "parameters of the generator of 000 and 001 (784 pixels)": count[0],
        "of the discriminator": count[1],
    }


def rows_instead_of_images() -> Numbers:
    """Dense layers act on the last axis: D of 002 gives one score per row of 28 pixels."""
    rng = np.random.default_rng(0)
    images = rng.random((5, 28, 28))
    hidden = images @ rng.normal(size=(28, 1024))  # (5, 28, 1024): the 28 rows stay
    scores = hidden @ rng.normal(size=(1024, 1))
    assert scores.shape == (5, 28, 1)
    return {"shape of D's output in 002 for 5 images": str(scores.shape)}


def ranges_of_pixels() -> Numbers:
    """Negative pixels: an untrained tanh generator, a sigmoid generator, images in [0, 1]."""
    mg.manual_seed(0)
    body = nn.Sequential(nn.Dense(100, 256), nn.LeakyReLU(0.2), nn.Dense(256, 784))
    out = body(mg.random.normal((64, 100)))
    tanh, logistic = (ops.tanh(out).numpy() < 0).mean(), (ops.sigmoid(out).numpy() < 0).mean()
    assert 0.4 < tanh < 0.6
    assert logistic == 0
    return {
        "negative pixels: tanh generator (000, 001)": round(float(tanh), 2),
        "sigmoid generator (002)": float(logistic),
        "images from ToTensor or x / 255": 0.0,
    }


def work_of_a_training() -> Numbers:
    """Count the multiplications of 50 epochs of 000 (three products for each trained layer)."""
    G = 100 * 256 + 256 * 512 + 512 * 784
    D = 784 * 512 + 512 * 256 + 256
    step_d = G + 3 * 2 * D  # fakes; forward and two backward products, on real and fake
    step_g = 3 * G + 2 * D  # forward of both; through D by its inputs, through G by its weights
    operations = 2 * (step_d + step_g) * 60_000 * 50
    return {
        "50 epochs of MNIST with the nets of 000: operations, in units of 1e12": operations / 1e12
    }


def work_of_a_sample() -> Numbers:
    """Count the multiplications of one digit of 000's generator: each weight is used once."""
    G = 100 * 256 + 256 * 512 + 512 * 784
    assert G < 1e6
    return {"multiplications for one digit, in millions": G / 1e6}


# ---------------------------------------------------------------------------- the applications
def adversarial_without_a_generator() -> Numbers:
    """A linear classifier, no generator: a small change that is chosen fools it, noise does not."""
    rng = np.random.default_rng(0)
    label = rng.choice([-1, 1], 10_000)
    x = 0.15 * label[:, None] + rng.normal(size=(10_000, 784))
    w = np.full(784, 1.0)  # the best classifier: sign(w x)
    noise = 0.3 * rng.choice([-1, 1], x.shape)
    chosen = -0.3 * label[:, None] * np.sign(w)  # the same size at every pixel, against w
    accuracy = [((x + change) @ w * label > 0).mean() for change in (0, noise, chosen)]
    assert accuracy[1] > 0.99
    assert accuracy[2] < 0.01
    names = ("clean", "with noise of size 0.3", "with a chosen change of size 0.3")
    return {f"accuracy {name}": a for name, a in zip(names, accuracy, strict=True)}


def grey_needs_no_gan() -> Numbers:
    """Learn grey from colour by least squares: the formula is linear, so nothing remains."""
    rng = np.random.default_rng(0)
    rgb = rng.random((1000, 3))
    grey = rgb @ np.array([0.299, 0.587, 0.114])
    w, *_ = np.linalg.lstsq(rgb, grey, rcond=None)
    gap = abs(rgb @ w - grey).max()
    assert gap < 1e-12
    return {"grey from colour by three weights: largest error": "below 1e-12"}


def skewed_data() -> Numbers:
    """The optimal generator copies the data's shares: with 95 % of one class, 95 % of samples."""
    p = np.array([0.95, 0.05])
    shares = np.linspace(0.01, 0.99, 99)
    js = []
    for share in shares:
        q = np.array([share, 1 - share])
        m = (p + q) / 2
        js.append(0.5 * ((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()))
    best = shares[np.argmin(js)]
    assert abs(best - 0.95) < 1e-9
    return {"share of the first class: data": 0.95, "of the generator with the smallest JS": best}


TESTS = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__annotations__", {}).get("return") == "Numbers"
}

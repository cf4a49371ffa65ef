# %% [markdown]
# # 03 Kernels I: the CPU ladder
#
# 教程 001 说，开发者不必过多关注底层的实现细节；底层发生什么，五篇都没有讲。这一课讲一个底层。
#
# Tutorial 001 (section 5.3) says that what lies below the framework needs little attention, and
# none of the five says what happens there. Mostly it is one thing: a matrix product. Three loops
# are enough to write it, and reach 2 % of what one core of our machine can do. This lesson climbs
# from there to the top. On the way it shows that the bits of a sum depend on more than its numbers.

# %%
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np

import minigan as mg
from frame import Lesson
from minigan.bench.machine import thread_count
from minigan.bench.timing import Group, measure
from minigan.kernels.elementwise.cpu import elementwise
from minigan.kernels.matmul import optimization_steps as ladder
from minigan.kernels.matmul.cpu import dense, matmul
from minigan.kernels.matmul.micro import ROWS, VECTORS, tile
from minigan.kernels.runtime.cpu import peak
from minigan.kernels.runtime.cpu.simd import VECTOR_BYTES, address
from minigan.utils.figures import BLUE, GREEN, ORANGE, PINK

lesson = Lesson("03_cpu_kernels", "Kernels I: the CPU ladder")
rng, threads = np.random.default_rng(0), numba.get_num_threads()

# %% [markdown]
# ## Three loops
#
# A dense layer takes 64 rows x (64, 512) and weights w (512, 784); each of its 64 x 784 outputs
# is a sum of 512 products. At two FLOP (floating-point operations) each, that is 51 million.
#
# The loops may be nested in any order. In the order i, j, p, each output is finished before the
# next: b is then read down its columns, and every addition waits for the one before. In the order
# i, p, j, the innermost loop runs along rows of b and c: neighbours in memory, of which 16 fit
# into a vector register, and no addition waits for another.


# %%
@numba.njit
def naive(a, b, c):
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = c.dtype.type(0)
            for p in range(len(b)):
                total += a[i, p] * b[p, j]
            c[i, j] = total


@numba.njit
def row_order(a, b, c):
    c[:] = 0
    for i in range(c.shape[0]):
        for p in range(len(b)):
            for j in range(c.shape[1]):
                c[i, j] += a[i, p] * b[p, j]


# %% [markdown]
# Textbooks go on with blocking. w has 1.6 MB, more than a cache near the processor, and `row_order`
# reads all of it for each row of x. `blocked` takes 32 rows of b at a time (100 KB), which stay in
# the cache while all rows of a pass over them.


# %%
@numba.njit
def blocked(a, b, c):
    c[:] = 0
    for start in range(0, len(b), 32):
        for i in range(c.shape[0]):
            for p in range(start, min(start + 32, len(b))):
                for j in range(c.shape[1]):
                    c[i, j] += a[i, p] * b[p, j]


# %% [markdown]
# Still, each multiply-add loads an element of b and one of c, and stores one of c: 12 bytes for 2
# FLOP. It is better to do more with a number while it is in a register. `four_rows` loads an
# element of b once for four rows of c: 36 bytes for 8 FLOP. Where the rows are no multiple of four,
# the last four begin earlier, and some rows are computed twice: simpler than a case of its own.


# %%
@numba.njit
def four_rows(a, b, c):
    for row in range(0, len(c), 4):
        i = min(row, len(c) - 4)
        c[i : i + 4] = 0
        for p in range(len(b)):
            x0, x1, x2, x3 = a[i : i + 4, p]
            for j in range(c.shape[1]):
                c[i, j] += x0 * b[p, j]
                c[i + 1, j] += x1 * b[p, j]
                c[i + 2, j] += x2 * b[p, j]
                c[i + 3, j] += x3 * b[p, j]


# %% [markdown]
# ## The register tile
#
# One step further, a whole tile of c stays in registers from the first p to the last. Plain numba
# cannot say so: which number is in a register when is LLVM's choice. The library's `tile` is a
# short loop written in LLVM's own vector code (`kernels/matmul/micro.py`; the README there has a
# drawing). With AVX-512 the tile is 8 rows by 3 vectors of 16, and each p loads 3 vectors of b
# and 8 elements of a: 224 bytes for 768 FLOP. A multiply-add is now one instruction, *fused*: the
# product is not rounded before it is added.


# %%
WIDTH = VECTORS * VECTOR_BYTES // 4  # columns of a tile, in float32


@numba.njit
def panel(a, b, c, j):
    """Columns j to j + WIDTH of c, which has at least ROWS rows. Strides are in bytes."""
    k, n = b.shape
    for row in range(0, len(c), ROWS):
        i = min(row, len(c) - ROWS)
        rows, columns, into = address(a[i]), address(b[0, j:]), address(c[i, j:])
        # The last two say what to fetch ahead of its use: nothing here.
        tile(ROWS, VECTORS, c, rows, 4 * k, 4, ROWS, columns, 4 * n, k, into, 4 * n, 0, 0, 0)


@numba.njit
def register_tile(a, b, c):
    for j in range(0, c.shape[1], WIDTH):
        panel(a, b, c, min(j, c.shape[1] - WIDTH))


# %% [markdown]
# ## First right, then fast
#
# A sum of k products in float32 is off by at most k u / (1 - k u) times |A| |B|, whatever its
# order, fused or not (u = 2^-24; Higham 2002, section 3.1). Each rung must keep that bound, on the
# layer and on a shape that fits no tile; c is full of NaN before, so an element that is forgotten
# shows.
#
# Without fusing, all rungs do the same operations on each element in the same order, so they
# agree to the bit, with each other and with the library's. The tile rounds less and has bits of
# its own: those of `mg.ops.matmul`, which is the same tile, by one thread or by all.


# %%
def draw(*shape):
    return rng.standard_normal(dtype=np.float32, out=peak.aligned(shape, np.float32))


def run(rung, a, b):
    c = np.full((len(a), b.shape[1]), np.nan, a.dtype)
    rung(a, b, c)
    return c


def error(c, a, b):
    """The largest |c - A B|, in units of its bound."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    ku = len(b) * 2.0**-24
    return (abs(c - a @ b) / (ku / (1 - ku) * (abs(a) @ abs(b)))).max()


def results(*arrays):
    """How many of them are different, to the bit."""
    return len({x.tobytes() for x in arrays})


x, w, b = draw(64, 512), draw(512, 784), draw(784)
RUNGS = {f.__name__: f for f in (naive, row_order, blocked, four_rows, register_tile)}
for what, pair in {"the layer": (x, w), "an odd shape": (draw(37, 301), draw(301, 203))}.items():
    worst = np.max([error(run(rung, *pair), *pair) for rung in RUNGS.values()])
    lesson.expect(f"{what}, all rungs: largest error / its bound", worst, at_most=1)
*plain, tiled = (run(rung, x, w) for rung in RUNGS.values())
plain += [ladder.RUNGS[name](x, w) for name in ("naive", "loop order", "cache blocking")]
lesson.expect("unfused rungs, ours and the library's: different results", results(*plain), equal=1)
library = mg.ops.matmul(mg.tensor(x), mg.tensor(w)).numpy(), ladder.one_thread(x, w)
lesson.expect("the tile, mg.ops.matmul: different results", results(tiled, *library), equal=1)

# %% [markdown]
# ## How fast could it be?
#
# Two things set a limit, and both can be measured (`kernels/runtime/peak.py`). The processor does
# so many multiply-adds per second if none ever waits: chains of them that never leave the
# registers. And a memory gives and takes so many bytes per second: y += x over 16 KB, which the
# first-level cache (L1) holds, and over 256 MB, which only main memory does. A kernel that does I
# FLOP for each byte that it loads or stores (I is its *intensity*) can do no more than
#
#     min(FLOP/s in registers, I x byte/s)
#
# This is the roofline. We count every byte that the innermost loop's instructions load or store,
# from whatever cache it comes (the cache-aware roofline of Ilic, Pratas and Sousa, 2014).


# %%
def seconds(count, calls):
    """Seconds per call of each, the median of interleaved turns, with so many threads."""
    group = Group([{}], {name: [call] for name, call in calls.items()}, 0.02)
    with thread_count(count):
        (case,) = measure(group, 2 if lesson.fast else 9, rest=0.02, tick=lambda: None)
    return {name: np.median(times) for name, times in case["seconds"].items()}


c = peak.aligned((64, 784), np.float32)
calls = {name: partial(rung, x, w, c) for name, rung in RUNGS.items()}
calls |= {"library": partial(matmul, x, w), "OpenBLAS": partial(np.matmul, x, w, out=c)}
FLOPS = {t: peak.fma_rate("float32", t) / 1e9 for t in (1, threads)}
rates = {}
for t, names in ((1, list(calls)), (threads, ["library", "OpenBLAS"])):
    for name, s in seconds(t, {name: calls[name] for name in names}).items():
        rates[t, name] = rate = 2e-9 * x.size * w.shape[1] / s
        print(f"  {t} x {name:14} {rate:5.1f} GFLOP/s, {rate / FLOPS[t]:4.0%} of the peak")

# %% [markdown]
# `naive` is below every roof: it waits for its own additions. The next ones are close under the
# slope of L1: they wait for loads and stores. So blocking changes little here: rows of w are read
# in a straight line, which a processor notices and fetches ahead. What helps is a higher intensity.
# `four_rows` has some, and the tile so much that it stands under the flat roof, and close to it.
# The library adds narrower tiles for the edges, scratch for a b whose rows are not contiguous, and
# sums in blocks where they are longer than 512 (`kernels/matmul/README.md` tells all of it).
#
# (w and c begin at a line of the cache, 64 bytes. Elsewhere, each vector of them lies in two lines,
# and `row_order` does 30 GFLOP/s on a Zen 4 instead of 43.)
#
# ## Fusing
#
# A layer is y = leaky_relu(x @ w + b). Three passes write the product, read and write it again to
# add b, and once more for the activation. The library's `dense` adds b to columns of y that it
# has just computed, while they are in cache. `fused` does the activation there too. Each element
# goes through the same operations as before, so no bit changes.


# %%
@numba.njit
def fused(x, w, b):
    y = np.empty((len(x), len(b)), x.dtype)
    for column in range(0, len(b), WIDTH):
        j = min(column, len(b) - WIDTH)
        panel(x, w, y, j)
        for i in range(len(x)):
            row, bias = y[i, j : j + WIDTH], b[j : j + WIDTH]
            for q in range(WIDTH):
                z = row[q] + bias[q]
                row[q] = z if z > 0 else z * np.float32(0.2)
    return y


WAYS = {  # by how often y is written or read
    5: lambda x, w, b: elementwise("leaky_relu", elementwise("add", matmul(x, w), b), slope=0.2),
    3: lambda x, w, b: elementwise("leaky_relu", dense(x, w, b), slope=0.2),
    1: fused,
}
for layer in ((x, w, b), (draw(64, 100), draw(100, 256), draw(256))):
    found = [way(*layer) for way in WAYS.values()]
    what = f"{len(layer[1])} to {len(layer[2])}, in three passes, two and one: different results"
    lesson.expect(what, results(*found), equal=1)
    for n, s in seconds(1, {n: partial(way, *layer) for n, way in WAYS.items()}).items():
        print(f"  y moved {n}x, {n * found[0].nbytes / 1000:5.0f} KB: {1e6 * s:6.1f} us")

# %% [markdown]
# In the large layer each element of y costs 512 multiply-adds, and some passes more hardly show.
# In the generator's first layer it costs 100, and they do.
#
# ## A sum is a number and an order
#
# Floating-point addition rounds, so (a + b) + c is not a + (b + c). A loop that is shared out
# among threads is usually cut into one chunk for each, and then the chunks' sums are added. So
# the number of threads decides the order, and the same program with the same seed trains another
# net on another machine. (Below, `np.cumsum` adds from left to right, in float32: one chain; and
# which thread takes which piece is left to chance.)


# %%
def chain(x):
    return np.cumsum(x)[-1]


def shared(add_up, pieces, workers):
    with ThreadPoolExecutor(workers) as pool:
        return np.array(list(pool.map(add_up, pieces)))


values = np.random.default_rng(1).standard_normal(1_000_003, np.float32)
chunked = [chain(shared(chain, np.array_split(values, n), n)) for n in (1, 2, 3, 4)]
lesson.expect("chunks, by 1 to 4 threads: different sums", results(*chunked), equal=4)

# %% [markdown]
# The cure is to cut into blocks of a fixed size: who adds up which block, and when, is then all
# the same. The library's blocks have 4,096 elements. In each, 64 chains run side by side: lane i
# adds x[i], x[i + 64] and so on, which also makes it fast, as no addition waits for the one before.
# The lanes are then folded in half, six times. The blocks' sums are a row again, and so on, until
# one number is left.

# %%
BLOCK, LANES = 4096, 64


def block_sum(x):
    lanes = np.cumsum(np.pad(x, (0, -len(x) % LANES)).reshape(-1, LANES), axis=0)[-1]
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


def in_blocks(x, workers=1):
    while len(x) > 1:
        x = shared(block_sum, np.split(x, range(BLOCK, len(x), BLOCK)), workers)
    return x[0]


ours = [in_blocks(values, n) for n in (1, 2, 3, 4)]
lesson.expect("blocks, by 1 to 4 threads: different sums", results(*ours), equal=1)
library = [mg.ops.sum(mg.tensor(values)).numpy()]
with thread_count(1):
    library.append(mg.ops.sum(mg.tensor(values)).numpy())
lesson.expect("blocks, mg.ops.sum: different sums", results(*ours, *library), equal=1)

# %% [markdown]
# Blocks are more accurate besides. In one chain an element goes through up to n additions, in
# blocks through 64 + 6 for each round, whatever n is. (`numpy.sum` adds in pairs, with the same
# effect. A sum in float64 is exact beside these.)


# %%
def relative_error(total, x):
    """In units of u."""
    return abs(float(total) / x.sum(dtype=np.float64) - 1) * 2.0**24


sizes = abs(values)
of_chain, of_blocks = (relative_error(way(sizes), sizes) for way in (chain, in_blocks))
lesson.expect("blocks: relative error (units of u)", of_blocks, at_most=5)
lesson.expect("one chain: relative error (units of u)", of_chain, at_least=100)

# %% Figure
INTENSITY = {  # FLOP / bytes of the innermost loop
    "naive": 2 / 8,  # load a and b
    "row_order": 2 / 12,  # load b and c, store c
    "blocked": 2 / 12,
    "four_rows": 8 / 36,  # load b and four of c, store four
    "register_tile": 2 * ROWS * WIDTH / (4 * ROWS + 4 * WIDTH),
}
RIGHT, LEFT = ((9, "left"), (-9, "right"))  # of the point, in 1/72 inch
LABELS = {  # where each point's label stands
    (1, "naive"): ("naive", *RIGHT, -4),
    (1, "row_order"): ("row order", *RIGHT, -15),
    (1, "blocked"): ("blocked", *RIGHT, -29),
    (1, "four_rows"): ("four rows", *RIGHT, -5),
    (1, "register_tile"): ("register tile", *LEFT, -15),
    (threads, "library"): (f"library, {threads} threads", *LEFT, -15),
}
L1 = {t: peak.bandwidth(peak.CACHED, t) / 1e9 for t in FLOPS}
memory = peak.bandwidth(peak.UNCACHED, 1) / 1e9
counts = 2 ** np.arange(6, 19 if lesson.fast else 23)
ADDERS = {"one chain": chain, "blocks": in_blocks, "numpy.sum": np.sum}
errors = {name: [] for name in ADDERS}
for count in counts:
    many = [rng.random(count, np.float32) for _ in range(3 if lesson.fast else 15)]
    for name, add_up in ADDERS.items():
        errors[name].append(np.median([relative_error(add_up(x), x) for x in many]))

with lesson.figure(11, 5.4) as figure:
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    reach, dark = np.geomspace(0.04, 20, 500), "#333333"
    offset = {"textcoords": "offset points"}
    for t in sorted(FLOPS, reverse=True):
        colour = dark if t == 1 else "#777777"
        left.loglog(reach, np.minimum(FLOPS[t], L1[t] * reach), color=colour, lw=1.5)
        what = f"{t} thread{'s' * (t > 1)}: {FLOPS[t]:.0f} GFLOP/s"
        left.annotate(what, (0.45, FLOPS[t]), (0, 4), color=colour, **offset)
    low = reach[reach <= 0.3]
    left.loglog(low, memory * low, color=dark, lw=1.5, ls="--")
    for what, rate in (("L1", L1[1]), ("memory", memory)):
        place = {"rotation_mode": "anchor", "transform_rotates_text": True}
        angle = np.degrees(np.arctan(rate * 0.052 / 0.045))
        left.text(0.045, rate * 0.052, f"{what}: {rate:.0f} GB/s", rotation=angle, **place)
    for (t, name), rate in rates.items():
        if (t, name) in LABELS:
            label, across, side, up = LABELS[t, name]
            colour = ORANGE if name == "library" else BLUE
            place = INTENSITY.get(name, INTENSITY["register_tile"]), rate
            left.plot(*place, "o", color=colour, ms=7)
            words = f"{label}: {rate:.3g}"
            left.annotate(words, place, (across, up), ha=side, color=colour, **offset)
        elif name == "OpenBLAS":
            left.plot([5, 20], [rate, rate], color=PINK, lw=2)
            words = f"OpenBLAS: {rate:.3g}"
            left.annotate(words, (20, rate), (0, -15), ha="right", color=PINK, **offset)
    left.set(xlabel="intensity (FLOP per byte loaded or stored)", ylabel="GFLOP/s")
    left.set(xlim=(0.04, 20), ylim=(1.5, 400))
    left.set_title("64 x 512 times 512 x 784 in float32, and its roofs")

    for (name, found), colour in zip(errors.items(), (ORANGE, BLUE, GREEN), strict=True):
        right.loglog(counts, found, "o-", color=colour, ms=4, lw=1.5, label=name)
    right.set(xlabel="numbers in the sum", ylabel="relative error (units of u = $2^{-24}$)")
    right.set_title("A sum's order and its error")
    right.legend(loc="upper left")

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. A sum of 600 products is no longer one chain in the library. To the bit, it is
#    a[:, :q] @ b[:q] + a[:, q:] @ b[q:]. Find q by trying. Why is it not 512?
# 2. `@numba.njit(fastmath={"contract"})` allows LLVM to fuse a product and a sum, and nothing else.
#    Give it to `naive`: whose bits does it have then?
# 3. Up to which n has the sum of 1, 2, ..., n in float32 the same bits in every order, and why?

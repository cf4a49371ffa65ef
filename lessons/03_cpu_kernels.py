# %% [markdown]
# # 03 Kernels I: the CPU
#
# 教程 001 说，开发者不必过多关注底层的实现细节；底层发生什么，五篇都没有讲。这一课讲一个底层。
#
# Tutorial 001 (section 5.3; README.md lists the tutorials) says that what happens below the
# framework needs little attention, and none of the five says what it is. Most of the time it is a
# matrix product. Three loops are enough to write one, and they reach 2 % of the peak of one core of
# our machine. This lesson optimizes it step by step until it is close to the peak. It also shows
# that the bits of a sum depend on more than its terms.

# %%
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np

import minigan as mg
from minigan.bench.machine import thread_count
from minigan.bench.timing import Group, measure
from minigan.kernels.elementwise.cpu import elementwise
from minigan.kernels.matmul import optimization_steps
from minigan.kernels.matmul.cpu import dense, matmul
from minigan.kernels.matmul.micro import ROWS, VECTORS, tile
from minigan.kernels.runtime.cpu import peak
from minigan.kernels.runtime.cpu.simd import VECTOR_BYTES, address
from minigan.utils.figures import BLUE, GREEN, ORANGE, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("03_cpu_kernels", "Kernels I: the CPU")
rng, threads = np.random.default_rng(0), numba.get_num_threads()

# %% [markdown]
# ## Three loops
#
# A dense layer takes 64 rows x (64, 512) and weights w (512, 784); each of its 64 x 784 outputs
# is a sum of 512 products. At two FLOP (floating-point operations) each, that is 51 million.
#
# The loops may be nested in any order. In the order i, j, p, each output is finished before the
# next: b is then read down its columns, and every addition waits for the one before. In the order
# i, p, j, the innermost loop runs along rows of b and c: these elements are adjacent in memory, 16
# of them fit into a vector register, and no addition waits for another.


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
def loop_order(a, b, c):
    c[:] = 0
    for i in range(c.shape[0]):
        for p in range(len(b)):
            for j in range(c.shape[1]):
                c[i, j] += a[i, p] * b[p, j]


# %% [markdown]
# The next step in textbooks is cache blocking. w has 1.6 MB, more than the fast caches hold, and
# `loop_order` reads all of it for each row of x. `cache_blocking` takes 32 rows of b at a time
# (100 KB), which stay in the cache while all rows of a use them.


# %%
@numba.njit
def cache_blocking(a, b, c):
    c[:] = 0
    for start in range(0, len(b), 32):
        for i in range(c.shape[0]):
            for p in range(start, min(start + 32, len(b))):
                for j in range(c.shape[1]):
                    c[i, j] += a[i, p] * b[p, j]


# %% [markdown]
# Still, each multiply-add loads an element of b and one of c, and stores one of c: 12 bytes for 2
# FLOP. It is better to use a number several times while it is in a register. `register_blocking`
# loads an element of b once for four rows of c: 36 bytes for 8 FLOP. Where the number of rows is no
# multiple of four, the last four begin earlier, so some rows are computed twice; this is simpler
# than a special case.


# %%
@numba.njit
def register_blocking(a, b, c):
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
# cannot express this, because LLVM chooses what to keep in registers. The library's `tile` is a
# short loop written in LLVM's own vector code (`kernels/matmul/micro.py`; the README there has a
# drawing). With AVX-512 the tile is 8 rows by 3 vectors of 16, and each p loads 3 vectors of b
# and 8 elements of a: 224 bytes for 768 FLOP. A multiply-add is now one instruction, *fused*: the
# product is not rounded before it is added.


# %%
WIDTH = VECTORS * VECTOR_BYTES // 4  # columns of a tile, in float32


@numba.njit
def panel(a, b, c, j):
    """Compute columns j to j + WIDTH of c, which has at least ROWS rows. Strides are in bytes."""
    k, n = b.shape
    for row in range(0, len(c), ROWS):
        i = min(row, len(c) - ROWS)
        rows, columns, output = address(a[i]), address(b[0, j:]), address(c[i, j:])
        # The last two arguments say what to prefetch: nothing here.
        tile(ROWS, VECTORS, c, rows, 4 * k, 4, ROWS, columns, 4 * n, k, output, 4 * n, 0, 0, 0)


@numba.njit
def register_tile(a, b, c):
    for j in range(0, c.shape[1], WIDTH):
        panel(a, b, c, min(j, c.shape[1] - WIDTH))


# %% [markdown]
# ## First correct, then fast
#
# A sum of k products in float32 is off by at most k u / (1 - k u) times |A| |B|, whatever its
# order, fused or not (u = 2^-24; Higham 2002, section 3.1). Each step must stay within that bound,
# on the layer and on a shape that is no multiple of any tile. c is filled with NaN first, so a
# missing element makes the check fail.
#
# Without fusing, all steps do the same operations on each element in the same order, so their
# results are equal to the bit, and equal to those of the library's steps. The tile rounds less, so
# its bits differ from theirs. They are equal to those of the library's `@` (`mg.ops.matmul`), which
# uses the same tile, with one thread or with all.


# %%
def draw(*shape):
    return rng.standard_normal(dtype=np.float32, out=peak.aligned(shape, np.float32))


def run(kernel, a, b):
    c = np.full((len(a), b.shape[1]), np.nan, a.dtype)
    kernel(a, b, c)
    return c


def error(c, a, b):
    """Return the largest |c - A B|, in units of its bound."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    ku = len(b) * 2.0**-24
    return (abs(c - a @ b) / (ku / (1 - ku) * (abs(a) @ abs(b)))).max()


def count_distinct(*arrays):
    """Count how many of the arrays differ from each other in any bit."""
    return len({x.tobytes() for x in arrays})


x, w, b = draw(64, 512), draw(512, 784), draw(784)
KERNELS = (naive, loop_order, cache_blocking, register_blocking, register_tile)
STEPS = {kernel.__name__: kernel for kernel in KERNELS}
for shape, pair in {"the layer": (x, w), "an odd shape": (draw(37, 301), draw(301, 203))}.items():
    worst = np.max([error(run(kernel, *pair), *pair) for kernel in KERNELS])
    lesson.expect(f"{shape}, all steps: largest error / its bound", worst, at_most=1)
*unfused, tiled = (run(kernel, x, w) for kernel in KERNELS)
names = "naive", "loop order", "cache blocking"
unfused += [optimization_steps.STEPS[name](x, w) for name in names]
distinct = count_distinct(*unfused)
lesson.expect("unfused steps, ours and the library's: distinct results", distinct, equal=1)
library = (mg.tensor(x) @ mg.tensor(w)).numpy(), optimization_steps.one_thread(x, w)
distinct = count_distinct(tiled, *library)
lesson.expect("the tile, mg.ops.matmul: distinct results", distinct, equal=1)

# %% [markdown]
# ## How fast could it be?
#
# There are two limits, and both can be measured (`kernels/runtime/cpu/peak.py`). One is the number
# of multiply-adds per second if none has to wait; it is measured with chains of them that stay in
# registers. The other is the bandwidth of a memory, in bytes per second; it is measured with
# y += x over 16 KB, which fit into the first-level cache (L1), and over 256 MB, which fit only into
# main memory. A kernel that does I FLOP for each byte that it loads or stores (I is its *arithmetic
# intensity*) reaches at most
#
#     min(FLOP/s in registers, I x byte/s)
#
# This bound is the roofline. We count every byte that the instructions of the innermost loop load
# or store, whatever cache it comes from (the cache-aware roofline of Ilic, Pratas and Sousa, 2014).


# %%
def seconds(count, calls):
    """Measure the seconds per call of each with `count` threads: the median of interleaved runs."""
    group = Group([{}], {name: [call] for name, call in calls.items()}, 0.02)
    with thread_count(count):
        (case,) = measure(group, 2 if lesson.fast else 9, rest=0.02, tick=lambda: None)
    return {name: np.median(times) for name, times in case["seconds"].items()}


c = peak.aligned((64, 784), np.float32)
calls = {name: partial(kernel, x, w, c) for name, kernel in STEPS.items()}
calls |= {"library": partial(matmul, x, w), "OpenBLAS": partial(np.matmul, x, w, out=c)}
FLOPS = {t: peak.fma_rate("float32", t) / 1e9 for t in (1, threads)}
rates = {}
for t, names in ((1, list(calls)), (threads, ["library", "OpenBLAS"])):
    for name, s in seconds(t, {name: calls[name] for name in names}).items():
        rates[t, name] = rate = 2e-9 * x.size * w.shape[1] / s
        print(f"  {t} x {name:17} {rate:5.1f} GFLOP/s, {rate / FLOPS[t]:4.0%} of the peak")

# %% [markdown]
# `naive` is far below the roofline: each addition waits for the one before. The next two are close
# to the limit set by L1: they wait for loads and stores. So cache blocking changes little here: the
# rows of w are read sequentially, and the hardware prefetches such reads. What helps is a higher
# intensity. That of `register_blocking` is higher, and that of the tile is so high that only the
# peak limits it, and it comes close. The library adds narrower tiles for the edges, a packed copy
# of b where its rows are not contiguous, and blocked sums where they are longer than 512
# (`kernels/matmul/README.md` describes all of it).
#
# (w and c are aligned to a cache line, 64 bytes. Otherwise each of their vectors lies in two lines,
# and `loop_order` does 30 GFLOP/s on a Zen 4 instead of 43.)
#
# ## Fusing
#
# A layer is y = leaky_relu(x @ w + b). In three passes, the product is written, read and written
# again to add b, and once more for the activation. The library's `dense` adds b to the columns of y
# that it has just computed, while they are in the cache. `fused` applies the activation there too.
# Each element goes through the same operations as before, so no bit changes.


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


LAYERS = {  # by how often y is written or read
    5: lambda x, w, b: elementwise("leaky_relu", elementwise("add", matmul(x, w), b), slope=0.2),
    3: lambda x, w, b: elementwise("leaky_relu", dense(x, w, b), slope=0.2),
    1: fused,
}
for arguments in ((x, w, b), (draw(64, 100), draw(100, 256), draw(256))):
    outputs = [compute(*arguments) for compute in LAYERS.values()]
    sizes = f"{len(arguments[1])} to {len(arguments[2])}"
    distinct = count_distinct(*outputs)
    lesson.expect(f"{sizes}, in three passes, two and one: distinct results", distinct, equal=1)
    calls = {n: partial(compute, *arguments) for n, compute in LAYERS.items()}
    for n, s in seconds(1, calls).items():
        print(f"  y moved {n}x, {n * outputs[0].nbytes / 1000:5.0f} KB: {1e6 * s:6.1f} us")

# %% [markdown]
# In the large layer each element of y costs 512 multiply-adds, so a few more passes hardly matter.
# In the generator's first layer it costs 100, and they do matter.
#
# ## The order of a sum
#
# Floating-point addition rounds, so (a + b) + c is not a + (b + c). A parallel sum is usually cut
# into one chunk per thread, and then the sums of the chunks are added. So the number of threads
# determines the order, and the same program with the same seed trains another net on another
# machine. (Below, `np.cumsum` adds from left to right in float32, in one chain. Which thread takes
# which chunk is up to the thread pool.)


# %%
def chain(x):
    return np.cumsum(x)[-1]


def parallel_sums(add_up, chunks, workers):
    with ThreadPoolExecutor(workers) as thread_pool:
        return np.array(list(thread_pool.map(add_up, chunks)))


values = np.random.default_rng(1).standard_normal(1_000_003, np.float32)
chunked = [chain(parallel_sums(chain, np.array_split(values, n), n)) for n in (1, 2, 3, 4)]
lesson.expect("chunks, by 1 to 4 threads: distinct sums", count_distinct(*chunked), equal=4)

# %% [markdown]
# The solution is blocks of a fixed size: then it does not matter which thread adds up which block,
# and when. The library's blocks have 4,096 elements. Each block has 64 chains side by side: lane i
# adds x[i], x[i + 64] and so on. This is also fast, because no addition waits for the one before.
# Then the upper half of the lanes is added to the lower half, six times. The sums of the blocks are
# added up in the same way, until one number is left.

# %%
BLOCK, LANES = 4096, 64


def block_sum(x):
    lanes = np.cumsum(np.pad(x, (0, -len(x) % LANES)).reshape(-1, LANES), axis=0)[-1]
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


def in_blocks(x, workers=1):
    while len(x) > 1:
        x = parallel_sums(block_sum, np.split(x, range(BLOCK, len(x), BLOCK)), workers)
    return x[0]


ours = [in_blocks(values, n) for n in (1, 2, 3, 4)]
lesson.expect("blocks, by 1 to 4 threads: distinct sums", count_distinct(*ours), equal=1)
library = [mg.tensor(values).sum().numpy()]
with thread_count(1):
    library.append(mg.tensor(values).sum().numpy())
lesson.expect("blocks, mg.ops.sum: distinct sums", count_distinct(*ours, *library), equal=1)

# %% [markdown]
# Blocks are also more accurate. In one chain an element goes through up to n additions, in blocks
# through 64 + 6 for each round, whatever n is. (`numpy.sum` is pairwise, with the same effect.
# Compared with these errors, a sum in float64 is exact.)


# %%
def relative_error(total, x):
    """Return the relative error of a sum of x, in units of u."""
    return abs(float(total) / x.sum(dtype=np.float64) - 1) * 2.0**24


positive = abs(values)
chain_error, block_error = (relative_error(f(positive), positive) for f in (chain, in_blocks))
lesson.expect("blocks: relative error (units of u)", block_error, at_most=5)
lesson.expect("one chain: relative error (units of u)", chain_error, at_least=100)

# %% Figure
INTENSITY = {  # FLOP / bytes of the innermost loop
    "naive": 2 / 8,  # load a and b
    "loop_order": 2 / 12,  # load b and c, store c
    "cache_blocking": 2 / 12,
    "register_blocking": 8 / 36,  # load b and four of c, store four
    "register_tile": 2 * ROWS * WIDTH / (4 * ROWS + 4 * WIDTH),
}
RIGHT, LEFT = ((9, "left"), (-9, "right"))  # of the point, in 1/72 inch
LABELS = {  # of the points: text, offset and alignment
    (1, "naive"): ("naive", *RIGHT, -4),
    (1, "loop_order"): ("loop order", *RIGHT, -15),
    (1, "cache_blocking"): ("cache blocking", *RIGHT, -29),
    (1, "register_blocking"): ("register blocking", *RIGHT, -5),
    (1, "register_tile"): ("register tile", *LEFT, -15),
    (threads, "library"): (f"library, {threads} threads", *LEFT, -15),
}
L1 = {t: peak.bandwidth(peak.CACHED_BYTES, t) / 1e9 for t in FLOPS}
memory = peak.bandwidth(peak.UNCACHED_BYTES, 1) / 1e9
counts = 2 ** np.arange(6, 19 if lesson.fast else 23)
ADDERS = {"one chain": chain, "blocks": in_blocks, "numpy.sum": np.sum}
errors = {name: [] for name in ADDERS}
for count in counts:
    arrays = [rng.random(count, np.float32) for _ in range(3 if lesson.fast else 15)]
    for name, add_up in ADDERS.items():
        errors[name].append(np.median([relative_error(add_up(x), x) for x in arrays]))

with lesson.figure(11, 5.4) as figure:
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    intensity, dark = np.geomspace(0.04, 20, 500), "#333333"
    offset = {"textcoords": "offset points"}
    for t in sorted(FLOPS, reverse=True):
        colour = dark if t == 1 else "#777777"
        left.loglog(intensity, np.minimum(FLOPS[t], L1[t] * intensity), color=colour, lw=1.5)
        label = f"{t} thread{'s' * (t > 1)}: {FLOPS[t]:.0f} GFLOP/s"
        left.annotate(label, (0.45, FLOPS[t]), (0, 4), color=colour, **offset)
    low = intensity[intensity <= 0.3]
    left.loglog(low, memory * low, color=dark, lw=1.5, ls="--")
    for name, rate in (("L1", L1[1]), ("memory", memory)):
        rotation = {"rotation_mode": "anchor", "transform_rotates_text": True}
        angle = np.degrees(np.arctan(rate * 0.052 / 0.045))
        left.text(0.045, rate * 0.052, f"{name}: {rate:.0f} GB/s", rotation=angle, **rotation)
    for (t, name), rate in rates.items():
        if (t, name) in LABELS:
            label, right_by, side, up_by = LABELS[t, name]
            colour = ORANGE if name == "library" else BLUE
            point = INTENSITY.get(name, INTENSITY["register_tile"]), rate
            left.plot(*point, "o", color=colour, ms=7)
            label = f"{label}: {rate:.3g}"
            left.annotate(label, point, (right_by, up_by), ha=side, color=colour, **offset)
        elif name == "OpenBLAS":
            left.plot([5, 20], [rate, rate], color=PINK, lw=2)
            label = f"OpenBLAS: {rate:.3g}"
            left.annotate(label, (20, rate), (0, -15), ha="right", color=PINK, **offset)
    left.set(xlabel="intensity (FLOP per byte loaded or stored)", ylabel="GFLOP/s")
    left.set(xlim=(0.04, 20), ylim=(1.5, 400))
    left.set_title("The roofline of 64 x 512 times 512 x 784 in float32")

    for (name, medians), colour in zip(errors.items(), (ORANGE, BLUE, GREEN), strict=True):
        right.loglog(counts, medians, "o-", color=colour, ms=4, lw=1.5, label=name)
    right.set(xlabel="numbers in the sum", ylabel="relative error (units of u = $2^{-24}$)")
    right.set_title("A sum's order and its error")
    right.legend(loc="upper left")

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. A sum of 600 products is not one chain in the library. To the bit, it is a[:, :q] @ b[:q] +
#    a[:, q:] @ b[q:]. Find q by trying. Why is it not 512?
# 2. `@numba.njit(fastmath={"contract"})` allows LLVM to fuse a product and a sum, and nothing else.
#    Use it for `naive`: the bits of which kernel above does it have then?
# 3. Up to which n has the sum of 1, 2, ..., n in float32 the same bits in every order, and why?

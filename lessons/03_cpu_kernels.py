# %% [markdown]
# # 03 Kernels I: the CPU
#
# 教程 001 说，不必过多关注底层的实现细节；底层发生什么，五篇都没有讲。
# 这一课把矩阵乘法从三重循环优化到接近单核峰值，并说明为什么求和的顺序会改变结果。
#
# Tutorial 001 (section 5.3; README.md lists the tutorials) says that what happens below the
# framework needs little attention, and none of the five says what it is. Most of the time it is a
# matrix product. Three loops are enough to write one, but they use 2 % of what one core can do (on
# our machine, with AVX-512); you will read one that uses 90 %. Then: why the bits of a sum must not
# depend on the number of threads. Needs: nothing from 01 or 02.

# %%
import timeit
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np
from numba import types

import minigan as mg
from minigan.bench.machine import thread_count
from minigan.kernels.matmul.cpu import matmul
from minigan.kernels.runtime.cpu import peak
from minigan.kernels.runtime.cpu.simd import REGISTERS, VECTOR_BYTES, Simd, address, intrinsic
from minigan.utils.figures import BLUE, GREEN, ORANGE, PINK
from minigan.utils.lesson import Lesson

lesson = Lesson("03_cpu_kernels", "Kernels I: the CPU")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Three loops
#
# A dense layer multiplies 64 rows a (64, 512) by weights b (512, 784):
#
# $$c_{ij} = \sum_{p=0}^{511} a_{ip}\, b_{pj}$$
#
# At two FLOP (floating-point operations) per product, that is 51 million FLOP. The loops, compiled
# by numba, may be nested in any order. In `naive` (i, j, p), each addition waits for the one
# before, and b is read down its columns, 3 KB from element to element. In `loop_order` (i, p, j),
# the innermost loop runs along rows of b and c: adjacent elements, of which 16 fit into one vector
# register, and no addition waits for another.


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
# ## The register tile
#
# `loop_order` loads an element of b and one of c, and stores one of c, for each multiply-add: 12
# bytes for 2 FLOP. It is better to keep numbers in registers and use them several times. The loop
# below keeps a *tile* of c in registers from the first p to the last. For each p it adds all
# products of 8 elements of a's column p and 48 elements of b's row p:
#
# $$c_{rv} \mathrel{+}= a_{rp}\, b_{pv} \qquad r = 0 \dots 7,\quad v = 0, 1, 2$$
#
# where v numbers *vectors* of 16 float32 (64 bytes, with AVX-512). The 24 sums take 24 of the 32
# registers, the 48 elements of b take 3, and one element of a, copied to all 16 lanes of a vector,
# takes one. Python code for numba cannot say what stays in a register, so this loop is written in
# instructions of LLVM, numba's compiler. `codegen` runs once, in Python; a call of `simd` adds an
# instruction. In `step`, the loop's body, find 3 loads, 8 broadcasts, 24 multiply-adds, no store.


# %%
ROWS, VECTORS = (8 if REGISTERS == 32 else 4), 3
WIDTH = VECTORS * VECTOR_BYTES // 4  # columns of a tile, in float32


@intrinsic
def micro_kernel(typing, like, k, a, a_row, b, b_row, c):
    """Compute a tile of c. a, b, c are addresses, a_row and b_row the bytes of a row of a, b, c."""

    def codegen(context, builder, signature, arguments):
        _, k, a, a_row, b, b_row, c = arguments
        simd = Simd(context, builder, like.dtype)

        def step(offsets, sums):  # for one p: sums[r, v] += a[r, p] * b[p, v]
            row_of_b = [simd.load(x) for x in simd.vectors(builder.add(b, offsets[1]), VECTORS)]
            column_of_a = builder.add(a, offsets[0])
            new_sums = []
            for r in range(ROWS):
                x = simd.broadcast(simd.at(column_of_a, r, a_row))
                new_sums += [simd.fma(x, y, sums[r * VECTORS + v]) for v, y in enumerate(row_of_b)]
            return new_sums

        # From p to p + 1, a's offset grows by 4 bytes, b's by a row. The sums start at zero.
        sums = simd.loop(k, [context.get_constant(types.intp, 4), b_row], ROWS * VECTORS, step)
        for r in range(ROWS):
            for v, place in enumerate(simd.vectors(simd.at(c, r, b_row), VECTORS)):
                simd.store(sums[r * VECTORS + v], place)
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 6), codegen


@numba.njit
def register_tile(a, b, c):
    k, n = b.shape
    for column in range(0, n, WIDTH):
        for row in range(0, len(c), ROWS):
            i, j = min(row, len(c) - ROWS), min(column, n - WIDTH)
            micro_kernel(c, k, address(a[i]), 4 * k, address(b[0, j:]), 4 * n, address(c[i, j:]))


# %% [markdown]
# ## First correct, then fast
#
# A sum of k products in float32 is off by at most $\frac{k u}{1 - k u} \sum_p |a_{ip} b_{pj}|$ with
# $u = 2^{-24}$, in whatever order it is added (Higham 2002, section 3.1). Each kernel must keep to
# that bound, also on a shape that is no multiple of the tile. All of them add the same products in
# the same order of p. Before you run it: how many different results do the three give, to the bit?
# And does the tile agree with minigan's `@`?


# %%
def draw(*shape):
    return rng.standard_normal(dtype=np.float32, out=peak.aligned(shape, np.float32))


def run(kernel, a, b):
    c = np.full((len(a), b.shape[1]), np.nan, a.dtype)  # NaN: a missing element makes checks fail
    kernel(a, b, c)
    return c


def error(c, a, b):
    """Return the largest |c - A B|, in units of its bound."""
    a, b, ku = a.astype(np.float64), b.astype(np.float64), len(b) * 2.0**-24
    return (abs(c - a @ b) / (ku / (1 - ku) * (abs(a) @ abs(b)))).max()


def count_distinct(*arrays):
    """Count how many of the arrays differ from each other in any bit."""
    return len({x.tobytes() for x in arrays})


a, b = draw(64, 512), draw(512, 784)
KERNELS = naive, loop_order, register_tile
pairs = (a, b), (draw(37, 301), draw(301, 203))
worst = np.max([error(run(kernel, *pair), *pair) for kernel in KERNELS for pair in pairs])
lesson.expect("three kernels, two shapes: error / its bound", worst, at_most=1)
results = [run(kernel, a, b) for kernel in KERNELS]
lesson.expect("the three kernels: distinct results", count_distinct(*results), equal=2)
results = [results[-1], (mg.tensor(a) @ mg.tensor(b)).numpy()]
lesson.expect("the tile and minigan's @: distinct results", count_distinct(*results), equal=1)

# %% [markdown]
# `naive` and `loop_order` agree. The tile differs, because its multiply-add is one instruction,
# *fused*: the product is not rounded before it is added. minigan's `@` uses the same tile.
#
# ## How fast could it be?
#
# A core does at most π FLOP per second (measured by multiply-adds that stay in registers), and
# moves at most β bytes per second between registers and its fastest cache, L1. A kernel that does I
# FLOP for each byte that its innermost loop loads or stores (I is its *arithmetic intensity*)
# reaches at most $\min(\pi,\; I \beta)$, the *roofline* (for caches: Ilic, Pratas and Sousa, 2014).
# `loop_order` has I = 2/12. Predict I for the tile. Which of the two terms limits each kernel?

# %%
INTENSITY = {"naive": 2 / 8, "loop_order": 2 / 12}  # FLOP / bytes: loads a, b; loads b, c, stores c
INTENSITY["register_tile"] = 2 * ROWS * WIDTH / (4 * ROWS + 4 * WIDTH)  # loads a, b
lesson.record("register tile: FLOP per byte", INTENSITY["register_tile"])
c = peak.aligned((64, 784), np.float32)
calls = {kernel.__name__: partial(kernel, a, b, c) for kernel in KERNELS}
calls |= {"minigan's @": partial(matmul, a, b), "OpenBLAS": partial(np.matmul, a, b, out=c)}
flops, bytes_ = peak.fma_rate("float32", 1) / 1e9, peak.bandwidth(peak.CACHED_BYTES, 1) / 1e9
rates = {}
with thread_count(1):
    for name, call in calls.items():  # the best of many calls: other processes make some slower
        best = min(timeit.repeat(call, number=1, repeat=10 if lesson.fast else 100))
        rates[name] = 2e-9 * a.size * b.shape[1] / best
        print(f"  {name:13} {rates[name]:5.1f} GFLOP/s, {rates[name] / flops:4.0%} of the peak")

# %% Figure
with lesson.figure(10, 5) as figure:
    axes, x = figure.add_subplot(xlim=(0.04, 20), ylim=(1, 300)), np.geomspace(0.04, 20, 500)
    axes.loglog(x, np.minimum(flops, bytes_ * x), color="black", lw=1.5)
    axes.text(20, flops * 1.08, f"π = {flops:.0f} GFLOP/s", ha="right")
    axes.text(0.12, bytes_ * 0.13, f"I β, β = {bytes_:.0f} GB/s", ha="right")
    axes.plot([9, 20], [rates["OpenBLAS"]] * 2, color=PINK)
    axes.text(20, rates["OpenBLAS"] * 0.75, "OpenBLAS", color=PINK, ha="right")
    for name, x in INTENSITY.items():
        axes.plot(x, rates[name], "o", color=BLUE, ms=9)
        axes.text(x, rates[name] * 0.68, f"{name}: {rates[name]:.3g}", color=BLUE, ha="center")
    axes.set(xlabel="I, FLOP per byte", ylabel="GFLOP/s", title="64 x 512 @ 512 x 784, one core")

# %% [markdown]
# `naive` is far below its bound: each addition waits for the one before. `loop_order` waits for
# loads and stores; it comes within a factor of two of Iβ (b, with 1.6 MB, is not in L1). The
# tile has I = 3.4: the peak limits it. (kernels/matmul/README.md has all steps of `@`.)
#
# ## The order of a sum
#
# Floating-point addition rounds, so (x + y) + z is not x + (y + z). A parallel sum is usually cut
# into one chunk per thread; then the number of threads determines the order, and the same program
# with the same seed trains a different net on a machine with more threads. The solution is blocks
# of a *fixed* size: then it does not matter which thread adds which. The library's blocks have
# 4,096 elements, added as 64 chains: chain i adds x[i], x[i + 64] and so on, from left to right.
# Then the second half of the chains is added to the first, six times, until one sum is left; block
# sums are added in the same way. Predict: how many different sums do 1 to 4 threads give, each way?

# %%
BLOCK, CHAINS = 4096, 64


def chain(x):
    return np.cumsum(x)[-1]  # from left to right


def block_sum(x):
    lanes = np.cumsum(np.pad(x, (0, -len(x) % CHAINS)).reshape(-1, CHAINS), axis=0)[-1]
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


def parallel_sums(add_up, parts, workers):
    with ThreadPoolExecutor(workers) as thread_pool:
        return np.array(list(thread_pool.map(add_up, parts)))


def in_blocks(x, workers=1):
    while len(x) > 1:
        x = parallel_sums(block_sum, np.split(x, range(BLOCK, len(x), BLOCK)), workers)
    return x[0]


values = np.random.default_rng(1).standard_normal(1_000_003, np.float32)
chunked = [chain(parallel_sums(chain, np.array_split(values, n), n)) for n in (1, 2, 3, 4)]
lesson.expect("chunks, by 1 to 4 threads: distinct sums", count_distinct(*chunked), equal=4)
blocked = [in_blocks(values, n) for n in (1, 2, 3, 4)]
blocked.append(mg.tensor(values).sum().numpy())
lesson.expect("blocks, and minigan's sum: distinct sums", count_distinct(*blocked), equal=1)

# %% [markdown]
# In one chain of n elements the first goes through n - 1 additions; in a round of blocks, through
# 63 + 6. Add a million positive numbers. Is the chain's error 1, 10 or over 100 times as large?


# %%
def relative_error(total, x):
    """Return the relative error of a sum of x, in units of u; a sum in float64 is exact enough."""
    return abs(float(total) / x.sum(dtype=np.float64) - 1) * 2.0**24


positive = abs(values)
chain_error, block_error = (relative_error(f(positive), positive) for f in (chain, in_blocks))
lesson.record("blocks: relative error, units of u", block_error)
lesson.expect("error of the chain / of blocks", chain_error / block_error, at_least=100)

# %% Figure
counts, medians = 2 ** np.arange(6, 19 if lesson.fast else 23), []
for count in counts:
    draws = rng.random((3 if lesson.fast else 15, count), np.float32)
    adders = {"one chain": chain, "blocks": in_blocks, "numpy.sum": np.sum}
    medians += [[np.median([relative_error(f(x), x) for x in draws]) for f in adders.values()]]
with lesson.figure(8, 4, "sum") as figure:
    axes = figure.add_subplot(xlabel="numbers in the sum", ylabel="relative error / u")
    lines = zip(adders, np.transpose(medians), (ORANGE, BLUE, GREEN), strict=True)
    for name, line, colour in lines:
        axes.loglog(counts, line, "o-", color=colour, ms=4, lw=1.5, label=name)
    axes.legend()
lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. `@numba.njit(fastmath={"contract"})` allows LLVM to fuse a product and a sum, and nothing else.
#    Use it for `naive`: which kernel above has the same bits then?
#    <details><summary>Answer</summary>The tile: both then fuse, in the same order.</details>
# 2. minigan's `dense` adds a layer's bias to the columns of c that are still in the cache; `@` and
#    `+` pass over c once more. Do the bits differ? For which layers is `dense` faster?
#    <details><summary>Answer</summary>No: each element goes through the same operations. It pays
#    where the product is short: with a LeakyReLU behind it, 54 us become 38 for 100 inputs and 256
#    outputs, but 360 become only 331 for 512 and 784 (one core, AVX-512).</details>
# 3. Up to which n has the sum of 1, 2, ..., n in float32 the same bits in every order, and why?
#    <details><summary>Answer</summary>5792: integers up to $2^{24}$ are exact in float32, and no
#    partial sum is larger than $5792 \cdot 5793 / 2 = 16\,776\,528 \le 2^{24}$.</details>
#
# Next: 04 does the same on a GPU, in CUDA C++.

# %% [markdown]
# # 04 Kernels II: CUDA C++
#
# 教程 000、001 要装 cudatoolkit，001 选了 cuda，真实图像却没搬上去；GPU 上跑什么，五篇都没讲。
#
# Tutorials 000 and 001 (README.md lists the tutorials) make their readers install CUDA (section
# 5.1). 001 then chooses the device `cuda` (5.2), but never moves the real images there, which is an
# error of its own. None of the five shows what runs on a GPU. This lesson writes it: a matrix
# product in CUDA C++, optimized step by step, then a sum, then Adam. No GPU is needed:
# the emulator compiles the same `.cu` text with g++, runs every CUDA
# thread on the CPU, counts the memory accesses that a GPU would make, and reports mistakes that a
# GPU would not.

# %%
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import minigan as mg
from minigan.engine.cuda import CudaDevice
from minigan.kernels.matmul.cuda_optimization_steps import STEPS
from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.compiler import find_compiler
from minigan.kernels.runtime.emulator.emulator import Emulator
from minigan.utils.figures import BLUE, GREEN, GREY, ORANGE
from minigan.utils.lesson import Lesson
from minigan.utils.progress import announce_kernels

lesson = Lesson("04_cuda_kernels", "Kernels II: CUDA C++")
try:
    find_compiler()
except KernelError as error:
    sys.exit(f"lesson 04 runs on the emulator: {error}")
device = CudaDevice("cuda-emulator", Emulator(checked=True))
announce_kernels(device)
gpu, folder, rng = device.launcher, TemporaryDirectory(), np.random.default_rng(0)

# %% [markdown]
# ## A thread for each element
#
# A *kernel* is a function that thousands of threads run at once. They are grouped into blocks, and
# each thread knows the index of its block and its own index in the block: here thread i computes
# element i of c = a @ b, for a (m, k) and b (k, n). REAL is the dtype that the file is compiled
# for, and `In<REAL>` is a read-only array, on a GPU a plain `const float*`.

# %%
NAIVE = """
extern "C" __global__ void product(In<REAL> a, In<REAL> b, Out<REAL> c,
                                   long long m, long long n, long long k) {
    const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const long long row = i % m, column = i / m;
    if (i >= m * n) return;
    REAL sum = 0;
    for (long long p = 0; p < k; ++p) sum = fma(a[row * k + p], b[p * n + column], sum);
    c[row * n + column] = sum;
}"""


def launch(name, text, kernel, blocks, threads, arguments):
    """Run a kernel of NAME.cu with this text; return the counts of its memory accesses."""
    source, before = Path(folder.name, "lesson", f"{name}.cu"), gpu.counts
    source.parent.mkdir(exist_ok=True)
    source.write_text(text)
    gpu.launch(source, kernel, np.dtype("float32"), (blocks,), (threads,), arguments)
    return gpu.counts - before


def draw(*shape):
    return gpu.from_numpy(rng.standard_normal(shape, np.float32))


size = 128 if lesson.fast else 256
a, b = draw(size, size), draw(size, size)
on_cpu = (mg.tensor(a) @ mg.tensor(b)).numpy()
products, counts = {}, {}


def multiply(name, text, a, b, edge=0):  # a block computes edge x edge elements, or 256
    (m, k), n = a.shape, b.shape[1]
    grid = -(-m // edge) * -(-n // edge) if edge else -(-m * n // 256)
    c = products[name] = gpu.empty((m, n), "float32")
    counts[name] = launch(name, text, "product", grid, edge * edge or 256, [a, b, c, m, n, k])


def error(x, y):  # the largest error, relative to the largest element
    return abs(x - y).max() / abs(y).max()


multiply("naive", NAIVE, a, b)
lesson.expect("naive: error against the cpu", error(products["naive"], on_cpu), at_most=1e-5)

# %% [markdown]
# ## Global memory coalescing
#
# The result is right, but the kernel is slow on a GPU, and the counts say why. The 32 threads of a
# *warp* run together: their 32 reads are one instruction. Memory transfers *sectors* of 32
# bytes, 8 adjacent elements in float32. In a warp of `naive`, `column` is the same for all threads
# and `row` differs. So each iteration reads 32 elements of a in 32 rows, from 32 sectors, and one
# of b from one more.
#
# Exchange the two, in one line of the kernel, and an iteration reads one element of a and 32
# adjacent ones of b: 1 + 4 sectors. Accesses of a warp that share sectors are *coalesced*.

# %%
COALESCED = NAIVE.replace("row = i % m, column = i / m", "row = i / n, column = i % n")
multiply("coalesced", COALESCED, a, b)
iterations = size * size * size / 32  # of all warps
for name, by_hand in (("naive", 33), ("coalesced", 5)):
    sectors = counts[name].sectors / iterations  # those that c is written to are counted too
    what = f"{name}: sectors a warp reads in an iteration"
    lesson.expect(what, sectors, at_least=by_hand, at_most=by_hand + 0.4)

# %% [markdown]
# ## Shared-memory tiling
#
# Still, each multiply-add reads two elements from global memory. But the threads of a block share a
# small memory on the chip. They copy a 32 x 32 tile of a and one of b there, one element of each
# per thread, and then use each element 32 times. At a barrier, `__syncthreads()`, every thread of
# the block waits until all have reached it. The first barrier makes sure that the tiles are
# complete before they are read, the second that they are no longer read when they are overwritten.

# %%
TILED = """
constexpr int EDGE = 32;
extern "C" __global__ void product(In<REAL> a, In<REAL> b, Out<REAL> c,
                                   long long m, long long n, long long k) {
    SHARED(REAL, tile_a, EDGE * EDGE);  // __shared__ REAL tile_a[EDGE * EDGE];
    SHARED(REAL, tile_b, EDGE * EDGE);
    const int x = threadIdx.x % EDGE, y = threadIdx.x / EDGE, across = (n + EDGE - 1) / EDGE;
    const long long row = blockIdx.x / across * EDGE + y, column = blockIdx.x % across * EDGE + x;
    REAL sum = 0;
    for (long long first = 0; first < k; first += EDGE) {
        const long long p = first + x, q = first + y;
        tile_a[y * EDGE + x] = row < m && p < k ? a[row * k + p] : REAL(0);
        tile_b[y * EDGE + x] = q < k && column < n ? b[q * n + column] : REAL(0);
        __syncthreads();
        for (int d = 0; d < EDGE; ++d) sum = fma(tile_a[y * EDGE + d], tile_b[d * EDGE + x], sum);
        __syncthreads();  // before the next tiles
    }
    if (row < m && column < n) c[row * n + column] = sum;
}"""
multiply("tiled", TILED, a, b, edge=32)
ratio = counts["tiled"].sectors / counts["coalesced"].sectors
lesson.expect("tiled: sectors / those of coalesced", ratio, at_most=0.06)
barriers = counts["tiled"].barriers / (size / 32) ** 3
lesson.expect("tiled: barriers for a pair of tiles", barriers, equal=2)

# %% [markdown]
# ## Two mistakes
#
# Without the second barrier the kernel often works on a GPU, because the warps of a block usually
# run at about the same speed. When they do not, some sums are wrong, without any error. The checked
# emulator does not depend on speed. It records which thread accessed each element last, and reports
# an error when another thread accesses it with no barrier between.


# %%
def kernel_error(name, text, a, b, edge):
    try:
        multiply(name, text, a, b, edge)
    except KernelError as error:
        return str(error)
    return "no error"


RACY = TILED.replace("__syncthreads();  // before the next tiles", "")
lesson.expect("a missing barrier", kernel_error("racy", RACY, a, b, 32), says="a race")

# %% [markdown]
# The other mistake is to ignore that k = 50 is no multiple of 32. A GPU then reads what lies in
# memory after a row: mostly the next row, and at the end of the array the numbers of another array.
# As b's tile contains zeros there, the result is even right, unless an infinity or a NaN is read.

# %%
OUTSIDE = TILED.replace("row < m && p < k ?", "row < m ?")
odd = draw(40, 50), draw(50, 33)
multiply("odd", TILED, *odd, edge=32)
odd_error = error(products["odd"], odd[0].astype(np.float64) @ odd[1])
lesson.expect("edges, with both bounds checks: error against float64", odd_error, at_most=1e-5)
message = kernel_error("outside", OUTSIDE, *odd, 32)
lesson.expect("a missing bounds check", message, says="outside its elements 0 to 1999")

# %% [markdown]
# ## Register blocking, vectorized access, double buffering
#
# Shared memory is fast, but now each multiply-add reads two elements of it. The same idea helps
# again, one level higher: let a thread compute 4 x 4 elements of c. The 4 + 4 numbers that it reads
# are then used 4 times each, from registers. This is the core of `register_blocking`
# (`kernels/matmul/optimization_steps.cu`):
#
#     REAL u[4], v[4];
#     for (int i = 0; i < 4; ++i) {
#         u[i] = tile_a[(y + 16 * i) * 16 + q];
#         v[i] = tile_b[q * 64 + x + 16 * i];
#     }
#     for (int i = 0; i < 4; ++i)
#         for (int j = 0; j < 4; ++j) sums[i][j] = fma(u[i], v[j], sums[i][j]);
#
# The last step is the library's own kernel (`kernels/matmul/cuda.cu`). It reads both memories 16
# bytes at a time (vectorized access), and has two pairs of tiles: while one is used, the next one
# is loaded (double buffering), so one barrier per pair is enough.

# %%
for ours, name in zip(("naive", "coalesced", "tiled"), STEPS, strict=False):
    products[name], counts[name] = products[ours], counts[ours]
for name in list(STEPS)[3:]:
    before = gpu.counts
    products[name] = STEPS[name](gpu, a, b)
    counts[name] = gpu.counts - before
memory_bytes = {name: counts[name].sectors * 32 / size**3 for name in STEPS}
shared_bytes = {name: counts[name].passes * 128 / size**3 for name in STEPS}
for name in STEPS:
    moved = f"{memory_bytes[name]:7.3f} bytes of memory,{shared_bytes[name]:6.2f} of shared memory"
    print(f"  {name:36}{moved} per multiply-add; {counts[name].barriers:4} barriers")
distinct = {products[name].tobytes() for name in STEPS}
lesson.expect("distinct results of the five steps", len(distinct), equal=1)
last = name
lesson.expect("last step: error against the cpu", error(products[last], on_cpu), at_most=1e-5)
ratio = memory_bytes["naive"] / memory_bytes[last]
lesson.expect("last step: naive's bytes of memory / its own", ratio, at_least=150)
ratio = shared_bytes["shared-memory tiling"] / shared_bytes[last]
lesson.expect("last step: tiling's bytes of shared memory / its own", ratio, at_least=10)

# %% [markdown]
# ## A sum without barriers
#
# To add up a row, each of 32 threads adds every 32nd element; then the upper half of the 32 sums is
# added to the lower half, five times. Through shared memory each of these needs a barrier. But the
# threads of a warp can also read each other's registers: `__shfl_down_sync(mask, x, d)` returns the
# x of the thread whose index is larger by d.

# %%
SUMS = """
extern "C" __global__ void row_sums(In<REAL> x, Out<REAL> y, long long n) {
    const long long row = blockIdx.x;
    REAL sum = 0;
    for (long long j = threadIdx.x; j < n; j += 32) sum += x[row * n + j];
    for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
    if (threadIdx.x == 0) y[row] = sum;
}"""
x, y = abs(a[:50]), gpu.empty((50,), "float32")
sum_counts = launch("sums", SUMS, "row_sums", 50, 32, [x, y, size])
on_cpu = mg.tensor(x).sum(axis=1).numpy()
lesson.expect("shuffled sums: error against the cpu", error(y, on_cpu), at_most=1e-5)
accesses = sum_counts.barriers + sum_counts.shared_accesses
lesson.expect("shuffled sums: barriers, and accesses to shared memory", accesses, equal=0)

# %% [markdown]
# ## Adam, fused
#
# Adam does little arithmetic per parameter, so memory traffic determines its speed. One op at a
# time, every intermediate result is written and read again. The library's kernel
# (`kernels/optimizer/cuda.cu`) keeps them in registers. Its rule, for one parameter p with gradient
# g and moments m and v:
#
#     m = m + (gradient - m) * one_minus_beta1;
#     v = v * beta2 + one_minus_beta2 * gradient * gradient;
#     p = p * decay_factor - lr * m / (sqrt(v) / root + eps);
#
# It reads four numbers and writes three: 28 bytes, and one launch updates all parameters of a
# model. (Every warp also reads the eight coefficients of the rule: 2 bytes per parameter.)


# %%
def fused_adam(device, steps):
    p = mg.tensor(a, device=device, requires_grad=True)
    optimizer = mg.optim.Adam([p], lr=0.01)
    for step in range(steps):
        optimizer.step([mg.tensor(b * (step + 1), device=device)])
    return p.numpy()


def adam_by_ops(p, g, m, v, t):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * (g * g)
    return p - (0.01 / (1 - 0.9**t)) * (m / ((v / (1 - 0.999**t)).sqrt() + 1e-8))


adam_error = error(fused_adam(device, 3), fused_adam("cpu", 3))
lesson.expect("Adam, three steps: error against the cpu", adam_error, at_most=1e-5)
before = gpu.counts
fused = fused_adam(device, 1)
between = gpu.counts
p, g, zero = (mg.tensor(x, device=device) for x in (a, b, 0 * a))
by_ops = adam_by_ops(p, g, zero, zero, 1)
moved = [32 * c.ideal_sectors / a.size for c in (between - before, gpu.counts - between)]
lesson.expect("fused: bytes of memory per parameter", moved[0], at_least=28, at_most=31)
lesson.expect("one op at a time: bytes per parameter", moved[1], at_least=4 * moved[0])
lesson.expect("one step, fused and by ops: error", error(fused, by_ops.numpy()), at_most=1e-5)

# %% [markdown]
# ## On a GPU
#
# Counts are not times. A GPU has caches, so not every requested sector comes from memory, and while
# one warp waits, another one computes: only a GPU can show how long a kernel takes. If this machine
# has one (and cupy), the steps are timed on it with events, which the GPU itself timestamps,
# because a launch returns before its kernel has run. All times of a GPU that the figure shows are
# measured in this run.


# %%
def rate(gpu, step, n):  # GFLOP/s of n x n x n
    a, b = (gpu.from_numpy(rng.standard_normal((n, n), np.float32)) for _ in range(2))
    start, end = gpu.cupy.cuda.Event(), gpu.cupy.cuda.Event()
    step(gpu, a, b)
    start.record()
    for _ in range(5):
        step(gpu, a, b)
    end.record()
    end.synchronize()
    return 5 * 2e-6 * n**3 / gpu.cupy.cuda.get_elapsed_time(start, end)


# %% Figure
rates, sizes = {}, 2 ** np.arange(8, 11 if lesson.fast else 13)
try:
    real = mg.get_device("cuda").launcher
    print("  on", real.describe()["gpu"])
    for name, step in STEPS.items():
        rates[name] = [rate(real, step, n) for n in sizes.tolist()]
        print(f"  {name:36} {rates[name][-1]:8.0f} GFLOP/s at {sizes[-1]}")
except KernelError:
    print("  this machine has no GPU: nothing was timed on one")

SECTOR = 8  # float32 elements
TICKS = ["naive", "coalesced", "shared-\nmemory\ntiling", "register\nblocking"]
TICKS += ["vectorized,\ndouble\nbuffered"]
READS = {  # (rows, columns) of the elements that the 32 threads of a warp read in one iteration
    ("naive", "a"): (np.arange(32), np.full(32, 11)),
    ("naive", "b"): (np.full(32, 11), np.zeros(32, int)),
    ("coalesced", "a"): (np.zeros(32, int), np.full(32, 11)),
    ("coalesced", "b"): (np.full(32, 11), np.arange(32)),
}
LIGHT = "#F3C3A0"  # of ORANGE
layout = [["naive a", "naive b", "bytes"], ["coalesced a", "coalesced b", "bytes"]]
layout = [[*row, "gpu"] for row in layout] if rates else layout
with lesson.figure(13.3 if rates else 11, 5.4) as figure:
    axes = figure.subplot_mosaic(layout, width_ratios=[1, 1, 3.2, 2.6][: len(layout[0])])
    for (name, matrix), (rows, columns) in READS.items():
        map_ = axes[f"{name} {matrix}"]
        for row, sector in set(zip(rows, columns // SECTOR, strict=True)):
            map_.barh(row + 0.5, SECTOR, left=SECTOR * sector, height=1, color=LIGHT)
        for row, column in set(zip(rows, columns, strict=True)):
            map_.barh(row + 0.5, 1, left=column, height=1, color=BLUE)
        map_.set(xlim=(0, 32), ylim=(32, 0), aspect="equal", xticks=range(0, 33, 8), yticks=[])
        map_.set(xticklabels=[])
        map_.grid(axis="x", color="#DDDDDD", lw=0.8)
        map_.spines[["top", "right"]].set_visible(True)
        sectors = len(set(zip(rows, columns // SECTOR, strict=True)))
        map_.set_xlabel(f"{matrix}: {sectors} sector{'s' * (sectors > 1)}")
        if matrix == "a":
            map_.set_ylabel(name, fontsize=13)
    axes["naive a"].set_title("What a warp reads in one iteration")
    legend = {"reads": BLUE, "also moved": LIGHT}
    for height, (label, colour) in zip((0.62, 0.37), legend.items(), strict=True):
        axes["coalesced a"].barh(32 * (1 - height), 2, left=2, height=2, color=colour)
        axes["coalesced a"].text(6, 32 * (1 - height), label, va="center", fontsize=11)

    chart = axes["bytes"]
    for moved, colour, label in (
        (memory_bytes, ORANGE, "from and to memory"),
        (shared_bytes, BLUE, "from and to shared memory"),
    ):
        points = [(i, moved[name]) for i, name in enumerate(STEPS) if moved[name]]
        chart.semilogy(*zip(*points, strict=True), "o-", color=colour, ms=8, label=label)
        for i, y in points:
            chart.annotate(f"{y:.2g}", (i, y), (0, 9), textcoords="offset points", color=colour)
    chart.set(xticks=range(len(TICKS)), xlim=(-0.4, 4.6), ylim=(0.04, 80))
    chart.set_xticklabels(TICKS, fontsize=11)
    chart.set_ylabel("bytes per multiply-add")
    chart.set_title(f"Bytes moved, counted at {size} x {size} x {size}")
    chart.legend(loc="upper right")

    for (name, line), colour in zip(rates.items(), (GREY, ORANGE, GREEN, BLUE, "k"), strict=False):
        axes["gpu"].loglog(sizes, line, "o-", color=colour, label=name)
        axes["gpu"].set(xlabel="size", ylabel="GFLOP/s", title=real.describe()["gpu"])
        axes["gpu"].legend()

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. Put `if (row >= m || column >= n) return;` into TILED, before the loop: those threads have
#    nothing to store. What does the checked emulator report at 40 x 50 x 33, and why does it report
#    nothing at 64 x 50 x 64?
# 2. Store a's tile transposed: `tile_a[x * EDGE + y] = ...`, and read `tile_a[d * EDGE + y]`. Sums
#    and sectors stay the same. How many passes through shared memory does each store take now? Pad
#    the rows of that tile by one element, to EDGE + 1, and count again.
# 3. `row_sums` reads 4 bytes per thread at a time. Let it read a `Pack<REAL, 4>` by
#    `load<4>(x, i)`, for n a multiple of 128. How do sectors and accesses change?

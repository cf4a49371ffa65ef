# %% [markdown]
# # 04 Kernels II: CUDA C++
#
# 教程 000、001 要装 cudatoolkit，001 选了 cuda，真实图像却没搬上去；GPU 上跑什么，五篇都没讲。
#
# Tutorials 000 and 001 have their readers install CUDA (section 5.1). 001 then chooses the device
# `cuda` (5.2), but never moves the real images there, which alone would stop it. What runs on a GPU
# none of the five shows. This lesson writes it: a matrix product in CUDA C++, made better rung by
# rung, then a sum, then Adam. No GPU is needed. The emulator compiles the same `.cu` text with g++,
# runs every CUDA thread on the CPU, counts what a GPU's memory would do, and finds mistakes that a
# GPU would not mention.

# %%
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import minigan as mg
from frame import Lesson
from minigan.engine.cuda import CudaDevice
from minigan.kernels.matmul.cuda_optimization_steps import RUNGS
from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.compiler import find_compiler
from minigan.kernels.runtime.emulator.emulator import Emulator
from minigan.utils.figures import BLUE, GREEN, GREY, ORANGE
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
# A *kernel* is a function that thousands of threads run at once. They come in blocks, and each
# thread knows the number of its block and its own number in it: so here thread i computes the i-th
# element of c = a @ b, for a (m, k) and b (k, n). REAL is the dtype that the file is compiled for,
# and `In<REAL>` is an array that is only read, on a GPU a plain `const float*`.

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
    """Run a kernel of NAME.cu with this text; what was counted meanwhile."""
    source, before = Path(folder.name, "lesson", f"{name}.cu"), gpu.counts
    source.parent.mkdir(exist_ok=True)
    source.write_text(text)
    gpu.launch(source, kernel, np.dtype("float32"), (blocks,), (threads,), arguments)
    return gpu.counts - before


def draw(*shape):
    return gpu.from_numpy(rng.standard_normal(shape, np.float32))


size = 128 if lesson.fast else 256
a, b = draw(size, size), draw(size, size)
on_cpu = mg.ops.matmul(mg.tensor(a), mg.tensor(b)).numpy()
products, counts = {}, {}


def multiply(name, text, a, b, edge=0):  # a block makes edge x edge elements, or 256
    (m, k), n = a.shape, b.shape[1]
    grid = -(-m // edge) * -(-n // edge) if edge else -(-m * n // 256)
    c = products[name] = gpu.empty((m, n), "float32")
    counts[name] = launch(name, text, "product", grid, edge * edge or 256, [a, b, c, m, n, k])


def far(x, y):
    return abs(x - y).max() / abs(y).max()


multiply("naive", NAIVE, a, b)
lesson.expect("naive: away from the cpu device", far(products["naive"], on_cpu), at_most=1e-5)

# %% [markdown]
# ## What memory gives
#
# It is right, but slow on a GPU, and the counts say why. The 32 threads of a *warp* go through the
# program together: their 32 reads are one instruction. Memory answers with *sectors* of 32 bytes, 8
# neighbours in float32. In a warp of `naive`, `column` is the same for all and `row` differs. So
# each step reads 32 elements of a in 32 rows, from 32 sectors, and one of b from one more.
#
# Exchange the two, in one line of the kernel, and a step reads one element of a, and 32 of b
# which are neighbours: 1 + 4 sectors. Accesses of a warp that share sectors are *coalesced*.

# %%
ALONG = NAIVE.replace("row = i % m, column = i / m", "row = i / n, column = i % n")
multiply("coalesced", ALONG, a, b)
steps = size * size * size / 32  # of all warps
for name, by_hand in (("naive", 33), ("coalesced", 5)):
    what = f"{name}: sectors a warp reads in a step (c is written besides)"
    sectors = counts[name].sectors / steps
    lesson.expect(what, sectors, at_least=by_hand, at_most=by_hand + 0.4)

# %% [markdown]
# ## Shared tiles
#
# Still each multiply-add reads two elements of memory. But the threads of a block can also share a
# small memory on the chip. They copy a 32 x 32 tile of a and one of b there, an element each, and
# then each element is used 32 times. A barrier, `__syncthreads()`, holds every thread of the block
# until all have come to it: the first lets nobody read a tile that is not complete, the second lets
# nobody overwrite one that is still read.

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
multiply("shared tiles", TILED, a, b, edge=32)
found = counts["shared tiles"].sectors / counts["coalesced"].sectors
lesson.expect("shared tiles: sectors / those of coalesced", found, at_most=0.06)
found = counts["shared tiles"].barriers / (size / 32) ** 3
lesson.expect("shared tiles: barriers for a pair of tiles", found, equal=2)

# %% [markdown]
# ## Two mistakes
#
# Forget the second barrier, and the kernel often works on a GPU: the warps of a block usually keep
# pace. When they do not, some sums are wrong, and nothing says so. The checked emulator does not
# rely on pace. It remembers of each element who touched it last, and complains when another thread
# touches it with no barrier between.


# %%
def complaint(name, text, a, b, edge):
    try:
        multiply(name, text, a, b, edge)
    except KernelError as error:
        return str(error)
    return "no complaint"


RACY = TILED.replace("__syncthreads();  // before the next tiles", "")
lesson.expect("a barrier forgotten", complaint("racy", RACY, a, b, 32), says="a race")

# %% [markdown]
# And forget that k = 50 is no multiple of 32. A GPU reads whatever lies in memory behind a row:
# mostly the next row, and at the end of the array another one's numbers. As b's tile holds zeros
# there, the result is even right, until what is read is an infinity or no number.

# %%
OUTSIDE = TILED.replace("row < m && p < k ?", "row < m ?")
odd = draw(40, 50), draw(50, 33)
multiply("odd", TILED, *odd, edge=32)
found = far(products["odd"], odd[0].astype(np.float64) @ odd[1])
lesson.expect("edges, with both guards: away from float64", found, at_most=1e-5)
said = complaint("outside", OUTSIDE, *odd, 32)
lesson.expect("a guard forgotten", said, says="outside its elements 0 to 1999")

# %% [markdown]
# ## Registers, and wide reads
#
# Shared memory is fast, but now each multiply-add reads two elements of it. So the same thought
# again, one level higher: let a thread make 4 x 4 elements of c. The 4 + 4 numbers that it reads
# are then used 4 times each, from registers. The core of `register_tiles`:
#
#     REAL u[4], v[4];
#     for (int i = 0; i < 4; ++i) {
#         u[i] = tile_a[(y + 16 * i) * 16 + q];
#         v[i] = tile_b[q * 64 + x + 16 * i];
#     }
#     for (int i = 0; i < 4; ++i)
#         for (int j = 0; j < 4; ++j) sums[i][j] = fma(u[i], v[j], sums[i][j]);
#
# The last rung is the library's own kernel (`kernels/matmul/cuda.cu`). It reads both memories 16
# bytes at a time, and has two pairs of tiles: while one is used the next is on its way, so one
# barrier for each suffices.

# %%
for name in list(RUNGS)[3:]:
    before = gpu.counts
    products[name] = RUNGS[name](gpu, a, b)
    counts[name] = gpu.counts - before
ladder = {name: counts[name] for name in RUNGS}
from_memory = {name: c.sectors * 32 / size**3 for name, c in ladder.items()}
from_shared = {name: c.passes * 128 / size**3 for name, c in ladder.items()}
for name, found in ladder.items():
    moved = f"{from_memory[name]:7.3f} bytes of memory,{from_shared[name]:6.2f} of shared memory"
    print(f"  {name:28}{moved} a multiply-add; {found.barriers:4} barriers")
results = {products[name].tobytes() for name in RUNGS}
lesson.expect("distinct results among five rungs", len(results), equal=1)
lesson.expect("the top: away from the cpu device", far(products[name], on_cpu), at_most=1e-5)
saved = from_memory["naive"] / from_memory[name]
lesson.expect("the top: how much less memory it moves", saved, at_least=150)
saved = from_shared["shared tiles"] / from_shared[name]
lesson.expect("the top: how much less shared memory", saved, at_least=10)

# %% [markdown]
# ## A sum without barriers
#
# To add up a row, each of 32 threads adds every 32nd element; then 32 sums are folded in half, five
# times. Through shared memory each fold needs a barrier. But the threads of a warp can also read
# each other's registers: `__shfl_down_sync(mask, x, d)` is the x of the thread d further on.

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
found = launch("sums", SUMS, "row_sums", 50, 32, [x, y, size])
on_cpu = mg.ops.sum(mg.tensor(x), axis=1).numpy()
lesson.expect("shuffled sums: away from the cpu device", far(y, on_cpu), at_most=1e-5)
used = found.barriers + found.shared_accesses
lesson.expect("shuffled sums: barriers, and accesses to shared memory", used, equal=0)

# %% [markdown]
# ## Adam, fused
#
# Adam does little with each parameter, and all of it is memory. An op at a time, every intermediate
# result is written and read again. The library's kernel (`kernels/optimizer/cuda.cu`) keeps them in
# registers. Its rule, for one parameter p with gradient g and moments m and v:
#
#     m = m + (gradient - m) * blend;
#     v = v * keep + fresh * gradient * gradient;
#     p = p * shrink - rate * m / (sqrt(v) / root + eps);
#
# It reads four numbers and writes three: 28 bytes, and one launch does all parameters of a model.
# (Every warp also reads the eight numbers of the rule, which come to 2 bytes for a parameter.)


# %%
def steps_of_adam(where, count):
    p = mg.tensor(a, device=where, requires_grad=True)
    optimizer = mg.optim.Adam([p], lr=0.01)
    for step in range(count):
        optimizer.step([mg.tensor(b * (step + 1), device=where)])
    return p.numpy()


def adam_by_ops(p, g, m, v, t):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * (g * g)
    return p - (0.01 / (1 - 0.9**t)) * (m / (mg.ops.sqrt(v / (1 - 0.999**t)) + 1e-8))


three = far(steps_of_adam(device, 3), steps_of_adam("cpu", 3))
lesson.expect("Adam, three steps: away from the cpu device", three, at_most=1e-5)
before = gpu.counts
fused = steps_of_adam(device, 1)
between = gpu.counts
p, g, zero = (mg.tensor(x, device=device) for x in (a, b, 0 * a))
by_ops = adam_by_ops(p, g, zero, zero, 1)
used = [32 * c.ideal_sectors / a.size for c in (between - before, gpu.counts - between)]
lesson.expect("fused: bytes of memory for a parameter", used[0], at_least=28, at_most=31)
lesson.expect("an op at a time: bytes for a parameter", used[1], at_least=4 * used[0])
lesson.expect("a step of the two: apart", far(fused, by_ops.numpy()), at_most=1e-5)

# %% [markdown]
# ## On a GPU
#
# Counts are not times. A GPU has caches, so not every sector that is asked for comes from memory,
# and while one warp waits another computes: how long a kernel takes only a GPU can tell. Where
# there is one (and cupy), the rungs are timed on it, with events, which the GPU itself stamps: a
# launch returns before its kernel has run. No figure of a GPU is shown that was not measured here
# and now.


# %%
def rate(gpu, rung, n):  # GFLOP/s of n x n x n
    a, b = (gpu.from_numpy(rng.standard_normal((n, n), np.float32)) for _ in range(2))
    start, end = gpu.cupy.cuda.Event(), gpu.cupy.cuda.Event()
    rung(gpu, a, b)
    start.record()
    for _ in range(5):
        rung(gpu, a, b)
    end.record()
    end.synchronize()
    return 5 * 2e-6 * n**3 / gpu.cupy.cuda.get_elapsed_time(start, end)


# %% Figure
rates, sizes = {}, 2 ** np.arange(8, 11 if lesson.fast else 13)
try:
    real = mg.get_device("cuda").launcher
    print("  on", real.describe()["gpu"])
    for name, rung in RUNGS.items():
        rates[name] = [rate(real, rung, n) for n in sizes.tolist()]
        print(f"  {name:28} {rates[name][-1]:8.0f} GFLOP/s at {sizes[-1]}")
except KernelError:
    print("  no GPU here: nothing was timed on one")

SECTOR = 8  # float32 elements
SHORT = ["naive", "coalesced", "shared\ntiles", "register\ntiles", "wide,\ntwo buffers"]
READS = {  # (rows, columns) of the elements that 32 lanes read in one step
    ("naive", "a"): (np.arange(32), np.full(32, 11)),
    ("naive", "b"): (np.full(32, 11), np.zeros(32, int)),
    ("coalesced", "a"): (np.zeros(32, int), np.full(32, 11)),
    ("coalesced", "b"): (np.full(32, 11), np.arange(32)),
}
LIGHT = "#F3C3A0"  # of ORANGE
layout = [["naive a", "naive b", "ladder"], ["coalesced a", "coalesced b", "ladder"]]
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
        many = len(set(zip(rows, columns // SECTOR, strict=True)))
        map_.set_xlabel(f"{matrix}: {many} sector{'s' * (many > 1)}")
        if matrix == "a":
            map_.set_ylabel(name, fontsize=13)
    axes["naive a"].set_title("What a warp reads in one step")
    said = {"reads": BLUE, "moved besides": LIGHT}
    for place, (words, colour) in zip((0.62, 0.37), said.items(), strict=True):
        axes["coalesced a"].barh(32 * (1 - place), 2, left=2, height=2, color=colour)
        axes["coalesced a"].text(6, 32 * (1 - place), words, va="center", fontsize=11)

    chart, places = axes["ladder"], np.arange(len(SHORT))
    for moved, colour, label in (
        (from_memory, ORANGE, "from and to memory"),
        (from_shared, BLUE, "from and to shared memory"),
    ):
        drawn = [(i, moved[name]) for i, name in enumerate(RUNGS) if moved[name]]
        chart.semilogy(*zip(*drawn, strict=True), "o-", color=colour, ms=8, label=label)
        for i, y in drawn:
            chart.annotate(f"{y:.2g}", (i, y), (0, 9), textcoords="offset points", color=colour)
    chart.set(xticks=places, xlim=(-0.4, 4.6), ylim=(0.04, 80))
    chart.set_xticklabels(SHORT, fontsize=11)
    chart.set_ylabel("bytes per multiply-add")
    chart.set_title(f"The ladder, counted at {size} x {size} x {size}")
    chart.legend(loc="upper right")

    for (name, found), colour in zip(rates.items(), (GREY, ORANGE, GREEN, BLUE, "k"), strict=False):
        axes["gpu"].loglog(sizes, found, "o-", color=colour, label=name)
        axes["gpu"].set(xlabel="size", ylabel="GFLOP/s", title=real.describe()["gpu"])
        axes["gpu"].legend()

lesson.finish()

# %% [markdown]
# ## Exercises
#
# 1. Put `if (row >= m || column >= n) return;` into TILED, before the loop: those threads have
#    nothing to store. What does the checked emulator say at 40 x 50 x 33, and why is it silent at
#    64 x 50 x 64?
# 2. Store a's tile turned: `tile_a[x * EDGE + y] = ...`, and read `tile_a[d * EDGE + y]`. Sums and
#    sectors stay the same. How many passes through shared memory does each store take now? Give
#    the rows of that tile one element more, EDGE + 1, and count again.
# 3. `row_sums` reads 4 bytes a thread at a time. Let it read a `Pack<REAL, 4>` by `load<4>(x, i)`,
#    for n a multiple of 128. How do sectors and accesses change?

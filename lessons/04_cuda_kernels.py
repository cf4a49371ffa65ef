# %% [markdown]
# # 04 Kernels II: CUDA C++
#
# 教程 000、001 要求安装 cudatoolkit；001 选用 cuda，却没把真实图像搬到 GPU 上。GPU 上运行什么，
# 五篇都没讲。这一课用 CUDA C++ 写矩阵乘法，逐步减少它搬运的字节数；没有 GPU 也能运行。
#
# Tutorials 000 and 001 (README.md lists the tutorials) make their readers install CUDA (section
# 5.1). 001 chooses the device `cuda` (5.2), but never moves the real images there, which is an
# error. None of the five shows what runs on a GPU. This lesson writes it: a matrix product in CUDA
# C++, step by step from 33 bytes of memory per multiply-add to 0.14; then Adam. No GPU is needed:
# an emulator compiles the same `.cu` text with g++, runs every CUDA thread on the CPU, counts the
# memory accesses that a GPU would make, and reports mistakes that a GPU would not. Then you write a
# kernel of your own, and read what a GPU executes. Needs: 03 (tiles, fused multiply-adds).

# %%
import sys

import numpy as np

import minigan as mg
from minigan.engine.check import CheckError
from minigan.engine.cuda import CudaDevice
from minigan.kernels.matmul.cuda import SOURCE
from minigan.kernels.matmul.cuda_optimization_steps import STEPS
from minigan.kernels.runtime.cuda import hot_path, sass
from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.cuda.nvrtc import compile_for
from minigan.kernels.runtime.cuda.source_files import text_file
from minigan.kernels.runtime.emulator.compiler import find_compiler
from minigan.kernels.runtime.emulator.emulator import Emulator
from minigan.ops.samples import uniform
from minigan.utils.figures import BLUE, ORANGE
from minigan.utils.lesson import Lesson
from minigan.utils.progress import announce_kernels

lesson = Lesson("04_cuda_kernels", "Kernels II: CUDA C++")
try:
    find_compiler()
except KernelError as error:
    sys.exit(f"lesson 04 runs on the emulator: {error}")
device = CudaDevice("cuda-emulator", Emulator(checked=True))
announce_kernels(device)
gpu, rng = device.launcher, np.random.default_rng(0)

# %% [markdown]
# ## A thread for each element
#
# A *kernel* is a function that thousands of threads run at once. They are grouped into blocks, and
# each thread knows the index of its block and its own index in the block: here each thread computes
# one element of $c = a\,b$, for a (m, k) and b (k, n). REAL is the dtype that the file is compiled
# for, and `In<REAL>` is a read-only array, on a GPU a plain `const float*` (for float32).

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


def draw(*shape):
    return gpu.from_numpy(rng.standard_normal(shape, np.float32))


def multiply(name, text, a, b, edge=0):
    """Run a kernel of this text; a block computes edge x edge elements, or 256 if edge is 0."""
    (m, k), n = a.shape, b.shape[1]
    blocks = -(-m // edge) * -(-n // edge) if edge else -(-m * n // 256)
    c, source, before = gpu.empty((m, n), "float32"), text_file(name, text), gpu.counts
    gpu.launch(source, "product", c.dtype, (blocks,), (edge * edge or 256,), [a, b, c, m, n, k])
    products[name], counts[name] = c, gpu.counts - before


size, products, counts = 128 if lesson.fast else 256, {}, {}
a, b = draw(size, size), draw(size, size)


# %% [markdown]
# ## Global memory coalescing
#
# Arithmetic is cheap on a GPU, moving bytes is not. The 32 threads of a *warp* run together: their
# 32 reads are one instruction. Memory moves *sectors* of 32 bytes, 8 adjacent elements in float32.
# In a warp of `naive`, `column` is the same for all threads and `row` differs. Before you run it:
# how many sectors does a warp read in each iteration over p, of a and of b together? And if `row`
# is the same for all threads and `column` differs (one line of the kernel)?

# %%
multiply("naive", NAIVE, a, b)
COALESCED = NAIVE.replace("row = i % m, column = i / m", "row = i / n, column = i % n")
multiply("coalesced", COALESCED, a, b)
iterations = size * size * size / 32  # of all warps; c's sectors add at most 0.4 to each
naive, coalesced = (counts[name].sectors / iterations for name in ("naive", "coalesced"))
sectors = [round(naive), round(coalesced)]
lesson.expect("sectors per iteration: naive, coalesced", sectors, equal=[33, 5])

# %% Figure
READS = {  # (rows, columns) of the elements that the 32 threads of a warp read in one iteration
    "naive, a": (np.arange(32), np.full(32, 11)),
    "naive, b": (np.full(32, 11), np.zeros(32, int)),
    "coalesced, a": (np.zeros(32, int), np.full(32, 11)),
    "coalesced, b": (np.full(32, 11), np.arange(32)),
}
with lesson.figure(11, 3.4, "warp") as figure:
    for axes, (title, (rows, columns)) in zip(figure.subplots(1, 4), READS.items(), strict=True):
        moved = set(zip(rows, columns // 8, strict=True))  # 8 elements are a sector
        for row, sector in moved:
            axes.barh(row + 0.5, 8, left=8 * sector, height=1, color="#F3C3A0")
        axes.bar(columns + 0.5, 1, bottom=rows, width=1, color=BLUE)
        axes.set(xlim=(0, 32), ylim=(32, 0), aspect="equal", xticks=range(0, 33, 8), yticks=[])
        axes.set(title=title, xlabel=f"{len(moved)} sector{'s' * (len(moved) > 1)}", xticklabels=[])

# %% [markdown]
# `naive` reads 32 elements of a in 32 rows, from 32 sectors, and one of b from one more. In the
# figure, what is moved is orange, and only the blue part is used. `coalesced` reads one element of
# a and 32 adjacent ones of b: 1 + 4 sectors. Accesses of a warp that share sectors are *coalesced*.
#
# ## Shared-memory tiling
#
# Still, each multiply-add reads two elements from global memory. But the threads of a block share a
# small memory on the chip. They copy a 32 x 32 tile of a and one of b there, one element of each
# per thread, and then use each element 32 times. At a barrier, `__syncthreads()`, a thread waits
# until all of the block have reached it. Two are needed: the tiles must be complete before they are
# read, and all must have read them before they are overwritten. For 32 iterations a warp now reads
# 32 elements of each matrix. Before you run it: what part of the 5 sectors per iteration is left?

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
lesson.expect("tiled: sectors / those of coalesced", ratio, at_least=0.05, at_most=0.06)

# %% [markdown]
# A twentieth: 4 + 4 sectors for 32 iterations instead of $32 \cdot 5$.
#
# ## Two mistakes
#
# Without the second barrier the kernel often works on a GPU, as the warps of a block run at about
# the same speed; when they do not, some sums are wrong, without any error. The other mistake
# is to forget that k = 50 is no multiple of 32. A GPU then reads past the end of a row of a; as b's
# tile has zeros there, the result is even right, unless a NaN or infinity is read. The emulator
# knows where arrays end, and which thread accessed an element last. What does it say to each?


# %%
def error_of(run, *arguments):
    try:
        run(*arguments)
    except (KernelError, CheckError) as error:
        return str(error)
    return "no error"


RACY = TILED.replace("__syncthreads();  // before the next tiles", "")
lesson.expect("a missing barrier", error_of(multiply, "racy", RACY, a, b, 32), says="a race")
OUTSIDE = TILED.replace("row < m && p < k ?", "row < m ?")
message = error_of(multiply, "outside", OUTSIDE, draw(40, 50), draw(50, 33), 32)
lesson.expect("a missing bounds check", message, says="outside its elements 0 to 1999")

# %% [markdown]
# ## Register blocking, vectorized access, double buffering
#
# Shared memory is fast, but now each multiply-add reads two elements from it. The same idea helps
# again: let a thread compute 4 x 4 elements of c, and keep the 4 + 4 numbers that it reads in
# registers, to use each 4 times (`register_blocking` in `kernels/matmul/optimization_steps.cu`).
# The last step is the library's own kernel (`kernels/matmul/cuda.cu`): 8 x 4 elements per thread,
# 16 bytes at a time, and two pairs of tiles. While one is used, the next one is copied, so one
# barrier per pair is enough. All five kernels use fused multiply-adds, in the order of p. Do their
# results agree in every bit?

# %%
for ours, name in zip(("naive", "coalesced", "tiled"), STEPS, strict=False):
    products[name], counts[name] = products[ours], counts[ours]
for name in list(STEPS)[3:]:
    before = gpu.counts
    products[name] = STEPS[name](gpu, a, b)
    counts[name] = gpu.counts - before
bytes_of = {
    "memory": [counts[name].sectors * 32 / size**3 for name in STEPS],
    "shared memory": [counts[name].passes * 128 / size**3 for name in STEPS],
}
distinct = {products[name].tobytes() for name in STEPS}
lesson.expect("distinct results of the five steps", len(distinct), equal=1)
for memory, moved in bytes_of.items():
    for name, count in zip(STEPS, moved, strict=True):
        lesson.record(f"{name}: bytes of {memory} per multiply-add", count)

# %% Figure
ticks = ["naive", "coalesced", "tiled", "register\nblocking", "vectorized,\ndouble buffered"]
with lesson.figure(9, 5) as figure:
    axes = figure.add_subplot(xlim=(-0.3, 5.3), ylim=(0.05, 80), ylabel="bytes per multiply-add")
    for (memory, moved), colour in zip(bytes_of.items(), (ORANGE, BLUE), strict=True):
        points = [(i, count) for i, count in enumerate(moved) if count]
        axes.semilogy(*zip(*points, strict=True), "o-", color=colour, ms=8)
        for i, count in points:
            axes.text(i + 0.06, count * 1.25, f"{count:.2g}", color=colour)
        axes.text(4.1, points[-1][1], memory, color=colour, va="center")
    axes.set_xticks(range(5), ticks)
    axes.set_title(f"Bytes moved, counted at {size} x {size} x {size}")

# %% [markdown]
# ## Adam, fused
#
# Adam does little arithmetic per parameter, so the bytes that it moves determine its speed. One op
# at a time, every intermediate result is written and read again; the library's kernel keeps them in
# registers (`kernels/optimizer/cuda.cu`). m, v are running means of the gradient and its square.
# Before you run it: how many bytes per parameter does one launch move, in float32? (Every warp also
# reads the eight coefficients of the rule, which adds half a byte per parameter.)

# %%
p, g, zero = (mg.tensor(x, device=device) for x in (a, b, 0 * a))
optimizer = mg.optim.Adam([mg.tensor(a, device=device, requires_grad=True)], lr=0.01)
before = gpu.counts
optimizer.step([g])
between = gpu.counts
m, v = 0.9 * zero + 0.1 * g, 0.999 * zero + 0.001 * (g * g)
p = p - (0.01 / (1 - 0.9)) * (m / ((v / (1 - 0.999)).sqrt() + 1e-8))
moved = [32 * c.ideal_sectors / a.size for c in (between - before, gpu.counts - between)]
lesson.expect("Adam, fused: bytes per parameter", moved[0], at_least=28, at_most=31)
lesson.record("Adam, one op at a time: bytes per parameter", moved[1])

# %% [markdown]
# Four numbers are read and three written: $7 \cdot 4 = 28$ bytes, plus 0.5. One op at a time: 124.
#
# ## Your own kernel
#
# With a definition in numpy and a derivative made of ops, a kernel is an op of the engine. This one
# divides each row by its length, a warp per row. `mg.check` compares it with numpy in the emulator,
# for rows of 7, 1, 15, 257 and 3 numbers, in both dtypes, with gaps in memory, NaN and infinities,
# and its derivatives with finite differences (lesson 01). Then, by mistake, each thread divides one
# element only. Before you run it: which rows are the first to show it?

# %%
UNIT = """
extern "C" __global__ void unit(Out<REAL> y, In<REAL> x, long long n) {
    const long long first = blockIdx.x * n;
    REAL sum = 0;
    for (long long j = threadIdx.x; j < n; j += 32) sum = fma(x[first + j], x[first + j], sum);
    for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    for (long long j = threadIdx.x; j < n; j += 32) y[first + j] = x[first + j] / sqrt(sum);
}"""


def launch(cuda, y, x):
    cuda.unit[x.shape[0], 32](y, x, x.shape[1])  # unit<<<rows, 32>>>(y, x, columns)


unit = mg.Op(
    "unit",
    lambda x: x / (x * x).sum(1)[:, None] ** 0.5,
    (lambda g, y, x: (g - y * (g * y).sum(1)[:, None]) / (x * x).sum(1)[:, None] ** 0.5,),
    [(uniform(5, 7),)],
)
unit.kernel("cuda", UNIT, launch)
print(mg.check(unit))
unit.kernel("cuda", UNIT.replace("j < n; j += 32) y", "j < n; j += n) y"), launch)
lesson.expect("rows longer than the warp", error_of(mg.check, unit), says="inputs (3, 257)")
# %% [markdown]
# ## What a GPU executes
#
# NVIDIA's compiler translates a kernel into machine code (SASS), which can be read without a GPU.
# These are instructions of the main loop of the library's kernel, 64 x 64 tile, for an H100:
#
#     DEPBAR.LE SB0, 0x0                       wait until the copies of this thread have arrived
#     BAR.SYNC.DEFER_BLOCKING 0x0              __syncthreads(): those of all threads have
#     @!P3 BRA `(.L_x_212)                     is this the last slice? then copy nothing
#     IADD3 R56, P4, R69, R4, RZ               the next slice begins 16 rows further on: an address
#     IMAD.X R57, R70, 0x1, R5, P4             has 64 bits, so it takes two additions
#     LDGSTS.E.BYPASS.128 [R59], [R56.64]      copy 16 bytes from global to shared memory; no
#     LDGSTS.E.BYPASS.128 [R59+0x880], [R4.64]   register holds them, and the thread goes on
#     LDS.128 R44, [R79]                       4 elements of a from shared memory to R44 ... R47
#     LDS.128 R52, [R79+0x80]                  4 more
#     LDS.128 R48, [R80]                       4 elements of b to R48 ... R51
#     FFMA R81, R44.reuse, R48, R12            R81 = R44 R48 + R12: a fused multiply-add;
#     FFMA R84, R44.reuse, R49, R13            `reuse` keeps R44 beside the arithmetic unit
#     ...                                      30 more for these 12 numbers; 15 more times the same
#     @P3 BRA `(.L_x_220)                      again
#
# The 32 threads of a warp execute an instruction together. A multiprocessor has four schedulers,
# and each starts one instruction in a cycle. So a loop of 612 instructions, of which 512 are FFMA,
# reaches at most 512 / 612 = 0.84 of the peak. Its previous version, 256 of 500, could reach at
# most 0.51. What has changed: 8 x 4 elements per thread, not 4 x 4 (3 LDS for 32 FFMA, not 2 for
# 16), and a copy is one instruction, not two. `minigan bench --device-code` counts.

# %%
try:
    cubin = compile_for(SOURCE, np.dtype("float32"), "9.0").cubin
    loop = hot_path.find(sass.disassemble(cubin)["product_64"])
    print(*loop.instructions[:60], sep="\n")
    print(f"{loop.multiply_adds} of {len(loop.instructions)} instructions are multiply-adds")
except (ImportError, FileNotFoundError) as error:
    print(f"the machine code is not read here: {error} (pip install -e '.[device-code]')")

# %%
lesson.finish()

# %% [markdown]
# ## On a GPU
# Counts are not times: a GPU has caches. Earlier versions of these kernels were timed on an NVIDIA
# H200: the product had 0.78 of the speed of cuBLAS, exp and Adam reached 0.93 and 0.95 of a
# copy's bandwidth (minigan/bench/README.md).
#
# ## Exercises
#
# 1. Put `if (row >= m || column >= n) return;` into TILED, before the loop. What does the emulator
#    report at 40 x 50 x 33, and why does it report nothing at 64 x 50 x 64?
#    <details><summary>Answer</summary>A thread that has returned loads nothing: others read what
#    was never written. At 64 x 64 no thread is outside. It must stay, and load zeros.</details>
# 2. Store a's tile transposed: `tile_a[x * EDGE + y] = ...`, and read `tile_a[d * EDGE + y]`. How
#    many passes through shared memory does each store take now? And with rows of EDGE + 1?
#    <details><summary>Answer</summary>32, then 1. Shared memory has 32 banks, each of which serves
#    one element per pass, and with a stride of 32 a column lies in one bank.</details>
# 3. Each of 32 threads adds every 32nd element of a row; `__shfl_down_sync(0xffffffffu, sum, d)`
#    returns the `sum` of the thread whose index is larger by d. Add the 32 sums. How many barriers?
#    <details><summary>Answer</summary>None: `for (int d = 16; d > 0; d /= 2) sum +=
#    __shfl_down_sync(0xffffffffu, sum, d);`. The threads read each other's registers.</details>
#
# Next: 05 solves the game of the two players exactly.

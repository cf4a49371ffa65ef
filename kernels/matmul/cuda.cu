// C = A @ B (+ bias) on a GPU, for any strides, any sizes and batches: the last of the optimization
// steps (optimization_steps.cu explains them one by one).
//
// Computes: C[z] = A[z] @ B[z] + bias, A (m, k), B (k, n), C (m, n) contiguous.
// Launch: grid (tiles of C, splits of K, matrices of the batch), blocks of (BM / TM) * (BN / TN)
// threads.
//
// Tiling. A block computes a BM x BN tile of C. It goes through K in slices of BK steps: the slices
// of A and B are copied to shared memory, where each element is used BN, or BM, times. Each thread
// accumulates TM x TN elements in registers (register_tile.h).
//
// Double buffering. While one slice is used, the next one is loaded from global memory into
// registers and then stored to the other of two buffers in shared memory, so one __syncthreads()
// per slice suffices.
//
// Split-K. Where there are too few tiles to fill a GPU, K is split among blocks. Each writes its
// partial sums, and sum_splits (split_k.cu) adds them in order. How K is split depends on the shape
// only, and within a split each element is one chain of fused multiply-adds: the bits are the same
// on every GPU.
//
// Optimizations:
//   - global memory coalescing: a warp reads along the contiguous axis of A, or of B
//   - shared-memory tiling; rows padded against bank conflicts
//   - 2D register blocking; a warp's 32 threads cover 4 x 8 of the threads' tiles
//   - vectorized access: 16 bytes at a time from both memories, where alignment allows
//   - double buffering
//   - split-K

#include "register_tile.h"

// The layout of an operand in memory: X[i, p] = x[i * row_stride + p * k_stride] for i < rows. X is
// A, or B transposed, so that the same code reads both. `along_k`: the threads of a warp read
// neighbours along k, else along i. `vectorized`: they read Packs along that axis.
struct Operand {
    long long row_stride, k_stride, rows;
    int along_k, vectorized;
};

// A slice of an operand, WIDTH rows and BK steps, on its way from global to shared memory, where it
// is stored as tile[p][i]. Each thread moves elements (or Packs) at equal distances along one axis.
template <int WIDTH, int BK, int THREADS> struct Slice {
    static constexpr int STRIDE = WIDTH + GROUP;  // as in RegisterTile
    static constexpr int PER_THREAD = WIDTH * BK / THREADS, PACKS = PER_THREAD / PACK_SIZE;
    static_assert(PER_THREAD % PACK_SIZE == 0 && THREADS % WIDTH == 0 && THREADS % BK == 0,
                  "each thread takes whole packs, at equal distances along one axis");
    REAL values[PER_THREAD];
    int i, p, i_step, p_step;  // the thread's first element in the slice, and the step to its next
    long long offset, step;    // the same in global memory

    __device__ __forceinline__ Slice(const Operand& x, long long first_row, long long first_p) {
        const int size = x.vectorized ? PACK_SIZE : 1, t = threadIdx.x * size;
        i = x.along_k ? t / BK : t % WIDTH;
        p = x.along_k ? t % BK : t / WIDTH;
        i_step = x.along_k ? THREADS * size / BK : 0;
        p_step = x.along_k ? 0 : THREADS * size / WIDTH;
        offset = (first_row + i) * x.row_stride + (first_p + p) * x.k_stride;
        step = i_step * x.row_stride + p_step * x.k_stride;
    }

    // Load the slice, of which `rows` rows and `depth` steps exist, and zeros for the rest; then
    // advance to the next slice.
    __device__ __forceinline__ void load_global(const In<REAL>& x, const Operand& operand, int rows,
                                                int depth) {
        if (operand.vectorized) {
#pragma unroll
            for (int j = 0; j < PACKS; ++j) {
                const int row = i + j * i_step, k = p + j * p_step;
                const bool exists = row < rows && k < depth;
                const int left = !exists ? 0 : operand.along_k ? depth - k : rows - row;
                const In<REAL> from = x + (offset + j * step);
                Pack<REAL, PACK_SIZE> pack = {};
                if (left >= PACK_SIZE) {
                    pack = load<PACK_SIZE>(from, 0);
                } else {
#pragma unroll
                    for (int l = 0; l < PACK_SIZE; ++l)
                        if (l < left) pack.values[l] = from[l];
                }
#pragma unroll
                for (int l = 0; l < PACK_SIZE; ++l) values[j * PACK_SIZE + l] = pack.values[l];
            }
        } else {
#pragma unroll
            for (int j = 0; j < PER_THREAD; ++j) {
                const bool exists = i + j * i_step < rows && p + j * p_step < depth;
                values[j] = exists ? static_cast<REAL>(x[offset + j * step]) : REAL(0);
            }
        }
        offset += BK * operand.k_stride;
    }

    __device__ __forceinline__ void store_shared(const Shared<REAL>& tile,
                                                 const Operand& operand) const {
        if (operand.vectorized && !operand.along_k) {
#pragma unroll
            for (int j = 0; j < PACKS; ++j) {
                Pack<REAL, PACK_SIZE> pack;
#pragma unroll
                for (int l = 0; l < PACK_SIZE; ++l) pack.values[l] = values[j * PACK_SIZE + l];
                store<PACK_SIZE>(tile, ((p + j * p_step) * STRIDE + i) / PACK_SIZE, pack);
            }
        } else {
#pragma unroll
            for (int j = 0; j < PER_THREAD; ++j) {
                const int n =
                    operand.vectorized ? j / PACK_SIZE : j;  // of the thread's packs or elements
                const int l = operand.vectorized ? j % PACK_SIZE : 0;
                tile[(p + n * p_step + l) * STRIDE + i + n * i_step] = values[j];
            }
        }
    }
};

// A product without its arrays' addresses; `Product` of cuda.py.
struct Product {
    long long m, n, k;
    long long split_depth;  // steps of k per split
    Operand a, b;
    long long first_matrix;  // of this launch, in the batch
    StridedLayout<2> batch;  // where each matrix of A and of B begins
};

template <int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void multiply(const In<REAL>& a0, const In<REAL>& b0, const Out<REAL>& c,
                                         const In<REAL>& bias, const Product& s) {
    using Tile = RegisterTile<BM, BN, BK, TM, TN, WarpShape::ROWS_4_COLUMNS_8>;
    SHARED(REAL, tiles_a, 2 * Tile::SIZE_A);
    SHARED(REAL, tiles_b, 2 * Tile::SIZE_B);

    const long long tiles_per_row = (s.n + BN - 1) / BN;
    const long long row = blockIdx.x / tiles_per_row * BM, column = blockIdx.x % tiles_per_row * BN;
    const long long begin = blockIdx.y * s.split_depth;
    const long long end = begin + s.split_depth < s.k ? begin + s.split_depth : s.k;
    const long long matrix = s.first_matrix + blockIdx.z;
    long long starts[2];
    s.batch.locate(matrix, starts);
    const In<REAL> a = a0 + starts[0], b = b0 + starts[1];

    Tile tile;
    const int rows = static_cast<int>(min(static_cast<long long>(BM), s.m - row));
    const int columns = static_cast<int>(min(static_cast<long long>(BN), s.n - column));
    Slice<BM, BK, Tile::THREADS> slice_a(s.a, row, begin);
    Slice<BN, BK, Tile::THREADS> slice_b(s.b, column, begin);
    int left = static_cast<int>(end - begin);  // steps of this split
    slice_a.load_global(a, s.a, rows, left);
    slice_b.load_global(b, s.b, columns, left);
    int buffer = 0;
    for (; left > 0; left -= BK) {
        const Shared<REAL> tile_a = tiles_a + buffer * Tile::SIZE_A;
        const Shared<REAL> tile_b = tiles_b + buffer * Tile::SIZE_B;
        slice_a.store_shared(tile_a, s.a);
        slice_b.store_shared(tile_b, s.b);
        // This one barrier also protects the buffer: when it is stored to again, two slices later,
        // all threads have passed the barrier of the slice between, so none still reads it.
        __syncthreads();
        if (left > BK) {
            slice_a.load_global(a, s.a, rows, left - BK);
            slice_b.load_global(b, s.b, columns, left - BK);
        }
        tile.accumulate(tile_a, tile_b);
        buffer ^= 1;
    }

    // c is (splits, matrices, m, n): the result itself if there is one split.
    const long long start = (blockIdx.y * s.batch.size + matrix) * s.m * s.n;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const long long r = Tile::row(row, i);
#pragma unroll
        for (int g = 0; g < TN / GROUP; ++g) {
            const long long q = Tile::column(column, g * GROUP), offset = start + r * s.n + q;
            Pack<REAL, GROUP> out;
#pragma unroll
            for (int j = 0; j < GROUP; ++j) {
                out.values[j] = tile.sums[i][g * GROUP + j];
                if (bias && q + j < s.n) out.values[j] = out.values[j] + bias[q + j];
            }
            if (r < s.m && q + GROUP <= s.n && s.n % GROUP == 0) {
                store<GROUP>(c, offset / GROUP, out);
            } else {
#pragma unroll
                for (int j = 0; j < GROUP; ++j)
                    if (r < s.m && q + j < s.n) c[offset + j] = out.values[j];
            }
        }
    }
}

// At least BLOCKS blocks fit on a multiprocessor, which limits the registers per thread: to 128 in
// float.
#define PRODUCT(name, BM, BN, BK, TM, TN, BLOCKS)                                   \
    extern "C" __global__ void __launch_bounds__((BM / TM) * (BN / TN), BLOCKS)     \
        name(In<REAL> a, In<REAL> b, Out<REAL> c, In<REAL> bias, Product product) { \
        multiply<BM, BN, BK, TM, TN>(a, b, c, bias, product);                       \
    }
#ifdef REAL_IS_FLOAT64
PRODUCT(product_32, 32, 32, 16, 4, 4, 4)
PRODUCT(product_64, 64, 64, 16, 4, 4, 1)
#else
PRODUCT(product_32, 32, 32, 16, 4, 4, 8)
PRODUCT(product_64, 64, 64, 16, 4, 4, 2)
PRODUCT(product_128, 128, 128, 8, 8, 8, 2)
#endif

// A product over k = 0: c[r, q] = bias[q], or 0. One thread per element, blocks of 256 threads.
extern "C" __global__ void __launch_bounds__(256)
    empty_product(Out<REAL> c, In<REAL> bias, long long size, long long n) {
    const long long i = global_thread();
    if (i >= size) return;
    c[i] = REAL(0);
    if (bias) c[i] = bias[i % n];
}

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
// Asynchronous copies and double buffering. While one slice is used, the next one is copied from
// global memory to the other of two buffers in shared memory (async_copy.h). No register holds an
// element on its way, and one __syncthreads() per slice suffices.
//
// Edges. A slice that exists as a whole is copied without a test of its bounds. At an edge of A or
// B, or at the end of K, zeros are stored for what does not exist, so that the sums need no test.
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
//   - vectorized access: 16 bytes at a time from shared memory, and from global memory where they
//     lie along the rows of the slice and alignment allows
//   - asynchronous copies, double buffering
//   - split-K

#include "async_copy.h"
#include "register_tile.h"
#include "matrix_product.h"

// At least BLOCKS blocks fit on a multiprocessor, which limits the registers per thread: to 128 in
// float.
#define PRODUCT(name, BM, BN, BK, TM, TN, BLOCKS)                                   \
    extern "C" __global__ void __launch_bounds__((BM / TM) * (BN / TN), BLOCKS)     \
        name(In<REAL> a, In<REAL> b, Out<REAL> c, In<REAL> bias, Product product) { \
        using Tile = RegisterTile<BM, BN, BK, TM, TN, WarpShape::ROWS_4_COLUMNS_8>; \
        multiply<BM, BN, BK, TM, TN, Tile>(a, b, c, bias, product);                 \
    }
#ifdef REAL_IS_FLOAT64
PRODUCT(product_32, 32, 32, 16, 4, 4, 4)
PRODUCT(product_64, 64, 64, 16, 8, 4, 1)
#else
PRODUCT(product_32, 32, 32, 16, 4, 4, 8)
PRODUCT(product_64, 64, 64, 16, 8, 4, 4)
PRODUCT(product_128, 128, 128, 16, 8, 8, 2)
#endif

// A product over k = 0: c[r, q] = bias[q], or 0. One thread per element, blocks of 256 threads.
extern "C" __global__ void __launch_bounds__(256)
    empty_product(Out<REAL> c, In<REAL> bias, long long size, long long n) {
    const long long i = global_thread();
    if (i >= size) return;
    c[i] = REAL(0);
    if (bias) c[i] = bias[i % n];
}

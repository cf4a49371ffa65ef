// Sum and maximum over the middle axis of (outer, size, width) on a GPU, in an order that depends
// on the shape only, and without atomic operations.
//
// Computes: y[o, c] = the sum, or the maximum, of x[o, :, c].
// Launch: blocks of 256 threads; a long axis leaves one number per block, which the next launch
// reduces.
//
// Rows (width == 1): the numbers to be reduced are contiguous. A block reduces BLOCK_ELEMENTS
// elements of one row: each thread a chain of every 256th element, then five shuffles reduce the 32
// lanes of each warp, and one warp reduces the warps' results. A short row is reduced by one warp.
//
// Columns (width > 1): neighbours belong to different results. A block reduces BLOCK_ROWS rows of
// 32 columns: each of its 8 warps every eighth row, and then a tree through shared memory.
//
// Optimizations:
//   - global memory coalescing: a warp reads 32 neighbouring elements, in rows and in columns
//   - warp shuffles instead of shared memory where lanes of one warp are reduced
//   - several independent chains per row, so that additions overlap

constexpr int THREADS = 256, BLOCK_ELEMENTS = 4096, BLOCK_ROWS = 256, WARPS = THREADS / 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

struct Sum {
    __device__ static REAL identity() { return 0; }
    __device__ static REAL combine(REAL a, REAL b) { return a + b; }
};

struct Maximum {  // NaN if any element is NaN
    __device__ static REAL identity() {
#if defined(REAL_IS_FLOAT32) || defined(REAL_IS_FLOAT64)
        return -1 / REAL(0);
#else
        return static_cast<REAL>(-9223372036854775807LL - 1);
#endif
    }
    __device__ static REAL combine(REAL a, REAL b) { return b > a || b != b ? b : a; }
};

// Reduce the values of a warp's lanes; the result is valid in lane 0.
template <class F> __device__ __forceinline__ REAL reduce_warp(REAL x) {
    for (int offset = 16; offset > 0; offset /= 2)
        x = F::combine(x, __shfl_down_sync(ALL_LANES, x, offset));
    return x;
}

// Block (x, y, z) reduces part x of row y + gridDim.y * z; y is (outer, parts).
template <class F>
__device__ void rows(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size) {
    SHARED(REAL, warp_results, WARPS);
    const long long row = blockIdx.y + static_cast<long long>(gridDim.y) * blockIdx.z;
    if (row >= outer) return;  // the whole block
    const long long first = blockIdx.x * static_cast<long long>(BLOCK_ELEMENTS);
    const long long last = first + BLOCK_ELEMENTS < size ? first + BLOCK_ELEMENTS : size;
    REAL total = F::identity();
    for (long long i = first + threadIdx.x; i < last; i += THREADS)
        total = F::combine(total, x[row * size + i]);
    total = reduce_warp<F>(total);
    if (threadIdx.x % 32 == 0) warp_results[threadIdx.x / 32] = total;
    __syncthreads();
    if (threadIdx.x < 32) {
        total = reduce_warp<F>(threadIdx.x < WARPS ? static_cast<REAL>(warp_results[threadIdx.x])
                                                   : F::identity());
        if (threadIdx.x == 0) y[row * gridDim.x + blockIdx.x] = total;
    }
}

// Rows of at most 256 elements: one warp each, 8 per block.
template <class F>
__device__ void short_rows(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size) {
    const long long row = static_cast<long long>(blockIdx.x) * WARPS + threadIdx.x / 32;
    if (row >= outer) return;  // the whole warp
    REAL total = F::identity();
    for (long long i = threadIdx.x % 32; i < size; i += 32)
        total = F::combine(total, x[row * size + i]);
    total = reduce_warp<F>(total);
    if (threadIdx.x % 32 == 0) y[row] = total;
}

// Block (x, y, z) reduces rows BLOCK_ROWS * y .. of columns 32 x .., for z and, in a grid-stride
// loop, further o. y is (outer, row blocks, width).
template <class F>
__device__ void columns(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size,
                        long long width) {
    SHARED(REAL, partial, THREADS);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long column = blockIdx.x * 32LL + lane;
    const long long first = blockIdx.y * static_cast<long long>(BLOCK_ROWS);
    const long long last = first + BLOCK_ROWS < size ? first + BLOCK_ROWS : size;
    for (long long o = blockIdx.z; o < outer; o += gridDim.z) {
        REAL total = F::identity();
        if (column < width)
            for (long long row = first + warp; row < last; row += WARPS)
                total = F::combine(total, x[(o * size + row) * width + column]);
        partial[threadIdx.x] = total;
        __syncthreads();
        for (int offset = WARPS / 2; offset > 0; offset /= 2) {
            if (warp < offset)
                partial[threadIdx.x] =
                    F::combine(partial[threadIdx.x], partial[threadIdx.x + 32 * offset]);
            __syncthreads();
        }
        // Each thread reads its own element, so the next iteration needs no barrier before it.
        if (warp == 0 && column < width)
            y[(o * gridDim.y + blockIdx.y) * width + column] = partial[lane];
    }
}

#define REDUCTION(name, F)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        name##_rows(In<REAL> x, Out<REAL> y, long long outer, long long size) {                   \
        rows<F>(x, y, outer, size);                                                               \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        name##_short_rows(In<REAL> x, Out<REAL> y, long long outer, long long size) {             \
        short_rows<F>(x, y, outer, size);                                                         \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        name##_columns(In<REAL> x, Out<REAL> y, long long outer, long long size,                  \
                       long long width) {                                                         \
        columns<F>(x, y, outer, size, width);                                                     \
    }
REDUCTION(sum, Sum)
REDUCTION(max, Maximum)

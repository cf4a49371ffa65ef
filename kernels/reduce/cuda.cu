// Sum and maximum over the middle axis of (outer, size, width) on a GPU, in an order that depends
// on the shape only, and without atomic operations.
//
// Computes: y[o, c] = the sum, or the maximum, of x[o, :, c].
// Launch: blocks of 256 threads; a long axis leaves one number per block, which the next launch
// reduces.
//
// Rows (width == 1): the numbers to be reduced are contiguous. A block reduces one part of a row,
// BLOCK_ELEMENTS at a time: each thread has a chain for each element of a Pack, and loads several
// Packs before it uses the first. Then the chains of a thread are combined, five shuffles reduce
// the 32 lanes of each warp, and one warp reduces the warps' results. A short row is reduced by one
// warp.
//
// Columns (width > 1): neighbours belong to different results. A block reduces BLOCK_ROWS rows of
// 32 columns, or of 32 Packs of columns: each of its 8 warps every eighth row, and then a tree
// through shared memory.
//
// Where alignment does not allow Packs, the same chains are computed from single elements: the bits
// depend on the shape only.
//
// Optimizations:
//   - global memory coalescing: a warp reads 32 neighbouring elements, or Packs
//   - vectorized access, several loads in flight
//   - warp shuffles instead of shared memory where lanes of one warp are reduced
//   - several independent chains per thread, so that additions overlap

constexpr int THREADS = 256, BLOCK_ELEMENTS = 4096, BLOCK_ROWS = 256, WARPS = THREADS / 32;
constexpr int MAX_WARP_ELEMENTS = 256;
constexpr unsigned ALL_LANES = 0xffffffffu;

struct Sum {
    __device__ static REAL identity() { return 0; }
    __device__ static REAL combine(REAL a, REAL b) { return a + b; }
};

struct Maximum {  // NaN if any element is NaN
    __device__ static REAL identity() {
#if defined(REAL_IS_FLOAT32) || defined(REAL_IS_FLOAT64)
        return -REAL(INFINITY);
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

// The chains of a thread, one for each element of a Pack.
template <class F> struct Chains {
    REAL totals[PACK_SIZE];

    __device__ __forceinline__ Chains() {
#pragma unroll
        for (int l = 0; l < PACK_SIZE; ++l) totals[l] = F::identity();
    }

    __device__ __forceinline__ void add(const Pack<REAL, PACK_SIZE>& pack) {
#pragma unroll
        for (int l = 0; l < PACK_SIZE; ++l) totals[l] = F::combine(totals[l], pack.values[l]);
    }

    // Combine with the Packs 0, LANES, 2 * LANES, ... of x, COUNT of them.
    template <int LANES, int COUNT> __device__ __forceinline__ void add_packs(const In<REAL>& x) {
        Pack<REAL, PACK_SIZE> packs[COUNT];
#pragma unroll
        for (int j = 0; j < COUNT; ++j) packs[j] = load<PACK_SIZE>(x, j * LANES);
#pragma unroll
        for (int j = 0; j < COUNT; ++j) add(packs[j]);
    }

    // The same, but only the elements before `count` exist, and x may be at any address.
    template <int LANES, int COUNT>
    __device__ __forceinline__ void add_some(const In<REAL>& x, int count, bool aligned) {
#pragma unroll
        for (int j = 0; j < COUNT; ++j) {
            const int i = j * LANES * PACK_SIZE;
            if (aligned && i + PACK_SIZE <= count) {
                add(load<PACK_SIZE>(x, j * LANES));
            } else {
#pragma unroll
                for (int l = 0; l < PACK_SIZE; ++l)
                    if (i + l < count) totals[l] = F::combine(totals[l], x[i + l]);
            }
        }
    }

    __device__ __forceinline__ REAL combined() {
#pragma unroll
        for (int n = PACK_SIZE / 2; n > 0; n /= 2)
#pragma unroll
            for (int l = 0; l < n; ++l) totals[l] = F::combine(totals[l], totals[l + n]);
        return totals[0];
    }
};

// Block (x, y, z) reduces part x of row y + gridDim.y * z; y is (outer, parts). `aligned` tells
// that the address of x is a multiple of 16 bytes.
template <class F>
__device__ void rows(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size,
                     long long part, int aligned) {
    SHARED(REAL, warp_results, WARPS);
    const long long row = blockIdx.y + static_cast<long long>(gridDim.y) * blockIdx.z;
    if (row >= outer) return;  // the whole block
    const long long first = blockIdx.x * part, left = min(part, size - first);
    const int own = threadIdx.x * PACK_SIZE;  // the thread's first element
    In<REAL> from = x + (row * size + first + own);
    const bool packs = aligned && row * size % PACK_SIZE == 0;
    constexpr int COUNT = BLOCK_ELEMENTS / THREADS / PACK_SIZE;
    Chains<F> chains;
    int blocks = static_cast<int>(left / BLOCK_ELEMENTS);
    const int rest = static_cast<int>(left % BLOCK_ELEMENTS);
    for (; blocks > 0; --blocks) {
        if (packs)
            chains.template add_packs<THREADS, COUNT>(from);
        else
            chains.template add_some<THREADS, COUNT>(from, BLOCK_ELEMENTS, false);
        from = from + BLOCK_ELEMENTS;
    }
    if (rest) chains.template add_some<THREADS, COUNT>(from, rest - own, packs);
    REAL total = reduce_warp<F>(chains.combined());
    if (threadIdx.x % 32 == 0) warp_results[threadIdx.x / 32] = total;
    __syncthreads();
    if (threadIdx.x < 32) {
        total = reduce_warp<F>(threadIdx.x < WARPS ? static_cast<REAL>(warp_results[threadIdx.x])
                                                   : F::identity());
        if (threadIdx.x == 0) y[row * gridDim.x + blockIdx.x] = total;
    }
}

// Rows of at most MAX_WARP_ELEMENTS elements: one warp each, 8 per block.
template <class F>
__device__ void short_rows(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size,
                           int aligned) {
    const long long row = static_cast<long long>(blockIdx.x) * WARPS + threadIdx.x / 32;
    if (row >= outer) return;  // the whole warp
    const int lane = threadIdx.x % 32, count = static_cast<int>(size);
    const bool packs = aligned && row * size % PACK_SIZE == 0;
    constexpr int COUNT = MAX_WARP_ELEMENTS / 32 / PACK_SIZE;
    Chains<F> chains;
    chains.template add_some<32, COUNT>(x + (row * size + lane * PACK_SIZE),
                                        count - lane * PACK_SIZE, packs);
    const REAL total = reduce_warp<F>(chains.combined());
    if (lane == 0) y[row] = total;
}

// Block (x, y, z) reduces rows BLOCK_ROWS * y .. of columns 32 * WIDTH * x .., WIDTH for each lane,
// for z and, in a grid-stride loop, further o. y is (outer, row blocks, width). Where WIDTH is
// PACK_SIZE, it divides `width`.
template <class F, int WIDTH>
__device__ void columns(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size,
                        long long width) {
    SHARED(REAL, partial, THREADS * WIDTH);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long column = (blockIdx.x * 32LL + lane) * WIDTH;
    const long long first = blockIdx.y * static_cast<long long>(BLOCK_ROWS);
    const int rows = static_cast<int>(min(size - first, static_cast<long long>(BLOCK_ROWS)));
    for (long long o = blockIdx.z; o < outer; o += gridDim.z) {
        Pack<REAL, WIDTH> total;
#pragma unroll
        for (int l = 0; l < WIDTH; ++l) total.values[l] = F::identity();
        if (column < width) {
            In<REAL> from = x + ((o * size + first + warp) * width + column);
#pragma unroll 8
            for (int row = warp; row < rows; row += WARPS) {
                const auto pack = load<WIDTH>(from, 0);
                from = from + WARPS * width;
#pragma unroll
                for (int l = 0; l < WIDTH; ++l)
                    total.values[l] = F::combine(total.values[l], pack.values[l]);
            }
        }
        store<WIDTH>(partial, threadIdx.x, total);
        __syncthreads();
        for (int offset = WARPS / 2; offset > 0; offset /= 2) {
            if (warp < offset) {
                const auto other = load<WIDTH>(partial, threadIdx.x + 32 * offset);
#pragma unroll
                for (int l = 0; l < WIDTH; ++l)
                    total.values[l] = F::combine(total.values[l], other.values[l]);
                store<WIDTH>(partial, threadIdx.x, total);
            }
            __syncthreads();
        }
        // Warp 0 has no need to read what it stored; the next iteration needs no barrier before it.
        if (warp == 0 && column < width)
            store<WIDTH>(y, ((o * gridDim.y + blockIdx.y) * width + column) / WIDTH, total);
    }
}

#define REDUCTION(name, F)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        name##_rows(In<REAL> x, Out<REAL> y, long long outer, long long size, long long part,     \
                    long long aligned) {                                                          \
        rows<F>(x, y, outer, size, part, static_cast<int>(aligned));                              \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        name##_short_rows(In<REAL> x, Out<REAL> y, long long outer, long long size,               \
                          long long aligned) {                                                    \
        short_rows<F>(x, y, outer, size, static_cast<int>(aligned));                              \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        name##_columns(In<REAL> x, Out<REAL> y, long long outer, long long size,                  \
                       long long width) {                                                         \
        columns<F, 1>(x, y, outer, size, width);                                                  \
    }                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        name##_pack_columns(In<REAL> x, Out<REAL> y, long long outer, long long size,             \
                            long long width) {                                                    \
        columns<F, PACK_SIZE>(x, y, outer, size, width);                                          \
    }
REDUCTION(sum, Sum)
REDUCTION(max, Maximum)

// Sum and maximum over the middle of (outer, size, width), in an order that the shape alone fixes.
//
//   rows      width == 1: what is reduced lies side by side. A block takes CHUNK elements of one
//             row: each thread a chain of every THREADS-th, then a tree over the threads: five
//             shuffles within each warp, and one more warp for the warps' results
//   columns   width > 1: neighbours belong to different results. A block takes 32 columns and BAND
//             rows; its 8 warps take every eighth row each, and are joined through shared memory
//
// What has more than one chunk or band leaves one number each, which the next launch reduces.

constexpr int THREADS = 256, CHUNK = 4096, BAND = 256, WARPS = THREADS / 32;
constexpr unsigned ALL = 0xffffffffu;

struct Sum {
    __device__ static REAL start() { return 0; }
    __device__ static REAL join(REAL a, REAL b) { return a + b; }
};

struct Largest {  // NaN where an element is NaN
    __device__ static REAL start() {
#if defined(REAL_IS_FLOAT32) || defined(REAL_IS_FLOAT64)
        return -1 / REAL(0);
#else
        return static_cast<REAL>(-9223372036854775807LL - 1);
#endif
    }
    __device__ static REAL join(REAL a, REAL b) { return b > a || b != b ? b : a; }
};

// The join of a warp's values, in lane 0.
template <class F> __device__ __forceinline__ REAL join_warp(REAL x) {
    for (int far = 16; far > 0; far /= 2) x = F::join(x, __shfl_down_sync(ALL, x, far));
    return x;
}

// Chunk blockIdx.x of row blockIdx.y + gridDim.y * blockIdx.z; y is (outer, chunks).
template <class F>
__device__ void rows(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size) {
    SHARED(REAL, joined, WARPS);
    const long long row = blockIdx.y + static_cast<long long>(gridDim.y) * blockIdx.z;
    if (row >= outer) return;  // the whole block
    const long long first = blockIdx.x * static_cast<long long>(CHUNK);
    const long long last = first + CHUNK < size ? first + CHUNK : size;
    REAL total = F::start();
    for (long long i = first + threadIdx.x; i < last; i += THREADS)
        total = F::join(total, x[row * size + i]);
    total = join_warp<F>(total);
    if (threadIdx.x % 32 == 0) joined[threadIdx.x / 32] = total;
    __syncthreads();
    if (threadIdx.x < 32) {
        total = join_warp<F>(threadIdx.x < WARPS ? static_cast<REAL>(joined[threadIdx.x]) : F::start());
        if (threadIdx.x == 0) y[row * gridDim.x + blockIdx.x] = total;
    }
}

// Rows of at most 32 * 8 elements: a warp each, 8 to a block.
template <class F>
__device__ void short_rows(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size) {
    const long long row = static_cast<long long>(blockIdx.x) * WARPS + threadIdx.x / 32;
    if (row >= outer) return;  // the whole warp
    REAL total = F::start();
    for (long long i = threadIdx.x % 32; i < size; i += 32) total = F::join(total, x[row * size + i]);
    total = join_warp<F>(total);
    if (threadIdx.x % 32 == 0) y[row] = total;
}

// Band blockIdx.y of 32 columns; blockIdx.z walks `outer`. y is (outer, bands, width).
template <class F>
__device__ void columns(const In<REAL>& x, const Out<REAL>& y, long long outer, long long size,
                        long long width) {
    SHARED(REAL, joined, THREADS);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long column = blockIdx.x * 32LL + lane;
    const long long first = blockIdx.y * static_cast<long long>(BAND);
    const long long last = first + BAND < size ? first + BAND : size;
    for (long long o = blockIdx.z; o < outer; o += gridDim.z) {
        REAL total = F::start();
        if (column < width)
            for (long long row = first + warp; row < last; row += WARPS)
                total = F::join(total, x[(o * size + row) * width + column]);
        joined[threadIdx.x] = total;
        __syncthreads();
        for (int far = WARPS / 2; far > 0; far /= 2) {
            if (warp < far) joined[threadIdx.x] = F::join(joined[threadIdx.x], joined[threadIdx.x + 32 * far]);
            __syncthreads();
        }
        // Its own place: the next round may begin without a barrier.
        if (warp == 0 && column < width) y[(o * gridDim.y + blockIdx.y) * width + column] = joined[lane];
    }
}

#define REDUCTION(name, F)                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS)                                           \
        name##_rows(In<REAL> x, Out<REAL> y, long long outer, long long size) {                     \
        rows<F>(x, y, outer, size);                                                                 \
    }                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS)                                           \
        name##_short_rows(In<REAL> x, Out<REAL> y, long long outer, long long size) {               \
        short_rows<F>(x, y, outer, size);                                                           \
    }                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS)                                           \
        name##_columns(In<REAL> x, Out<REAL> y, long long outer, long long size, long long width) { \
        columns<F>(x, y, outer, size, width);                                                       \
    }
REDUCTION(sum, Sum)
REDUCTION(max, Largest)

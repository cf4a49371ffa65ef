// The three faces of a convolution on a GPU, each as one product of matrices that is nowhere stored.
//
// Write a convolution as C[i, j] = sum over p of A[i, p] * B[j, p], and A is what im2col would make of
// the image: a row for each place of the kernel, a column for each of its taps. It holds each pixel as
// often as there are taps that use it, and which pixel an element is, is a sum:
//
//     A[i, p] = image[at(i) + at(p)],   0 where row(i) + row(p) or column(i) + column(p) is outside
//
//                 rows i              depth p             image    B[j, p]        C[i, j]
//   forward       place (n, a, b)     tap (c, h, v)       x        w[o, c, h, v]  y[n, o, a, b]
//   weight_grad   tap (c, h, v)       place (n, a, b)     x        g[n, o, a, b]  gw[o, c, h, v]
//   input_grad    pixel (n, i, j)     tap (o, h', v')     g        w[o, c, h, v]  gx[n, c, i, j]
//
//        places: row(a) = a * stride - padding        taps: row(h) = h
//
//       p: taps ->        at(p): a thread each                 So a block takes rows i apart once, into
//      +---------+        +---+---+---+---+                    where they lie, and the BK indices p of
//   i  |         |    i:  |   |   |   |   |  += at(i)          a slice once for all of its rows. What
//   |  | im2col  |  =     +---+---+---+---+                    is left to do for an element of A is an
//   v  |         |        one addition and two                 addition and two comparisons, and it goes
//      +---------+        comparisons an element               to shared memory as in any product.
//
// The gradient of the input, gathered: pixel i is reached by the taps h with i + padding = a * stride + h,
// every stride-th one. Pixels `stride` apart have the same taps, so they are one *phase*:
//
//     stride 2, 4 taps     pixels  0 1 2 3 4 5 ..     phase 0:  i = 0, 2, 4 ..  taps h0, h0 + 2 ..
//                          phase   0 1 0 1 0 1 ..     phase 1:  i = 1, 3, 5 ..  taps h1, h1 + 2 ..
//
// and within a phase it is a convolution of g with stride 1, that runs backward through the taps:
// a = r + a0 - h'. Nobody adds to what others add to, or multiplies by zeros between the pixels of g. Where
// a phase has no tap at all, the sum is 0. A launch does all phases.
//
// The rest is as in matmul's cuda.cu: TM x TN sums a thread, the next slice on its way while one is
// used, two buffers and one barrier a slice. Neighbours in a warp take neighbours of the image: places
// in a row, so a sector of 32 bytes serves 8 of them (4 with stride 2). 16 bytes at a time would need
// a stride of 1 and windows that begin at multiples of 4. Few tiles cannot fill a GPU: then the depth is
// split among blocks by the shape alone, and the partial sums are added in order. Each element is one
// chain of fused multiply-adds per split, p rising.

enum Rows { PLACES, TAPS, PIXELS };  // what the rows of A are: forward, weight_grad, input_grad
constexpr int GROUP = 4;  // neighbouring elements that a thread reads from shared memory at once
constexpr int OUTSIDE = -(1 << 30);  // a row that no row can bring back into an image

// How an index counts (plane, row, column), the last the fastest: sizes of the two inner axes, and what
// a step along each is in the image. A plane is a step in memory, rows and columns are pixels.
struct Side {
    long long count, rows, columns;
    long long plane;
    int row, column, down, across;  // (0, 0)'s pixel, and the way to the next
};
// How the same index counts in another array: steps in elements.
struct Steps {
    long long start, plane, row, column;
};
// Only the gradient of the input has phases: stride x stride, `across` of them side by side.
struct Phases {
    int count, across;
    int stride_down, stride_across, padding_down, padding_across;
    int height, width, kernel_height, kernel_width;
};
struct Convolution {
    Side rows, depth;                       // of A
    long long columns, split;               // of C; the depth of a split
    long long image_row, image_column;      // steps in memory
    int image_height, image_width;
    Steps other, result;                    // along the depth of B, along the rows of C
    long long other_column, result_column;  // from one j to the next
    long long result_size;
    Phases phases;
};

__device__ __forceinline__ long long divide(long long i, long long by) {
    if ((i | by) >> 32) return i / by;  // takes four times as long
    return static_cast<unsigned>(i) / static_cast<unsigned>(by);
}

struct Index {
    long long plane, row, column;
    __device__ __forceinline__ Index(const Side& s, long long i) {
        const long long line = divide(i, s.columns);
        column = i - line * s.columns;
        plane = divide(line, s.rows);
        row = line - plane * s.rows;
    }
    __device__ __forceinline__ long long in(const Steps& s) const {
        return s.start + plane * s.plane + row * s.row + column * s.column;
    }
};

// One side's part of an element of A: where it lies, and in which row and column of the image.
struct Place {
    long long at;
    int row, column;
};

__device__ __forceinline__ Place place_of(const Convolution& s, const Side& side, const Index& i) {
    Place place;
    place.row = side.row + static_cast<int>(i.row) * side.down;
    place.column = side.column + static_cast<int>(i.column) * side.across;
    place.at = i.plane * side.plane + place.row * s.image_row + place.column * s.image_column;
    return place;
}

__device__ __forceinline__ Place row_place(const Convolution& s, long long i) {
    if (i >= s.rows.count) return {0, OUTSIDE, OUTSIDE};
    return place_of(s, s.rows, Index(s.rows, i));
}

// A step of the depth, for both operands.
struct alignas(16) Step {
    Place image;
    long long other;
    long long unused;
};

__device__ __forceinline__ Step step_of(const Convolution& s, long long p, long long end) {
    if (p >= end) return {{0, OUTSIDE, OUTSIDE}, 0, 0};
    const Index i(s.depth, p);
    return {place_of(s, s.depth, i), i.in(s.other), 0};
}

__device__ __forceinline__ bool inside(const Convolution& s, const Place& i, const Place& p) {
    return static_cast<unsigned>(i.row + p.row) < static_cast<unsigned>(s.image_height) &&
           static_cast<unsigned>(i.column + p.column) < static_cast<unsigned>(s.image_width);
}

// Phase `number` of the gradient of the input: its pixels are rows of A, its taps the depth.
__device__ __forceinline__ Convolution phase_of(const Convolution& given, int number) {
    Convolution s = given;
    const Phases& f = given.phases;
    const int i = number / f.across, j = number % f.across;  // the first pixel
    const int h = (i + f.padding_down) % f.stride_down;      // the first tap
    const int v = (j + f.padding_across) % f.stride_across;
    s.rows.rows = (f.height - i + f.stride_down - 1) / f.stride_down;
    s.rows.columns = (f.width - j + f.stride_across - 1) / f.stride_across;
    s.rows.count = given.rows.count * s.rows.rows * s.rows.columns;  // it was the number of images
    s.rows.row = (i + f.padding_down) / f.stride_down;
    s.rows.column = (j + f.padding_across) / f.stride_across;
    s.depth.rows = (f.kernel_height - h + f.stride_down - 1) / f.stride_down;  // 0 if h is no tap
    s.depth.columns = (f.kernel_width - v + f.stride_across - 1) / f.stride_across;
    s.depth.count = given.depth.count * s.depth.rows * s.depth.columns;  // and of channels
    s.other.start = h * (given.other.row / f.stride_down) + v * (given.other.column / f.stride_across);
    s.result.start = static_cast<long long>(i) * f.width + j;
    return s;
}

// Where row i of a tile stands in shared memory. A thread reads 4 neighbours there at once, and these are
// rows 8 apart: so when it writes the first of its rows, 8 lanes of the warp write neighbours.
//
//     in shared memory  0  8 16 24   1  9 17 25   2 10 18 26   ..     rows of lanes 0, 1, 2 ..
__device__ __forceinline__ int slot(int i) { return i / 32 * 32 + i % 8 * 4 + i % 32 / 8; }

// Row i of the TM that lane tx of those along the rows has, among the tile's.
template <int SPREAD> __device__ __forceinline__ int row_of(int tx, int i) {
    return i / GROUP * SPREAD + tx / 8 * 32 + i % GROUP * 8 + tx % 8;
}

// A slice of A, BM rows and BK steps, on its way to shared memory as tile[p][i]. Neighbouring threads
// take neighbouring rows, or (ALONG_DEPTH) neighbouring steps: whichever counts places.
template <int BM, int BK, int THREADS, bool ALONG_DEPTH> struct ImageSlice {
    static constexpr int STRIDE = BM + GROUP;  // in other banks than the row before
    static constexpr int MINE = BM * BK / THREADS, ROWS = ALONG_DEPTH ? MINE : 1;
    static_assert(BM * BK % THREADS == 0 && (ALONG_DEPTH ? THREADS == 16 * BK : THREADS % BM == 0),
                  "each thread takes elements at equal distances along one axis");
    REAL values[MINE];
    Place rows[ROWS];
    int i, d;

    __device__ __forceinline__ ImageSlice(const Convolution& s, long long first) {
        const int sixteenth = threadIdx.x / BK;  // in order 0 8 1 9 .., whose slots are in other banks
        i = ALONG_DEPTH ? sixteenth % 2 * 8 + sixteenth / 2 : threadIdx.x % BM;
        d = ALONG_DEPTH ? threadIdx.x % BK : threadIdx.x / BM;
#pragma unroll
        for (int j = 0; j < ROWS; ++j) rows[j] = row_place(s, first + i + j * (THREADS / BK));
    }

    __device__ __forceinline__ void fetch(const In<REAL>& x, const Convolution& s,
                                          const Shared<Step>& steps) {
#pragma unroll
        for (int j = 0; j < MINE; ++j) {
            const Step step = steps[ALONG_DEPTH ? d : d + j * (THREADS / BM)];
            const Place& row = rows[ALONG_DEPTH ? j : 0];
            values[j] = REAL(0);
            if (inside(s, row, step.image)) values[j] = x[row.at + step.image.at];
        }
    }

    __device__ __forceinline__ void put(const Shared<REAL>& tile) const {
#pragma unroll
        for (int j = 0; j < MINE; ++j) {
            const int row = ALONG_DEPTH ? i + j * (THREADS / BK) : i;
            const int step = ALONG_DEPTH ? d : d + j * (THREADS / BM);
            tile[step * STRIDE + slot(row)] = values[j];
        }
    }
};

// A slice of B, BN columns and BK steps: neighbouring threads take neighbouring steps.
template <int BN, int BK, int THREADS> struct OtherSlice {
    static constexpr int STRIDE = BN + GROUP, MINE = BN * BK / THREADS;
    static_assert(BN * BK % THREADS == 0 && THREADS % BK == 0, "each thread takes whole columns");
    REAL values[MINE];

    __device__ __forceinline__ void fetch(const In<REAL>& x, const Convolution& s,
                                          const Shared<Step>& steps, long long first, long long left) {
        const int d = threadIdx.x % BK;
        const Step step = steps[d];
#pragma unroll
        for (int j = 0; j < MINE; ++j) {
            const long long column = first + threadIdx.x / BK + j * (THREADS / BK);
            values[j] = REAL(0);
            if (column < s.columns && d < left) values[j] = x[column * s.other_column + step.other];
        }
    }

    __device__ __forceinline__ void put(const Shared<REAL>& tile) const {
#pragma unroll
        for (int j = 0; j < MINE; ++j)
            tile[threadIdx.x % BK * STRIDE + threadIdx.x / BK + j * (THREADS / BK)] = values[j];
    }
};

template <int BM, int BN, int BK, int TM, int TN, Rows ROWS>
__device__ __forceinline__ void convolve(const In<REAL>& image, const In<REAL>& other,
                                         const Out<REAL>& y, const Convolution& given) {
    constexpr int THREADS = (BM / TM) * (BN / TN);
    using SliceA = ImageSlice<BM, BK, THREADS, ROWS == TAPS>;
    using SliceB = OtherSlice<BN, BK, THREADS>;
    constexpr int SIZE_A = BK * SliceA::STRIDE, SIZE_B = BK * SliceB::STRIDE;
    SHARED(REAL, tiles_a, 2 * SIZE_A);
    SHARED(REAL, tiles_b, 2 * SIZE_B);
    SHARED(Step, steps, 2 * BK);

    const long long wide = (given.columns + BN - 1) / BN;
    const int phases = ROWS == PIXELS ? given.phases.count : 1;
    const Convolution s = ROWS == PIXELS ? phase_of(given, blockIdx.x % phases) : given;
    const long long tile = blockIdx.x / phases, row = tile / wide * BM, column = tile % wide * BN;
    if (row >= s.rows.count) return;  // the whole block: another phase has more rows
    const long long begin = min(blockIdx.y * s.split, s.depth.count);
    const long long end = min(begin + s.split, s.depth.count);

    // The 32 threads of a warp cover 8 x 4 thread tiles. A thread's TN columns are groups of 4,
    // BN / (TN / 4) apart, so that a warp's groups are neighbours; of its rows see `slot`.
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    constexpr int WARPS_HIGH = BM / TM / 8;
    const int tx = warp % WARPS_HIGH * 8 + lane % 8, ty = warp / WARPS_HIGH * 4 + lane / 8;
    constexpr int SPREAD_M = BM / (TM / GROUP), SPREAD_N = BN / (TN / GROUP);
    static_assert(SPREAD_M % 32 == 0, "a warp's rows are 32 neighbours");

    REAL sums[TM][TN];
#pragma unroll
    for (int i = 0; i < TM * TN; ++i) sums[i / TN][i % TN] = REAL(0);

    SliceA slice_a(s, row);
    SliceB slice_b;
    if (threadIdx.x < BK) steps[threadIdx.x] = step_of(s, begin + threadIdx.x, end);
    __syncthreads();
    long long left = end - begin;
    slice_a.fetch(image, s, steps);
    slice_b.fetch(other, s, steps, column, left);
    int buffer = 0;
    for (; left > 0; left -= BK) {
        const Shared<REAL> tile_a = tiles_a + buffer * SIZE_A, tile_b = tiles_b + buffer * SIZE_B;
        buffer ^= 1;
        const Shared<Step> next = steps + buffer * BK;
        slice_a.put(tile_a);
        slice_b.put(tile_b);
        if (threadIdx.x < BK) next[threadIdx.x] = step_of(s, end - left + BK + threadIdx.x, end);
        __syncthreads();  // also: nobody reads the slice or the steps before last any more
        if (left > BK) {
            slice_a.fetch(image, s, next);
            slice_b.fetch(other, s, next, column, left - BK);
        }
#pragma unroll
        for (int q = 0; q < BK; ++q) {
            REAL u[TM], v[TN];
#pragma unroll
            for (int g = 0; g < TM / GROUP; ++g) {
                const auto group = load<GROUP>(tile_a, (q * SliceA::STRIDE + g * SPREAD_M) / GROUP + tx);
#pragma unroll
                for (int i = 0; i < GROUP; ++i) u[g * GROUP + i] = group.at[i];
            }
#pragma unroll
            for (int g = 0; g < TN / GROUP; ++g) {
                const auto group = load<GROUP>(tile_b, (q * SliceB::STRIDE + g * SPREAD_N) / GROUP + ty);
#pragma unroll
                for (int j = 0; j < GROUP; ++j) v[g * GROUP + j] = group.at[j];
            }
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] = fma(u[i], v[j], sums[i][j]);
        }
    }

    // C is (splits, result_size); with one split this is the result.
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const long long r = row + row_of<SPREAD_M>(tx, i);
        if (r >= s.rows.count) continue;
        const long long at = blockIdx.y * s.result_size + Index(s.rows, r).in(s.result);
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const long long q = column + j / GROUP * SPREAD_N + ty * GROUP + j % GROUP;
            if (q < s.columns) y[at + q * s.result_column] = sums[i][j];
        }
    }
}

// BLOCKS at least share a multiprocessor, which bounds the registers of a thread.
#define CONVOLUTION(name, ROWS, BM, BN, BK, TM, TN, BLOCKS)                     \
    extern "C" __global__ void __launch_bounds__((BM / TM) * (BN / TN), BLOCKS) \
        name(In<REAL> image, In<REAL> other, Out<REAL> y, Convolution s) {      \
        convolve<BM, BN, BK, TM, TN, ROWS>(image, other, y, s);                 \
    }
#ifdef REAL_IS_FLOAT64
CONVOLUTION(places_narrow, PLACES, 128, 16, 8, 4, 4, 2)
CONVOLUTION(taps_narrow, TAPS, 128, 16, 8, 4, 4, 2)
CONVOLUTION(pixels_narrow, PIXELS, 128, 16, 8, 4, 4, 2)
CONVOLUTION(places_64, PLACES, 64, 64, 16, 4, 4, 1)
CONVOLUTION(taps_64, TAPS, 64, 64, 16, 4, 4, 1)
CONVOLUTION(pixels_64, PIXELS, 64, 64, 16, 4, 4, 1)
#else
CONVOLUTION(places_narrow, PLACES, 128, 16, 8, 4, 4, 4)
CONVOLUTION(taps_narrow, TAPS, 128, 16, 8, 4, 4, 4)
CONVOLUTION(pixels_narrow, PIXELS, 128, 16, 8, 4, 4, 4)
CONVOLUTION(places_64, PLACES, 64, 64, 16, 4, 4, 2)
CONVOLUTION(taps_64, TAPS, 64, 64, 16, 4, 4, 2)
CONVOLUTION(pixels_64, PIXELS, 64, 64, 16, 4, 4, 2)
CONVOLUTION(places_128, PLACES, 128, 64, 8, 8, 4, 2)
CONVOLUTION(pixels_128, PIXELS, 128, 64, 8, 8, 4, 2)
#endif

// Convolution, its weight gradient and its input gradient on a GPU, each as an implicit GEMM: one
// matrix product whose im2col matrix is never stored.
//
// Computes: C[i, j] = sum over p of A[i, p] * B[j, p], where A is the im2col matrix of `image`:
//
//     A[i, p] = image[offset(i) + offset(p)],  0 if row(i) + row(p) or column(i) + column(p) is
//     outside
//
//                rows i              depth p             image  B[j, p]        C[i, j]
//   forward      position (n, a, b)  weight (c, h, v)    x      w[o, c, h, v]  y[n, o, a, b]
//   weight_grad  weight (c, h, v)    position (n, a, b)  x      g[n, o, a, b]  gw[o, c, h, v]
//   input_grad   pixel (n, i, j)     weight (o, h', v')  g      w[o, c, h, v]  gx[n, c, i, j]
//
//     positions: row(a) = a * stride - padding        weights: row(h) = h
//
// Launch: grid (tiles of C times phases, splits of the depth), blocks of (BM / TM) * (BN / TN)
// threads.
//
// Additive addressing. im2col's matrix holds each pixel once for each weight that uses it; but the
// address of an element is the sum of a term of its row and a term of its column. So each thread
// decodes its rows i once, and a block decodes the BK indices p of a slice once for all of its
// rows. An element of A then takes one addition and two comparisons, and it is copied to shared
// memory as in any tiled product (async_copy.h).
//
//       p: weight indices      offset(p): one thread each
//      +---------+            +---+---+---+---+
//   i  |         |        i:  |   |   |   |   |  += offset(i)
//   |  | im2col  |   =        +---+---+---+---+
//   v  |         |            one addition and two
//      +---------+            comparisons per element
//
// Phases of the input gradient. Pixel i receives from the weights h with i + padding = a * stride +
// h: every stride-th one. Pixels at steps of `stride` use the same weights; together they are one
// *phase*:
//
//     stride 2, 4 weights   pixels  0 1 2 3 4 5 ..   phase 0:  i = 0, 2, 4 ..  h = h0, h0 + 2 ..
//                           phase   0 1 0 1 0 1 ..   phase 1:  i = 1, 3, 5 ..  h = h1, h1 + 2 ..
//
// Within a phase the gradient is a convolution of g with stride 1 and with the weights in reverse
// order: a = r + a0 - h'. This is a gather: no two threads add to one pixel, and no zeros between
// the pixels of g are multiplied. Where a phase has no weight at all, the sum is 0. One launch
// computes all phases.
//
// Split-K. Where there are too few tiles to fill a GPU, the depth is split among blocks by the
// shape alone, and sum_splits (matmul/split_k.cu) adds the partial sums in order. Within a split
// each element is one chain of fused multiply-adds, p rising.
//
// Optimizations:
//   - global memory coalescing: neighbouring threads read neighbouring positions of the image, so
//     a sector of 32 bytes serves 8 of them (4 with stride 2). Vectorized access to the image would
//     need stride 1 and windows that begin at multiples of 4
//   - shared-memory tiling; tiles padded, and their rows permuted, against bank conflicts
//   - 2D register blocking with vectorized reads of shared memory (register_tile.h)
//   - asynchronous copies, double buffering
//   - split-K

#include "async_copy.h"
#include "register_tile.h"

enum Operation { FORWARD, WEIGHT_GRAD, INPUT_GRAD };
constexpr int OUTSIDE = -(1 << 30);  // a row or column that no sum brings back into an image

// The map from a flat index to (plane, row, column), the last one fastest, and to the image: (0, 0)
// is pixel (first_row, first_column), the next rows and columns are steps of pixels, the next plane
// is a step in memory.
struct IndexMap {
    long long count, rows, columns;
    long long plane_stride;
    int first_row, first_column, row_step, column_step;
};
// The strides of the same (plane, row, column) in another array, in elements.
struct Strides {
    long long start, plane, row, column;
};
// The phases of the input gradient: `count` in all, `across` side by side; 0 for other operations.
struct Phases {
    int count, across;
    int stride_down, stride_across, padding_down, padding_across;
    int height, width, kernel_height, kernel_width;
};
// A convolution without its arrays' addresses; `Convolution` of cuda.py.
struct Convolution {
    IndexMap rows, depth;                         // of A
    long long columns, split_depth;               // columns of C; steps of the depth per split
    long long image_row_stride, image_column_stride;
    int image_height, image_width;
    Strides other, result;                        // along the depth of B; along the rows of C
    long long other_column, result_column;        // strides along the columns of B and C
    long long result_size;
    Phases phases;
};

struct Index {
    long long plane, row, column;
    __device__ __forceinline__ Index(const IndexMap& map, long long i) {
        const long long line = integer_divide(i, map.columns);
        column = i - line * map.columns;
        plane = integer_divide(line, map.rows);
        row = line - plane * map.rows;
    }
    __device__ __forceinline__ long long offset(const Strides& s) const {
        return s.start + plane * s.plane + row * s.row + column * s.column;
    }
};

// The term of a row, or of a depth index, in the address of an element of A and in the coordinates
// of its pixel.
struct Pixel {
    long long offset;
    int row, column;
};

__device__ __forceinline__ Pixel pixel_of(const Convolution& s, const IndexMap& map,
                                          const Index& i) {
    Pixel pixel;
    pixel.row = map.first_row + static_cast<int>(i.row) * map.row_step;
    pixel.column = map.first_column + static_cast<int>(i.column) * map.column_step;
    pixel.offset = i.plane * map.plane_stride + pixel.row * s.image_row_stride +
                   pixel.column * s.image_column_stride;
    return pixel;
}

__device__ __forceinline__ Pixel row_pixel(const Convolution& s, long long i) {
    if (i >= s.rows.count) return {0, OUTSIDE, OUTSIDE};
    return pixel_of(s, s.rows, Index(s.rows, i));
}

// The decoded depth indices of a slice, in shared memory: the terms of A's addresses, and the
// offsets in B. One thread decodes each index; the block needs a barrier before they are used.
struct DepthSteps {
    Shared<long long> pixels;  // two words each, which a thread reads by one access
    Shared<long long> others;

    __device__ __forceinline__ void decode(const Convolution& s, long long first, long long end,
                                           int depth) const {
        const int t = threadIdx.x;
        if (t >= depth) return;
        Pixel pixel{0, OUTSIDE, OUTSIDE};
        long long in_other = 0;
        if (first + t < end) {
            const Index i(s.depth, first + t);
            pixel = pixel_of(s, s.depth, i);
            in_other = i.offset(s.other);
        }
        const unsigned row = static_cast<unsigned>(pixel.row);
        const long long coordinates = static_cast<long long>(pixel.column) << 32 | row;
        store<2>(pixels, t, Pack<long long, 2>{{pixel.offset, coordinates}});
        others[t] = in_other;
    }
    __device__ __forceinline__ Pixel pixel(int step) const {
        const auto words = load<2>(pixels, step);
        return {words.values[0], static_cast<int>(words.values[1]),
                static_cast<int>(words.values[1] >> 32)};
    }
};

__device__ __forceinline__ bool is_inside(const Convolution& s, int row, int column) {
    return static_cast<unsigned>(row) < static_cast<unsigned>(s.image_height) &&
           static_cast<unsigned>(column) < static_cast<unsigned>(s.image_width);
}

// The product of phase `number` of the input gradient: its pixels are rows of A, its weights the
// depth.
__device__ __forceinline__ Convolution phase_of(const Convolution& all, int number) {
    Convolution s = all;
    const Phases& f = all.phases;
    const int i = number / f.across, j = number % f.across;  // the phase's first pixel
    const int h = (i + f.padding_down) % f.stride_down;      // and its first weight
    const int v = (j + f.padding_across) % f.stride_across;
    s.rows.rows = (f.height - i + f.stride_down - 1) / f.stride_down;
    s.rows.columns = (f.width - j + f.stride_across - 1) / f.stride_across;
    s.rows.count = all.rows.count * s.rows.rows * s.rows.columns;  // all.rows.count: images
    s.rows.first_row = (i + f.padding_down) / f.stride_down;
    s.rows.first_column = (j + f.padding_across) / f.stride_across;
    // The number of the phase's weights along each axis, 0 if h or v is no weight.
    s.depth.rows = (f.kernel_height - h + f.stride_down - 1) / f.stride_down;
    s.depth.columns = (f.kernel_width - v + f.stride_across - 1) / f.stride_across;
    s.depth.count = all.depth.count * s.depth.rows * s.depth.columns;  // all.depth.count: channels
    s.other.start = h * (all.other.row / f.stride_down) + v * (all.other.column / f.stride_across);
    s.result.start = static_cast<long long>(i) * f.width + j;
    return s;
}

// The position of row i of a tile in shared memory, where neighbouring threads copy neighbouring
// rows. A thread multiplies 4 neighbours in shared memory at once, and these are rows 8 apart; so
// the threads of a warp write neighbouring rows of C. Their copies have no bank conflicts:
//
//     shared memory  0  8 16 24   1  9 17 25   2 10 18 26   ..     rows of lanes 0, 1, 2 ..
__device__ __forceinline__ int permuted_position(int i) {
    return i / 32 * 32 + i % 8 * 4 + i % 32 / 8;
}

// The inverse, for a thread's sums: the row, within the tile, of sums[i][0].
template <class Tile> __device__ __forceinline__ int permuted_row(int i) {
    return i / GROUP * Tile::GROUP_STRIDE_M + Tile::first_group_m() / 8 * 32 + i % GROUP * 8 +
           Tile::first_group_m() % 8;
}

// The copies of a slice from global to shared memory, where steps are 4 banks apart (modulo 32).
// Where neighbouring threads take neighbouring steps, a warp takes 8 steps of 4 rows (or columns)
// which are side by side in shared memory: 32 different banks.
constexpr int STEP_LANES = 8;

// A slice of A, BM rows and BK steps, is stored as tile[p][position(i)]. Neighbouring threads take
// neighbouring positions of the image: these are rows, or (ALONG_DEPTH, for the weight gradient)
// steps.
template <int BM, int BK, int THREADS, bool ALONG_DEPTH> struct ImageSlice {
    static constexpr int STRIDE = BM + GROUP;  // as in RegisterTile
    static constexpr int STEP_DISTANCE = ALONG_DEPTH ? STEP_LANES : THREADS / BM;
    static constexpr int STEPS = BK / STEP_DISTANCE, ROWS = BM * BK / THREADS / STEPS;
    static constexpr int ROW_DISTANCE = THREADS / STEP_LANES;  // if there is more than one row
    static_assert(ALONG_DEPTH ? BM % ROW_DISTANCE == 0 : THREADS % BM == 0,
                  "each thread takes elements at equal distances");
    In<REAL> from[ROWS];  // for each row, where its pixel is if the step's term is 0
    int row[ROWS], column[ROWS];

    // Return the row, and the step, of the thread's first element in the slice.
    static __device__ __forceinline__ int first_row() {
        return ALONG_DEPTH ? threadIdx.x / STEP_LANES : threadIdx.x % BM;
    }
    static __device__ __forceinline__ int first_step() {
        return ALONG_DEPTH ? threadIdx.x % STEP_LANES : threadIdx.x / BM;
    }
    static __device__ __forceinline__ int first_position() {
        return first_step() * STRIDE + (ALONG_DEPTH ? first_row() : permuted_position(first_row()));
    }

    __device__ __forceinline__ ImageSlice(const In<REAL>& x, const Convolution& s,
                                          long long first) {
#pragma unroll
        for (int j = 0; j < ROWS; ++j) {
            const Pixel pixel = row_pixel(s, first + first_row() + j * ROW_DISTANCE);
            from[j] = x + pixel.offset;
            row[j] = pixel.row;
            column[j] = pixel.column;
        }
    }

    // Start to copy; `to` is the thread's first position in the tile.
    template <class Copies>
    __device__ __forceinline__ void start(Copies& copies, const Shared<REAL>& to,
                                          const Convolution& s, const DepthSteps& steps) const {
#pragma unroll
        for (int q = 0; q < STEPS; ++q) {
            const Pixel step = steps.pixel(first_step() + q * STEP_DISTANCE);
#pragma unroll
            for (int j = 0; j < ROWS; ++j) {
                copies.template start<1>(to + (q * STEP_DISTANCE * STRIDE + j * ROW_DISTANCE),
                                         from[j] + step.offset,
                                         is_inside(s, row[j] + step.row, column[j] + step.column));
            }
        }
    }
};

// A slice of B, BN columns and BK steps, is stored as tile[p][j]. Neighbouring threads take
// neighbouring steps.
template <int BN, int BK, int THREADS> struct OtherSlice {
    static constexpr int STRIDE = BN + GROUP, COLUMN_DISTANCE = THREADS / STEP_LANES;
    static_assert(BK % STEP_LANES == 0 && BN % COLUMN_DISTANCE == 0,
                  "each thread takes elements at equal distances along both axes");

    static __device__ __forceinline__ int first_column() { return threadIdx.x / STEP_LANES; }
    static __device__ __forceinline__ int first_step() { return threadIdx.x % STEP_LANES; }
    static __device__ __forceinline__ int first_position() {
        return first_step() * STRIDE + first_column();
    }

    // Start to copy. `x` is at the thread's first column; `columns` exist from there on, and `left`
    // steps of the slice.
    template <class Copies>
    static __device__ __forceinline__ void start(Copies& copies, const Shared<REAL>& to,
                                                 const In<REAL>& x, const Convolution& s,
                                                 const DepthSteps& steps, int columns, int left) {
#pragma unroll
        for (int q = 0; q < BK; q += STEP_LANES) {
            const In<REAL> from = x + steps.others[first_step() + q];
            const int exist = first_step() + q < left ? columns : 0;
#pragma unroll
            for (int j = 0; j < BN; j += COLUMN_DISTANCE)
                copies.template start<1>(to + (q * STRIDE + j), from + j * s.other_column,
                                         j < exist);
        }
    }
};

template <int BM, int BN, int BK, int TM, int TN, Operation OPERATION>
__device__ __forceinline__ void convolve(const In<REAL>& image, const In<REAL>& other,
                                         const Out<REAL>& y, const Convolution& all) {
    using Tile = RegisterTile<BM, BN, BK, TM, TN, WarpShape::ROWS_8_COLUMNS_4>;
    static_assert(Tile::GROUP_STRIDE_M % 32 == 0, "permuted_position permutes 32 rows");
    SHARED(REAL, tiles_a, 2 * Tile::SIZE_A);
    SHARED(REAL, tiles_b, 2 * Tile::SIZE_B);
    SHARED(long long, pixels, 4 * BK);
    SHARED(long long, others, 2 * BK);

    const long long tiles_per_row = (all.columns + BN - 1) / BN;
    const int phases = OPERATION == INPUT_GRAD ? all.phases.count : 1;
    const Convolution s = OPERATION == INPUT_GRAD ? phase_of(all, blockIdx.x % phases) : all;
    const long long number = blockIdx.x / phases;
    const long long row = number / tiles_per_row * BM, column = number % tiles_per_row * BN;
    // The grid fits the phase with the most rows. The whole block returns, before any barrier.
    if (row >= s.rows.count) return;
    const long long begin = min(blockIdx.y * s.split_depth, s.depth.count);
    const long long end = min(begin + s.split_depth, s.depth.count);

    using SliceA = ImageSlice<BM, BK, Tile::THREADS, OPERATION == WEIGHT_GRAD>;
    using SliceB = OtherSlice<BN, BK, Tile::THREADS>;
    AsyncCopies<REAL, (BM + BN) * BK / Tile::THREADS> copies;
    const SliceA slice_a(image, s, row);
    const In<REAL> other_column = other + (column + SliceB::first_column()) * s.other_column;
    const int columns = static_cast<int>(min(s.columns - column, static_cast<long long>(BN))) -
                        SliceB::first_column();
    const int position_a = SliceA::first_position(), position_b = SliceB::first_position();
    int left = static_cast<int>(end - begin);

    Tile tile;
    int buffer = 0;
    DepthSteps{pixels, others}.decode(s, begin, end, BK);
    __syncthreads();
    slice_a.start(copies, tiles_a + position_a, s, {pixels, others});
    SliceB::start(copies, tiles_b + position_b, other_column, s, {pixels, others}, columns, left);
    for (; left > 0; left -= BK) {
        const int next = buffer ^ 1;
        const DepthSteps steps{pixels + next * 2 * BK, others + next * BK};
        steps.decode(s, end - left + BK, end, BK);
        copies.wait();
        // This one barrier also protects the other buffers: all threads have used them.
        __syncthreads();
        if (left > BK) {
            slice_a.start(copies, tiles_a + (next * Tile::SIZE_A + position_a), s, steps);
            SliceB::start(copies, tiles_b + (next * Tile::SIZE_B + position_b), other_column, s,
                          steps, columns, left - BK);
        }
        tile.accumulate(tiles_a + buffer * Tile::SIZE_A, tiles_b + buffer * Tile::SIZE_B);
        buffer = next;
    }

    // y is (splits, result_size): the result itself if there is one split.
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const long long r =
            OPERATION == WEIGHT_GRAD ? Tile::row(row, i) : row + permuted_row<Tile>(i);
        if (r >= s.rows.count) continue;
        const long long offset = blockIdx.y * s.result_size + Index(s.rows, r).offset(s.result);
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const long long q = Tile::column(column, j);
            if (q < s.columns) y[offset + q * s.result_column] = tile.sums[i][j];
        }
    }
}

// At least BLOCKS blocks fit on a multiprocessor, which limits the registers per thread.
#define CONVOLUTION(name, OPERATION, BM, BN, BK, TM, TN, BLOCKS)                \
    extern "C" __global__ void __launch_bounds__((BM / TM) * (BN / TN), BLOCKS) \
        name(In<REAL> image, In<REAL> other, Out<REAL> y, Convolution s) {      \
        convolve<BM, BN, BK, TM, TN, OPERATION>(image, other, y, s);            \
    }
#ifdef REAL_IS_FLOAT64
CONVOLUTION(forward_narrow, FORWARD, 128, 16, 16, 4, 4, 2)
CONVOLUTION(weight_grad_narrow, WEIGHT_GRAD, 128, 16, 16, 4, 4, 2)
CONVOLUTION(input_grad_narrow, INPUT_GRAD, 128, 16, 16, 4, 4, 2)
CONVOLUTION(forward_32, FORWARD, 128, 32, 16, 8, 4, 1)
CONVOLUTION(weight_grad_32, WEIGHT_GRAD, 128, 32, 16, 8, 4, 1)
CONVOLUTION(input_grad_32, INPUT_GRAD, 128, 32, 16, 8, 4, 1)
CONVOLUTION(forward_64, FORWARD, 64, 64, 16, 8, 4, 1)
CONVOLUTION(weight_grad_64, WEIGHT_GRAD, 64, 64, 16, 8, 4, 1)
CONVOLUTION(input_grad_64, INPUT_GRAD, 64, 64, 16, 8, 4, 1)
#else
CONVOLUTION(forward_narrow, FORWARD, 128, 16, 16, 4, 4, 4)
CONVOLUTION(weight_grad_narrow, WEIGHT_GRAD, 128, 16, 16, 4, 4, 4)
CONVOLUTION(input_grad_narrow, INPUT_GRAD, 128, 16, 16, 4, 4, 4)
CONVOLUTION(forward_32, FORWARD, 128, 32, 16, 8, 4, 4)
CONVOLUTION(weight_grad_32, WEIGHT_GRAD, 128, 32, 16, 8, 4, 4)
CONVOLUTION(input_grad_32, INPUT_GRAD, 128, 32, 16, 8, 4, 4)
CONVOLUTION(forward_64, FORWARD, 64, 64, 16, 8, 4, 4)
CONVOLUTION(weight_grad_64, WEIGHT_GRAD, 64, 64, 16, 8, 4, 4)
CONVOLUTION(input_grad_64, INPUT_GRAD, 64, 64, 16, 8, 4, 4)
CONVOLUTION(forward_128, FORWARD, 128, 64, 16, 8, 4, 2)
CONVOLUTION(input_grad_128, INPUT_GRAD, 128, 64, 16, 8, 4, 2)
#endif

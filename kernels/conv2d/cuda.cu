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
// rows. An element of A then takes one addition and two comparisons, and it is stored to shared
// memory as in any tiled product.
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
//   - double buffering
//   - split-K

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

// A decoded depth index p: its term of A's address, and its offset in B.
struct alignas(16) DepthStep {
    Pixel image;
    long long other;
    long long unused;
};

__device__ __forceinline__ DepthStep depth_step(const Convolution& s, long long p, long long end) {
    if (p >= end) return {{0, OUTSIDE, OUTSIDE}, 0, 0};
    const Index i(s.depth, p);
    return {pixel_of(s, s.depth, i), i.offset(s.other), 0};
}

__device__ __forceinline__ bool is_inside(const Convolution& s, const Pixel& i, const Pixel& p) {
    return static_cast<unsigned>(i.row + p.row) < static_cast<unsigned>(s.image_height) &&
           static_cast<unsigned>(i.column + p.column) < static_cast<unsigned>(s.image_width);
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

// The position of row i of a tile in shared memory. A thread reads 4 neighbours at once, and these
// are rows 8 apart; so a thread stores its first rows next to those of 7 other lanes, without bank
// conflicts:
//
//     shared memory  0  8 16 24   1  9 17 25   2 10 18 26   ..     rows of lanes 0, 1, 2 ..
__device__ __forceinline__ int shared_position(int i) {
    return i / 32 * 32 + i % 8 * 4 + i % 32 / 8;
}

// The inverse, for a thread's sums: the row, within the tile, of sums[i][0].
template <class Tile> __device__ __forceinline__ int permuted_row(int i) {
    return i / GROUP * Tile::GROUP_STRIDE_M + Tile::first_group_m() / 8 * 32 + i % GROUP * 8 +
           Tile::first_group_m() % 8;
}

// A slice of A, BM rows and BK steps, on its way from global to shared memory, where it is stored
// as tile[p][shared_position(i)]. Neighbouring threads take neighbouring positions of the image:
// these are rows, or (ALONG_DEPTH, for the weight gradient) steps.
template <int BM, int BK, int THREADS, bool ALONG_DEPTH> struct ImageSlice {
    static constexpr int STRIDE = BM + GROUP;  // as in RegisterTile
    static constexpr int PER_THREAD = BM * BK / THREADS, ROWS = ALONG_DEPTH ? PER_THREAD : 1;
    static_assert(BM * BK % THREADS == 0 && (ALONG_DEPTH ? THREADS == 16 * BK : THREADS % BM == 0),
                  "each thread takes elements at equal distances along one axis");
    REAL values[PER_THREAD];
    Pixel rows[ROWS];
    int i, p;  // the thread's first element in the slice

    __device__ __forceinline__ ImageSlice(const Convolution& s, long long first) {
        // Along the depth, 16 rows at a time, in the order 0 8 1 9 ..: they are stored to other
        // banks.
        const int sixteenth = threadIdx.x / BK;
        i = ALONG_DEPTH ? sixteenth % 2 * 8 + sixteenth / 2 : threadIdx.x % BM;
        p = ALONG_DEPTH ? threadIdx.x % BK : threadIdx.x / BM;
#pragma unroll
        for (int j = 0; j < ROWS; ++j) rows[j] = row_pixel(s, first + i + j * (THREADS / BK));
    }

    __device__ __forceinline__ void load_global(const In<REAL>& x, const Convolution& s,
                                                const Shared<DepthStep>& steps) {
#pragma unroll
        for (int j = 0; j < PER_THREAD; ++j) {
            const DepthStep step = steps[ALONG_DEPTH ? p : p + j * (THREADS / BM)];
            const Pixel& row = rows[ALONG_DEPTH ? j : 0];
            values[j] = REAL(0);
            if (is_inside(s, row, step.image)) values[j] = x[row.offset + step.image.offset];
        }
    }

    __device__ __forceinline__ void store_shared(const Shared<REAL>& tile) const {
#pragma unroll
        for (int j = 0; j < PER_THREAD; ++j) {
            const int row = ALONG_DEPTH ? i + j * (THREADS / BK) : i;
            const int step = ALONG_DEPTH ? p : p + j * (THREADS / BM);
            tile[step * STRIDE + shared_position(row)] = values[j];
        }
    }
};

// A slice of B, BN columns and BK steps: neighbouring threads take neighbouring steps.
template <int BN, int BK, int THREADS> struct OtherSlice {
    static constexpr int STRIDE = BN + GROUP, PER_THREAD = BN * BK / THREADS;
    static_assert(BN * BK % THREADS == 0 && THREADS % BK == 0, "each thread takes whole columns");
    REAL values[PER_THREAD];

    __device__ __forceinline__ void load_global(const In<REAL>& x, const Convolution& s,
                                                const Shared<DepthStep>& steps, long long first,
                                                long long left) {
        const int p = threadIdx.x % BK;
        const DepthStep step = steps[p];
#pragma unroll
        for (int j = 0; j < PER_THREAD; ++j) {
            const long long column = first + threadIdx.x / BK + j * (THREADS / BK);
            values[j] = REAL(0);
            if (column < s.columns && p < left) values[j] = x[column * s.other_column + step.other];
        }
    }

    __device__ __forceinline__ void store_shared(const Shared<REAL>& tile) const {
#pragma unroll
        for (int j = 0; j < PER_THREAD; ++j)
            tile[threadIdx.x % BK * STRIDE + threadIdx.x / BK + j * (THREADS / BK)] = values[j];
    }
};

template <int BM, int BN, int BK, int TM, int TN, Operation OPERATION>
__device__ __forceinline__ void convolve(const In<REAL>& image, const In<REAL>& other,
                                         const Out<REAL>& y, const Convolution& all) {
    using Tile = RegisterTile<BM, BN, BK, TM, TN, WarpShape::ROWS_8_COLUMNS_4>;
    static_assert(Tile::GROUP_STRIDE_M % 32 == 0, "shared_position permutes 32 rows");
    SHARED(REAL, tiles_a, 2 * Tile::SIZE_A);
    SHARED(REAL, tiles_b, 2 * Tile::SIZE_B);
    SHARED(DepthStep, steps, 2 * BK);

    const long long tiles_per_row = (all.columns + BN - 1) / BN;
    const int phases = OPERATION == INPUT_GRAD ? all.phases.count : 1;
    const Convolution s = OPERATION == INPUT_GRAD ? phase_of(all, blockIdx.x % phases) : all;
    const long long number = blockIdx.x / phases;
    const long long row = number / tiles_per_row * BM, column = number % tiles_per_row * BN;
    // The grid fits the phase with the most rows. The whole block returns, before any barrier.
    if (row >= s.rows.count) return;
    const long long begin = min(blockIdx.y * s.split_depth, s.depth.count);
    const long long end = min(begin + s.split_depth, s.depth.count);

    Tile tile;
    ImageSlice<BM, BK, Tile::THREADS, OPERATION == WEIGHT_GRAD> slice_a(s, row);
    OtherSlice<BN, BK, Tile::THREADS> slice_b;
    if (threadIdx.x < BK) steps[threadIdx.x] = depth_step(s, begin + threadIdx.x, end);
    __syncthreads();
    long long left = end - begin;
    slice_a.load_global(image, s, steps);
    slice_b.load_global(other, s, steps, column, left);
    int buffer = 0;
    for (; left > 0; left -= BK) {
        const Shared<REAL> tile_a = tiles_a + buffer * Tile::SIZE_A;
        const Shared<REAL> tile_b = tiles_b + buffer * Tile::SIZE_B;
        buffer ^= 1;
        const Shared<DepthStep> next = steps + buffer * BK;
        slice_a.store_shared(tile_a);
        slice_b.store_shared(tile_b);
        if (threadIdx.x < BK) next[threadIdx.x] = depth_step(s, end - left + BK + threadIdx.x, end);
        // This one barrier also protects the buffers: when one is stored to again, two slices
        // later, all threads have passed the barrier of the slice between, so none still reads it.
        __syncthreads();
        if (left > BK) {
            slice_a.load_global(image, s, next);
            slice_b.load_global(other, s, next, column, left - BK);
        }
        tile.accumulate(tile_a, tile_b);
    }

    // y is (splits, result_size): the result itself if there is one split.
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const long long r = row + permuted_row<Tile>(i);
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
CONVOLUTION(forward_narrow, FORWARD, 128, 16, 8, 4, 4, 2)
CONVOLUTION(weight_grad_narrow, WEIGHT_GRAD, 128, 16, 8, 4, 4, 2)
CONVOLUTION(input_grad_narrow, INPUT_GRAD, 128, 16, 8, 4, 4, 2)
CONVOLUTION(forward_64, FORWARD, 64, 64, 16, 4, 4, 1)
CONVOLUTION(weight_grad_64, WEIGHT_GRAD, 64, 64, 16, 4, 4, 1)
CONVOLUTION(input_grad_64, INPUT_GRAD, 64, 64, 16, 4, 4, 1)
#else
CONVOLUTION(forward_narrow, FORWARD, 128, 16, 8, 4, 4, 4)
CONVOLUTION(weight_grad_narrow, WEIGHT_GRAD, 128, 16, 8, 4, 4, 4)
CONVOLUTION(input_grad_narrow, INPUT_GRAD, 128, 16, 8, 4, 4, 4)
CONVOLUTION(forward_64, FORWARD, 64, 64, 16, 4, 4, 2)
CONVOLUTION(weight_grad_64, WEIGHT_GRAD, 64, 64, 16, 4, 4, 2)
CONVOLUTION(input_grad_64, INPUT_GRAD, 64, 64, 16, 4, 4, 2)
CONVOLUTION(forward_128, FORWARD, 128, 64, 8, 8, 4, 2)
CONVOLUTION(input_grad_128, INPUT_GRAD, 128, 64, 8, 8, 4, 2)
#endif

// Normalization on a GPU: x (a, m, b), with statistics of each m over a and b. With r = 1 /
// sqrt(variance + eps) and h = (x - mean) r,
//
// Computes: normalize        scale h + shift                      normalize_sums   sum(g), sum(g h)
//           normalize_grad   scale r (g - mean(g) - h mean(g h))  inverse_std      r
//           running_moments  updates of running statistics
//           normalize_vector x / max(|x|, eps), for one vector
// Launch: grid (groups of channels, pieces), blocks of 256 threads.
//
// One block per channel. A block reads all numbers of one m, here called a channel, three times:
// for the mean, for the sum of squared distances from it, and to write the result. After the first
// time they are in the cache. (The mean of the squares minus the squared mean would take one pass
// less, and lose all digits where the mean is large.)
//
//            b = 49            `row_threads` threads, a power of two that covers b, take a row of b
//        m  +------+           numbers, and THREADS / row_threads rows are taken at a time: so a
//        |  |//////|  row 0    warp reads contiguous memory.
//        v  |      |
//           +------+           Where b is small (1 in a batch norm of dense layers), a row is too
//           |//////|  row 1    short for that. Then a block takes `channels` adjacent channels, 32
//           |      |           contiguous numbers, and each thread belongs to one of them.
//
// Pieces. Few channels with many numbers each cannot fill a GPU. Then they are divided into pieces,
// by the shape alone, with one block each, in two launches: `moments` writes the count, mean and
// squared distances of each piece; the second kernel combines them in order, and computes its own
// piece of the result (Chan, Golub, LeVeque 1983):
//
//     mean = sum n_i mean_i / N        N variance = sum (squares_i + n_i (mean_i - mean)^2)
//
// Optimizations:
//   - global memory coalescing, for long and for short rows
//   - reductions by warp shuffles, one number per warp in shared memory
//   - one launch where one block per channel fills the GPU, else pieces

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int UNROLL = 32 / sizeof(REAL);  // elements of a thread whose loads are in flight

struct Shape {
    long long a, m, b;
    long long channels, row_threads;   // channels per block; threads along a row
    long long rows, width;             // of a piece
    long long pieces_across, pieces;   // pieces side by side; pieces of a channel in all
};

// The part of x that one block reads: a piece of one channel, or of several adjacent ones.
struct Piece {
    const Shape& s;
    Shared<REAL> scratch;  // THREADS numbers
    long long channel;     // of this thread
    long long start;       // the offset of the block's first channel in a row of (m, b)
    long long first_row, last_row, first, last;  // rows, and elements of a row from `start` on
    bool is_active;        // whether the thread belongs to a channel

    __device__ Piece(const Shape& shape, const Shared<REAL>& memory, long long piece)
        : s(shape), scratch(memory) {
        const long long group = blockIdx.x * s.channels, lane = threadIdx.x % s.row_threads;
        const long long width = (s.m - group < s.channels ? s.m - group : s.channels) * s.b;
        start = group * s.b;
        first_row = piece / s.pieces_across * s.rows;
        last_row = first_row + s.rows < s.a ? first_row + s.rows : s.a;
        first = piece % s.pieces_across * s.width;
        last = first + s.width < width ? first + s.width : width;
        is_active = s.channels == 1 || lane < width;
        channel = group + (s.channels > 1 && is_active ? lane / s.b : 0);
    }

    // Call f(i) for the offset i of each element of this thread, row by row. Several loads of f are
    // on their way at a time: from several rows if the thread has one element of each.
    template <class F> __device__ __forceinline__ void for_each(const F& f) const {
        const int threads = static_cast<int>(s.row_threads), lane = threadIdx.x % threads;
        const int own_row = threadIdx.x / threads, step = THREADS / threads;
        const long long row_stride = s.m * s.b;
        long long i = (first_row + own_row) * row_stride + start + first + lane;
        if (last - first <= threads) {
            if (first + lane >= last) return;
#pragma unroll UNROLL
            for (int row = own_row; row < last_row - first_row; row += step) {
                f(i);
                i += step * row_stride;
            }
        } else {
#pragma unroll 1
            for (int row = own_row; row < last_row - first_row; row += step) {
                const long long end = i - lane + (last - first);
#pragma unroll UNROLL
                for (long long j = i; j < end; j += threads) f(j);
                i += step * row_stride;
            }
        }
    }

    // Return the number of elements of each channel in this piece.
    __device__ REAL count() const {
        return static_cast<REAL>((last_row - first_row) * (s.channels == 1 ? last - first : s.b));
    }

    // Return, to all threads of a channel, the sum of x over them.
    __device__ REAL total(REAL x) const {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        __syncthreads();  // before the scratch memory of an earlier call is overwritten
        if (s.channels == 1) {
            for (int offset = 16; offset > 0; offset /= 2)
                x += __shfl_down_sync(ALL_LANES, x, offset);
            if (lane == 0) scratch[warp] = x;
            __syncthreads();
            x = scratch[0];
            for (int w = 1; w < WARPS; ++w) x += scratch[w];
            return x;
        }
        scratch[threadIdx.x] = x;
        __syncthreads();
        for (int offset = WARPS / 2; offset > 0; offset /= 2) {
            if (warp < offset) scratch[threadIdx.x] += scratch[threadIdx.x + 32 * offset];
            __syncthreads();
        }
        if (!is_active) return 0;
        const int b = static_cast<int>(s.b), own = lane / b * b;
        x = scratch[own];
        for (int j = 1; j < b; ++j) x += scratch[own + j];
        return x;
    }
};

struct Moments {
    REAL mean, squares;  // squares: the sum of squared distances from the mean
};

// Compute the moments of this piece.
__device__ __forceinline__ Moments piece_moments(const Piece& piece, const In<REAL>& x) {
    REAL sum = 0, squares = 0;
    piece.for_each([&](long long i) { sum += x[i]; });
    const REAL mean = piece.total(sum) / piece.count();
    piece.for_each([&](long long i) {
        const REAL distance = x[i] - mean;
        squares = fma(distance, distance, squares);
    });
    return {mean, piece.total(squares)};
}

// Compute the moments of the whole channel; `parts` is the result of `moments`, or null if there is
// one piece.
__device__ __forceinline__ Moments channel_moments(const Piece& piece, const In<REAL>& x,
                                                   const In<REAL>& parts, REAL count) {
    if (!parts) return piece_moments(piece, x);
    const long long stride = 3 * piece.s.m;
    REAL sum = 0, squares = 0;
    In<REAL> part = parts + 3 * piece.channel;
#pragma unroll 4
    for (long long i = 0; i < piece.s.pieces; ++i)
        sum = fma(part[i * stride], part[i * stride + 1], sum);
    const REAL mean = sum / count;
#pragma unroll 4
    for (long long i = 0; i < piece.s.pieces; ++i) {
        const REAL distance = part[i * stride + 1] - mean;
        squares += fma(part[i * stride] * distance, distance, part[i * stride + 2]);
    }
    return {mean, squares};
}

// Return whether this thread writes the results of its channel.
__device__ __forceinline__ bool is_writer(const Piece& piece) {
    const long long first = (piece.channel - blockIdx.x * piece.s.channels) * piece.s.b;
    return piece.is_active && threadIdx.x == (piece.s.channels == 1 ? 0 : first);
}

__device__ __forceinline__ REAL one_over_std(const Moments& all, REAL count, REAL eps) {
    return 1 / sqrt(all.squares / count + eps);
}

// At least four blocks fit on a multiprocessor: 64 registers per thread, which hold all variables.
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 4)

// Compute the count, mean and squared distances of each piece: parts (pieces, m, 3).
KERNEL moments(Out<REAL> parts, In<REAL> x, Shape s) {
    SHARED(REAL, scratch, THREADS);
    const Piece piece(s, scratch, blockIdx.y);
    const Moments own = piece_moments(piece, x);
    if (!is_writer(piece)) return;
    const long long first = 3 * (blockIdx.y * s.m + piece.channel);
    parts[first] = piece.count();
    parts[first + 1] = own.mean;
    parts[first + 2] = own.squares;
}

// Return the channel's element of a row (m,), or the number for all channels if the row is null.
__device__ __forceinline__ REAL row_or_number(const In<REAL>& row, REAL number,
                                              const Piece& piece) {
    return row ? static_cast<REAL>(row[piece.channel]) : number;
}

KERNEL normalize(Out<REAL> y, In<REAL> x, In<REAL> scales, REAL scale, In<REAL> shifts, REAL shift,
                 REAL eps, In<REAL> parts, REAL count, Shape s) {
    SHARED(REAL, scratch, THREADS);
    const Piece piece(s, scratch, blockIdx.y);
    const Moments all = channel_moments(piece, x, parts, count);
    const REAL r = one_over_std(all, count, eps);
    scale = row_or_number(scales, scale, piece);
    shift = row_or_number(shifts, shift, piece);
    piece.for_each([=](long long i) { y[i] = scale * ((x[i] - all.mean) * r) + shift; });
}

// sum(g) and sum(g h) over this piece.
struct Sums {
    REAL g, gh;
};
__device__ __forceinline__ Sums piece_sums(const Piece& piece, const In<REAL>& g, const In<REAL>& x,
                                           REAL mean, REAL r) {
    REAL sum = 0, product = 0;
    piece.for_each([&](long long i) {
        const REAL value = g[i];
        sum += value;
        product = fma(value, (x[i] - mean) * r, product);
    });
    sum = piece.total(sum);
    return {sum, piece.total(product)};
}

// Compute sum(g) and sum(g h) of each piece: (pieces, 2, m).
KERNEL normalize_sums(Out<REAL> sums, In<REAL> g, In<REAL> x, REAL eps, In<REAL> parts, REAL count,
                      Shape s) {
    SHARED(REAL, scratch, THREADS);
    const Piece piece(s, scratch, blockIdx.y);
    const Moments all = channel_moments(piece, x, parts, count);
    const Sums own = piece_sums(piece, g, x, all.mean, one_over_std(all, count, eps));
    if (is_writer(piece)) {
        sums[2 * blockIdx.y * s.m + piece.channel] = own.g;
        sums[(2 * blockIdx.y + 1) * s.m + piece.channel] = own.gh;
    }
}

// `sums` (2, m) is the result of normalize_sums where there are pieces, else null.
KERNEL normalize_grad(Out<REAL> y, In<REAL> g, In<REAL> x, In<REAL> scales, REAL scale, REAL eps,
                      In<REAL> parts, In<REAL> sums, REAL count, Shape s) {
    SHARED(REAL, scratch, THREADS);
    const Piece piece(s, scratch, blockIdx.y);
    const Moments all = channel_moments(piece, x, parts, count);
    const REAL r = one_over_std(all, count, eps);
    Sums of_g;
    if (sums)
        of_g = {sums[piece.channel], sums[s.m + piece.channel]};
    else
        of_g = piece_sums(piece, g, x, all.mean, r);
    const REAL factor = row_or_number(scales, scale, piece) * r;
    const REAL mean_g = of_g.g / count, mean_gh = of_g.gh / count;
    piece.for_each([&](long long i) {
        y[i] = factor * (g[i] - mean_g - (x[i] - all.mean) * r * mean_gh);
    });
}

// These two write one or two numbers per channel, so they are launched with one block per channel,
// and read x only if there are no `parts`.
KERNEL inverse_std(Out<REAL> y, In<REAL> x, REAL eps, In<REAL> parts, REAL count, Shape s) {
    SHARED(REAL, scratch, THREADS);
    const Piece piece(s, scratch, 0);
    const Moments all = channel_moments(piece, x, parts, count);
    if (is_writer(piece)) y[piece.channel] = one_over_std(all, count, eps);
}

// Move the running mean and variance toward those of x. The running variance is the unbiased one:
// `unbiased` is N / (N - 1).
KERNEL running_moments(InOut<REAL> means, InOut<REAL> variances, In<REAL> x, REAL momentum,
                       REAL unbiased, long long means_stride, long long variances_stride,
                       In<REAL> parts, REAL count, Shape s) {
    SHARED(REAL, scratch, THREADS);
    const Piece piece(s, scratch, 0);
    const Moments all = channel_moments(piece, x, parts, count);
    if (!is_writer(piece)) return;
    const long long mean = piece.channel * means_stride,
                    variance = piece.channel * variances_stride;
    means[mean] += momentum * (all.mean - means[mean]);
    variances[variance] += momentum * (all.squares / count * unbiased - variances[variance]);
}

// Compute y = x / max(|x|, eps), by a single block.
KERNEL normalize_vector(Out<REAL> y, In<REAL> x, long long size, long long y_stride, REAL eps) {
    SHARED(REAL, scratch, WARPS);
    REAL squares = 0;
    for (long long i = threadIdx.x; i < size; i += THREADS) {
        const REAL value = x[i];
        squares = fma(value, value, squares);
    }
    for (int offset = 16; offset > 0; offset /= 2)
        squares += __shfl_down_sync(ALL_LANES, squares, offset);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = squares;
    __syncthreads();
    squares = scratch[0];
    for (int w = 1; w < WARPS; ++w) squares += scratch[w];
    const REAL norm = sqrt(squares), divisor = norm < eps ? eps : norm;
    for (long long i = threadIdx.x; i < size; i += THREADS) y[i * y_stride] = x[i] / divisor;
}

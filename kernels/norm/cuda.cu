// Normalisers on a GPU: x of shape (a, m, b), statistics of each m over a and b. With h = (x - mean) r:
//
//   normalize        scale h + shift                      normalize_sums   sum(g), sum(g h)
//   normalize_grad   scale r (g - mean(g) - h mean(g h))  inverse_std      r = 1 / sqrt(variance + eps)
//
// A block takes all of one m, and does the whole of it in one launch: its THREADS threads walk it once
// for the mean, once for the squared distances from it, and once to write what is asked for. From the
// second time on it is in cache. (The mean of the squares less the square of the mean would save a walk,
// and with it all digits where the mean is large.)
//
//            b = 49               The threads are L to a row of b numbers, L a power of two that
//        m  +------+              just reaches, and THREADS / L rows go at once: so a warp reads
//        |  |//////|  row 0       neighbours.
//        v  |      |
//           +------+              Where b is small, 1 in a batch norm between dense layers, a row is
//           |//////|  row 1       too short for that. Then a block takes `channels` neighbours in m,
//           |      |              32 numbers side by side, and each thread belongs to one of them.
//
// Few m with many numbers each cannot fill a GPU. Then they are cut into pieces by the shape alone, a
// block each, in two launches: `moments` leaves each piece's mean and sum of squared distances, and
// whoever comes next joins them, in order, and writes its own piece:
//
//     mean = sum n_i mean_i / N        N variance = sum (squares_i + n_i (mean_i - mean)^2)

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr unsigned ALL = 0xffffffffu;

struct Shape {
    long long a, m, b;
    long long channels, lanes;  // of a block; threads along a row
    long long rows, width;      // of a piece
    long long across, pieces;   // pieces side by side, pieces
};

// What one block works on, and its sums.
struct Piece {
    const Shape& s;
    Shared<REAL> joined;  // THREADS numbers
    long long channel;
    long long start, first_row, last_row, first, last;  // of the walk: a row's elements from start on
    bool there;                                         // does the thread belong to a channel?

    __device__ Piece(const Shape& shape, const Shared<REAL>& scratch, long long piece)
        : s(shape), joined(scratch) {
        const long long group = blockIdx.x * s.channels, lane = threadIdx.x % s.lanes;
        const long long wide = (s.m - group < s.channels ? s.m - group : s.channels) * s.b;
        start = group * s.b;
        first_row = piece / s.across * s.rows;
        last_row = first_row + s.rows < s.a ? first_row + s.rows : s.a;
        first = piece % s.across * s.width;
        last = first + s.width < wide ? first + s.width : wide;
        there = s.channels == 1 || lane < wide;
        channel = group + (s.channels > 1 && there ? lane / s.b : 0);
    }

    // f(i) for each place that is this thread's.
    template <class F> __device__ __forceinline__ void each(const F& f) const {
        const int lanes = static_cast<int>(s.lanes), lane = threadIdx.x % lanes;
        const long long row_step = s.m * s.b;
#pragma unroll 1
        for (long long row = first_row + threadIdx.x / lanes; row < last_row; row += THREADS / lanes) {
            const long long end = row * row_step + start + last;
            for (long long i = row * row_step + start + first + lane; i < end; i += lanes) f(i);
        }
    }

    // How many numbers of each channel there are.
    __device__ REAL count() const {
        return static_cast<REAL>((last_row - first_row) * (s.channels == 1 ? last - first : s.b));
    }

    // The sum over the block's threads of the same channel, which all of them get.
    __device__ REAL total(REAL x) const {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        __syncthreads();  // all have used what was joined before
        if (s.channels == 1) {
            for (int far = 16; far > 0; far /= 2) x += __shfl_down_sync(ALL, x, far);
            if (lane == 0) joined[warp] = x;
            __syncthreads();
            x = joined[0];
            for (int w = 1; w < WARPS; ++w) x += joined[w];
            return x;
        }
        joined[threadIdx.x] = x;
        __syncthreads();
        for (int far = WARPS / 2; far > 0; far /= 2) {
            if (warp < far) joined[threadIdx.x] += joined[threadIdx.x + 32 * far];
            __syncthreads();
        }
        if (!there) return 0;
        const int b = static_cast<int>(s.b), mine = lane / b * b;
        x = joined[mine];
        for (int j = 1; j < b; ++j) x += joined[mine + j];
        return x;
    }
};

struct Moments {
    REAL mean, squares;  // the sum of squared distances from it
};

// Of this piece alone.
__device__ __forceinline__ Moments own_moments(const Piece& piece, const In<REAL>& x) {
    REAL sum = 0, squares = 0;
    piece.each([&](long long i) { sum += x[i]; });
    const REAL mean = piece.total(sum) / piece.count();
    piece.each([&](long long i) {
        const REAL far = x[i] - mean;
        squares = fma(far, far, squares);
    });
    return {mean, piece.total(squares)};
}

// Of all of the thread's channel; `parts` are what `moments` left, or null.
__device__ __forceinline__ Moments all_moments(const Piece& piece, const In<REAL>& x,
                                               const In<REAL>& parts, REAL count) {
    if (!parts) return own_moments(piece, x);
    const long long step = 3 * piece.s.m;
    REAL sum = 0, squares = 0;
    In<REAL> part = parts + 3 * piece.channel;
    for (long long i = 0; i < piece.s.pieces; ++i) sum = fma(part[i * step], part[i * step + 1], sum);
    const REAL mean = sum / count;
    for (long long i = 0; i < piece.s.pieces; ++i) {
        const REAL far = part[i * step + 1] - mean;
        squares += fma(part[i * step] * far, far, part[i * step + 2]);
    }
    return {mean, squares};
}

// Whether this thread is the one that writes its channel's numbers.
__device__ __forceinline__ bool speaks(const Piece& piece) {
    const long long first = (piece.channel - blockIdx.x * piece.s.channels) * piece.s.b;
    return piece.there && threadIdx.x == (piece.s.channels == 1 ? 0 : first);
}

__device__ __forceinline__ REAL one_over_std(const Moments& all, REAL count, REAL eps) {
    return 1 / sqrt(all.squares / count + eps);
}

// Four blocks at least share a multiprocessor: 64 registers a thread, all of whose variables fit in them.
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 4)

// Each piece's count, mean and squared distances: parts (pieces, m, 3).
KERNEL moments(Out<REAL> parts, In<REAL> x, Shape s) {
    SHARED(REAL, joined, THREADS);
    const Piece piece(s, joined, blockIdx.y);
    const Moments own = own_moments(piece, x);
    if (!speaks(piece)) return;
    const long long first = 3 * (blockIdx.y * s.m + piece.channel);
    parts[first] = piece.count();
    parts[first + 1] = own.mean;
    parts[first + 2] = own.squares;
}

// A row (m,), or where that is null one number for all.
__device__ __forceinline__ REAL number(const In<REAL>& row, REAL otherwise, const Piece& piece) {
    return row ? static_cast<REAL>(row[piece.channel]) : otherwise;
}

KERNEL normalize(Out<REAL> y, In<REAL> x, In<REAL> scales, REAL scale, In<REAL> shifts, REAL shift,
                 REAL eps, In<REAL> parts, REAL count, Shape s) {
    SHARED(REAL, joined, THREADS);
    const Piece piece(s, joined, blockIdx.y);
    const Moments all = all_moments(piece, x, parts, count);
    const REAL r = one_over_std(all, count, eps);
    scale = number(scales, scale, piece);
    shift = number(shifts, shift, piece);
    piece.each([=](long long i) { y[i] = scale * ((x[i] - all.mean) * r) + shift; });
}

// sum(g) and sum(g h) over this piece, the mean and r being known.
struct Sums {
    REAL g, gh;
};
__device__ __forceinline__ Sums own_sums(const Piece& piece, const In<REAL>& g, const In<REAL>& x,
                                         REAL mean, REAL r) {
    REAL sum = 0, product = 0;
    piece.each([&](long long i) {
        const REAL at = g[i];
        sum += at;
        product = fma(at, (x[i] - mean) * r, product);
    });
    sum = piece.total(sum);
    return {sum, piece.total(product)};
}

// Of each piece: (pieces, 2, m).
KERNEL normalize_sums(Out<REAL> sums, In<REAL> g, In<REAL> x, REAL eps, In<REAL> parts, REAL count,
                      Shape s) {
    SHARED(REAL, joined, THREADS);
    const Piece piece(s, joined, blockIdx.y);
    const Moments all = all_moments(piece, x, parts, count);
    const Sums own = own_sums(piece, g, x, all.mean, one_over_std(all, count, eps));
    if (speaks(piece)) {
        sums[2 * blockIdx.y * s.m + piece.channel] = own.g;
        sums[(2 * blockIdx.y + 1) * s.m + piece.channel] = own.gh;
    }
}

// `sums` (2, m) are what normalize_sums left, where there are pieces; else null.
KERNEL normalize_grad(Out<REAL> y, In<REAL> g, In<REAL> x, In<REAL> scales, REAL scale, REAL eps,
                      In<REAL> parts, In<REAL> sums, REAL count, Shape s) {
    SHARED(REAL, joined, THREADS);
    const Piece piece(s, joined, blockIdx.y);
    const Moments all = all_moments(piece, x, parts, count);
    const REAL r = one_over_std(all, count, eps);
    Sums of_g;
    if (sums)
        of_g = {sums[piece.channel], sums[s.m + piece.channel]};
    else
        of_g = own_sums(piece, g, x, all.mean, r);
    const REAL factor = number(scales, scale, piece) * r;
    const REAL mean_g = of_g.g / count, mean_gh = of_g.gh / count;
    piece.each([&](long long i) {
        y[i] = factor * (g[i] - mean_g - (x[i] - all.mean) * r * mean_gh);
    });
}

// Of what follows a block each writes only one number, or two, per channel: no pieces are written.
KERNEL inverse_std(Out<REAL> y, In<REAL> x, REAL eps, In<REAL> parts, REAL count, Shape s) {
    SHARED(REAL, joined, THREADS);
    const Piece piece(s, joined, 0);
    const Moments all = all_moments(piece, x, parts, count);
    if (speaks(piece)) y[piece.channel] = one_over_std(all, count, eps);
}

// The variance that is kept is the unbiased one: `unbiased` is N / (N - 1).
KERNEL running_moments(InOut<REAL> means, InOut<REAL> variances, In<REAL> x, REAL momentum, REAL unbiased,
                       long long means_step, long long variances_step, In<REAL> parts, REAL count,
                       Shape s) {
    SHARED(REAL, joined, THREADS);
    const Piece piece(s, joined, 0);
    const Moments all = all_moments(piece, x, parts, count);
    if (!speaks(piece)) return;
    const long long mean = piece.channel * means_step, variance = piece.channel * variances_step;
    means[mean] += momentum * (all.mean - means[mean]);
    variances[variance] += momentum * (all.squares / count * unbiased - variances[variance]);
}

// y = x / max(|x|, eps), by one block.
KERNEL unit(Out<REAL> y, In<REAL> x, long long size, long long y_step, REAL eps) {
    SHARED(REAL, joined, WARPS);
    REAL squares = 0;
    for (long long i = threadIdx.x; i < size; i += THREADS) {
        const REAL at = x[i];
        squares = fma(at, at, squares);
    }
    for (int far = 16; far > 0; far /= 2) squares += __shfl_down_sync(ALL, squares, far);
    if (threadIdx.x % 32 == 0) joined[threadIdx.x / 32] = squares;
    __syncthreads();
    squares = joined[0];
    for (int w = 1; w < WARPS; ++w) squares += joined[w];
    const REAL norm = sqrt(squares), divisor = norm < eps ? eps : norm;
    for (long long i = threadIdx.x; i < size; i += THREADS) y[i * y_step] = x[i] / divisor;
}

// C = A @ B (+ bias) on a GPU: the top rung of `optimization_steps.cu`, for any strides and any sizes.
//
//            BN                   A block of threads makes a BM x BN tile of C. It walks K in steps of
//        +--------+  BK           BK: the step's slices of A and B go through shared memory, where each
//        | B      |               element is used BN, or BM, times.
//        +--------+               A thread holds TM x TN sums in registers, so of each element that it
//     BK                          reads from shared memory it makes TN, or TM, multiply-adds.
//   +----+--------+
//   | A  | C      | BM            While one slice is used, the next one is on its way from memory into
//   +----+--------+               registers, and then goes into the other of two buffers: one barrier a
//                                 step. Memory and shared memory are read 16 bytes at a time.
//
// Few tiles cannot fill a GPU. Then K is split among blocks, each writes its partial sums, and
// `join_splits` adds them in order. How K is split follows from the shape alone, and each element is
// one chain of fused multiply-adds per split: the bits are the same on every GPU.

constexpr int GROUP = 4;  // neighbouring elements that a thread reads from shared memory at once
constexpr int LANES = 16 / sizeof(REAL);

// How one operand lies: X[i, p] = x[i * row + p * step], for i < rows. A is X as it is; for B, i
// counts columns, so that both are read by the same code. `along_k` says which neighbours the threads
// of a warp take, those in p or those in i; `wide`, that they take them 16 bytes at a time.
struct Operand {
    long long row, step, rows;
    int along_k, wide;
};

// A slice of an operand: WIDTH rows, BK deep, on its way to shared memory as tile[p][i]. A thread
// takes elements (or packs of them) at equal distances, whose places follow from the first one's.
template <int WIDTH, int BK, int THREADS> struct Slice {
    static constexpr int STRIDE = WIDTH + GROUP;  // in other banks than the row before
    static constexpr int MINE = WIDTH * BK / THREADS, PACKS = MINE / LANES;
    static_assert(MINE % LANES == 0 && THREADS % WIDTH == 0 && THREADS % BK == 0,
                  "each thread takes whole packs, at equal distances along one axis");
    REAL values[MINE];
    int i, d, i_jump, d_jump;  // the first element's place in the slice, and the way to the next
    long long at, jump;        // the same in memory

    __device__ __forceinline__ Slice(const Operand& o, long long first, long long p) {
        const int size = o.wide ? LANES : 1, t = threadIdx.x * size;
        i = o.along_k ? t / BK : t % WIDTH;
        d = o.along_k ? t % BK : t / WIDTH;
        i_jump = o.along_k ? THREADS * size / BK : 0;
        d_jump = o.along_k ? 0 : THREADS * size / WIDTH;
        at = (first + i) * o.row + (p + d) * o.step;
        jump = i_jump * o.row + d_jump * o.step;
    }

    // The next slice, of which `high` rows and `deep` steps are there; zeros beyond. Then on by BK.
    __device__ __forceinline__ void fetch(const In<REAL>& x, const Operand& o, int high, int deep) {
        if (o.wide) {
#pragma unroll
            for (int j = 0; j < PACKS; ++j) {
                const int row = i + j * i_jump, step = d + j * d_jump;
                const int room = row >= high || step >= deep ? 0 : o.along_k ? deep - step : high - row;
                const In<REAL> from = x + (at + j * jump);
                Pack<REAL, LANES> pack = {};
                if (room >= LANES) {
                    pack = load<LANES>(from, 0);
                } else {
#pragma unroll
                    for (int l = 0; l < LANES; ++l)
                        if (l < room) pack.at[l] = from[l];
                }
#pragma unroll
                for (int l = 0; l < LANES; ++l) values[j * LANES + l] = pack.at[l];
            }
        } else {
#pragma unroll
            for (int j = 0; j < MINE; ++j) {
                const bool there = i + j * i_jump < high && d + j * d_jump < deep;
                values[j] = there ? static_cast<REAL>(x[at + j * jump]) : REAL(0);
            }
        }
        at += BK * o.step;
    }

    __device__ __forceinline__ void put(const Shared<REAL>& tile, const Operand& o) const {
        if (o.wide && !o.along_k) {
#pragma unroll
            for (int j = 0; j < PACKS; ++j) {
                Pack<REAL, LANES> pack;
#pragma unroll
                for (int l = 0; l < LANES; ++l) pack.at[l] = values[j * LANES + l];
                store<LANES>(tile, ((d + j * d_jump) * STRIDE + i) / LANES, pack);
            }
        } else {
#pragma unroll
            for (int j = 0; j < MINE; ++j) {
                const int taken = o.wide ? j / LANES : j, l = o.wide ? j % LANES : 0;
                tile[(d + taken * d_jump + l) * STRIDE + i + taken * i_jump] = values[j];
            }
        }
    }
};

// Everything about a product but its arrays. Matrix z of the batch begins where `batch` says.
struct Product {
    long long m, n, k, depth;  // depth: of a split
    Operand a, b;
    long long first_matrix;
    Walk<2> batch;
};

template <int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void multiply(const In<REAL>& a0, const In<REAL>& b0, const Out<REAL>& c,
                                         const In<REAL>& bias, const Product& s) {
    constexpr int THREADS = (BM / TM) * (BN / TN);
    using SliceA = Slice<BM, BK, THREADS>;
    using SliceB = Slice<BN, BK, THREADS>;
    constexpr int SIZE_A = BK * SliceA::STRIDE, SIZE_B = BK * SliceB::STRIDE;
    SHARED(REAL, tiles_a, 2 * SIZE_A);
    SHARED(REAL, tiles_b, 2 * SIZE_B);

    const long long wide = (s.n + BN - 1) / BN;
    const long long row = blockIdx.x / wide * BM, column = blockIdx.x % wide * BN;
    const long long begin = blockIdx.y * s.depth, end = begin + s.depth < s.k ? begin + s.depth : s.k;
    const long long matrix = s.first_matrix + blockIdx.z;
    long long starts[2];
    s.batch.locate(matrix, starts);
    const In<REAL> a = a0 + starts[0], b = b0 + starts[1];

    // The 32 threads of a warp cover 4 x 8 thread tiles: 4 + 8 groups are read for 32 products. A
    // thread's TM rows are groups of 4, BM / (TM / 4) apart, so that a warp's groups are neighbours.
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    constexpr int WARPS_WIDE = BN / TN / 8;
    const int ty = warp / WARPS_WIDE * 4 + lane / 8, tx = warp % WARPS_WIDE * 8 + lane % 8;
    constexpr int SPREAD_M = BM / (TM / GROUP), SPREAD_N = BN / (TN / GROUP);

    REAL sums[TM][TN];
#pragma unroll
    for (int i = 0; i < TM * TN; ++i) sums[i / TN][i % TN] = REAL(0);

    const int high = static_cast<int>(min(static_cast<long long>(BM), s.m - row));
    const int wide_here = static_cast<int>(min(static_cast<long long>(BN), s.n - column));
    SliceA slice_a(s.a, row, begin);
    SliceB slice_b(s.b, column, begin);
    int left = static_cast<int>(end - begin);  // of this split's depth
    slice_a.fetch(a, s.a, high, left);
    slice_b.fetch(b, s.b, wide_here, left);
    int buffer = 0;
    for (; left > 0; left -= BK) {
        const Shared<REAL> tile_a = tiles_a + buffer * SIZE_A, tile_b = tiles_b + buffer * SIZE_B;
        slice_a.put(tile_a, s.a);
        slice_b.put(tile_b, s.b);
        __syncthreads();  // also: nobody reads this buffer's slice before last any more
        if (left > BK) {
            slice_a.fetch(a, s.a, high, left - BK);
            slice_b.fetch(b, s.b, wide_here, left - BK);
        }
#pragma unroll
        for (int q = 0; q < BK; ++q) {
            REAL x[TM], y[TN];
#pragma unroll
            for (int g = 0; g < TM / GROUP; ++g) {
                const auto group = load<GROUP>(tile_a, (q * SliceA::STRIDE + g * SPREAD_M) / GROUP + ty);
#pragma unroll
                for (int i = 0; i < GROUP; ++i) x[g * GROUP + i] = group.at[i];
            }
#pragma unroll
            for (int g = 0; g < TN / GROUP; ++g) {
                const auto group = load<GROUP>(tile_b, (q * SliceB::STRIDE + g * SPREAD_N) / GROUP + tx);
#pragma unroll
                for (int j = 0; j < GROUP; ++j) y[g * GROUP + j] = group.at[j];
            }
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] = fma(x[i], y[j], sums[i][j]);
        }
        buffer ^= 1;
    }

    // C is (splits, matrices, m, n); with one split this is the result.
    const long long start = (blockIdx.y * s.batch.size + matrix) * s.m * s.n;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const long long r = row + i / GROUP * SPREAD_M + ty * GROUP + i % GROUP;
#pragma unroll
        for (int g = 0; g < TN / GROUP; ++g) {
            const long long q = column + g * SPREAD_N + tx * GROUP, at = start + r * s.n + q;
            Pack<REAL, GROUP> out;
#pragma unroll
            for (int j = 0; j < GROUP; ++j) {
                out.at[j] = sums[i][g * GROUP + j];
                if (bias && q + j < s.n) out.at[j] = out.at[j] + bias[q + j];
            }
            if (r < s.m && q + GROUP <= s.n && s.n % GROUP == 0) {
                store<GROUP>(c, at / GROUP, out);
            } else {
#pragma unroll
                for (int j = 0; j < GROUP; ++j)
                    if (r < s.m && q + j < s.n) c[at + j] = out.at[j];
            }
        }
    }
}

// BLOCKS at least share a multiprocessor, which bounds the registers of a thread: 128 in float.
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

// y[i] = partial[0, i] + partial[1, i] + ... (+ bias), in this order; a thread per element.
extern "C" __global__ void __launch_bounds__(256)
    join_splits(Out<REAL> y, In<REAL> partial, In<REAL> bias, long long splits, long long size,
                long long n) {
    const long long i = global_thread();
    if (i >= size) return;
    REAL total = partial[i];
    for (long long split = 1; split < splits; ++split) total += partial[split * size + i];
    if (bias) total += bias[i % n];
    y[i] = total;
}

// y[r, q] = bias[q], or 0: a product over k = 0.
extern "C" __global__ void __launch_bounds__(256)
    no_product(Out<REAL> y, In<REAL> bias, long long size, long long n) {
    const long long i = global_thread();
    if (i >= size) return;
    y[i] = REAL(0);
    if (bias) y[i] = bias[i % n];
}

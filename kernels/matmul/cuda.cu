// C = A @ B (+ bias) on a GPU: the top rung of `ladder.cu`, for any strides and any sizes.
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
// counts columns, so that both are read by the same code.
struct Operand {
    long long row, step, rows;
    int path;  // 1: neighbours in p, 16 bytes at a time; 2: neighbours in i; 0: element by element
};

// A slice of an operand: WIDTH rows, BK deep, on its way to shared memory as tile[p][i].
template <int WIDTH, int BK, int THREADS> struct Slice {
    static constexpr int STRIDE = WIDTH + GROUP;  // in other banks than the row before
    static constexpr int MINE = WIDTH * BK / THREADS, PACKS = MINE / LANES;
    static_assert(MINE % LANES == 0, "each thread moves whole packs");
    REAL values[MINE];

    // Elements [first, first + WIDTH) x [p, p + BK); zeros outside `rows` and `last`.
    __device__ __forceinline__ void fetch(const In<REAL>& x, const Operand& o, long long first, long long p,
                          long long last) {
        const int t = threadIdx.x;
        if (o.path == 1) {
            for (int j = 0; j < PACKS; ++j) {
                const int at = (t + j * THREADS) * LANES, deep = at % BK;
                const long long i = first + at / BK;
                fetch_pack(x, j, i * o.row + p + deep, i < o.rows, last - p - deep);
            }
        } else if (o.path == 2) {
            for (int j = 0; j < PACKS; ++j) {
                const int at = (t + j * THREADS) * LANES, deep = at / WIDTH;
                const long long i = first + at % WIDTH;
                fetch_pack(x, j, i + (p + deep) * o.step, p + deep < last, o.rows - i);
            }
        } else {
            // Neighbouring threads along whichever axis lies denser.
            const bool along_k = o.step < o.row;
            for (int j = 0; j < MINE; ++j) {
                const int at = t + j * THREADS;
                const long long i = first + (along_k ? at / BK : at % WIDTH);
                const long long q = p + (along_k ? at % BK : at / WIDTH);
                values[j] = i < o.rows && q < last ? static_cast<REAL>(x[i * o.row + q * o.step]) : REAL(0);
            }
        }
    }

    // LANES elements from `at` on, of which `room` are there.
    __device__ __forceinline__ void fetch_pack(const In<REAL>& x, int j, long long at, bool any, long long room) {
        if (any && room >= LANES) {
            const Pack<REAL, LANES> pack = load<LANES>(x, at / LANES);
            for (int l = 0; l < LANES; ++l) values[j * LANES + l] = pack.at[l];
        } else {
            for (int l = 0; l < LANES; ++l)
                values[j * LANES + l] = any && l < room ? static_cast<REAL>(x[at + l]) : REAL(0);
        }
    }

    __device__ __forceinline__ void put(const Shared<REAL>& tile, const Operand& o) const {
        const int t = threadIdx.x;
        if (o.path == 1) {
            for (int j = 0; j < PACKS; ++j) {
                const int at = (t + j * THREADS) * LANES;
                for (int l = 0; l < LANES; ++l) tile[(at % BK + l) * STRIDE + at / BK] = values[j * LANES + l];
            }
        } else if (o.path == 2) {
            for (int j = 0; j < PACKS; ++j) {
                const int at = (t + j * THREADS) * LANES;
                Pack<REAL, LANES> pack;
                for (int l = 0; l < LANES; ++l) pack.at[l] = values[j * LANES + l];
                store<LANES>(tile, (at / WIDTH * STRIDE + at % WIDTH) / LANES, pack);
            }
        } else {
            const bool along_k = o.step < o.row;
            for (int j = 0; j < MINE; ++j) {
                const int at = t + j * THREADS;
                tile[(along_k ? at % BK : at / WIDTH) * STRIDE + (along_k ? at / BK : at % WIDTH)] = values[j];
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
    for (int i = 0; i < TM; ++i)
        for (int j = 0; j < TN; ++j) sums[i][j] = REAL(0);

    SliceA slice_a;
    SliceB slice_b;
    slice_a.fetch(a, s.a, row, begin, end);
    slice_b.fetch(b, s.b, column, begin, end);
    int buffer = 0;
    for (long long p = begin; p < end; p += BK) {
        const Shared<REAL> tile_a = tiles_a + buffer * SIZE_A, tile_b = tiles_b + buffer * SIZE_B;
        slice_a.put(tile_a, s.a);
        slice_b.put(tile_b, s.b);
        __syncthreads();  // also: nobody reads this buffer's slice before last any more
        if (p + BK < end) {
            slice_a.fetch(a, s.a, row, p + BK, end);
            slice_b.fetch(b, s.b, column, p + BK, end);
        }
        for (int q = 0; q < BK; ++q) {
            REAL x[TM], y[TN];
            for (int g = 0; g < TM / GROUP; ++g) {
                const auto group = load<GROUP>(tile_a, (q * SliceA::STRIDE + g * SPREAD_M) / GROUP + ty);
                for (int i = 0; i < GROUP; ++i) x[g * GROUP + i] = group.at[i];
            }
            for (int g = 0; g < TN / GROUP; ++g) {
                const auto group = load<GROUP>(tile_b, (q * SliceB::STRIDE + g * SPREAD_N) / GROUP + tx);
                for (int j = 0; j < GROUP; ++j) y[g * GROUP + j] = group.at[j];
            }
            for (int i = 0; i < TM; ++i)
                for (int j = 0; j < TN; ++j) sums[i][j] = fma(x[i], y[j], sums[i][j]);
        }
        buffer ^= 1;
    }

    // C is (splits, matrices, m, n); with one split this is the result.
    const long long start = (blockIdx.y * s.batch.size + matrix) * s.m * s.n;
    for (int i = 0; i < TM; ++i) {
        const long long r = row + i / GROUP * SPREAD_M + ty * GROUP + i % GROUP;
        if (r >= s.m) continue;
        for (int g = 0; g < TN / GROUP; ++g) {
            const long long q = column + g * SPREAD_N + tx * GROUP, at = start + r * s.n + q;
            Pack<REAL, GROUP> out;
            for (int j = 0; j < GROUP; ++j) {
                out.at[j] = sums[i][g * GROUP + j];
                if (bias && q + j < s.n) out.at[j] = out.at[j] + bias[q + j];
            }
            if (q + GROUP <= s.n && s.n % GROUP == 0)
                store<GROUP>(c, at / GROUP, out);
            else
                for (int j = 0; j < GROUP && q + j < s.n; ++j) c[at + j] = out.at[j];
        }
    }
}

#define PRODUCT(name, BM, BN, BK, TM, TN)                                                          \
    extern "C" __global__ void __launch_bounds__((BM / TM) * (BN / TN))                            \
        name(In<REAL> a, In<REAL> b, Out<REAL> c, In<REAL> bias, Product product) {                \
        multiply<BM, BN, BK, TM, TN>(a, b, c, bias, product);                                      \
    }
PRODUCT(product_32, 32, 32, 16, 4, 4)
PRODUCT(product_64, 64, 64, 16, 4, 4)
#ifdef REAL_IS_FLOAT32
PRODUCT(product_128, 128, 128, 16, 8, 8)
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

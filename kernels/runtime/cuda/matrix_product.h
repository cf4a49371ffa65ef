// The frame of a tiled matrix product, C = A @ B (+ bias), shared by cuda.cu and tf32.cu of matmul:
// how slices of A and B come to shared memory, the loop over K, split-K, batches, edges, and how C
// is stored. The tile of C in registers, and with it the arithmetic, is a template parameter:
// RegisterTile (register_tile.h), or TensorCoreTile (tf32.cu), which has the same layout in shared
// memory. Include async_copy.h and register_tile.h before.

// How a warp's lanes copy a slice of an operand: 16 bytes each, along the rows; or an element each,
// as neighbours along the rows or along k.
enum Copying { PACKS, ALONG_ROWS, ALONG_K };

// The layout of an operand in memory: X[i, p] = x[i * row_stride + p * k_stride] for i < rows. X is
// A, or B transposed, so that the same code reads both. The host chooses PACKS where the elements
// of a step are contiguous and each step begins at a multiple of 16 bytes.
struct Operand {
    long long row_stride, k_stride, rows;
    int copying, unused;
};

// The copies of a slice of an operand, WIDTH rows and BK steps, from global to shared memory, where
// it is stored as tile[p][i]. Each thread copies elements (or Packs) at equal distances along both
// axes.
template <int WIDTH, int BK, int THREADS> struct Slice {
    static constexpr int STRIDE = WIDTH + GROUP;  // as in RegisterTile
    // The threads side by side along the rows and along k.
    static constexpr int PACKS_ACROSS = WIDTH / PACK_SIZE, ACROSS = THREADS / 8, DOWN = 8;
    static_assert(THREADS % PACKS_ACROSS == 0 && WIDTH % ACROSS == 0 && BK % DOWN == 0,
                  "the threads divide a slice evenly");
    static_assert(ACROSS == 8 || ACROSS == 16 || ACROSS == 32, "of a warp or a part of it");

    // Return the row, and the step, of the thread's first element in the slice. Steps are 4 banks
    // apart (modulo 32), so a warp whose lanes are 8 or 16 abreast takes steps 2 or 4 apart: all of
    // its elements are in different banks.
    static __device__ __forceinline__ int first_row(const Operand& x) {
        const int t = threadIdx.x;
        return x.copying == PACKS     ? t % PACKS_ACROSS * PACK_SIZE
               : x.copying == ALONG_K ? t / DOWN
                                      : t % ACROSS;
    }
    static __device__ __forceinline__ int first_step(const Operand& x) {
        const int t = threadIdx.x;
        return x.copying == PACKS     ? t / PACKS_ACROSS
               : x.copying == ALONG_K ? t % DOWN
                                      : t % 32 / ACROSS * (ACROSS / 4) + t / 32;
    }
    static __device__ __forceinline__ int first_position(const Operand& x) {
        return first_step(x) * STRIDE + first_row(x);
    }
    static __device__ __forceinline__ long long first_offset(const Operand& x, long long row,
                                                             long long step) {
        return (row + first_row(x)) * x.row_stride + (step + first_step(x)) * x.k_stride;
    }

    // Start to copy a slice, of which `rows` rows and `depth` steps exist; the rest becomes 0. `to`
    // and `from` are at the thread's first element.
    template <class Copies>
    static __device__ __forceinline__ void start(Copies& copies, const Shared<REAL>& to,
                                                 const In<REAL>& from, const Operand& x, int rows,
                                                 int depth) {
        if (rows >= WIDTH && depth >= BK)
            start<true>(copies, to, from, x, WIDTH, BK);
        else
            start<false>(copies, to, from, x, rows - first_row(x), depth - first_step(x));
    }

private:
    template <bool WHOLE, class Copies>
    static __device__ __forceinline__ void start(Copies& copies, const Shared<REAL>& to,
                                                 const In<REAL>& from, const Operand& x, int rows,
                                                 int depth) {
        if (x.copying == PACKS)
            start<WHOLE, PACK_SIZE, WIDTH, THREADS / PACKS_ACROSS>(copies, to, from, x, rows,
                                                                   depth);
        else
            start<WHOLE, 1, ACROSS, DOWN>(copies, to, from, x, rows, depth);
    }
    template <bool WHOLE, int SIZE, int ROW_DISTANCE, int K_DISTANCE, class Copies>
    static __device__ __forceinline__ void start(Copies& copies, const Shared<REAL>& to,
                                                 const In<REAL>& from, const Operand& x, int rows,
                                                 int depth) {
#pragma unroll
        for (int i = 0; i < WIDTH; i += ROW_DISTANCE)
#pragma unroll
            for (int p = 0; p < BK; p += K_DISTANCE) {
                const int exist = WHOLE ? SIZE : p < depth ? rows - i : 0;
                copies.template start<SIZE>(to + (p * STRIDE + i),
                                            from + (i * x.row_stride + p * x.k_stride), exist);
            }
    }
};

// A product without its arrays' addresses; `Product` of cuda.py.
struct Product {
    long long m, n, k;
    long long split_depth;  // steps of k per split
    Operand a, b;
    long long first_matrix;  // of this launch, in the batch
    StridedLayout<2> batch;  // where each matrix of A and of B begins
};

// Compute one tile of C, BM x BN. `Tile` holds it in the registers of its THREADS threads, TM x TN
// elements each; the `sums` of a row are neighbours in C by groups of ADJACENT.
template <int BM, int BN, int BK, int TM, int TN, class Tile>
__device__ __forceinline__ void multiply(const In<REAL>& a0, const In<REAL>& b0, const Out<REAL>& c,
                                         const In<REAL>& bias, const Product& s) {
    SHARED(REAL, tiles_a, 2 * Tile::SIZE_A);
    SHARED(REAL, tiles_b, 2 * Tile::SIZE_B);

    const long long tiles_per_row = (s.n + BN - 1) / BN;
    const long long row = blockIdx.x / tiles_per_row * BM, column = blockIdx.x % tiles_per_row * BN;
    const long long begin = blockIdx.y * s.split_depth;
    const long long end = begin + s.split_depth < s.k ? begin + s.split_depth : s.k;
    const long long matrix = s.first_matrix + blockIdx.z;
    long long starts[2];
    s.batch.locate(matrix, starts);

    using SliceA = Slice<BM, BK, Tile::THREADS>;
    using SliceB = Slice<BN, BK, Tile::THREADS>;
    AsyncCopies<REAL, (BM + BN) * BK / Tile::THREADS> copies;
    const int rows = static_cast<int>(min(static_cast<long long>(BM), s.m - row));
    const int columns = static_cast<int>(min(static_cast<long long>(BN), s.n - column));
    int left = static_cast<int>(end - begin);  // steps of this split
    In<REAL> from_a = a0 + (starts[0] + SliceA::first_offset(s.a, row, begin));
    In<REAL> from_b = b0 + (starts[1] + SliceB::first_offset(s.b, column, begin));
    const int position_a = SliceA::first_position(s.a), position_b = SliceB::first_position(s.b);

    Tile tile;
    int buffer = 0;
    SliceA::start(copies, tiles_a + position_a, from_a, s.a, rows, left);
    SliceB::start(copies, tiles_b + position_b, from_b, s.b, columns, left);
    for (; left > 0; left -= BK) {
        copies.wait();
        // This one barrier also protects the other buffer: all threads have used it.
        __syncthreads();
        const int next = buffer ^ 1;
        if (left > BK) {
            from_a = from_a + BK * s.a.k_stride;
            from_b = from_b + BK * s.b.k_stride;
            SliceA::start(copies, tiles_a + (next * Tile::SIZE_A + position_a), from_a, s.a, rows,
                          left - BK);
            SliceB::start(copies, tiles_b + (next * Tile::SIZE_B + position_b), from_b, s.b,
                          columns, left - BK);
        }
        tile.accumulate(tiles_a + buffer * Tile::SIZE_A, tiles_b + buffer * Tile::SIZE_B);
        buffer = next;
    }

    // c is (splits, matrices, m, n): the result itself if there is one split.
    constexpr int N = Tile::ADJACENT;
    const long long start = (blockIdx.y * s.batch.size + matrix) * s.m * s.n;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const long long r = Tile::row(row, i);
#pragma unroll
        for (int g = 0; g < TN / N; ++g) {
            const long long q = Tile::column(column, g * N), offset = start + r * s.n + q;
            Pack<REAL, N> out;
#pragma unroll
            for (int j = 0; j < N; ++j) {
                out.values[j] = tile.sums[i][g * N + j];
                if (bias && q + j < s.n) out.values[j] = out.values[j] + bias[q + j];
            }
            if (r < s.m && q + N <= s.n && s.n % N == 0) {
                store<N>(c, offset / N, out);
            } else {
#pragma unroll
                for (int j = 0; j < N; ++j)
                    if (r < s.m && q + j < s.n) c[offset + j] = out.values[j];
            }
        }
    }
}

// The compute part of a tiled matrix product, shared by matmul and conv2d: shared-memory tiles,
// 2D register blocking, vectorized shared-memory reads.
//
// A block of threads computes a BM x BN tile of C = A B. For each slice of BK steps along K the
// slices of A and B are in shared memory, both with K as the slow axis: tile_a[k][row],
// tile_b[k][column]. Each thread accumulates TM x TN elements of C in registers: per step it reads
// TM + TN numbers from shared memory for TM * TN multiply-adds.
//
//                  BN                       a thread's elements of the tile, for TM = TN = 8:
//              +--------+  BK                  groups of GROUP = 4 neighbouring rows and columns,
//              | B      |                      BM / (TM / 4) rows and BN / (TN / 4) columns apart
//              +--------+
//        BK                                    ####....####....
//      +----+--------+                         ................
//   BM | A  | C tile |                         ####....####....
//      +----+--------+                         ................
//
// Within a warp, neighbouring threads read neighbouring groups, 16 bytes each in float32, so a
// warp's reads are free of bank conflicts. Rows of the shared tiles are padded by GROUP elements,
// so that stores down a column fall into different banks.

constexpr int GROUP = 4;  // consecutive elements that a thread reads from shared memory at once

// The arrangement of the 32 threads of a warp: 8 threads side by side along one axis of the tile
// and 4 along the other.
enum class WarpShape { ROWS_4_COLUMNS_8, ROWS_8_COLUMNS_4 };

template <int BM, int BN, int BK, int TM, int TN, WarpShape SHAPE> struct RegisterTile {
    static constexpr int THREADS = (BM / TM) * (BN / TN);
    // Elements from one k to the next in the shared tiles, and the size of one tile.
    static constexpr int STRIDE_A = BM + GROUP, STRIDE_B = BN + GROUP;
    static constexpr int SIZE_A = BK * STRIDE_A, SIZE_B = BK * STRIDE_B;
    static constexpr int ADJACENT = GROUP;  // elements of a thread, neighbours in a row of C
    // Elements from one of a thread's groups to its next.
    static constexpr int GROUP_STRIDE_M = BM / (TM / GROUP), GROUP_STRIDE_N = BN / (TN / GROUP);

    REAL sums[TM][TN];

    // Return the thread's first group along the rows, and along the columns. They are computed
    // where they are used: as members they would occupy two registers during the whole sum, and
    // for compute capability 12.0 the compiler then spills.
    static __device__ __forceinline__ int first_group_m() {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        if constexpr (SHAPE == WarpShape::ROWS_4_COLUMNS_8)
            return warp / (BN / TN / 8) * 4 + lane / 8;
        else
            return warp % (BM / TM / 8) * 8 + lane % 8;
    }
    static __device__ __forceinline__ int first_group_n() {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        if constexpr (SHAPE == WarpShape::ROWS_4_COLUMNS_8)
            return warp % (BN / TN / 8) * 8 + lane % 8;
        else
            return warp / (BM / TM / 8) * 4 + lane / 8;
    }

    __device__ __forceinline__ RegisterTile() {
#pragma unroll
        for (int i = 0; i < TM * TN; ++i) sums[i / TN][i % TN] = REAL(0);
    }

    // Add the products of one slice: sums[i][j] += a[k][i] * b[k][j] for k = 0 .. BK - 1, in this
    // order.
    __device__ __forceinline__ void accumulate(const Shared<REAL>& tile_a,
                                               const Shared<REAL>& tile_b) {
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            REAL a[TM], b[TN];
#pragma unroll
            for (int g = 0; g < TM / GROUP; ++g) {
                const int offset = k * STRIDE_A + g * GROUP_STRIDE_M;
                const auto group = load<GROUP>(tile_a, offset / GROUP + first_group_m());
#pragma unroll
                for (int i = 0; i < GROUP; ++i) a[g * GROUP + i] = group.values[i];
            }
#pragma unroll
            for (int g = 0; g < TN / GROUP; ++g) {
                const int offset = k * STRIDE_B + g * GROUP_STRIDE_N;
                const auto group = load<GROUP>(tile_b, offset / GROUP + first_group_n());
#pragma unroll
                for (int j = 0; j < GROUP; ++j) b[g * GROUP + j] = group.values[j];
            }
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] = fma(a[i], b[j], sums[i][j]);
        }
    }

    // Return the row of sums[i][0], and the column of sums[0][j], in the array in which the tile
    // begins at `row` and `column`.
    static __device__ __forceinline__ long long row(long long row, int i) {
        return row + i / GROUP * GROUP_STRIDE_M + first_group_m() * GROUP + i % GROUP;
    }
    static __device__ __forceinline__ long long column(long long column, int j) {
        return column + j / GROUP * GROUP_STRIDE_N + first_group_n() * GROUP + j % GROUP;
    }
};

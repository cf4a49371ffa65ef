// C = A @ B (+ bias) by tensor cores: float32 operands, rounded to TF32, and sums in float32.
//
// Computes: C[z] = tf32(A[z]) @ tf32(B[z]) + bias, A (m, k), B (k, n), C (m, n) contiguous.
// Launch: as cuda.cu, blocks of (BM / WM) * (BN / WN) warps. Compute capability 8.0 or newer.
//
// Slices, double buffering, edges and split-K are those of cuda.cu (matrix_product.h), and so is
// the layout in shared memory: tile[k][row]. What changes is the inner loop. A warp computes WM x
// WN of the block's tile by instructions of 16 x 8 x 8 (tensor_cores.h), and a thread holds the
// fragments of its lane.
//
// Fragments without bank conflicts. Which of its 8 steps an instruction calls row t and row t + 4
// of B is free, if A has the same order: here they are the steps 2t and 2t + 1. Rows of a tile in
// shared memory are 4 banks apart (modulo 32), so lane (g, t) reads column g of B from bank 8t + g:
// all lanes from different ones. And which row of C is called row g or g + 8 is free, if C is
// stored accordingly: here they are the rows 2g and 2g + 1, so that a lane loads a0 and a1, and a2
// and a3, together. So each number is loaded into the register in which the instruction takes it.
// (Loads of 16 bytes, four rows of a step, were tried: the compiler then moves most numbers to
// other registers.)
//
// The same bits: each element of C is one chain of instructions, k rising, from 0, in each split.
// What one instruction does inside is the GPU's; between GPUs of different architecture the last
// bits may differ.
//
// Optimizations: those of cuda.cu, and
//   - tensor cores; for 32 instructions a warp's tile of 64 x 64 loads 64 x 8 and 8 x 64 numbers

#include "async_copy.h"
#include "register_tile.h"
#include "matrix_product.h"
#include "tensor_cores.h"

static_assert(sizeof(REAL) == 4, "TF32 is a format for float32 operands");

// A block's tile of C, in fragments. It has the interface and the layout of RegisterTile.
template <int BM, int BN, int BK, int WM, int WN> struct TensorCoreTile {
    static_assert(WM % 16 == 0 && WN % 8 == 0 && BK % 8 == 0, "of whole instructions");
    static constexpr int WARPS_ACROSS = BN / WN, THREADS = BM / WM * WARPS_ACROSS * 32;
    static constexpr int STRIDE_A = BM + GROUP, STRIDE_B = BN + GROUP;
    static_assert(STRIDE_A % 32 == 4 && STRIDE_B % 32 == 4, "no bank conflicts");
    static constexpr int SIZE_A = BK * STRIDE_A, SIZE_B = BK * STRIDE_B;
    static constexpr int TM = WM / 8, TN = WN / 4;  // elements of a thread
    static constexpr int ADJACENT = 2;

    REAL sums[TM][TN];

    // Return the lane's g and t, and where its warp's tile begins in the block's.
    static __device__ __forceinline__ int g() { return threadIdx.x % 32 / 4; }
    static __device__ __forceinline__ int t() { return threadIdx.x % 4; }
    static __device__ __forceinline__ int warp_row() {
        return threadIdx.x / 32 / WARPS_ACROSS * WM;
    }
    static __device__ __forceinline__ int warp_column() {
        return threadIdx.x / 32 % WARPS_ACROSS * WN;
    }

    __device__ __forceinline__ TensorCoreTile() {
#pragma unroll
        for (int i = 0; i < TM * TN; ++i) sums[i / TN][i % TN] = REAL(0);
    }

    // Add the products of one slice, 8 steps at a time.
    __device__ __forceinline__ void accumulate(const Shared<REAL>& tile_a,
                                               const Shared<REAL>& tile_b) {
#pragma unroll
        for (int k = 0; k < BK; k += 8) {
            // a[i][s] is of step 2t + s and of the row of sums[i]; b[j][s] is of the column of
            // which column g of instruction j is.
            Tf32 a[TM][2], b[TN / 2][2];
#pragma unroll
            for (int s = 0; s < 2; ++s) {
                const int step = k + 2 * t() + s;
#pragma unroll
                for (int i = 0; i < TM; i += 2) {
                    const int offset = step * STRIDE_A + warp_row() + i * 8;
                    const auto pair = load<2>(tile_a, offset / 2 + g());
                    a[i][s] = to_tf32(pair.values[0]);
                    a[i + 1][s] = to_tf32(pair.values[1]);
                }
#pragma unroll
                for (int j = 0; j < TN / 2; ++j)
                    b[j][s] = to_tf32(tile_b[step * STRIDE_B + warp_column() + j * 8 + g()]);
            }
#pragma unroll
            for (int i = 0; i < TM; i += 2)
#pragma unroll
                for (int j = 0; j < TN / 2; ++j)
                    mma_sync(sums[i][2 * j], sums[i][2 * j + 1], sums[i + 1][2 * j],
                             sums[i + 1][2 * j + 1], a[i][0], a[i + 1][0], a[i][1], a[i + 1][1],
                             b[j][0], b[j][1]);
        }
    }

    // Return the row of sums[i][0], and the column of sums[0][j], in the array in which the tile
    // begins at `row` and `column`.
    static __device__ __forceinline__ long long row(long long row, int i) {
        return row + warp_row() + i / 2 * 16 + 2 * g() + i % 2;
    }
    static __device__ __forceinline__ long long column(long long column, int j) {
        return column + warp_column() + j / 2 * 8 + 2 * t() + j % 2;
    }
};

// At least BLOCKS blocks fit on a multiprocessor.
#define PRODUCT(name, BM, BN, BK, WM, WN, BLOCKS)                                       \
    extern "C" __global__ void __launch_bounds__((BM / WM) * (BN / WN) * 32, BLOCKS)    \
        name(In<REAL> a, In<REAL> b, Out<REAL> c, In<REAL> bias, Product product) {     \
        using Tile = TensorCoreTile<BM, BN, BK, WM, WN>;                                \
        multiply<BM, BN, BK, Tile::TM, Tile::TN, Tile>(a, b, c, bias, product);         \
    }
PRODUCT(tf32_64, 64, 64, 16, 32, 32, 4)
PRODUCT(tf32_128, 128, 128, 16, 64, 64, 2)

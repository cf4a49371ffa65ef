// L1 distances of all pairs of columns on a GPU, and their derivatives: a (k, c, n), b (k, c, m),
// and d = a[c, i] - b[c, j], for each of k matrices.
//
// Computes: l1_distances        y[i, j] = sum over c of |d|
//           l1_distances_jvp    y[i, j] = sum over c of v[c, i] sign(d)
//           l1_distances_grad   y[c, i] = sum over j of g[i, j] sign(d)
// Launch: one block of 8 warps for each tile of 32 x 32 pairs; for the gradient one for each tile
//     of 32 columns i and ROWS_PER_BLOCK rows of a. The grid is one-dimensional, over all tiles of
//     all matrices.
//
// Distances and JVP. A warp takes ROWS rows of the tile, a thread one column of them. So a warp's
// reads of b and writes to y are contiguous, a[c, i] is one number for the whole warp, and each
// number of b is used for ROWS pairs.
//
// Gradient. A thread takes one column i; its numbers of a and its sums stay in registers. g is read
// in tiles through shared memory, so that global memory is read along the contiguous axis of
// g. Each warp takes every eighth j of a tile, and their sums are added in order.
//
//             g, contiguous along j         tile, rows padded by 1      a thread's steps
//         i   0 1 2 .. 31  j                j   0 1 2 .. 31  i          warp 0: j = 0, 8, 16, 24
//         0   x x x    x   a warp reads     0   x                       warp 1: j = 1, 9, 17, 25
//         1                a row of it      1   x   and writes          ..
//         ..                                ..  x   a column
//
// The order of the additions depends on c, n and m only.
//
// Optimizations:
//   - global memory coalescing
//   - register blocking: ROWS results, or ROWS_PER_BLOCK, per thread
//   - shared-memory tiling of g, padded against bank conflicts

constexpr int TILE = 32, WARPS = 8, ROWS = TILE / WARPS, ROWS_PER_BLOCK = 4;

struct Pairs {
    long long c, n, m;
    // Tiles along n; tiles along m, or for the gradient groups of rows along c.
    long long blocks_down, blocks_across;
    long long g_stride_i, g_stride_j;
};

__device__ __forceinline__ REAL sign(REAL d) {
    return d > 0 ? REAL(1) : d < 0 ? REAL(-1) : d;  // NaN for NaN
}

// The matrix and the tile of a block.
struct BlockIndex {
    long long k, down, across;
    __device__ __forceinline__ explicit BlockIndex(const Pairs& s) {
        const long long line = blockIdx.x / s.blocks_across;
        across = blockIdx.x - line * s.blocks_across;
        k = line / s.blocks_down;
        down = line - k * s.blocks_down;
    }
};

// y[i, j] = sum over p of term(offset of a[p, i], a[p, i] - b[p, j])
template <class F>
__device__ __forceinline__ void pairs(const Out<REAL>& y, const In<REAL>& a, const In<REAL>& b,
                                      const Pairs& s, const F& term) {
    const BlockIndex block(s);
    const long long j = block.across * TILE + threadIdx.x % 32;
    const long long first = block.down * TILE + threadIdx.x / 32 * ROWS;
    if (j >= s.m) return;
    REAL total[ROWS] = {};
    for (long long p = block.k * s.c; p < (block.k + 1) * s.c; ++p) {
        const REAL other = b[p * s.m + j];
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
            if (first + r < s.n)
                total[r] += term(p * s.n + first + r, a[p * s.n + first + r] - other);
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
        if (first + r < s.n) y[(block.k * s.n + first + r) * s.m + j] = total[r];
}

#define KERNEL extern "C" __global__ void __launch_bounds__(32 * WARPS)

KERNEL l1_distances(Out<REAL> y, In<REAL> a, In<REAL> b, Pairs s) {
    pairs(y, a, b, s, [](long long, REAL d) { return d < 0 ? -d : d; });
}

KERNEL l1_distances_jvp(Out<REAL> y, In<REAL> v, In<REAL> a, In<REAL> b, Pairs s) {
    pairs(y, a, b, s, [&](long long i, REAL d) { return v[i] * sign(d); });
}

KERNEL l1_distances_grad(Out<REAL> y, In<REAL> g, In<REAL> a, In<REAL> b, Pairs s) {
    SHARED(REAL, tile, TILE * (TILE + 1));
    SHARED(REAL, warp_sums, WARPS * ROWS_PER_BLOCK * TILE);
    const BlockIndex block(s);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long i = block.down * TILE + lane, first = block.across * ROWS_PER_BLOCK;
    const int count = static_cast<int>(s.c - first < ROWS_PER_BLOCK ? s.c - first : ROWS_PER_BLOCK);
    const long long row = block.k * s.c + first;
    REAL own[ROWS_PER_BLOCK] = {}, total[ROWS_PER_BLOCK] = {};
#pragma unroll
    for (int q = 0; q < ROWS_PER_BLOCK; ++q)
        if (q < count && i < s.n) own[q] = a[(row + q) * s.n + i];

    for (long long start = 0; start < s.m; start += TILE) {
        __syncthreads();  // before the tile is overwritten
        for (int line = warp; line < TILE; line += WARPS) {
            const bool along_j = s.g_stride_j == 1;
            const int x = along_j ? line : lane, z = along_j ? lane : line;
            const long long down = block.down * TILE + x, across = start + z;
            if (down < s.n && across < s.m)
                tile[z * (TILE + 1) + x] =
                    g[block.k * s.n * s.m + down * s.g_stride_i + across * s.g_stride_j];
        }
        __syncthreads();
        for (int z = warp; z < TILE && start + z < s.m && i < s.n; z += WARPS) {
            const REAL factor = tile[z * (TILE + 1) + lane];
#pragma unroll
            for (int q = 0; q < ROWS_PER_BLOCK; ++q)
                if (q < count) total[q] += factor * sign(own[q] - b[(row + q) * s.m + start + z]);
        }
    }
#pragma unroll
    for (int q = 0; q < ROWS_PER_BLOCK; ++q)
        warp_sums[(warp * ROWS_PER_BLOCK + q) * TILE + lane] = total[q];
    __syncthreads();
    if (warp >= count || i >= s.n) return;
    REAL sum = warp_sums[warp * TILE + lane];
    for (int w = 1; w < WARPS; ++w) sum += warp_sums[(w * ROWS_PER_BLOCK + warp) * TILE + lane];
    y[(row + warp) * s.n + i] = sum;
}

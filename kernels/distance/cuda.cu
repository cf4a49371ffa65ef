// L1 distances of all pairs of columns on a GPU: a (k, c, n), b (k, c, m), and d = a[c, i] - b[c, j].
//
//   l1_distances        y[i, j] = sum over c of |d|
//   l1_distances_jvp    y[i, j] = sum over c of v[c, i] sign(d)
//   l1_distances_grad   y[c, i] = sum over j of g[i, j] sign(d)
//
// The first two: a block takes TILE x TILE pairs, a warp ROWS of its rows, a thread a column of them. So
// what a warp reads of b and writes of y are neighbours, a[c, i] is one number for all of a warp, and
// each number of b serves ROWS pairs.
//
// The third: a block takes TILE columns i and CHUNK rows of a, a thread one i, whose numbers of a and
// sums stay in registers. The pairs come by tiles, through shared memory, so that a warp reads
// neighbours of g whether these lie along i or along j. The warps share out a tile's j, and their sums
// are joined in order.
//
//             g, along j                     tile, one row longer        a thread's walk
//         i   0 1 2 .. 31  j                 j   0 1 2 .. 31  i          warp 0: j = 0, 8, 16, 24
//         0   x x x    x   a warp reads      0   x                       warp 1: j = 1, 9, 17, 25
//         1                a row of it       1   x   and writes          ..
//         ..                                 ..  x   a column
//
// Bits follow from c, n and m alone.

constexpr int TILE = 32, WARPS = 8, ROWS = TILE / WARPS, CHUNK = 4;

struct Pairs {
    long long c, n, m;
    long long down, across;  // tiles along n; tiles along m, or chunks along c
    long long row, column;   // g's steps along i and j
};

__device__ __forceinline__ REAL sign(REAL d) {
    return d > 0 ? REAL(1) : d < 0 ? REAL(-1) : d;  // NaN for NaN
}

// What a block works on.
struct Place {
    long long k, down, across;
    __device__ __forceinline__ explicit Place(const Pairs& s) {
        const long long line = blockIdx.x / s.across;
        across = blockIdx.x - line * s.across;
        k = line / s.down;
        down = line - k * s.down;
    }
};

// y[i, j] = sum over p of term(place of a[p, i], a[p, i] - b[p, j])
template <class F>
__device__ __forceinline__ void pairs(const Out<REAL>& y, const In<REAL>& a, const In<REAL>& b,
                                      const Pairs& s, const F& term) {
    const Place at(s);
    const long long j = at.across * TILE + threadIdx.x % 32;
    const long long first = at.down * TILE + threadIdx.x / 32 * ROWS;
    if (j >= s.m) return;
    REAL total[ROWS] = {};
    for (long long p = at.k * s.c; p < (at.k + 1) * s.c; ++p) {
        const REAL other = b[p * s.m + j];
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
            if (first + r < s.n) total[r] += term(p * s.n + first + r, a[p * s.n + first + r] - other);
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
        if (first + r < s.n) y[(at.k * s.n + first + r) * s.m + j] = total[r];
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
    SHARED(REAL, joined, WARPS * CHUNK * TILE);
    const Place at(s);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long i = at.down * TILE + lane, first = at.across * CHUNK;
    const int count = static_cast<int>(s.c - first < CHUNK ? s.c - first : CHUNK);
    const long long row = at.k * s.c + first;
    REAL own[CHUNK] = {}, total[CHUNK] = {};
#pragma unroll
    for (int q = 0; q < CHUNK; ++q)
        if (q < count && i < s.n) own[q] = a[(row + q) * s.n + i];

    for (long long start = 0; start < s.m; start += TILE) {
        __syncthreads();  // all have used the tile before
        for (int line = warp; line < TILE; line += WARPS) {
            const int x = s.column == 1 ? line : lane, z = s.column == 1 ? lane : line;
            const long long down = at.down * TILE + x, across = start + z;
            if (down < s.n && across < s.m)
                tile[z * (TILE + 1) + x] = g[at.k * s.n * s.m + down * s.row + across * s.column];
        }
        __syncthreads();
        for (int z = warp; z < TILE && start + z < s.m && i < s.n; z += WARPS) {
            const REAL factor = tile[z * (TILE + 1) + lane];
#pragma unroll
            for (int q = 0; q < CHUNK; ++q)
                if (q < count) total[q] += factor * sign(own[q] - b[(row + q) * s.m + start + z]);
        }
    }
#pragma unroll
    for (int q = 0; q < CHUNK; ++q) joined[(warp * CHUNK + q) * TILE + lane] = total[q];
    __syncthreads();
    if (warp >= count || i >= s.n) return;
    REAL sum = joined[warp * TILE + lane];
    for (int w = 1; w < WARPS; ++w) sum += joined[(w * CHUNK + warp) * TILE + lane];
    y[(row + warp) * s.n + i] = sum;
}

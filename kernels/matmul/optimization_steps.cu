// C = A @ B on a GPU, one optimization step at a time, from the naive kernel to the one of cuda.cu.
// A is (m, k), B (k, n), C (m, n), all contiguous. The names of the steps are those of SGEMM_CUDA
// (Simon Boehm 2022, "How to Optimize a CUDA Matmul Kernel for cuBLAS-like Performance").
//
// The speed depends on the number of memory accesses, and on which threads make them together. A
// warp is 32 consecutive threads that execute an instruction together. When it accesses global
// memory, the GPU moves sectors of 32 bytes: 4 of them for 32 adjacent floats, but 32 for 32 floats
// that are not adjacent. Shared memory is on the chip and common to a block of threads; it has 32
// banks of 4 bytes, and serves one word from each bank per pass.

// 1. Naive. One thread per element of C, numbered down the columns. The threads of a warp are in
// different rows: each reads its own row of A, and the warp's writes to C have a stride of n.
// Launch: m * n threads in blocks of 256.
extern "C" __global__ void naive(In<REAL> a, In<REAL> b, Out<REAL> c, long long m, long long n,
                                 long long k) {
    const long long row = global_thread() % m, column = global_thread() / m;
    if (column >= n) return;
    REAL sum = 0;
    for (long long p = 0; p < k; ++p) sum = fma(a[row * k + p], b[p * n + column], sum);
    c[row * n + column] = sum;
}

// 2. Global memory coalescing. The threads are numbered along the rows: a warp reads 32 adjacent
// elements of B, and all its threads read the same element of A. Launch: as before.
extern "C" __global__ void global_memory_coalescing(In<REAL> a, In<REAL> b, Out<REAL> c,
                                                    long long m, long long n, long long k) {
    const long long row = global_thread() / n, column = global_thread() % n;
    if (row >= m) return;
    REAL sum = 0;
    for (long long p = 0; p < k; ++p) sum = fma(a[row * k + p], b[p * n + column], sum);
    c[row * n + column] = sum;
}

// 3. Shared-memory tiling. A block computes a 32 x 32 tile of C. It copies 32 x 32 tiles of A and B
// to shared memory, one element of each per thread, and uses each of them 32 times from there.
// Launch: one block of 32 x 32 threads per tile.
extern "C" __global__ void __launch_bounds__(1024)
    shared_memory_tiling(In<REAL> a, In<REAL> b, Out<REAL> c, long long m, long long n,
                         long long k) {
    SHARED(REAL, tile_a, 32 * 32);
    SHARED(REAL, tile_b, 32 * 32);
    const int x = threadIdx.x, y = threadIdx.y;
    const long long row = blockIdx.y * 32LL + y, column = blockIdx.x * 32LL + x;
    REAL sum = 0;
    for (long long p = 0; p < k; p += 32) {
        tile_a[y * 32 + x] = row < m && p + x < k ? static_cast<REAL>(a[row * k + p + x]) : REAL(0);
        tile_b[y * 32 + x] =
            p + y < k && column < n ? static_cast<REAL>(b[(p + y) * n + column]) : REAL(0);
        __syncthreads();  // the tiles are complete
        for (int q = 0; q < 32; ++q) sum = fma(tile_a[y * 32 + q], tile_b[q * 32 + x], sum);
        __syncthreads();  // the tiles may be overwritten
    }
    if (row < m && column < n) c[row * n + column] = sum;
}

// 4. 2D register blocking. A thread computes 4 x 4 elements at distances of 16, so that the threads
// of a warp still read adjacent elements. For 16 multiply-adds it reads 8 numbers from shared
// memory instead of 32.
// Launch: one block of 16 x 16 threads per 64 x 64 tile of C.
extern "C" __global__ void __launch_bounds__(256, 2)
    register_blocking(In<REAL> a, In<REAL> b, Out<REAL> c, long long m, long long n, long long k) {
    SHARED(REAL, tile_a, 64 * 16);
    SHARED(REAL, tile_b, 16 * 64);
    const int x = threadIdx.x, y = threadIdx.y, t = 16 * y + x;
    const long long row = blockIdx.y * 64LL, column = blockIdx.x * 64LL;
    REAL sums[4][4] = {};
    for (long long p = 0; p < k; p += 16) {
#pragma unroll
        for (int e = t; e < 64 * 16; e += 256) {
            const long long i = row + e / 16, q = p + e % 16;
            tile_a[e] = i < m && q < k ? static_cast<REAL>(a[i * k + q]) : REAL(0);
        }
#pragma unroll
        for (int e = t; e < 16 * 64; e += 256) {
            const long long q = p + e / 64, j = column + e % 64;
            tile_b[e] = q < k && j < n ? static_cast<REAL>(b[q * n + j]) : REAL(0);
        }
        __syncthreads();
#pragma unroll
        for (int q = 0; q < 16; ++q) {
            REAL u[4], v[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                u[i] = tile_a[(y + 16 * i) * 16 + q];
                v[i] = tile_b[q * 64 + x + 16 * i];
            }
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i][j] = fma(u[i], v[j], sums[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const long long r = row + y + 16 * i, q = column + x + 16 * j;
            if (r < m && q < n) c[r * n + q] = sums[i][j];
        }
}

// 5. Vectorized access and double buffering: `product_64` of cuda.cu. Both memories are read 16
// bytes at a time; the next slice is loaded while this one is used, so one barrier per slice is
// enough.

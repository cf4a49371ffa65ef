// C = A @ B on a GPU, one idea a rung. A is (m, k), B (k, n), C (m, n), all contiguous.
//
// A warp is 32 neighbouring threads that do one instruction together. Where it goes to memory, the GPU
// moves whole sectors of 32 bytes: four of them serve 32 neighbouring floats, and 32 of them serve
// 32 floats that lie far apart. Memory close to the processor, shared by a block of threads, serves
// one word from each of its 32 banks per pass. So who is whose neighbour decides.

// 1. naive. A thread per element of C, counted down the columns: neighbours in a warp lie in
// different rows, so that each reads its own row of A, and the writes of a warp lie n apart.
extern "C" __global__ void naive(In<REAL> a, In<REAL> b, Out<REAL> c, long long m, long long n, long long k) {
    const long long row = global_thread() % m, column = global_thread() / m;
    if (column >= n) return;
    REAL sum = 0;
    for (long long p = 0; p < k; ++p) sum = fma(a[row * k + p], b[p * n + column], sum);
    c[row * n + column] = sum;
}

// 2. coalesced. Counted along the rows: neighbours read neighbours of B, and share one element of A.
extern "C" __global__ void coalesced(In<REAL> a, In<REAL> b, Out<REAL> c, long long m, long long n, long long k) {
    const long long row = global_thread() / n, column = global_thread() % n;
    if (row >= m) return;
    REAL sum = 0;
    for (long long p = 0; p < k; ++p) sum = fma(a[row * k + p], b[p * n + column], sum);
    c[row * n + column] = sum;
}

// 3. shared tiles. A block of 32 x 32 threads makes a tile of C. It takes A and B 32 deep into shared
// memory, each thread one element of both, and each is then used 32 times from there.
extern "C" __global__ void __launch_bounds__(1024)
    shared_tiles(In<REAL> a, In<REAL> b, Out<REAL> c, long long m, long long n, long long k) {
    SHARED(REAL, tile_a, 32 * 32);
    SHARED(REAL, tile_b, 32 * 32);
    const int x = threadIdx.x, y = threadIdx.y;
    const long long row = blockIdx.y * 32LL + y, column = blockIdx.x * 32LL + x;
    REAL sum = 0;
    for (long long p = 0; p < k; p += 32) {
        tile_a[y * 32 + x] = row < m && p + x < k ? static_cast<REAL>(a[row * k + p + x]) : REAL(0);
        tile_b[y * 32 + x] = p + y < k && column < n ? static_cast<REAL>(b[(p + y) * n + column]) : REAL(0);
        __syncthreads();  // the tiles are whole
        for (int q = 0; q < 32; ++q) sum = fma(tile_a[y * 32 + q], tile_b[q * 32 + x], sum);
        __syncthreads();  // all have used them
    }
    if (row < m && column < n) c[row * n + column] = sum;
}

// 4. register tiles. A thread makes 4 x 4 elements, 16 apart so that a warp's reads stay neighbours. For 16
// multiply-adds it now reads 8 elements from shared memory, not 32. 16 x 16 threads, 64 x 64 of C.
extern "C" __global__ void __launch_bounds__(256, 2)
    register_tiles(In<REAL> a, In<REAL> b, Out<REAL> c, long long m, long long n, long long k) {
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

// 5. `product_64` of cuda.cu: both memories are read 16 bytes at a time, and the next slice is on its
// way while this one is used, so one barrier a slice is enough.

// Kernels as tutorials on CUDA print them: plain pointers, int sizes, __shared__ arrays. The tests
// run them as they are here, launched from Python.
#include <cuda_runtime.h>
#include <stdio.h>

#define TILE 16
#define BLOCK 128
#define RADIUS 3
#define FULL_MASK 0xffffffff

// ---------------------------------------------------------------------------------------- SAXPY
__global__ void saxpy(int n, float a, const float *x, float *y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = a * x[i] + y[i];
    }
}

// The grid may be smaller than the array.
__global__ void saxpy_grid_stride(int n, float a, const float *__restrict__ x, float *__restrict__ y) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) {
        y[i] = fmaf(a, __ldg(&x[i]), y[i]);
    }
}

// Four elements per thread, as float4; one thread does the rest.
__global__ void saxpy_vectorized(int n, float a, const float *x, float *y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n / 4) {
        float4 u = reinterpret_cast<const float4 *>(x)[i];
        float4 v = reinterpret_cast<float4 *>(y)[i];
        v.x += a * u.x;
        v.y += a * u.y;
        v.z += a * u.z;
        v.w += a * u.w;
        reinterpret_cast<float4 *>(y)[i] = v;
    }
    if (i == 0) {
        for (int k = n / 4 * 4; k < n; k++) y[k] += a * x[k];
    }
}

// -------------------------------------------------------------------------------- matrix product
// C = A B, where A is M x K and B is K x N.
__global__ void matmul_naive(const float *A, const float *B, float *C, int M, int N, int K) {
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (row < M && col < N) {
        float sum = 0.0f;
        for (int k = 0; k < K; ++k) {
            sum += A[row * K + k] * B[k * N + col];
        }
        C[row * N + col] = sum;
    }
}

__global__ void matmul_tiled(const float *A, const float *B, float *C, int M, int N, int K) {
    __shared__ float As[TILE][TILE], Bs[TILE][TILE];
    int tx = threadIdx.x, ty = threadIdx.y;
    int row = blockIdx.y * TILE + ty;
    int col = blockIdx.x * TILE + tx;
    float sum = 0.0f;
    for (int t = 0; t < (K + TILE - 1) / TILE; ++t) {
        int a_col = t * TILE + tx;
        int b_row = t * TILE + ty;
        As[ty][tx] = (row < M && a_col < K) ? A[row * K + a_col] : 0.0f;
        Bs[ty][tx] = (b_row < K && col < N) ? B[b_row * N + col] : 0.0f;
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TILE; ++k) {
            sum += As[ty][k] * Bs[k][tx];
        }
        __syncthreads();
    }
    if (row < M && col < N) {
        C[row * N + col] = sum;
    }
}

// ------------------------------------------------------------------------------------- reduction
// One sum per block, by a tree in dynamic shared memory.
__global__ void reduce_tree(const float *in, float *out, unsigned int n) {
    extern __shared__ float sdata[];
    unsigned int tid = threadIdx.x;
    unsigned int i = blockIdx.x * (blockDim.x * 2) + threadIdx.x;
    float value = (i < n) ? in[i] : 0.0f;
    if (i + blockDim.x < n) value += in[i + blockDim.x];
    sdata[tid] = value;
    __syncthreads();
    for (unsigned int s = blockDim.x / 2; s > 0; s >>= 1) {
        if (tid < s) {
            sdata[tid] += sdata[tid + s];
        }
        __syncthreads();
    }
    if (tid == 0) out[blockIdx.x] = sdata[0];
}

template <typename T>
__inline__ __device__ T warp_reduce_sum(T value) {
    for (int offset = warpSize / 2; offset > 0; offset /= 2) {
        value += __shfl_down_sync(FULL_MASK, value, offset);
    }
    return value;
}

__inline__ __device__ float block_reduce_sum(float value) {
    static __shared__ float partial[32];
    int lane = threadIdx.x % warpSize;
    int warp = threadIdx.x / warpSize;
    value = warp_reduce_sum(value);
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    value = (threadIdx.x < blockDim.x / warpSize) ? partial[lane] : 0.0f;
    if (warp == 0) value = warp_reduce_sum(value);
    return value;
}

__global__ void reduce_shuffle(const float *in, float *out, int n) {
    float sum = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) {
        sum += in[i];
    }
    sum = block_reduce_sum(sum);
    if (threadIdx.x == 0) atomicAdd(out, sum);
}

// ------------------------------------------------------------------------------------------ scan
// Inclusive prefix sum of one block (Hillis and Steele), in two buffers.
__global__ void scan_inclusive(const int *in, int *out, int n) {
    extern __shared__ int temp[];
    int tid = threadIdx.x;
    int pout = 0, pin = 1;
    temp[tid] = (tid < n) ? in[tid] : 0;
    __syncthreads();
    for (int offset = 1; offset < blockDim.x; offset *= 2) {
        pout = 1 - pout;
        pin = 1 - pout;
        if (tid >= offset) {
            temp[pout * blockDim.x + tid] = temp[pin * blockDim.x + tid] + temp[pin * blockDim.x + tid - offset];
        } else {
            temp[pout * blockDim.x + tid] = temp[pin * blockDim.x + tid];
        }
        __syncthreads();
    }
    if (tid < n) out[tid] = temp[pout * blockDim.x + tid];
}

// Exclusive prefix sum of one block (Blelloch): up the tree and down again.
__global__ void scan_exclusive(const float *in, float *out, int n) {
    __shared__ float temp[2 * BLOCK];
    int tid = threadIdx.x;
    int offset = 1;
    temp[2 * tid] = (2 * tid < n) ? in[2 * tid] : 0;
    temp[2 * tid + 1] = (2 * tid + 1 < n) ? in[2 * tid + 1] : 0;
    for (int d = BLOCK; d > 0; d >>= 1) {
        __syncthreads();
        if (tid < d) {
            int ai = offset * (2 * tid + 1) - 1;
            int bi = offset * (2 * tid + 2) - 1;
            temp[bi] += temp[ai];
        }
        offset *= 2;
    }
    if (tid == 0) temp[2 * BLOCK - 1] = 0;
    for (int d = 1; d < 2 * BLOCK; d *= 2) {
        offset >>= 1;
        __syncthreads();
        if (tid < d) {
            int ai = offset * (2 * tid + 1) - 1;
            int bi = offset * (2 * tid + 2) - 1;
            float t = temp[ai];
            temp[ai] = temp[bi];
            temp[bi] += t;
        }
    }
    __syncthreads();
    if (2 * tid < n) out[2 * tid] = temp[2 * tid];
    if (2 * tid + 1 < n) out[2 * tid + 1] = temp[2 * tid + 1];
}

// ------------------------------------------------------------------------------------- histogram
__global__ void histogram_global(const unsigned char *data, int size, unsigned int *histo) {
    int i = threadIdx.x + blockIdx.x * blockDim.x;
    int stride = blockDim.x * gridDim.x;
    while (i < size) {
        atomicAdd(&histo[data[i]], 1);
        i += stride;
    }
}

__global__ void histogram_shared(const unsigned char *data, int size, unsigned int *histo) {
    __shared__ unsigned int temp[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) temp[b] = 0;
    __syncthreads();
    int i = threadIdx.x + blockIdx.x * blockDim.x;
    int offset = blockDim.x * gridDim.x;
    while (i < size) {
        atomicAdd(&temp[data[i]], 1);
        i += offset;
    }
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x) atomicAdd(&(histo[b]), temp[b]);
}

// ------------------------------------------------------------------------------------- transpose
#define TILE_DIM 32
#define BLOCK_ROWS 8

__global__ void transpose_naive(float *odata, const float *idata, int width, int height) {
    int x = blockIdx.x * TILE_DIM + threadIdx.x;
    int y = blockIdx.y * TILE_DIM + threadIdx.y;
    for (int j = 0; j < TILE_DIM; j += BLOCK_ROWS) {
        if (x < width && y + j < height) odata[x * height + (y + j)] = idata[(y + j) * width + x];
    }
}

template <int PAD>
__device__ void transpose_through_shared(float *odata, const float *idata, int width, int height) {
    __shared__ float tile[TILE_DIM][TILE_DIM + PAD];
    int x = blockIdx.x * TILE_DIM + threadIdx.x;
    int y = blockIdx.y * TILE_DIM + threadIdx.y;
    for (int j = 0; j < TILE_DIM; j += BLOCK_ROWS) {
        if (x < width && y + j < height) tile[threadIdx.y + j][threadIdx.x] = idata[(y + j) * width + x];
    }
    __syncthreads();
    x = blockIdx.y * TILE_DIM + threadIdx.x;
    y = blockIdx.x * TILE_DIM + threadIdx.y;
    for (int j = 0; j < TILE_DIM; j += BLOCK_ROWS) {
        if (x < height && y + j < width) odata[(y + j) * height + x] = tile[threadIdx.x][threadIdx.y + j];
    }
}

__global__ void transpose_conflicts(float *odata, const float *idata, int width, int height) {
    transpose_through_shared<0>(odata, idata, width, height);
}

__global__ void transpose_padded(float *odata, const float *idata, int width, int height) {
    transpose_through_shared<1>(odata, idata, width, height);
}

// --------------------------------------------------------------------------------------- stencil
__constant__ float c_weights[2 * RADIUS + 1];

__global__ void stencil_1d(const float *in, float *out, int n) {
    __shared__ float temp[BLOCK + 2 * RADIUS];
    int gindex = threadIdx.x + blockIdx.x * blockDim.x;
    int lindex = threadIdx.x + RADIUS;
    temp[lindex] = gindex < n ? in[gindex] : 0.0f;
    if (threadIdx.x < RADIUS) {
        temp[lindex - RADIUS] = gindex >= RADIUS ? in[gindex - RADIUS] : 0.0f;
        temp[lindex + BLOCK] = gindex + BLOCK < n ? in[gindex + BLOCK] : 0.0f;
    }
    __syncthreads();
    if (gindex >= n) return;
    float result = 0.0f;
    for (int offset = -RADIUS; offset <= RADIUS; offset++) {
        result += c_weights[offset + RADIUS] * temp[lindex + offset];
    }
    out[gindex] = result;
}

// The mean of a cell and its four neighbours; zero outside.
__global__ void stencil_2d(const float *in, float *out, int width, int height) {
    __shared__ float tile[TILE + 2][TILE + 2];
    const int x = blockIdx.x * TILE + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
    // Each thread loads one or two elements of the tile with its halo.
    for (int k = threadIdx.y * TILE + threadIdx.x; k < (TILE + 2) * (TILE + 2); k += TILE * TILE) {
        const int gx = (int)(blockIdx.x * TILE) + k % (TILE + 2) - 1;
        const int gy = (int)(blockIdx.y * TILE) + k / (TILE + 2) - 1;
        const bool inside = gx >= 0 && gx < width && gy >= 0 && gy < height;
        tile[k / (TILE + 2)][k % (TILE + 2)] = inside ? in[gy * width + gx] : 0.0f;
    }
    __syncthreads();
    if (x >= width || y >= height) return;
    const int tx = threadIdx.x + 1, ty = threadIdx.y + 1;
    out[y * width + x] = 0.2f * (tile[ty][tx] + tile[ty][tx - 1] + tile[ty][tx + 1] + tile[ty - 1][tx] + tile[ty + 1][tx]);
}

// ------------------------------------------------------------------------- softmax and layer norm
// One block per row.
__global__ void softmax_rows(const float *x, float *y, int cols) {
    __shared__ float buf[BLOCK];
    const float *row = x + blockIdx.x * cols;
    int tid = threadIdx.x;

    float m = -INFINITY;
    for (int i = tid; i < cols; i += BLOCK) m = max(m, row[i]);
    buf[tid] = m;
    __syncthreads();
    for (int s = BLOCK / 2; s > 0; s /= 2) {
        if (tid < s) buf[tid] = fmaxf(buf[tid], buf[tid + s]);
        __syncthreads();
    }
    m = buf[0];
    __syncthreads();

    float sum = 0.0f;
    for (int i = tid; i < cols; i += BLOCK) sum += __expf(row[i] - m);
    buf[tid] = sum;
    __syncthreads();
    for (int s = BLOCK / 2; s > 0; s /= 2) {
        if (tid < s) buf[tid] += buf[tid + s];
        __syncthreads();
    }
    sum = buf[0];
    for (int i = tid; i < cols; i += BLOCK) y[blockIdx.x * cols + i] = __fdividef(__expf(row[i] - m), sum);
}

// One warp per row: blockDim is (32, rows per block).
__global__ void layer_norm(const float *x, const float *gamma, const float *beta, float *y, int rows, int cols, float eps) {
    int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    const float *in = x + (size_t)row * cols;
    float mean = 0.0f, var = 0.0f;
    for (int i = threadIdx.x; i < cols; i += 32) mean += in[i];
    for (int offset = 16; offset > 0; offset >>= 1) mean += __shfl_xor_sync(FULL_MASK, mean, offset);
    mean /= cols;
    for (int i = threadIdx.x; i < cols; i += 32) {
        float d = in[i] - mean;
        var += d * d;
    }
    for (int offset = 16; offset > 0; offset >>= 1) var += __shfl_xor_sync(FULL_MASK, var, offset);
    float inv_std = rsqrtf(var / cols + eps);
    for (int i = threadIdx.x; i < cols; i += 32) {
        y[row * cols + i] = (in[i] - mean) * inv_std * gamma[i] + beta[i];
    }
}

// ---------------------------------------------------------------------------------- bitonic sort
__device__ void swap_if(int &a, int &b, bool ascending) {
    if ((a > b) == ascending) {
        int t = a;
        a = b;
        b = t;
    }
}

// Sort up to blockDim.x numbers; blockDim.x is a power of two.
__global__ void bitonic_sort(int *data, int n) {
    extern __shared__ int shared[];
    unsigned int tid = threadIdx.x;
    shared[tid] = tid < n ? data[tid] : INT_MAX;
    __syncthreads();
    for (unsigned int k = 2; k <= blockDim.x; k *= 2) {
        for (unsigned int j = k / 2; j > 0; j /= 2) {
            unsigned int ixj = tid ^ j;
            if (ixj > tid) swap_if(shared[tid], shared[ixj], (tid & k) == 0);
            __syncthreads();
        }
    }
    if (tid < n) data[tid] = shared[tid];
}

// -------------------------------------------------------------------------------- Monte Carlo pi
__device__ unsigned long long total_hits = 0;

__device__ unsigned int xorshift(unsigned int &state) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

__global__ void monte_carlo_pi(int samples, unsigned int seed) {
    unsigned int state = seed + 7919u * (blockIdx.x * blockDim.x + threadIdx.x) + 1u;
    for (int k = 0; k < 8; ++k) xorshift(state);
    int hits = 0;
    for (int k = 0; k < samples; ++k) {
        float2 point;
        point.x = xorshift(state) * 2.3283064e-10f;
        point.y = xorshift(state) * 2.3283064e-10f;
        if (point.x * point.x + point.y * point.y <= 1.0f) ++hits;
    }
    // One atomic operation per warp.
    for (int offset = 16; offset > 0; offset /= 2) hits += __shfl_down_sync(FULL_MASK, hits, offset);
    if ((threadIdx.x & 31) == 0) atomicAdd(&total_hits, (unsigned long long)hits);
}

// -------------------------------------------------------------------------------- hello, world
__global__ void hello() {
    printf("Hello from block %d, thread %d\n", blockIdx.x, threadIdx.x);
}

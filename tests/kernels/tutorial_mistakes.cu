// The classic mistakes in kernels of tutorials. The line of each is marked with HERE.
#define BLOCK 64
#define FULL_MASK 0xffffffff

__global__ void no_bounds_check(int n, float a, const float *x, float *y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = a * x[i] + y[i];  // HERE
}

__global__ void off_by_one(const float *in, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) out[i] = 2.0f * in[i];  // HERE
}

__global__ void no_syncthreads(const float *in, float *out) {
    __shared__ float tile[BLOCK];
    tile[threadIdx.x] = in[threadIdx.x];
    out[threadIdx.x] = tile[BLOCK - 1 - threadIdx.x];  // HERE
}

__global__ void reduce_without_barrier(const float *in, float *out) {
    extern __shared__ float sdata[];
    unsigned int tid = threadIdx.x;
    sdata[tid] = in[blockIdx.x * blockDim.x + tid];
    __syncthreads();
    for (unsigned int s = blockDim.x / 2; s > 0; s >>= 1) {
        if (tid < s) sdata[tid] += sdata[tid + s];  // HERE
    }
    if (tid == 0) out[blockIdx.x] = sdata[0];
}

__global__ void histogram_without_atomics(const unsigned char *data, int size, unsigned int *histo) {
    int i = threadIdx.x + blockIdx.x * blockDim.x;
    if (i < size) histo[data[i]]++;  // HERE
}

__global__ void sum_of_blocks(const float *in, float *out) {
    if (threadIdx.x == 0) out[0] += in[blockIdx.x];  // HERE
}

__global__ void histogram_not_cleared(const unsigned char *data, unsigned int *histo) {
    __shared__ unsigned int temp[256];
    atomicAdd(&temp[data[threadIdx.x]], 1);  // HERE
    __syncthreads();
    atomicAdd(&histo[threadIdx.x], temp[threadIdx.x]);
}

__global__ void halo_not_loaded(const float *in, float *out) {
    __shared__ float temp[BLOCK + 2];
    temp[threadIdx.x + 1] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = temp[threadIdx.x] + temp[threadIdx.x + 1] + temp[threadIdx.x + 2];  // HERE
}

__global__ void transpose_wrong_row(const float *in, float *out, int n) {
    __shared__ float tile[8][8];
    tile[threadIdx.y][threadIdx.x + 1] = in[threadIdx.y * n + threadIdx.x];  // HERE
    __syncthreads();
    out[threadIdx.x * n + threadIdx.y] = tile[threadIdx.y][threadIdx.x];
}

__global__ void shuffle_in_a_branch(const float *in, float *out) {
    float value = in[threadIdx.x];
    if (threadIdx.x < 16) value += __shfl_down_sync(FULL_MASK, value, 8);
    out[threadIdx.x] = value;
}

__global__ void shuffle_with_wrong_mask(const float *in, float *out) {
    float value = in[threadIdx.x];
    if (threadIdx.x < 16) value += __shfl_down_sync(0x0000ffff, value, 16);
    out[threadIdx.x] = value;
}

__global__ void barrier_in_a_branch(float *out, int n) {
    if (threadIdx.x < n) {
        out[threadIdx.x] = 1.0f;
        __syncthreads();
    }
}

// ---------------------------------------------------------------------------- plain pointers
__device__ float sum_of(const float *values, int count) {
    float sum = 0.0f;
    for (int i = 0; i < count; ++i) sum += values[i];  // HERE in_a_function
    return sum;
}
__global__ void in_a_function(const float *in, float *out) { out[0] = sum_of(in + 60, 5); }

__global__ void through_an_offset(float *out) {
    float *end = out + 64;
    *--out = 1.0f;  // HERE
    *end = 1.0f;
}

__global__ void vector_beyond_the_end(const float *in, float *out) {
    float4 v = reinterpret_cast<const float4 *>(in)[threadIdx.x];  // HERE
    out[threadIdx.x] = v.x + v.y + v.z + v.w;
}

__global__ void vector_misaligned(const float *in, float *out) {
    float2 v = *(const float2 *)(in + 1 + threadIdx.x);  // HERE
    out[threadIdx.x] = v.x;
}

__global__ void pointer_into_shared(float *out) {
    __shared__ float a[BLOCK], b[BLOCK];
    float *p = a;
    b[threadIdx.x] = 0.0f;
    p[threadIdx.x + 1] = 1.0f;  // HERE
    __syncthreads();
    out[threadIdx.x] = a[BLOCK - threadIdx.x];
}

__global__ void pointer_before_shared(float *out) {
    __shared__ float a[BLOCK], b[BLOCK], c[BLOCK];
    float *pointers[3] = {a, b, c};
    for (int k = 0; k < 3; ++k) {
        pointers[k][threadIdx.x] = 0.0f;
        __syncthreads();
        if (threadIdx.x == 0) pointers[k][-1 - (int)out[k]] = 1.0f;  // HERE
        __syncthreads();
    }
}

__global__ void local_array(float *out, int n) {
    float window[4] = {0, 1, 2, 3};
    out[threadIdx.x] = window[n];  // HERE
}

__global__ void copies_too_much(const float *in, float *out, int n) {
    if (threadIdx.x == 0) memcpy(out, in, n * sizeof(float));  // HERE
}

struct Pair {
    float value;
    int index;
};
__global__ void pairs_race(Pair *best) {
    best->index = threadIdx.x;  // HERE
}

__device__ int counter;
__global__ void counter_race() {
    counter += 1;  // HERE
}

__constant__ float weights[4];
__global__ void reads_beyond_constants(float *out, int n) {
    const float *w = weights;
    out[threadIdx.x] = w[n];  // HERE
}

__global__ void divides_by_zero(int *out, int n) {
    out[threadIdx.x] = 7 / n;  // HERE
}

__global__ void fails_an_assertion(const float *in, int n) {
    assert(in[threadIdx.x] < n);
}

__global__ void of_another_thread(float *out) {
    __shared__ float *leader;
    float mine = threadIdx.x;
    if (threadIdx.x == 0) leader = &mine;
    __syncthreads();
    if (threadIdx.x) out[threadIdx.x] = *leader;  // HERE
    __syncthreads();
    out[0] = mine;
}

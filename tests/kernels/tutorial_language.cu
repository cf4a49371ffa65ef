// The parts of CUDA C++ that tutorials use, each with a result that a test knows.
#include <cuda_runtime.h>
#include <math_constants.h>
#include <cstdio>
#include <device_launch_parameters.h>

#define N 4
typedef float real;

__constant__ float initialized[N] = {1.0f, 2.0f, 3.0f, 4.0f};
__device__ int table[2][N];
__shared__ int at_file_scope[64];

template <typename T, int SIZE> __device__ T reversed(const T *in) {
    __shared__ T buffer[SIZE];
    buffer[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    T value = buffer[SIZE - 1 - threadIdx.x];
    __syncthreads();
    return value;
}

// Two instances of a template, several shared arrays, a scalar, a 3-D array.
__global__ void shared_arrays(const float *x, const int *k, float *y) {
    __shared__ float a[8][8], b[8][9];
    __shared__ int count;
    __shared__ __align__(16) volatile unsigned char bytes[2][4][8];
    int t = threadIdx.x;
    if (t == 0) count = 0;
    at_file_scope[t] = t;
    a[t / 8][t % 8] = x[t];
    b[t % 8][t / 8] = x[t];
    bytes[t / 32][t / 8 % 4][t % 8] = t;
    __syncthreads();
    atomicAdd(&count, 1);
    __syncthreads();
    y[t] = a[t % 8][t / 8] - b[t / 8][t % 8] + count + at_file_scope[63 - t] + bytes[0][1][t % 8];
    y[64 + t] = reversed<float, 64>(x) + reversed<int, 64>(k);
}

// Two arrays in one dynamic shared memory.
__global__ void dynamic_arrays(const float *x, float *y, int n) {
    extern __shared__ __align__(16) char memory[];
    float *values = (float *)memory;
    int *order = reinterpret_cast<int *>(&values[n]);
    values[threadIdx.x] = x[threadIdx.x];
    order[threadIdx.x] = n - 1 - threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = values[order[threadIdx.x]];
}

__global__ void coordinates(int *y, dim3 sizes) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int yy = blockIdx.y * blockDim.y + threadIdx.y;
    int z = blockIdx.z * blockDim.z + threadIdx.z;
    y[(z * sizes.y + yy) * sizes.x + x] = x + 100 * yy + 10000 * z;
}

__global__ void votes(unsigned int *y) {
    int t = threadIdx.x;
    unsigned int ballot = __ballot_sync(0xffffffff, t & 1);
    int leader = __ffs(ballot) - 1;
    if (t == 0) {
        y[0] = ballot;
        y[1] = leader;
    }
    int any = __any_sync(0xffffffff, t == 7), all = __all_sync(0xffffffff, t < 31);
    unsigned int equal = __match_any_sync(0xffffffff, t % 8);
    int sum = __reduce_add_sync(0xffffffff, t), most = __reduce_max_sync(0xffffffff, t);
    int count = __syncthreads_count(t < 5), either = __syncthreads_or(t == 31), both = __syncthreads_and(t > 0);
    if (t == 3) {
        y[2] = any;
        y[3] = all;
        y[4] = equal;
        y[5] = sum;
        y[6] = most;
        y[7] = count;
        y[8] = either;
        y[9] = both;
        y[10] = warpSize;
    }
}

__device__ double atomic_add_by_cas(double *address, double value) {
    unsigned long long int *address_as_ull = (unsigned long long int *)address;
    unsigned long long int old = *address_as_ull, assumed;
    do {
        assumed = old;
        old = atomicCAS(address_as_ull, assumed, __double_as_longlong(value + __longlong_as_double(assumed)));
    } while (assumed != old);
    return __longlong_as_double(old);
}

__global__ void atomics(int *y, unsigned int *u, float *f) {
    int t = threadIdx.x;
    atomicAdd(y, 1);
    atomicSub(y + 1, t);
    atomicMin(&y[2], -t);
    atomicMax(&y[3], t);
    atomicCAS(&y[4], 0, t + 1);
    atomicInc(u, 9);
    atomicDec(&u[1], 9);
    atomicExch(&u[2], 5);
    atomicAdd(f, 0.5);
}

__global__ void functions(const float *x, float *y, int n, unsigned int u, size_t s, bool flag, real r, double d) {
    float4 v = make_float4(x[0], x[1], x[2], x[3]);
    float2 w = ((const float2 *)x)[1];
    int i = 0;
    y[i++] = v.x + w.y;
    y[i++] = min(n, 3) + max(u, 2u) + min(n, u) + fminf(x[1], 0.5f) + max(x[1], x[2]);
    y[i++] = __expf(x[0]);
    y[i++] = __fdividef(x[3], x[1]) + __logf(x[0]) + __powf(x[1], 2) + __saturatef(x[3]);
    y[i++] = rsqrtf(x[3]) + sqrtf(x[3]) + __fsqrt_rn(x[3]) + __frcp_rn(x[1]);
    y[i++] = powf(x[1], 3.0f) + floorf(x[0] / 2) + ceilf(x[0] / 2) + fabsf(-x[0]) + roundf(1.5f) + fmodf(5, 3);
    y[i++] = __float2int_rn(2.5f) + __float2int_rz(2.7f) + __int2float_rn(3) + (float)__float_as_int(1.0f);
    y[i++] = __popc(u) + __clz(1) + __ffs(8) + __brev(1u) / 1073741824;
    y[i++] = CUDART_PI_F + (isinf(CUDART_INF_F) ? 1 : 0) + (isnan(NAN) ? 1 : 0) + (FLT_MAX > 1e38f);
    y[i++] = s + flag + r + d;
    y[i++] = initialized[n % N] + __ldg(x + 1) + table[1][2];
    float sine, cosine;
    sincosf(x[0], &sine, &cosine);
    y[i++] = sine * sine + cosine * cosine;
    assert(i == 12);
}

__global__ void doubles(double *sum) { atomicAdd(sum, 1.0); }
__global__ void doubles_by_cas(double *sum) { atomic_add_by_cas(sum, 1.0); }

// Compound assignments and increments of elements, of global and of shared memory.
__device__ void assign_all(int *a) {
    a[0] += 3;
    a[1] -= 3;
    a[2] *= 3;
    a[3] /= 3;
    a[4] %= 3;
    a[5] &= 6;
    a[6] |= 6;
    a[7] ^= 6;
    a[8] <<= 3;
    a[9] >>= 1;
    a[10]++;
    ++a[11];
    a[12]--;
    --*(a + 13);
    int before = a[14]++, after = ++a[15];
    a[16] = before * 1000 + after;
    a[17] = a[18] += a[19];
}
__global__ void assignments(int *y) {
    __shared__ int tile[20];
    for (int i = 0; i < 20; ++i) tile[i] = y[i];
    assign_all(y);
    assign_all(tile);
    for (int i = 0; i < 20; ++i) y[20 + i] = tile[i];
}

// Vectors of 8 and 16 bytes in arrays of numbers, of global and of shared memory.
__global__ void vectors(const float *x, const double *d, int *k, float *y, double *e) {
    __shared__ __align__(16) float tile[256];
    __shared__ double pairs[64];
    int t = threadIdx.x;
    float4 v = reinterpret_cast<const float4 *>(x)[t];
    reinterpret_cast<float4 *>(tile)[t] = make_float4(v.w, v.z, v.y, v.x);
    if (t < 32) reinterpret_cast<double2 *>(pairs)[t] = reinterpret_cast<const double2 *>(d)[t];
    __syncthreads();
    float2 w = ((float2 *)tile)[127 - t];
    float2 *out = (float2 *)y;
    out[t].x = w.y;
    out[t].y = w.x;
    ((float4 *)(y + 128))[t] = *(const float4 *)&tile[4 * (63 - t)];
    int4 *q = (int4 *)k + t;
    q->x += 1;
    q->w = q->x + q->y;
    int2 h = reinterpret_cast<int2 *>(k)[2 * t + 1];
    k[4 * t + 1] = h.x + h.y;
    if (t < 32) {
        double2 both = ((double2 *)pairs)[31 - t];
        e[t] = both.x * 100 + both.y;
    }
}

__global__ void intrinsics(const int *k, const float *x, long long *y, float *z) {
    int i = 0, j = 0, n = k[0];
    y[i++] = __ffs(n);
    y[i++] = __ffs(0);
    y[i++] = __ffsll((long long)n << 32);
    y[i++] = __popc(n);
    y[i++] = __popcll(((long long)n << 32) | 7);
    y[i++] = __clz(n);
    y[i++] = __clz(0);
    y[i++] = __clzll(1LL << 40);
    y[i++] = __brev((unsigned int)n);
    y[i++] = __ldg(k + 1);
    y[i++] = __ldcs(&k[2]) + __ldcg(k + 2) + __ldca(k + 2);
    __stcs(&y[i++], 77LL);
    __stcg(y + i++, 78LL);
    z[j++] = rsqrtf(x[0]);
    z[j++] = __fmaf_rn(x[1], x[1], -x[2]);
    z[j++] = __expf(x[3]);
    z[j++] = __logf(x[0]);
    z[j++] = __fdividef(x[0], x[3]);
}

__global__ void exchanges(unsigned int *u, int *y, float *f, unsigned long long *w) {
    int t = threadIdx.x;
    atomicInc(&u[0], 9u);
    atomicDec(&u[1], 9u);
    unsigned int old = atomicExch(&u[2 + t], (unsigned int)t);
    if (old == 100u + t) atomicAdd(&y[0], 1);
    if (atomicCAS(&y[1], t, t + 1) == t) atomicAdd(&y[2], 1);
    atomicCAS(&y[3], -5, 1);
    atomicExch(f, 2.5f);
    atomicCAS(w, 1ULL << 40, 3ULL);
}

__global__ void counts_of_a_block(int *y, int n) {
    int t = threadIdx.x;
    int count = __syncthreads_count(t < n);
    int both = __syncthreads_and(t < n), either = __syncthreads_or(t == n);
    y[3 * t] = count;
    y[3 * t + 1] = both != 0;
    y[3 * t + 2] = either != 0;
}

__global__ void prints_and_asserts(int n) {
    if (threadIdx.x == 1) printf("thread %d of %u: %5.2f %s\n", threadIdx.x, blockDim.x, 1.5f, "end");
    assert(threadIdx.x < n);
}

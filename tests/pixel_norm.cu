// A block of 128 threads for each row: y = x / sqrt(mean(x^2) + 1e-8).
extern "C" __global__ void pixel_norm(Out<REAL> y, In<REAL> x, long long n) {
    SHARED(REAL, part, 128);  // __shared__ REAL part[128];
    const long long first = blockIdx.x * n;
    REAL sum = 0;
    for (long long j = threadIdx.x; j < n; j += 128) sum += x[first + j] * x[first + j];
    part[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    const REAL scale = REAL(1) / sqrt(part[0] / n + REAL(1e-8));
    for (long long j = threadIdx.x; j < n; j += 128) y[first + j] = x[first + j] * scale;
}

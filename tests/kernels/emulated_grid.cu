// Kernels whose blocks depend on each other, rightly or wrongly; and kernels that do not end.
__device__ unsigned int count = 0;
__device__ unsigned int other_count = 0;

// The position of each block in the order in which they ran.
__global__ void positions(int *next, int *y) {
    int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    if (threadIdx.x == 0) y[b] = atomicAdd(next, 1);
}

// Wrong: a block reads what the block before it has written.
__global__ void running_sum(const float *x, float *y) {
    int b = blockIdx.x;
    y[b] = x[b] + (b ? y[b - 1] : 0.0f);
}

__global__ void fails_in_a_block(int *y) {
    bool is_wrong = blockIdx.x == 2 && blockIdx.y == 1;
    y[blockIdx.x + gridDim.x * blockIdx.y] = 1;
    assert(!is_wrong);
}

// ------------------------------------------------------------------------------------- fences
__device__ float partial_sum(const float *x, int n) {
    __shared__ float tile[64];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = i < n ? x[i] : 0.0f;
    for (int s = 32; s > 0; s >>= 1) {
        __syncthreads();
        if (threadIdx.x < s) tile[threadIdx.x] += tile[threadIdx.x + s];
    }
    return threadIdx.x == 0 ? tile[0] : 0.0f;
}
__device__ void add_partials(const float *partial, float *y) {
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int b = 0; b < gridDim.x; ++b) sum += partial[b];
        y[0] = sum;
        count = 0;
    }
}

// The sum of CUDA's sample threadFenceReduction: the last block to finish adds the partial sums.
template <bool FENCE, bool FENCE_OF_BLOCK>
__device__ void sum_by_last_block(const float *x, float *partial, float *y, int n) {
    __shared__ bool is_last;
    if (FENCE_OF_BLOCK) __threadfence_block();
    float own = partial_sum(x, n);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = own;
        if (FENCE) __threadfence();
        if (FENCE_OF_BLOCK) __threadfence_block();
        unsigned int ticket = atomicInc(&count, gridDim.x);
        is_last = ticket == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last) add_partials(partial, y);
}
__global__ void fence_reduction(const float *x, float *partial, float *y, int n) {
    sum_by_last_block<true, false>(x, partial, y, n);
}
__global__ void without_fence(const float *x, float *partial, float *y, int n) {
    sum_by_last_block<false, false>(x, partial, y, n);
}
__global__ void with_fence_of_block(const float *x, float *partial, float *y, int n) {
    sum_by_last_block<false, true>(x, partial, y, n);
}
// The fence comes before the write that it should release.
__global__ void fence_too_early(const float *x, float *partial, float *y, int n) {
    __shared__ bool is_last;
    float own = partial_sum(x, n);
    if (threadIdx.x == 0) {
        __threadfence();
        partial[blockIdx.x] = own;
        is_last = atomicAdd(&count, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last) add_partials(partial, y);
}
// All threads write; each has a fence, or thread 0 has one behind a barrier.
__global__ void fence_of_each(const float *x, float *y, float *z) {
    __shared__ bool is_last;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = 2.0f * x[i];
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(&count, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!is_last) return;
    for (int b = 0; b < gridDim.x; ++b) z[threadIdx.x] += y[b * blockDim.x + threadIdx.x ^ 1];
    if (threadIdx.x == 0) atomicExch(&count, 0u);
}
__global__ void fence_of_one(const float *x, float *y, float *z) {
    __shared__ bool is_last;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = 2.0f * x[i];
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        is_last = atomicAdd(&count, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last) return;
    for (int b = 0; b < gridDim.x; ++b) z[threadIdx.x] += y[b * blockDim.x + threadIdx.x ^ 1];
    if (threadIdx.x == 0) atomicExch(&count, 0u);
}
// Within a warp a __syncwarp() orders the writes before the fence of lane 0.
__global__ void fence_of_a_lane(const float *x, float *y, float *z) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned int ticket = 0;
    y[i] = 2.0f * x[i];
    __syncwarp();
    if (threadIdx.x == 0) {
        __threadfence();
        ticket = atomicAdd(&count, 1u);
    }
    ticket = __shfl_sync(0xffffffff, ticket, 0);
    __syncwarp();
    if (ticket != gridDim.x - 1) return;
    for (int b = 0; b < gridDim.x; ++b) z[threadIdx.x] += y[b * blockDim.x + threadIdx.x ^ 1];
    if (threadIdx.x == 0) count = 0;
}
// The fence of thread 0 does not order what the other threads write at the same time.
__global__ void fence_of_another(const float *x, float *y, float *z) {
    __shared__ bool is_last;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = 2.0f * x[i];
    if (threadIdx.x == 0) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(&count, 1u) == gridDim.x - 1;
    __syncthreads();
    if (is_last) z[threadIdx.x] = y[threadIdx.x ^ 1];
}
// The reader makes no atomic operation, or one on another counter, or reads before the barrier.
__global__ void reader_without_atomic(float *y, float *z) {
    if (threadIdx.x == 0) {
        y[blockIdx.x] = 1.0f;
        __threadfence();
        if (blockIdx.x < gridDim.x - 1) atomicAdd(&count, 1u);
    }
    __syncthreads();
    if (blockIdx.x == gridDim.x - 1) z[threadIdx.x] = y[0];
}
__global__ void reader_of_another_counter(float *y, float *z) {
    if (threadIdx.x == 0) {
        y[blockIdx.x] = 1.0f;
        __threadfence();
        atomicAdd(blockIdx.x < gridDim.x - 1 ? &count : &other_count, 1u);
    }
    __syncthreads();
    if (blockIdx.x == gridDim.x - 1) z[threadIdx.x] = y[0];
}
__global__ void reader_without_barrier(float *y, float *z) {
    if (threadIdx.x == 0) {
        y[blockIdx.x] = 1.0f;
        __threadfence();
        atomicAdd(&count, 1u);
    }
    if (threadIdx.x == 33 && blockIdx.x == gridDim.x - 1) z[0] = y[0];
}
// A counter in shared memory is another one in each block.
__global__ void counter_in_shared_memory(float *y, float *z) {
    __shared__ unsigned int counter;
    if (threadIdx.x == 0) counter = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
        y[blockIdx.x] = 1.0f;
        __threadfence();
        atomicAdd(&counter, 1u);
    }
    __syncthreads();
    if (blockIdx.x == gridDim.x - 1) z[threadIdx.x] = y[0];
}
// Each block waits for the one before it; blocks are numbered in the order in which they start.
__global__ void chained_sum(const float *x, float *y, unsigned int *started, unsigned int *done) {
    unsigned int b = atomicAdd(started, 1u);
    while (atomicAdd(done, 0u) < b)
        ;
    y[b] = x[b] + (b ? y[b - 1] : 0.0f);
    __threadfence();
    atomicAdd(done, 1u);
}

// ------------------------------------------------------------------------------- without an end
__global__ void waits_for_a_later_block(int *flag, float *y) {
    y[blockIdx.x] = 1.0f;
    if (blockIdx.x == 0)
        while (atomicAdd(flag, 0) == 0)  // HERE waits_for_a_later_block
            ;
    else
        atomicExch(flag, 1);
}
__global__ void loops_for_ever(float *y) {
    y[threadIdx.x] = 1.0f;
    if (threadIdx.x == 3)
        for (;;) y[3] += 1.0f;  // HERE loops_for_ever
}
__global__ void waits_without_access(float *y) {
    y[threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 3)
        for (;;)  // HERE waits_without_access
            ;
}
// Blocks that compute for long, with a result that depends on each step.
__global__ void long_blocks(unsigned int *y, int n) {
    volatile unsigned int own = threadIdx.x + blockIdx.x;
    for (int i = 0; i < n; ++i) {
        own = own * 1664525u + 1013904223u;
        if (i % 16 == 0) y[blockIdx.x * blockDim.x + threadIdx.x] = own;
    }
    y[blockIdx.x * blockDim.x + threadIdx.x] = own;
}

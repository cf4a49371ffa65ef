// Correct kernels, and kernels with planted mistakes, which the checked emulator must tell apart.
// They are launched with 64 threads per block, unless a test says otherwise.

constexpr unsigned ALL_LANES = 0xffffffffu;

// y = x with the elements of each block in reverse order, through shared memory.
extern "C" __global__ void reverse(In<REAL> x, Out<REAL> y, long long n) {
    SHARED(REAL, tile, 64);
    const long long i = global_thread();
    tile[threadIdx.x] = i < n ? x[i] : REAL(0);
    __syncthreads();
    if (i < n) y[i] = tile[63 - threadIdx.x];
}

// ------------------------------------------------------------------------------------- bounds
extern "C" __global__ void reads_beyond(In<REAL> x, Out<REAL> y, long long n) {
    const long long i = global_thread();
    if (i <= n) {
        const REAL value = x[i];
        if (i < n) y[i] = value;
    }
}
extern "C" __global__ void writes_beyond(Out<REAL> y, long long n) {
    const long long i = global_thread();
    if (i <= n) y[i] = 1;
}
extern "C" __global__ void writes_before(Out<REAL> y) { y[static_cast<int>(threadIdx.x) - 1] = 1; }
extern "C" __global__ void beyond_shared(Out<REAL> y) {
    SHARED(REAL, tile, 63);
    tile[threadIdx.x] = 1;
    y[threadIdx.x] = 1;
}
extern "C" __global__ void beyond_dynamic(Out<REAL> y) {
    DYNAMIC_SHARED(REAL, tile);
    tile[threadIdx.x] = 1;
    y[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void packs_beyond(In<REAL> x, Out<REAL> y) {
    store<4>(y, threadIdx.x, load<4>(x, threadIdx.x));
}
extern "C" __global__ void through_null(In<REAL> x, Out<REAL> y) {
    y[threadIdx.x] = x[threadIdx.x];
}

struct Addresses {
    unsigned long long at[2];
};
extern "C" __global__ void by_address(Addresses table, long long n) {
    const auto x = array_at<In<REAL>>(table.at[0]);
    const auto y = array_at<InOut<REAL>>(table.at[1]);
    if (threadIdx.x < n) y[threadIdx.x] += x[threadIdx.x];
}

// ----------------------------------------------------------------------------- uninitialised reads
extern "C" __global__ void half(Out<REAL> y, long long n) {
    const long long i = global_thread();
    if (i < n && i % 2 == 0) y[i] = 1;
}
extern "C" __global__ void half_shared(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    if (threadIdx.x % 2 == 0) tile[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void copy(In<REAL> x, Out<REAL> y, long long n) {
    const long long i = global_thread();
    if (i < n) y[i] = x[i];
}

// -------------------------------------------------------------------------------------- races
// Each thread reads what the one before it wrote, without a barrier. (The emulator runs thread 0
// first, so the values are there: only the race is wrong.)
extern "C" __global__ void no_barrier(In<REAL> x, Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = tile[threadIdx.x ? threadIdx.x - 1 : 0];
}
// The barrier before the next iteration is missing: a fast thread overwrites what a slow one still
// reads.
extern "C" __global__ void no_second_barrier(In<REAL> x, Out<REAL> y) {
    SHARED(REAL, tile, 64);
    REAL total = 0;
    for (int round = 0; round < 2; ++round) {
        tile[threadIdx.x] = x[threadIdx.x] + round;
        __syncthreads();
        total += tile[63 - threadIdx.x];
    }
    y[threadIdx.x] = total;
}
extern "C" __global__ void two_writers(Out<REAL> y) { y[threadIdx.x / 2] = threadIdx.x; }
extern "C" __global__ void two_blocks(Out<REAL> y) { y[threadIdx.x] = 1; }
extern "C" __global__ void counts(In<REAL> x, InOut<int> y) { y[x[global_thread()] > 0] += 1; }
extern "C" __global__ void counts_atomically(In<REAL> x, InOut<int> y) {
    atomicAdd(&y[x[global_thread()] > 0], 1);
}
extern "C" __global__ void reads_an_atomic(InOut<int> y, Out<REAL> z) {
    atomicAdd(&y[0], 1);
    z[threadIdx.x] = y[0];
}
// Within a warp __syncwarp() suffices; between warps it does not.
extern "C" __global__ void within_a_warp(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = threadIdx.x;
    __syncwarp();
    y[threadIdx.x] = tile[threadIdx.x ^ 31];
}
extern "C" __global__ void between_warps(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = threadIdx.x;
    __syncwarp();
    y[threadIdx.x] = threadIdx.x < 32 ? REAL(0) : static_cast<REAL>(tile[threadIdx.x - 32]);
}

// A __syncwarp() orders the accesses before it with those after it, and no others.
extern "C" __global__ void after_a_syncwarp(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = 0;
    __syncwarp();
    tile[threadIdx.x] = threadIdx.x;
    y[threadIdx.x] = tile[threadIdx.x ^ 1];
}
// A tree reduction within a warp, as it was written before Volta, when the lanes ran in lockstep.
extern "C" __global__ void tree_in_step(In<REAL> x, Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    for (int offset = 16; offset > 0; offset /= 2)
        if (threadIdx.x < offset) tile[threadIdx.x] += tile[threadIdx.x + offset];
    y[threadIdx.x] = 0;
}
// The lower half of each warp is synchronised, the upper half is not.
extern "C" __global__ void half_in_order(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = threadIdx.x;
    if (threadIdx.x % 32 < 16) __syncwarp(0xffffu);
    const unsigned lane = threadIdx.x % 32;
    y[threadIdx.x] = tile[lane < 16 ? threadIdx.x ^ 15 : threadIdx.x];
    if (lane >= 16) y[threadIdx.x] = tile[threadIdx.x ^ 16];
}
extern "C" __global__ void halves_in_order(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = threadIdx.x;
    __syncwarp(threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u);
    y[threadIdx.x] = tile[threadIdx.x ^ 15];
}
// All threads read, and one of the second warp writes: its own warp is synchronised, the first is
// not.
extern "C" __global__ void read_by_others(Out<REAL> y) {
    SHARED(REAL, tile, 1);
    if (threadIdx.x == 0) tile[0] = 1;
    __syncthreads();
    y[threadIdx.x] = tile[0];
    __syncwarp();
    if (threadIdx.x == 40) tile[0] = 2;
}
// No barrier orders threads of different blocks, even if threads of the own block read in between.
extern "C" __global__ void last_block_writes(InOut<REAL> x, Out<REAL> y) {
    y[global_thread()] = x[0];
    __syncthreads();
    if (blockIdx.x == gridDim.x - 1 && threadIdx.x == 0) x[0] = 1;
}
extern "C" __global__ void last_block_reads(InOut<int> n, Out<REAL> y) {
    atomicAdd(&n[0], 1);
    __syncthreads();
    y[global_thread()] = blockIdx.x == gridDim.x - 1 ? static_cast<int>(n[0]) : 0;
}
extern "C" __global__ void first_block_clears(InOut<int> n) {
    if (global_thread() == 0) n[0] = 0;
    __syncthreads();
    atomicAdd(&n[0], 1);
}
extern "C" __global__ void one_clears(InOut<int> n) {
    if (threadIdx.x == 0) n[blockIdx.x] = 0;
    __syncthreads();
    atomicAdd(&n[blockIdx.x], 1);
    __syncthreads();
    if (threadIdx.x == 33) n[blockIdx.x] = n[blockIdx.x] + 1;
}
extern "C" __global__ void outside_the_mask(Out<REAL> y) {
    REAL value = threadIdx.x;
    if (threadIdx.x < 16) value = __shfl_sync(0xffffu, value, 20);
    y[threadIdx.x] = value;
}
extern "C" __global__ void shuffle_or_barrier(Out<REAL> y) {
    REAL value = threadIdx.x;
    if (threadIdx.x % 2)
        value = __shfl_sync(ALL_LANES, value, 3);
    else
        __syncwarp(ALL_LANES);
    y[threadIdx.x] = value;
}
// A block has one dynamic shared memory, under whatever names and types it is declared.
extern "C" __global__ void one_memory(Out<REAL> y) {
    {
        DYNAMIC_SHARED(REAL, a);
        a[threadIdx.x] = threadIdx.x;
    }
    __syncthreads();
    DYNAMIC_SHARED(REAL, b);
    y[threadIdx.x] = b[63 - threadIdx.x];
    __syncthreads();
    DYNAMIC_SHARED(char, bytes);
    y[threadIdx.x] += bytes[0];
}
extern "C" __global__ void large_variables(Out<REAL> y, long long n) {
    volatile double own[60 * 1024];
    for (long long i = 0; i < n; ++i) own[i] = 1;
    __syncthreads();
    double total = 0;
    for (long long i = 0; i < n; ++i) total += own[i];
    y[threadIdx.x] = total;
}

// ------------------------------------------------------------------------------------ barriers
extern "C" __global__ void some_leave(Out<REAL> y) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void two_barriers(Out<REAL> y) {
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}
// Not all threads return in the kernel itself: the last ones do so in a function.
__device__ void rest_of_a_kernel(Out<REAL> y) {
    if (threadIdx.x >= 20 && threadIdx.x < 40) return;
    __syncthreads();
    y[threadIdx.x] = __syncthreads_count(threadIdx.x % 2);
}
extern "C" __global__ void leave_in_turn(Out<REAL> y) {
    if (threadIdx.x >= 60) {
        y[threadIdx.x] = 3;
        return;
    }
    __syncthreads();
    if (threadIdx.x >= 40) {
        y[threadIdx.x] = 2;
        return;
    }
    rest_of_a_kernel(y);
}
// Lanes from 20 on leave, and the others vote, shuffle and wait with all lanes in the mask.
extern "C" __global__ void lanes_leave(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    const int lane = threadIdx.x % 32;
    if (lane >= 20) return;
    tile[threadIdx.x] = threadIdx.x;
    __syncwarp();
    const Out<REAL> own = y + 8LL * threadIdx.x;
    own[0] = tile[threadIdx.x ^ 1];
    own[1] = __shfl_xor_sync(ALL_LANES, REAL(lane), 3);
    own[2] = __popc(__ballot_sync(ALL_LANES, 1));
    own[3] = __all_sync(ALL_LANES, lane < 20);
    own[4] = __any_sync(ALL_LANES, lane >= 20);
    own[5] = __reduce_add_sync(ALL_LANES, lane);
    own[6] = __popc(__match_any_sync(ALL_LANES, lane % 2));
    own[7] = __popc(__activemask());
}
// The last lanes leave when the others wait for them.
extern "C" __global__ void lanes_leave_later(Out<REAL> y) {
    if (threadIdx.x % 32 >= 20) {
        y[threadIdx.x] = -1;
        return;
    }
    y[threadIdx.x] = __reduce_max_sync(ALL_LANES, static_cast<int>(threadIdx.x));
}
extern "C" __global__ void value_of_one_that_left(Out<REAL> y) {
    if (threadIdx.x >= 20) return;
    y[threadIdx.x] = __shfl_down_sync(ALL_LANES, REAL(threadIdx.x), 1);
}
// "Ordering among participating threads": a thread that has exited is none.
extern "C" __global__ void writes_and_leaves(Out<REAL> y) {
    SHARED(REAL, tile, 64);
    tile[threadIdx.x] = threadIdx.x;
    if (threadIdx.x >= 40) return;
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
// A return at the end is not before the barrier, and one in a function ends the function only.
extern "C" __global__ void skips_and_returns(Out<REAL> y) {
    if (threadIdx.x != 17) __syncthreads();
    y[threadIdx.x] = 1;
    return;
}
extern "C" __global__ void returns_in_a_function(Out<REAL> y) {
    rest_of_a_kernel(y);
    y[threadIdx.x] = 1;
}
extern "C" __global__ void vote_or_shuffle(Out<REAL> y) {
    REAL value = threadIdx.x;
    if (threadIdx.x % 2)
        value = __shfl_sync(ALL_LANES, value, 3);
    else
        value = __any_sync(ALL_LANES, threadIdx.x == 3);
    y[threadIdx.x] = value;
}
// Each lane finds with which others it is in a branch. The last four lanes wait at the barrier.
extern "C" __global__ void active_masks(Out<long long> y, InOut<int> counter) {
    const int lane = threadIdx.x % 32;
    const Out<long long> own = y + 3LL * threadIdx.x;
    if (lane < 28) {
        if (lane % 4 == 3) return;
        own[0] = __activemask();
        if (lane % 2) {
            own[1] = __activemask();
        } else {
            own[1] = __activemask();
            // One atomic operation for the lanes of this branch.
            const unsigned mask = __activemask();
            const int leader = __ffs(mask) - 1;
            int first = 0;
            if (lane == leader) first = atomicAdd(&counter[0], __popc(mask));
            first = __shfl_sync(mask, first, leader);
            own[2] = first + __popc(mask & ((1u << lane) - 1));
        }
    }
    __syncthreads();
}
extern "C" __global__ void one_skips(Out<REAL> y) {
    if (threadIdx.x != 17) __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void half_a_warp(Out<REAL> y) {
    REAL value = threadIdx.x;
    if (threadIdx.x < 16) value += __shfl_xor_sync(ALL_LANES, value, 1);
    y[threadIdx.x] = value;
}
extern "C" __global__ void not_in_the_mask(Out<REAL> y) {
    y[threadIdx.x] = __shfl_sync(0xffffu, REAL(threadIdx.x), 0);
}

// --------------------------------------------------------------------------- CUDA's features
// 12 results per thread.
extern "C" __global__ void shuffles(Out<REAL> y) {
    const int t = threadIdx.x;
    const Out<REAL> own = y + 12LL * global_thread();
    own[0] = __shfl_sync(ALL_LANES, REAL(t), 5);
    own[1] = __shfl_up_sync(ALL_LANES, REAL(t), 3);
    own[2] = __shfl_down_sync(ALL_LANES, REAL(t), 3);
    own[3] = __shfl_xor_sync(ALL_LANES, REAL(t), 6);
    own[4] = __shfl_sync(ALL_LANES, REAL(t), 5, 8);
    own[5] = __shfl_up_sync(ALL_LANES, REAL(t), 3, 8);
    own[6] = __shfl_down_sync(ALL_LANES, REAL(t), 3, 8);
    own[7] = __shfl_xor_sync(ALL_LANES, REAL(t), 9, 8);
    own[8] = __popc(__ballot_sync(ALL_LANES, t % 3 == 0));
    own[9] = __any_sync(ALL_LANES, t == 40);
    own[10] = __all_sync(ALL_LANES, t < 32);
    // Each half of a warp has a mask of its own.
    const bool low = t % 32 < 16;
    own[11] = __shfl_down_sync(low ? 0x0000ffffu : 0xffff0000u, REAL(t), 1, 16);
}

struct Numbers {
    float a;
    double b;
    int4 c;
};
extern "C" __global__ void __launch_bounds__(256)
    indices(Out<long long> y, Numbers numbers, int small, REAL r) {
    const long long block =
        blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * static_cast<long long>(blockIdx.z));
    const long long thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const float4 v = make_float4(numbers.a, 1, 2, 3);
    const long long sum = static_cast<long long>(v.x + numbers.b + numbers.c.w + small + r);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] =
        1000 * block + thread + 1000000 * sum;
}

// Each operator on an element of its own, of global and of shared memory.
template <class Array> __device__ void assign_all(Array a) {
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
    --a[13];
    const int before = a[14]++, after = ++a[15];
    a[16] = before * 1000 + after;
    a[17] = a[18] += a[19];
}
extern "C" __global__ void assignments(InOut<int> y) {
    SHARED(int, tile, 20);
    if (threadIdx.x > 0) return;
    for (int i = 0; i < 20; ++i) tile[i] = y[i];
    assign_all(y);
    assign_all(tile);
    for (int i = 0; i < 20; ++i) y[20 + i] = tile[i];
}

extern "C" __global__ void atomics(InOut<int> y) {
    const int t = threadIdx.x;
    atomicAdd(&y[0], t);
    atomicSub(&y[1], t);
    atomicMin(&y[2], t - 7);
    atomicMax(&y[3], t);
    atomicOr(&y[4], 1 << t % 8);
    atomicAnd(&y[5], ~(1 << t % 8));
    atomicXor(&y[6], t);
    atomicExch(&y[7], 5);
    for (int expected = 0, old; (old = atomicCAS(&y[8], expected, expected + 2)) != expected;)
        expected = old;
}

// Every thread calls a function that calls itself, with a barrier at the bottom.
__device__ REAL deep(int levels) {
    if (levels == 0) {
        __syncthreads();
        return REAL(0);
    }
    const REAL own = REAL(levels) * threadIdx.x;
    return deep(levels - 1) + own;
}
extern "C" __global__ void recursion(Out<REAL> y) { y[threadIdx.x] = deep(20); }

// ----------------------------------------------------------------------------- transactions
extern "C" __global__ void strided(In<REAL> x, Out<REAL> y, long long step) {
    y[threadIdx.x] = x[threadIdx.x * step];
}
extern "C" __global__ void wide(In<REAL> x, Out<REAL> y) {
    store<4>(y, threadIdx.x, load<4>(x, threadIdx.x));
}
extern "C" __global__ void banks(Out<REAL> y, long long step) {
    SHARED(REAL, tile, 32 * 33);
    tile[threadIdx.x * step] = 1;
    y[threadIdx.x] = tile[threadIdx.x * step];
}

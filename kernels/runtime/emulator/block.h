// The execution of one block of threads: scheduling, __syncthreads(), and warp barriers.
//
// Each CUDA thread runs on a fiber. Threads are started in order; a thread that waits at a barrier
// keeps its fiber's stack, and the next thread is started on another fiber. The block ends when all
// threads have finished, or, in error, when no thread can run.
#pragma once

#include "fibers.h"
#include "runtime.h"

namespace emulator {
static Counts counts;
static char message[1024];  // of the error that ended the launch; empty if there is none

// --------------------------------------------------------------------------------- scheduling
// Fibers are created as they are needed and used again for later threads and blocks.
static Fiber main_fiber, fibers[MAX_THREADS_PER_BLOCK];
static Fiber* current = &main_fiber;
static void (*body)();  // calls the kernel with its arguments
static int threads, started, finished, arrived;  // of this block; `arrived` at its __syncthreads()
static uint3 next_index;                         // threadIdx of the next thread to start
static int created;                              // fibers that have a stack and a context
// Fibers without a thread; fibers that wait at __syncthreads(); a ring buffer of fibers that can
// run.
static int idle_count, waiting_count, ready_first, ready_count;
static Fiber *idle[MAX_THREADS_PER_BLOCK], *waiting[MAX_THREADS_PER_BLOCK],
    *ready[MAX_THREADS_PER_BLOCK];
static std::int64_t block_serial;  // numbers the blocks of all launches of this library
static unsigned epoch;             // the number of __syncthreads() that this block has passed
static int votes[2];               // threads with a true predicate at even and odd epochs

// Make the current fiber run the next thread of the block.
inline void start_thread() {
    current->thread = started++;
    current->index = threadIdx = next_index;
    if (++next_index.x == blockDim.x) {
        next_index.x = 0;
        if (++next_index.y == blockDim.y) {
            next_index.y = 0;
            ++next_index.z;
        }
    }
}

inline void make_ready(Fiber* fiber) {
    ready[(ready_first + ready_count++) % MAX_THREADS_PER_BLOCK] = fiber;
}

// Choose the fiber that runs next: one that starts a thread, else one that is ready, else the main
// fiber, for which the block is finished or deadlocked.
inline Fiber* next_fiber() {
    if (started < threads) {
        if (idle_count) return idle[--idle_count];
        Fiber* fiber = &fibers[created++];
        if (!fiber->stack) {
            fiber->stack =
                static_cast<char*>(mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
            if (fiber->stack == MAP_FAILED) std::abort();
        }
        init_context(*fiber);
        return fiber;
    }
    if (!ready_count) return &main_fiber;
    Fiber* fiber = ready[ready_first];
    ready_first = (ready_first + 1) % MAX_THREADS_PER_BLOCK;
    --ready_count;
    return fiber;
}

// Run other fibers; return when this one is scheduled again.
inline void yield() {
    Fiber* self = current;
    current = next_fiber();
    if (current != self) switch_context(*self, *current);
    current = self;
    threadIdx = self->index;
}

// End the launch: abandon all fibers and let the main fiber report `message`.
[[noreturn]] inline void abort_launch() {
    switch_context(*current, main_fiber);
    std::abort();
}

inline void describe_thread(char* text, std::size_t size, int thread) {
    const unsigned t = static_cast<unsigned>(thread);
    std::snprintf(text, size, "block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x, blockIdx.y,
                  blockIdx.z, t % blockDim.x, t / blockDim.x % blockDim.y,
                  t / (blockDim.x * blockDim.y));
}

RUNTIME_FUNCTION void stop(int line, const char* what) {
    char thread[100];
    describe_thread(thread, sizeof thread, current->thread);
    std::snprintf(message, sizeof message, "%s stops at line %d: %s", thread, line, what);
    abort_launch();
}

// ------------------------------------------------------------------------------ __syncthreads
// The source line of the barrier that each thread waits at.
static int barrier_line[MAX_THREADS_PER_BLOCK];

inline void release_block() {
    for (int i = 0; i < waiting_count; ++i) make_ready(waiting[i]);
    waiting_count = arrived = 0;
    votes[++epoch & 1] = 0;
    ++counts.barriers;
}

// The checked build requires that all threads wait at the same line, and that none has finished; the
// fast build ignores finished threads, as GPUs do since Volta.
RUNTIME_FUNCTION int sync_block(int line, int predicate) {
    const int& count = votes[epoch & 1] += predicate != 0;
    barrier_line[current->thread] = line;
    ++arrived;
#ifdef CHECKED
    const int first = arrived == 1 ? current->thread : waiting[0]->thread;
    if (barrier_line[first] != line) {
        char a[100], b[100];
        describe_thread(a, sizeof a, current->thread);
        describe_thread(b, sizeof b, first);
        std::snprintf(message, sizeof message,
                      "%s waits at the __syncthreads() of line %d, but %s at that of line %d", a,
                      line, b, barrier_line[first]);
        abort_launch();
    }
#endif
    if (started == threads && arrived == threads - finished) {
#ifdef CHECKED
        if (finished) {  // the main fiber names a thread that has finished
            waiting[waiting_count++] = current;
            abort_launch();
        }
#endif
        release_block();
        return count;
    }
    waiting[waiting_count++] = current;
    yield();
    return count;
}

// ------------------------------------------------------------------------- __syncwarp, shuffles
// The state of a thread at a warp barrier: a __syncwarp(), or a shuffle, which is a barrier of the
// lanes in its mask at which each lane takes the value of another.
struct Lane {
    unsigned mask = 0;       // the lanes that it waits for; 0 where it does not wait
    Fiber* fiber = nullptr;
    int source = 0;          // the lane whose value it takes
    bool memory = false;  // true for a __syncwarp(), which orders memory accesses, unlike a shuffle
    alignas(16) unsigned char value[16], result[16];
};
static Lane lanes[MAX_THREADS_PER_BLOCK];
static bool has_finished[MAX_THREADS_PER_BLOCK];
static int lanes_waiting;

#ifdef CHECKED
// Vector clocks (Mattern 1988), which define happens-before within a warp: the accesses of lane k
// up to its time clocks[thread][k] happen before the next access of `thread`. A __syncwarp() joins
// the clocks of its lanes, and then advances each lane's own time.
static unsigned clocks[MAX_THREADS_PER_BLOCK][32];

inline void reset_clocks() {
    for (int t = 0; t < threads; ++t)
        for (int lane = 0; lane < 32; ++lane) clocks[t][lane] = lane == (t & 31);
}

inline void join_clocks(int first, unsigned mask) {
    unsigned joined[32] = {};
    const int last = std::min(32, threads - first);
    for (int lane = 0; lane < last; ++lane)
        if (mask >> lane & 1)
            for (int k = 0; k < 32; ++k) joined[k] = std::max(joined[k], clocks[first + lane][k]);
    for (int lane = 0; lane < last; ++lane)
        if (mask >> lane & 1) {
            std::memcpy(clocks[first + lane], joined, sizeof joined);
            ++clocks[first + lane][lane];
        }
}
#endif

// Return whether all lanes of the mask wait for this mask; `first` is the warp's first thread.
inline bool warp_is_complete(int first, unsigned mask) {
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        if (!(mask >> lane & 1)) continue;
#ifndef CHECKED
        if (has_finished[first + lane]) continue;
#endif
        if (lanes[first + lane].mask != mask) return false;
    }
    return true;
}

inline void release_warp(int first, unsigned mask) {
#ifdef CHECKED
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        if (!(mask >> lane & 1)) continue;
        const int source = lanes[first + lane].source;
        char thread[100];
        describe_thread(thread, sizeof thread, first + lane);
        if (lanes[first + lane].memory != lanes[current->thread].memory)
            std::snprintf(message, sizeof message,
                          "%s waits in a %s for lanes of its warp that wait in a %s", thread,
                          lanes[first + lane].memory ? "__syncwarp" : "shuffle",
                          lanes[first + lane].memory ? "shuffle" : "__syncwarp");
        else if (!(mask >> source & 1) || first + source >= threads)
            std::snprintf(message, sizeof message,
                          "%s takes the value of lane %d, which is not in the mask 0x%08x", thread,
                          source, mask);
        else
            continue;
        abort_launch();
    }
    if (lanes[current->thread].memory) join_clocks(first, mask);
#endif
    // All results are taken before any lane's `fiber` is cleared, which marks its value as valid.
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        if (!(mask >> lane & 1) || !lanes[first + lane].mask) continue;
        const int source = lanes[first + lane].source;
        const bool is_valid = first + source < threads && lanes[first + source].fiber;
        std::memcpy(lanes[first + lane].result,
                    lanes[first + (is_valid ? source : lane)].value, 16);
    }
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        Lane& other = lanes[first + lane];
        if (!(mask >> lane & 1) || !other.mask) continue;
        if (other.fiber != current) make_ready(other.fiber);
        other.mask = 0;
        other.fiber = nullptr;
        --lanes_waiting;
    }
}

inline void sync_warp(unsigned mask, int source, bool memory) {
    const int thread = current->thread, first = thread & ~31;
    Lane& own = lanes[thread];
    if (!(mask >> (thread & 31) & 1)) {
        char text[100];
        describe_thread(text, sizeof text, thread);
        std::snprintf(message, sizeof message, "%s is not in the mask 0x%08x it waits with", text,
                      mask);
        abort_launch();
    }
    ++lanes_waiting;
    own.mask = mask;
    own.fiber = current;
    own.source = source;
    own.memory = memory;
    if (warp_is_complete(first, mask))
        release_warp(first, mask);
    else
        yield();
}

RUNTIME_FUNCTION void exchange(unsigned mask, int source, bool memory, void* value) {
    Lane& own = lanes[current->thread];
    if (value) std::memcpy(own.value, value, sizeof own.value);
    sync_warp(mask, source, memory);
    if (value) std::memcpy(value, own.result, sizeof own.result);
}

RUNTIME_FUNCTION int lane_id() { return current->thread & 31; }
}  // namespace emulator

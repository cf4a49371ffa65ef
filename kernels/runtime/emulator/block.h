// The execution of one block of threads: scheduling and __syncthreads().
//
// Each CUDA thread runs on a fiber. Threads are started in order; a thread that waits at a barrier
// keeps its fiber's stack, and the next thread is started on another fiber. The block ends when all
// threads have finished, or, in error, when no thread can run.
//
// Barriers do not wait for threads that have exited: "__syncthreads*() wait until all non-exited
// threads in the thread block simultaneously reach the same __syncthreads*() intrinsic call in the
// program or exit" (CUDA Programming Guide). But they "are permitted in conditional code, but only
// if the condition evaluates uniformly across the entire thread block". So in the checked build a
// thread may return before a barrier, and may not run past it to the end of the kernel.
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
static int exited;  // finished threads that barriers do not wait for
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
static std::int64_t progress;      // grows with each thread that is started and each barrier passed

// How a thread has ended: in the checked build by a return statement, or at the end of the kernel.
enum class End : unsigned char { none, returned, reached };
static End ends[MAX_THREADS_PER_BLOCK];

#ifdef CHECKED
// The return address of the latest check, for the source line of a loop that does not end. It is
// RETURNED where the thread has made no access since a return statement, and null if unknown.
static const void* last_checked;
static const char RETURNED_MARK = 0;
static const void* const RETURNED = &RETURNED_MARK;

void note_return() { last_checked = RETURNED; }
#endif

inline End how_it_ended() {
#ifdef CHECKED
    if (last_checked != RETURNED) return End::reached;
#endif
    return End::returned;
}

// Make the current fiber run the next thread of the block.
inline void start_thread() {
    current->thread = started++;
    current->index = threadIdx = next_index;
    ++progress;
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

static int in_active_mask;  // threads that wait in __activemask()
__attribute__((noinline, cold)) inline void release_active_masks();

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
    if (!ready_count) {
        if (!in_active_mask) return &main_fiber;
        release_active_masks();
    }
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
#ifdef CHECKED
    last_checked = nullptr;
#endif
}

// Whether the launch is on its way to Python, for a while or for good (pause.h).
static volatile bool is_paused, is_aborted;

// End the launch: abandon all fibers and let the main fiber report `message`.
[[noreturn]] inline void abort_launch() {
    is_aborted = true;
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

#ifdef CHECKED
inline void end_epoch();
#else
inline void end_epoch() {}
#endif

inline bool block_is_complete() { return started == threads && arrived + exited == threads; }

inline void release_block() {
    end_epoch();
    for (int i = 0; i < waiting_count; ++i) make_ready(waiting[i]);
    waiting_count = arrived = 0;
    votes[++epoch & 1] = 0;
    ++counts.barriers;
    ++progress;
}

// The checked build requires that all threads wait at the same line.
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
    if (block_is_complete()) {
        release_block();
        return count;
    }
    waiting[waiting_count++] = current;
    yield();
    return count;
}
}  // namespace emulator

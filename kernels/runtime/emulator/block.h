// One block of threads: who runs next, and what waits for what.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

#include "fibers.h"

namespace emulator {
constexpr int MAX_THREADS = 1024;
constexpr std::size_t SHARED_BYTES = 227 * 1024;

// What the host gives for each array argument: the elements that the launch may touch, and the
// memory they lie in. `written` has one byte per element of that memory, and so has `view`, which is
// null where nothing lies between the elements.
struct Region {
    std::uint64_t first, end, base, bytes, itemsize;
    unsigned char *written, *view;
    std::int64_t argument;
};

struct Launch {
    unsigned grid[3], block[3];
    std::uint64_t shared, regions;
    Region* region;
};

// What the checked build counts. A warp's access to memory moves whole sectors of 32 bytes; shared
// memory serves one word of 4 bytes per bank and pass.
struct Counts {
    std::int64_t accesses, sectors, ideal_sectors, shared_accesses, passes, ideal_passes, barriers;
};

static Counts counts;
static char message[1024];

// --------------------------------------------------------------------------------- the block
static Fiber host, fibers[MAX_THREADS];
static Fiber* current = &host;
static void (*body)();
static int threads, begun, finished, arrived;  // of this block
static uint3 next_index;                       // of the next thread to begin
static int made, idle_count, waiting_count, ready_first, ready_count;
static Fiber *idle[MAX_THREADS], *waiting[MAX_THREADS], *ready[MAX_THREADS];
static std::int64_t block_serial;  // of all blocks that this process ran
static unsigned epoch;             // barriers that this block has passed
alignas(128) static unsigned char dynamic_shared[SHARED_BYTES];
static std::uint64_t dynamic_bytes;

// The next thread of the block begins on the current stack.
inline void begin_thread() {
    current->thread = begun++;
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
    ready[(ready_first + ready_count++) % MAX_THREADS] = fiber;
}

// Who runs when the current fiber cannot: a thread not begun yet, one that may go on, the host.
inline Fiber* next() {
    if (begun < threads) {
        if (idle_count) return idle[--idle_count];
        Fiber* fiber = &fibers[made++];
        if (!fiber->stack) {
            fiber->stack = static_cast<char*>(mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
            if (fiber->stack == MAP_FAILED) std::abort();
        }
        prepare(*fiber);
        return fiber;
    }
    if (!ready_count) return &host;
    Fiber* fiber = ready[ready_first];
    ready_first = (ready_first + 1) % MAX_THREADS;
    --ready_count;
    return fiber;
}

inline void leave() {
    Fiber* self = current;
    current = next();
    if (current != self) exchange(*self, *current);
    current = self;
    threadIdx = self->index;
}

// Drop every stack as it is and let the host report.
[[noreturn]] inline void stop() {
    exchange(*current, host);
    std::abort();
}

inline void describe_thread(char* text, std::size_t size, int thread) {
    const unsigned t = static_cast<unsigned>(thread);
    std::snprintf(text, size, "block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x, blockIdx.y,
                  blockIdx.z, t % blockDim.x, t / blockDim.x % blockDim.y,
                  t / (blockDim.x * blockDim.y));
}

// ------------------------------------------------------------------------------ block barrier
static int barrier_line[MAX_THREADS];

inline void release_block() {
    for (int i = 0; i < waiting_count; ++i) make_ready(waiting[i]);
    waiting_count = arrived = 0;
    ++epoch;
    ++counts.barriers;
}

inline void sync_block(int line) {
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
        stop();
    }
#endif
    if (begun == threads && arrived == threads - finished) {
#ifdef CHECKED
        if (finished) {  // the host finds out who is gone
            waiting[waiting_count++] = current;
            stop();
        }
#endif
        release_block();
        return;
    }
    waiting[waiting_count++] = current;
    leave();
}

// ------------------------------------------------------------------------------------- warps
struct Lane {
    unsigned mask = 0;  // of the lanes that it waits for; 0 where it does not wait
    Fiber* fiber = nullptr;
    int source = 0;
    bool memory = false;  // a __syncwarp(), which orders memory, or a shuffle, which does not
    alignas(16) unsigned char value[16], result[16];
};
static Lane lanes[MAX_THREADS];
static bool gone[MAX_THREADS];
static int lanes_waiting;

#ifdef CHECKED
// What each thread knows of the time of each lane of its warp: what that lane did until then was done
// before what the thread does now. A __syncwarp() makes all of its lanes know what each of them knows,
// and begins a new time for each (a vector clock: Mattern 1988).
static unsigned clocks[MAX_THREADS][32];

inline void begin_clocks() {
    for (int t = 0; t < threads; ++t)
        for (int lane = 0; lane < 32; ++lane) clocks[t][lane] = lane == (t & 31);
}

inline void order_lanes(int first, unsigned mask) {
    unsigned known[32] = {};
    const int last = std::min(32, threads - first);
    for (int lane = 0; lane < last; ++lane)
        if (mask >> lane & 1)
            for (int k = 0; k < 32; ++k) known[k] = std::max(known[k], clocks[first + lane][k]);
    for (int lane = 0; lane < last; ++lane)
        if (mask >> lane & 1) {
            std::memcpy(clocks[first + lane], known, sizeof known);
            ++clocks[first + lane][lane];
        }
}
#endif

inline bool warp_is_complete(int first, unsigned mask) {
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        if (!(mask >> lane & 1)) continue;
#ifndef CHECKED
        if (gone[first + lane]) continue;
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
        char who[100];
        describe_thread(who, sizeof who, first + lane);
        if (lanes[first + lane].memory != lanes[current->thread].memory)
            std::snprintf(message, sizeof message,
                          "%s waits in a %s for lanes of its warp that wait in a %s", who,
                          lanes[first + lane].memory ? "__syncwarp" : "shuffle",
                          lanes[first + lane].memory ? "shuffle" : "__syncwarp");
        else if (!(mask >> source & 1) || first + source >= threads)
            std::snprintf(message, sizeof message,
                          "%s takes the value of lane %d, which is not in the mask 0x%08x", who,
                          source, mask);
        else
            continue;
        stop();
    }
    if (lanes[current->thread].memory) order_lanes(first, mask);
#endif
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        if (!(mask >> lane & 1) || !lanes[first + lane].mask) continue;
        const int source = lanes[first + lane].source;
        const bool there = first + source < threads && lanes[first + source].fiber;
        std::memcpy(lanes[first + lane].result,
                    lanes[first + (there ? source : lane)].value, 16);
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

// Wait for the lanes of the mask; each takes the value that lane `source` brought.
inline void sync_warp(unsigned mask, int source, bool memory) {
    const int thread = current->thread, first = thread & ~31;
    Lane& own = lanes[thread];
    if (!(mask >> (thread & 31) & 1)) {
        char who[100];
        describe_thread(who, sizeof who, thread);
        std::snprintf(message, sizeof message, "%s is not in the mask 0x%08x it waits with", who,
                      mask);
        stop();
    }
    ++lanes_waiting;
    own.mask = mask;
    own.fiber = current;
    own.source = source;
    own.memory = memory;
    if (warp_is_complete(first, mask))
        release_warp(first, mask);
    else
        leave();
}

template <class T> inline T shuffle(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 16, "a shuffle moves up to 16 bytes");
    const int thread = current->thread;
    std::memcpy(lanes[thread].value, &value, sizeof(T));
    sync_warp(mask, source, false);
    std::memcpy(&value, lanes[thread].result, sizeof(T));
    return value;
}

inline int lane_id() { return current->thread & 31; }
}  // namespace emulator

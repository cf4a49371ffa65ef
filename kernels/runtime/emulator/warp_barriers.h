// Barriers of a warp: __syncwarp(), shuffles, votes and reductions, and __activemask().
//
// "Each calling thread must have its own bit set in the mask and all non-exited threads named in
// mask must execute the same intrinsic with the same mask, or the result is undefined" (CUDA
// Programming Guide). Lanes that have exited take no part.
#pragma once

#include "block.h"
#ifdef CHECKED
#include "happens_before.h"
#endif

namespace emulator {
// What a thread waits in. A shuffle is a barrier at which each lane takes the value of another; at
// a vote each takes the values of all. Only __syncwarp() orders memory accesses.
enum class WarpBarrier { syncwarp, shuffle, vote };
static const char* const WARP_BARRIERS[] = {"__syncwarp", "shuffle", "vote or reduction"};

struct Lane {
    unsigned mask = 0;        // the lanes that it waits for; 0 where it does not wait
    unsigned active = 0;      // the result: lanes that took part
    int active_mask_line = 0; // the line of the __activemask() that it waits in; 0 in none
    Fiber* fiber = nullptr;
    WarpBarrier kind{};
    int source = 0;           // the lane whose value it takes
    void* values = nullptr;   // where a vote stores the values of all lanes, 16 bytes each
    alignas(16) unsigned char value[16], result[16];
};
static Lane lanes[MAX_THREADS_PER_BLOCK];
static int lanes_waiting;

// Return whether all lanes of the mask wait for this mask; `first` is the warp's first thread.
inline bool warp_is_complete(int first, unsigned mask) {
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane)
        if (mask >> lane & 1 && ends[first + lane] != End::returned &&
            lanes[first + lane].mask != mask)
            return false;
    return true;
}

#ifdef CHECKED
// End the launch if the lanes wait in different barriers, or take the value of none of them.
inline void check_warp(int first, unsigned mask, unsigned active) {
    const Lane& leader = lanes[first + __builtin_ctz(active)];
    for (int lane = 0; lane < 32; ++lane) {
        if (!(active >> lane & 1)) continue;
        const Lane& own = lanes[first + lane];
        const char* const name = WARP_BARRIERS[static_cast<int>(own.kind)];
        char thread[100];
        describe_thread(thread, sizeof thread, first + lane);
        if (own.kind != leader.kind)
            std::snprintf(message, sizeof message,
                          "%s waits in a %s for lanes of its warp that wait in a %s", thread, name,
                          WARP_BARRIERS[static_cast<int>(leader.kind)]);
        else if (!(mask >> own.source & 1) || first + own.source >= threads)
            std::snprintf(message, sizeof message,
                          "%s takes the value of lane %d, which is not in the mask 0x%08x", thread,
                          own.source, mask);
        else if (!(active >> own.source & 1))
            std::snprintf(message, sizeof message,
                          "%s takes the value of lane %d, which has exited", thread, own.source);
        else
            continue;
        abort_launch();
    }
}
#endif

inline void release_warp(int first, unsigned mask) {
    unsigned active = 0;
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane)
        if (mask >> lane & 1 && lanes[first + lane].mask) active |= 1u << lane;
#ifdef CHECKED
    check_warp(first, mask, active);
    if (lanes[first + __builtin_ctz(active)].kind == WarpBarrier::syncwarp)
        join_clocks(first, active);
#endif
    for (int lane = 0; lane < 32; ++lane) {
        if (!(active >> lane & 1)) continue;
        Lane& own = lanes[first + lane];
        // In the fast build a lane takes its own value where the other has none.
        const int source = active >> own.source & 1 ? own.source : lane;
        std::memcpy(own.result, lanes[first + source].value, 16);
        for (int other = 0; own.values && other < 32; ++other)
            if (active >> other & 1)
                std::memcpy(static_cast<char*>(own.values) + 16 * other,
                            lanes[first + other].value, 16);
    }
    for (int lane = 0; lane < 32; ++lane) {
        if (!(active >> lane & 1)) continue;
        Lane& own = lanes[first + lane];
        if (own.fiber != current) make_ready(own.fiber);
        own.active = active;
        own.mask = 0;
        --lanes_waiting;
    }
    ++progress;
}

// Release the barriers of a warp that wait only for lanes that have exited.
inline void release_complete_masks(int first) {
    for (int lane = 0; lanes_waiting && lane < 32 && first + lane < threads; ++lane) {
        const unsigned mask = lanes[first + lane].mask;
        if (mask && warp_is_complete(first, mask)) release_warp(first, mask);
    }
}

inline void sync_warp(unsigned mask, WarpBarrier kind, int source, void* values) {
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
    own.kind = kind;
    own.source = source;
    own.values = values;
    if (warp_is_complete(first, mask))
        release_warp(first, mask);
    else
        yield();
}

RUNTIME_FUNCTION void sync_lanes(unsigned mask) {
    sync_warp(mask, WarpBarrier::syncwarp, current->thread & 31, nullptr);
}

RUNTIME_FUNCTION void exchange(unsigned mask, int source, void* value) {
    Lane& own = lanes[current->thread];
    std::memcpy(own.value, value, sizeof own.value);
    sync_warp(mask, WarpBarrier::shuffle, source, nullptr);
    std::memcpy(value, own.result, sizeof own.result);
}

RUNTIME_FUNCTION unsigned gather(unsigned mask, const void* value, void* values) {
    Lane& own = lanes[current->thread];
    std::memcpy(own.value, value, sizeof own.value);
    sync_warp(mask, WarpBarrier::vote, current->thread & 31, values);
    return own.active;
}

RUNTIME_FUNCTION int lane_id() { return current->thread & 31; }

// ------------------------------------------------------------------------------- __activemask
// A thread waits until no other thread of the block can run. Then each lane of its warp that will
// come to this __activemask() has come.
RUNTIME_FUNCTION unsigned active_mask(int line) {
    Lane& own = lanes[current->thread];
    own.active_mask_line = line;
    own.fiber = current;
    ++in_active_mask;
    yield();
    return own.active;
}

inline void release_active_masks() {
    for (int first = 0; first < threads; first += 32) {
        const int last = std::min(32, threads - first);
        for (int lane = 0; lane < last; ++lane) {
            const int line = lanes[first + lane].active_mask_line;
            if (!line) continue;
            unsigned active = 0;
            for (int other = lane; other < last; ++other)
                if (lanes[first + other].active_mask_line == line) active |= 1u << other;
            for (int other = lane; other < last; ++other) {
                if (!(active >> other & 1)) continue;
                lanes[first + other].active = active;
                lanes[first + other].active_mask_line = 0;
                make_ready(lanes[first + other].fiber);
            }
        }
    }
    in_active_mask = 0;
    ++progress;
}
}  // namespace emulator

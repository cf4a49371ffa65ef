// The order of memory accesses (happens-before) in the checked build.
//
//   threads of a warp     __syncwarp() of both, by vector clocks (Mattern 1988): the accesses of lane
//                         k up to its time clocks[thread][k] happen before the next access of
//                         `thread`. A __syncwarp() joins the clocks of its lanes, and then advances
//                         each lane's own time
//   threads of a block    __syncthreads() of both: their barrier epochs differ
//   threads of two blocks __threadfence() and atomic operations. An access A happens before an access
//                         B of another block if
//                           1. A happens before a __threadfence() (or is made by the same thread),
//                           2. which happens before an atomic operation on some X in global memory,
//                           3. after which a thread of B's block makes an atomic operation on X
//                           4. that happens before B.
//                         An atomic operation on X itself, after a fence, needs no other fence: X's
//                         atomic operations have one order.
//
// Blocks run one after another, so all that an earlier block has released comes before what a later
// block acquires.
#pragma once

#include <array>

#include "block.h"

namespace emulator {
// An access to an element: the thread, numbered through all blocks of this library, its barrier
// epoch, and the thread's own time in its vector clock.
struct Access {
    std::int64_t thread = -1;  // -1: there is none
    unsigned epoch = 0, time = 0;

    std::int64_t block() const { return thread / MAX_THREADS_PER_BLOCK; }
    std::int64_t warp() const { return thread / 32; }
};

using Clock = std::array<unsigned, 32>;  // a time for each lane of a warp
static Clock clocks[MAX_THREADS_PER_BLOCK];
static unsigned exit_epoch[MAX_THREADS_PER_BLOCK];  // of threads that have ended

inline Access current_access() {
    const int thread = current->thread;
    return {block_serial * MAX_THREADS_PER_BLOCK + thread, epoch, clocks[thread][thread & 31]};
}

// Return whether the earlier access is not ordered before `now`, an access of the current thread
// in the same block. A barrier orders nothing for a thread that has exited before it.
__forceinline__ bool is_unordered_in_block(const Access& earlier, const Access& now) {
    if (earlier.thread == now.thread) return false;
    if (earlier.epoch != now.epoch)
        return exit_epoch[earlier.thread % MAX_THREADS_PER_BLOCK] == earlier.epoch;
    return earlier.warp() != now.warp() ||
           clocks[current->thread][earlier.thread & 31] < earlier.time;
}

// --------------------------------------------------------------------------- fences and atomics
// The accesses of a block that its fences have made visible to other blocks: all of earlier epochs,
// and of this epoch those of each warp up to a time for each lane.
struct Visible {
    unsigned epoch = 0;
    std::unordered_map<std::int64_t, Clock> warps;

    bool is_empty() const { return warps.empty(); }
    bool contains(const Access& access) const {
        if (access.epoch != epoch) return access.epoch < epoch;
        const auto warp = warps.find(access.warp());
        return warp != warps.end() && warp->second[access.thread & 31] >= access.time;
    }
    void add(unsigned at_epoch, std::int64_t warp, const Clock& clock) {
        if (at_epoch < epoch) return;
        if (at_epoch > epoch) warps.clear();
        epoch = at_epoch;
        Clock& known = warps[warp];
        for (int lane = 0; lane < 32; ++lane) known[lane] = std::max(known[lane], clock[lane]);
    }
};
// What __threadfence() has made visible in this epoch, as each thread knows by __syncwarp(), and
// in earlier ones.
static Clock fenced[MAX_THREADS_PER_BLOCK];
static bool has_fence;  // in this epoch
static Visible fenced_before;

// By location of an atomic operation: what was released there, by block; and the operations of this
// block. A location is the address of its shadow.
static std::unordered_map<const void*, std::unordered_map<std::int64_t, Visible>> releases;
static std::unordered_map<const void*, std::vector<Access>> acquired;

void fence() {
    const int thread = current->thread;
    fenced[thread] = clocks[thread];
    ++clocks[thread][thread & 31];  // What follows is not visible before the next fence.
    has_fence = true;
}

inline void clear_fences() {
    if (has_fence) std::fill(fenced, fenced + threads, Clock{});
    has_fence = false;
}

inline void end_epoch() {
    if (!has_fence) return;
    for (int t = 0; t < threads; ++t)
        if (fenced[t] != Clock{})
            fenced_before.add(epoch, block_serial * (MAX_THREADS_PER_BLOCK / 32) + t / 32, fenced[t]);
    clear_fences();
}

// Release what is visible to the blocks that will make an atomic operation on this location.
inline void release_to_blocks(const void* location, const Access& now) {
    const Clock& own = fenced[current->thread];
    const bool is_fenced = has_fence && own != Clock{};
    if (!is_fenced && fenced_before.is_empty()) return;
    Visible& released = releases[location][now.block()];
    for (const auto& [warp, clock] : fenced_before.warps)
        released.add(fenced_before.epoch, warp, clock);
    if (is_fenced) released.add(epoch, now.warp(), own);
}

inline void acquire_from_blocks(const void* location, const Access& now) {
    if (!releases.count(location)) return;
    std::vector<Access>& known = acquired[location];
    for (const Access& access : known)
        if (!is_unordered_in_block(access, now)) return;
    known.push_back(now);
}

// Return whether an access of an earlier block happens before `now`; `location` is that of an
// atomic operation, and else null.
__attribute__((noinline)) inline bool is_released(const Access& earlier, const Access& now, const void* location) {
    for (const auto& [at, accesses] : acquired) {
        const auto& by_block = releases[at];
        const auto released = by_block.find(earlier.block());
        if (released == by_block.end()) continue;
        if (at != location && !released->second.contains(earlier)) continue;
        for (const Access& access : accesses)
            if (!is_unordered_in_block(access, now)) return true;
    }
    return false;
}

// Return whether the earlier access is not ordered before `now`, an access of the current thread.
__forceinline__ bool is_unordered(const Access& earlier, const Access& now,
                                  const void* location = nullptr) {
    if (earlier.thread < 0) return false;
    if (earlier.block() != now.block()) return !is_released(earlier, now, location);
    return is_unordered_in_block(earlier, now);
}

// ------------------------------------------------------------------------------ warps and blocks
inline void join(Clock& into, const Clock& other) {
    for (int k = 0; k < 32; ++k) into[k] = std::max(into[k], other[k]);
}

inline void join_clocks(int first, unsigned active) {
    Clock joined{}, joined_fenced{};
    for (int lane = 0; lane < 32; ++lane)
        if (active >> lane & 1) {
            join(joined, clocks[first + lane]);
            if (has_fence) join(joined_fenced, fenced[first + lane]);
        }
    for (int lane = 0; lane < 32; ++lane)
        if (active >> lane & 1) {
            clocks[first + lane] = joined;
            ++clocks[first + lane][lane];
            if (has_fence) fenced[first + lane] = joined_fenced;
        }
}

inline void begin_order() {
    for (int t = 0; t < threads; ++t) {
        clocks[t] = Clock{};
        clocks[t][t & 31] = 1;
        exit_epoch[t] = ~0u;
    }
    clear_fences();
    fenced_before = Visible();
    acquired.clear();
}
}  // namespace emulator

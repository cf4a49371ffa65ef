// Barriers, and the exchange of values within a warp: shuffles, votes, reductions.
#pragma once

#include "runtime.h"

#define __syncthreads() static_cast<void>(emulator::sync_block(__LINE__))
#define __syncthreads_count(predicate) emulator::sync_block(__LINE__, (predicate) != 0)
#define __syncthreads_or(predicate) (emulator::sync_block(__LINE__, (predicate) != 0) != 0)
#define __syncthreads_and(predicate) (emulator::sync_block(__LINE__, (predicate) == 0) == 0)

namespace emulator {
template <class T> T shuffle(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 16, "a shuffle moves up to 16 bytes");
    alignas(16) unsigned char bytes[16] = {};
    std::memcpy(bytes, &value, sizeof(T));
    exchange(mask, source, false, bytes);
    std::memcpy(&value, bytes, sizeof(T));
    return value;
}
// Return the number of lanes of this warp; the last warp of a block may have fewer than 32.
inline int warp_lanes() {
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    return std::min(32, static_cast<int>(blockDim.x * blockDim.y * blockDim.z) - (thread & ~31));
}

// Return f(f(a, b), c)... over the values of the lanes of the mask.
template <class T, class F> T reduce_lanes(unsigned mask, T value, F f) {
    T result{};
    bool is_first = true;
    for (int lane = 0; lane < warp_lanes(); ++lane) {
        if (!(mask >> lane & 1)) continue;
        const T other = shuffle(mask, value, lane);
        result = is_first ? other : f(result, other);
        is_first = false;
    }
    return result;
}
}  // namespace emulator

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulator::exchange(mask, emulator::lane_id(), true, nullptr);
}
template <class T> inline T __shfl_sync(unsigned mask, T x, int source, int width = 32) {
    const int lane = emulator::lane_id();
    return emulator::shuffle(mask, x, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T> inline T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = 32) {
    const int lane = emulator::lane_id(), from = lane - static_cast<int>(delta);
    return emulator::shuffle(mask, x, from < (lane & ~(width - 1)) ? lane : from);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32) {
    const int lane = emulator::lane_id(), from = lane + static_cast<int>(delta);
    return emulator::shuffle(mask, x, from > (lane | (width - 1)) ? lane : from);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32) {
    const int lane = emulator::lane_id(), from = lane ^ bits;
    return emulator::shuffle(mask, x, from > (lane | (width - 1)) ? lane : from);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const unsigned bit = predicate ? 1u << emulator::lane_id() : 0;
    return emulator::reduce_lanes(mask, bit, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T> inline unsigned __match_any_sync(unsigned mask, T value) {
    unsigned equal = 0;
    for (int lane = 0; lane < emulator::warp_lanes(); ++lane)
        if (mask >> lane & 1 && __shfl_sync(mask, value, lane) == value) equal |= 1u << lane;
    return equal;
}

#define REDUCE(name, result)                                                                   \
    template <class T> inline T name(unsigned mask, T value) {                                 \
        static_assert(std::is_integral_v<T> && sizeof(T) == 4, #name " is for int, unsigned"); \
        return emulator::reduce_lanes(mask, value, [](T a, T b) { return result; });           \
    }
REDUCE(__reduce_add_sync, a + b)
REDUCE(__reduce_min_sync, a < b ? a : b)
REDUCE(__reduce_max_sync, a < b ? b : a)
REDUCE(__reduce_and_sync, a & b)
REDUCE(__reduce_or_sync, a | b)
REDUCE(__reduce_xor_sync, a ^ b)
#undef REDUCE

inline void __threadfence() {}
inline void __threadfence_block() {}

// Functions that CUDA has, or had, and the emulator has not.
#define REFUSED(name, reason)                                                       \
    template <class... T> __attribute__((error(reason))) int emulator_no_##name(T...); \
    template <class... T> inline int name(T... x) { return emulator_no_##name(x...); }
REFUSED(__activemask, "the emulator has no __activemask(): pass the mask that your code implies")
#define REMOVED(name) \
    REFUSED(name, #name " was removed from CUDA: use " #name "_sync(mask, ...)")
REMOVED(__shfl)
REMOVED(__shfl_up)
REMOVED(__shfl_down)
REMOVED(__shfl_xor)
REMOVED(__ballot)
REMOVED(__any)
REMOVED(__all)
#undef REMOVED

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
    exchange(mask, source, bytes);
    std::memcpy(&value, bytes, sizeof(T));
    return value;
}
// The values of the lanes of a mask that have not exited.
template <class T> struct LaneValues {
    alignas(16) unsigned char bytes[32][16];
    unsigned active;

    LaneValues(unsigned mask, T value) {
        static_assert(sizeof(T) <= 16, "a vote takes up to 16 bytes");
        alignas(16) unsigned char own[16] = {};
        std::memcpy(own, &value, sizeof(T));
        active = gather(mask, own, bytes);
    }
    // Call f with each lane and its value.
    template <class F> void visit(F f) const {
        for (unsigned left = active; left; left &= left - 1) {
            const int lane = __builtin_ctz(left);
            T value;
            std::memcpy(&value, bytes[lane], sizeof(T));
            f(lane, value);
        }
    }
};

// Return f(f(a, b), c)... over the values of the lanes of the mask.
template <class T, class F> T reduce_lanes(unsigned mask, T value, F f) {
    T result{};
    bool is_first = true;
    LaneValues<T>(mask, value).visit([&](int, T other) {
        result = is_first ? other : f(result, other);
        is_first = false;
    });
    return result;
}
}  // namespace emulator

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulator::sync_lanes(mask);
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
    emulator::LaneValues<T>(mask, value).visit([&](int lane, T other) {
        if (other == value) equal |= 1u << lane;
    });
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

#define __activemask() emulator::active_mask(__LINE__)

inline void __threadfence() { emulator::fence(); }
inline void __threadfence_system() { emulator::fence(); }
inline void __threadfence_block() {}  // orders nothing between blocks

// Functions that CUDA has, or had, and the emulator has not.
#define REFUSED(name, reason)                                                       \
    template <class... T> __attribute__((error(reason))) int emulator_no_##name(T...); \
    template <class... T> inline int name(T... x) { return emulator_no_##name(x...); }
REFUSED(clock64, "the emulator has no clock() or clock64(): its time is not a GPU's")
#define clock() clock64()  // C's clock() counts something else
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

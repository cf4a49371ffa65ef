// CUDA C++ on the CPU: g++ compiles a .cu file against this header, and a launch runs its blocks
// one after another on one core. Each CUDA thread runs on a fiber, because __syncthreads() must
// wait for threads that have not started yet.
//
//   language.h   CUDA's keywords, vector types and built-in variables
//   fibers.h     fibers: a stack each, and the context switch
//   block.h      a block: threads are started in order; one that waits at a barrier keeps its
//                stack, and the last one makes the others ready. Warps: shuffles are barriers
//                of the lanes in their mask. A kernel without barriers uses one fiber
//   emulator.h   CUDA's functions, and launches
//   checked.h    with CHECKED defined: array types that check each access, on the shadow memory of
//   shadow.h     races and transactions
#pragma once

#include "block.h"

#define __syncthreads() emulator::sync_block(__LINE__)

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulator::sync_warp(mask, emulator::lane_id(), true);
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
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) votes |= (__shfl_sync(mask, predicate != 0, lane) ? 1u : 0u) << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<std::uint64_t>(a) * b >> 32);
}
inline long long __double_as_longlong(double x) {
    long long bits;
    std::memcpy(&bits, &x, 8);
    return bits;
}
inline double __longlong_as_double(long long bits) {
    double x;
    std::memcpy(&x, &bits, 8);
    return x;
}

// ------------------------------------------------------------------------------------- arrays
#define SHARED_FITS(T, count) \
    static_assert(sizeof(T) * (count) <= 48 * 1024, "a SHARED array takes more than 48 KiB")
// CUDA has each atomic operation for some types only.
#define ATOMIC_TYPES(name, ...)                                 \
    template <class T, class... Types>                          \
    constexpr bool name##_is_one_of = (std::is_same_v<T, Types> || ...); \
    template <class T> constexpr bool name##_takes = name##_is_one_of<T, __VA_ARGS__>;
namespace emulator {
using ull = unsigned long long;
ATOMIC_TYPES(atomicAdd, int, unsigned, ull, float, double)
ATOMIC_TYPES(atomicSub, int, unsigned)
ATOMIC_TYPES(atomicMin, int, unsigned, ull, long long)
ATOMIC_TYPES(atomicMax, int, unsigned, ull, long long)
ATOMIC_TYPES(atomicExch, int, unsigned, ull, float)
ATOMIC_TYPES(atomicAnd, int, unsigned, ull)
ATOMIC_TYPES(atomicOr, int, unsigned, ull)
ATOMIC_TYPES(atomicXor, int, unsigned, ull)
ATOMIC_TYPES(atomicCAS, int, unsigned, ull)
}  // namespace emulator
#define ATOMIC_FITS(name, T) static_assert(emulator::name##_takes<T>, #name " is for other types")

#ifdef CHECKED
#include "checked.h"
#else
#define SHARED(T, name, count)       \
    SHARED_FITS(T, count);           \
    alignas(128) static T name[count]
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared)

namespace emulator {
static const char* const* parameters;
inline void begin_launch(const Launch&) {}
inline void begin_block() {}
inline void end_block() {}
inline void end_launch() {}
template <class P> P unpack(void* value, int) { return *static_cast<P*>(value); }
template <class P> constexpr int element_size = 0;
template <class T> constexpr int element_size<T*> = sizeof(T);
template <class T> constexpr int element_size<T* __restrict__> = sizeof(T);
}  // namespace emulator

// One thread runs at a time, so a plain operation is atomic.
#define ATOMIC(name, result)                                       \
    template <class T, class V> inline T name(T* x, V v) {         \
        ATOMIC_FITS(name, T);                                      \
        const T old = *x, value = static_cast<T>(v);               \
        *x = result;                                               \
        return old;                                                \
    }
ATOMIC_OPERATIONS(ATOMIC)
#undef ATOMIC
template <class T> inline T atomicCAS(T* x, T compare, T value) {
    ATOMIC_FITS(atomicCAS, T);
    const T old = *x;
    if (old == compare) *x = value;
    return old;
}
#endif

// ------------------------------------------------------------------------------------- launch
namespace emulator {
// Run threads until all have been started; then let other fibers run.
static void fiber_loop() {
    for (;;) {
        while (started < threads) {
            start_thread();
            body();
            has_finished[current->thread] = true;
            ++finished;
#ifndef CHECKED
            // As on a GPU since Volta, barriers do not wait for finished threads.
            if (arrived && started == threads && arrived == threads - finished) release_block();
            const int first = current->thread & ~31;
            for (int lane = 0; lanes_waiting && lane < 32 && first + lane < threads; ++lane) {
                const unsigned mask = lanes[first + lane].mask;
                if (mask && warp_is_complete(first, mask)) release_warp(first, mask);
            }
#endif
        }
        idle[idle_count++] = current;
        Fiber* self = current;
        current = next_fiber();
        if (current != self) switch_context(*self, *current);
        current = self;
    }
}

// Write to `message` which thread waits at which barrier, when no thread can run.
inline void report_deadlock() {
    char thread[100], other[100] = "";
    for (int t = 0; t < threads; ++t)
        if (has_finished[t]) {
            describe_thread(other, sizeof other, t);
            break;
        }
    if (waiting_count) {
        const int t = waiting[0]->thread;
        describe_thread(thread, sizeof thread, t);
        std::snprintf(message, sizeof message,
                      "%s waits at the __syncthreads() of line %d, which %s never reaches", thread,
                      barrier_line[t], other[0] ? other : "another thread");
        return;
    }
    for (int t = 0; t < threads; ++t)
        if (lanes[t].mask) {
            describe_thread(thread, sizeof thread, t);
            int missing = t & ~31;
            while (!(lanes[t].mask >> (missing & 31) & 1) || lanes[missing].mask == lanes[t].mask)
                ++missing;
            describe_thread(other, sizeof other, missing);
            std::snprintf(message, sizeof message,
                          "%s waits in a warp for mask 0x%08x, but %s never comes", thread,
                          lanes[t].mask, other);
            return;
        }
    std::snprintf(message, sizeof message, "threads wait for each other");
}

// Run all blocks of a launch. Return 0, or 1 with the error in `message`.
inline int run(const Launch& launch, void (*kernel)()) {
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    dynamic_bytes = launch.shared;
    body = kernel;
    message[0] = 0;
    counts = {};
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0; x < gridDim.x; ++x) {
                blockIdx = {x, y, z};
                started = finished = arrived = waiting_count = 0;
                next_index = {0, 0, 0};
                std::memset(has_finished, 0, static_cast<std::size_t>(threads));
                ready_first = ready_count = 0;
                epoch = 0;
                ++block_serial;
                begin_block();
                current = next_fiber();
                switch_context(main_fiber, *current);
                current = &main_fiber;
                if (finished < threads) {
                    if (!message[0]) report_deadlock();
                    // The fibers hold unfinished threads, so all contexts are created again.
                    created = idle_count = 0;
                    lanes_waiting = 0;
                    for (Lane& lane : lanes) lane.mask = 0, lane.fiber = nullptr;
                    end_launch();
                    return 1;
                }
                end_block();
            }
    end_launch();
    return 0;
}

// Call a kernel with the addresses of its arguments, as cuLaunchKernel does.
template <auto kernel> struct Entry;
template <class... P, void (*kernel)(P...)> struct Entry<kernel> {
    static std::tuple<P...>* arguments;

    static void call() { std::apply(kernel, *arguments); }

    template <std::size_t... i>
    static int run(const Launch& l, void** a, std::index_sequence<i...>) {
        begin_launch(l);
        std::tuple<P...> unpacked{unpack<P>(a[i], static_cast<int>(i))...};
        arguments = &unpacked;
        return emulator::run(l, call);
    }

    static int run(const Launch& launch, void** addresses) {
        return run(launch, addresses, std::index_sequence_for<P...>{});
    }

    // Store for each parameter its size in bytes, or for an array the negated size of an element.
    static int sizes(int* out) {
        int i = 0;
        ((out[i++] = element_size<P> ? -element_size<P> : static_cast<int>(sizeof(P))), ...);
        return i;
    }
};
template <class... P, void (*kernel)(P...)> std::tuple<P...>* Entry<kernel>::arguments;
}  // namespace emulator

extern "C" {
__attribute__((visibility("default"))) const char* emulator_message() {
    return emulator::message;
}
__attribute__((visibility("default"))) emulator::Counts* emulator_counts() {
    return &emulator::counts;
}
// Return the offset, in this library, of the instruction after a failed check; 0 if unknown.
__attribute__((visibility("default"))) std::uint64_t emulator_error_offset() {
#ifdef CHECKED
    Dl_info info;
    if (emulator::error_address && dladdr(emulator::error_address, &info))
        return static_cast<char*>(emulator::error_address) - static_cast<char*>(info.dli_fbase);
#endif
    return 0;
}
}

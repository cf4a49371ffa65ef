// CUDA C++ on the CPU: g++ compiles a .cu file against this header, and a launch runs its blocks
// one after another on one core. Each CUDA thread runs on a fiber, because __syncthreads() must
// wait for threads that have not started yet.
//
//   language.h          CUDA's keywords, vector types and built-in variables
//   intrinsics.h        mathematical functions, conversions, bits
//   warp.h              barriers, shuffles, votes
//   atomics.h           atomic operations
//   runtime.h           what these call of the runtime, which is:
//     fibers.h          fibers: a stack each, and the context switch
//     block.h           a block: threads are started in order; one that waits at a barrier keeps its
//                       stack, and the last one makes the others ready. A kernel without barriers
//                       uses one fiber
//     warp_barriers.h   warps: shuffles and votes are barriers of the lanes in their mask
//     pause.h           signals: a launch pauses at times, so that Python sees Ctrl-C and hangs
//     launch.h          a launch, its errors, the output of printf
//
// With CHECKED defined, each access to memory is checked:
//
//   checked.h           array types that know their array
//   checked_runtime.h   what these and plain pointers call of the runtime, which is also:
//     happens_before.h  the order of accesses: barriers, fences and atomic operations
//     shadow.h          shadow memory of races, and memory transactions
//     checks.h          bounds, initialisation and races
//     hooks.h           plain pointers
#pragma once

#define SHARED_FITS(T, count) \
    static_assert(sizeof(T) * (count) <= 48 * 1024, "a SHARED array takes more than 48 KiB")

#include "intrinsics.h"
#include "warp.h"
#include "atomics.h"

#ifndef CHECKED
#include "launch.h"
#define UNCHECKED

#define SHARED(T, name, count)       \
    SHARED_FITS(T, count);           \
    alignas(128) static T name[count]
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared)

namespace emulator {
static const char* const* parameters;
inline void begin_launch(const Launch&) {}
template <class P> P unpack(void* value, int) { return *static_cast<P*>(value); }
template <class P> constexpr int element_size = 0;
template <class T> constexpr int element_size<T*> = component_size<std::remove_cv_t<T>>;
template <class T> constexpr int element_size<T* __restrict__> = component_size<std::remove_cv_t<T>>;
template <class T> T* dynamic_array(const char*) { return reinterpret_cast<T*>(dynamic_shared); }
}  // namespace emulator
#endif

namespace emulator {
// Call a kernel with the addresses of its arguments, as cuLaunchKernel does.
template <auto kernel> struct Entry;
template <class... P, void (*kernel)(P...)> struct Entry<kernel> {
    static std::tuple<P...>* arguments;

    UNCHECKED static void call() { std::apply(kernel, *arguments); }

    template <std::size_t... i>
    static int run(const Launch& l, void** a, std::index_sequence<i...>) {
        begin_launch(l);
        // Static, because a launch that has paused reads them when it is resumed.
        static std::optional<std::tuple<P...>> unpacked;
        unpacked.emplace(unpack<P>(a[i], static_cast<int>(i))...);
        arguments = &*unpacked;
#ifdef CHECKED
        arguments_begin = arguments;
        arguments_end = arguments + 1;
#endif
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

#ifdef CHECKED
// The compiler does not insert checks before calls of the C library.
extern "C" void* emulator_memcpy(void* to, const void* from, std::size_t bytes);
extern "C" void* emulator_memset(void* to, int value, std::size_t bytes);
namespace std {
using ::emulator_memcpy, ::emulator_memset;
}
#define memcpy emulator_memcpy
#define memmove emulator_memcpy
#define memset emulator_memset
#endif

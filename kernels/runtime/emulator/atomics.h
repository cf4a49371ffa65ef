// Atomic operations. One thread runs at a time, so a plain operation is atomic. It is volatile, so
// that a loop which waits for its result is not removed by g++, but found to hang.
#pragma once

#include "language.h"
#ifdef CHECKED
#include "checked.h"
#endif

// F(name, the value that is stored, given the value `old` in memory and the operand `value`)
#define ATOMIC_OPERATIONS(F) \
    F(atomicAdd, old + value) \
    F(atomicSub, old - value) \
    F(atomicMin, old < value ? old : value) \
    F(atomicMax, old > value ? old : value) \
    F(atomicExch, value) \
    F(atomicAnd, old & value) \
    F(atomicOr, old | value) \
    F(atomicXor, old ^ value) \
    F(atomicInc, old >= value ? 0 : old + 1) \
    F(atomicDec, old == 0 || old > value ? value : old - 1)

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
ATOMIC_TYPES(atomicInc, unsigned)
ATOMIC_TYPES(atomicDec, unsigned)
ATOMIC_TYPES(atomicCAS, int, unsigned, ull, unsigned short)

// A parameter whose type is not deduced from its argument.
template <class T> struct Identity {
    using type = T;
};
template <class T> using Same = typename Identity<T>::type;
}  // namespace emulator
#define ATOMIC_FITS(name, T) static_assert(emulator::name##_takes<T>, #name " is for other types")

#ifndef CHECKED
#define ATOMIC_FUNCTION(T) template <class T> inline T
#define CHECK_ATOMIC(x)
#else
// An atomic operation reads and writes; it races with plain accesses only.
#define ATOMIC_FUNCTION(T) template <class T> UNCHECKED __attribute__((noinline)) T
#define CHECK_ATOMIC(x) \
    emulator::check_address(RETURN_ADDRESS, x, sizeof *x, emulator::AccessKind::atomic)
#endif

#define ATOMIC(name, result)                             \
    ATOMIC_FUNCTION(T) name(T* x, emulator::Same<T> value) { \
        ATOMIC_FITS(name, T);                            \
        CHECK_ATOMIC(x);                                 \
        volatile T& memory = *x;                         \
        const T old = memory;                            \
        memory = static_cast<T>(result);                 \
        return old;                                      \
    }
ATOMIC_OPERATIONS(ATOMIC)
#undef ATOMIC
ATOMIC_FUNCTION(T) atomicCAS(T* x, emulator::Same<T> compare, emulator::Same<T> value) {
    ATOMIC_FITS(atomicCAS, T);
    CHECK_ATOMIC(x);
    volatile T& memory = *x;
    const T old = memory;
    if (old == compare) memory = value;
    return old;
}

#ifdef CHECKED
// The same operations on elements of In, Out and SHARED.
#define ATOMIC_ARRAY_FUNCTION template <class T, class M> UNCHECKED __attribute__((noinline)) T
#define CHECK_ATOMIC_ELEMENT(x)                                                              \
    x.memory.check(RETURN_ADDRESS, x.origin_bytes(), reinterpret_cast<const char*>(x.address), \
                   sizeof(T), emulator::AccessKind::atomic)
#define ATOMIC(name, result)                                                          \
    ATOMIC_ARRAY_FUNCTION name(const emulator::Pointer<T, M>& x, emulator::Same<T> value) { \
        ATOMIC_FITS(name, T);                                                         \
        CHECK_ATOMIC_ELEMENT(x);                                                      \
        const T old = *x.address;                                                     \
        *x.address = static_cast<T>(result);                                          \
        return old;                                                                   \
    }
ATOMIC_OPERATIONS(ATOMIC)
#undef ATOMIC
ATOMIC_ARRAY_FUNCTION atomicCAS(const emulator::Pointer<T, M>& x, emulator::Same<T> compare,
                                emulator::Same<T> value) {
    ATOMIC_FITS(atomicCAS, T);
    CHECK_ATOMIC_ELEMENT(x);
    const T old = *x.address;
    if (old == compare) *x.address = value;
    return old;
}
#endif

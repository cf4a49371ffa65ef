// The checked build's array types: In, Out, SHARED and what kernel.h declares beside them. A
// pointer of these types knows its array, so that an element of another array is outside of it; a
// plain pointer is checked by its address alone (hooks.h). Each access to an element checks:
//
//   bounds            the element is in the array that was passed, or in the shared array
//   initialisation    an element that is read has been written before
//   races             the access does not race with an earlier one (shadow.h)
//
// and is recorded, so that the transactions of each warp's access can be counted: sectors of global
// memory, passes through shared memory.
#pragma once

#include "checked_runtime.h"

template <class T, int N> struct Pack;

namespace emulator {
struct GlobalMemory {
    const Array* array;  // null for a null pointer
    static constexpr bool shared = false;

    void check(const void* return_address, const char* origin, const char* address, unsigned bytes,
               AccessKind kind) const {
        check_array(return_address, array, origin, address, bytes, kind);
    }
};
struct SharedMemory {
    Declared* array;
    static constexpr bool shared = true;

    void check(const void* return_address, const char*, const char* address, unsigned bytes,
               AccessKind kind) const {
        check_variable(return_address, array, address, bytes, kind);
    }
};

// ------------------------------------------------------------------------------------ pointers
template <class T, class M> struct Pointer;

template <class T, class M>
UNCHECKED __attribute__((noinline)) T read(const Pointer<T, M>& x, const T* address) {
    x.memory.check(RETURN_ADDRESS, x.origin_bytes(), reinterpret_cast<const char*>(address),
                   sizeof(T), AccessKind::read);
    record_lane(RETURN_ADDRESS, address, sizeof(T), M::shared);
    return *address;
}
template <class T, class M>
UNCHECKED __attribute__((noinline)) void write(const Pointer<T, M>& x, T* address, T value) {
    x.memory.check(RETURN_ADDRESS, x.origin_bytes(), reinterpret_cast<const char*>(address),
                   sizeof(T), AccessKind::write);
    record_lane(RETURN_ADDRESS, address, sizeof(T), M::shared);
    *address = value;
}

// A reference to an element, which checks when it is read or written. `const auto old = y[i]` would
// make a reference that is read only where `old` is used, so that does not compile; the type must
// be named: `const REAL old = y[i]`.
template <class T, class M> struct ElementReference {
    Pointer<T, M> x;
    T* address;

    __forceinline__ operator T() const&& { return read(x, address); }
    operator T() const& = delete;
    __forceinline__ T operator=(T value) const {
        write(x, address, value);
        return value;
    }
    __forceinline__ T operator=(const ElementReference& y) const {
        return *this = read(y.x, y.address);
    }
#define COMPOUND_ASSIGNMENT(op)                                                   \
    template <class V> __forceinline__ T operator op##=(V&& v) const {            \
        return *this = static_cast<T>(read(x, address) op std::forward<V>(v));    \
    }
    COMPOUND_ASSIGNMENT(+)
    COMPOUND_ASSIGNMENT(-)
    COMPOUND_ASSIGNMENT(*)
    COMPOUND_ASSIGNMENT(/)
    COMPOUND_ASSIGNMENT(%)
    COMPOUND_ASSIGNMENT(&)
    COMPOUND_ASSIGNMENT(|)
    COMPOUND_ASSIGNMENT(^)
    COMPOUND_ASSIGNMENT(<<)
    COMPOUND_ASSIGNMENT(>>)
#undef COMPOUND_ASSIGNMENT
    __forceinline__ T operator++() const { return *this += 1; }
    __forceinline__ T operator--() const { return *this -= 1; }
    __forceinline__ T operator++(int) const {
        const T old = read(x, address);
        *this = static_cast<T>(old + 1);
        return old;
    }
    __forceinline__ T operator--(int) const {
        const T old = read(x, address);
        *this = static_cast<T>(old - 1);
        return old;
    }
    Pointer<T, M> operator&() const { return {x.origin, address, x.memory}; }
};

template <class T, class M> struct Pointer {
    T* origin;  // element 0 in messages
    T* address;
    M memory;

    const char* origin_bytes() const { return reinterpret_cast<const char*>(origin); }
    __forceinline__ ElementReference<T, M> operator[](std::int64_t i) const {
        return {*this, address + i};
    }
    __forceinline__ ElementReference<T, M> operator*() const { return {*this, address}; }
    Pointer operator+(std::int64_t i) const { return {origin, address + i, memory}; }
    explicit operator bool() const { return address != nullptr; }
};

// An array that is only read: assigning to an element does not compile.
template <class T> struct Input {
    Pointer<T, GlobalMemory> x;

    __forceinline__ T operator[](std::int64_t i) const { return read(x, x.address + i); }
    __forceinline__ T operator*() const { return read(x, x.address); }
    Input operator+(std::int64_t i) const { return {x + i}; }
    explicit operator bool() const { return x.address != nullptr; }
};

template <class T> using Output = Pointer<T, GlobalMemory>;

// A vectorized access checks each element, and is recorded as one access.
template <int N, class T, class M>
UNCHECKED __attribute__((noinline)) Pack<T, N> load_pack(const Pointer<T, M>& x, const T* first) {
    if (reinterpret_cast<std::uint64_t>(first) % alignof(Pack<T, N>))
        fail_alignment(RETURN_ADDRESS, "loads", alignof(Pack<T, N>));
    Pack<T, N> pack;
    for (int k = 0; k < N; ++k) {
        x.memory.check(RETURN_ADDRESS, x.origin_bytes(), reinterpret_cast<const char*>(first + k),
                       sizeof(T), AccessKind::read);
        pack.values[k] = first[k];
    }
    record_lane(RETURN_ADDRESS, first, sizeof pack, M::shared);
    return pack;
}
template <int N, class T, class M>
UNCHECKED __attribute__((noinline)) void store_pack(const Pointer<T, M>& x, T* first,
                                          const Pack<T, N>& pack) {
    if (reinterpret_cast<std::uint64_t>(first) % alignof(Pack<T, N>))
        fail_alignment(RETURN_ADDRESS, "stores", alignof(Pack<T, N>));
    for (int k = 0; k < N; ++k) {
        x.memory.check(RETURN_ADDRESS, x.origin_bytes(), reinterpret_cast<const char*>(first + k),
                       sizeof(T), AccessKind::write);
        first[k] = pack.values[k];
    }
    record_lane(RETURN_ADDRESS, first, sizeof pack, M::shared);
}

// --------------------------------------------------------------------------- parameters
// Make a kernel's parameter from the argument's address: for an array, a pointer with its
// region.
template <class P> struct Unpack {
    static P from(void* value, int) { return *static_cast<P*>(value); }
};
template <class T> struct Unpack<Output<T>> {
    static Output<T> from(void* value, int argument) {
        T* address = *static_cast<T**>(value);
        return {address, address, {array_of_argument(argument)}};
    }
};
template <class T> struct Unpack<Input<T>> {
    static Input<T> from(void* value, int argument) {
        return {Unpack<Output<T>>::from(value, argument)};
    }
};
template <class P> P unpack(void* value, int argument) { return Unpack<P>::from(value, argument); }

template <class P> constexpr int element_size = 0;
template <class T> constexpr int element_size<T*> = component_size<std::remove_cv_t<T>>;
template <class T> constexpr int element_size<Input<T>> = sizeof(T);
template <class T, class M> constexpr int element_size<Pointer<T, M>> = sizeof(T);

// Find the array at an address that was passed inside a struct.
template <class P> struct AtAddress;
template <class T> struct AtAddress<Output<T>> {
    static Output<T> make(std::uint64_t number) {
        T* address = reinterpret_cast<T*>(number);
        return {address, address, {array_at_address(number)}};
    }
};
template <class T> struct AtAddress<Input<T>> {
    static Input<T> make(std::uint64_t number) { return {AtAddress<Output<T>>::make(number)}; }
};

// Return the shared or __device__ array `memory`, declared under its name.
template <class T> Variable describe(Space space, const char* name, const T& memory) {
    using Element = std::remove_all_extents_t<T>;
    const auto first = const_cast<const char*>(reinterpret_cast<const volatile char*>(&memory));
    Variable variable{space, name, first, sizeof memory,
                      sizeof(Element), static_cast<int>(std::rank_v<T>), {}};
    const std::uint64_t extents[] = {std::extent_v<T, 0>, std::extent_v<T, 1>, std::extent_v<T, 2>,
                                     std::extent_v<T, 3>};
    static_assert(std::rank_v<T> <= 4, "an array has at most four axes");
    std::copy(extents, extents + 4, variable.extents);
    return variable;
}

// Shared memory between guards, so that an access outside of it is in no other variable.
template <class T> struct Guarded {
    unsigned char before[256];
    alignas(256) T memory;
    unsigned char after[256];
};

// Return the variable that `__shared__ T name` declares; translate.py puts the call in its place.
template <class T, int number> UNCHECKED T& shared_variable(const char* name) {
    SHARED_FITS(T, 1);
    static Guarded<T> variable;
    static Declared* const once = declare(describe(Space::shared, name, variable.memory));
    static_cast<void>(once);
    return variable.memory;
}
template <class T, int number, int count>
UNCHECKED Pointer<T, SharedMemory> shared_array(const char* name) {
    SHARED_FITS(T, count);
    static Guarded<T[count]> variable;
    static Declared* const once = declare(describe(Space::shared, name, variable.memory));
    return {variable.memory, variable.memory, {once}};
}
// The pointer that `extern __shared__ T name[]` declares.
template <class T> T* dynamic_array(const char* name) {
    declare_dynamic(name, sizeof(T));
    return reinterpret_cast<T*>(dynamic_shared);
}
}  // namespace emulator

template <class T> using In = emulator::Input<T>;
template <class T> using Out = emulator::Output<T>;
template <class T> using InOut = emulator::Output<T>;
template <class T> using Shared = emulator::Pointer<T, emulator::SharedMemory>;

#define SHARED(T, name, count) \
    const auto name = emulator::shared_array<T, __COUNTER__, count>(#name)
#define DYNAMIC_SHARED(T, name)                                                            \
    const Shared<T> name{reinterpret_cast<T*>(emulator::dynamic_shared),                   \
                         reinterpret_cast<T*>(emulator::dynamic_shared),                   \
                         {emulator::declare_dynamic(#name, sizeof(T))}}

template <class P> P array_at(unsigned long long address) {
    return emulator::AtAddress<P>::make(address);
}
template <int N, class T> __forceinline__ Pack<T, N> load(const In<T>& x, long long i) {
    return emulator::load_pack<N>(x.x, x.x.address + i * N);
}
template <int N, class T, class M>
__forceinline__ Pack<T, N> load(const emulator::Pointer<T, M>& x, long long i) {
    return emulator::load_pack<N>(x, x.address + i * N);
}
template <int N, class T, class M>
__forceinline__ void store(const emulator::Pointer<T, M>& y, long long i, const Pack<T, N>& pack) {
    emulator::store_pack<N>(y, y.address + i * N, pack);
}

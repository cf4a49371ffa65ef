// The checked build's array types. Each access to an element checks:
//
//   bounds            the element is in the array that was passed, or in the shared array
//   initialisation    an element that is read has been written before
//   races             the access does not race with an earlier one (shadow.h)
//
// and is recorded, so that the transactions of each warp's access can be counted: sectors of global
// memory, passes through shared memory.
//
// The first error ends the launch with a message that names block, thread, array and element.
#pragma once

#include "shadow.h"

template <class T, int N> struct Pack;

namespace emulator {
static const char* const* parameters;  // the names of the running kernel's parameters

// ------------------------------------------------------------------------------ global memory
// An array argument, and the shadow of the allocation that it lies in.
struct Array {
    const Region* region = nullptr;
    const char* name = "";
    std::vector<Shadow>* shadow = nullptr;
};
static std::vector<Array> arrays;
static std::unordered_map<std::uint64_t, std::vector<Shadow>> shadows;  // by allocation
static void* error_address;  // the return address of the check that failed, for the source line

__attribute__((noinline, cold)) inline void fail(const void* return_address,
                                                 const std::string& text) {
    char thread[100];
    describe_thread(thread, sizeof thread, current->thread);
    std::snprintf(message, sizeof message, "%s %s", thread, text.c_str());
    error_address = const_cast<void*>(return_address);
    abort_launch();
}

inline std::string thread_name(const Access& access) {
    if (access.block() != block_serial) return "a thread of another block";
    char name[100];
    const unsigned t = static_cast<unsigned>(access.thread % MAX_THREADS_PER_BLOCK);
    std::snprintf(name, sizeof name, "thread (%u, %u, %u)", t % blockDim.x,
                  t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y));
    return name;
}

inline std::string element_name(const char* array, std::int64_t i) {
    return std::string(array) + "[" + std::to_string(i) + "]";
}

inline void check_race(const void* return_address, Shadow& shadow, AccessKind kind,
                       const char* verb, const std::string& element) {
    const Race race = record_access(shadow, kind);
    if (!race) return;
    fail(return_address, std::string(verb) + " " + element + ", which " + thread_name(race.other) +
                             (race.is_write ? " writes" : " reads") +
                             " with no barrier between: a race");
}

struct GlobalMemory {
    const Array* array;  // null for a null pointer
    static constexpr bool shared = false;

    // Check an access of `bytes` at `address`; `origin` is element 0 in messages.
    void check(const void* return_address, const char* origin, const char* address, unsigned bytes,
               AccessKind kind) const {
        const auto first = reinterpret_cast<std::uint64_t>(address);
        const std::int64_t index = (address - origin) / static_cast<std::int64_t>(bytes);
        const char* verb = kind == AccessKind::write ? "writes" : "reads";
        if (!array)
            fail(return_address, std::string(verb) + " through an array that is not there (null)");
        const Region& r = *array->region;
        if (bytes != r.itemsize)
            fail(return_address, std::string(verb) + " " + array->name + " as elements of " +
                                     std::to_string(bytes) + " bytes; they have " +
                                     std::to_string(r.itemsize));
        if (first < r.first || first + bytes > r.end) {
            const std::int64_t size = bytes;
            const std::int64_t low = (static_cast<std::int64_t>(r.first) -
                                      reinterpret_cast<std::int64_t>(origin)) / size;
            const std::int64_t high = (static_cast<std::int64_t>(r.end) -
                                       reinterpret_cast<std::int64_t>(origin)) / size - 1;
            fail(return_address, std::string(verb) + " " + element_name(array->name, index) +
                                     ", outside its elements " + std::to_string(low) + " to " +
                                     std::to_string(high));
        }
        const std::uint64_t i = (first - r.base) / r.itemsize;
        if (r.view && !r.view[i])
            fail(return_address, std::string(verb) + " " + element_name(array->name, index) +
                                     ", which lies between the elements of the view it was given");
        if (kind != AccessKind::write && !r.written[i])
            fail(return_address, "reads " + element_name(array->name, index) +
                                     ", which nothing has written before");
        check_race(return_address, (*array->shadow)[i], kind, verb,
                   element_name(array->name, index));
        r.written[i] |= kind != AccessKind::read;
    }
};

// ------------------------------------------------------------------------------ shared memory
struct SharedArray {
    const char* name;
    const char* first;
    std::uint64_t bytes;
    std::int64_t block;  // the block whose values and shadow it holds
    std::vector<Shadow> shadow;
    std::vector<unsigned char> written;

    // Begin with uninitialised elements in each block. Where one block declares the dynamic shared
    // memory with two element types, writes are not tracked: all elements count as written.
    void begin(std::uint64_t count) {
        if (block == block_serial && shadow.size() == count) return;
        written.assign(count, block == block_serial);
        shadow.assign(count, Shadow());
        block = block_serial;
    }
};

static SharedArray dynamic_array{"", 0, 0, -1, {}, {}};

struct SharedMemory {
    SharedArray* array;
    static constexpr bool shared = true;

    void check(const void* return_address, const char*, const char* address, unsigned bytes,
               AccessKind kind) const {
        SharedArray& a = *array;
        const char* verb = kind == AccessKind::write ? "writes" : "reads";
        const std::int64_t index = (address - a.first) / static_cast<std::int64_t>(bytes);
        const std::int64_t count = static_cast<std::int64_t>(a.bytes / bytes);
        if (address < a.first || index >= count)
            fail(return_address, std::string(verb) + " " + element_name(a.name, index) +
                                     ", outside its elements 0 to " + std::to_string(count - 1));
        if (kind != AccessKind::write && !a.written[index])
            fail(return_address, "reads " + element_name(a.name, index) +
                                     ", which nothing has written before (is a barrier missing?)");
        check_race(return_address, a.shadow[index], kind, verb, element_name(a.name, index));
        a.written[index] |= kind != AccessKind::read;
    }
};

// ------------------------------------------------------------------------------------ pointers
// The functions below that check are not inlined, so that the return address identifies the
// kernel's instruction.
#define RETURN_ADDRESS __builtin_return_address(0)

template <class T, class M> struct Pointer;

template <class T, class M>
__attribute__((noinline)) T read(const Pointer<T, M>& x, const T* address) {
    x.memory.check(RETURN_ADDRESS, x.origin_bytes(), reinterpret_cast<const char*>(address),
                   sizeof(T), AccessKind::read);
    record_lane(RETURN_ADDRESS, address, sizeof(T), M::shared);
    return *address;
}
template <class T, class M>
__attribute__((noinline)) void write(const Pointer<T, M>& x, T* address, T value) {
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
    template <class V> __forceinline__ T operator+=(V&& v) const {
        return *this = static_cast<T>(read(x, address) + std::forward<V>(v));
    }
    template <class V> __forceinline__ T operator-=(V&& v) const {
        return *this = static_cast<T>(read(x, address) - std::forward<V>(v));
    }
    template <class V> __forceinline__ T operator*=(V&& v) const {
        return *this = static_cast<T>(read(x, address) * std::forward<V>(v));
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
__attribute__((noinline)) Pack<T, N> load_pack(const Pointer<T, M>& x, const T* first) {
    if (reinterpret_cast<std::uint64_t>(first) % alignof(Pack<T, N>))
        fail(RETURN_ADDRESS,
             "loads a Pack whose address is no multiple of " + std::to_string(alignof(Pack<T, N>)));
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
__attribute__((noinline)) void store_pack(const Pointer<T, M>& x, T* first,
                                          const Pack<T, N>& pack) {
    if (reinterpret_cast<std::uint64_t>(first) % alignof(Pack<T, N>))
        fail(RETURN_ADDRESS, "stores a Pack whose address is no multiple of " +
                                 std::to_string(alignof(Pack<T, N>)));
    for (int k = 0; k < N; ++k) {
        x.memory.check(RETURN_ADDRESS, x.origin_bytes(), reinterpret_cast<const char*>(first + k),
                       sizeof(T), AccessKind::write);
        first[k] = pack.values[k];
    }
    record_lane(RETURN_ADDRESS, first, sizeof pack, M::shared);
}

// --------------------------------------------------------------------------- launch and blocks
// Each launch begins with empty shadows, since launches of one stream are ordered.
inline void begin_launch(const Launch& launch) {
    arrays.clear();
    shadows.clear();
    error_address = nullptr;
    for (std::uint64_t i = 0; i < launch.regions; ++i) {
        const Region& region = launch.region[i];
        std::vector<Shadow>& shadow = shadows[region.base];
        shadow.resize(region.bytes / region.itemsize);
    }
    for (std::uint64_t i = 0; i < launch.regions; ++i) {
        const Region& region = launch.region[i];
        const char* name =
            region.argument < 0 ? "an array of a table" : parameters[region.argument];
        arrays.push_back({&region, name, &shadows[region.base]});
    }
}
inline void begin_block() { reset_clocks(); }
inline void end_block() {
    for (const auto& [key, instruction] : instructions)
        for (const WarpAccess& access : instruction.accesses) count_transactions(access);
    instructions.clear();
}
inline void end_launch() { instructions.clear(); }

// Make a kernel's parameter from the argument's address: for an array, a pointer with its
// region.
template <class P> struct Unpack {
    static P from(void* value, int) { return *static_cast<P*>(value); }
};
template <class T> struct Unpack<Output<T>> {
    static Output<T> from(void* value, int argument) {
        T* address = *static_cast<T**>(value);
        for (const Array& array : arrays)
            if (array.region->argument == argument) return {address, address, {&array}};
        return {address, address, {nullptr}};
    }
};
template <class T> struct Unpack<Input<T>> {
    static Input<T> from(void* value, int argument) {
        return {Unpack<Output<T>>::from(value, argument)};
    }
};
template <class P> P unpack(void* value, int argument) { return Unpack<P>::from(value, argument); }

template <class P> constexpr int element_size = 0;
template <class T> constexpr int element_size<T*> = sizeof(T);
template <class T> constexpr int element_size<Input<T>> = sizeof(T);
template <class T, class M> constexpr int element_size<Pointer<T, M>> = sizeof(T);

// Find the array at an address that was passed inside a struct.
template <class P> struct AtAddress;
template <class T> struct AtAddress<Output<T>> {
    static Output<T> make(std::uint64_t number) {
        T* address = reinterpret_cast<T*>(number);
        // An array that begins at the address is preferred to one that contains it.
        for (const Array& array : arrays)
            if (array.region->first == number) return {address, address, {&array}};
        for (const Array& array : arrays)
            if (array.region->first <= number && number < array.region->end)
                return {address, address, {&array}};
        return {address, address, {nullptr}};
    }
};
template <class T> struct AtAddress<Input<T>> {
    static Input<T> make(std::uint64_t number) { return {AtAddress<Output<T>>::make(number)}; }
};

template <class T> Pointer<T, SharedMemory> shared_array(SharedArray& array, T* first,
                                                         std::uint64_t bytes, const char* name) {
    array.name = name;
    array.first = reinterpret_cast<const char*>(first);
    array.bytes = bytes;
    array.begin(bytes / sizeof(T));
    return {first, first, {&array}};
}
}  // namespace emulator

template <class T> using In = emulator::Input<T>;
template <class T> using Out = emulator::Output<T>;
template <class T> using InOut = emulator::Output<T>;
template <class T> using Shared = emulator::Pointer<T, emulator::SharedMemory>;

#define SHARED(T, name, count)                                        \
    SHARED_FITS(T, count);                                            \
    alignas(128) static T name##_memory[count];                       \
    static emulator::SharedArray name##_shadow{"", 0, 0, -1, {}, {}}; \
    const auto name =                                                 \
        emulator::shared_array<T>(name##_shadow, name##_memory, sizeof name##_memory, #name)
#define DYNAMIC_SHARED(T, name)                                                           \
    const auto name = emulator::shared_array<T>(                                          \
        emulator::dynamic_array, reinterpret_cast<T*>(emulator::dynamic_shared),          \
        emulator::dynamic_bytes, #name)

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

// An atomic operation reads and writes; it races with plain accesses only.
#define ATOMIC(name, result)                                                                      \
    template <class T, class M, class V>                                                          \
    __attribute__((noinline)) T name(const emulator::Pointer<T, M>& x, V v) {                     \
        ATOMIC_FITS(name, T);                                                                     \
        const char* address = reinterpret_cast<const char*>(x.address);                           \
        x.memory.check(RETURN_ADDRESS, x.origin_bytes(), address, sizeof(T),                      \
                       emulator::AccessKind::atomic);                                             \
        const T old = *x.address, value = static_cast<T>(v);                                      \
        *x.address = result;                                                                      \
        return old;                                                                               \
    }
ATOMIC_OPERATIONS(ATOMIC)
#undef ATOMIC
template <class T, class M>
__attribute__((noinline)) T atomicCAS(const emulator::Pointer<T, M>& x, T compare, T value) {
    ATOMIC_FITS(atomicCAS, T);
    const char* address = reinterpret_cast<const char*>(x.address);
    x.memory.check(RETURN_ADDRESS, x.origin_bytes(), address, sizeof(T),
                   emulator::AccessKind::atomic);
    const T old = *x.address;
    if (old == compare) *x.address = value;
    return old;
}

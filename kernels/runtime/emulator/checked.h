// The emulator's checked arrays. Each access asks, for its one element:
//
//   bounds       does it lie in the array that the host gave, or in the shared array declared?
//   written      has anything ever written what is read here?
//   races        did another thread touch it since the last barrier that orders the two? Threads of
//                different blocks are never ordered; those of a block by __syncthreads(), those of
//                a warp also by __syncwarp(). Two reads, and two atomic operations, do not race
//
// and for each access of a warp (the same instruction, for the same time, in its 32 lanes) counts
// the sectors of memory or the passes through shared memory that a GPU would need.
//
// The first mistake ends the launch with a message that names block, thread, array and element.
#pragma once
#include <string>

#include "shadow.h"

template <class T, int N> struct Pack;

namespace emulator {
static const char* const* parameters;  // the names of the running kernel's parameters

// ----------------------------------------------------------------------------- arrays of the host
// The part of an array that a launch may touch; the shadow of the memory it lies in.
struct Array {
    const Region* region = nullptr;
    const char* name = "";
    std::vector<Shadow>* shadow = nullptr;
};
static std::vector<Array> arrays;
static std::unordered_map<std::uint64_t, std::vector<Shadow>> shadows;  // by base address
static void* fault;  // the instruction that made the first mistake

__attribute__((noinline, cold)) inline void fail(const void* site, const std::string& what) {
    char who[100];
    describe_thread(who, sizeof who, current->thread);
    std::snprintf(message, sizeof message, "%s %s", who, what.c_str());
    fault = const_cast<void*>(site);
    stop();
}

inline std::string name_thread(const Touch& touch) {
    if (touch.thread / MAX_THREADS != block_serial) return "a thread of another block";
    char who[100];
    const unsigned t = static_cast<unsigned>(touch.thread % MAX_THREADS);
    std::snprintf(who, sizeof who, "thread (%u, %u, %u)", t % blockDim.x,
                  t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y));
    return who;
}

inline std::string element(const char* name, std::int64_t i) {
    return std::string(name) + "[" + std::to_string(i) + "]";
}

inline void check_race(const void* site, Shadow& shadow, Does kind, const char* does,
                       const std::string& what) {
    const Race race = note(shadow, kind);
    if (!race) return;
    fail(site, std::string(does) + " " + what + ", which " + name_thread(race.other) +
                   (race.wrote ? " writes" : " reads") + " with no barrier between: a race");
}

struct Memory {  // what the host owns
    const Array* array;

    void access(const void* site, const char* origin, const char* at, unsigned bytes,
                Does kind) const {
        const auto address = reinterpret_cast<std::uint64_t>(at);
        const std::int64_t place = (at - origin) / static_cast<std::int64_t>(bytes);
        const char* does = kind == Does::write ? "writes" : "reads";
        if (!array) fail(site, std::string(does) + " through an array that is not there (null)");
        const Region& r = *array->region;
        if (bytes != r.itemsize)
            fail(site, std::string(does) + " " + array->name + " as elements of " +
                           std::to_string(bytes) + " bytes; they have " + std::to_string(r.itemsize));
        if (address < r.first || address + bytes > r.end) {
            const std::int64_t size = bytes;
            const std::int64_t low = (static_cast<std::int64_t>(r.first) -
                                      reinterpret_cast<std::int64_t>(origin)) / size;
            const std::int64_t high = (static_cast<std::int64_t>(r.end) -
                                       reinterpret_cast<std::int64_t>(origin)) / size - 1;
            fail(site, std::string(does) + " " + element(array->name, place) +
                           ", outside its elements " + std::to_string(low) + " to " +
                           std::to_string(high));
        }
        const std::uint64_t i = (address - r.base) / r.itemsize;
        if (r.view && !r.view[i])
            fail(site, std::string(does) + " " + element(array->name, place) +
                           ", which lies between the elements of the view it was given");
        if (kind != Does::write && !r.written[i])
            fail(site, "reads " + element(array->name, place) + ", which nothing has written before");
        check_race(site, (*array->shadow)[i], kind, does, element(array->name, place));
        r.written[i] |= kind != Does::read;
    }
    static constexpr bool shared = false;
};

// ------------------------------------------------------------------------------- shared arrays
struct SharedArray {
    const char* name;
    const char* first;
    std::uint64_t bytes;
    std::int64_t block;
    std::vector<Shadow> shadow;
    std::vector<unsigned char> written;

    // Each block finds it empty. Declared again with other elements, it holds what nobody knows.
    void begin(std::uint64_t count) {
        if (block == block_serial && shadow.size() == count) return;
        written.assign(count, block == block_serial);
        shadow.assign(count, Shadow());
        block = block_serial;
    }
};

static SharedArray dynamic_shadow{"", 0, 0, -1, {}, {}};

struct SharedMemory {
    SharedArray* array;

    void access(const void* site, const char*, const char* at, unsigned bytes, Does kind) const {
        SharedArray& a = *array;
        const char* does = kind == Does::write ? "writes" : "reads";
        const std::int64_t place = (at - a.first) / static_cast<std::int64_t>(bytes);
        const std::int64_t count = static_cast<std::int64_t>(a.bytes / bytes);
        if (at < a.first || place >= count)
            fail(site, std::string(does) + " " + element(a.name, place) + ", outside its elements 0 to " +
                           std::to_string(count - 1));
        if (kind != Does::write && !a.written[place])
            fail(site, "reads " + element(a.name, place) +
                           ", which nothing has written before (is a barrier missing?)");
        check_race(site, a.shadow[place], kind, does, element(a.name, place));
        a.written[place] |= kind != Does::read;
    }
    static constexpr bool shared = true;
};

// ------------------------------------------------------------------------------------ pointers
#define SITE __builtin_return_address(0)

template <class T, class M> struct Pointer;

template <class T, class M>
__attribute__((noinline)) T read(const Pointer<T, M>& x, const T* at) {
    x.memory.access(SITE, x.bytes(), reinterpret_cast<const char*>(at), sizeof(T), Does::read);
    count(SITE, at, sizeof(T), M::shared);
    return *at;
}
template <class T, class M>
__attribute__((noinline)) void write(const Pointer<T, M>& x, T* at, T value) {
    x.memory.access(SITE, x.bytes(), reinterpret_cast<const char*>(at), sizeof(T), Does::write);
    count(SITE, at, sizeof(T), M::shared);
    *at = value;
}

// An element that knows when it is read and written. It is no value: `const REAL old = y[i]` is one, and
// `const auto old = y[i]`, which would be read where it is used, does not compile there.
template <class T, class M> struct Element {
    Pointer<T, M> x;
    T* at;

    __forceinline__ operator T() const&& { return read(x, at); }
    operator T() const& = delete;
    __forceinline__ T operator=(T value) const {
        write(x, at, value);
        return value;
    }
    __forceinline__ T operator=(const Element& y) const { return *this = read(y.x, y.at); }
    template <class V> __forceinline__ T operator+=(V&& v) const {
        return *this = static_cast<T>(read(x, at) + std::forward<V>(v));
    }
    template <class V> __forceinline__ T operator-=(V&& v) const {
        return *this = static_cast<T>(read(x, at) - std::forward<V>(v));
    }
    template <class V> __forceinline__ T operator*=(V&& v) const {
        return *this = static_cast<T>(read(x, at) * std::forward<V>(v));
    }
    Pointer<T, M> operator&() const { return {x.origin, at, x.memory}; }
};

template <class T, class M> struct Pointer {
    T* origin;  // indices in messages count from here
    T* at;
    M memory;

    const char* bytes() const { return reinterpret_cast<const char*>(origin); }
    __forceinline__ Element<T, M> operator[](std::int64_t i) const { return {*this, at + i}; }
    __forceinline__ Element<T, M> operator*() const { return {*this, at}; }
    Pointer operator+(std::int64_t i) const { return {origin, at + i, memory}; }
    explicit operator bool() const { return at != nullptr; }
};

// An array that is read alone: assigning to an element of it does not compile.
template <class T> struct Input {
    Pointer<T, Memory> x;

    __forceinline__ T operator[](std::int64_t i) const { return read(x, x.at + i); }
    __forceinline__ T operator*() const { return read(x, x.at); }
    Input operator+(std::int64_t i) const { return {x + i}; }
    explicit operator bool() const { return x.at != nullptr; }
};

template <class T> using Output = Pointer<T, Memory>;

// Several neighbours at once: each is checked, and they count as one access.
template <int N, class T, class M>
__attribute__((noinline)) Pack<T, N> load_pack(const Pointer<T, M>& x, const T* first) {
    if (reinterpret_cast<std::uint64_t>(first) % alignof(Pack<T, N>))
        fail(SITE, "loads a Pack whose address is no multiple of " + std::to_string(alignof(Pack<T, N>)));
    Pack<T, N> values;
    for (int k = 0; k < N; ++k) {
        x.memory.access(SITE, x.bytes(), reinterpret_cast<const char*>(first + k), sizeof(T),
                        Does::read);
        values.at[k] = first[k];
    }
    count(SITE, first, sizeof values, M::shared);
    return values;
}
template <int N, class T, class M>
__attribute__((noinline)) void store_pack(const Pointer<T, M>& x, T* first, const Pack<T, N>& values) {
    if (reinterpret_cast<std::uint64_t>(first) % alignof(Pack<T, N>))
        fail(SITE, "stores a Pack whose address is no multiple of " + std::to_string(alignof(Pack<T, N>)));
    for (int k = 0; k < N; ++k) {
        x.memory.access(SITE, x.bytes(), reinterpret_cast<const char*>(first + k), sizeof(T),
                        Does::write);
        first[k] = values.at[k];
    }
    count(SITE, first, sizeof values, M::shared);
}

// --------------------------------------------------------------------------- launch and blocks
inline void begin_launch(const Launch& launch) {
    arrays.clear();
    shadows.clear();
    fault = nullptr;
    for (std::uint64_t i = 0; i < launch.regions; ++i) {
        const Region& region = launch.region[i];
        std::vector<Shadow>& shadow = shadows[region.base];
        shadow.resize(region.bytes / region.itemsize);
    }
    for (std::uint64_t i = 0; i < launch.regions; ++i) {
        const Region& region = launch.region[i];
        const char* name = region.argument < 0 ? "an array of a table" : parameters[region.argument];
        arrays.push_back({&region, name, &shadows[region.base]});
    }
}
inline void begin_block() { begin_clocks(); }
inline void end_block() {
    for (const auto& [key, site] : sites)
        for (const Access& access : site.accesses) add_up(access);
    sites.clear();
}
inline void end_launch() { sites.clear(); }

template <class P> struct Unpack {
    static P from(void* value, int) { return *static_cast<P*>(value); }
};
template <class T> struct Unpack<Output<T>> {
    static Output<T> from(void* value, int argument) {
        T* at = *static_cast<T**>(value);
        for (const Array& array : arrays)
            if (array.region->argument == argument) return {at, at, {&array}};
        return {at, at, {nullptr}};
    }
};
template <class T> struct Unpack<Input<T>> {
    static Input<T> from(void* value, int argument) { return {Unpack<Output<T>>::from(value, argument)}; }
};
template <class P> P unpack(void* value, int argument) { return Unpack<P>::from(value, argument); }

template <class P> constexpr int element_size = 0;
template <class T> constexpr int element_size<T*> = sizeof(T);
template <class T> constexpr int element_size<Input<T>> = sizeof(T);
template <class T, class M> constexpr int element_size<Pointer<T, M>> = sizeof(T);

template <class P> struct AtAddress;
template <class T> struct AtAddress<Output<T>> {
    static Output<T> make(std::uint64_t address) {
        T* at = reinterpret_cast<T*>(address);
        for (const Array& array : arrays)  // one that begins there, before one that goes on there
            if (array.region->first == address) return {at, at, {&array}};
        for (const Array& array : arrays)
            if (array.region->first <= address && address < array.region->end)
                return {at, at, {&array}};
        return {at, at, {nullptr}};
    }
};
template <class T> struct AtAddress<Input<T>> {
    static Input<T> make(std::uint64_t address) { return {AtAddress<Output<T>>::make(address)}; }
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

#define SHARED(T, name, count)                                     \
    SHARED_FITS(T, count);                                         \
    alignas(128) static T name##_memory[count];                    \
    static emulator::SharedArray name##_shadow{"", 0, 0, -1, {}, {}}; \
    const auto name = emulator::shared_array<T>(name##_shadow, name##_memory, sizeof name##_memory, #name)
#define DYNAMIC_SHARED(T, name)                                                           \
    const auto name = emulator::shared_array<T>(                                          \
        emulator::dynamic_shadow, reinterpret_cast<T*>(emulator::dynamic_shared),         \
        emulator::dynamic_bytes, #name)

template <class P> P array_at(unsigned long long address) {
    return emulator::AtAddress<P>::make(address);
}
template <int N, class T> __forceinline__ Pack<T, N> load(const In<T>& x, long long i) {
    return emulator::load_pack<N>(x.x, x.x.at + i * N);
}
template <int N, class T, class M>
__forceinline__ Pack<T, N> load(const emulator::Pointer<T, M>& x, long long i) {
    return emulator::load_pack<N>(x, x.at + i * N);
}
template <int N, class T, class M>
__forceinline__ void store(const emulator::Pointer<T, M>& y, long long i, const Pack<T, N>& values) {
    emulator::store_pack<N>(y, y.at + i * N, values);
}

// An atomic operation reads and writes; it races with ordinary accesses alone.
#define ATOMIC(name, result)                                                                      \
    template <class T, class M, class V>                                                          \
    __attribute__((noinline)) T name(const emulator::Pointer<T, M>& x, V v) {                     \
        ATOMIC_FITS(name, T);                                                                     \
        const char* at = reinterpret_cast<const char*>(x.at);                                     \
        x.memory.access(SITE, x.bytes(), at, sizeof(T), emulator::Does::atomic);                  \
        const T old = *x.at, value = static_cast<T>(v);                                           \
        *x.at = result;                                                                           \
        return old;                                                                               \
    }
ATOMIC_OPERATIONS(ATOMIC)
#undef ATOMIC
template <class T, class M>
__attribute__((noinline)) T atomicCAS(const emulator::Pointer<T, M>& x, T compare, T value) {
    ATOMIC_FITS(atomicCAS, T);
    const char* at = reinterpret_cast<const char*>(x.at);
    x.memory.access(SITE, x.bytes(), at, sizeof(T), emulator::Does::atomic);
    const T old = *x.at;
    if (old == compare) *x.at = value;
    return old;
}

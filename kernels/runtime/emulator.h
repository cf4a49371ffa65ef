// CUDA, executed by g++: a launch runs its blocks one after another on one core. Each CUDA thread is
// a function call that can be left in the middle (a fiber), because __syncthreads() must wait for
// threads that have not begun yet.
//
//   fibers      a stack each, and a switch that saves what a function call must preserve
//   a block     threads are begun in order. One that must wait leaves its stack as it is, and the
//               next begins on a fresh one. A kernel without barriers needs one stack in all
//   a barrier   the last thread to arrive makes all others ready to go on
//   a warp      32 neighbouring threads; shuffles are barriers of the lanes named in their mask
//
// With CHECKED defined, checked.h replaces arrays by types that notice every access.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include <dlfcn.h>
#include <sys/mman.h>

// A first reading of the source, for its kernels' names and parameters, keeps this word as it is.
#ifndef NAMES_ONLY
#define __global__
#endif
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __ldg(address) (*(address))

using std::abs, std::ceil, std::cos, std::exp, std::expm1, std::fabs, std::floor, std::fma;
using std::fmax, std::fmin, std::isfinite, std::isinf, std::isnan, std::log, std::log1p, std::pow;
using std::rint, std::sin, std::sqrt, std::tanh;

// ------------------------------------------------------------------------------ vector types
#define VECTOR_TYPES(T, name)                                                             \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                    \
    struct name##3 { T x, y, z; };                                                        \
    struct alignas(sizeof(T) < 8 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; };         \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                            \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                    \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR_TYPES(float, float)
VECTOR_TYPES(double, double)
VECTOR_TYPES(int, int)
VECTOR_TYPES(unsigned, uint)
#undef VECTOR_TYPES
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {
constexpr int MAX_THREADS = 1024;
constexpr std::size_t STACK = 256 * 1024, SHARED_BYTES = 227 * 1024;

// What the host gives for each array argument: the elements that the launch may touch, and the
// memory they lie in. `written` has one byte per element of that memory.
struct Region {
    std::uint64_t first, end, base, bytes, itemsize;
    unsigned char* written;
    std::int64_t argument;
};

struct Launch {
    unsigned grid[3], block[3];
    std::uint64_t shared, regions;
    Region* region;
};

// What the checked build counts. A warp's access to memory moves whole sectors of 32 bytes; shared
// memory serves one word of 4 bytes per bank and pass.
struct Counts {
    std::int64_t accesses, sectors, ideal_sectors, shared_accesses, passes, ideal_passes, barriers;
};

static Counts counts;
static char message[1024];

// ------------------------------------------------------------------------------------ fibers
struct Fiber;
static void fiber_loop();

#if defined(__x86_64__) || defined(__aarch64__)
struct Fiber {
    void* stack_pointer = nullptr;
    int thread = 0;
    uint3 index = {0, 0, 0};
    char* stack = nullptr;
};

// Push what a function must preserve, exchange the stack pointers, pop, return.
extern "C" void emulator_switch(void** save, void* load) __attribute__((visibility("hidden")));
#if defined(__x86_64__)
asm(R"(
.text
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");
constexpr int SAVED_WORDS = 8, ENTRY_WORD = 6;  // six registers, the entry, and a word of alignment
#else
asm(R"(
.text
.hidden emulator_switch
.type emulator_switch, %function
emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
constexpr int SAVED_WORDS = 20, ENTRY_WORD = 11;  // x30 holds the entry
#endif

static void prepare(Fiber& fiber) {
    auto top = reinterpret_cast<void**>(fiber.stack + STACK) - SAVED_WORDS;
    std::memset(top, 0, SAVED_WORDS * sizeof(void*));
    top[ENTRY_WORD] = reinterpret_cast<void*>(&fiber_loop);
    fiber.stack_pointer = top;
}

static void exchange(Fiber& from, Fiber& to) {
    emulator_switch(&from.stack_pointer, to.stack_pointer);
}
#else
}  // namespace emulator
#include <ucontext.h>
namespace emulator {
struct Fiber {
    ucontext_t context;
    int thread = 0;
    uint3 index = {0, 0, 0};
    char* stack = nullptr;
};

static void prepare(Fiber& fiber) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_loop, 0);
}

static void exchange(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#endif

// --------------------------------------------------------------------------------- the block
static Fiber host, fibers[MAX_THREADS];
static Fiber* current = &host;
static void (*body)();
static int threads, begun, finished, arrived;  // of this block
static uint3 next_index;                       // of the next thread to begin
static int made, idle_count, waiting_count, ready_first, ready_count;
static Fiber *idle[MAX_THREADS], *waiting[MAX_THREADS], *ready[MAX_THREADS];
static std::int64_t block_serial;  // of all blocks that this process ran
static unsigned epoch;             // barriers that this block has passed
alignas(128) static unsigned char dynamic_shared[SHARED_BYTES];
static std::uint64_t dynamic_bytes;

// The next thread of the block begins on the current stack.
inline void begin_thread() {
    current->thread = begun++;
    current->index = threadIdx = next_index;
    if (++next_index.x == blockDim.x) {
        next_index.x = 0;
        if (++next_index.y == blockDim.y) {
            next_index.y = 0;
            ++next_index.z;
        }
    }
}

inline void make_ready(Fiber* fiber) {
    ready[(ready_first + ready_count++) % MAX_THREADS] = fiber;
}

// Who runs when the current fiber cannot: a thread not begun yet, one that may go on, the host.
inline Fiber* next() {
    if (begun < threads) {
        if (idle_count) return idle[--idle_count];
        Fiber* fiber = &fibers[made++];
        if (!fiber->stack) {
            fiber->stack = static_cast<char*>(mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
            if (fiber->stack == MAP_FAILED) std::abort();
        }
        prepare(*fiber);
        return fiber;
    }
    if (!ready_count) return &host;
    Fiber* fiber = ready[ready_first];
    ready_first = (ready_first + 1) % MAX_THREADS;
    --ready_count;
    return fiber;
}

inline void leave() {
    Fiber* self = current;
    current = next();
    if (current != self) exchange(*self, *current);
    current = self;
    threadIdx = self->index;
}

// Drop every stack as it is and let the host report.
[[noreturn]] inline void stop() {
    exchange(*current, host);
    std::abort();
}

inline void describe_thread(char* text, std::size_t size, int thread) {
    const unsigned t = static_cast<unsigned>(thread);
    std::snprintf(text, size, "block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x, blockIdx.y,
                  blockIdx.z, t % blockDim.x, t / blockDim.x % blockDim.y,
                  t / (blockDim.x * blockDim.y));
}

// ------------------------------------------------------------------------------ block barrier
static int barrier_line[MAX_THREADS];

inline void release_block() {
    for (int i = 0; i < waiting_count; ++i) make_ready(waiting[i]);
    waiting_count = arrived = 0;
    ++epoch;
    ++counts.barriers;
}

inline void sync_block(int line) {
    barrier_line[current->thread] = line;
    ++arrived;
#ifdef CHECKED
    const int first = arrived == 1 ? current->thread : waiting[0]->thread;
    if (barrier_line[first] != line) {
        char a[100], b[100];
        describe_thread(a, sizeof a, current->thread);
        describe_thread(b, sizeof b, first);
        std::snprintf(message, sizeof message,
                      "%s waits at the __syncthreads() of line %d, but %s at that of line %d", a,
                      line, b, barrier_line[first]);
        stop();
    }
#endif
    if (begun == threads && arrived == threads - finished) {
#ifdef CHECKED
        if (finished) {  // the host finds out who is gone
            waiting[waiting_count++] = current;
            stop();
        }
#endif
        release_block();
        return;
    }
    waiting[waiting_count++] = current;
    leave();
}

// ------------------------------------------------------------------------------------- warps
struct Lane {
    unsigned mask = 0;  // of the lanes that it waits for; 0 where it does not wait
    Fiber* fiber = nullptr;
    int source = 0;
    alignas(16) unsigned char value[16], result[16];
};
static Lane lanes[MAX_THREADS];
static bool gone[MAX_THREADS];
static int lanes_waiting;
static unsigned warp_epoch[MAX_THREADS / 32];

inline bool warp_is_complete(int first, unsigned mask) {
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        if (!(mask >> lane & 1)) continue;
#ifndef CHECKED
        if (gone[first + lane]) continue;
#endif
        if (lanes[first + lane].mask != mask) return false;
    }
    return true;
}

inline void release_warp(int first, unsigned mask) {
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        if (!(mask >> lane & 1) || !lanes[first + lane].mask) continue;
        const int source = lanes[first + lane].source;
        const bool there = first + source < threads && lanes[first + source].fiber;
        std::memcpy(lanes[first + lane].result,
                    lanes[first + (there ? source : lane)].value, 16);
    }
    for (int lane = 0; lane < 32 && first + lane < threads; ++lane) {
        Lane& other = lanes[first + lane];
        if (!(mask >> lane & 1) || !other.mask) continue;
        if (other.fiber != current) make_ready(other.fiber);
        other.mask = 0;
        other.fiber = nullptr;
        --lanes_waiting;
    }
}

// Wait for the lanes of the mask; each takes the value that lane `source` brought.
inline void sync_warp(unsigned mask, int source) {
    const int thread = current->thread, first = thread & ~31;
    Lane& own = lanes[thread];
    if (!(mask >> (thread & 31) & 1)) {
        char who[100];
        describe_thread(who, sizeof who, thread);
        std::snprintf(message, sizeof message, "%s is not in the mask 0x%08x it waits with", who,
                      mask);
        stop();
    }
    ++lanes_waiting;
    own.mask = mask;
    own.fiber = current;
    own.source = source;
    if (warp_is_complete(first, mask))
        release_warp(first, mask);
    else
        leave();
}

template <class T> inline T shuffle(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 16, "a shuffle moves up to 16 bytes");
    const int thread = current->thread;
    std::memcpy(lanes[thread].value, &value, sizeof(T));
    sync_warp(mask, source);
    std::memcpy(&value, lanes[thread].result, sizeof(T));
    return value;
}

inline int lane_id() { return current->thread & 31; }
}  // namespace emulator

#define __syncthreads() emulator::sync_block(__LINE__)

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulator::sync_warp(mask, emulator::lane_id());
    emulator::warp_epoch[emulator::current->thread / 32] += 1;
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
#ifdef CHECKED
#include "checked.h"
#else
template <class T> using In = const T* __restrict__;
template <class T> using Out = T* __restrict__;
template <class T> using InOut = T*;
template <class T> using Shared = T*;
#define SHARED(T, name, count) alignas(128) static T name[count]
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared)

namespace emulator {
static const char* const* parameters;
inline void begin_launch(const Launch&) {}
inline void begin_block() {}
inline void end_block() {}
inline void end_launch() {}
template <class P> P unpack(void* value, int) { return *static_cast<P*>(value); }
template <class P> constexpr bool is_pointer = std::is_pointer_v<P>;
}  // namespace emulator

// One thread runs at a time, so an ordinary operation is an atomic one.
#define ATOMIC(name, result)                                       \
    template <class T, class V> inline T name(T* x, V v) {         \
        const T old = *x, value = static_cast<T>(v);               \
        *x = result;                                               \
        return old;                                                \
    }
ATOMIC(atomicAdd, old + value)
ATOMIC(atomicSub, old - value)
ATOMIC(atomicMin, old < value ? old : value)
ATOMIC(atomicMax, old > value ? old : value)
ATOMIC(atomicExch, value)
ATOMIC(atomicAnd, old & value)
ATOMIC(atomicOr, old | value)
ATOMIC(atomicXor, old ^ value)
#undef ATOMIC
template <class T> inline T atomicCAS(T* x, T compare, T value) {
    const T old = *x;
    if (old == compare) *x = value;
    return old;
}
#endif

// ------------------------------------------------------------------------------------- launch
namespace emulator {
static void fiber_loop() {
    for (;;) {
        while (begun < threads) {
            begin_thread();
            body();
            gone[current->thread] = true;
            ++finished;
#ifndef CHECKED
            // As on a GPU since Volta: threads that are gone do not count.
            if (arrived && begun == threads && arrived == threads - finished) release_block();
            const int first = current->thread & ~31;
            for (int lane = 0; lanes_waiting && lane < 32 && first + lane < threads; ++lane) {
                const unsigned mask = lanes[first + lane].mask;
                if (mask && warp_is_complete(first, mask)) release_warp(first, mask);
            }
#endif
        }
        idle[idle_count++] = current;
        Fiber* self = current;
        current = next();
        if (current != self) exchange(*self, *current);
        current = self;
    }
}

inline void report_stuck() {
    char who[100], other[100] = "";
    for (int t = 0; t < threads; ++t)
        if (gone[t]) {
            describe_thread(other, sizeof other, t);
            break;
        }
    for (int i = 0; i < waiting_count || i < 1; ++i) {
        const int thread = waiting_count ? waiting[i]->thread : -1;
        if (thread < 0) break;
        describe_thread(who, sizeof who, thread);
        std::snprintf(message, sizeof message,
                      "%s waits at the __syncthreads() of line %d, which %s never reaches", who,
                      barrier_line[thread], other[0] ? other : "another thread");
        return;
    }
    for (int t = 0; t < threads; ++t)
        if (lanes[t].mask) {
            describe_thread(who, sizeof who, t);
            int missing = t & ~31;
            while (!(lanes[t].mask >> (missing & 31) & 1) || lanes[missing].mask == lanes[t].mask)
                ++missing;
            describe_thread(other, sizeof other, missing);
            std::snprintf(message, sizeof message,
                          "%s waits in a warp for mask 0x%08x, but %s never comes", who,
                          lanes[t].mask, other);
            return;
        }
    std::snprintf(message, sizeof message, "threads wait for each other");
}

// Returns 0, or 1 with a message.
inline int run(const Launch& launch, void (*kernel)()) {
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    dynamic_bytes = launch.shared;
    body = kernel;
    message[0] = 0;
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0; x < gridDim.x; ++x) {
                blockIdx = {x, y, z};
                begun = finished = arrived = waiting_count = 0;
                next_index = {0, 0, 0};
                std::memset(gone, 0, static_cast<std::size_t>(threads));
                ready_first = ready_count = 0;
                epoch = 0;
                ++block_serial;
                begin_block();
                current = next();
                exchange(host, *current);
                current = &host;
                if (finished < threads) {
                    if (!message[0]) report_stuck();
                    made = idle_count = 0;  // the stacks hold threads that will never go on
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

// Calls a kernel with arguments that came as addresses.
template <auto kernel> struct Entry;
template <class... P, void (*kernel)(P...)> struct Entry<kernel> {
    static std::tuple<P...>* arguments;

    static void call() { std::apply(kernel, *arguments); }

    template <std::size_t... i> static int run(const Launch& l, void** a, std::index_sequence<i...>) {
        begin_launch(l);
        std::tuple<P...> own{unpack<P>(a[i], static_cast<int>(i))...};
        arguments = &own;
        return emulator::run(l, call);
    }

    static int run(const Launch& launch, void** addresses) {
        return run(launch, addresses, std::index_sequence_for<P...>{});
    }

    // For each parameter its size in bytes, 0 for an array.
    static int sizes(int* out) {
        int i = 0;
        ((out[i++] = is_pointer<P> ? 0 : static_cast<int>(sizeof(P))), ...);
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
// Where in this library the first mistake was made; 0 where that is not known.
__attribute__((visibility("default"))) std::uint64_t emulator_fault_offset() {
#ifdef CHECKED
    Dl_info info;
    if (emulator::fault && dladdr(emulator::fault, &info))
        return static_cast<char*>(emulator::fault) - static_cast<char*>(info.dli_fbase);
#endif
    return 0;
}
}

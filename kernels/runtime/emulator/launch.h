// A launch: its blocks run one after another on one core.
#pragma once

#include "pause.h"
#include "warp_barriers.h"

namespace emulator {
#ifndef CHECKED
inline void begin_block() {}
inline void end_thread() {}
inline void end_block() {}
inline void end_launch() {}
#endif

// Run threads until all have been started; then let other fibers run.
static void fiber_loop() {
    for (;;) {
        while (started < threads) {
            start_thread();
            body();
            const End end = ends[current->thread] = how_it_ended();
            end_thread();
            ++finished;
            if (end == End::reached) continue;
            ++exited;
            if (arrived && block_is_complete()) release_block();
            if (lanes_waiting) release_complete_masks(current->thread & ~31);
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
        if (ends[t] == End::reached) {
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
            while (!(lanes[t].mask >> (missing & 31) & 1) || ends[missing] == End::returned ||
                   lanes[missing].mask == lanes[t].mask)
                ++missing;
            describe_thread(other, sizeof other, missing);
            std::snprintf(message, sizeof message,
                          "%s waits in a warp for mask 0x%08x, but %s never comes", thread,
                          lanes[t].mask, other);
            return;
        }
    std::snprintf(message, sizeof message, "threads wait for each other");
}

// What printf has written in this launch, for Python to write to sys.stdout.
static FILE* output;
static char* output_text;
static std::size_t output_bytes;

RUNTIME_FUNCTION int print(const char* format, ...) {
    const Busy busy;
    if (!output) output = open_memstream(&output_text, &output_bytes);
    std::va_list values;
    va_start(values, format);
    const int count = std::vfprintf(output, format, values);
    va_end(values);
    return count;
}

inline void clear_output() {
    if (output) std::fclose(output);
    std::free(output_text);
    output = nullptr;
    output_text = nullptr;
}

// ------------------------------------------------------------------------------------ the grid
static const std::int64_t* block_order;
static std::uint64_t blocks, next_block;  // of the launch; the number of blocks that have begun

// Set blockIdx to that of the next block.
inline void choose_block() {
    if (block_order) {
        const std::uint64_t i = block_order[next_block], x = gridDim.x, y = gridDim.y;
        blockIdx = {static_cast<unsigned>(i % x), static_cast<unsigned>(i / x % y),
                    static_cast<unsigned>(i / x / y)};
    } else if (next_block == 0) {
        blockIdx = {0, 0, 0};
    } else if (++blockIdx.x == gridDim.x) {
        blockIdx.x = 0;
        if (++blockIdx.y == gridDim.y) {
            blockIdx.y = 0;
            ++blockIdx.z;
        }
    }
    ++next_block;
}

inline void start_block() {
    choose_block();
    started = finished = exited = arrived = waiting_count = 0;
    next_index = {0, 0, 0};
    std::memset(ends, 0, static_cast<std::size_t>(threads));
    ready_first = ready_count = votes[0] = votes[1] = 0;
    epoch = 0;
    ++block_serial;
    begin_block();
    current = next_fiber();
}

// End a launch in which threads are unfinished. Fibers hold them, so all contexts are created
// again.
inline void abandon() {
    if (is_paused) Ticks::unblock();
    is_paused = is_aborted = false;
    current = &main_fiber;
    created = idle_count = 0;
    lanes_waiting = in_active_mask = 0;
    for (Lane& lane : lanes) lane.mask = lane.active_mask_line = 0;
    end_launch();
}

// Run the launch, from its beginning or from where it paused.
inline int proceed() {
    const SignalHandlers handlers;
    const Ticks ticks;
    while (is_paused || next_block < blocks) {
        if (!is_paused) start_block();
        Fiber& next = is_paused ? paused : *current;
        is_paused = false;
        switch_context(main_fiber, next);
        if (is_paused) return PAUSED;
        current = &main_fiber;
        if (finished < threads) {
            if (!message[0]) report_deadlock();
            abandon();
            return 1;
        }
        end_block();
    }
    end_launch();
    return 0;
}

RUNTIME_FUNCTION int run(const Launch& launch, void (*kernel)()) {
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    dynamic_bytes = launch.shared;
    block_order = launch.order;
    blocks = std::uint64_t{gridDim.x} * gridDim.y * gridDim.z;
    next_block = 0;
    body = kernel;
    message[0] = 0;
    error_address = latest_address = nullptr;
    busy = pause_is_due = false;
    clear_output();
    counts = {};
    return proceed();
}
}  // namespace emulator

extern "C" {
__attribute__((visibility("default"))) const char* emulator_message() {
    return emulator::message;
}
__attribute__((visibility("default"))) emulator::Counts* emulator_counts() {
    return &emulator::counts;
}
// Go on with a launch that has paused.
__attribute__((visibility("default"))) int emulator_resume() { return emulator::proceed(); }
// Return a number that grows while the launch makes progress.
__attribute__((visibility("default"))) std::int64_t emulator_progress() {
    return emulator::progress;
}
// End a launch that has paused, with a message that names the thread that runs.
__attribute__((visibility("default"))) void emulator_give_up(const char* why) {
    char thread[100];
    emulator::describe_thread(thread, sizeof thread, emulator::current->thread);
    std::snprintf(emulator::message, sizeof emulator::message, "%s %s", thread, why);
    emulator::error_address = emulator::paused_at;
    emulator::latest_address = emulator::latest_check();
    emulator::abandon();
}
// End a launch that has paused, if one has.
__attribute__((visibility("default"))) void emulator_abandon() {
    if (emulator::is_paused) emulator::abandon();
}
// Return the offset, in this library, of error_address or latest_address; 0 if there is none.
__attribute__((visibility("default"))) std::uint64_t emulator_error_offset(int latest) {
    const void* address = latest ? emulator::latest_address : emulator::error_address;
    Dl_info found, own;
    if (!address || !dladdr(address, &found) || !dladdr(emulator::message, &own)) return 0;
    if (found.dli_fbase != own.dli_fbase) return 0;  // in the C library
    return static_cast<std::uint64_t>(static_cast<const char*>(address) -
                                      static_cast<char*>(own.dli_fbase));
}
// Return what printf has written in the last launch; null if it was not called.
__attribute__((visibility("default"))) const char* emulator_output() {
    if (emulator::output) std::fflush(emulator::output);
    return emulator::output ? emulator::output_text : nullptr;
}
}

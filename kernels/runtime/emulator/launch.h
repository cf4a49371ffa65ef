// A launch: its blocks run one after another on one core.
#pragma once

#include "block.h"
namespace emulator {
#ifndef CHECKED
inline void begin_block() {}
inline void end_block() {}
inline void end_launch() {}
#endif

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

// What printf has written in this launch, for Python to write to sys.stdout.
static FILE* output;
static char* output_text;
static std::size_t output_bytes;

RUNTIME_FUNCTION int print(const char* format, ...) {
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

// While a kernel runs, a signal of the processor ends the launch and not the process.
static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE};
struct SignalHandlers {
    struct sigaction before[3];

    static void handle(int number) {
        if (current == &main_fiber) {  // not the kernel's: its repetition ends the process
            std::signal(number, SIG_DFL);
            return;
        }
        char thread[100];
        describe_thread(thread, sizeof thread, current->thread);
        std::snprintf(message, sizeof message, "%s %s; the checked build names the line", thread,
                      number == SIGFPE ? "divides an integer by zero"
                                       : "accesses memory outside all arrays, or a vector such as"
                                         " float4 at an address that is no multiple of its size");
        abort_launch();
    }
    SignalHandlers() {
        struct sigaction action {};
        action.sa_handler = handle;
        action.sa_flags = SA_NODEFER;  // because the handler does not return
        for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &action, &before[i]);
    }
    ~SignalHandlers() {
        for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
    }
};

RUNTIME_FUNCTION int run(const Launch& launch, void (*kernel)()) {
    const SignalHandlers handlers;
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    dynamic_bytes = launch.shared;
    body = kernel;
    message[0] = 0;
    clear_output();
    counts = {};
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0; x < gridDim.x; ++x) {
                blockIdx = {x, y, z};
                started = finished = arrived = waiting_count = 0;
                next_index = {0, 0, 0};
                std::memset(has_finished, 0, static_cast<std::size_t>(threads));
                ready_first = ready_count = votes[0] = votes[1] = 0;
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
}  // namespace emulator

extern "C" {
__attribute__((visibility("default"))) const char* emulator_message() {
    return emulator::message;
}
__attribute__((visibility("default"))) emulator::Counts* emulator_counts() {
    return &emulator::counts;
}
// Return what printf has written in the last launch; null if it was not called.
__attribute__((visibility("default"))) const char* emulator_output() {
    if (emulator::output) std::fflush(emulator::output);
    return emulator::output ? emulator::output_text : nullptr;
}
}

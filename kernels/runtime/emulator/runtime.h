// What a kernel calls of the emulator: barriers, warp exchanges, launches. The fast build defines
// these functions in the kernel's own translation unit. The checked build compiles them in another
// (checked_runtime.h), because there each memory access of the kernel's unit is checked.
#pragma once

#include "language.h"

#ifdef CHECKED
#define RUNTIME_FUNCTION
#else
#define RUNTIME_FUNCTION inline
#endif

namespace emulator {
constexpr int MAX_THREADS_PER_BLOCK = 1024;
constexpr std::size_t MAX_SHARED_BYTES_PER_BLOCK = 227 * 1024;  // of the largest GPUs

// An array argument of a launch: the bytes [first, end) that the launch may access, and the
// allocation that they lie in, [base, base + bytes). `written` has one byte per byte of the
// allocation, 1 if it has been written. `view` has one too, 1 if it belongs to the array; it is
// null if there are no gaps between the array's elements. memory.py has the same structure.
struct Region {
    std::uint64_t first, end, base, bytes, itemsize;
    unsigned char *written, *view;
    std::int64_t argument;  // its number among the kernel's arguments, -1 for an array of a table
};

// The launch configuration; `shared` is the size of dynamic shared memory in bytes, `order` the
// numbers of the blocks in the order in which they run, or null: from 0 on.
struct Launch {
    unsigned grid[3], block[3];
    std::uint64_t shared, regions;
    Region* region;
    const std::int64_t* order;
};

// The counts of the checked build. An access is one instruction of one warp. Global memory is
// accessed in sectors of 32 bytes. Shared memory has 32 banks of 4 bytes; an access takes one pass,
// plus one for each bank conflict. The ideal counts are those of the same bytes without gaps.
struct Counts {
    std::int64_t accesses, sectors, ideal_sectors, shared_accesses, passes, ideal_passes, barriers;
};

// Run all blocks of a launch. Return 0, or 1 with the error in `message`, or PAUSED (pause.h).
RUNTIME_FUNCTION int run(const Launch& launch, void (*kernel)());

// Wait for all threads of the block, at this line of the source; return the number of threads whose
// predicate is not 0.
RUNTIME_FUNCTION int sync_block(int line, int predicate = 0);

// Wait for the lanes of the mask. After exchange(), `value` of 16 bytes is that of lane `source`.
// gather() stores the values of all lanes in `values`, and returns which lanes have one.
RUNTIME_FUNCTION void sync_lanes(unsigned mask);
RUNTIME_FUNCTION void exchange(unsigned mask, int source, void* value);
RUNTIME_FUNCTION unsigned gather(unsigned mask, const void* value, void* values);
// Return the lanes of this warp that execute the __activemask() of this line.
RUNTIME_FUNCTION unsigned active_mask(int line);

RUNTIME_FUNCTION int lane_id();

// Append to the text that printf has written in this launch.
RUNTIME_FUNCTION int print(const char* format, ...) __attribute__((format(__printf__, 1, 2)));

// End the launch with an error at this line of the source.
[[noreturn]] RUNTIME_FUNCTION void stop(int line, const char* what);

#ifdef CHECKED
// A __threadfence().
void fence();
// Note that the thread executes a return statement; translate.py inserts the call.
void note_return();

extern unsigned char* const dynamic_shared;
extern std::uint64_t dynamic_bytes;
#else
inline void fence() {}  // One thread runs at a time.
alignas(128) static unsigned char dynamic_shared[MAX_SHARED_BYTES_PER_BLOCK];
static std::uint64_t dynamic_bytes;
#endif
}  // namespace emulator

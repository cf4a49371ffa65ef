// What a kernel of the checked build calls of the runtime: the checks of accesses.
#pragma once

#include "runtime.h"

namespace emulator {
enum class AccessKind { read, write, atomic };

// An array argument of the launch.
struct Array;
// The array of an argument, or the one at an address that was passed inside a structure; or null.
const Array* array_of_argument(int argument);
const Array* array_at_address(std::uint64_t address);
void begin_launch(const Launch& launch);
extern const char* const* parameters;  // the names of the running kernel's parameters

// Memory that a kernel declares: `extents` are those of an array, with as many `axes`.
enum class Space { shared, device, constant };
struct Variable {
    Space space;
    const char* name;
    const char* first;
    std::uint64_t bytes, element;
    int axes;
    std::uint64_t extents[4];
};
struct Declared;  // a variable with its shadow
Declared* declare(const Variable& variable);
// Declare the dynamic shared memory, which is one whatever its names and types are.
Declared* declare_dynamic(const char* name, std::uint64_t element);

// The functions that check are not inlined, so that the return address identifies the kernel's
// instruction.
#define RETURN_ADDRESS __builtin_return_address(0)
#define UNCHECKED __attribute__((no_sanitize("thread", "bounds")))

// Check an access through a pointer that is known to point into one array; `origin` is element 0 in
// messages, `array` null for a null pointer.
void check_array(const void* return_address, const Array* array, const char* origin,
                 const char* address, unsigned bytes, AccessKind kind);
void check_variable(const void* return_address, Declared* variable, const char* address,
                    unsigned bytes, AccessKind kind);
// Check an access through a plain pointer, which may point anywhere.
void check_address(const void* return_address, const void* address, unsigned bytes,
                   AccessKind kind);
[[noreturn]] void fail_alignment(const void* return_address, const char* verb, unsigned bytes);

// Record one lane's access, to count transactions.
void record_lane(const void* return_address, const void* address, unsigned bytes, bool shared);

// The arguments of the running kernel, which it may read.
extern const void *arguments_begin, *arguments_end;
}  // namespace emulator

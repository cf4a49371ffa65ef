// The checks of the checked build: bounds, initialisation and races of each access.
//
// The first error ends the launch with a message that names block, thread, array and element.
#pragma once

#include "shadow.h"

namespace emulator {
struct Array {
    const Region* region = nullptr;
    const char* name = "";
    ShadowMemory* shadow = nullptr;
};
static std::vector<Array> arrays;
static std::unordered_map<std::uint64_t, ShadowMemory> shadows;  // by allocation
const char* const* parameters;
const void *arguments_begin, *arguments_end;

[[noreturn]] __attribute__((noinline, cold)) inline void fail(const void* return_address,
                                                              const std::string& text) {
    char thread[100];
    describe_thread(thread, sizeof thread, current->thread);
    std::snprintf(message, sizeof message, "%s %s", thread, text.c_str());
    error_address = return_address;
    abort_launch();
}

void fail_alignment(const void* return_address, const char* verb, unsigned bytes) {
    fail(return_address, std::string(verb) + " a Pack whose address is no multiple of " +
                             std::to_string(bytes));
}

inline std::string thread_name(const Access& access) {
    if (access.block() != block_serial) return "a thread of another block";
    char name[100];
    const unsigned t = static_cast<unsigned>(access.thread % MAX_THREADS_PER_BLOCK);
    std::snprintf(name, sizeof name, "thread (%u, %u, %u)", t % blockDim.x,
                  t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y));
    return name;
}

inline std::string element_name(const std::string& array, std::int64_t i) {
    return array + "[" + std::to_string(i) + "]";
}

inline const char* verb_of(AccessKind kind) {
    return kind == AccessKind::write ? "writes" : kind == AccessKind::read ? "reads" : "updates";
}

// Return a / b, rounded down.
inline std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
    return a / b - (a % b < 0 ? 1 : 0);
}

// Check initialisation and races of bytes that are in bounds. `name` is a function that returns the
// name of the element.
template <class Name>
void check_bytes(const void* return_address, ShadowMemory& shadow, unsigned char* written,
                 std::uint64_t offset, unsigned bytes, AccessKind kind, Name name,
                 bool is_shared) {
    const char* const question = is_shared ? " (is a barrier missing?)" : "";
    if (kind != AccessKind::write && std::memchr(written + offset, 0, bytes))
        fail(return_address, "reads " + name() + ", which nothing has written before" + question);
    const Race race =
        shadow.visit(offset, bytes, [&](Shadow& one) { return record_access(one, kind, is_shared); });
    if (race)
        fail(return_address, std::string(verb_of(kind)) + " " + name() + ", which " +
                                 thread_name(race.other) + (race.is_write ? " writes" : " reads") +
                                 " with no barrier between: a race");
    if (kind != AccessKind::read) std::memset(written + offset, 1, bytes);
}

// ------------------------------------------------------------------------------ global memory
void check_array(const void* return_address, const Array* array, const char* origin,
                 const char* address, unsigned bytes, AccessKind kind) {
    const Busy busy;
    last_checked = return_address;
    const auto first = reinterpret_cast<std::uint64_t>(address);
    const auto verb = [&] { return std::string(verb_of(kind)); };
    if (!array) fail(return_address, verb() + " through an array that is not there (null)");
    const Region& r = *array->region;
    if (bytes != r.itemsize)
        fail(return_address, verb() + " " + array->name + " as elements of " +
                                 std::to_string(bytes) + " bytes; they have " +
                                 std::to_string(r.itemsize));
    const std::int64_t index = (address - origin) / static_cast<std::int64_t>(bytes);
    if (first < r.first || first + bytes > r.end) {
        const std::int64_t size = bytes, start = reinterpret_cast<std::int64_t>(origin);
        fail(return_address,
             verb() + " " + element_name(array->name, index) + ", outside its elements " +
                 std::to_string((static_cast<std::int64_t>(r.first) - start) / size) + " to " +
                 std::to_string((static_cast<std::int64_t>(r.end) - start) / size - 1));
    }
    const std::uint64_t offset = first - r.base;
    const auto name = [&] { return element_name(array->name, index); };
    if (r.view && !r.view[offset])
        fail(return_address, verb() + " " + name() +
                                 ", which lies between the elements of the view it was given");
    check_bytes(return_address, *array->shadow, r.written, offset, bytes, kind, name, false);
}

const Array* array_of_argument(int argument) {
    for (const Array& array : arrays)
        if (array.region->argument == argument) return &array;
    return nullptr;
}

const Array* array_at_address(std::uint64_t address) {
    // An array that begins at the address is preferred to one that contains it.
    for (const Array& array : arrays)
        if (array.region->first == address) return &array;
    for (const Array& array : arrays)
        if (array.region->first <= address && address < array.region->end) return &array;
    return nullptr;
}

// ------------------------------------------------- shared memory, __device__ and __constant__
struct Declared {
    Variable variable;
    std::int64_t serial = -1;  // the block (of shared memory) or the launch of its shadow
    ShadowMemory shadow;
    std::vector<unsigned char> written;

    bool contains(const char* address) const {
        return variable.first <= address && address < variable.first + variable.bytes;
    }
    bool is_shared() const { return variable.space == Space::shared; }

    // Begin with unwritten elements in each block, or with written ones in each launch.
    void begin() {
        const std::int64_t now = is_shared() ? block_serial : launch_serial;
        if (serial == now) return;
        serial = now;
        shadow.clear(variable.bytes, 4);
        written.assign(variable.bytes, !is_shared());
    }
    std::string name(const char* address) const {
        std::int64_t index = floor_divide(address - variable.first,
                                          static_cast<std::int64_t>(variable.element));
        if (!variable.axes) return index ? element_name(variable.name, index) : variable.name;
        std::string text;
        for (int axis = variable.axes - 1; axis > 0; --axis) {
            const auto extent = static_cast<std::int64_t>(variable.extents[axis]);
            const std::int64_t quotient = floor_divide(index, extent);
            text = element_name("", index - quotient * extent) + text;
            index = quotient;
        }
        return element_name(variable.name, index) + text;
    }
    static std::int64_t launch_serial;
};
std::int64_t Declared::launch_serial;

// The variables of this library, and the dynamic shared memory.
inline std::vector<Declared*>& declared() {
    static std::vector<Declared*> all;
    return all;
}
alignas(256) static unsigned char dynamic_memory[MAX_SHARED_BYTES_PER_BLOCK];
unsigned char* const dynamic_shared = dynamic_memory;
std::uint64_t dynamic_bytes;
static Declared dynamic{
    {Space::shared, "dynamic shared memory", reinterpret_cast<const char*>(dynamic_memory), 0, 1, 1,
     {}}};

Declared* declare(const Variable& variable) {
    const Busy busy;
    declared().push_back(new Declared{variable});
    return declared().back();
}

Declared* declare_dynamic(const char* name, std::uint64_t element) {
    dynamic.variable.name = name;
    dynamic.variable.element = element;
    return &dynamic;
}

void check_variable(const void* return_address, Declared* d, const char* address, unsigned bytes,
                    AccessKind kind) {
    const Busy busy;
    last_checked = return_address;
    const Variable& v = d->variable;
    const auto name = [&] { return d->name(address); };
    if (!d->contains(address) || !d->contains(address + bytes - 1))
        fail(return_address,
             std::string(verb_of(kind)) + " " + name() + ", outside its elements 0 to " +
                 std::to_string(static_cast<std::int64_t>(v.bytes / v.element) - 1));
    if (v.space == Space::constant) {
        if (kind == AccessKind::read) return;
        fail(return_address, "writes " + name() + ", which is __constant__");
    }
    d->begin();
    check_bytes(return_address, d->shadow, d->written.data(),
                static_cast<std::uint64_t>(address - v.first), bytes, kind, name,
                d->is_shared());
}

// --------------------------------------------------------------------------- launch and blocks
// Each launch begins with empty shadows, since launches of one stream are ordered.
void begin_launch(const Launch& launch) {
    arrays.clear();
    shadows.clear();
    releases.clear();
    ++Declared::launch_serial;
    dynamic.variable.bytes = launch.shared;
    for (std::uint64_t i = 0; i < launch.regions; ++i) {
        const Region& region = launch.region[i];
        // The largest power of two that divides the size of an element, at most 8.
        const auto unit = static_cast<unsigned>(region.itemsize & -region.itemsize & 15);
        if (!shadows.count(region.base)) shadows[region.base].clear(region.bytes, unit ? unit : 8);
    }
    for (std::uint64_t i = 0; i < launch.regions; ++i) {
        const Region& region = launch.region[i];
        const char* name =
            region.argument < 0 ? "an array of a table" : parameters[region.argument];
        arrays.push_back({&region, name, &shadows[region.base]});
    }
}
inline void begin_block() {
    last_checked = nullptr;
    begin_order();
}
inline void end_thread() {
    exit_epoch[current->thread] = epoch;
    last_checked = nullptr;
}
inline void end_block() {
    for (const auto& [key, instruction] : instructions)
        for (const WarpAccess& access : instruction.accesses) count_transactions(access);
    instructions.clear();
}
inline void end_launch() { instructions.clear(); }
}  // namespace emulator

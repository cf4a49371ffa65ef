// Plain pointers in the checked build. g++ -fsanitize=thread inserts a call before each access to
// memory that other threads may see, for its own run-time library to find data races. Here these
// calls go to the checks of this emulator, which find the array by its address.
#pragma once

#include "checks.h"

namespace emulator {
// Return the read-only memory of this library: constant tables, text.
inline const std::vector<std::pair<const char*, const char*>>& constants() {
    static std::vector<std::pair<const char*, const char*>> ranges;
    if (ranges.empty())
        dl_iterate_phdr(
            [](dl_phdr_info* info, std::size_t, void*) {
                const auto base = reinterpret_cast<const char*>(info->dlpi_addr);
                bool is_own = false;
                for (int i = 0; i < info->dlpi_phnum; ++i) {
                    const auto& part = info->dlpi_phdr[i];
                    const char* first = base + part.p_vaddr;
                    is_own |= part.p_type == PT_LOAD && first <= message &&
                              message < first + part.p_memsz;
                }
                for (int i = 0; is_own && i < info->dlpi_phnum; ++i) {
                    const auto& part = info->dlpi_phdr[i];
                    const char* first = base + part.p_vaddr;
                    if ((part.p_type == PT_LOAD && !(part.p_flags & PF_W)) ||
                        part.p_type == PT_GNU_RELRO)
                        ranges.push_back({first, first + part.p_memsz});
                }
                return 0;
            },
            nullptr);
    return ranges;
}

inline bool is_within(const char* address, const void* first, const void* end) {
    return first <= address && address < end;
}

// Fail with the array or variable that lies nearest to an address outside of all.
[[noreturn]] inline void fail_outside(const void* return_address, const char* address,
                                      const std::string& verb) {
    const auto number = reinterpret_cast<std::uint64_t>(address);
    for (const Fiber& fiber : fibers)
        if (fiber.stack && is_within(address, fiber.stack, fiber.stack + STACK_BYTES))
            fail(return_address, verb + " a local variable of another thread");
    if (number < 4096) fail(return_address, verb + " through a null pointer");

    // An error reaches as far as the size of the array, or 1 MiB.
    std::uint64_t nearest = ~0ull;
    std::string text;
    const auto consider = [&](std::uint64_t first, std::uint64_t end, std::uint64_t element,
                              const auto& name) {
        const std::uint64_t distance = number < first ? first - number : number - end + 1;
        if (distance >= nearest || distance > std::max<std::uint64_t>(1 << 20, end - first)) return;
        nearest = distance;
        const std::int64_t last = static_cast<std::int64_t>((end - first) / element) - 1;
        text = " " + name() + ", outside its elements 0 to " + std::to_string(last);
    };
    for (const Array& array : arrays) {
        const Region& r = *array.region;
        consider(r.first, r.end, r.itemsize, [&] {
            const auto offset = static_cast<std::int64_t>(number - r.first);
            return element_name(array.name,
                                floor_divide(offset, static_cast<std::int64_t>(r.itemsize)));
        });
    }
    for (const Declared* d : declared()) {
        const auto first = reinterpret_cast<std::uint64_t>(d->variable.first);
        consider(first, first + d->variable.bytes, d->variable.element,
                 [&] { return d->name(address); });
    }
    if (!text.empty()) fail(return_address, verb + text);
    char hexadecimal[40];
    std::snprintf(hexadecimal, sizeof hexadecimal, "%p", static_cast<const void*>(address));
    fail(return_address, verb + " address " + hexadecimal +
                             ", which is in no array of the launch, no shared memory and no"
                             " __device__ variable");
}

void check_address(const void* return_address, const void* pointer, unsigned bytes,
                   AccessKind kind) {
    const auto address = static_cast<const char*>(pointer);
    if (current == &main_fiber || is_within(address, current->stack, current->stack + STACK_BYTES))
        return;
    const Busy busy;
    last_checked = return_address;
    const auto number = reinterpret_cast<std::uint64_t>(address);
    const auto verb = [&] { return std::string(verb_of(kind)); };
    const auto check_alignment = [&](const auto& name) {
        const bool is_power = bytes <= 16 && !(bytes & (bytes - 1));
        if (is_power && number % bytes)
            fail(return_address, verb() + " " + std::to_string(bytes) + " bytes at " + name() +
                                     ", whose address is no multiple of " + std::to_string(bytes));
    };
    for (const Array& array : arrays) {
        const Region& r = *array.region;
        if (number < r.first || number >= r.end) continue;
        const auto name = [&] {
            return element_name(array.name,
                                static_cast<std::int64_t>((number - r.first) / r.itemsize));
        };
        check_alignment(name);
        if (number + bytes > r.end)
            fail(return_address, verb() + " " + std::to_string(bytes) + " bytes at " + name() +
                                     ", beyond the end of the array");
        const std::uint64_t offset = number - r.base;
        if (r.view && std::memchr(r.view + offset, 0, bytes))
            fail(return_address, verb() + " " + name() +
                                     ", which lies between the elements of the view it was given");
        check_bytes(return_address, *array.shadow, r.written, offset, bytes, kind, name, false);
        if (kind != AccessKind::atomic) record_lane(return_address, address, bytes, false);
        return;
    }
    Declared* found = nullptr;
    if (is_within(address, dynamic_memory, dynamic_memory + sizeof dynamic_memory))
        found = &dynamic;
    for (Declared* d : declared())
        if (d->contains(address)) found = d;
    if (found) {
        check_alignment([&] { return found->name(address); });
        check_variable(return_address, found, address, bytes, kind);
        if (kind != AccessKind::atomic)
            record_lane(return_address, address, bytes, found->is_shared());
        return;
    }
    if (kind == AccessKind::read) {
        if (is_within(address, arguments_begin, arguments_end)) return;
        for (const auto& [first, end] : constants())
            if (is_within(address, first, end)) return;
    }
    fail_outside(return_address, address, verb());
}

// Fail with an index that is outside an array whose size the compiler knows.
[[noreturn]] inline void fail_index(const void* return_address, void* data, std::uint64_t index) {
    struct Type {
        std::uint16_t kind, info;
        char name[];
    };
    struct OutOfBounds {
        const char* file;
        std::uint32_t line, column;
        const Type *array, *index;
    };
    const auto& out = *static_cast<const OutOfBounds*>(data);
    const unsigned bits = 1u << (out.index->info >> 1);
    auto value = static_cast<std::int64_t>(index);
    if (bits < 64) {
        value = static_cast<std::int64_t>(index << (64 - bits)) >> (64 - bits);
        if (!(out.index->info & 1)) value &= (1ll << bits) - 1;
    }
    fail(return_address, "uses index " + std::to_string(value) + " of an array of type " +
                             out.array->name);
}
}  // namespace emulator

extern "C" {
#define HOOK(name, bytes, kind) \
    void __tsan_##name(void* x) { \
        emulator::check_address(RETURN_ADDRESS, x, bytes, emulator::AccessKind::kind); \
    }
#define HOOKS(bytes)                     \
    HOOK(read##bytes, bytes, read)       \
    HOOK(write##bytes, bytes, write)     \
    HOOK(unaligned_read##bytes, bytes, read) \
    HOOK(unaligned_write##bytes, bytes, write)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* x, unsigned long bytes) {
    emulator::check_address(RETURN_ADDRESS, x, static_cast<unsigned>(bytes),
                            emulator::AccessKind::read);
}
void __tsan_write_range(void* x, unsigned long bytes) {
    emulator::check_address(RETURN_ADDRESS, x, static_cast<unsigned>(bytes),
                            emulator::AccessKind::write);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

void __ubsan_handle_out_of_bounds(void* data, std::uint64_t index) {
    emulator::fail_index(RETURN_ADDRESS, data, index);
}
void __ubsan_handle_divrem_overflow(void*, std::uint64_t, std::uint64_t) {
    emulator::fail(RETURN_ADDRESS, "divides an integer by zero");
}

// memcpy and the like of a kernel, which macros of emulator.h rename.
void* emulator_memcpy(void* to, const void* from, std::size_t bytes) {
    const auto size = static_cast<unsigned>(bytes);
    if (size) {
        emulator::check_address(RETURN_ADDRESS, from, size, emulator::AccessKind::read);
        emulator::check_address(RETURN_ADDRESS, to, size, emulator::AccessKind::write);
    }
    return std::memmove(to, from, bytes);
}
void* emulator_memset(void* to, int value, std::size_t bytes) {
    if (bytes)
        emulator::check_address(RETURN_ADDRESS, to, static_cast<unsigned>(bytes),
                                emulator::AccessKind::write);
    return std::memset(to, value, bytes);
}
}

// Shadow memory of the checked build: for each element, the accesses that a later one may race
// with; and for each instruction of a warp, its addresses, to count the memory transactions.
//
// Race detection is by happens-before, as in ThreadSanitizer. Two accesses to an element race if
// they are of different threads, at least one is a plain write or exactly one is atomic, and
// neither happens before the other (happens_before.h).
#pragma once

#include "checked_runtime.h"
#include "happens_before.h"
#include "pause.h"

namespace emulator {
// -------------------------------------------------------------------------------------- races
// A bounded history of accesses of one kind (reads, or atomic operations), which do not race with
// each other but may race with a later access. It keeps one access of an earlier block, and of the
// last barrier epoch two warps with two threads each. For any thread that makes the next access, an
// access of another block or of another warp is among them if there was one. A race within a warp
// is not detected if the other thread came before the warp's last two.
struct AccessHistory {
    Access other_block, warps[2][2];

    void add(const Access& now) {
        const Access& last = warps[0][0];
        if (last.thread >= 0 && (last.block() != now.block() || last.epoch != now.epoch)) {
            if (last.block() != now.block()) other_block = last;
            for (auto& warp : warps) warp[0] = warp[1] = Access();
        }
        for (auto& warp : warps) {
            if (warp[0].thread >= 0 && warp[0].warp() != now.warp()) continue;
            if (warp[0].thread != now.thread) warp[1] = warp[0];
            warp[0] = now;
            return;
        }
    }
    // Return an access that is not ordered before `now`, or null. `location` as in is_unordered().
    const Access* find_unordered(const Access& now, const void* location = nullptr) const {
        if (is_unordered(other_block, now, location)) return &other_block;
        for (const auto& warp : warps)
            for (const Access& access : warp)
                if (is_unordered(access, now, location)) return &access;
        return nullptr;
    }
};

// The shadow of one element. A plain write that does not race comes after all earlier accesses, so
// only the write needs to be kept.
struct Shadow {
    Access write;
    AccessHistory atomics, reads;
};

struct Race {
    Access other;
    bool is_write = false;  // of the other access
    explicit operator bool() const { return other.thread >= 0; }
};

// Return the access that races with this one, if any, and record this one in the shadow.
inline Race record_access(Shadow& shadow, AccessKind kind, bool is_shared) {
    const Access now = current_access();
    const bool is_atomic = kind == AccessKind::atomic;
    if (is_atomic && !is_shared) acquire_from_blocks(&shadow, now);
    if (is_unordered(shadow.write, now)) return {shadow.write, true};
    if (!is_atomic)
        if (const Access* other = shadow.atomics.find_unordered(now, &shadow)) return {*other, true};
    if (kind != AccessKind::read)
        if (const Access* other = shadow.reads.find_unordered(now)) return {*other, false};
    if (kind == AccessKind::read)
        shadow.reads.add(now);
    else if (is_atomic)
        shadow.atomics.add(now);
    else
        shadow = {now, AccessHistory(), AccessHistory()};
    if (is_atomic && !is_shared) release_to_blocks(&shadow, now);
    return {};
}

// The shadows of a piece of memory: one for each `unit` bytes, or, from the first access to a part
// of a unit on, one for each byte of that unit.
struct ShadowMemory {
    unsigned unit = 4;
    std::vector<Shadow> units;
    std::unordered_map<std::uint64_t, std::vector<Shadow>> split;  // by the number of the unit

    void clear(std::uint64_t bytes, unsigned unit_bytes) {
        unit = unit_bytes;
        units.assign((bytes + unit - 1) / unit, Shadow());
        split.clear();
    }
    // Call f with each shadow of the bytes [first, first + count), until it returns a race.
    template <class F> Race visit(std::uint64_t first, std::uint64_t count, F f) {
        const std::uint64_t end = first + count;
        for (std::uint64_t begin = first; begin < end;) {
            const std::uint64_t i = begin / unit, next = std::min(end, (i + 1) * unit);
            auto parts = split.find(i);
            if (next - begin < unit && parts == split.end())
                parts = split.emplace(i, std::vector<Shadow>(unit, units[i])).first;
            if (parts == split.end()) {
                if (const Race race = f(units[i])) return race;
            } else {
                for (; begin < next; ++begin)
                    if (const Race race = f(parts->second[begin % unit])) return race;
            }
            begin = next;
        }
        return {};
    }
};

// ---------------------------------------------------------------------------- transactions
// One execution of a load or store instruction by a warp: the addresses of its active lanes.
struct WarpAccess {
    std::uint64_t address[32];
    unsigned mask = 0, bytes = 0;  // active lanes; bytes per lane
    bool shared = false;
};
// All executions of an instruction by a warp. A lane's n-th execution belongs to the warp's n-th.
struct Instruction {
    unsigned executions[32] = {};  // by lane
    std::vector<WarpAccess> accesses;
};
static std::unordered_map<std::uint64_t, Instruction> instructions;  // by return address and warp

// Record one lane's access. The instruction is identified by the return address of the checking
// call.
void record_lane(const void* return_address, const void* address, unsigned bytes, bool shared) {
    const Busy busy;
    const int thread = current->thread, lane = thread & 31;
    Instruction& instruction =
        instructions[reinterpret_cast<std::uint64_t>(return_address) * 32 + thread / 32];
    const unsigned execution = instruction.executions[lane]++;
    if (instruction.accesses.size() <= execution) instruction.accesses.resize(execution + 1);
    WarpAccess& access = instruction.accesses[execution];
    access.address[lane] = reinterpret_cast<std::uint64_t>(address);
    access.mask |= 1u << lane;
    access.bytes = bytes;
    access.shared = shared;
}

// Add the transactions of a warp's access to `counts`: the distinct sectors, or the largest number
// of distinct words in one bank.
inline void count_transactions(const WarpAccess& access) {
    const unsigned unit = access.shared ? 4 : 32;
    std::uint64_t units[256], addresses[32];
    int count = 0, active = 0;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(access.mask >> lane & 1)) continue;
        addresses[active++] = access.address[lane];
        const std::uint64_t last = (access.address[lane] + access.bytes - 1) / unit;
        for (std::uint64_t u = access.address[lane] / unit; u <= last && count < 256; ++u)
            units[count++] = u;
    }
    std::sort(units, units + count);
    count = static_cast<int>(std::unique(units, units + count) - units);
    std::sort(addresses, addresses + active);
    const auto distinct = std::unique(addresses, addresses + active) - addresses;
    const std::int64_t bytes = distinct * access.bytes;
    if (access.shared) {
        int banks[32] = {}, passes = 0;
        for (int i = 0; i < count; ++i) passes = std::max(passes, ++banks[units[i] % 32]);
        counts.shared_accesses += 1;
        counts.passes += passes;
        counts.ideal_passes += (bytes + 127) / 128;
    } else {
        counts.accesses += 1;
        counts.sectors += count;
        counts.ideal_sectors += (bytes + 31) / 32;
    }
}
}  // namespace emulator

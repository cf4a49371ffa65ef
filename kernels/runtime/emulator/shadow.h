// What the checked build remembers of each element, and of each access: who touched it last, and how
// many sectors and passes a warp's access takes.
#pragma once
#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "block.h"

namespace emulator {
// -------------------------------------------------------------------------------------- races
// Who touched an element, and when. Two touches of one block are ordered by a __syncthreads()
// between them (their epochs differ), two of one warp also by a __syncwarp() (`ordered_time`). Those of
// different blocks never are. A thread is numbered through all blocks of this process.
struct Touch {
    std::int64_t thread = -1;
    unsigned epoch = 0, time = 0;

    std::int64_t block() const { return thread / MAX_THREADS; }
    std::int64_t warp() const { return thread / 32; }
};

inline Touch touch_now() {
    const int thread = current->thread;
    return {block_serial * MAX_THREADS + thread, epoch, clocks[thread][thread & 31]};
}

inline bool races(const Touch& before, const Touch& now) {
    if (before.thread < 0 || before.thread == now.thread) return false;
    if (before.block() != now.block()) return true;
    if (before.epoch != now.epoch) return false;
    return before.warp() != now.warp() || clocks[current->thread][before.thread & 31] < before.time;
}

// Touches that do not race with each other, as many as it takes to find one that races with the next:
// one of another block than the last, and two of two warps that came in the last one's epoch (of
// each warp two threads). Whoever comes, one of them is neither of his block nor of his warp.
struct Past {
    Touch elsewhere, here[2][2];

    void add(const Touch& now) {
        const Touch& last = here[0][0];
        if (last.thread >= 0 && (last.block() != now.block() || last.epoch != now.epoch)) {
            if (last.block() != now.block()) elsewhere = last;
            for (auto& warp : here) warp[0] = warp[1] = Touch();
        }
        for (auto& warp : here) {
            if (warp[0].thread >= 0 && warp[0].warp() != now.warp()) continue;
            if (warp[0].thread != now.thread) warp[1] = warp[0];
            warp[0] = now;
            return;
        }
    }
    const Touch* racing(const Touch& now) const {
        if (races(elsewhere, now)) return &elsewhere;
        for (const auto& warp : here)
            for (const Touch& touch : warp)
                if (races(touch, now)) return &touch;
        return nullptr;
    }
};

// A plain write comes after all that was before it, or it races: then only it counts. Atomic
// operations do not race with each other, and reads do not.
struct Shadow {
    Touch write;
    Past atomics, reads;
};

struct Race {
    Touch other;
    bool wrote = false;
    explicit operator bool() const { return other.thread >= 0; }
};

enum class Does { read, write, atomic };

// The touch that races with this one, and note this one.
inline Race note(Shadow& shadow, Does does) {
    const Touch now = touch_now();
    if (races(shadow.write, now)) return {shadow.write, true};
    if (does != Does::atomic)
        if (const Touch* other = shadow.atomics.racing(now)) return {*other, true};
    if (does != Does::read)
        if (const Touch* other = shadow.reads.racing(now)) return {*other, false};
    if (does == Does::read)
        shadow.reads.add(now);
    else if (does == Does::atomic)
        shadow.atomics.add(now);
    else
        shadow = {now, Past(), Past()};
    return {};
}

// ------------------------------------------------------------------------------------ counting
struct Access {
    std::uint64_t address[32];
    unsigned mask = 0, bytes = 0;
    bool shared = false;
};
struct Site {
    unsigned times[32] = {};
    std::vector<Access> accesses;
};
static std::unordered_map<std::uint64_t, Site> sites;  // by instruction and warp, of this block
static bool counting = true;

// One lane's access. The instruction is known by where its call returns to.
inline void count(const void* instruction, const void* address, unsigned bytes, bool shared) {
    if (!counting) return;
    const int thread = current->thread, lane = thread & 31;
    Site& site = sites[reinterpret_cast<std::uint64_t>(instruction) * 32 + thread / 32];
    const unsigned time = site.times[lane]++;
    if (site.accesses.size() <= time) site.accesses.resize(time + 1);
    Access& access = site.accesses[time];
    access.address[lane] = reinterpret_cast<std::uint64_t>(address);
    access.mask |= 1u << lane;
    access.bytes = bytes;
    access.shared = shared;
}

inline void add_up(const Access& access) {
    const unsigned unit = access.shared ? 4 : 32;
    std::uint64_t units[256], addresses[32];
    int count = 0, lanes = 0;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(access.mask >> lane & 1)) continue;
        addresses[lanes++] = access.address[lane];
        const std::uint64_t last = (access.address[lane] + access.bytes - 1) / unit;
        for (std::uint64_t u = access.address[lane] / unit; u <= last && count < 256; ++u)
            units[count++] = u;
    }
    std::sort(units, units + count);
    count = static_cast<int>(std::unique(units, units + count) - units);
    std::sort(addresses, addresses + lanes);
    const auto different = std::unique(addresses, addresses + lanes) - addresses;
    const std::int64_t bytes = different * access.bytes;
    if (access.shared) {
        int banks[32] = {}, most = 0;
        for (int i = 0; i < count; ++i) most = std::max(most, ++banks[units[i] % 32]);
        counts.shared_accesses += 1;
        counts.passes += most;
        counts.ideal_passes += (bytes + 127) / 128;
    } else {
        counts.accesses += 1;
        counts.sectors += count;
        counts.ideal_sectors += (bytes + 31) / 32;
    }
}
}  // namespace emulator

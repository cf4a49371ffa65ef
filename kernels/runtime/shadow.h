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
// Who touched an element last. A thread is numbered through all blocks of this process.
struct Touch {
    std::int64_t thread = -1;
    unsigned epoch = 0, warp_epoch = 0;
    bool atomic = false;
};
struct Shadow {
    Touch write, read[2];  // two readers suffice: one of them is not who writes
};

inline Touch touch_now(bool atomic) {
    const int thread = current->thread;
    return {block_serial * MAX_THREADS + thread, epoch, warp_epoch[thread / 32], atomic};
}

inline bool races(const Touch& before, const Touch& now) {
    if (before.thread < 0 || before.thread == now.thread || (before.atomic && now.atomic))
        return false;
    if (before.thread / MAX_THREADS != now.thread / MAX_THREADS) return true;
    if (before.epoch != now.epoch) return false;
    return before.thread / 32 != now.thread / 32 || before.warp_epoch == now.warp_epoch;
}

// The touch that races with this one, and note this one.
inline const Touch* note_read(Shadow& shadow, bool atomic) {
    const Touch now = touch_now(atomic);
    if (races(shadow.write, now)) return &shadow.write;
    if (shadow.read[0].thread != now.thread) shadow.read[1] = shadow.read[0];
    shadow.read[0] = now;
    return nullptr;
}
inline const Touch* note_write(Shadow& shadow, bool atomic) {
    const Touch now = touch_now(atomic);
    if (races(shadow.write, now)) return &shadow.write;
    for (const Touch& read : shadow.read)
        if (races(read, now)) return &read;
    shadow.write = now;
    return nullptr;
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

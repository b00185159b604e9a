// Panels of numbers of four bits, opened into bytes.
//
// A group of 32 numbers of sixteen columns is four words of each, then a slope and a start of 16 bits for each: a byte is
// (slope * four bits + start) / 256, rounded down. So every product is the same as that of bytes, which are summed over more
// than such a group.
#pragma once

#include <vector>

#include "vectors.h"

#ifdef KERNELS_PAIRS
constexpr int kPart = 32;  // bytes of a register
#else
constexpr int kPart = 64;
#endif

inline void open_panel(const words* from, int groups, words* to) {
    typedef uint32_t part_words __attribute__((vector_size(kPart), aligned(4), may_alias));
    typedef uint16_t part_shorts __attribute__((vector_size(kPart), aligned(2), may_alias));
    constexpr long ahead = 16 * (kFour + 1), line = sizeof(words);
    for (int g = 0; g < groups; g++, from += kFour + 1, to += 2 * kFour) {
        fetch(from + ahead, (kFour + 1) * line);
        for (int side = 0; side < line; side += kPart) {
            const char* in = (const char*)from + side;
            char* out = (char*)to + side;
            part_words notes = *(const part_words*)(in + kFour * line);
            part_shorts slope = (part_shorts)((notes & 0xffff) | notes << 16);
            part_shorts start = (part_shorts)(notes >> 16 | (notes & 0xffff0000u));
            auto open = [&](part_shorts even, part_shorts odd) {
                return (even * slope + start) >> 8 | ((odd * slope + start) & 0xff00);
            };
            each<kFour>([&]<int k> {
                part_shorts fours = *(const part_shorts*)(in + k * line);
                *(part_shorts*)(out + 2 * k * line) = open(fours & 15, fours >> 8 & 15);
                *(part_shorts*)(out + (2 * k + 1) * line) = open(fours >> 4 & 15, fours >> 12);
            });
        }
    }
}

constexpr int kOpenSteps = 64;  // of the largest group

// Room of a thread's own for so many steps of a panel.
inline words* room_for(long steps) {
    static thread_local std::vector<uint32_t> kept;
    kept.resize(std::max<size_t>(kept.size(), (steps + 1) * kLanes));
    return (words*)((uintptr_t(kept.data()) + 63) & ~uintptr_t(63));
}

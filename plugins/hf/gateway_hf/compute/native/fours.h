// Panels of numbers of four bits, opened into bytes.
//
// Two groups of 32 numbers of sixteen columns are eight words of each, then a word of notes: of each group a slope and a
// start of 8 bits. A byte is slope * four bits / 16, rounded down, plus start. So every product is the same as that of
// bytes, which are summed over more than such a group. In a word of fours lie, from its lowest bits on, the numbers of
// bytes 1, 5, 0, 4, 3, 7, 2 and 6 of two words: in those places products leave a byte where it belongs, unshifted.
#pragma once

#include <vector>

#include "vectors.h"

#ifdef KERNELS_PAIRS
constexpr int kPart = 32;  // bytes of a register
#else
constexpr int kPart = 64;
#endif

typedef uint8_t part_bytes __attribute__((vector_size(kPart), aligned(1), may_alias));
typedef uint32_t part_words __attribute__((vector_size(kPart), aligned(4), may_alias));
typedef uint16_t part_shorts __attribute__((vector_size(kPart), aligned(2), may_alias));

// The upper half of each product.
inline part_shorts upper(part_shorts a, part_shorts b) {
#ifdef KERNELS_PAIRS
    return (part_shorts)_mm256_mulhi_epu16((__m256i)a, (__m256i)b);
#elif defined(__AVX512BW__)
    return (part_shorts)_mm512_mulhi_epu16((__m512i)a, (__m512i)b);
#else
    typedef uint32_t wide __attribute__((vector_size(2 * kPart)));
    return __builtin_convertvector(__builtin_convertvector(a, wide) * __builtin_convertvector(b, wide) >> 16, part_shorts);
#endif
}

// Spreads byte `which` of each word over its four bytes.
template <int which> inline part_bytes spread_note(part_words notes) {
#ifdef __SSE2__
    [[maybe_unused]] constexpr int all = 0x01010101, step = 4 * all;
    [[maybe_unused]] const __m128i places = _mm_setr_epi32(which * all, which * all + step, which * all + 2 * step, which * all + 3 * step);
#endif
#ifdef KERNELS_PAIRS
    return (part_bytes)_mm256_shuffle_epi8((__m256i)notes, _mm256_broadcastsi128_si256(places));
#elif defined(__AVX512BW__)
    return (part_bytes)_mm512_shuffle_epi8((__m512i)notes, _mm512_broadcast_i32x4(places));
#else
    return (part_bytes)((notes >> 8 * which & 255) * 0x01010101u);
#endif
}

constexpr int kPairLines = 2 * kFour + 1;  // words of a column that two groups are

// Opens so many pairs of groups.
inline void open_panel(const words* from, int pairs, words* to) {
    constexpr long ahead = 8 * kPairLines, line = sizeof(words);
    for (int p = 0; p < pairs; p++, from += kPairLines, to += 4 * kFour) {
        fetch(from + ahead, kPairLines * line);
        for (int side = 0; side < line; side += kPart) {
            const char* in = (const char*)from + side;
            char* out = (char*)to + side;
            part_words notes = *(const part_words*)(in + 2 * kFour * line);
            each<2>([&]<int group> {
                part_shorts slope = (part_shorts)spread_note<2 * group>(notes) & 0xff, steep = slope << 4;
                part_bytes start = spread_note<2 * group + 1>(notes);
                each<kFour>([&]<int k> {
                    part_shorts fours = *(const part_shorts*)(in + (group * kFour + k) * line);
                    part_shorts first = upper(fours & 0x0f00, steep) | ((fours & 0x000f) * steep & 0xff00);
                    part_shorts second = upper(fours & 0xf000, slope) | ((fours & 0x00f0) * slope & 0xff00);
                    *(part_bytes*)(out + (group * 2 * kFour + 2 * k) * line) = (part_bytes)first + start;
                    *(part_bytes*)(out + (group * 2 * kFour + 2 * k + 1) * line) = (part_bytes)second + start;
                });
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

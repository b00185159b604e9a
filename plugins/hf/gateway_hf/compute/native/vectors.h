// Sixteen lanes at a time, and the dot products that all else is made of.
//
// A *word* is four bytes of one row's operand: one float32, two bfloat16 or four bytes. A *step* of a panel is sixteen
// words, one for each of sixteen columns, so every format multiplies alike: broadcast a word, add its products.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "team.h"

constexpr int kLanes = 16;
constexpr int kFour = 4;  // words of a column that numbers of four bits are, in a group
constexpr int kFourGroup = 32;

// Calls f<0>() to f<N - 1>(). Arrays that are indexed so lie in registers; loops are unrolled too late for that.
template <int N, class F> [[gnu::always_inline]] inline void each(const F& f) {
    [&]<int... I>(std::integer_sequence<int, I...>) { (f.template operator()<I>(), ...); }(std::make_integer_sequence<int, N>());
}

#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
#define KERNELS_PAIRS
#include "pairs.h"
#else
typedef float floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(64), aligned(4), may_alias));

inline floats pick(ints where, floats a, floats b) { return where ? a : b; }
inline floats as_floats(words x) { return (floats)x; }
inline floats as_floats(ints x) { return (floats)x; }
inline ints as_ints(words x) { return (ints)x; }
inline floats to_floats(ints x) { return __builtin_convertvector(x, floats); }
inline ints to_ints(floats x) { return __builtin_convertvector(x, ints); }
inline words spread(const uint32_t* from) { return words{} + *from; }
inline words as_words(floats x) { return (words)x; }
inline floats count_up() { return floats{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

// Beside what is no number, they are the second.
#ifdef __AVX512F__
inline floats larger(floats a, floats b) { return (floats)_mm512_max_ps((__m512)a, (__m512)b); }
inline floats smaller(floats a, floats b) { return (floats)_mm512_min_ps((__m512)a, (__m512)b); }
#else
inline floats larger(floats a, floats b) { return pick(a > b, a, b); }
inline floats smaller(floats a, floats b) { return pick(a < b, a, b); }
#endif
#endif

inline floats all(float x) { return floats{} + x; }

// Asks for memory that will be read soon.
inline void fetch(const void* from, long bytes) {
    for (long i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)from + i);
}

inline float to_float(uint16_t bits) {
    uint32_t wide = uint32_t(bits) << 16;
    float out;
    memcpy(&out, &wide, 4);
    return out;
}

// To the nearest, ties to even; what is no number stays none.
inline uint16_t to_bfloat(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fc0;
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct Float32 {
    using Element = float;
    static constexpr int per_word = 1;
    static float read(float x) { return x; }
    static float write(float x) { return x; }
    static void dot(floats& sum, words a, words b) { sum += as_floats(a) * as_floats(b); }
};

struct BFloat16 {
    using Element = uint16_t;
    static constexpr int per_word = 2;
    static float read(uint16_t x) { return to_float(x); }
    static uint16_t write(float x) { return to_bfloat(x); }
    static void dot(floats& sum, words a, words b) {
#ifdef __AVX512BF16__
        sum = (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
        sum += as_floats(a << 16) * as_floats(b << 16);
        sum += as_floats(a & 0xffff0000u) * as_floats(b & 0xffff0000u);
#endif
    }
};

#ifndef KERNELS_PAIRS
// Four products each of bytes, unsigned and signed ones; no sum of them is too large for its bits.
constexpr bool kSaturates = false;
inline words broadened(words x, int) { return x; }
inline void dot_shorts(ints&, words, words) {}
inline void store_shorts(uint16_t*, ints) {}
inline void dot_bytes(ints& sum, words a, words b) {
#ifdef __AVX512VNNI__
    sum = (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
    for (int i = 0; i < 4; i++) sum += (ints)(a >> 8 * i & 255) * ((ints)(b << (24 - 8 * i)) >> 24);
#endif
}

// Four products each of numbers below sixteen and bytes of a row, which are signed.
inline void dot_nibbles(ints& sum, words nibbles, words row) {
#ifdef __AVX512VNNI__
    sum = (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)nibbles, (__m512i)row);
#else
    for (int i = 0; i < 4; i++) sum += (ints)(nibbles >> 8 * i & 15) * ((ints)(row << (24 - 8 * i)) >> 24);
#endif
}

inline ints whole(ints sum) { return sum; }

inline floats load_halves(const uint16_t* from) {
#ifdef __AVX512F__
    return (floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#else
    floats out;
    for (int i = 0; i < kLanes; i++) {
        _Float16 half;
        memcpy(&half, from + i, 2);
        out[i] = float(half);
    }
    return out;
#endif
}

inline floats load_bfloats(const uint16_t* from) {
#ifdef __AVX512F__
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
#else
    floats out;
    for (int i = 0; i < kLanes; i++) out[i] = to_float(from[i]);
    return out;
#endif
}

inline floats load_bytes(const int8_t* from) {
#ifdef __AVX512F__
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
#else
    floats out;
    for (int i = 0; i < kLanes; i++) out[i] = float(from[i]);
    return out;
#endif
}

inline void store_bfloats(uint16_t* to, floats x) {
#ifdef __AVX512BF16__
    __m256bh packed = _mm512_cvtneps_pbh((__m512)x);
    memcpy(to, &packed, 32);
#else
    for (int i = 0; i < kLanes; i++) to[i] = to_bfloat(x[i]);
#endif
}

inline void store_bytes(uint8_t* to, ints x) {
#ifdef __AVX512F__
    _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8((__m512i)x));
#else
    for (int i = 0; i < kLanes; i++) to[i] = uint8_t(x[i]);
#endif
}
#endif

// The products of one group: `kFour` words of each column, the first four of their eight numbers in the lower halves of bytes.
template <int R, int C>
[[gnu::flatten]] inline void sum_nibbles(const uint32_t* a, long stride, const words* const* b, ints (&sums)[R][C]) {
    ints sum[R][C];
    each<R * C>([&]<int i> { sum[i / C][i % C] = ints{}; });
#pragma GCC unroll 1
    for (int k = 0; k < kFour; k++) {
        each<2>([&]<int side> {
            words nibbles[C];
            each<C>([&]<int c> { nibbles[c] = (side ? b[c][k] >> 4 : b[c][k]) & 0x0f0f0f0f; });
            each<R>([&]<int r> {
                words word = spread(a + r * stride + 2 * k + side);
                each<C>([&]<int c> { dot_nibbles(sum[r][c], nibbles[c], word); });
            });
        });
    }
    each<R * C>([&]<int i> { sums[i / C][i % C] = whole(sum[i / C][i % C]); });
}

template <class T> inline floats load(const typename T::Element* from);
template <> inline floats load<Float32>(const float* from) { return *(const floats*)from; }
template <> inline floats load<BFloat16>(const uint16_t* from) { return load_bfloats(from); }

template <class T> inline void store(typename T::Element* to, floats x);
template <> inline void store<Float32>(float* to, floats x) { *(floats*)to = x; }
template <> inline void store<BFloat16>(uint16_t* to, floats x) { store_bfloats(to, x); }

inline float first_of(floats x) { return *(const float*)&x; }

// Joins all lanes, by halves: one after another each would wait for the last.
template <class F> inline float fold(const floats& x, const F& join) {
    typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
    const quarter* of = (const quarter*)&x;
    quarter four = join(join(of[0], of[1]), join(of[2], of[3]));
    return join(join(four[0], four[1]), join(four[2], four[3]));
}
inline float sum_of(floats x) {
    return fold(x, [](auto a, auto b) { return a + b; });
}
inline float most_of(floats x) {
    return fold(x, [](auto a, auto b) { return a > b ? a : b; });
}

inline int round_up(int n, int to) { return (n + to - 1) / to * to; }

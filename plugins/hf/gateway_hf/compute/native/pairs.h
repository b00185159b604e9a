// Sixteen lanes as two registers of eight, for processors that have AVX2 and no AVX-512.
//
// GCC 12 would keep a vector of 64 bytes on the stack there, and copy it in pieces at each use.
#pragma once

#include <cstdint>
#include <cstring>

typedef float half_floats __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t half_ints __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t half_words __attribute__((vector_size(32), aligned(4), may_alias));

// (A template's argument would lose what is said of alignment.)
template <class E> struct Half;
template <> struct Half<float> { using Vector = half_floats; };
template <> struct Half<int32_t> { using Vector = half_ints; };
template <> struct Half<uint32_t> { using Vector = half_words; };

template <class E> struct __attribute__((may_alias)) Pair {
    using V = typename Half<E>::Vector;
    V low, high;
    Pair() : low{}, high{} {}
    Pair(E x) : low(V{} + x), high(V{} + x) {}
    Pair(V low, V high) : low(low), high(high) {}
    // Copied as two vectors; as bytes, which is what a compiler makes of its own copy, a sum would not stay in registers.
    Pair(const Pair& from) : low(from.low), high(from.high) {}
    Pair& operator=(const Pair& from) {
        low = from.low, high = from.high;
        return *this;
    }

    friend Pair operator+(Pair a, Pair b) { return {a.low + b.low, a.high + b.high}; }
    friend Pair operator-(Pair a, Pair b) { return {a.low - b.low, a.high - b.high}; }
    friend Pair operator*(Pair a, Pair b) { return {a.low * b.low, a.high * b.high}; }
    friend Pair operator/(Pair a, Pair b) { return {a.low / b.low, a.high / b.high}; }
    friend Pair operator&(Pair a, Pair b) { return {a.low & b.low, a.high & b.high}; }
    friend Pair operator<<(Pair a, int bits) { return {a.low << bits, a.high << bits}; }
    friend Pair operator>>(Pair a, int bits) { return {a.low >> bits, a.high >> bits}; }
    Pair operator-() const { return {-low, -high}; }
    Pair& operator+=(Pair b) { return *this = *this + b; }
    Pair& operator*=(Pair b) { return *this = *this * b; }
};

using floats = Pair<float>;
using ints = Pair<int32_t>;
using words = Pair<uint32_t>;
static_assert(alignof(floats) == 4 && alignof(ints) == 4 && alignof(words) == 4);

inline ints operator>(floats a, floats b) { return {a.low > b.low, a.high > b.high}; }
inline ints operator<(floats a, floats b) { return {a.low < b.low, a.high < b.high}; }
inline ints operator<=(floats a, floats b) { return {a.low <= b.low, a.high <= b.high}; }
inline ints operator==(floats a, floats b) { return {a.low == b.low, a.high == b.high}; }

inline floats pick(ints where, floats a, floats b) {
    return {where.low ? a.low : b.low, where.high ? a.high : b.high};
}

// Beside what is no number, they are the second.
inline floats larger(floats a, floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline floats smaller(floats a, floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }

inline floats as_floats(words x) { return {(half_floats)x.low, (half_floats)x.high}; }
inline floats as_floats(ints x) { return {(half_floats)x.low, (half_floats)x.high}; }
inline ints as_ints(words x) { return {(half_ints)x.low, (half_ints)x.high}; }
inline floats to_floats(ints x) {
    return {__builtin_convertvector(x.low, half_floats), __builtin_convertvector(x.high, half_floats)};
}
inline ints to_ints(floats x) {
    return {__builtin_convertvector(x.low, half_ints), __builtin_convertvector(x.high, half_ints)};
}
inline words as_words(floats x) { return {(half_words)x.low, (half_words)x.high}; }
inline floats count_up() { return {half_floats{0, 1, 2, 3, 4, 5, 6, 7}, half_floats{8, 9, 10, 11, 12, 13, 14, 15}}; }

// Copies a word to all lanes as it is read; in a general register it would have to go through one port.
inline words spread(const uint32_t* from) {
    half_words all = (half_words)_mm256_broadcast_ss((const float*)from);
    return {all, all};
}

// Sixteen numbers of 16 bits, from sixteen of 32 that fit.
inline __m256i narrowed(__m256i low, __m256i high) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}

inline floats load_bfloats(const uint16_t* from) {
    auto half = [](const uint16_t* of) {
        return (half_floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)of)), 16);
    };
    return {half(from), half(from + 8)};
}

inline floats load_bytes(const int8_t* from) {
    auto half = [](const int8_t* of) {
        return (half_floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)of)));
    };
    return {half(from), half(from + 8)};
}

inline void store_bfloats(uint16_t* to, floats x) {
    auto half = [](half_floats v) {
        half_words bits = (half_words)v, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        return (__m256i)(v == v ? rounded : half_words{} + 0x7fc0);
    };
    _mm256_storeu_si256((__m256i*)to, narrowed(half(x.low), half(x.high)));
}

inline void store_bytes(uint8_t* to, ints x) {
    x = x & 255;
    __m256i both = narrowed((__m256i)x.low, (__m256i)x.high);
    _mm_storeu_si128((__m128i*)to, _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
}

// Has the compiler add here: it would add the products of two steps first, and has not registers enough for it.
inline half_ints kept_apart(half_ints sum) {
    asm("" : "+x"(sum));
    return sum;
}

// Four products each of bytes, unsigned and signed ones.
#ifdef __AVXVNNI__
constexpr bool kSaturates = false;
inline half_ints dot_half(half_ints sum, half_words a, half_words b) {
    return (half_ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
}
#else
// Two products are summed in 16 bits: 2 * 128 * 127 fits, and 2 * 255 * 127 would not.
constexpr bool kSaturates = true;
inline half_ints dot_half(half_ints sum, half_words a, half_words b) {
    return sum + (half_ints)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)a, (__m256i)b), _mm256_set1_epi16(1));
}
#endif
inline void dot_bytes(ints& sum, words a, words b) {
    sum = {dot_half(sum.low, a.low, b.low), dot_half(sum.high, a.high, b.high)};
}

// Numbers of 16 bits that are the bytes of words at even places, or at odd ones.
inline words broadened(words x, int side) {
    auto half = [=](half_words v) {
        __m256i at = side ? (__m256i)v : _mm256_slli_epi16((__m256i)v, 8);
        return (half_words)_mm256_srai_epi16(at, 8);
    };
    return {half(x.low), half(x.high)};
}

inline half_ints dot_half_shorts(half_ints sum, half_words a, half_words b) {
    return kept_apart(sum + (half_ints)_mm256_madd_epi16((__m256i)a, (__m256i)b));
}
inline void dot_shorts(ints& sum, words a, words b) {
    sum = {dot_half_shorts(sum.low, a.low, b.low), dot_half_shorts(sum.high, a.high, b.high)};
}

// Stores each four numbers in 16 bits, those of even places first.
inline void store_shorts(uint16_t* to, ints x) {
    auto sorted = [](half_ints v) { return _mm256_shuffle_epi32((__m256i)v, 0xd8); };
    __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(sorted(x.low), sorted(x.high)), 0xd8);
    _mm256_storeu_si256((__m256i*)to, both);
}

// Four products each of numbers below sixteen and bytes of a row, which are signed. The products of a group fit into 16 bits:
// 16 * 15 * 127.
#ifdef __AVXVNNI__
inline half_ints dot_nibbles(half_ints sum, half_words nibbles, half_words row) {
    return (half_ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)nibbles, (__m256i)row);
}
inline half_ints whole(half_ints sum) { return sum; }
#else
inline half_ints dot_nibbles(half_ints sum, half_words nibbles, half_words row) {
    return kept_apart((half_ints)_mm256_add_epi16((__m256i)sum, _mm256_maddubs_epi16((__m256i)nibbles, (__m256i)row)));
}
inline half_ints whole(half_ints sum) { return (half_ints)_mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1)); }
#endif

inline void dot_nibbles(ints& sum, words nibbles, words row) {
    sum = {dot_nibbles(sum.low, nibbles.low, row.low), dot_nibbles(sum.high, nibbles.high, row.high)};
}
inline ints whole(ints sum) { return {whole(sum.low), whole(sum.high)}; }

inline floats load_halves(const uint16_t* from) {
    auto half = [](const uint16_t* of) { return (half_floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)of)); };
    return {half(from), half(from + 8)};
}

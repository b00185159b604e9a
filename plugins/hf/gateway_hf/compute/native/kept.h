// How the cache keeps keys and values: as numbers that attention computes with, or in 8 bits.
#pragma once

#include <type_traits>

#include "rows.h"

constexpr int kBlock = 16;    // tokens
constexpr int kMaxHead = 512;
constexpr int kSpan = 4;      // blocks that are scored at a time

// Writes a row as elements, and zeros up to `padded`.
template <class T> inline void write_row(const float* x, int size, int padded, typename T::Element* to) {
    int d = 0;
    for (; d + kLanes <= size; d += kLanes) store<T>(to + d, *(const floats*)(x + d));
    for (; d < padded; d++) to[d] = T::write(d < size ? x[d] : 0.0f);
}

// Puts sixteen elements of one token into a step of values, beside those of its neighbour.
inline void set_values(float* step, int, const float* from) { memcpy(step, from, sizeof(float) * kLanes); }
inline void set_values(int8_t* step, int, const int8_t* from) { memcpy(step, from, kLanes); }
inline void set_values(uint16_t* step, int side, const uint16_t* from) {
    for (int i = 0; i < kLanes; i++) step[i * 2 + side] = from[i];
}

// Keys and values as they are, each step of a panel `kStep` elements of a column. `Number` is what they are multiplied by.
template <class T> struct Whole {
    static constexpr bool kWidened = kFloating && T::per_word == 2;
    using Number = std::conditional_t<kWidened, Float32, T>;
    using Kept = typename T::Element;
    static constexpr int kStep = T::per_word, kNotes = 0;
    static constexpr bool kTiles = T::per_word == 2;  // where the processor has tile registers

    static void write(const float* x, int size, int padded, Kept* to, Kept*, int) { write_row<T>(x, size, padded, to); }

    template <int R, int C>
    static void multiply(const uint32_t* a, long stride, const Kept* const* b, int steps, floats (&sums)[R][C]) {
        if constexpr (kWidened) multiply_floating<R, C>(a, stride, (const words* const*)b, steps, sums);
        else ::multiply<T, R, C>(a, stride, (const words* const*)b, steps, sums);
    }

    static floats scaled(floats x, const Kept*, int) { return x; }
};

// Keys and values in 8 bits, computed with in float32. A token's key has a scale of its own in each head, and so has its
// value; they lie behind the values of a block, sixteen for keys and sixteen for values.
struct Rounded {
    using Number = Float32;
    using Kept = int8_t;
    static constexpr int kStep = 1;
    static constexpr int kNotes = 2 * kBlock * sizeof(float);
    static constexpr bool kTiles = false;

    static void write(const float* x, int size, int padded, Kept* to, Kept* notes, int note) {
        alignas(64) float row[kMaxHead];
        write_row<Float32>(x, size, padded, row);
        floats most = {}, none = {};
        for (int d = 0; d < padded; d += kLanes) {
            floats v = *(floats*)(row + d);
            most = larger(most, larger(v, -v));
            none += v - v;  // what is no number, or no finite one, makes the scale none
        }
        float peak = most_of(most), inverse = peak > 0 ? 127.0f / peak : 0.0f, scale = peak / 127.0f + sum_of(none);
        for (int d = 0; d < padded; d += kLanes)
            store_bytes((uint8_t*)to + d, to_ints(*(floats*)(row + d) * inverse + 12582912.0f) - 12582912);
        memcpy(notes + note * sizeof(float), &scale, sizeof(float));
    }

    template <int R, int C>
    [[gnu::flatten]] static void multiply(const uint32_t* a, long stride, const Kept* const* b, int steps, floats (&sums)[R][C]) {
        floats sum[R][C];
        each<R * C>([&]<int i> { sum[i / C][i % C] = sums[i / C][i % C]; });
        for (int k = 0; k < steps; k++) {
            floats panel[C];
            each<C>([&]<int c> { panel[c] = load_bytes(b[c] + k * kLanes); });
            each<R>([&]<int r> {
                floats x = as_floats(spread(a + r * stride + k));
                each<C>([&]<int c> { sum[r][c] += x * panel[c]; });
            });
        }
        each<R * C>([&]<int i> { sums[i / C][i % C] = sum[i / C][i % C]; });
    }

    static floats scaled(floats x, const Kept* notes, int note) { return x * ((const floats*)notes)[note / kLanes]; }
};

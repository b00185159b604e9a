// How the cache keeps keys and values: as numbers that attention computes with. (In 8 bits: rounded.h.)
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

// Puts sixteen elements of one token into a step of values, beside those of its neighbours.
inline void set_values(float* step, int, const float* from) { memcpy(step, from, sizeof(float) * kLanes); }
inline void set_values(uint16_t* step, int side, const uint16_t* from) {
    for (int i = 0; i < kLanes; i++) step[i * 2 + side] = from[i];
}

// What attention computes with numbers, as `S` multiplies them: `Number` is what a query and weights are.
template <class N> struct NumberWeights {
    typename N::Element of[kSpan * kBlock];
};
template <class S, class N> struct ByNumbers {
    using Weights = NumberWeights<N>;

    static int words_asked(int padded) { return padded / N::per_word; }
    static void ask(const float* query, int size, int padded, uint32_t* to) {
        write_row<N>(query, size, padded, (typename N::Element*)to);
    }

    template <int R, int C, class K>
    static void score(const uint32_t* queries, int padded, const K* const* keys, floats (&scores)[R][C]) {
        each<R * C>([&]<int i> { scores[i / C][i % C] = floats{}; });
        S::template multiply<R, C>(queries, words_asked(padded), keys, padded / S::kStep, scores);
    }

    static float most(const Several<kSpan>&) { return 0; }
    static void weigh(const Several<kSpan>& weights, float, int count, Weights& to) {
        for (int b = 0; b < count; b++) store<N>(to.of + b * kBlock, weights.of[b]);
    }

    // Adds weights times the values of `count` blocks, each of C panels.
    template <int R, int C, class K>
    static void gather(const Weights* weights, const K* const (*values)[C], int count, floats (&sums)[R][C]) {
        for (int b = 0; b < count; b++) {
            const uint32_t* from = (const uint32_t*)weights + b * kBlock / N::per_word;
            S::template multiply<R, C>(from, sizeof(Weights) / sizeof(uint32_t), values[b], kBlock / S::kStep, sums);
        }
    }
};

// Keys and values as they are, each step of a panel `kStep` elements of a column.
template <class T> constexpr bool kWidened = kFloating && T::per_word == 2;
template <class T> struct Whole : ByNumbers<Whole<T>, std::conditional_t<kWidened<T>, Float32, T>> {
    using Kept = typename T::Element;
    static constexpr int kStep = T::per_word, kNotes = 0;

    static void write_key(const float* x, int size, int padded, Kept* to, Kept*, int) { write_row<T>(x, size, padded, to); }
    static void write_value(const float* x, int size, int padded, Kept* to, Kept*, int) { write_row<T>(x, size, padded, to); }

    template <int R, int C>
    static void multiply(const uint32_t* a, long stride, const Kept* const* b, int steps, floats (&sums)[R][C]) {
        const words* panels[C];
        each<C>([&]<int c> { panels[c] = (const words*)b[c]; });
        if constexpr (kWidened<T>) multiply_floating<R, C>(a, stride, panels, steps, sums);
        else ::multiply<T, R, C>(a, stride, panels, steps, sums);
    }

    static floats scaled(floats x, const Kept*, int) { return x; }
};

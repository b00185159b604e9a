// Keys and values in 8 bits: a token's key has a scale of its own in each head, and so has its value. The scales lie behind the
// values of a block, sixteen for keys and sixteen for values.
#pragma once

#include "kept.h"

// Whether bytes are multiplied as bytes, where a processor sums four products of them at a time; else as float32.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#define KERNELS_BYTES
#endif

// Rounds a row to `padded` whole numbers, `shift` added, in steps of the scale that is returned.
inline float round_row(const float* x, int size, int padded, int shift, int8_t* to) {
    alignas(64) float row[kMaxHead];
    write_row<Float32>(x, size, padded, row);
    auto [scale, inverse] = reach_of(row, padded, 127.0f);
    for (int d = 0; d < padded; d += kLanes)
        store_bytes((uint8_t*)to + d, to_ints(*(floats*)(row + d) * inverse + 12582912.0f) - (12582912 - shift));
    return scale;
}

// What is alike however bytes are multiplied.
struct ScaledBytes {
    using Kept = int8_t;
    static constexpr int kNotes = 2 * kBlock * sizeof(float);

    static void note(float scale, Kept* notes, int at) { memcpy(notes + at * sizeof(float), &scale, sizeof(float)); }
    static floats scaled(floats x, const Kept* notes, int note) { return x * ((const floats*)notes)[note / kLanes]; }
    static void write_value(const float* x, int size, int padded, Kept* to, Kept* notes, int at) {
        note(round_row(x, size, padded, 0, to), notes, kBlock + at);
    }
};

#ifdef KERNELS_BYTES
// The weights of a span in 16 bits, the upper and the lower halves of each; with what they are steps of.
struct ByteWeights {
    alignas(64) uint8_t high[kSpan * kBlock], low[kSpan * kBlock];
    float step;
};

inline void set_values(int8_t* step, int side, const int8_t* from) {
    for (int i = 0; i < kLanes; i++) step[i * 4 + side] = from[i];
}

// A query is rounded as keys are, and its products with them are whole numbers. Keys lie shifted, as unsigned bytes: a query has
// behind its words its scale, and what its sums have to be set off with. Weights have 16 bits: with 8, many small ones beside a
// large one would be none.
struct Rounded : ScaledBytes {
    using Weights = ByteWeights;
    static constexpr int kStep = 4, kUnsigned = 128, kQueryNotes = 16;

    static int words_asked(int padded) { return padded / kStep + kQueryNotes; }
    static void ask(const float* query, int size, int padded, uint32_t* to) {
        float scale = round_row(query, size, padded, 0, (int8_t*)to);
        int32_t sum = 0;
        for (int d = 0; d < padded; d++) sum += ((int8_t*)to)[d];
        sum *= -kUnsigned;
        memcpy(to + padded / kStep, &scale, sizeof(scale));
        memcpy(to + padded / kStep + 1, &sum, sizeof(sum));
    }

    static void write_key(const float* x, int size, int padded, Kept* to, Kept* notes, int at) {
        note(round_row(x, size, padded, kUnsigned, to), notes, at);
    }

    // Makes a score of a sum of products.
    static floats scored(ints sum, const uint32_t* query, int padded) {
        const uint32_t* notes = query + padded / kStep;
        return to_floats(sum + as_ints(spread(notes + 1))) * as_floats(spread(notes));
    }

    template <int R, int C>
    [[gnu::flatten]] static void score(const uint32_t* queries, int padded, const Kept* const* keys, floats (&scores)[R][C]) {
        ints sum[R][C];
        each<R * C>([&]<int i> { sum[i / C][i % C] = ints{}; });
        long stride = words_asked(padded);
        for (int k = 0; k < padded / kStep; k++) {
            words panel[C];
            each<C>([&]<int c> { panel[c] = ((const words*)keys[c])[k]; });
            each<R>([&]<int r> {
                words word = spread(queries + r * stride + k);
                each<C>([&]<int c> { dot_bytes(sum[r][c], panel[c], word); });
            });
        }
        each<R * C>([&]<int i> { scores[i / C][i % C] = scored(sum[i / C][i % C], queries + i / C * stride, padded); });
    }

    // The largest of scales; none where one is.
    static float most(const Several<kSpan>& scales) {
        auto none = scales - scales;
        return most_of(scales) + sum_of(none.of[0] + none.of[1] + (none.of[2] + none.of[3]));
    }

    // None of the weights is larger than `bound`.
    static void weigh(const Several<kSpan>& weights, float bound, int, Weights& to) {
        constexpr float largest = 65535.0f;
        float inverse = bound > 0 ? largest / bound : 0.0f;
        each<kSpan>([&]<int b> {
            words bits = as_words(weights.of[b] * inverse + 12582912.0f);  // whose lower 16 are the whole number
            store_bytes(to.low + b * kBlock, as_ints(bits));
            store_bytes(to.high + b * kBlock, as_ints(bits >> 8));
        });
        to.step = bound / largest;
    }

    template <int R, int C>
    [[gnu::flatten]] static void gather(const Weights* weights, const Kept* const (*values)[C], int count, floats (&sums)[R][C]) {
        ints sum[R][C];
        each<R * C>([&]<int i> { sum[i / C][i % C] = ints{}; });
        each<2>([&]<int side> {
            if constexpr (side) each<R * C>([&]<int i> { sum[i / C][i % C] = sum[i / C][i % C] << 8; });
            for (int b = 0; b < count; b++)
                for (int k = 0; k < kBlock / kStep; k++) {
                    words panel[C];
                    each<C>([&]<int c> { panel[c] = ((const words*)values[b][c])[k]; });
                    each<R>([&]<int r> {
                        words word = spread((const uint32_t*)((side ? weights[r].low : weights[r].high) + b * kBlock) + k);
                        each<C>([&]<int c> { dot_bytes(sum[r][c], word, panel[c]); });
                    });
                }
        });
        each<R * C>([&]<int i> { sums[i / C][i % C] += to_floats(sum[i / C][i % C]) * all(weights[i / C].step); });
    }
};
#else
inline void set_values(int8_t* step, int, const int8_t* from) { memcpy(step, from, kLanes); }

struct Rounded : ScaledBytes, ByNumbers<Rounded, Float32> {
    static constexpr int kStep = 1;

    static void write_key(const float* x, int size, int padded, Kept* to, Kept* notes, int at) {
        note(round_row(x, size, padded, 0, to), notes, at);
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
};
#endif

// What happens to a row between two multiplications: norms, rounding to words, activations.
#pragma once

#include <vector>

#include "tiles.h"

// Room that is kept from one job to the next.
template <class E> struct Room {
    std::vector<E> kept;
    E* of(size_t size) {
        if (kept.size() < size) kept.resize(size + size / 2);
        return kept.data();
    }
};

// A place where rows are written as the operand of the next multiplication.
struct Sheet {
    Room<uint32_t> words;
    Room<float> scales;
    Operand at;

    uint32_t* row(int i) { return const_cast<uint32_t*>(at.words) + i * at.stride; }

    void fit(const Linear& w, int rows) {
        constexpr int line = 16, page = 1024;  // words
        at.stride = w.steps();
        // Rows that are pages apart would push each other out of the nearest cache.
        if (at.stride % page == 0) at.stride += line;
        uintptr_t from = uintptr_t(words.of(size_t(round_up(rows, 2 * kTile)) * at.stride + 2 * line));
        at.words = (const uint32_t*)((from + 63) & ~uintptr_t(63));
        at.scales = w.format == kInt8 ? scales.of(size_t(rows) * w.groups()) : nullptr;
    }
};

// Writes columns [from, to) of a row as words of the format; bytes are rounded within groups, and shifted by 128.
inline void write_words(const Linear& w, Sheet& sheet, int row, const float* x, int from, int to) {
    if (w.format == kFloat32) {
        memcpy((float*)sheet.row(row) + from, x + from, sizeof(float) * (to - from));
        return;
    }
    if (w.format == kBFloat16) {
        uint16_t* out = (uint16_t*)sheet.row(row);
        int k = from;
        for (; k + kLanes <= to; k += kLanes) store<BFloat16>(out + k, *(const floats*)(x + k));
        for (; k < to; k++) out[k] = to_bfloat(x[k]);
        return;
    }
    uint8_t* out = (uint8_t*)sheet.row(row);
    float* scales = const_cast<float*>(sheet.at.scales) + long(row) * w.groups();
    for (int k = from; k < to; k += w.group) {
        floats most = {};
        for (int i = 0; i < w.group; i += kLanes) {
            floats v = *(const floats*)(x + k + i);
            most = larger(most, larger(v, -v));
        }
        float peak = most_of(most), scale = peak / 127.0f, inverse = peak > 0 ? 127.0f / peak : 0.0f;
        scales[k / w.group] = peak == peak ? scale : NAN;
        for (int i = 0; i < w.group; i += kLanes) {
            ints whole = __builtin_convertvector(*(const floats*)(x + k + i) * inverse + 12582912.0f, ints) - 12582912 + 128;
            for (int j = 0; j < kLanes; j++) out[k + i + j] = uint8_t(whole[j]);
        }
    }
}

// y = x / sqrt(mean(x^2) + eps) * weight; x and y may be the same.
inline void norm_row(const float* x, const float* weight, float eps, int size, float* y) {
    floats sum = {};
    int k = 0;
    for (; k + kLanes <= size; k += kLanes) sum += *(const floats*)(x + k) * *(const floats*)(x + k);
    float total = sum_of(sum);
    for (int j = k; j < size; j++) total += x[j] * x[j];
    float scale = 1.0f / std::sqrt(total / size + eps);
    for (k = 0; k + kLanes <= size; k += kLanes)
        *(floats*)(y + k) = *(const floats*)(x + k) * scale * *(const floats*)(weight + k);
    for (; k < size; k++) y[k] = x[k] * scale * weight[k];
}

template <class T> inline void read_row(const typename T::Element* from, int size, float* to) {
    int k = 0;
    for (; k + kLanes <= size; k += kLanes) *(floats*)(to + k) = load<T>(from + k);
    for (; k < size; k++) to[k] = T::read(from[k]);
}

enum Activation { kSilu = 0, kGeluTanh = 1, kGelu = 2 };

inline floats activate(int kind, floats x) {
    if (kind == kSilu) return x / (1.0f + exponential(-x));
    if (kind == kGeluTanh) return 0.5f * x * (1.0f + tangent(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    floats y;
    for (int i = 0; i < kLanes; i++) y[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678118654752f));
    return y;
}

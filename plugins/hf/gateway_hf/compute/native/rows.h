// What happens to a row between two multiplications: norms, rounding to words, and where sums go.
#pragma once

#include <new>
#include <vector>

#include "products.h"
#include "several.h"

// Has vectors begin where a line of the caches does: what lies in two is read and written as two.
template <class E> struct OnLines {
    using value_type = E;
    static constexpr std::align_val_t kLine{64};

    OnLines() = default;
    template <class Other> OnLines(const OnLines<Other>&) {}
    E* allocate(size_t count) { return static_cast<E*>(::operator new(count * sizeof(E), kLine)); }
    void deallocate(E* from, size_t) { ::operator delete(from, kLine); }
    friend bool operator==(OnLines, OnLines) { return true; }
};

// Room that is kept from one job to the next.
template <class E> struct Room {
    std::vector<E, OnLines<E>> kept;
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
        constexpr int line = 16;  // words
        // An odd number of lines: rows that are pages apart, or parts of them, would push each other out of the nearest cache.
        at.stride = ((w.words() + line - 1) / line | 1) * line;
        at.words = words.of(size_t(round_up(rows, 2 * kTile)) * at.stride);
        at.scales = w.quantized() ? scales.of(size_t(rows) * w.notes()) : nullptr;
    }
};

// In what steps numbers are rounded to whole ones up to `largest`, and how many of them are one.
struct Reach {
    float scale, inverse;
};
inline Reach reach_of(const float* x, int size, float largest) {
    floats most = {}, none = {};
    for (int i = 0; i < size; i += kLanes) {
        floats v = *(const floats*)(x + i);
        most = larger(most, larger(v, -v));
        none += v - v;  // what is no number, or no finite one, makes the scale none
    }
    float peak = most_of(most);
    return {peak / largest + sum_of(none), peak > 0 ? largest / peak : 0.0f};
}

// Rounds the group of a row's elements that begins with element k to whole numbers, and notes what has to be known of them.
inline void round_group(const Linear& w, const float* x, int k, uint32_t* row, float* notes) {
    bool four = w.fours(), broad = w.broad();
    // Bytes of a row are made unsigned where signed bytes of a panel are multiplied by them.
    int shift = four || broad || w.narrow ? 0 : 128;
    float largest = broad ? 32767.0f : 127.0f;
    auto [scale, inverse] = reach_of(x + k, w.group, largest);
    ints sum = {};
    for (int i = k; i < k + w.group; i += kLanes) {
        ints whole = to_ints(*(const floats*)(x + i) * inverse + 12582912.0f) - (12582912 - shift);
        if (broad) store_shorts((uint16_t*)row + i, whole);
        else store_bytes((uint8_t*)row + i, whole);
        sum = sum + whole;
    }
    notes[0] = scale;
    if (!four && !w.narrow) return;
    float total = sum_of(to_floats(sum));
    if (four) notes[1] = scale * total;
    else {
        uint32_t unshift = -uint32_t(kShift) * uint32_t(int64_t(total));  // of no number it may be any
        memcpy(notes + 1, &unshift, sizeof(unshift));
    }
}

// Writes columns [from, to) of a row as words of the format; bytes are rounded within groups, and shifted.
inline void write_words(const Linear& w, Sheet& sheet, int row, const float* x, int from, int to) {
    if (w.floating()) {
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
    int count = w.notes(), own = count / w.groups();
    float* notes = const_cast<float*>(sheet.at.scales) + long(row) * count;
    for (int k = from; k < to; k += w.group) round_group(w, x, k, sheet.row(row), notes + k / w.group * own);
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

inline void put(float* to, floats x, int lanes) {
    if (lanes >= kLanes) *(floats*)to = x;
    else memcpy(to, &x, sizeof(float) * std::max(lanes, 0));
}

// Where sums of `apply` go: into rows of `width` numbers, or onto what is there. `at` says where, so that it can be asked for.
struct Into {
    float* to;
    long width;
    float* at(int row, int column) const { return to + row * width + column; }
    void operator()(int row, int column, floats x) const { put(at(row, column), x, int(width) - column); }
};
struct Onto : Into {
    void operator()(int row, int column, floats x) const {
        float* sum = at(row, column);
        if (column + kLanes <= width) *(floats*)sum += x;
        else for (int i = 0; column + i < width; i++) sum[i] += ((const float*)&x)[i];
    }
};
inline Into into(float* to, int width) { return {to, width}; }
inline Onto onto(float* to, int width) { return {{to, width}}; }

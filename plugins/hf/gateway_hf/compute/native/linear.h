// y = x W^T with weights laid out once, sixteen output columns to a panel.
//
// Panel p holds columns [16 p .. 16 p + 16) as steps of one word for each column:
//   [step 0: 16 words][step 1: 16 words] ... [step K / per_word - 1]
// so a panel is read once and in order, and a step serves every row. Columns beyond the last are zero.
#pragma once

#include <algorithm>

#include "fours.h"

#if defined(__AMX_BF16__) && defined(__AMX_INT8__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define KERNELS_TILES
#endif

#ifdef __AVX512F__
constexpr int kRows = 8, kWide = 3;   // 8 x 3 or 4 x 4 sums, kept in the 32 registers
constexpr int kShort = 4, kAbreast = 4;
constexpr bool kFloating = false;
constexpr bool kAsks = false;  // not measured
#else
constexpr int kRows = 6, kWide = 1;   // 6 x 1 or 2 x 2 sums of two registers each, of 16
constexpr int kShort = 2, kAbreast = 2;
constexpr bool kFloating = true;     // weights of bfloat16 are multiplied by rows of float32, as no product is of bfloat16
constexpr bool kAsks = true;         // panels that come next are asked for: a few rows would wait for each
#endif

// Calls f<rows>(), for 1 to kRows.
template <int R = kRows, class F> inline void with_rows(int rows, const F& f) {
    if (rows == R) return f.template operator()<R>();
    if constexpr (R > 1) with_rows<R - 1>(rows, f);
}

constexpr int kAhead = 64;  // steps
constexpr int kTall = 64;   // rows

enum Format { kFloat32 = 0, kBFloat16 = 1, kInt8 = 2, kInt4 = 3 };

constexpr int kShift = 64;  // of narrow bytes; `NARROW` where weights are rounded

struct Linear {
    int32_t format, columns, depth;
    int32_t group;  // int8 and int4: elements of a row that share a scale; more than `kFourGroup` where fours become bytes
    int32_t narrow, unused;  // int8: no byte is larger than kShift, and they lie shifted by that, as unsigned ones
    const void* panels;
    const float* bias;    // [columns], or null
    const float* scales;  // bytes: [panels][groups][16]
    const int32_t* sums;  // bytes, not narrow: [panels][groups][16], -128 times the sum of a column's bytes in the group

    int count() const { return (columns + kLanes - 1) / kLanes; }
    int steps() const { return depth / (format == kFloat32 ? 1 : format == kBFloat16 ? 2 : 4); }
    // Words of a column in a panel.
    int height() const { return opens() ? pairs(depth) * kPairLines : format == kInt4 ? depth / kFourGroup * (kFour + 1) : steps(); }
    static int pairs(int depth) { return depth / (2 * kFourGroup); }  // of groups of numbers of four bits
    // Of a row that is multiplied by it.
    int words() const { return floating() ? depth : broad() ? 2 * steps() : steps(); }
    bool floating() const { return format == kFloat32 || (kFloating && format == kBFloat16); }
    // Whether a row has 16 bits for each byte of a column, so that sums of products have room.
    bool broad() const { return kSaturates && ((format == kInt8 && !narrow) || opens()); }
    int groups() const { return depth / group; }
    bool quantized() const { return format == kInt8 || format == kInt4; }
    // Whether numbers of four bits are made bytes before they are multiplied.
    bool opens() const { return format == kInt4 && group > kFourGroup; }
    bool fours() const { return format == kInt4 && !opens(); }
    // Numbers that a row of bytes has beside them, for each group: its scale; and for int4 the sum of what its bytes stand
    // for, for narrow bytes what their shift has to be set off with, a whole number.
    int notes() const { return groups() * (fours() || narrow ? 2 : 1); }
};

// The rows of an operand: words, and for bytes the notes of each row.
struct Operand {
    const uint32_t* words;
    long stride;  // in words
    const float* scales;
};

constexpr int kFew = 2;    // rows of bfloat16 that vectors multiply faster than tiles do; of bytes it is `kShort`
constexpr int kTile = 16;  // steps of a panel, or rows, in one of the processor's tile registers

// Says whether there are tile registers; the kernel of the system has to be asked once.
inline bool tiles_allowed() {
#ifdef KERNELS_TILES
    constexpr int request = 0x1023, data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool allowed = syscall(SYS_arch_prctl, request, data) == 0;
    return allowed;
#else
    return false;
#endif
}

// Says whether products of this weight are summed as tiles do it.
inline bool tiled(const Linear& w) {
    bool bytes = (w.format == kInt8 && !w.narrow) || w.opens();
    bool fits = w.format == kBFloat16 || (bytes && w.group / 4 % kTile == 0);
    return fits && w.steps() % kTile == 0 && tiles_allowed();
}

// Memory that is read behind what is multiplied now: each step asks for so many bytes of it, from `at` on. (No branch: with
// one in it, the sums of an inner loop did not stay in registers.)
inline const char kNothing[64] = {};
struct Soon {
    const char* at = kNothing;
    int bytes = 0;

    void ask(int step) const {
        if constexpr (kAsks) __builtin_prefetch(at + long(step) * bytes, 0, 2);
    }
};

// Adds the products of R rows and C panels; `b[c]` is where panel c begins.
template <class T, int R, int C>
[[gnu::flatten]] inline void multiply(const uint32_t* a, long stride, const words* const* b, int steps, floats (&sums)[R][C],
                                      Soon soon = {}) {
    floats sum[R][C];
    each<R * C>([&]<int i> { sum[i / C][i % C] = sums[i / C][i % C]; });
    for (int k = 0; k < steps; k++) {
        words panel[C];
        each<C>([&]<int c> { panel[c] = b[c][k]; });
        // With few rows all waits for memory, and several streams are more than the processor foresees.
        if constexpr (R <= 2) each<C>([&]<int c> { __builtin_prefetch(b[c] + k + kAhead); });
        else soon.ask(k);
        each<R>([&]<int r> {
            words word = spread(a + r * stride + k);
            each<C>([&]<int c> { T::dot(sum[r][c], word, panel[c]); });
        });
    }
    each<R * C>([&]<int i> { sums[i / C][i % C] = sum[i / C][i % C]; });
}

// The same for rows of float32 and panels of bfloat16.
template <int R, int C>
[[gnu::flatten]] inline void multiply_floating(const uint32_t* a, long stride, const words* const* b, int steps, floats (&sums)[R][C],
                                               Soon soon = {}) {
    floats sum[R][C];
    each<R * C>([&]<int i> { sum[i / C][i % C] = sums[i / C][i % C]; });
    for (int k = 0; k < steps; k++) {
        if constexpr (R <= 2) each<C>([&]<int c> { __builtin_prefetch(b[c] + k + kAhead); });
        else soon.ask(k);
        each<2>([&]<int side> {
            floats panel[C];
            each<C>([&]<int c> { panel[c] = as_floats(side ? b[c][k] & 0xffff0000u : b[c][k] << 16); });
            each<R>([&]<int r> {
                floats x = as_floats(spread(a + r * stride + 2 * k + side));
                each<C>([&]<int c> { sum[r][c] += x * panel[c]; });
            });
        });
    }
    each<R * C>([&]<int i> { sums[i / C][i % C] = sum[i / C][i % C]; });
}

// The same for bfloat16 in the order of tile registers, bit for bit: within a tile, elements of even and of odd places have
// sums of their own. (Vectors of bfloat16 products are no faster where there are tiles.)
template <int R, int C>
inline void multiply_as_tiles(const uint32_t* a, long stride, const words* const* b, int steps, floats (&sum)[R][C]) {
    for (int t = 0; t < steps; t += kTile) {
        floats even[R][C] = {}, odd[R][C] = {};
        for (int k = t; k < t + kTile; k++) {
            words panel[C];
            for (int c = 0; c < C; c++) panel[c] = b[c][k];
            for (int c = 0; c < C; c++) __builtin_prefetch(b[c] + k + kAhead);
            for (int r = 0; r < R; r++) {
                words word = spread(a + r * stride + k);
                for (int c = 0; c < C; c++) {
                    even[r][c] += as_floats(word << 16) * as_floats(panel[c] << 16);
                    odd[r][c] += as_floats(word & 0xffff0000u) * as_floats(panel[c] & 0xffff0000u);
                }
            }
        }
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) sum[r][c] += even[r][c] + odd[r][c];
    }
}

// How bytes of a panel and of a row are multiplied: signed ones by unsigned ones, by numbers of 16 bits, or narrow ones that are shifted.
enum Bytes { kSigned, kBroad, kShifted };

// The products of one group of bytes. Of broad rows, two words are for a word of a panel.
template <Bytes B, int R, int C>
[[gnu::flatten]] inline void sum_bytes(const uint32_t* a, long stride, const words* const* b, int steps, ints (&sums)[R][C], Soon soon) {
    constexpr int sides = B == kBroad ? 2 : 1;
    ints sum[R][C];
    each<R * C>([&]<int i> { sum[i / C][i % C] = sums[i / C][i % C]; });
    for (int k = 0; k < steps; k++) {
        if constexpr (R > 2) soon.ask(k);
        each<sides>([&]<int side> {
            words column[C];
            each<C>([&]<int c> { column[c] = B == kBroad ? broadened(b[c][k], side) : b[c][k]; });
            each<R>([&]<int r> {
                words word = spread(a + r * stride + sides * k + side);
                each<C>([&]<int c> {
                    if constexpr (B == kBroad) dot_shorts(sum[r][c], word, column[c]);
                    else if constexpr (B == kShifted) dot_bytes(sum[r][c], column[c], word);
                    else dot_bytes(sum[r][c], word, column[c]);
                });
            });
        });
    }
    each<R * C>([&]<int i> { sums[i / C][i % C] = sum[i / C][i % C]; });
}

template <Bytes B, int R, int C>
[[gnu::flatten]] inline void multiply_bytes(const Linear& w, Operand x, int row, int panel, const words* const* b, floats (&sum)[R][C],
                                            Soon soon) {
    int groups = w.groups(), steps = w.group / 4;
    const uint32_t* a = x.words + row * x.stride;
    constexpr int own = B == kShifted ? 2 : 1;
    auto note = [&](int r, int g) { return (const uint32_t*)x.scales + ((row + r) * long(groups) + g) * own; };
    constexpr bool may_open = B != kShifted;
    alignas(64) uint32_t room[may_open ? C : 1][may_open ? kOpenSteps * kLanes : 1];
    for (int g = 0; g < groups; g++) {
        ints part[R][C];
        const words* columns[C];
        each<C>([&]<int c> { columns[c] = b[c] + g * steps; });
        if (may_open && w.opens()) {
            int pairs = w.pairs(w.group);
            each<C>([&]<int c> {
                open_panel(b[c] + long(g) * pairs * kPairLines, pairs, (words*)room[c]);
                columns[c] = (const words*)room[c];
            });
        }
        auto at = [&](int c) { return ((panel + c) * long(groups) + g) * kLanes; };
        each<R * C>([&]<int i> {
            if constexpr (B == kSigned) part[i / C][i % C] = *(const ints*)(w.sums + at(i % C));
            else if constexpr (B == kShifted) part[i / C][i % C] = as_ints(spread(note(i / C, g) + 1));
            else part[i / C][i % C] = ints{};
        });
        sum_bytes<B, R, C>(a + (B == kBroad ? 2 : 1) * g * steps, x.stride, columns, steps, part, soon);
        soon.at += long(steps) * soon.bytes;
        each<R * C>([&]<int i> {
            constexpr int r = i / C, c = i % C;
            floats scale = *(const floats*)(w.scales + at(c)) * as_floats(spread(note(r, g)));
            sum[r][c] += to_floats(part[r][c]) * scale;
        });
    }
}

// A group of a panel is four words of each column, then sixteen scales and sixteen offsets of float16: a number is its four bits times the scale, plus the offset.
template <int R, int C>
[[gnu::flatten]] inline void multiply_nibbles(const Linear& w, Operand x, int row, const words* const* b, floats (&sums)[R][C],
                                              Soon soon) {
    floats sum[R][C];
    each<R * C>([&]<int i> { sum[i / C][i % C] = sums[i / C][i % C]; });
    int groups = w.groups();
    for (int g = 0; g < groups; g++) {
        const words* at[C];
        each<C>([&]<int c> { at[c] = b[c] + g * (kFour + 1); });
        if constexpr (R <= 2) each<C>([&]<int c> { fetch(at[c] + kAhead, (kFour + 1) * sizeof(words)); });
        else for (int i = 0; i <= kFour; i++) soon.ask(g * (kFour + 1) + i);
        ints part[R][C];
        sum_nibbles(x.words + row * x.stride + g * 2 * kFour, x.stride, at, part);
        floats scale[C], offset[C];
        each<C>([&]<int c> {
            const uint16_t* notes = (const uint16_t*)(at[c] + kFour);
            scale[c] = load_halves(notes), offset[c] = load_halves(notes + kLanes);
        });
        each<R>([&]<int r> {
            const uint32_t* notes = (const uint32_t*)(x.scales + ((row + r) * long(groups) + g) * 2);
            floats unit = as_floats(spread(notes)), total = as_floats(spread(notes + 1));
            each<C>([&]<int c> {
                sum[r][c] += to_floats(part[r][c]) * (scale[c] * unit);
                sum[r][c] += offset[c] * total;
            });
        });
    }
    each<R * C>([&]<int i> { sums[i / C][i % C] = sum[i / C][i % C]; });
}

// Rows [row, row + R) times panels [panel, panel + C); each sum goes to emit(row, column, sixteen sums).
template <int R, int C, class Emit>
inline void block(const Linear& w, Operand x, int row, int panel, Soon soon, const Emit& emit) {
    const words* b[C];
    int steps = w.steps();
    for (int c = 0; c < C; c++) b[c] = (const words*)w.panels + long(panel + c) * w.height();
    floats sum[R][C] = {};
    const uint32_t* a = x.words + row * x.stride;
    if (w.format == kFloat32) multiply<Float32, R, C>(a, x.stride, b, steps, sum, soon);
    else if (w.format == kInt8 && w.narrow) multiply_bytes<kShifted, R, C>(w, x, row, panel, b, sum, soon);
    else if (w.quantized() && !w.fours()) multiply_bytes<kSaturates ? kBroad : kSigned, R, C>(w, x, row, panel, b, sum, soon);
    else if (w.quantized()) multiply_nibbles<R, C>(w, x, row, b, sum, soon);
    else if (kFloating) multiply_floating<R, C>(a, x.stride, b, steps, sum, soon);
    else if (!tiled(w)) multiply<BFloat16, R, C>(a, x.stride, b, steps, sum);
    else if constexpr (R <= kFew) multiply_as_tiles<R, C>(a, x.stride, b, steps, sum);
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) {
            floats bias = w.bias ? *(const floats*)(w.bias + (panel + c) * kLanes) : floats{};
            emit(row + r, (panel + c) * kLanes, sum[r][c] + bias);
        }
}

template <int C, class Emit>
inline void rows_of(const Linear& w, Operand x, int row, int rows, int panel, Soon soon, const Emit& emit) {
    with_rows(rows, [&]<int R>() { block<R, C>(w, x, row, panel, soon, emit); });
}

// Panels [first, last) of a weight of four bits as bytes, in room of the thread's own, until it opens others: no other panel
// may be read.
inline Linear opened(const Linear& w, int first, int last) {
    words* room = room_for(long(last - first) * w.steps());
    for (int p = first; p < last; p++)
        open_panel((const words*)w.panels + long(p) * w.height(), w.pairs(w.depth), room + long(p - first) * w.steps());
    Linear bytes = w;
    bytes.format = kInt8, bytes.panels = room - long(first) * w.steps();
    return bytes;
}

// Panels of a part.
inline int vector_width(int rows) { return rows <= kShort ? kAbreast : kWide; }
inline int vector_parts(const Linear& w, int rows) {
    int wide = vector_width(rows);
    return (w.count() + wide - 1) / wide * ((rows + kTall - 1) / kTall);
}

// Multiplies a part of `rows` rows: a few panels and at most `kTall` rows, which stay in the nearest caches while panels
// pass by. Of the panels of the next part each block asks for its share.
template <class Emit> void vector_part(const Linear& w, Operand x, int rows, int part, const Emit& emit) {
    int wide = vector_width(rows), across = (w.count() + wide - 1) / wide;
    int first = part % across * wide, last = std::min(first + wide, w.count());
    if (w.opens() && rows > kRows) return vector_part(opened(w, first, last), x, rows, part, emit);
    int row = part / across * kTall, end = std::min(rows, row + kTall);
    int blocks = (end - row + kRows - 1) / kRows, lines = w.height() * wide;
    const char* next = (const char*)((const words*)w.panels + long(first + wide) * w.height());
    for (int at = 0; at < blocks; at++) {
        int left = blocks - at, height = (end - row + left - 1) / left;  // as even as can be: a block of few rows is slow
        Soon soon{next + long(sizeof(words)) * lines * at / blocks, int(sizeof(words)) * wide / blocks};
        if (wide == kAbreast && last - first == kAbreast && height <= kShort) {
            rows_of<kAbreast>(w, x, row, height, first, soon, emit);
        } else if (last - first == kWide) {
            rows_of<kWide>(w, x, row, height, first, soon, emit);
        } else {
            for (int panel = first; panel < last; panel++) rows_of<1>(w, x, row, height, panel, soon, emit);
        }
        row += height;
    }
}

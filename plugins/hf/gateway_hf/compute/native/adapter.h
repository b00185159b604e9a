// Low-rank changes of linear layers (LoRA, Hu et al. 2021), each for the rows of those sequences that asked for it.
//
// All is float32 and every sum runs in the same order alone and in a crowd. Rows without an adapter are not touched.
#pragma once

#include "attention.h"

constexpr int kMaxRank = 512;

// The linear layers of a decoder layer, in the order in which each adapter has its changes of them.
enum Part { kQuery, kKey, kValue, kOut, kGate, kUp, kDown, kParts };

// Adds up(down x) to columns [column, column + up.columns) of y; nothing where `up` has no panels.
struct LowRank {
    Linear down, up;  // float32: [rank][depth], and [columns][rank] with the scale in it
    int32_t column, unused;
};

// Rows [from, to) of a pass are of one adapter.
struct Span {
    int32_t adapter, from, to;
};

// Cuts spans into pieces of a few rows; a piece's sequence is its adapter.
inline void cut_spans(const Span* spans, int count, std::vector<Piece>& pieces) {
    pieces.clear();
    for (int i = 0; i < count; i++)
        for (int row = spans[i].from; row < spans[i].to; row += kRows)
            pieces.push_back({spans[i].adapter, row, std::min(kRows, spans[i].to - row)});
}

// Adds R rows of x times C panels to y, which ends at column `end`.
template <int R, int C>
inline void add_block(const Linear& w, const float* x, long across, int panel, float* y, long width, int end) {
    const words* b[C];
    for (int c = 0; c < C; c++) b[c] = (const words*)w.panels + long(panel + c) * w.depth;
    floats sum[R][C] = {};
    multiply<Float32, R, C>((const uint32_t*)x, across, b, w.depth, sum);
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) {
            int column = (panel + c) * kLanes;
            float* to = y + r * width + column;
            if (column + kLanes <= end) *(floats*)to += sum[r][c];
            else for (int i = 0; column + i < end; i++) to[i] += ((const float*)&sum[r][c])[i];
        }
}

template <int R> inline void add_rows(const Linear& w, const float* x, long across, float* y, long width, int end) {
    constexpr int C = R <= kShort ? kAbreast : kWide;
    int panel = 0;
    for (; panel + C <= w.count(); panel += C) add_block<R, C>(w, x, across, panel, y, width, end);
    for (; panel < w.count(); panel++) add_block<R, 1>(w, x, across, panel, y, width, end);
}

template <int R> inline void change_rows(const LowRank& low, const float* x, long across, float* y, long width) {
    alignas(64) float between[R][kMaxRank];
    for (int r = 0; r < R; r++) memset(between[r], 0, sizeof(float) * round_up(low.down.columns, kLanes));
    add_rows<R>(low.down, x, across, between[0], kMaxRank, kMaxRank);
    add_rows<R>(low.up, between[0], kMaxRank, y + low.column, width, low.up.columns);
}

// Adds to y what the adapter of each piece makes of x: its `count` changes, which begin `stride` behind those of the
// adapter before it. Rows of x have `across` floats, those of y `width`.
inline void change(Team& team, const std::vector<Piece>& pieces, const LowRank* lows, int stride, int count,
                   const float* x, long across, float* y, long width) {
    team.each(int(pieces.size()) * count, [&](int part) {
        const Piece& piece = pieces[part / count];
        const LowRank& low = lows[long(piece.sequence) * stride + part % count];
        if (!low.up.panels) return;
        const float* from = x + piece.row * across;
        float* to = y + piece.row * width;
        with_rows(piece.rows, [&]<int R>() { change_rows<R>(low, from, across, to, width); });
    });
}

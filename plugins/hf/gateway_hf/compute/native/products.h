// Products of rows and a weight, by tiles where there are such and rows are many, else by vectors; several threads share them.
#pragma once

#include "team.h"
#include "several.h"
#include "tiles.h"

// Few rows are read faster by vectors.
inline bool by_tiles(const Linear& w, int rows) { return tiled(w) && rows > (w.format == kBFloat16 ? kFew : kShort); }

// A product in parts, for several threads; the rows of `x` have room up to a multiple of 2 `kTile`.
inline int product_parts(const Linear& w, int rows, int threads) {
    return by_tiles(w, rows) ? tile_parts(w, rows, threads) : vector_parts(w, rows);
}
template <class Emit> void product_part(const Linear& w, Operand x, int rows, int part, int threads, const Emit& emit) {
    if (by_tiles(w, rows)) tile_part(w, x, rows, part, threads, emit);
    else vector_part(w, x, rows, part, emit);
}

// Multiplies `rows` rows.
template <class Emit> void apply(Team& team, const Linear& w, Operand x, int rows, const Emit& emit) {
    team.each(product_parts(w, rows, team.size()), [&](int part) { product_part(w, x, rows, part, team.size(), emit); });
}

#ifdef KERNELS_TILES
// Hands the sums of some rows by a panel of the first half of the columns and by its like in the second on to `put` together.
template <class Put> struct Halves {
    static constexpr int kTogether = 4;  // rows
    const Put& put;
    int half;  // columns
    int row = 0, column = 0, count = 0;
    Several<kTogether> first, second;

    void operator()(int at, int from, floats sum) {
        if (from < half) {
            first.of[count] = sum, row = at, column = from;
        } else {
            second.of[count++] = sum;
            if (count == kTogether) hand();
        }
    }
    auto at(int row, int column) const { return put.at(row, column < half ? column : column - half); }
    void hand() {
        if (count) put(row + 1 - count, column, count, first, second);
        count = 0;
    }
};

// Multiplies rows [from, to) by panels [first, last) of the first half of the columns, each beside its like in the second:
// put(row, column, count, sums, others) has the sums of some rows by both.
template <class Put>
void multiply_halves(const Linear& w, Operand x, int from, int to, int first, int last, const Put& put) {
    int half = w.count() / 2;
    Tiles tiles(kTile);
    for (int panel = first; panel < last; panel++) {
        Abreast panels{panel, half, 1};
        Halves<Put> emit{put, half * kLanes};
        if (w.format == kBFloat16) tile_rows<kBFloat16, true, 2>(w, x, from, to, panels, emit);
        else tile_rows<kInt8, true, 2>(w, x, from, to, panels, emit);
        emit.hand();
    }
}

// Cuts many rows and the panels of half the columns, `width` at a time, into parts: part(rows from, to, panels first, last).
template <class Part> void share_halves(Team& team, const Linear& w, int rows, int width, const Part& part) {
    int half = w.count() / 2;
    Towers towers(w, rows, (half + width - 1) / width, team.size());
    team.each(towers.parts(), [&](int i) {
        auto [at, from, to] = towers[i];
        part(from, to, at * width, std::min(half, (at + 1) * width));
    });
}
#else
template <class Put> void multiply_halves(const Linear&, Operand, int, int, int, int, const Put&) {}
template <class Part> void share_halves(Team&, const Linear&, int, int, const Part&) {}
#endif

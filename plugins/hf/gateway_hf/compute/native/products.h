// Products of rows and a weight, by tiles where there are such and rows are many, else by vectors; several threads share them.
#pragma once

#include "team.h"
#include "tiles.h"

// Few rows are read faster by vectors.
inline bool by_tiles(const Linear& w, int rows) { return tiled(w) && rows > (w.format == kBFloat16 ? kFew : kShort); }

// A product in parts, for several threads; the rows of `x` have room up to a multiple of 2 `kTile`.
inline int product_parts(const Linear& w, int rows, int threads) {
    return by_tiles(w, rows) ? tile_parts(w, rows, threads) : vector_parts(w, rows);
}
template <class Emit> void product_part(const Linear& w, Operand x, int rows, int part, int threads, const Emit& emit) {
    if (by_tiles(w, rows)) tile_part(w, x, rows, part, threads, emit);
    else vector_part(w, x, rows, part, threads, emit);
}

// Multiplies `rows` rows.
template <class Emit> void apply(Team& team, const Linear& w, Operand x, int rows, const Emit& emit) {
    team.each(product_parts(w, rows, team.size()), [&](int part) { product_part(w, x, rows, part, team.size(), emit); });
}

#ifdef KERNELS_TILES
// Hands the sums of a row by a panel of the first half of the columns and by its like in the second on to `put` together.
template <class Put> struct Halves {
    const Put& put;
    int half;  // columns
    floats first;

    void operator()(int row, int column, floats sum) {
        if (column < half) first = sum;
        else put(row, column - half, first, sum);
    }
    auto at(int row, int column) const { return put.at(row, column < half ? column : column - half); }
};

// Multiplies many rows, each panel of the first half of the columns beside its like in the second: put(row, column, sums,
// others) has the sums of a row by both.
template <class Put> void apply_halves(Team& team, const Linear& w, Operand x, int rows, const Put& put) {
    int half = w.count() / 2;
    Towers towers(w, rows, half, team.size());
    team.each(towers.parts(), [&](int part) {
        Tiles tiles(kTile);
        auto [panel, from, to, step] = towers[part];
        Abreast panels{panel, half, step};
        Halves<Put> emit{put, half * kLanes, {}};
        if (w.format == kBFloat16) tile_rows<kBFloat16, true, 2>(w, x, from, to, panels, emit);
        else tile_rows<kInt8, true, 2>(w, x, from, to, panels, emit);
    });
}
#else
template <class Put> void apply_halves(Team&, const Linear&, Operand, int, const Put&) {}
#endif

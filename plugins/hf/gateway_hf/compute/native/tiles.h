// Products in tile registers (AMX), where the processor and the system have them: sixteen rows times sixteen columns.
//
// Sixteen steps of a panel are a tile as they lie, and so are sixteen words of sixteen rows. A sum runs over the tiles of
// its row and its panel in order, whatever rows are beside it. Rows beyond the last are computed, and left alone.
#pragma once

#include "linear.h"

#ifdef KERNELS_TILES
// Shapes the tiles while it lives: 0 to 3 are sums, then come tiles of rows and of panels. Tiles of `few` rows, up to
// sixteen, cost less; then 0 to 3 are the sums of four panels, 4 is of rows, and 5 to 7 are of panels.
class Tiles {
public:
    explicit Tiles(int few) {
        struct alignas(64) {
            uint8_t palette = 1, start = 0, unused[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } shape;
        for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = uint8_t(i < 5 ? few : kTile);
        asm volatile("" : : "r"(&shape) : "memory");  // GCC 12 believes that the first eight bytes of it are read
        _tile_loadconfig(&shape);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
};

struct Sums {
    alignas(64) float of[4][kTile][kTile];
    const ints& whole(int tile, int row) const { return *(const ints*)of[tile][row]; }
    const floats& real(int tile, int row) const { return *(const floats*)of[tile][row]; }
};

#define TILE_PRODUCT(sum, rows, panel)                        \
    if constexpr (F == kBFloat16) _tile_dpbf16ps(sum, rows, panel); \
    else _tile_dpbusd(sum, rows, panel)

// Sums of 32 rows times up to two panels, over `count` tiles; sums.of[2 t + c] is that of row tile t and panel c.
template <Format F, int C>
inline void multiply_many(const uint32_t* a, long stride, const words* const* b, int count, Sums& sums) {
    _tile_zero(0);
    _tile_zero(2);
    if constexpr (C > 1) _tile_zero(1);
    if constexpr (C > 1) _tile_zero(3);
    for (int k = 0; k < count * kTile; k += kTile) {
        _tile_loadd(6, b[0] + k, 64);
        _tile_loadd(4, a + k, stride * 4);
        TILE_PRODUCT(0, 4, 6);
        if constexpr (C > 1) _tile_loadd(7, b[1] + k, 64);
        if constexpr (C > 1) TILE_PRODUCT(1, 4, 7);
        _tile_loadd(5, a + kTile * stride + k, stride * 4);
        TILE_PRODUCT(2, 5, 6);
        if constexpr (C > 1) TILE_PRODUCT(3, 5, 7);
    }
    _tile_stored(0, sums.of[0], 64);
    _tile_stored(2, sums.of[2], 64);
    if constexpr (C > 1) _tile_stored(1, sums.of[1], 64);
    if constexpr (C > 1) _tile_stored(3, sums.of[3], 64);
}

// Sums of up to sixteen rows times up to four panels; all waits for memory, so what comes next is asked for.
template <Format F, int C>
inline void multiply_few(const uint32_t* a, long stride, const words* const* b, int count, Sums& sums) {
    constexpr int ahead = 4 * kTile;
    _tile_zero(0);
    if constexpr (C > 1) _tile_zero(1);
    if constexpr (C > 2) _tile_zero(2);
    if constexpr (C > 3) _tile_zero(3);
    for (int k = 0; k < count * kTile; k += kTile) {
        for (int c = 0; c < C; c++)
            for (int i = 0; i < kTile; i++) __builtin_prefetch(b[c] + k + ahead + i);
        _tile_loadd(4, a + k, stride * 4);
        _tile_loadd(5, b[0] + k, 64);
        TILE_PRODUCT(0, 4, 5);
        if constexpr (C > 1) _tile_loadd(6, b[1] + k, 64);
        if constexpr (C > 1) TILE_PRODUCT(1, 4, 6);
        if constexpr (C > 2) _tile_loadd(7, b[2] + k, 64);
        if constexpr (C > 2) TILE_PRODUCT(2, 4, 7);
        if constexpr (C > 3) _tile_loadd(5, b[3] + k, 64);
        if constexpr (C > 3) TILE_PRODUCT(3, 4, 5);
    }
    _tile_stored(0, sums.of[0], 64);
    if constexpr (C > 1) _tile_stored(1, sums.of[1], 64);
    if constexpr (C > 2) _tile_stored(2, sums.of[2], 64);
    if constexpr (C > 3) _tile_stored(3, sums.of[3], 64);
}
#undef TILE_PRODUCT

// Rows [row, row + rows) times panels [panel, panel + C); many rows are more than sixteen.
template <bool Many, int C, class Emit>
inline void tile_block(const Linear& w, Operand x, int row, int rows, int panel, const Emit& emit) {
    const words* b[C];
    for (int c = 0; c < C; c++) b[c] = (const words*)w.panels + long(panel + c) * w.steps();
    const uint32_t* a = x.words + row * x.stride;
    Sums sums;
    auto multiply = [&]<Format F>(const uint32_t* from, int count) {
        if constexpr (Many) multiply_many<F, C>(from, x.stride, b, count, sums);
        else multiply_few<F, C>(from, x.stride, b, count, sums);
    };
    auto tile = [](int r, int c) { return Many ? r / kTile * 2 + c : c; };
    auto give = [&](int r, int c, floats sum) {
        floats bias = w.bias ? *(const floats*)(w.bias + (panel + c) * kLanes) : floats{};
        emit(row + r, (panel + c) * kLanes, sum + bias);
    };
    if (w.format == kBFloat16) {
        multiply.template operator()<kBFloat16>(a, w.steps() / kTile);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < C; c++) give(r, c, sums.real(tile(r, c), r % kTile));
        return;
    }
    alignas(64) floats total[Many ? 2 * kTile : kTile][C];
    int groups = w.groups(), steps = w.group / 4;
    for (int g = 0; g < groups; g++) {
        multiply.template operator()<kInt8>(a + g * steps, steps / kTile);
        for (int c = 0; c < C; c++) {
            long at = ((panel + c) * long(groups) + g) * kLanes;
            ints shift = *(const ints*)(w.sums + at);
            floats scale = *(const floats*)(w.scales + at);
            for (int r = 0; r < rows; r++) {
                floats part = to_floats(sums.whole(tile(r, c), r % kTile) + shift);
                floats scaled = part * (scale * x.scales[(row + r) * groups + g]);
                total[r][c] = g ? total[r][c] + scaled : scaled;
            }
            b[c] += steps;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < C; c++) give(r, c, total[r][c]);
}

inline int tile_parts(const Linear& w, int rows) {
    return rows <= kTile ? (w.count() + 3) / 4 : (w.count() + 1) / 2 * ((rows + kTall - 1) / kTall);
}

// As `vector_part`, for what is `tiled`; with few rows a part is four panels, else two and at most `kTall` rows.
template <class Emit> void tile_part(const Linear& w, Operand x, int rows, int part, const Emit& emit) {
    if (rows <= kTile) {
        Tiles tiles(rows);
        int panel = part * 4, last = std::min(panel + 4, w.count());
        if (last - panel == 4) return tile_block<false, 4>(w, x, 0, rows, panel, emit);
        for (; panel < last; panel++) tile_block<false, 1>(w, x, 0, rows, panel, emit);
        return;
    }
    Tiles tiles(kTile);
    int down = (rows + kTall - 1) / kTall;
    int panel = part / down * 2, end = std::min(rows, (part % down + 1) * kTall);
    bool pair = panel + 1 < w.count();
    for (int row = part % down * kTall; row < end; row += 2 * kTile) {
        int height = std::min(2 * kTile, end - row);
        if (pair) tile_block<true, 2>(w, x, row, height, panel, emit);
        else tile_block<true, 1>(w, x, row, height, panel, emit);
    }
}
#else
inline int tile_parts(const Linear&, int) { return 0; }
template <class Emit> void tile_part(const Linear&, Operand, int, int, const Emit&) {}
#endif

// Few rows are read faster by vectors.
inline bool by_tiles(const Linear& w, int rows) { return tiled(w) && rows > (w.format == kInt8 ? kRows : kFew); }

// A product in parts, for several threads; the rows of `x` have room up to a multiple of 2 `kTile`.
inline int product_parts(const Linear& w, int rows) { return by_tiles(w, rows) ? tile_parts(w, rows) : vector_parts(w, rows); }
template <class Emit> void product_part(const Linear& w, Operand x, int rows, int part, int threads, const Emit& emit) {
    if (by_tiles(w, rows)) tile_part(w, x, rows, part, emit);
    else vector_part(w, x, rows, part, threads, emit);
}

// Multiplies `rows` rows.
template <class Emit> void apply(Team& team, const Linear& w, Operand x, int rows, const Emit& emit) {
    team.each(product_parts(w, rows), [&](int part) { product_part(w, x, rows, part, team.size(), emit); });
}

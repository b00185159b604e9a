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

// What products of tiles become: rows of vectors, one for each panel.
template <int C> struct Sums {
    alignas(64) float of[2 * kTile][C][kLanes];
    const ints& whole(int row, int c) const { return *(const ints*)of[row][c]; }
    const floats& real(int row, int c) const { return *(const floats*)of[row][c]; }
};

#define TILE_PRODUCT(sum, rows, panel)                        \
    if constexpr (F == kBFloat16) _tile_dpbf16ps(sum, rows, panel); \
    else _tile_dpbusd(sum, rows, panel)

// Sums of 32 rows times up to two panels, over `count` tiles; meanwhile(k) is done beside each. A tile that was multiplied is
// cleared at once, for a clear one needs no register of the processor: while its other hyperthread is in use there are hardly
// more than the eight that programs see, and each load would wait until a product has ended.
template <Format F, int C, class Meanwhile>
[[gnu::always_inline]] inline void multiply_many(const uint32_t* a, long stride, const words* const* b, int count, Sums<C>& sums,
                                                 const Meanwhile& meanwhile) {
    _tile_zero(0);
    _tile_zero(2);
    if constexpr (C > 1) _tile_zero(1);
    if constexpr (C > 1) _tile_zero(3);
    for (int k = 0; k < count; k++) {
        _tile_loadd(6, b[0] + k * kTile, 64);
        _tile_loadd(4, a + k * kTile, stride * 4);
        TILE_PRODUCT(0, 4, 6);
        if constexpr (C > 1) _tile_loadd(7, b[1] + k * kTile, 64);
        if constexpr (C > 1) TILE_PRODUCT(1, 4, 7);
        _tile_zero(4);
        _tile_loadd(5, a + kTile * stride + k * kTile, stride * 4);
        TILE_PRODUCT(2, 5, 6);
        _tile_zero(6);
        if constexpr (C > 1) TILE_PRODUCT(3, 5, 7);
        _tile_zero(5);
        if constexpr (C > 1) _tile_zero(7);
        meanwhile(k);
    }
    _tile_stored(0, sums.of[0][0], 64 * C);
    _tile_stored(2, sums.of[kTile][0], 64 * C);
    if constexpr (C > 1) _tile_stored(1, sums.of[0][1], 64 * C);
    if constexpr (C > 1) _tile_stored(3, sums.of[kTile][1], 64 * C);
}

// Sums of up to sixteen rows times up to four panels.
template <Format F, int C, class Meanwhile>
[[gnu::always_inline]] inline void multiply_few(const uint32_t* a, long stride, const words* const* b, int count, Sums<C>& sums,
                                                const Meanwhile& meanwhile) {
    _tile_zero(0);
    if constexpr (C > 1) _tile_zero(1);
    if constexpr (C > 2) _tile_zero(2);
    if constexpr (C > 3) _tile_zero(3);
    for (int k = 0; k < count; k++) {
        _tile_loadd(4, a + k * kTile, stride * 4);
        _tile_loadd(5, b[0] + k * kTile, 64);
        TILE_PRODUCT(0, 4, 5);
        _tile_zero(5);
        if constexpr (C > 1) _tile_loadd(6, b[1] + k * kTile, 64);
        if constexpr (C > 1) TILE_PRODUCT(1, 4, 6);
        if constexpr (C > 1) _tile_zero(6);
        if constexpr (C > 2) _tile_loadd(7, b[2] + k * kTile, 64);
        if constexpr (C > 2) TILE_PRODUCT(2, 4, 7);
        if constexpr (C > 2) _tile_zero(7);
        if constexpr (C > 3) _tile_loadd(5, b[3] + k * kTile, 64);
        if constexpr (C > 3) TILE_PRODUCT(3, 4, 5);
        if constexpr (C > 3) _tile_zero(5);
        _tile_zero(4);
        meanwhile(k);
    }
    _tile_stored(0, sums.of[0][0], 64 * C);
    if constexpr (C > 1) _tile_stored(1, sums.of[0][1], 64 * C);
    if constexpr (C > 2) _tile_stored(2, sums.of[0][2], 64 * C);
    if constexpr (C > 3) _tile_stored(3, sums.of[0][3], 64 * C);
}
#undef TILE_PRODUCT

// Panels that are multiplied together, each `apart` behind the one before; a thread goes on `step` panels further.
struct Abreast {
    int first, apart, step;
};

// C panels of a weight; of bytes, with what the sums of a group have to be set off with and scaled by.
template <Format F, int C> struct Columns {
    int at[C];  // the first column of each
    const words* from[C];
    floats bias[C], scale[C];
    ints shift[C];

    Columns(const Linear& w, Abreast panels) {
        words* room = w.opens() ? room_for(long(C) * w.steps()) : nullptr;
        for (int c = 0; c < C; c++) {
            int panel = panels.first + c * panels.apart;
            at[c] = panel * kLanes, from[c] = (const words*)w.panels + long(panel) * w.height();
            if (room) {
                open_panel(from[c], w.pairs(w.depth), room + long(c) * w.steps());
                from[c] = room + long(c) * w.steps();
            }
            bias[c] = w.bias ? *(const floats*)(w.bias + at[c]) : floats{};
        }
    }

    void turn_to(const Linear& w, int group) {
        for (int c = 0; F == kInt8 && c < C; c++) {
            long note = long(at[c]) * w.groups() + group * kLanes;
            shift[c] = *(const ints*)(w.sums + note), scale[c] = *(const floats*)(w.scales + note);
        }
    }
};

// The sums of a block of rows and a group of their elements, which are handed on while the next are summed.
template <Format F, bool Many, int C> struct Handing {
    static constexpr int tall = Many ? 2 * kTile : kTile;
    Columns<F, C>& columns;
    Operand x;
    int groups, row = 0, rows = 0, group = 0;
    alignas(64) floats total[tall][C];

    // Hands on rows [first, end) of the block. Sums of bytes begin with zero, as those of vectors do, so that both are alike
    // bit for bit.
    template <class Emit> void hand(const Linear& w, const Sums<C>& of, int first, int end, Emit&& emit) {
        auto give = [&](int r, int c, floats sum) { emit(row + r, columns.at[c], sum + columns.bias[c]); };
        if constexpr (F == kBFloat16) {
            for (int r = first; r < end; r++) each<C>([&]<int c> { give(r, c, of.real(r, c)); });
            return;
        }
        columns.turn_to(w, group);
        const float* own = x.scales + long(row) * groups + group;
        auto add = [&](const auto& before, const auto& put) {
            for (int r = first; r < end; r++)
                each<C>([&]<int c> {
                    floats sum = before(r, c);
                    sum += to_floats(of.whole(r, c) + columns.shift[c]) * (columns.scale[c] * own[long(r) * groups]);
                    put(r, c, sum);
                });
        };
        auto none = [](int, int) { return floats{}; };
        auto had = [&](int r, int c) { return total[r][c]; };
        auto keep = [&](int r, int c, floats sum) { total[r][c] = sum; };
        if (groups == 1) add(none, give);
        else if (group == 0) add(none, keep);
        else if (group + 1 < groups) add(had, keep);
        else add(had, give);
    }
};

constexpr int kSoon = 4;  // tiles

// Rows [from, to) times C panels; many rows are more than sixteen. The tile unit works by itself: meanwhile the sums before
// are handed on, and panels are asked for: where they pass once those that are `kSoon` tiles further on, in the next that the
// thread has behind the last of these, else a share of the next. So is, beside its last group, the place of each sum of a block.
template <Format F, bool Many, int C, class Emit>
inline void tile_rows(const Linear& w, Operand x, int from, int to, Abreast panels, Emit&& emit) {
    constexpr int tall = Handing<F, Many, C>::tall;
    Columns<F, C> columns(w, panels);
    int groups = F == kBFloat16 ? 1 : w.groups(), all = w.steps() / kTile, tiles = all / groups;
    int blocks = (to - from + tall - 1) / tall, lines = (kTile * w.height() / w.steps() + blocks - 1) / blocks;
    const words* next[C];
    for (int c = 0; c < C; c++) next[c] = (const words*)w.panels + long(columns.at[c] / kLanes + panels.step) * w.height();
    bool once = blocks == 1 && !w.opens();
    Sums<C> sums[2];
    Handing<F, Many, C> last{columns, x, groups};
    int turn = 0;
    for (int row = from; row < to; row += tall)
        for (int g = 0; g < groups; g++, turn ^= 1) {
            const words* at[C];
            for (int c = 0; c < C; c++) at[c] = columns.from[c] + g * tiles * kTile;
            int height = g + 1 < groups ? 0 : std::min(tall, to - row);  // rows whose sums are handed on next
            int share = (last.rows + tiles - 1) / tiles, places = (height + tiles - 1) / tiles;
            auto meanwhile = [&](int k) {
                int soon = g * tiles + k + kSoon;
                for (int c = 0; c < C; c++) {
                    const words* ahead = soon < all ? columns.from[c] + soon * kTile : next[c] + (soon - all) * kTile;
                    if (once) fetch(ahead, sizeof(words) * kTile);
                    else for (int i = 0; i < lines; i++) __builtin_prefetch(next[c]++, 0, 2);
                }
                if constexpr (requires { emit.at(0, 0); })
                    for (int r = k * places; r < std::min((k + 1) * places, height); r++)
                        for (int c = 0; c < C; c++) __builtin_prefetch(emit.at(row + r, columns.at[c]), 1);
                last.hand(w, sums[turn ^ 1], k * share, std::min((k + 1) * share, last.rows), emit);
            };
            const uint32_t* a = x.words + row * x.stride + g * tiles * kTile;
            if constexpr (Many) multiply_many<F, C>(a, x.stride, at, tiles, sums[turn], meanwhile);
            else multiply_few<F, C>(a, x.stride, at, tiles, sums[turn], meanwhile);
            last.row = row, last.rows = std::min(tall, to - row), last.group = g;
        }
    last.hand(w, sums[turn ^ 1], 0, last.rows, emit);
}

constexpr long kSecond = 5L << 18;  // bytes of rows that stay in the second cache while panels pass
constexpr int kTower = 256;         // and rows
constexpr int kEnough = 2;          // parts for a thread, at least
constexpr int kOwn = 128;           // rows that a thread has panels pass by on its own, though they are read once for each then

// The rows of a product in parts of so many that they stay in the second cache, for all panels by turns.
struct Towers {
    int rows, high, across, count;

    Towers(const Linear& w, int rows, int across, int threads) : rows(rows), across(across) {
        int block = 2 * kTile, most = std::clamp<long>(kSecond / (4L * w.steps()) / block * block, block, kTower);
        int least = (rows + most - 1) / most;
        if (rows >= threads * kOwn) least = (least + threads - 1) / threads * threads;
        least = std::max(least, std::min(rows / block, (kEnough * threads + across - 1) / across));
        high = ((rows + least - 1) / least + block - 1) / block * block;
        count = (rows + high - 1) / high;
    }
    int parts() const { return across * count; }

    struct Part {
        int panel, from, to;
    };
    Part operator[](int part) const {
        int from = part / across * high;
        return {part % across, from, std::min(rows, from + high)};
    }
};

inline int tile_parts(const Linear& w, int rows, int threads) {
    return rows <= kTile ? (w.count() + 3) / 4 : Towers(w, rows, (w.count() + 1) / 2, threads).parts();
}

// As `vector_part`, for what is `tiled`; with few rows a part is four panels, else two and at most `kTower` rows.
template <Format F, class Emit>
void tile_part(const Linear& w, Operand x, int rows, int part, int threads, const Emit& emit) {
    if (rows <= kTile) {
        Tiles tiles(rows);
        int panel = part * 4, last = std::min(panel + 4, w.count());
        if (last - panel == 4) return tile_rows<F, false, 4>(w, x, 0, rows, {panel, 1, 4}, emit);
        for (; panel < last; panel++) tile_rows<F, false, 1>(w, x, 0, rows, {panel, 1, 1}, emit);
        return;
    }
    Tiles tiles(kTile);
    auto [pair, from, to] = Towers(w, rows, (w.count() + 1) / 2, threads)[part];
    int panel = 2 * pair;
    if (panel + 1 < w.count()) tile_rows<F, true, 2>(w, x, from, to, {panel, 1, 2}, emit);
    else tile_rows<F, true, 1>(w, x, from, to, {panel, 1, 0}, emit);
}
template <class Emit> void tile_part(const Linear& w, Operand x, int rows, int part, int threads, const Emit& emit) {
    if (w.format == kBFloat16) tile_part<kBFloat16>(w, x, rows, part, threads, emit);
    else tile_part<kInt8>(w, x, rows, part, threads, emit);
}
#else
inline int tile_parts(const Linear&, int, int) { return 0; }
template <class Emit> void tile_part(const Linear&, Operand, int, int, int, const Emit&) {}
#endif

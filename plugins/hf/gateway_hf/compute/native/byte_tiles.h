// Attention in tile registers (AMX): sixteen rows of queries, or fewer, and a span of keys and values in bytes. All sums are
// whole numbers, so they are those of vectors.
#pragma once

#include "rounded.h"
#include "span_tiles.h"

#ifdef KERNELS_TILES
// What a thread has its tiles shaped for, as long as it lives: 0 to 3 are sums, 4 is of queries or of the upper halves of
// weights, 5 of keys or of values, and 6 of the lower halves. What was multiplied is cleared, as in `multiply_many`.
class ByteTiles {
public:
    ~ByteTiles() {
        if (rows_) _tile_release();
    }

    // A few rows are multiplied by vectors.
    static bool takes(int padded, int rows) { return tiles_allowed() && padded % kDeep == 0 && rows > kShort; }

    // As `SpanTiles::keys`.
    void keys(const uint32_t* queries, int rows, int padded, const int8_t* const* blocks, float* scores) {
        int stride = Rounded::words_asked(padded);
        shape(rows);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int d = 0; d < padded; d += kDeep) {
            _tile_loadd(4, queries + d / 4, stride * 4);
            _tile_loadd(5, blocks[0] + d * kBlock, 64);
            _tile_dpbsud(0, 4, 5);
            _tile_zero(5);
            _tile_loadd(5, blocks[1] + d * kBlock, 64);
            _tile_dpbsud(1, 4, 5);
            _tile_zero(5);
            _tile_loadd(5, blocks[2] + d * kBlock, 64);
            _tile_dpbsud(2, 4, 5);
            _tile_zero(5);
            _tile_loadd(5, blocks[3] + d * kBlock, 64);
            _tile_dpbsud(3, 4, 5);
            _tile_zero(5);
            _tile_zero(4);
        }
        _tile_stored(0, scores, kWidth);
        _tile_stored(1, scores + kBlock, kWidth);
        _tile_stored(2, scores + 2 * kBlock, kWidth);
        _tile_stored(3, scores + 3 * kBlock, kWidth);
        for (int r = 0; r < rows; r++)
            each<kSpan>([&]<int b> {
                float* score = scores + (r * kSpan + b) * kBlock;
                *(floats*)score = Rounded::scored(*(const ints*)score, queries + long(r) * stride, padded);
            });
    }

    // As `SpanTiles::values`.
    void values(const ByteWeights* weights, int rows, int padded, const int8_t* const* blocks, int, float* sums) {
        join(blocks, padded);
        shape(rows);
        alignas(64) ints high[kTile], low[kTile];
        _tile_loadd(4, weights->high, sizeof(ByteWeights));
        _tile_loadd(6, weights->low, sizeof(ByteWeights));
        for (int d = 0; d < padded; d += kLanes) {
            _tile_zero(0);
            _tile_zero(1);
            _tile_loadd(5, joined_ + d * kSpan * kBlock, 64);
            _tile_dpbusd(0, 4, 5);
            _tile_dpbusd(1, 6, 5);
            _tile_zero(5);
            _tile_stored(0, high, 64);
            _tile_stored(1, low, 64);
            for (int r = 0; r < rows; r++)
                *(floats*)(sums + r * padded + d) += to_floats((high[r] << 8) + low[r]) * all(weights[r].step);
        }
        _tile_zero(4);
        _tile_zero(6);
    }

private:
    static constexpr int kDeep = 64, kWidth = kSpan * kBlock * sizeof(float), kStretch = kBlock * kLanes;
    int rows_ = 0;
    const int8_t* whose_ = nullptr;
    alignas(64) int8_t joined_[kSpan * kBlock * kMaxHead];

    void shape(int rows) {
        asm volatile("" : : : "memory");  // what is loaded into tiles has to be written before; GCC 12 does not know of loads
        if (rows == rows_) return;
        struct alignas(64) {
            uint8_t palette = 1, start = 0, unused[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {};
        } shape;
        for (int i = 0; i < 8; i++) shape.rows[i] = uint8_t(i == 5 ? kTile : rows);
        asm volatile("" : : "r"(&shape) : "memory");
        _tile_loadconfig(&shape);
        rows_ = rows;
    }

    // Lays the values of a span one behind the other, panel by panel, as all rows of a sheaf meet them.
    void join(const int8_t* const* blocks, int padded) {
        if (whose_ == blocks[0]) return;
        whose_ = blocks[0];
        for (int d = 0; d < padded; d += kLanes)
            for (int b = 0; b < kSpan; b++) memcpy(joined_ + (d * kSpan + b * kLanes) * kBlock, blocks[b] + d * kBlock, kStretch);
    }
};
#endif

// Where there are none, or a processor's are of no use.
struct NoTiles {
    static bool takes(int, int) { return false; }
    template <class... Any> void keys(const Any&...) {}
    template <class... Any> void values(const Any&...) {}
};
template <class S> struct TilesFor {
    using Tiles = NoTiles;
};
#ifdef KERNELS_TILES
template <> struct TilesFor<Whole<BFloat16>> {
    using Tiles = SpanTiles;
};
template <> struct TilesFor<Rounded> {
    using Tiles = ByteTiles;
};
#endif
template <class S> using TilesOf = typename TilesFor<S>::Tiles;

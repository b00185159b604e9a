// Attention in tile registers (AMX): sixteen rows of queries, or fewer, and a span of keys and values in bfloat16.
//
// A row's numbers are the same with any others beside it: a few rows are multiplied by vectors in the order of tiles.
#pragma once

#include "kept.h"

#ifdef KERNELS_TILES
constexpr int kFewQueries = 4;  // rows that vectors multiply faster

// The same as `multiply_as_tiles` for rows of float32, with tiles of D steps.
template <int R, int C, int D>
[[gnu::flatten]] inline void multiply_in_order(const float* a, long stride, const words* const* b, int steps, floats (&sums)[R][C]) {
    for (int t = 0; t < steps; t += D) {
        floats even[R][C], odd[R][C];
        each<R * C>([&]<int i> { even[i / C][i % C] = floats{}, odd[i / C][i % C] = floats{}; });
        for (int k = t; k < t + D; k++) {
            floats low[C], high[C];
            each<C>([&]<int c> { low[c] = as_floats(b[c][k] << 16), high[c] = as_floats(b[c][k] & 0xffff0000u); });
            each<R>([&]<int r> {
                const uint32_t* x = (const uint32_t*)(a + r * stride + 2 * k);
                floats first = as_floats(spread(x)), second = as_floats(spread(x + 1));
                each<C>([&]<int c> { even[r][c] += first * low[c], odd[r][c] += second * high[c]; });
            });
        }
        each<R * C>([&]<int i> { sums[i / C][i % C] += even[i / C][i % C] + odd[i / C][i % C]; });
    }
}

// What a thread has its tiles shaped for, as long as it lives: 0 to 3 are sums, 4 is of queries and 5 of keys, 6 of weights
// and 7 of values, which are half as deep: a block has no more tokens. What was multiplied is cleared, as in `multiply_many`.
class SpanTiles {
public:
    ~SpanTiles() {
        if (rows_) _tile_release();
    }

    static bool takes(int padded, int) { return tiles_allowed() && padded % (2 * kTile) == 0; }

    // Writes products of queries [rows][padded] and the keys of all blocks: [rows][kSpan][kBlock].
    void keys(const uint32_t* queries, int rows, int padded, const uint16_t* const* keys, float* scores) {
        const words* blocks[kSpan];
        each<kSpan>([&]<int b> { blocks[b] = (const words*)keys[b]; });
        int steps = padded / 2;
        if (rows <= kFewQueries) return few_keys(queries, rows, steps, blocks, scores);
        shape(rows);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int k = 0; k < steps; k += kTile) {
            _tile_loadd(4, queries + k, steps * 4);
            _tile_loadd(5, blocks[0] + k, 64);
            _tile_dpbf16ps(0, 4, 5);
            _tile_zero(5);
            _tile_loadd(5, blocks[1] + k, 64);
            _tile_dpbf16ps(1, 4, 5);
            _tile_zero(5);
            _tile_loadd(5, blocks[2] + k, 64);
            _tile_dpbf16ps(2, 4, 5);
            _tile_zero(5);
            _tile_loadd(5, blocks[3] + k, 64);
            _tile_dpbf16ps(3, 4, 5);
            _tile_zero(5);
            _tile_zero(4);
        }
        _tile_stored(0, scores, kWidth);
        _tile_stored(1, scores + kBlock, kWidth);
        _tile_stored(2, scores + 2 * kBlock, kWidth);
        _tile_stored(3, scores + 3 * kBlock, kWidth);
    }

    // Adds weights [rows][kSpan][kBlock] times the values of `count` blocks to sums [rows][padded].
    void values(const NumberWeights<BFloat16>* of, int rows, int padded, const uint16_t* const* values, int count, float* sums) {
        auto weights = (const uint32_t*)of;
        const words* blocks[kSpan];
        each<kSpan>([&]<int b> { blocks[b] = (const words*)values[b]; });
        if (rows <= kFewQueries) return few_values(weights, rows, padded, blocks, count, sums);
        shape(rows);
        for (int d = 0; d < padded; d += 2 * kLanes) {
            _tile_loadd(0, sums + d, padded * 4);
            _tile_loadd(1, sums + d + kLanes, padded * 4);
            for (int b = 0; b < count; b++) {
                _tile_loadd(6, weights + b * kHalf, kWidth / 2);
                _tile_loadd(7, blocks[b] + d / kLanes * kHalf, 64);
                _tile_dpbf16ps(0, 6, 7);
                _tile_zero(7);
                _tile_loadd(7, blocks[b] + (d / kLanes + 1) * kHalf, 64);
                _tile_dpbf16ps(1, 6, 7);
                _tile_zero(7);
                _tile_zero(6);
            }
            _tile_stored(0, sums + d, padded * 4);
            _tile_stored(1, sums + d + kLanes, padded * 4);
        }
    }

private:
    static constexpr int kWidth = kSpan * kBlock * sizeof(float), kHalf = kBlock / 2;
    int rows_ = 0;

    void shape(int rows) {
        asm volatile("" : : : "memory");  // what is loaded into tiles has to be written before; GCC 12 does not know of loads
        if (rows == rows_) return;
        struct alignas(64) {
            uint8_t palette = 1, start = 0, unused[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 4 * kHalf, 64};
            uint8_t rows[16] = {};
        } shape;
        for (int i = 0; i < 8; i++) shape.rows[i] = uint8_t(i == 5 ? kTile : i == 7 ? kHalf : rows);
        asm volatile("" : : "r"(&shape) : "memory");
        _tile_loadconfig(&shape);
        rows_ = rows;
    }

    static void few_keys(const uint32_t* queries, int rows, int steps, const words* const* blocks, float* scores) {
        alignas(64) float wide[kFewQueries * kMaxHead];
        read_row<BFloat16>((const uint16_t*)queries, rows * 2 * steps, wide);
        with_rows<kFewQueries>(rows, [&]<int R>() {
            for (int b = 0; b < kSpan; b += 2) {
                floats score[R][2] = {};
                multiply_in_order<R, 2, kTile>(wide, 2 * steps, blocks + b, steps, score);
                for (int r = 0; r < R; r++)
                    for (int c = 0; c < 2; c++) *(floats*)(scores + (r * kSpan + b + c) * kBlock) = score[r][c];
            }
        });
    }

    static void few_values(const uint32_t* weights, int rows, int padded, const words* const* blocks, int count, float* sums) {
        constexpr int across = kSpan * kBlock;
        alignas(64) float wide[kFewQueries * across];
        read_row<BFloat16>((const uint16_t*)weights, rows * across, wide);
        with_rows<kFewQueries>(rows, [&]<int R>() {
            for (int d = 0; d < padded; d += 2 * kLanes) {
                floats sum[R][2];
                for (int r = 0; r < R; r++)
                    for (int c = 0; c < 2; c++) sum[r][c] = *(floats*)(sums + r * padded + d + c * kLanes);
                for (int b = 0; b < count; b++) {
                    const words* panels[2] = {blocks[b] + d / kLanes * kHalf, blocks[b] + (d / kLanes + 1) * kHalf};
                    multiply_in_order<R, 2, kHalf>(wide + b * kBlock, across, panels, kHalf, sum);
                }
                for (int r = 0; r < R; r++)
                    for (int c = 0; c < 2; c++) *(floats*)(sums + r * padded + d + c * kLanes) = sum[r][c];
            }
        });
    }
};
#endif

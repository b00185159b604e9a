// Attention over keys and values in blocks of sixteen tokens.
//
// A block of one layer holds, for each of its heads of keys and values, D = head_dim rounded up to 16 elements a token:
//   keys    [step 0: 16 tokens' words] ... [step D / per_word - 1]            a panel whose columns are tokens
//   values  [panel 0: columns 0..15][panel 1: columns 16..31] ...             panels whose steps are tokens
// one behind the other, so both products of attention are the same multiplication that linear layers use.
#pragma once

#include "byte_tiles.h"
#include "span_tiles.h"

constexpr int kHigh = std::max(kRows, kTile);  // rows of a tile, at most
constexpr int kSheaf = 8;  // tiles of rows that meet a span of keys one after another, while it is in the nearest caches

// The sequences of one forward pass: rows [starts[s], starts[s + 1]) are tokens past[s], past[s] + 1, ...
struct Batch {
    int32_t sequences, rows;
    const int32_t* starts;
    const int32_t* past;
    const int32_t* tables;  // [sequences][width]: ids of blocks
    int32_t width, unused;
};

struct Heads {
    int32_t queries, keys, size, window;  // window 0: none
    float scale, cap;                     // cap 0: none
    void* cache;  // [blocks][keys][2][padded * 16], in 8 bits with the scales behind each [2][padded * 16]
    const float* sinks;  // [queries], or null: scores of a head beside those of the tokens, which add nothing

    int padded() const { return round_up(size, kLanes); }
    int group() const { return queries / keys; }
    long half() const { return long(padded()) * kBlock; }  // elements of the keys of a block and head
    template <class S> typename S::Kept* block(int id, int head) const {
        return (typename S::Kept*)cache + (long(id) * keys + head) * (2 * half() + S::kNotes);
    }
};

// A run of rows of one sequence that fall into one block, or a few rows of queries.
struct Piece {
    int sequence, row, rows;
};

inline void cut_runs(const Batch& batch, std::vector<Piece>& runs) {
    runs.clear();
    for (int s = 0; s < batch.sequences; s++)
        for (int row = batch.starts[s]; row < batch.starts[s + 1];) {
            int at = batch.past[s] + row - batch.starts[s];
            int rows = std::min(kBlock - at % kBlock, batch.starts[s + 1] - row);
            runs.push_back({s, row, rows});
            row += rows;
        }
}

// Cuts the queries of a batch, `group` for each row and head of keys, so that `enough` parts come of them if they can.
inline void cut_sheaves(const Batch& batch, const Heads& heads, int enough, std::vector<Piece>& sheaves) {
    sheaves.clear();
    long queries = long(batch.rows) * heads.queries / enough;
    int most = int(std::min<long>(std::max<long>(queries / kRows, 1), kSheaf)) * kRows;
    for (int s = 0; s < batch.sequences; s++) {
        int rows = (batch.starts[s + 1] - batch.starts[s]) * heads.group();
        for (int row = 0; row < rows; row += most) sheaves.push_back({s, row, std::min(most, rows - row)});
    }
}

// Puts one token's key and value (float32 [keys][size] each) into its block; the first token of a block clears its
// values, for what a former owner left there must not reach anyone, not even multiplied by zero.
template <class S>
inline void remember(const Heads& heads, int block, int at, const float* key, const float* value) {
    using K = typename S::Kept;
    constexpr int pw = S::kStep;
    int size = heads.size, padded = heads.padded(), steps = padded / pw;
    alignas(64) K row[kMaxHead];
    for (int h = 0; h < heads.keys; h++) {
        K *keys = heads.block<S>(block, h), *values = keys + heads.half(), *notes = values + heads.half();
        if (at == 0) memset(values, 0, sizeof(K) * (heads.half() + S::kNotes));
        S::write_key(key + h * size, size, padded, row, notes, at);
        for (int step = 0; step < steps; step++) memcpy(keys + (step * kBlock + at) * pw, row + step * pw, sizeof(K) * pw);
        S::write_value(value + h * size, size, padded, row, notes, at);
        for (int d = 0; d < padded; d += kLanes) set_values(values + (d + at / pw * pw) * kLanes, at % pw, row + d);
    }
}

// Rounds a query (float32 [size]) to words, scaled.
template <class S> inline void ask(const Heads& heads, float* query, uint32_t* to) {
    for (int d = 0; d < heads.size; d++) query[d] *= heads.scale;
    S::ask(query, heads.size, heads.padded(), to);
}

// Rows of queries of one head of keys, and what they have seen so far, by the online softmax of FlashAttention (Dao et al.
// 2022): the largest score, the sum of what scores became, and the values that were added up, `padded` numbers a row.
struct Tile {
    const uint32_t* queries;
    int rows, begin, end;  // blocks that any of them may see
    int position[kHigh];
    float most[kHigh], total[kHigh];
    float* sums;
};

using Scores = float[kSpan * kBlock];

// A span of keys and values, beginning with block `from` of its sequence.
template <class S> struct KeySpan {
    const typename S::Kept *blocks[kSpan], *values[kSpan];
    int from, count;
};

// Products of rows and the keys of a span.
template <class S>
inline void multiply_keys(const Heads& heads, const Tile& tile, const KeySpan<S>& span, TilesOf<S>& tiles, Scores* scores) {
    int padded = heads.padded();
    if (tiles.takes(padded, tile.rows)) return tiles.keys(tile.queries, tile.rows, padded, span.blocks, scores[0]);
    with_rows(tile.rows, [&]<int R>() {
        constexpr int C = R <= kShort ? kAbreast : (kWide + 1) / 2;
        for (int b = 0; b < span.count; b += C) {
            floats score[R][C];
            S::template score<R, C>(tile.queries, padded, span.blocks + b, score);
            for (int r = 0; r < R; r++)
                for (int c = 0; c < C; c++) *(floats*)(scores[r] + (b + c) * kBlock) = score[r][c];
        }
    });
}

// Whether all rows of a tile see all tokens of `count` blocks.
inline bool see_all(const Heads& heads, const Tile& tile, int block, int count) {
    int first = block * kBlock, end = first + count * kBlock, last = tile.position[tile.rows - 1];
    return end - 1 <= tile.position[0] && (!heads.window || first > last - heads.window);
}

// Puts `none` where a row does not see a token.
inline floats veil(const Heads& heads, int position, const floats& token, const floats& x, const floats& none) {
    floats seen = pick(token > float(position), none, x);
    return heads.window ? pick(token <= float(position - heads.window), none, seen) : seen;
}

// Makes scores of products: minus infinity where a row does not see a token.
template <class S> inline void score_span(const Heads& heads, const Tile& tile, const KeySpan<S>& span, Scores* scores) {
    for (int b = 0; b < span.count; b++) {
        bool seen = see_all(heads, tile, span.from + b, 1);
        if (seen && !S::kNotes && !(heads.cap > 0)) continue;
        floats token = count_up() + float((span.from + b) * kBlock);
        for (int r = 0; r < tile.rows; r++) {
            floats x = S::scaled(*(const floats*)(scores[r] + b * kBlock), span.blocks[b] + 2 * heads.half(), 0);
            if (heads.cap > 0) x = heads.cap * tangent(x / heads.cap);
            if (!seen) x = veil(heads, tile.position[r], token, x, all(-INFINITY));
            *(floats*)(scores[r] + b * kBlock) = x;
        }
    }
}

// The largest scores of a tile's rows within a span, and what becomes of their powers: lanes are rows.
struct Peaks {
    static_assert(kHigh == kLanes);
    floats base, shrink, power;  // what is taken off scores, what sums so far are worth then, and the largest power

    // `most` are the largest scores before, and become those now.
    Peaks(const float* span, float* most) {
        const floats least = all(-INFINITY), before = *(floats*)most, peak = *(const floats*)span, now = larger(peak, before);
        base = pick(now == least, floats{}, now);
        auto powers = exponential(Several<2>::map([&](int i) { return (i ? peak : before) - base; }));
        shrink = pick(before == least, floats{}, powers.of[0]);
        power = pick(peak == least, floats{}, powers.of[1]);
        *(floats*)most = now;
    }
    static float of(const floats& lanes, int row) { return ((const float*)&lanes)[row]; }
};

// Makes weights of scores, and shrinks what was added up before to the new largest score.
template <class S>
inline void weigh_span(const Heads& heads, Tile& tile, const KeySpan<S>& span, const Scores* scores, typename S::Weights* weights) {
    using Blocks = Several<kSpan>;
    const floats least = all(-INFINITY);
    int padded = heads.padded();
    auto scored = [&](int r) {
        return Blocks::map([&](int b) { return b < span.count ? *(const floats*)(scores[r] + b * kBlock) : all(-INFINITY); });
    };
    auto scales = Blocks::map([&](int b) { return S::scaled(all(1), span.values[b] + heads.half(), kBlock); });
    float tallest = S::most(scales), most[kHigh] = {};
    bool seen = see_all(heads, tile, span.from, kSpan);
    for (int r = 0; r < tile.rows; r++) most[r] = most_of(scored(r));
    Peaks peaks(most, tile.most);
    for (int r = 0; r < tile.rows; r++) {
        auto x = scored(r), power = exponential(x - Blocks(Peaks::of(peaks.base, r)));
        auto seen_of = [&](int b, floats y) { return pick(x.of[b] == least, floats{}, y); };
        auto p = Blocks::map([&](int b) { return seen_of(b, pick(x.of[b] == x.of[b], power.of[b], x.of[b])); });
        float shrink = Peaks::of(peaks.shrink, r);
        tile.total[r] = tile.total[r] * shrink + sum_of(p.of[0] + p.of[1] + (p.of[2] + p.of[3]));
        auto own = [&](int b) { return veil(heads, tile.position[r], count_up() + float((span.from + b) * kBlock), scales.of[b], floats{}); };
        float bound = seen ? tallest : S::most(Blocks::map(own));
        auto weight = Blocks::map([&](int b) { return seen_of(b, p.of[b] * scales.of[b]); });
        S::weigh(weight, bound * Peaks::of(peaks.power, r), span.count, weights[r]);
        float* sums = tile.sums + r * padded;
        if (shrink != 1)
            for (int d = 0; d < padded; d += kLanes) *(floats*)(sums + d) *= shrink;
    }
}

// Adds weights times values to columns [16 panel, 16 (panel + C)) of the sums.
template <class S, int R, int C>
inline void gather(const Heads& heads, Tile& tile, const KeySpan<S>& span, int panel, const typename S::Weights* weights) {
    int padded = heads.padded();
    floats sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = *(floats*)(tile.sums + r * padded + (panel + c) * kLanes);
    const typename S::Kept* values[kSpan][C];
    for (int b = 0; b < span.count; b++)
        for (int c = 0; c < C; c++) values[b][c] = span.values[b] + (panel + c) * kBlock * kLanes;
    S::template gather<R, C>(weights, values, span.count, sum);
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) *(floats*)(tile.sums + r * padded + (panel + c) * kLanes) = sum[r][c];
}

// Has rows see a span.
template <class S> inline void meet(const Heads& heads, Tile& tile, const KeySpan<S>& span, TilesOf<S>& tiles) {
    alignas(64) Scores scores[kHigh];
    alignas(64) typename S::Weights weights[kHigh];
    multiply_keys<S>(heads, tile, span, tiles, scores);
    score_span<S>(heads, tile, span, scores);
    weigh_span<S>(heads, tile, span, scores, weights);
    if (tiles.takes(heads.padded(), tile.rows))
        return tiles.values(weights, tile.rows, heads.padded(), span.values, span.count, tile.sums);
    with_rows(tile.rows, [&]<int R>() {
        constexpr int C = R <= kShort ? kAbreast : (kWide + 1) / 2;
        int panel = 0, panels = heads.padded() / kLanes;
        for (; panel + C <= panels; panel += C) gather<S, R, C>(heads, tile, span, panel, weights);
        for (; panel < panels; panel++) gather<S, R, 1>(heads, tile, span, panel, weights);
    });
}

// Cuts the rows of a sheaf into tiles, as even as can be where they are `high` at most; returns how many.
inline int cut_tiles(const Heads& heads, const Batch& batch, const Piece& sheaf, int high, const uint32_t* queries, int stride,
                     float* sums, Tile* tiles) {
    int count = 0;
    for (int left = (sheaf.rows + high - 1) / high, row = 0; left; left--) {
        Tile& tile = tiles[count++];
        // All but the last are whole tiles of the processor's own, which need to be shaped but once then.
        tile.rows = high == kTile ? std::min(kTile, sheaf.rows - row) : (sheaf.rows - row + left - 1) / left;
        tile.queries = queries + long(row) * stride;
        tile.sums = sums + row * heads.padded();
        for (int r = 0; r < tile.rows; r++)
            tile.position[r] = batch.past[sheaf.sequence] + (sheaf.row + row + r) / heads.group();
        std::fill(tile.most, tile.most + kHigh, -INFINITY);
        std::fill(tile.total, tile.total + kHigh, 0.0f);
        tile.end = tile.position[tile.rows - 1] / kBlock + 1;
        // Spans begin at the same tokens whatever is computed together, so a row's answer never depends on its company.
        tile.begin = heads.window ? std::max(0, tile.position[0] - heads.window + 1) / (kSpan * kBlock) * kSpan : 0;
        row += tile.rows;
    }
    return count;
}

// Has the rows of a sheaf see all that they may; `queries` are its first row's, `out` is that of its sequence's first row.
template <class S>
inline void attend_sheaf(const Heads& heads, const Batch& batch, const Piece& sheaf, int head, const uint32_t* queries, float* out) {
    using K = typename S::Kept;
    int padded = heads.padded(), group = heads.group();
    const int32_t* table = batch.tables + long(sheaf.sequence) * batch.width;
    alignas(64) float sums[kSheaf * kRows * kMaxHead];
    memset(sums, 0, sizeof(float) * sheaf.rows * padded);
    Tile tiles[kSheaf];
    TilesOf<S> shaped;
    int high = shaped.takes(padded, kTile) ? kTile : kRows;
    int count = cut_tiles(heads, batch, sheaf, high, queries, S::words_asked(padded), sums, tiles);
    int end = tiles[count - 1].end;
    for (int from = tiles[0].begin; from < end; from += kSpan) {
        KeySpan<S> span{{}, {}, from, std::min(kSpan, end - from)};
        for (int b = 0; b < kSpan; b++) {
            span.blocks[b] = heads.block<S>(table[from + std::min(b, span.count - 1)], head);
            span.values[b] = span.blocks[b] + heads.half();
        }
        // Pieces of a block are too short for the processor to guess what comes next.
        for (int b = 0; b < span.count; b++) fetch(span.values[b], (heads.half() + S::kNotes) * sizeof(K));
        for (int b = from + kSpan; b < std::min(end, from + 2 * kSpan); b++)
            fetch(heads.block<S>(table[b], head), heads.half() * sizeof(K));
        for (int t = 0; t < count; t++) {
            Tile& tile = tiles[t];
            if (from < tile.begin || from >= tile.end) continue;
            span.count = std::min(kSpan, tile.end - from);
            meet<S>(heads, tile, span, shaped);
        }
    }
    for (int t = 0, row = sheaf.row; t < count; t++)
        for (int r = 0; r < tiles[t].rows; r++, row++) {
            float total = tiles[t].total[r];
            if (heads.sinks) total += std::exp(heads.sinks[head * group + row % group] - tiles[t].most[r]);
            float* to = out + (row / group * long(heads.queries) + head * group + row % group) * heads.size;
            for (int d = 0; d < heads.size; d++) to[d] = tiles[t].sums[r * padded + d] / total;
        }
}

// All of attention: queries lie as [keys][rows][group][words asked], the answer as float32 [rows][queries][size].
template <class S>
void attend(Team& team, const Heads& heads, const Batch& batch, const std::vector<Piece>& sheaves, const uint32_t* q, float* out) {
    int group = heads.group(), stride = S::words_asked(heads.padded()), parts = int(sheaves.size());
    team.each(parts * heads.keys, [&](int part) {
        const Piece& sheaf = sheaves[part / heads.keys];
        int head = part % heads.keys, start = batch.starts[sheaf.sequence];
        const uint32_t* queries = q + ((long(head) * batch.rows + start) * group + sheaf.row) * stride;
        attend_sheaf<S>(heads, batch, sheaf, head, queries, out + long(start) * heads.queries * heads.size);
    });
}

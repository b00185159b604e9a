// Attention over keys and values in blocks of sixteen tokens.
//
// A block of one layer holds, for each of its heads of keys and values, D = head_dim rounded up to 16 elements a token:
//   keys    [step 0: 16 tokens' words] ... [step D / per_word - 1]            a panel whose columns are tokens
//   values  [panel 0: columns 0..15][panel 1: columns 16..31] ...             panels whose steps are tokens
// one behind the other, so both products of attention are the same multiplication that linear layers use.
#pragma once

#include "kept.h"

constexpr int kSpan = 4;         // blocks that are scored at a time

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

inline void cut_tiles(const Batch& batch, int group, std::vector<Piece>& tiles) {
    tiles.clear();
    for (int s = 0; s < batch.sequences; s++) {
        int rows = (batch.starts[s + 1] - batch.starts[s]) * group;
        for (int row = 0; row < rows; row += kRows) tiles.push_back({s, row, std::min(kRows, rows - row)});
    }
}

// Puts one token's key and value (float32 [keys][size] each) into its block; the first token of a block clears its
// values, for what a former owner left there must not reach anyone, not even multiplied by zero.
template <class S>
inline void remember(const Heads& heads, int block, int at, const float* key, const float* value) {
    using K = typename S::Kept;
    constexpr int pw = S::Number::per_word;
    int size = heads.size, padded = heads.padded(), steps = padded / pw;
    alignas(64) K row[kMaxHead];
    for (int h = 0; h < heads.keys; h++) {
        K *keys = heads.block<S>(block, h), *values = keys + heads.half(), *notes = values + heads.half();
        if (at == 0) memset(values, 0, sizeof(K) * (heads.half() + S::kNotes));
        S::write(key + h * size, size, padded, row, notes, at);
        for (int step = 0; step < steps; step++) memcpy(keys + (step * kBlock + at) * pw, row + step * pw, sizeof(K) * pw);
        S::write(value + h * size, size, padded, row, notes, kBlock + at);
        for (int d = 0; d < padded; d += kLanes) set_values(values + (d + at / pw * pw) * kLanes, at % pw, row + d);
    }
}

// Rounds a query (float32 [size]) to words, scaled.
template <class T> inline void ask(const Heads& heads, float* query, typename T::Element* to) {
    for (int d = 0; d < heads.size; d++) query[d] *= heads.scale;
    write_row<T>(query, heads.size, heads.padded(), to);
}

// Adds weights times values to columns [16 panel, 16 (panel + C)) of the sums.
template <class S, int R, int C, class E>
inline void gather(const typename S::Kept* const* keys, long half, int blocks, int panel, const E* weights, float (*sums)[kMaxHead]) {
    constexpr int pw = S::Number::per_word, span = kSpan * kBlock;
    floats sum[R][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sum[r][c] = *(floats*)(sums[r] + (panel + c) * kLanes);
    for (int b = 0; b < blocks; b++) {
        const typename S::Kept* columns[C];
        for (int c = 0; c < C; c++) columns[c] = keys[b] + half + (panel + c) * kBlock * kLanes;
        S::template multiply<R, C>((const uint32_t*)weights + b * kBlock / pw, span / pw, columns, kBlock / pw, sum);
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) *(floats*)(sums[r] + (panel + c) * kLanes) = sum[r][c];
}

// R rows of queries of one head of keys against all that they may see, by the online softmax of FlashAttention
// (Dao et al. 2022). `q` is R rows of `padded` elements, `first` the row's index in the sequence's tokens times group.
template <class S, int R>
inline void attend_rows(const Heads& heads, const Batch& batch, int s, int head, int first, const uint32_t* q, float* out) {
    using T = typename S::Number;
    using E = typename T::Element;
    using K = typename S::Kept;
    constexpr int pw = T::per_word, span = kSpan * kBlock;
    int padded = heads.padded(), stride = padded / pw, group = heads.group();
    const int32_t* table = batch.tables + long(s) * batch.width;
    int position[R];
    for (int r = 0; r < R; r++) position[r] = batch.past[s] + (first + r) / group;
    int end = position[R - 1] / kBlock + 1;
    // Spans begin at the same tokens whatever is computed together, so a row's answer never depends on its company.
    int begin = heads.window ? std::max(0, position[0] - heads.window + 1) / (kSpan * kBlock) * kSpan : 0;
    float most[R], total[R];
    alignas(64) float scores[R][span];
    alignas(64) E weights[R][span];
    alignas(64) float sums[R][kMaxHead];
    for (int r = 0; r < R; r++) most[r] = -INFINITY, total[r] = 0;
    for (int r = 0; r < R; r++) memset(sums[r], 0, sizeof(float) * padded);
    for (int from = begin; from < end; from += kSpan) {
        int blocks = std::min(kSpan, end - from);
        const K* keys[kSpan];
        for (int b = 0; b < kSpan; b++) keys[b] = heads.block<S>(table[from + std::min(b, blocks - 1)], head);
        // Pieces of a block are too short for the processor to guess what comes next.
        for (int b = 0; b < blocks; b++) fetch(keys[b] + heads.half(), (heads.half() + S::kNotes) * sizeof(K));
        for (int b = from + kSpan; b < std::min(end, from + 2 * kSpan); b++)
            fetch(heads.block<S>(table[b], head), heads.half() * sizeof(K));
        constexpr int C = R <= kShort ? kNarrow : (kWide + 1) / 2;
        for (int b = 0; b < blocks; b += C) {
            floats score[R][C] = {};
            S::template multiply<R, C>(q, stride, keys + b, stride, score);
            for (int c = 0; c < C; c++) {
                floats token = count_up() + float((from + b + c) * kBlock);
                for (int r = 0; r < R; r++) {
                    floats x = S::scaled(score[r][c], keys[b + c] + 2 * heads.half(), 0);
                    if (heads.cap > 0) x = heads.cap * tangent(x / heads.cap);
                    x = pick(token > float(position[r]), all(-INFINITY), x);
                    if (heads.window) x = pick(token <= float(position[r] - heads.window), all(-INFINITY), x);
                    *(floats*)(scores[r] + (b + c) * kBlock) = x;
                }
            }
        }
        for (int r = 0; r < R; r++) {
            floats peak = all(-INFINITY);
            for (int b = 0; b < blocks; b++) peak = larger(*(floats*)(scores[r] + b * kBlock), peak);
            float now = std::max(most[r], most_of(peak));
            float base = now == -INFINITY ? 0 : now;
            floats added = {};
            for (int b = 0; b < blocks; b++) {
                floats x = *(floats*)(scores[r] + b * kBlock);
                floats p = pick(x == -INFINITY, floats{}, exponential(x - base));
                p = pick(x == x, p, x);
                added += p;
                store<T>(weights[r] + b * kBlock, S::scaled(p, keys[b] + 2 * heads.half(), kBlock));
            }
            float shrink = most[r] == -INFINITY ? 0 : std::exp(most[r] - base);
            total[r] = total[r] * shrink + sum_of(added);
            most[r] = now;
            if (shrink != 1)
                for (int d = 0; d < padded; d += kLanes) *(floats*)(sums[r] + d) *= shrink;
        }
        int panel = 0;
        for (; panel + C <= padded / kLanes; panel += C) gather<S, R, C>(keys, heads.half(), blocks, panel, weights[0], sums);
        for (; panel < padded / kLanes; panel++) gather<S, R, 1>(keys, heads.half(), blocks, panel, weights[0], sums);
    }
    for (int r = 0; r < R; r++) {
        if (heads.sinks) total[r] += std::exp(heads.sinks[head * group + (first + r) % group] - most[r]);
        float* to = out + ((first + r) / group * long(heads.queries) + head * group + (first + r) % group) * heads.size;
        for (int d = 0; d < heads.size; d++) to[d] = sums[r][d] / total[r];
    }
}

// All of attention: queries lie as [keys][rows][group][padded] elements, the answer as float32 [rows][queries][size].
template <class S>
void attend(Team& team, const Heads& heads, const Batch& batch, const std::vector<Piece>& tiles, const void* q, float* out) {
    int group = heads.group(), stride = heads.padded() / S::Number::per_word, parts = int(tiles.size());
    team.each(parts * heads.keys, [&](int part) {
        const Piece& tile = tiles[part % parts];
        int head = part / parts, start = batch.starts[tile.sequence];
        const uint32_t* rows = (const uint32_t*)q + ((long(head) * batch.rows + start) * group + tile.row) * stride;
        float* to = out + long(start) * heads.queries * heads.size;
        with_rows(tile.rows, [&]<int R>() { attend_rows<S, R>(heads, batch, tile.sequence, head, tile.row, rows, to); });
    });
}

// What Python calls: linear layers, norms, attention, and whole decoder layers.

#include <sys/mman.h>

#include "adapter.h"
#include "draws.h"
#include "norms.h"

// What the norms of queries and keys run over: each head with the same weights, or with its own; or all heads at once.
enum HeadNorm { kEachHead = 0, kOwnWeights = 1, kAllHeads = 2 };

// A decoder layer, put together of pieces that may be missing:
//   x += scale attended(out(attention(qkv(before(x)))))
//   x += scale after(down(activation(up(between(x)))))
// Where the two are parallel, both begin with the same x, and nothing is normed behind them. With experts, what is called
// down(activation(up())) is one that all rows share, if any, and the sum of those that a row chooses.
struct Experts;
struct Layer {
    Heads heads;
    Linear qkv, out, up, down;  // up: the gate's columns, then the others
    Norm before, attended, between, after, query, key;
    float scale;
    int32_t hidden, inner, rotary, activation, gated, parallel, head_norm, norm_last;
    const LowRank* adapters;  // [adapters][kParts], or null; none beside experts
    const Experts* experts;   // or null

    int wide() const { return gated ? 2 * inner : inner; }
};

// Which experts the rows of a step chose, each row's in the order of their scores; and the choices by expert: those of
// expert e are order[starts[e]] to order[starts[e + 1]], of whom choice c is row c / chosen's.
struct Choices {
    Room<int32_t> experts, order;
    Room<float> weights;
    std::vector<int32_t> starts;
    std::vector<Piece> parts;  // of a product: expert, part
};

// What one thread of callers needs: the team, and room for everything between two multiplications.
struct Kernels {
    Team team;
    Sheet sheet, next;
    Room<float> wide, attended, normed, branch, scores, slots;
    Choices choices;
    Room<uint32_t> queries;
    std::vector<Piece> runs, sheaves, changed;
    int group = 0, queries_cut = 0;  // that the sheaves were cut for
    explicit Kernels(int threads) : team(threads) {}

    const std::vector<Piece>& sheaves_of(const Batch& batch, const Heads& heads) {
        constexpr int each = 4;  // parts that a thread should have
        if (group != heads.group() || queries_cut != heads.queries)
            cut_sheaves(batch, heads, each * team.size(), sheaves), group = heads.group(), queries_cut = heads.queries;
        return sheaves;
    }
};

// Turns the pairs (d, d + rotary / 2) of one head.
inline void turn(float* x, const float* cos, const float* sin, int rotary) {
    int half = rotary / 2, d = 0;
    for (; d + kLanes <= half; d += kLanes) {
        floats a = *(floats*)(x + d), b = *(floats*)(x + d + half);
        *(floats*)(x + d) = a * *(const floats*)(cos + d) - b * *(const floats*)(sin + d);
        *(floats*)(x + d + half) = b * *(const floats*)(cos + d + half) + a * *(const floats*)(sin + d + half);
    }
    for (; d < half; d++) {
        float a = x[d], b = x[d + half];
        x[d] = a * cos[d] - b * sin[d];
        x[d + half] = b * cos[d + half] + a * sin[d + half];
    }
}

inline void norm_heads(const Norm& norm, int over, float* x, int heads, int size) {
    if (!norm.kind) return;
    if (over == kAllHeads) return apply_norm(norm, 0, x, heads * size, x);
    for (int h = 0; h < heads; h++) apply_norm(norm, over == kOwnWeights ? h * size : 0, x + h * size, size, x + h * size);
}

// From qkv [rows][(queries + 2 keys) size] to the cache and to words of queries.
template <class S>
void place(Kernels& kernels, const Layer& layer, const Batch& batch, float* qkv, const float* cos, const float* sin) {
    const Heads& heads = layer.heads;
    int size = heads.size, asked = S::words_asked(heads.padded()), group = heads.group();
    long width = long(heads.queries + 2 * heads.keys) * size;
    uint32_t* queries = kernels.queries.of(size_t(batch.rows) * heads.queries * asked);
    kernels.team.each(int(kernels.runs.size()), [&](int part) {
        const Piece& run = kernels.runs[part];
        for (int row = run.row; row < run.row + run.rows; row++) {
            float* x = qkv + row * width;
            const float *c = cos + long(row) * layer.rotary, *s = sin + long(row) * layer.rotary;
            auto turn_all = [&] {
                for (int h = 0; h < heads.queries + heads.keys; h++) turn(x + h * size, c, s, layer.rotary);
            };
            if (layer.norm_last) turn_all();
            norm_heads(layer.query, layer.head_norm, x, heads.queries, size);
            norm_heads(layer.key, layer.head_norm, x + heads.queries * size, heads.keys, size);
            if (!layer.norm_last) turn_all();
            for (int h = 0; h < heads.queries; h++) {
                long to = (long(h / group) * batch.rows + row) * group + h % group;
                ask<S>(heads, x + h * size, queries + to * asked);
            }
            int token = batch.past[run.sequence] + row - batch.starts[run.sequence];
            int block = batch.tables[long(run.sequence) * batch.width + token / kBlock];
            const float* keys = x + heads.queries * size;
            remember<S>(heads, block, token % kBlock, keys, keys + heads.keys * size);
        }
    });
}

#include "states.h"

#include "experts.h"

// One decoder layer over all rows; hidden states are float32 [rows][hidden], read and overwritten, so that nothing is
// rounded between layers. S is how the cache keeps keys and values.
template <class S>
void run_layer(Kernels& kernels, const Layer& layer, const Batch& batch, float* state, const float* cos, const float* sin) {
    const Heads& heads = layer.heads;
    int rows = batch.rows, hidden = layer.hidden;
    int width = (heads.queries + 2 * heads.keys) * heads.size, attending = heads.queries * heads.size;
    bool adapts = layer.adapters && !kernels.changed.empty();
    auto adapt = [&](int first, int count, const float* x, long across, float* y, long columns) {
        if (adapts) change(kernels.team, kernels.changed, layer.adapters + first, kParts, count, x, across, y, columns);
    };
    // What is normed is wanted again where there are adapters.
    auto room = [&] { return adapts ? kernels.normed.of(size_t(rows) * hidden) : nullptr; };
    // Where sums go that are more than added to the states: a branch, which begins with nothing.
    auto aside = [&](const Norm& norm) {
        if (!norm.kind && layer.scale == 1 && !layer.parallel) return state;
        float* branch = kernels.branch.of(size_t(rows) * hidden);
        memset(branch, 0, sizeof(float) * size_t(rows) * hidden);
        return branch;
    };
    float* normed = room();
    write_normed(kernels, layer.qkv, state, rows, hidden, layer.before, normed);
    float* qkv = kernels.wide.of(size_t(rows) * width);
    apply(kernels.team, layer.qkv, kernels.sheet.at, rows, into(qkv, width));
    adapt(kQuery, 3, normed, hidden, qkv, width);
    place<S>(kernels, layer, batch, qkv, cos, sin);
    float* attended = kernels.attended.of(size_t(rows) * attending);
    attend<S>(kernels.team, heads, batch, kernels.sheaves_of(batch, heads), kernels.queries.kept.data(), attended);
    write_plain(kernels, layer.out, attended, rows);
    float* sum = aside(layer.attended);
    apply(kernels.team, layer.out, kernels.sheet.at, rows, onto(sum, hidden));
    adapt(kOut, 1, attended, attending, sum, hidden);
    if (sum != state && !layer.parallel) join(kernels, layer.attended, layer.scale, sum, state, rows, hidden);
    if (layer.experts) {
        if (!layer.parallel) sum = aside(layer.after);
        run_experts(kernels, layer, state, rows, sum);
        if (sum != state) join(kernels, layer.after, layer.scale, sum, state, rows, hidden);
        return;
    }
    normed = room();
    write_normed(kernels, layer.up, state, rows, hidden, layer.between, normed);
    Middle middle{layer.down, layer.inner, layer.activation, layer.gated};
    float* wide = nullptr;
    if (adapts) {
        wide = kernels.wide.of(size_t(rows) * layer.wide());
        apply(kernels.team, layer.up, kernels.sheet.at, rows, into(wide, layer.wide()));
        adapt(kGate, 2, normed, hidden, wide, layer.wide());
        write_gated(kernels, middle, wide, rows);
    } else {
        write_inner(kernels, layer.up, middle, rows);
    }
    if (!layer.parallel) sum = aside(layer.after);
    apply(kernels.team, layer.down, kernels.sheet.at, rows, onto(sum, hidden));
    adapt(kDown, 1, wide, layer.wide(), sum, hidden);
    if (sum != state) join(kernels, layer.after, layer.scale, sum, state, rows, hidden);
}

#include "encoder.h"

// Calls f for how the cache keeps keys and values.
template <class F> void with_cache(int format, const F& f) {
    if (format == kFloat32) f.template operator()<Whole<Float32>>();
    else if (format == kBFloat16) f.template operator()<Whole<BFloat16>>();
    else f.template operator()<Rounded>();
}

extern "C" {

Kernels* kernels_new(int threads) { return new Kernels(threads); }
void kernels_free(Kernels* kernels) { delete kernels; }

// Cuts the batch into parts; to be called before the layers of each forward pass.
void kernels_begin(Kernels* kernels, const Batch* batch) {
    cut_runs(*batch, kernels->runs);
    kernels->group = 0;
}

// Says which rows of the passes that follow are of which adapter.
void kernels_adapt(Kernels* kernels, const Span* spans, int count) { cut_spans(spans, count, kernels->changed); }

// Adds to y [rows][width] what the adapters of rows make of x [rows][across], for one linear layer: `lows` has one change
// for each adapter. All float32.
void kernels_change(Kernels* kernels, const LowRank* lows, const float* x, int across, float* y, int width) {
    change(kernels->team, kernels->changed, lows, 1, 1, x, across, y, width);
}

// Asks for large pages: weights and caches are read end to end, and a small page is 4 KiB.
void kernels_advise(void* memory, size_t size) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t page = 1 << 21;
    uintptr_t from = (uintptr_t(memory) + page - 1) & ~(page - 1), to = (uintptr_t(memory) + size) & ~(page - 1);
    if (from < to) madvise((void*)from, to - from, MADV_HUGEPAGE);
#endif
}

// Runs `count` decoder layers over the rows of a batch, float32 [rows][hidden], in place; `format` is the cache's.
// Layer i turns by turns[2 i] and turns[2 i + 1], cosines and sines; `begun` counts each as it begins.
void kernels_layers(Kernels* kernels, const Layer* const* layers, int count, const Batch* batch, int format, float* states,
                    const float* const* turns, int64_t* begun) {
    with_cache(format, [&]<class S>() {
        for (int i = 0; i < count; i++) {
            ++*begun;
            run_layer<S>(*kernels, *layers[i], *batch, states, turns[2 * i], turns[2 * i + 1]);
        }
    });
}

// Runs `count` layers of an encoder over texts one behind the other: text i is rows [starts[i], starts[i + 1]) of `states`,
// float32 [rows][hidden], which are overwritten.
void kernels_encode(Kernels* kernels, const EncoderLayer* layers, int count, const int32_t* starts, int texts,
                    float* states) {
    for (int i = 0; i < count; i++) run_encoder_layer(*kernels, layers[i], starts, texts, states);
}

// y [rows][columns] float32 = x [rows][depth] W^T; x is of the format given.
void kernels_linear(Kernels* kernels, const Linear* w, int format, const void* x, int rows, float* y) {
    int size = rows * w->depth, columns = w->columns;
    float* wide = kernels->wide.of(size);
    if (format == kFloat32) read_row<Float32>((const float*)x, size, wide);
    else read_row<BFloat16>((const uint16_t*)x, size, wide);
    write_plain(*kernels, *w, wide, rows);
    apply(kernels->team, *w, kernels->sheet.at, rows, into(y, columns));
}

// Draws a token of logits [rows][vocabulary] for each of `count` rows; -1 where they are no numbers.
void kernels_draw(Kernels* kernels, const float* logits, int vocabulary, const Draw* draws, int count, int32_t* tokens) {
    draw_rows(kernels->team, logits, vocabulary, draws, count, tokens);
}

// Attention with keys and values that are new: all float32, queries [rows][queries][size], keys and values
// [rows][keys][size]; the answer is [rows][queries][size]. `format` is the cache's.
void kernels_attend(Kernels* kernels, const Heads* heads, const Batch* batch, int format, const float* q, const float* k,
                    const float* v, float* out) {
    with_cache(format, [&]<class S>() {
        int size = heads->size, asked = S::words_asked(heads->padded()), group = heads->group();
        uint32_t* queries = kernels->queries.of(size_t(batch->rows) * heads->queries * asked);
        kernels->team.each(int(kernels->runs.size()), [&](int part) {
            const Piece& run = kernels->runs[part];
            for (int row = run.row; row < run.row + run.rows; row++) {
                for (int h = 0; h < heads->queries; h++) {
                    long to = (long(h / group) * batch->rows + row) * group + h % group;
                    alignas(64) float query[kMaxHead];
                    memcpy(query, q + (long(row) * heads->queries + h) * size, sizeof(float) * size);
                    ask<S>(*heads, query, queries + to * asked);
                }
                int token = batch->past[run.sequence] + row - batch->starts[run.sequence];
                int block = batch->tables[long(run.sequence) * batch->width + token / kBlock];
                long at = long(row) * heads->keys * size;
                remember<S>(*heads, block, token % kBlock, k + at, v + at);
            }
        });
        attend<S>(kernels->team, *heads, *batch, kernels->sheaves_of(*batch, *heads), queries, out);
    });
}
}

// A mixture of experts: each row chooses some of many feed-forward parts, and adds up what they make of it.
//
// Choices are sorted by expert, so that the weights of each are read once a step, by all rows that chose it; the products of
// all experts are one job. A row's experts are added in the order of its own scores, whatever rows are beside it.
#pragma once

enum Scoring { kSoftmax = 0, kSigmoid = 1 };

struct Experts {
    Linear router;          // float32: a score for each expert, and one more for the part that all rows share where it is `weighed`
    const float* favour;    // [count], added to scores for the choice alone, or null
    const Linear *ups, *downs;  // [count]
    float scale;            // what chosen scores are multiplied by
    float limit, plus;      // as in `Middle`
    int32_t count, chosen, scoring, normalised, inner, activation, weighed;
};

// From the router's products to experts and weights of one row; `x` is overwritten.
inline void choose(const Experts& experts, float* x, int32_t* chosen, float* weights) {
    int count = experts.count;
    if (experts.scoring == kSigmoid) {
        for (int e = 0; e < count; e++) x[e] = 1.0f / (1.0f + std::exp(-x[e]));
    } else {
        float most = *std::max_element(x, x + count), sum = 0;
        for (int e = 0; e < count; e++) sum += x[e] = std::exp(x[e] - most);
        for (int e = 0; e < count; e++) x[e] /= sum;
    }
    auto rank = [&](int e) { return experts.favour ? x[e] + experts.favour[e] : x[e]; };
    float total = 0;
    for (int j = 0; j < experts.chosen; j++) {
        int best = -1;
        for (int e = 0; e < count; e++) {
            if (std::find(chosen, chosen + j, e) != chosen + j) continue;
            if (best < 0 || rank(e) > rank(best)) best = e;
        }
        chosen[j] = best, weights[j] = x[best], total += x[best];
    }
    float scale = experts.normalised ? experts.scale / total : experts.scale;
    for (int j = 0; j < experts.chosen; j++) weights[j] *= scale;
}

inline void sort_choices(const Experts& experts, Choices& choices, int rows) {
    int total = rows * experts.chosen;
    const int32_t* of = choices.experts.kept.data();
    choices.starts.assign(experts.count + 1, 0);
    for (int c = 0; c < total; c++) choices.starts[of[c] + 1]++;
    for (int e = 0; e < experts.count; e++) choices.starts[e + 1] += choices.starts[e];
    std::vector<int32_t> next(choices.starts.begin(), choices.starts.end() - 1);
    int32_t* order = choices.order.of(total);
    for (int c = 0; c < total; c++) order[next[of[c]]++] = c;
}

// Multiplies the rows of each expert, which lie in the sheet, by its own weight; sums go to emit(place, column, sums).
template <class Emit>
void apply_each(Kernels& kernels, const Experts& experts, const Linear* weights, const Emit& emit) {
    Choices& choices = kernels.choices;
    choices.parts.clear();
    for (int e = 0; e < experts.count; e++)
        if (int rows = choices.starts[e + 1] - choices.starts[e]) {
            int parts = product_parts(weights[e], rows, kernels.team.size());
            for (int part = 0; part < parts; part++) choices.parts.push_back({e, part, 0});
        }
    kernels.team.each(int(choices.parts.size()), [&](int i) {
        auto [e, part, _] = choices.parts[i];
        const Linear& w = weights[e];
        int from = choices.starts[e], rows = choices.starts[e + 1] - from;
        Operand x = kernels.sheet.at;
        x.words += from * x.stride;
        if (x.scales) x.scales += long(from) * w.notes();
        product_part(w, x, rows, part, kernels.team.size(), [&](int row, int column, floats sums) { emit(from + row, column, sums); });
    });
}

// Adds to `sum` [rows][hidden] what experts make of the normed states.
void run_experts(Kernels& kernels, const Layer& layer, const float* state, int rows, float* sum) {
    constexpr int spare = 2 * kTile;  // rows that tiles may read behind the last
    const Experts& experts = *layer.experts;
    Choices& choices = kernels.choices;
    int hidden = layer.hidden, chosen = experts.chosen, total = rows * chosen, across = experts.router.columns;
    float* normed = kernels.normed.of(size_t(rows) * hidden);
    write_normed(kernels, experts.router, state, rows, hidden, layer.between, normed);
    float* scores = kernels.scores.of(size_t(rows) * across);
    apply(kernels.team, experts.router, kernels.sheet.at, rows, into(scores, across));
    int32_t* picked = choices.experts.of(total);
    float* weights = choices.weights.of(total);
    kernels.team.each((rows + 3) / 4, [&](int part) {
        for (int row = part * 4; row < std::min(rows, part * 4 + 4); row++)
            choose(experts, scores + long(row) * across, picked + row * chosen, weights + row * chosen);
    });
    sort_choices(experts, choices, rows);
    const int32_t* order = choices.order.kept.data();
    if (layer.up.panels) {
        write_plain(kernels, layer.up, normed, rows);
        write_inner(kernels, layer.up, {layer.down, layer.inner, layer.activation, layer.gated}, rows);
        auto add = onto(sum, hidden);
        apply(kernels.team, layer.down, kernels.sheet.at, rows, [&](int row, int column, floats sums) {
            if (experts.weighed) sums = sums * (1.0f / (1.0f + std::exp(-scores[long(row) * across + experts.count])));
            add(row, column, sums);
        });
    }
    kernels.sheet.fit(experts.ups[0], total + spare);
    kernels.team.each((total + 3) / 4, [&](int part) {
        for (int at = part * 4; at < std::min(total, part * 4 + 4); at++)
            write_words(experts.ups[0], kernels.sheet, at, normed + long(order[at] / chosen) * hidden, 0, hidden);
    });
    float* wide = kernels.wide.of(size_t(total) * 2 * experts.inner);
    apply_each(kernels, experts, experts.ups, into(wide, 2 * experts.inner));
    write_gated(kernels, {experts.downs[0], experts.inner, experts.activation, 1, experts.limit, experts.plus}, wide, total, spare);
    float* slots = kernels.slots.of(size_t(total) * hidden);
    auto fill = into(slots, hidden);
    apply_each(kernels, experts, experts.downs, [&](int at, int column, floats sums) { fill(order[at], column, sums); });
    kernels.team.each((rows + 3) / 4, [&](int part) {
        for (int row = part * 4; row < std::min(rows, part * 4 + 4); row++)
            for (int j = 0; j < chosen; j++) {
                const float *x = slots + (long(row) * chosen + j) * hidden, weight = weights[row * chosen + j];
                float* y = sum + long(row) * hidden;
                int k = 0;
                for (; k + kLanes <= hidden; k += kLanes) *(floats*)(y + k) += *(const floats*)(x + k) * weight;
                for (; k < hidden; k++) y[k] += x[k] * weight;
            }
    });
}

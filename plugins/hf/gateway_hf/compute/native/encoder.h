// A layer of an encoder of BERT's kind (Devlin et al. 2018): its norms stand behind the sums, and a token attends to all of
// its text. Included where the room of `Kernels` is known.
#pragma once

struct EncoderLayer {
    Linear qkv, out, up, down;
    const float *norm, *norm_bias, *second_norm, *second_bias;  // [hidden]
    float eps, scale;
    int32_t heads, size, activation, unused;
};

// One head's keys and values of a text, laid out as panels: of keys the columns are tokens, of values they are numbers.
struct HeadRoom {
    Room<float> keys, values, scores;
};

inline void lay_out(HeadRoom& room, const float* keys, const float* values, long width, int tokens, int size) {
    int across = round_up(tokens, kLanes), padded = round_up(size, kLanes);
    float* k = room.keys.of(size_t(across) * size);
    float* v = room.values.of(size_t(padded) * tokens);
    for (int t = 0; t < across; t++)
        for (int d = 0; d < size; d++)
            k[(t / kLanes * long(size) + d) * kLanes + t % kLanes] = t < tokens ? keys[t * width + d] : 0.0f;
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < padded; d++)
            v[(d / kLanes * long(tokens) + t) * kLanes + d % kLanes] = d < size ? values[t * width + d] : 0.0f;
}

// R rows of queries against the whole text; `out` has rows of `across` numbers.
template <int R>
inline void attend_text(HeadRoom& room, const float* q, long width, int tokens, int size, float scale, float* out, long across) {
    long padded = round_up(tokens, kLanes);
    float* scores = room.scores.of(size_t(kRows) * padded);
    for (int t = 0; t < tokens; t += kLanes) {
        const words* panel = (const words*)(room.keys.kept.data() + long(t) * size);
        floats sum[R][1] = {};
        multiply<Float32, R, 1>((const uint32_t*)q, width, &panel, size, sum);
        floats token = count_up() + float(t);
        each<R>([&]<int r> {
            *(floats*)(scores + r * padded + t) = pick(token < float(tokens), sum[r][0] * scale, all(-INFINITY));
        });
    }
    float inverse[R];
    for (int r = 0; r < R; r++) {
        float* row = scores + r * padded;
        floats peak = all(-INFINITY), total = {};
        for (int t = 0; t < tokens; t += kLanes) peak = larger(*(const floats*)(row + t), peak);
        float most = most_of(peak);
        for (int t = 0; t < tokens; t += kLanes) {
            floats x = *(const floats*)(row + t);
            x = pick(x == -INFINITY, floats{}, exponential(x - most));
            total += x;
            *(floats*)(row + t) = x;
        }
        inverse[r] = 1.0f / sum_of(total);
    }
    for (int d = 0; d < size; d += kLanes) {
        const words* panel = (const words*)(room.values.kept.data() + long(d) * tokens);
        floats sum[R][1] = {};
        multiply<Float32, R, 1>((const uint32_t*)scores, padded, &panel, tokens, sum);
        each<R>([&]<int r> { put(out + r * across + d, sum[r][0] * inverse[r], size - d); });
    }
}

inline void attend_texts(Team& team, const EncoderLayer& layer, const int32_t* starts, int texts, const float* qkv, float* out) {
    int size = layer.size;
    long across = long(layer.heads) * size, width = 3 * across;
    team.each(texts * layer.heads, [&](int part) {
        thread_local HeadRoom room;
        int text = part / layer.heads, head = part % layer.heads, tokens = starts[text + 1] - starts[text];
        const float* q = qkv + starts[text] * width + head * size;
        float* to = out + starts[text] * across + head * size;
        lay_out(room, q + across, q + 2 * across, width, tokens, size);
        for (int row = 0; row < tokens; row += kRows)
            with_rows(std::min(kRows, tokens - row), [&]<int R> {
                attend_text<R>(room, q + row * width, width, tokens, size, layer.scale, to + row * across, across);
            });
    });
}

// Adds `sheet` times `w` to the states, and norms them.
inline void add_and_norm(Kernels& kernels, const Linear& w, float* states, int rows, const float* weight, const float* bias, float eps) {
    apply(kernels.team, w, kernels.sheet.at, rows, onto(states, w.columns));
    kernels.team.each((rows + 3) / 4, [&](int part) {
        for (int row = part * 4; row < std::min(rows, part * 4 + 4); row++) {
            float* x = states + long(row) * w.columns;
            center_row(x, weight, bias, eps, w.columns, x);
        }
    });
}

inline void run_encoder_layer(Kernels& kernels, const EncoderLayer& layer, const int32_t* starts, int texts, float* states) {
    int rows = starts[texts], attending = layer.heads * layer.size, inner = layer.down.depth, kind = layer.activation;
    write_plain(kernels, layer.qkv, states, rows);
    float* qkv = kernels.wide.of(size_t(rows) * 3 * attending);
    apply(kernels.team, layer.qkv, kernels.sheet.at, rows, into(qkv, 3 * attending));
    float* attended = kernels.attended.of(size_t(rows) * attending);
    attend_texts(kernels.team, layer, starts, texts, qkv, attended);
    write_plain(kernels, layer.out, attended, rows);
    add_and_norm(kernels, layer.out, states, rows, layer.norm, layer.norm_bias, layer.eps);
    write_plain(kernels, layer.up, states, rows);
    float* wide = kernels.wide.of(size_t(rows) * inner);
    apply(kernels.team, layer.up, kernels.sheet.at, rows, [=](int row, int column, floats x) {
        put(wide + long(row) * inner + column, activate(kind, x), inner - column);
    });
    write_plain(kernels, layer.down, wide, rows);
    add_and_norm(kernels, layer.down, states, rows, layer.second_norm, layer.second_bias, layer.eps);
}

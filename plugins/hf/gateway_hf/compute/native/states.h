// What happens to all rows of a step between two multiplications; several threads share it.
#pragma once

// Fills the sheet with normed rows of `x`, as the operand of `w`; `normed` has room for them unrounded, where they are wanted.
void write_normed(Kernels& kernels, const Linear& w, const float* x, int rows, int size, const Norm& norm, float* normed) {
    kernels.sheet.fit(w, rows);
    kernels.team.each((rows + 3) / 4, [&](int part) {
        thread_local Room<float> own;
        for (int row = part * 4; row < std::min(rows, part * 4 + 4); row++) {
            float* y = normed ? normed + long(row) * size : own.of(size);
            apply_norm(norm, 0, x + long(row) * size, size, y);
            write_words(w, kernels.sheet, row, y, 0, size);
        }
    });
}

// Fills the sheet with rows as they are.
void write_plain(Kernels& kernels, const Linear& w, const float* x, int rows) {
    kernels.sheet.fit(w, rows);
    kernels.team.each((rows + 3) / 4, [&](int part) {
        for (int row = part * 4; row < std::min(rows, part * 4 + 4); row++)
            write_words(w, kernels.sheet, row, x + long(row) * w.depth, 0, w.depth);
    });
}

// Adds `scale` times the normed rows of a branch to the states.
void join(Kernels& kernels, const Norm& norm, float scale, float* branch, float* state, int rows, int size) {
    kernels.team.each((rows + 3) / 4, [&](int part) {
        for (int row = part * 4; row < std::min(rows, part * 4 + 4); row++) {
            float *x = branch + long(row) * size, *y = state + long(row) * size;
            apply_norm(norm, 0, x, size, x);
            int k = 0;
            for (; k + kLanes <= size; k += kLanes) *(floats*)(y + k) += *(const floats*)(x + k) * scale;
            for (; k < size; k++) y[k] += x[k] * scale;
        }
    });
}

// What makes of the product of `up` the operand of `down`.
struct Middle {
    const Linear& down;
    int inner, activation, gated;
    float limit = 0, plus = 0;  // beside a gate: the most that it may be, and the others by either sign; what is added to the others

    int wide() const { return gated ? 2 * inner : inner; }
};

// Fills the sheet with activation(gate) times up, or activation(up) where there is no gate; a part is some columns of a row, whole groups of bytes.
void write_gated(Kernels& kernels, const Middle& layer, float* x, int rows, int spare = 0) {
    const int columns = layer.down.quantized() ? round_up(256, layer.down.group) : 256;
    kernels.sheet.fit(layer.down, rows + spare);
    int across = (layer.inner + columns - 1) / columns, inner = layer.inner;
    kernels.team.each((across * rows + 3) / 4, [&](int some) {
        for (int part = some * 4; part < std::min(across * rows, some * 4 + 4); part++) {
            int row = part / across, from = part % across * columns, to = std::min(inner, from + columns);
            float *gate = x + long(row) * layer.wide(), *up = gate + inner;
            for (int k = from; layer.limit > 0 && k < to; k++) {
                gate[k] = std::min(gate[k], layer.limit);  // in this order, what is no number stays none
                up[k] = std::max(std::min(up[k], layer.limit), -layer.limit);
            }
            for (int k = from; layer.plus != 0 && k < to; k++) up[k] += layer.plus;
            auto at = [&](int k) { return activate(layer.activation, *(floats*)(gate + k)); };
            auto alone = [&](int k) { return first_of(activate(layer.activation, all(gate[k]))); };
            int k = from;
            if (layer.gated) {
                for (; k + kLanes <= to; k += kLanes) *(floats*)(gate + k) = at(k) * *(floats*)(up + k);
                for (; k < to; k++) gate[k] = alone(k) * up[k];
            }
            for (; k + kLanes <= to; k += kLanes) *(floats*)(gate + k) = at(k);
            for (; k < to; k++) gate[k] = alone(k);
            write_words(layer.down, kernels.sheet, row, gate, from, to);
        }
    });
}

inline bool in_halves(const Linear& up, const Middle& layer, int rows) {
    bool plain = layer.gated && layer.limit == 0 && layer.plus == 0 && layer.inner % kLanes == 0;
    return plain && rows > kTile && by_tiles(up, rows);
}

// Writes activation(gate) times up into rows `stride` elements apart.
template <class T> struct Gated {
    typename T::Element* to;
    long stride;
    int activation;
    auto at(int row, int column) const { return to + row * stride + column; }
    template <int N> [[gnu::flatten]] void operator()(int row, int column, int count, const Several<N>& gate, const Several<N>& up) const {
        Several<N> both = activate(activation, gate) * up;
        for (int i = 0; i < count; i++) store<T>(at(row + i, column), both.of[i]);
    }
};

// Multiplies the rows of the sheet by `up`, and fills it as `write_gated` does. What lies between, twice `inner` numbers of
// each row, is more than the caches hold: it stays in registers, or some columns of it, whole groups of bytes, in the second.
void write_halves(Kernels& kernels, const Linear& up, const Middle& layer, int rows) {
    const Linear& down = layer.down;
    const Operand x = kernels.sheet.at;
    Sheet& next = kernels.next;
    next.fit(down, rows);
    if (down.format == kBFloat16) {
        Gated<BFloat16> put{(uint16_t*)next.row(0), 2 * next.at.stride, layer.activation};
        share_halves(kernels.team, up, rows, 1, [&](int from, int to, int first, int last) {
            multiply_halves(up, x, from, to, first, last, put);
        });
    } else {
        int width = down.quantized() ? round_up(8 * kLanes, down.group) : 8 * kLanes;
        share_halves(kernels.team, up, rows, width / kLanes, [&](int from, int to, int first, int last) {
            thread_local Room<float> own;
            int column = first * kLanes, end = last * kLanes;
            float* part = own.of(size_t(to - from) * width) - long(from) * width - column;
            multiply_halves(up, x, from, to, first, last, Gated<Float32>{part, width, layer.activation});
            for (int row = from; row < to; row++) write_words(down, next, row, part + long(row) * width, column, end);
        });
    }
    std::swap(kernels.sheet, next);
}

// The same for any rows.
void write_inner(Kernels& kernels, const Linear& up, const Middle& layer, int rows) {
    if (in_halves(up, layer, rows)) return write_halves(kernels, up, layer, rows);
    float* wide = kernels.wide.of(size_t(rows) * layer.wide());
    apply(kernels.team, up, kernels.sheet.at, rows, into(wide, layer.wide()));
    write_gated(kernels, layer, wide, rows);
}

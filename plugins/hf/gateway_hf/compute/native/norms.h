// Norms of a row: by the root of its mean square (RMSNorm), or by its standard deviation around its mean (LayerNorm).
#pragma once

#include "rows.h"

enum NormKind { kNone = 0, kSquare = 1, kCentered = 2 };

struct Norm {
    const float *weight, *bias;  // [size]; no bias where it is null
    float eps;
    int32_t kind;
};

// y = (x - mean) / sqrt(variance + eps) * weight + bias; x and y may be the same, and there may be no bias.
inline void center_row(const float* x, const float* weight, const float* bias, float eps, int size, float* y) {
    float mean = 0, square = 0;
    floats sum = {};
    int k = 0;
    for (; k + kLanes <= size; k += kLanes) sum += *(const floats*)(x + k);
    for (mean = sum_of(sum); k < size; k++) mean += x[k];
    mean /= size, sum = floats{};
    for (k = 0; k + kLanes <= size; k += kLanes) {
        floats off = *(const floats*)(x + k) - mean;
        sum += off * off;
    }
    for (square = sum_of(sum); k < size; k++) square += (x[k] - mean) * (x[k] - mean);
    float scale = 1.0f / std::sqrt(square / size + eps);
    for (k = 0; k + kLanes <= size; k += kLanes) {
        floats added = bias ? *(const floats*)(bias + k) : floats{};
        *(floats*)(y + k) = (*(const floats*)(x + k) - mean) * scale * *(const floats*)(weight + k) + added;
    }
    for (; k < size; k++) y[k] = (x[k] - mean) * scale * weight[k] + (bias ? bias[k] : 0.0f);
}

// Norms `size` numbers with the weights from `at` on; a norm that is none copies them.
inline void apply_norm(const Norm& norm, int at, const float* x, int size, float* y) {
    if (norm.kind == kSquare) norm_row(x, norm.weight + at, norm.eps, size, y);
    else if (norm.kind == kCentered) center_row(x, norm.weight + at, norm.bias ? norm.bias + at : nullptr, norm.eps, size, y);
    else if (x != y) memcpy(y, x, sizeof(float) * size);
}

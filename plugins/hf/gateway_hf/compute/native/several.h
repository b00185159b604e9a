// Functions of some vectors at a time: each operation is done on all of them before the next, so that none has to wait for
// its own result.
#pragma once

#include "vectors.h"

template <int N> struct Several {
    alignas(64) floats of[N];

    Several() = default;
    Several(floats x) { each<N>([&]<int i> { of[i] = x; }); }
    Several(float x) : Several(all(x)) {}

    template <class F> [[gnu::always_inline]] static Several map(const F& f) {
        Several made;
        each<N>([&]<int i> { made.of[i] = f(i); });
        return made;
    }
    friend Several operator+(const Several& a, const Several& b) { return map([&](int i) { return a.of[i] + b.of[i]; }); }
    friend Several operator-(const Several& a, const Several& b) { return map([&](int i) { return a.of[i] - b.of[i]; }); }
    friend Several operator*(const Several& a, const Several& b) { return map([&](int i) { return a.of[i] * b.of[i]; }); }
    Several operator-() const { return map([&](int i) { return -of[i]; }); }
};

// 1 / x of a finite x within 2 units in the last place, by a step of Newton's where division takes as long as many products.
template <int N> [[gnu::always_inline]] inline Several<N> inverse_of(const Several<N>& x) {
#ifdef __AVX512F__
    auto near = Several<N>::map([&](int i) { return (floats)_mm512_rcp14_ps((__m512)x.of[i]); });
    return near + near * (1.0f - x * near);
#else
    return Several<N>::map([&](int i) { return 1.0f / x.of[i]; });
#endif
}

// e to the x within 2 units in the last place (Cephes' expf): 2^n times a polynomial of the rest.
template <int N> [[gnu::always_inline]] inline Several<N> exponential(const Several<N>& x) {
    using V = Several<N>;
    constexpr float round = 12582912.0f;  // what it is added to has no places behind the point left
    V y = V::map([&](int i) { return smaller(all(88.0f), larger(all(-87.0f), x.of[i])); });
    V scaled = y * 1.44269504088896341f + round, n = scaled - round;
    V r = y - n * 0.693359375f + n * 2.12194440e-4f;
    V p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    V power = V::map([&](int i) { return as_floats((as_words(scaled.of[i]) + 127) << 23); });
    return (p * r * r + r + 1.0f) * power;
}

template <int N> inline Several<N> tangent(const Several<N>& x) { return 1.0f - 2.0f * inverse_of(exponential(2.0f * x) + 1.0f); }

// The error function within 1.5e-7 (Abramowitz and Stegun, 7.1.26).
template <int N> inline Several<N> error_of(const Several<N>& x) {
    using V = Several<N>;
    V a = V::map([&](int i) { return larger(x.of[i], -x.of[i]); });
    V t = inverse_of(0.3275911f * a + 1.0f);
    V p = 1.061405429f * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    V y = 1.0f - p * t * exponential(-a * a);
    return V::map([&](int i) { return pick(x.of[i] < 0.0f, -y.of[i], y.of[i]); });
}

template <int N> inline float most_of(const Several<N>& x) {
    floats most = x.of[0];
    each<N - 1>([&]<int i> { most = larger(most, x.of[i + 1]); });
    return most_of(most);
}

enum Activation { kSilu = 0, kGeluTanh = 1, kGelu = 2, kRelu = 3, kReluSquare = 4, kGeluSigmoid = 5 };

template <int N> inline Several<N> activate(int kind, const Several<N>& x) {
    if (kind == kSilu) return x * inverse_of(1.0f + exponential(-x));
    if (kind == kGeluTanh) return 0.5f * x * (1.0f + tangent(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    if (kind == kGelu) return 0.5f * x * (1.0f + error_of(x * 0.70710678118654752f));
    if (kind == kGeluSigmoid) return x * inverse_of(1.0f + exponential(-1.702f * x));
    auto above = Several<N>::map([&](int i) { return pick(x.of[i] < 0.0f, floats{}, x.of[i]); });  // what is no number stays none
    return kind == kRelu ? above : above * above;
}

inline floats exponential(floats x) { return exponential(Several<1>(x)).of[0]; }
inline floats tangent(floats x) { return tangent(Several<1>(x)).of[0]; }
inline floats activate(int kind, floats x) { return activate(kind, Several<1>(x)).of[0]; }

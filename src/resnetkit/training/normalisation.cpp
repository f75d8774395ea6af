// Batch normalisation in training, together with the sum and the ReLU that follow it in a residual block.
//
// An image batch N,C,H,W in channels-last memory is a matrix x of n = N·H·W rows and C columns. With the mean m and the
// variance v of each column, s = 1/sqrt(v + eps), weight w, bias b, shortcut r (or nothing) and gradient g of y:
//
//     forward    y  = relu(w s (x - m) + b + r)
//     backward   gr = g where y > 0;   gb = Σ gr;   gw = s Σ gr (x - m);   gx = w s (gr - gb/n - s (x - m) gw/n)
//
// (equations of Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, section 3). Each direction reads its matrices
// twice, where one operation after the other would read and write them four to six times. Sums run over blocks of rows
// in float and over blocks in double, in an order that depends on the number of threads alone. NaN stays NaN.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <omp.h>

namespace {

struct bfloat16 {
    uint16_t bits;
};

// Functions, not conversions of the struct: compilers see through these when they vectorise.
inline float load(float value) { return value; }
inline float load(bfloat16 value) { return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16); }
inline void store(float *at, float value) { *at = value; }
inline void store(bfloat16 *at, float value) {  // to nearest, ties to even
    uint32_t word = __builtin_bit_cast(uint32_t, value);
    at->bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1)) >> 16);
}

constexpr int64_t block = 64;  // rows

struct Rows {
    int64_t from, to;
};

Rows rows_of_this_thread(int64_t rows) {
    int64_t blocks = (rows + block - 1) / block, threads = omp_get_num_threads(), mine = omp_get_thread_num();
    return {blocks * mine / threads * block, std::min(blocks * (mine + 1) / threads * block, rows)};
}

// The two sums of each column: add(first row, last row, a, b) adds those of some rows to the floats a[C] and b[C].
template <class Add>
std::vector<double> column_sums(int64_t rows, int64_t C, int threads, Add add) {
    std::vector<double> partial(threads * 2 * C, 0.0);
#pragma omp parallel num_threads(threads)
    {
        double *mine = &partial[omp_get_thread_num() * 2 * C];
        std::vector<float> sums(2 * C);
        Rows share = rows_of_this_thread(rows);
        for (int64_t from = share.from; from < share.to; from += block) {
            std::fill(sums.begin(), sums.end(), 0.0f);
            add(from, std::min(from + block, share.to), &sums[0], &sums[C]);
            for (int64_t c = 0; c < 2 * C; c++) mine[c] += sums[c];
        }
    }
    for (int t = 1; t < threads; t++)
        for (int64_t c = 0; c < 2 * C; c++) partial[c] += partial[t * 2 * C + c];
    return partial;
}

// Σ (x - first row) and Σ (x - first row)²: near the mean, so that the variance loses no digits.
template <class T>
std::vector<double> moments(const T *x, int64_t rows, int64_t C, int threads) {
    return column_sums(rows, C, threads, [=](int64_t from, int64_t to, float *__restrict a, float *__restrict b) {
        int64_t i = from;
        for (; i + 4 <= to; i += 4) {  // four rows at a time: a column's sums are fetched once for four elements
            const T *p = x + i * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float first = load(x[c]), u = load(p[c]) - first, v = load(p[c + C]) - first;
                float w = load(p[c + 2 * C]) - first, z = load(p[c + 3 * C]) - first;
                a[c] += (u + v) + (w + z);
                b[c] += (u * u + v * v) + (w * w + z * z);
            }
        }
        for (; i < to; i++) {
            const T *p = x + i * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float u = load(p[c]) - load(x[c]);
                a[c] += u;
                b[c] += u * u;
            }
        }
    });
}

template <class T, bool add, bool relu>
void apply(const T *x, const T *r, T *y, const float *scale, const float *shift, int64_t rows, int64_t C, int threads) {
#pragma omp parallel num_threads(threads)
    {
        Rows share = rows_of_this_thread(rows);
        for (int64_t i = share.from * C; i < share.to * C; i += C) {
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float value = load(x[i + c]) * scale[c] + shift[c];
                if (add) value += load(r[i + c]);
                store(&y[i + c], relu && value < 0 ? 0.0f : value);
            }
        }
    }
}

// Σ gr and Σ gr (x - mean); with `keep`, gr itself too.
template <class T, bool relu, bool keep>
std::vector<double> gradient_sums(
    const T *g, const T *x, const T *y, T *gr, const float *mean, int64_t rows, int64_t C, int threads) {
    return column_sums(rows, C, threads, [=](int64_t from, int64_t to, float *__restrict a, float *__restrict b) {
        auto passed = [=](int64_t at) -> float { return relu && load(y[at]) <= 0 ? 0.0f : load(g[at]); };
        int64_t i = from;
        for (; i + 2 <= to; i += 2) {
            int64_t first = i * C, second = first + C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float u = passed(first + c), v = passed(second + c);
                if (keep) store(&gr[first + c], u), store(&gr[second + c], v);
                a[c] += u + v;
                b[c] += u * (load(x[first + c]) - mean[c]) + v * (load(x[second + c]) - mean[c]);
            }
        }
        for (; i < to; i++) {
            int64_t first = i * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float u = passed(first + c);
                if (keep) store(&gr[first + c], u);
                a[c] += u;
                b[c] += u * (load(x[first + c]) - mean[c]);
            }
        }
    });
}

// gx = p gr + q x + t
template <class T, bool relu>
void input_gradient(const T *g, const T *x, const T *y, T *gx, const std::vector<float> &p, const std::vector<float> &q,
                    const std::vector<float> &t, int64_t rows, int64_t C, int threads) {
    const float *__restrict pp = p.data(), *__restrict qq = q.data(), *__restrict tt = t.data();
#pragma omp parallel num_threads(threads)
    {
        Rows share = rows_of_this_thread(rows);
        for (int64_t i = share.from * C; i < share.to * C; i += C) {
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float passed = relu && load(y[i + c]) <= 0 ? 0.0f : load(g[i + c]);
                store(&gx[i + c], passed * pp[c] + load(x[i + c]) * qq[c] + tt[c]);
            }
        }
    }
}

template <class T>
void forward(const T *x, const T *r, T *y, const float *weight, const float *bias, float *running_mean,
             float *running_var, double momentum, double eps, bool relu, float *mean, float *invstd, int64_t rows,
             int64_t C, int threads) {
    std::vector<double> sums = moments(x, rows, C, threads);
    std::vector<float> scale(C), shift(C);
    for (int64_t c = 0; c < C; c++) {
        double above = sums[c] / rows, middle = above + load(x[c]);
        double variance = sums[C + c] / rows - above * above;
        if (variance < 0) variance = 0;  // rounding; NaN stays
        double inverse = 1 / std::sqrt(variance + eps);
        mean[c] = middle, invstd[c] = inverse;
        scale[c] = weight[c] * inverse, shift[c] = bias[c] - middle * weight[c] * inverse;
        running_mean[c] += momentum * (middle - running_mean[c]);
        running_var[c] += momentum * (variance * rows / (rows - 1) - running_var[c]);
    }
    auto run = r ? (relu ? apply<T, true, true> : apply<T, true, false>)
                 : (relu ? apply<T, false, true> : apply<T, false, false>);
    run(x, r, y, scale.data(), shift.data(), rows, C, threads);
}

template <class T>
void backward(const T *g, const T *x, const T *y, T *gr, T *gx, const float *weight, const float *mean,
              const float *invstd, float *weight_gradient, float *bias_gradient, bool relu, int64_t rows, int64_t C,
              int threads) {
    bool keep = relu && gr;  // without ReLU, gr is g
    auto sum = relu ? (keep ? gradient_sums<T, true, true> : gradient_sums<T, true, false>)
                    : gradient_sums<T, false, false>;
    std::vector<double> sums = sum(g, x, y, gr, mean, rows, C, threads);
    std::vector<float> p(C), q(C), t(C);
    for (int64_t c = 0; c < C; c++) {
        double inverse = invstd[c], scale = weight[c] * inverse, gb = sums[c], gw = sums[C + c] * inverse;
        bias_gradient[c] = gb, weight_gradient[c] = gw;
        double slope = -scale * inverse * gw / rows;
        p[c] = scale, q[c] = slope, t[c] = -scale * gb / rows - slope * mean[c];
    }
    auto run = relu && !keep ? input_gradient<T, true> : input_gradient<T, false>;
    run(keep ? gr : g, x, y, gx, p, q, t, rows, C, threads);
}

}  // namespace

#define BOTH_WAYS(T, NAME)                                                                                             \
    extern "C" void NAME##_forward(const T *x, const T *r, T *y, const float *weight, const float *bias,               \
                                   float *running_mean, float *running_var, double momentum, double eps, int relu,     \
                                   float *mean, float *invstd, int64_t rows, int64_t C, int threads) {                 \
        forward(x, r, y, weight, bias, running_mean, running_var, momentum, eps, relu, mean, invstd, rows, C, threads);\
    }                                                                                                                  \
    extern "C" void NAME##_backward(const T *g, const T *x, const T *y, T *gr, T *gx, const float *weight,             \
                                    const float *mean, const float *invstd, float *weight_gradient,                    \
                                    float *bias_gradient, int relu, int64_t rows, int64_t C, int threads) {            \
        backward(g, x, y, gr, gx, weight, mean, invstd, weight_gradient, bias_gradient, relu, rows, C, threads);       \
    }

BOTH_WAYS(bfloat16, bfloat16)
BOTH_WAYS(float, float32)

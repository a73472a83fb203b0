// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <functional>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "octet/backend/cpu/ref/reference.h"
#include "octet/base/error.h"
#include "octet/base/philox.h"
#include "octet/tensor/half.h"
#include "tests/backend/compare.h"
#include "tests/backend/differences.h"
#include "tests/backend/harness.h"

// Gradients of the loss Σ w ∘ y for given w: dy is w. Each is held against differences of the operation in double.
namespace octet::backend_cases {
namespace {

double apply_in_double(double x, Nonlinearity kind) {
  switch (kind) {
    case Nonlinearity::kNone:
      return x;
    case Nonlinearity::kGelu:
      return x / 2 * std::erfc(-x / std::sqrt(2.0));
    case Nonlinearity::kGeluTanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Nonlinearity::kRelu:
      return std::max(0.0, x);
    case Nonlinearity::kTanh:
      return std::tanh(x);
    case Nonlinearity::kSilu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

constexpr Nonlinearity kAllKinds[] = {Nonlinearity::kNone, Nonlinearity::kGelu, Nonlinearity::kGeluTanh,
                                      Nonlinearity::kRelu, Nonlinearity::kTanh, Nonlinearity::kSilu};

TEST(NonlinearityGradient, IsTheSlopeTimesDy) {
  constexpr int64_t kRows = 5, kCols = 37;
  std::vector<float> x = random_floats(kRows * kCols, 1, 3.0f);
  const std::vector<float> dy = random_floats(kRows * kCols, 2);
  // Far out, where slopes are 0 or 1 and nothing may become NaN.
  for (size_t i = 0; i < 8; ++i) x[i] = (i % 2 == 0 ? 1.0f : -1.0f) * std::pow(10.0f, static_cast<float>(i) / 2);
  for (const Nonlinearity kind : kAllKinds) {
    const std::vector<float> dx = same_everywhere([&](Backend& backend) {
      const Matrix in(backend, kRows, kCols, 2, x), d(backend, kRows, kCols, 3, dy), out(backend, kRows, kCols, 1);
      backend.nonlinearity_gradient({in.activation(), kind, d.activation(), out.activation()});
      EXPECT_TRUE(out.gaps_untouched());
      return out.values();
    });
    const Doubles expected = differences(
        [&](const Doubles& at) {
          Doubles y;
          for (const double value : at) y.push_back(apply_in_double(value, kind));
          return y;
        },
        to_doubles(x), dy);
    EXPECT_TRUE(close(dx, expected, 3e-6)) << static_cast<int>(kind);
    const std::vector<float> y = same_everywhere([&](Backend& backend) {
      const Matrix in(backend, kRows, kCols, 2, x);
      backend.nonlinearity({in.activation(), kind, in.activation()});
      return in.values();
    });
    for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], apply_in_double(x[i], kind), 1e-6 * (1 + std::abs(x[i])));
  }
}

TEST(GatedGradient, IsThatOfBothHalves) {
  constexpr int64_t kRows = 3, kCols = 19;
  const std::vector<float> x = random_floats(kRows * 2 * kCols, 3, 2.0f), dy = random_floats(kRows * kCols, 4);
  for (const Nonlinearity kind : kAllKinds) {
    const std::vector<float> dx = same_everywhere([&](Backend& backend) {
      const Matrix in(backend, kRows, 2 * kCols, 2, x), d(backend, kRows, kCols, 3, dy),
          out(backend, kRows, 2 * kCols, 1);
      backend.gated_gradient({in.activation(), kind, d.activation(), out.activation()});
      return out.values();
    });
    const Doubles expected = differences(
        [&](const Doubles& at) {
          Doubles y(static_cast<size_t>(kRows * kCols));
          for (int64_t r = 0; r < kRows; ++r) {
            cpu::reference::gated_row(
                at.data() + r * 2 * kCols, kCols, [&](double value) { return apply_in_double(value, kind); },
                y.data() + r * kCols);
          }
          return y;
        },
        to_doubles(x), dy);
    EXPECT_TRUE(close(dx, expected, 3e-6)) << static_cast<int>(kind);
  }
}

struct NormCase {
  int64_t rows, cols;
  bool centred, adds;
};

TEST(NormGradient, IsThatOfXAndOfItsParameters) {
  for (const NormCase& c : {NormCase{4, 7, true, false},
                            {4, 7, false, false},
                            {3, 64, true, true},
                            {3, 64, false, true},
                            {1, 1, true, false},
                            {2, 33, false, false}}) {
    const std::vector<float> x = random_floats(c.rows * c.cols, 5, 2.0f), dy = random_floats(c.rows * c.cols, 6),
                             gamma = random_floats(c.cols, 7), before = random_floats(c.rows * c.cols, 8),
                             parameters = random_floats(2 * c.cols, 9);
    const std::vector<float> all = same_everywhere([&](Backend& backend) {
      const Matrix in(backend, c.rows, c.cols, 2, x), d(backend, c.rows, c.cols, 3, dy),
          out(backend, c.rows, c.cols, 1, before);
      const Memory g(backend, gamma), grown(backend, parameters);
      NormGradientOp op{.x = in.activation(),
                        .gamma = g.span(),
                        .eps = 1e-5f,
                        .dy = d.activation(),
                        .dx = out.activation(),
                        .adds = c.adds,
                        .dgamma = grown.span().slice(0, 4 * c.cols)};
      if (c.centred) op.dbeta = grown.span().slice(4 * c.cols, 4 * c.cols);
      backend.norm_gradient(op);
      EXPECT_TRUE(out.gaps_untouched());
      std::vector<float> result = out.values(), of_parameters(parameters.size());
      backend.download(grown.span(), std::as_writable_bytes(std::span(of_parameters)));
      result.insert(result.end(), of_parameters.begin(), of_parameters.end());
      return result;
    });
    // x, gamma and beta as one vector.
    Doubles at = to_doubles(x);
    at.insert(at.end(), gamma.begin(), gamma.end());
    at.resize(at.size() + static_cast<size_t>(c.cols), 0.0);
    Doubles expected = differences(
        [&](const Doubles& all_of) {
          Doubles y(static_cast<size_t>(c.rows * c.cols));
          const double* const g = all_of.data() + c.rows * c.cols;
          for (int64_t r = 0; r < c.rows; ++r) {
            const double* const row = all_of.data() + r * c.cols;
            c.centred ? cpu::reference::layer_norm_row(row, c.cols, g, g + c.cols, 1e-5, y.data() + r * c.cols)
                      : cpu::reference::rms_norm_row(row, c.cols, g, 1e-5, y.data() + r * c.cols);
          }
          return y;
        },
        at, dy);
    for (size_t i = 0; i < expected.size(); ++i) {
      const size_t parameter = i - x.size();
      if (i < x.size()) {
        if (c.adds) expected[i] += before[i];
      } else {
        expected[i] = (parameter >= gamma.size() && !c.centred ? 0 : expected[i]) + parameters[parameter];
      }
    }
    EXPECT_TRUE(close(all, expected, 1e-5)) << c.rows << " " << c.cols << " " << c.centred;
  }
}

TEST(NormGradient, SumsOfManyRowsDoNotDependOnThreads) {
  constexpr int64_t kRows = 700, kCols = 100;
  const std::vector<float> x = random_floats(kRows * kCols, 10), gamma(kCols, 1.0f);
  same_everywhere([&](Backend& backend) {
    const Matrix in(backend, kRows, kCols, 0, x), out(backend, kRows, kCols, 0);
    const Memory g(backend, gamma), grown(backend, std::vector<float>(2 * kCols, 0.0f));
    backend.norm_gradient({.x = in.activation(),
                           .gamma = g.span(),
                           .eps = 1e-5f,
                           .dy = in.activation(),
                           .dx = out.activation(),
                           .dgamma = grown.span().slice(0, 4 * kCols),
                           .dbeta = grown.span().slice(4 * kCols, 4 * kCols)});
    std::vector<float> result(2 * kCols);
    backend.download(grown.span(), std::as_writable_bytes(std::span(result)));
    return result;
  });
}

TEST(ColumnSums, AreAddedToWhatIsThere) {
  constexpr int64_t kRows = 1000, kCols = 21;
  const std::vector<float> x = random_floats(kRows * kCols, 11), before = random_floats(kCols, 12);
  const std::vector<float> sums = same_everywhere([&](Backend& backend) {
    const Matrix in(backend, kRows, kCols, 1, x);
    const Memory memory(backend, before);
    backend.column_sums({in.activation(), memory.span()});
    std::vector<float> result(kCols);
    backend.download(memory.span(), std::as_writable_bytes(std::span(result)));
    return result;
  });
  Doubles expected = to_doubles(before);
  for (int64_t i = 0; i < kRows * kCols; ++i) expected[i % kCols] += x[i];
  EXPECT_TRUE(close(sums, expected, 1e-5));
}

TEST(RopeGradient, TurnsBack) {
  constexpr int64_t kRows = 9, kWidth = 12, kRotary = 8;
  const std::vector<float> x = random_floats(kRows * 2 * kWidth, 13);
  const std::vector<float> frequencies = {1.0f, 0.3f, 0.05f, 0.001f};
  std::vector<int32_t> positions(kRows);
  std::iota(positions.begin(), positions.end(), 3);
  for (const RotaryLayout layout : {RotaryLayout::kHalves, RotaryLayout::kNeighbours}) {
    const std::vector<float> twice = same_everywhere([&](Backend& backend) {
      const Matrix in(backend, kRows, 2 * kWidth, 0, x);
      const Memory at(backend, positions), f(backend, frequencies);
      RopeOp op{in.activation(), {2, kWidth}, kRotary, layout, at.span(), f.span(), 1.5f};
      backend.rope(op);
      op.backward = true;
      backend.rope(op);
      return in.values();
    });
    // Turned there and back, and stretched twice.
    Doubles expected;
    for (size_t i = 0; i < x.size(); ++i) expected.push_back(x[i] * (i % kWidth < kRotary ? 2.25 : 1.0));
    EXPECT_TRUE(close(twice, expected, 1e-6));
  }
}

struct AttentionShape {
  std::vector<int32_t> lengths;
  int64_t heads, kv_heads, width;
  bool causal;
  int64_t window;
};

// What a Dropout multiplies an element by, as its definition has it.
double kept_by(const Dropout& dropout, uint64_t element) {
  const uint64_t counter = element / 4;
  const std::array<uint32_t, 4> words =
      philox({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), dropout.stream, dropout.step},
             dropout.seed);
  return words[element % 4] < dropout.probability * 0x1p32 ? 0.0 : 1.0 / (1.0 - dropout.probability);
}

Doubles attention_in_double(const AttentionShape& c, const Doubles& qkv, const Dropout& dropout = {}) {
  const int64_t columns = (c.heads + 2 * c.kv_heads) * c.width;
  const int64_t rows = static_cast<int64_t>(qkv.size()) / columns;
  Doubles y(static_cast<size_t>(rows * c.heads * c.width));
  int64_t first = 0;
  for (const int32_t length : c.lengths) {
    for (int64_t head = 0; head < c.heads; ++head) {
      const int64_t kv = head / (c.heads / c.kv_heads);
      const auto at = [&](int64_t row, int64_t column) {
        return qkv.data() + (first + row) * columns + column * c.width;
      };
      for (int64_t r = 0; r < length; ++r) {
        const int64_t end = c.causal ? r + 1 : length;
        const int64_t begin = c.causal && c.window > 0 ? std::max<int64_t>(0, end - c.window) : 0;
        Doubles p;
        for (int64_t j = begin; j < end; ++j) {
          p.push_back(std::inner_product(at(r, head), at(r, head) + c.width, at(j, c.heads + kv), 0.0));
        }
        const double inverse = cpu::reference::softmax_row(p.data(), end - begin, double{kAttentionScale},
                                                           [](double value) { return std::exp(value); });
        for (int64_t j = begin; j < end; ++j)
          p[j - begin] *= kept_by(dropout, (static_cast<uint64_t>((first + r) * c.heads + head) << 32) + j);
        double* const out = y.data() + (first + r) * c.heads * c.width + head * c.width;
        for (int64_t j = begin; j < end; ++j) {
          for (int64_t d = 0; d < c.width; ++d) out[d] += p[j - begin] * inverse * at(j, c.heads + c.kv_heads + kv)[d];
        }
      }
    }
    first += length;
  }
  return y;
}

std::vector<float> attention(Backend& backend, const AttentionShape& c, const std::vector<float>& qkv,
                             const Dropout& dropout, ActivationMode activations) {
  const int64_t columns = (c.heads + 2 * c.kv_heads) * c.width;
  const auto rows = static_cast<int64_t>(qkv.size()) / columns;
  const Matrix in(backend, rows, columns, 3, qkv), out(backend, rows, c.heads * c.width, 1);
  const std::vector<int32_t> offsets = offsets_of(c.lengths);
  const Memory starts(backend, offsets);
  const auto part = [&](int64_t head, int64_t count) {
    return in.activation().columns(head * c.width, count * c.width);
  };
  backend.attention({.q = part(0, c.heads),
                     .k = part(c.heads, c.kv_heads),
                     .v = part(c.heads + c.kv_heads, c.kv_heads),
                     .y = out.activation(),
                     .heads = c.heads,
                     .kv_heads = c.kv_heads,
                     .head_width = c.width,
                     .scale = kAttentionScale,
                     .offsets = starts.span(),
                     .sequences = static_cast<int64_t>(c.lengths.size()),
                     .longest = *std::ranges::max_element(c.lengths),
                     .causal = c.causal,
                     .window = c.window,
                     .activations = activations,
                     .dropout = dropout});
  return out.values();
}

std::vector<float> attention_gradient(Backend& backend, const AttentionShape& c, const std::vector<float>& qkv,
                                      const std::vector<float>& dy, const Dropout& dropout = {}) {
  const int64_t columns = (c.heads + 2 * c.kv_heads) * c.width;
  const auto rows = static_cast<int64_t>(qkv.size()) / columns;
  const Matrix in(backend, rows, columns, 3, qkv), d(backend, rows, c.heads * c.width, 1, dy),
      out(backend, rows, columns, 2);
  const std::vector<int32_t> offsets = offsets_of(c.lengths);
  const Memory starts(backend, offsets);
  const auto part = [&](const Matrix& of, int64_t head, int64_t count) {
    return of.activation().columns(head * c.width, count * c.width);
  };
  backend.attention_gradient({.q = part(in, 0, c.heads),
                              .k = part(in, c.heads, c.kv_heads),
                              .v = part(in, c.heads + c.kv_heads, c.kv_heads),
                              .dy = d.activation(),
                              .dq = part(out, 0, c.heads),
                              .dk = part(out, c.heads, c.kv_heads),
                              .dv = part(out, c.heads + c.kv_heads, c.kv_heads),
                              .heads = c.heads,
                              .kv_heads = c.kv_heads,
                              .head_width = c.width,
                              .scale = kAttentionScale,
                              .offsets = starts.span(),
                              .sequences = static_cast<int64_t>(c.lengths.size()),
                              .longest = *std::ranges::max_element(c.lengths),
                              .causal = c.causal,
                              .window = c.window,
                              .dropout = dropout});
  EXPECT_TRUE(out.gaps_untouched());
  return out.values();
}

TEST(AttentionGradient, IsThatOfQueriesKeysAndValues) {
  for (const AttentionShape& c : {AttentionShape{{5, 0, 1}, 2, 2, 3, false, 0},
                                  {{7, 2}, 4, 2, 5, true, 0},
                                  {{9}, 2, 1, 4, true, 3},
                                  {{17}, 1, 1, 16, false, 0}}) {
    const int64_t rows = std::accumulate(c.lengths.begin(), c.lengths.end(), int64_t{0});
    const std::vector<float> qkv = random_floats(rows * (c.heads + 2 * c.kv_heads) * c.width, 14),
                             dy = random_floats(rows * c.heads * c.width, 15);
    const std::vector<float> d =
        same_everywhere([&](Backend& backend) { return attention_gradient(backend, c, qkv, dy); });
    const Doubles expected =
        differences([&](const Doubles& at) { return attention_in_double(c, at); }, to_doubles(qkv), dy);
    EXPECT_TRUE(close(d, expected, 1e-5)) << c.lengths.front() << " rows, " << c.heads << " heads";
  }
}

TEST(AttentionGradient, IsOfTheWeightsThatDropoutLeft) {
  const Dropout dropout{.probability = 0.3f, .seed = 9, .step = 2, .stream = 4};
  for (const AttentionShape& c : {AttentionShape{{5, 0, 1}, 2, 2, 3, false, 0},
                                  {{7, 2}, 4, 2, 5, true, 0},
                                  {{9}, 2, 1, 4, true, 3},
                                  {{33, 3}, 1, 1, 16, false, 0}}) {
    const int64_t rows = std::accumulate(c.lengths.begin(), c.lengths.end(), int64_t{0});
    const std::vector<float> qkv = random_floats(rows * (c.heads + 2 * c.kv_heads) * c.width, 14),
                             dy = random_floats(rows * c.heads * c.width, 15);
    const auto given = [&](ActivationMode mode) {
      return same_everywhere([&](Backend& backend) { return attention(backend, c, qkv, dropout, mode); });
    };
    const Doubles y = attention_in_double(c, to_doubles(qkv), dropout);
    EXPECT_TRUE(close(given(ActivationMode::kFloat), y, 1e-5)) << c.lengths.front() << " rows";
    EXPECT_TRUE(close(given(ActivationMode::kDynamicPerToken), y, 0.05)) << c.lengths.front() << " rows";
    const std::vector<float> d =
        same_everywhere([&](Backend& backend) { return attention_gradient(backend, c, qkv, dy, dropout); });
    const Doubles expected =
        differences([&](const Doubles& at) { return attention_in_double(c, at, dropout); }, to_doubles(qkv), dy);
    EXPECT_TRUE(close(d, expected, 1e-5)) << c.lengths.front() << " rows, " << c.heads << " heads";
  }
}

TEST(AttentionGradient, LongSequencesGoInStrips) {
  // Rows and keys beyond a block of either, and a window that begins inside one.
  for (const AttentionShape& c :
       {AttentionShape{{300, 70}, 2, 1, 33, true, 0}, {{130}, 1, 1, 17, false, 0}, {{260}, 1, 1, 8, true, 37}}) {
    const int64_t rows = std::accumulate(c.lengths.begin(), c.lengths.end(), int64_t{0});
    const int64_t columns = (c.heads + 2 * c.kv_heads) * c.width;
    const std::vector<float> qkv = random_floats(rows * columns, 16), dy = random_floats(rows * c.heads * c.width, 17);
    const std::vector<float> d =
        same_everywhere([&](Backend& backend) { return attention_gradient(backend, c, qkv, dy); });
    // The slope along one direction, which all elements have a part in.
    const std::vector<float> direction = random_floats(rows * columns, 18);
    const auto loss = [&](double step) {
      Doubles at = to_doubles(qkv);
      for (size_t i = 0; i < at.size(); ++i) at[i] += step * direction[i];
      const Doubles y = attention_in_double(c, at);
      return std::inner_product(y.begin(), y.end(), dy.begin(), 0.0);
    };
    const double expected = (loss(1e-5) - loss(-1e-5)) / 2e-5;
    EXPECT_NEAR(std::inner_product(d.begin(), d.end(), direction.begin(), 0.0), expected,
                1e-4 * (1 + std::abs(expected)));
  }
}

TEST(EmbedGradient, RowsThatMeetInAnEntryAddUp) {
  constexpr int64_t kRows = 50, kCols = 70, kEntries = 6;
  const std::vector<float> dy = random_floats(kRows * kCols, 19), before = random_floats(kEntries * kCols, 20);
  std::vector<int32_t> indices;
  for (int32_t i = 0; i < kRows; ++i) indices.push_back(i * i % static_cast<int32_t>(kEntries));
  const std::vector<float> table = same_everywhere([&](Backend& backend) {
    const Matrix d(backend, kRows, kCols, 1, dy), out(backend, kEntries, kCols, 2, before);
    const Memory at(backend, indices);
    backend.embed_gradient({at.span(), d.activation(), out.activation()});
    return out.values();
  });
  Doubles expected = to_doubles(before);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kCols; ++c) expected[indices[r] * kCols + c] += dy[r * kCols + c];
  }
  EXPECT_TRUE(close(table, expected, 1e-6));
}

TEST(CrossEntropy, LossesAndTheirGradient) {
  constexpr int64_t kRows = 6;
  for (const int64_t cols : {1, 2, 31, 200}) {
    std::vector<float> x = random_floats(kRows * cols, 21, 4.0f);
    std::vector<int32_t> labels;
    for (int32_t r = 0; r < kRows; ++r) labels.push_back(r == 2 ? -100 : r * 7 % static_cast<int32_t>(cols));
    x[0] = cols > 1 ? -200.0f : x[0];  // whose probability is 0 in fp32
    const float factor = 0.25f;
    const std::vector<float> all = same_everywhere([&](Backend& backend) {
      const Matrix in(backend, kRows, cols, 1, x), out(backend, kRows, cols, 2);
      const Memory at(backend, labels), losses(backend, kRows * 4);
      backend.cross_entropy({in.activation(), at.span(), factor, losses.span(), out.activation()});
      EXPECT_TRUE(out.gaps_untouched());
      std::vector<float> result(kRows), dx = out.values();
      backend.download(losses.span(), std::as_writable_bytes(std::span(result)));
      result.insert(result.end(), dx.begin(), dx.end());
      return result;
    });
    const auto losses = [&](const Doubles& at) {
      Doubles out;
      for (int64_t r = 0; r < kRows; ++r) {
        const double* const row = at.data() + r * cols;
        const double largest = *std::max_element(row, row + cols);
        double sum = 0;
        for (int64_t c = 0; c < cols; ++c) sum += std::exp(row[c] - largest);
        out.push_back(labels[r] < 0 ? 0.0 : std::log(sum) + largest - row[labels[r]]);
      }
      return out;
    };
    Doubles expected = losses(to_doubles(x));
    const Doubles gradient = differences(losses, to_doubles(x), std::vector<float>(kRows, factor));
    expected.insert(expected.end(), gradient.begin(), gradient.end());
    EXPECT_TRUE(close(all, expected, 2e-6)) << cols;
  }
}

TEST(Distill, LossesAndTheirGradient) {
  constexpr int64_t kRows = 4;
  for (const int64_t cols : {1, 3, 200}) {
    for (const float temperature : {1.0f, 2.5f}) {
      const std::vector<float> x = random_floats(kRows * cols, 31, 4.0f),
                               teacher = random_floats(kRows * cols, 32, 4.0f);
      const std::vector<int32_t> labels = {0, -1, 0, 0};
      const float factor = 0.25f;
      const std::vector<float> all = same_everywhere([&](Backend& backend) {
        const Matrix in(backend, kRows, cols, 1, x), from(backend, kRows, cols, 0, teacher),
            out(backend, kRows, cols, 2);
        const Memory at(backend, labels), losses(backend, kRows * 4);
        backend.distill(
            {in.activation(), from.activation(), at.span(), temperature, factor, losses.span(), out.activation()});
        EXPECT_TRUE(out.gaps_untouched());
        std::vector<float> result(kRows), dx = out.values();
        backend.download(losses.span(), std::as_writable_bytes(std::span(result)));
        result.insert(result.end(), dx.begin(), dx.end());
        return result;
      });
      const auto softmax = [&](const double* row) {
        Doubles out(static_cast<size_t>(cols));
        double sum = 0;
        for (int64_t c = 0; c < cols; ++c) sum += out[c] = std::exp(row[c] / temperature);
        for (double& value : out) value /= sum;
        return out;
      };
      const Doubles from = to_doubles(teacher);
      const auto losses = [&](const Doubles& at) {
        Doubles out;
        for (int64_t r = 0; r < kRows; ++r) {
          const Doubles p = softmax(at.data() + r * cols), q = softmax(from.data() + r * cols);
          double loss = 0;
          for (int64_t c = 0; c < cols; ++c) loss += q[c] * std::log(q[c] / p[c]);
          out.push_back(labels[r] < 0 ? 0.0 : temperature * temperature * loss);
        }
        return out;
      };
      Doubles expected = losses(to_doubles(x));
      const Doubles gradient = differences(losses, to_doubles(x), std::vector<float>(kRows, factor));
      expected.insert(expected.end(), gradient.begin(), gradient.end());
      EXPECT_TRUE(close(all, expected, 2e-6)) << cols << " at " << temperature;
    }
  }
}

TEST(SquaredError, LossesAndTheirGradient) {
  constexpr int64_t kRows = 70, kCols = 37;
  const std::vector<float> x = random_floats(kRows * kCols, 31), target = random_floats(kRows * kCols, 32);
  const std::vector<float> result = same_everywhere([&](Backend& backend) {
    const Matrix in(backend, kRows, kCols, 1, x), other(backend, kRows, kCols, 2, target);
    const Memory losses(backend, std::vector<float>(kRows));
    backend.squared_error({.x = in.activation(),
                           .target = other.activation(),
                           .factor = 0.3f,
                           .losses = losses.span(),
                           .dx = other.activation()});
    std::vector<float> all(kRows);
    backend.download(losses.span(), std::as_writable_bytes(std::span(all)));
    const std::vector<float> dx = other.values();
    all.insert(all.end(), dx.begin(), dx.end());
    return all;
  });
  Doubles expected(kRows, 0.0);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    const double difference = double{x[i]} - double{target[i]};
    expected[i / kCols] += difference * difference;
    expected.push_back(0.6 * difference);
  }
  EXPECT_TRUE(close(result, expected, 1e-6));
}

TEST(CrossEntropy, NanIsNotHidden) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({});
  const Matrix x(*backend, 1, 3, 0, std::vector<float>{1, std::nanf(""), 2});
  const Memory labels(*backend, std::vector<int32_t>{0}), losses(*backend, 4);
  backend->cross_entropy({x.activation(), labels.span(), 1.0f, losses.span(), x.activation()});
  float loss = 0;
  backend->download(losses.span(), std::as_writable_bytes(std::span(&loss, 1)));
  EXPECT_TRUE(std::isnan(loss));
}

TEST(Adamw, IsTheFormula) {
  constexpr int64_t kCount = 40'003;  // more than a task takes
  const std::vector<float> weights = random_floats(kCount, 22), gradient = random_floats(kCount, 23),
                           m = random_floats(kCount, 24);
  std::vector<float> v = random_floats(kCount, 25);
  for (float& value : v) value *= value;
  const std::vector<float> stepped = same_everywhere([&](Backend& backend) {
    const Memory w(backend, weights), g(backend, gradient), first(backend, m), second(backend, v);
    backend.adamw({.weights = w.span(),
                   .gradient = g.span(),
                   .m = first.span(),
                   .v = second.span(),
                   .count = kCount,
                   .rate = 0.01f,
                   .decay = 0.1f,
                   .correction1 = 1 - 0.9f * 0.9f,
                   .correction2 = 1 - 0.999f * 0.999f,
                   .gradient_factor = 0.5f});
    std::vector<float> result(kCount);
    backend.download(w.span(), std::as_writable_bytes(std::span(result)));
    return result;
  });
  for (int64_t i = 0; i < kCount; ++i) {
    const double g = gradient[i] * 0.5, mean = 0.9f * double{m[i]} + (1 - 0.9f) * g,
                 square = 0.999f * double{v[i]} + (1 - 0.999f) * g * g;
    const double step = mean / (1 - 0.9f * 0.9f) / (std::sqrt(square / (1 - 0.999f * 0.999f)) + 1e-8);
    const double expected = weights[i] - 0.01 * (0.1 * weights[i] + step);
    ASSERT_NEAR(stepped[i], expected, 1e-6 * (1 + std::abs(expected))) << i;
  }
}

TEST(Sgd, IsTheFormula) {
  const std::vector<float> weights = {1, -2, 3}, gradient = {0.5f, 1, -4}, v = {1, 0, 2};
  const std::vector<float> all = same_everywhere([&](Backend& backend) {
    const Memory w(backend, weights), g(backend, gradient), moved(backend, v);
    backend.sgd({.weights = w.span(),
                 .gradient = g.span(),
                 .v = moved.span(),
                 .count = 3,
                 .rate = 0.5f,
                 .momentum = 0.25f,
                 .decay = 0.125f,
                 .gradient_factor = 2});
    std::vector<float> result(3);
    backend.download(w.span(), std::as_writable_bytes(std::span(result)));
    return result;
  });
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(all[i], weights[i] - 0.5f * (0.25f * v[i] + 2 * gradient[i] + 0.125f * weights[i]));
}

// Values as fp16 or bf16, element i of vector n rounded by what UpdateStorage says, or to nearest for n < 0.
std::vector<uint16_t> sixteens(std::span<const float> values, const UpdateStorage& storage, DType dtype, int n) {
  std::vector<uint16_t> out;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::array<uint32_t, 4> words = philox(
        {static_cast<uint32_t>(i / 8), 0, 4 * storage.stream + static_cast<uint32_t>(n), storage.step}, storage.seed);
    const auto random = static_cast<uint16_t>(words[i % 8 / 2] >> (i % 2 == 0 ? 0 : 16));
    out.push_back(dtype == DType::kF16
                      ? (n < 0 ? to_half(values[i]) : to_half_stochastically(values[i], random)).bits
                      : (n < 0 ? to_bfloat16(values[i]) : to_bfloat16_stochastically(values[i], random)).bits);
  }
  return out;
}

std::vector<float> widened(std::span<const uint16_t> bits, DType dtype) {
  std::vector<float> out;
  for (const uint16_t one : bits) out.push_back(dtype == DType::kF16 ? to_float(Half{one}) : to_float(BFloat16{one}));
  return out;
}

TEST(Adamw, StoresWhatItGivesInSixteenBits) {
  constexpr int64_t kCount = 40'003;
  const std::vector<float> gradient = random_floats(kCount, 23);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    UpdateStorage storage{.weights = dtype, .moments = dtype, .seed = 77, .step = 3, .stream = 5};
    const std::vector<uint16_t> weights = sixteens(random_floats(kCount, 22), storage, dtype, -1),
                                m = sixteens(random_floats(kCount, 24), storage, dtype, -1);
    std::vector<float> magnitudes = random_floats(kCount, 25);
    for (float& value : magnitudes) value = std::abs(value);
    const std::vector<uint16_t> root = sixteens(magnitudes, storage, dtype, -1);
    AdamwOp op;
    op.count = kCount;
    op.rate = 0.01f, op.decay = 0.1f, op.correction1 = 0.1f, op.correction2 = 0.001f;

    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
    std::vector<float> w32 = widened(weights, dtype), m32 = widened(m, dtype), v32 = widened(root, dtype);
    for (float& value : v32) value *= value;
    const Memory w(*backend, w32), g(*backend, gradient), first(*backend, m32), second(*backend, v32);
    op.weights = w.span(), op.gradient = g.span(), op.m = first.span(), op.v = second.span();
    backend->adamw(op);
    for (const auto& [memory, values] : {std::pair{&w, &w32}, std::pair{&first, &m32}, std::pair{&second, &v32}})
      backend->download(memory->span(), std::as_writable_bytes(std::span(*values)));
    for (float& value : v32) value = std::sqrt(value);

    for (const Way& way : ways()) {
      const std::unique_ptr<Backend> own = make_cpu_backend({.threads = way.threads, .isa = way.isa});
      const Memory stored(*own, weights), slope(*own, gradient), mean(*own, m), square(*own, root);
      op.weights = stored.span(), op.gradient = slope.span(), op.m = mean.span(), op.v = square.span();
      op.storage = storage;
      own->adamw(op);
      std::vector<uint16_t> bits(kCount);
      int n = 0;
      for (const auto& [memory, values] :
           {std::pair{&stored, &w32}, std::pair{&mean, &m32}, std::pair{&square, &v32}}) {
        own->download(memory->span(), std::as_writable_bytes(std::span(bits)));
        EXPECT_EQ(bits, sixteens(*values, storage, dtype, n)) << "vector " << n << ", " << way.isa;
        ++n;
      }
      op.storage = {};
      EXPECT_THROW(own->adamw(op), ShapeError) << "fp32 takes twice as many bytes";
    }
  }
}

TEST(Widen, IsExactInAllTypes) {
  constexpr int64_t kRows = 67, kCols = 1031;  // rows that are no multiple of a vector, more than a task takes
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const std::vector<uint16_t> bits = sixteens(random_floats(kRows * kCols, 31), {}, dtype, -1);
    const std::vector<float> result = same_everywhere([&](Backend& backend) {
      const Memory x(backend, bits);
      const Matrix y(backend, kRows, kCols, 3);
      backend.widen({.x = {x.span(), dtype, kRows, kCols}, .y = y.activation()});
      return y.values();
    });
    EXPECT_EQ(result, widened(bits, dtype));
  }
  const std::unique_ptr<Backend> backend = make_cpu_backend({});
  const Memory x(*backend, std::vector<float>(5));
  const Matrix y(*backend, 2, 3, 0);
  EXPECT_THROW(backend->widen({.x = {x.span(), DType::kF32, 2, 3}, .y = y.activation()}), ShapeError);
}

TEST(SquaredNorm, SumsInDouble) {
  constexpr int64_t kCount = 50'001;
  const std::vector<float> x = random_floats(kCount, 26);
  double expected = 0;
  for (const float value : x) expected += double{value} * double{value};
  std::vector<double> all;
  for (const Way& way : ways()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = way.threads, .isa = way.isa});
    const Memory memory(*backend, x);
    all.push_back(backend->squared_norm(memory.span(), kCount));
    EXPECT_EQ(all.back(), all.front()) << way.isa << ", " << way.threads << " threads";
  }
  EXPECT_NEAR(all.front(), expected, 1e-9 * expected);
}

TEST(Dropout, DropsThatShareAndStretchesTheRest) {
  constexpr int64_t kRows = 300, kCols = 101;
  const std::vector<float> x = random_floats(kRows * kCols, 27);
  const auto dropped = [&](uint32_t step, uint32_t stream) {
    return same_everywhere([&](Backend& backend) {
      const Matrix in(backend, kRows, kCols, 1, x), out(backend, kRows, kCols, 2);
      backend.dropout({in.activation(), {0.25f, 5, step, stream}, out.activation()});
      EXPECT_TRUE(out.gaps_untouched());
      return out.values();
    });
  };
  const std::vector<float> y = dropped(1, 2);
  int64_t zeros = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    if (y[i] == 0) {
      ++zeros;
    } else {
      EXPECT_EQ(y[i], x[i] * (1 / 0.75f));
    }
  }
  // 30,300 draws: the share's deviation is 0.0025.
  EXPECT_NEAR(static_cast<double>(zeros) / static_cast<double>(y.size()), 0.25, 0.01);
  EXPECT_EQ(dropped(1, 2), y);
  EXPECT_NE(dropped(2, 2), y);
  EXPECT_NE(dropped(1, 3), y);
  const std::unique_ptr<Backend> backend = make_cpu_backend({});
  const Matrix in(*backend, kRows, kCols, 0, x);
  EXPECT_THROW(backend->dropout({in.activation(), {1.0f, 5, 1, 1}, in.activation()}), Error);
}

TEST(PoolGradient, SharesOutWhatWasPooled) {
  constexpr int64_t kCols = 5;
  const std::vector<int32_t> lengths = {3, 0, 1, 4};
  const std::vector<float> x = random_floats(8 * kCols, 28), dy = random_floats(4 * kCols, 29);
  const std::vector<int32_t> offsets = offsets_of(lengths);
  for (const Pooling pooling : {Pooling::kMean, Pooling::kFirst, Pooling::kMeanSqrtLength}) {
    const std::vector<float> dx = same_everywhere([&](Backend& backend) {
      const Matrix d(backend, 4, kCols, 1, dy), out(backend, 8, kCols, 2);
      const Memory starts(backend, offsets);
      backend.pool_gradient({d.activation(), starts.span(), pooling, out.activation()});
      return out.values();
    });
    const Doubles expected = differences(
        [&](const Doubles& at) {
          Doubles y(4 * kCols);
          for (size_t b = 0; b < 4; ++b) {
            for (int64_t c = 0; c < kCols; ++c) {
              for (int32_t r = offsets[b]; r < offsets[b + 1]; ++r) {
                if (pooling != Pooling::kFirst || r == offsets[b]) y[b * kCols + c] += at[r * kCols + c];
              }
              if (pooling == Pooling::kMean && lengths[b] > 0) y[b * kCols + c] /= lengths[b];
              if (pooling == Pooling::kMeanSqrtLength && lengths[b] > 0) y[b * kCols + c] /= std::sqrt(lengths[b]);
            }
          }
          return y;
        },
        to_doubles(x), dy);
    EXPECT_TRUE(close(dx, expected, 1e-6)) << static_cast<int>(pooling);
  }
}

}  // namespace
}  // namespace octet::backend_cases

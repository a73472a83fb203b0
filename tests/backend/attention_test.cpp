// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

namespace octet::backend_cases {
namespace {

constexpr float kScale = 0.25f;

// q, k and v side by side, [rows, 3 · heads · head_width], as one product writes them.
std::vector<float> random_qkv(const AttentionCase& c, uint64_t seed) {
  const int64_t rows = std::accumulate(c.lengths.begin(), c.lengths.end(), int64_t{0});
  return random_floats(rows * 3 * c.heads * c.head_width, seed);
}

std::vector<float> run(const AttentionCase& c, std::span<const float> qkv, const std::string& isa, int threads,
                       int64_t gap) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  std::vector<int32_t> offsets = {0};
  for (const int32_t length : c.lengths) offsets.push_back(offsets.back() + length);
  const int64_t rows = offsets.back(), width = c.heads * c.head_width;
  const Matrix all(*backend, rows, 3 * width, gap, qkv);
  const Matrix y(*backend, rows, width, 2 * gap);
  const Memory offset_memory(*backend, offsets);
  const Activation activation = all.activation();
  backend->attention({.q = activation.columns(0, width),
                      .k = activation.columns(width, width),
                      .v = activation.columns(2 * width, width),
                      .y = y.activation(),
                      .heads = c.heads,
                      .head_width = c.head_width,
                      .scale = kScale,
                      .offsets = offset_memory.span(),
                      .sequences = static_cast<int64_t>(c.lengths.size()),
                      .longest = *std::ranges::max_element(c.lengths)});
  EXPECT_TRUE(y.gaps_untouched()) << c.what;
  return y.values();
}

// The case with sequences of at most `longest` rows.
AttentionCase shortened(AttentionCase c, int32_t longest) {
  for (int32_t& length : c.lengths) length = std::min(length, longest);
  return c;
}

TEST(Attention, EveryInstructionSetGivesTheBitsOfRefWithAnyThreads) {
  for (const AttentionCase& full : kAttentionCases) {
    const AttentionCase c = kSanitized ? shortened(full, 40) : shortened(full, 600);
    const std::vector<float> qkv = random_qkv(c, 1);
    const std::vector<float> expected = run(c, qkv, "ref", 1, 0);
    for (const std::string& isa : vector_isas()) {
      for (const int threads : {1, 2, 4}) {
        EXPECT_TRUE(same_bits(run(c, qkv, isa, threads, threads), expected))
            << c.what << " on " << isa << ", " << threads;
      }
    }
  }
}

TEST(Attention, EveryInstructionSetGivesTheBitsOfRefOnSmallShapes) {
  std::mt19937_64 engine(2);
  for (int i = 0; i < (kSanitized ? 20 : 200); ++i) {
    AttentionCase c{{}, 1 + static_cast<int64_t>(engine() % 3), 1 + static_cast<int64_t>(engine() % 40), "random"};
    for (uint64_t b = 0, count = 1 + engine() % 4; b < count; ++b)
      c.lengths.push_back(static_cast<int32_t>(engine() % 40));
    const std::vector<float> qkv = random_qkv(c, engine());
    const std::vector<float> expected = run(c, qkv, "ref", 1, 0);
    for (const std::string& isa : vector_isas()) {
      EXPECT_TRUE(same_bits(run(c, qkv, isa, 1, 3), expected))
          << isa << " " << testing::PrintToString(c.lengths) << " " << c.heads << "x" << c.head_width;
    }
  }
}

TEST(Attention, ASequenceInARaggedBatchGivesTheBitsItGivesAlone) {
  for (const std::string& isa : cpu_isas()) {
    const AttentionCase c{{7, 33, 0, 1, 64, 65}, 2, 16, "ragged"};
    const std::vector<float> qkv = random_qkv(c, 3);
    const std::vector<float> together = run(c, qkv, isa, 2, 0);
    const int64_t width = c.heads * c.head_width;
    int64_t first = 0;
    for (const int32_t length : c.lengths) {
      const AttentionCase alone{{length}, c.heads, c.head_width, "alone"};
      const std::span<const float> part = std::span(qkv).subspan(first * 3 * width, length * 3 * width);
      EXPECT_TRUE(same_bits(run(alone, part, isa, 1, 0), std::span(together).subspan(first * width, length * width)))
          << isa << " " << length;
      first += length;
    }
  }
}

TEST(Attention, RefIsSoftmaxAttentionInDouble) {
  const AttentionCase c{{19, 70}, 2, 24, "against double"};
  const std::vector<float> qkv = random_qkv(c, 4);
  const int64_t width = c.heads * c.head_width;
  std::vector<double> expected;
  int64_t first = 0;
  for (const int32_t length : c.lengths) {
    const auto at = [&](int64_t row, int64_t part, int64_t column) {
      return double{qkv[(first + row) * 3 * width + part * width + column]};
    };
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t column = 0; column < width; ++column) {
        const int64_t head = column / c.head_width * c.head_width;
        double sum = 0, weighted = 0;
        for (int64_t j = 0; j < length; ++j) {
          double score = 0;
          for (int64_t d = 0; d < c.head_width; ++d) score += at(i, 0, head + d) * at(j, 1, head + d);
          const double p = std::exp(score * kScale);
          sum += p;
          weighted += p * at(j, 2, column);
        }
        expected.push_back(weighted / sum);
      }
    }
    first += length;
  }
  EXPECT_TRUE(near(run(c, qkv, "ref", 1, 0), expected, [](size_t) { return 2e-6; }));
}

TEST(Attention, LargeScoresNeitherOverflowNorLoseTheWinner) {
  const AttentionCase c{{20}, 1, 8, "large"};
  std::vector<float> qkv = random_qkv(c, 5);
  for (int64_t i = 0; i < 20; ++i) {
    for (int64_t d = 0; d < 16; ++d) qkv[i * 24 + d] *= 1e4f;
  }
  const std::vector<float> expected = run(c, qkv, "ref", 1, 0);
  for (const float y : expected) ASSERT_TRUE(std::isfinite(y));
  for (const std::string& isa : vector_isas()) EXPECT_TRUE(same_bits(run(c, qkv, isa, 1, 0), expected)) << isa;
}

TEST(Attention, ANaNStaysInItsSequenceAndHead) {
  const AttentionCase c{{5, 6}, 2, 8, "NaN"};
  std::vector<float> qkv = random_qkv(c, 6);
  const std::vector<float> clean = run(c, qkv, "ref", 1, 0);
  qkv[2 * 48 + 16 + 3] = std::numeric_limits<float>::quiet_NaN();  // k of row 2, head 0
  const std::vector<float> expected = run(c, qkv, "ref", 1, 0);
  for (int64_t i = 0; i < 11 * 16; ++i) {
    const bool reached = i / 16 < 5 && i % 16 < 8;
    ASSERT_TRUE(reached ? std::isnan(expected[i]) : expected[i] == clean[i]) << i;
  }
  for (const std::string& isa : vector_isas()) EXPECT_TRUE(same_bits(run(c, qkv, isa, 1, 0), expected)) << isa;
}

TEST(Attention, OffsetsThatDoNotDescribeTheRowsAreErrors) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const Matrix x(*backend, 6, 8, 0), y(*backend, 6, 8, 0);
  const auto attend = [&](const std::vector<int32_t>& offsets, int64_t sequences) {
    const Memory memory(*backend, offsets);
    backend->attention({.q = x.activation(),
                        .k = x.activation(),
                        .v = x.activation(),
                        .y = y.activation(),
                        .heads = 2,
                        .head_width = 4,
                        .scale = 1,
                        .offsets = memory.span(),
                        .sequences = sequences,
                        .longest = 6});
  };
  EXPECT_NO_THROW(attend({0, 6}, 1));
  EXPECT_THROW(attend({0, 7}, 1), ShapeError);
  EXPECT_THROW(attend({1, 6}, 1), ShapeError);
  EXPECT_THROW(attend({0, 4, 2, 6}, 3), ShapeError);
  EXPECT_THROW(attend({0, 6}, 2), ShapeError);
}

}  // namespace
}  // namespace octet::backend_cases

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

std::vector<float> run(const AttentionCase& c, std::span<const float> qkv, const std::string& isa, int threads,
                       int64_t gap) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const std::vector<int32_t> offsets = offsets_of(c.lengths);
  const Matrix all(*backend, offsets.back(), columns_of(c), gap, qkv);
  const Matrix y(*backend, offsets.back(), c.heads * c.head_width, 2 * gap);
  const Memory offset_memory(*backend, offsets);
  backend->attention(op_of(c, all.activation(), y.activation(), offset_memory.span()));
  EXPECT_TRUE(y.gaps_untouched()) << c.what;
  return y.values();
}

// The same through a cache, each sequence's rows in pieces of at most `piece`: what comes out for all rows.
std::vector<float> run_cached(const AttentionCase& c, std::span<const float> qkv, const std::string& isa, int threads,
                              int32_t piece, DType dtype) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const int64_t columns = columns_of(c), width = c.heads * c.head_width, layer = 1;
  const int64_t block_bytes = backend->kv_bytes(dtype, c.key_heads(), c.head_width);
  std::vector<Memory> blocks;
  std::vector<std::byte*> addresses;
  std::vector<int32_t> first_block = {0};
  for (const int32_t length : c.lengths) {
    for (int32_t token = 0; token < length; token += kKvBlockTokens) {
      blocks.emplace_back(*backend, 2 * block_bytes);  // of two layers, of which the second is used
      addresses.push_back(blocks.back().span().address());
    }
    first_block.push_back(static_cast<int32_t>(addresses.size()));
  }
  std::vector<float> out(static_cast<size_t>(offsets_of(c.lengths).back() * width));
  const std::vector<int32_t> whole = offsets_of(c.lengths);
  for (int32_t done = 0; done < *std::ranges::max_element(c.lengths); done += piece) {
    AttentionCase step = c;
    std::vector<int32_t> past;
    std::vector<float> rows;
    for (size_t b = 0; b < c.lengths.size(); ++b) {
      past.push_back(std::min(done, c.lengths[b]));
      step.lengths[b] = std::min(piece, c.lengths[b] - past[b]);
      const auto from = qkv.begin() + (whole[b] + past[b]) * columns;
      rows.insert(rows.end(), from, from + step.lengths[b] * columns);
    }
    const std::vector<int32_t> offsets = offsets_of(step.lengths);
    const Matrix all(*backend, offsets.back(), columns, 0, rows), y(*backend, offsets.back(), width, 0);
    const Memory offset_memory(*backend, offsets), past_memory(*backend, past), first_memory(*backend, first_block),
        address_memory(*backend, addresses);
    AttentionOp op = op_of(step, all.activation(), y.activation(), offset_memory.span());
    op.cache = KvBlocks{.addresses = address_memory.span(),
                        .first_block = first_memory.span(),
                        .past = past_memory.span(),
                        .layer_bytes = layer * block_bytes,
                        .dtype = dtype};
    backend->attention(op);
    const std::vector<float> values = y.values();
    for (size_t b = 0; b < c.lengths.size(); ++b) {
      std::copy_n(values.begin() + offsets[b] * width, step.lengths[b] * width,
                  out.begin() + (whole[b] + past[b]) * width);
    }
  }
  return out;
}

// The case with sequences of at most `longest` rows.
AttentionCase shortened(AttentionCase c, int32_t longest) {
  for (int32_t& length : c.lengths) length = std::min(length, longest);
  return c;
}

TEST(Attention, EveryInstructionSetGivesTheBitsOfRefWithAnyThreads) {
  for (const AttentionCase& full : kAttentionCases) {
    for (const ActivationMode mode : kAttentionModes) {
      const AttentionCase c = in_mode(shortened(full, kSanitized ? 40 : 600), mode);
      const std::vector<float> qkv = random_qkv(c, 1);
      const std::vector<float> expected = run(c, qkv, "ref", 1, 0);
      for (const std::string& isa : vector_isas()) {
        for (const int threads : {1, 2, 3, 4}) {
          EXPECT_TRUE(same_bits(run(c, qkv, isa, threads, threads), expected))
              << c.what << ", " << name(mode) << " on " << isa << ", " << threads;
        }
      }
    }
  }
}

TEST(Attention, EveryInstructionSetGivesTheBitsOfRefOnSmallShapes) {
  std::mt19937_64 engine(2);
  for (int i = 0; i < (kSanitized ? 20 : 200); ++i) {
    AttentionCase c{{}, 1 + static_cast<int64_t>(engine() % 3), 1 + static_cast<int64_t>(engine() % 40), "random"};
    c.causal = engine() % 2 == 0;
    if (c.causal && engine() % 2 == 0) c.window = 1 + static_cast<int64_t>(engine() % 20);
    c.kv_heads = engine() % 2 == 0 ? 1 : c.heads;
    for (uint64_t b = 0, count = 1 + engine() % 4; b < count; ++b)
      c.lengths.push_back(static_cast<int32_t>(engine() % 40));
    const std::vector<float> qkv = random_qkv(c, engine());
    for (const ActivationMode mode : kAttentionModes) {
      c.activations = mode;
      const std::vector<float> expected = run(c, qkv, "ref", 1, 0);
      for (const std::string& isa : vector_isas()) {
        EXPECT_TRUE(same_bits(run(c, qkv, isa, 1, 3), expected))
            << isa << " " << name(mode) << testing::PrintToString(c.lengths) << " " << c.heads << "x" << c.head_width;
      }
    }
  }
}

TEST(Attention, ASequenceInARaggedBatchGivesTheBitsItGivesAlone) {
  for (const std::string& isa : cpu_isas()) {
    for (const ActivationMode mode : kAttentionModes) {
      const AttentionCase c = in_mode({{7, 33, 0, 1, 64, 65}, 2, 16, "ragged"}, mode);
      const std::vector<float> qkv = random_qkv(c, 3);
      const std::vector<float> together = run(c, qkv, isa, 2, 0);
      const int64_t width = c.heads * c.head_width;
      int64_t first = 0;
      for (const int32_t length : c.lengths) {
        AttentionCase alone = c;
        alone.lengths = {length};
        const std::span<const float> part = std::span(qkv).subspan(first * 3 * width, length * 3 * width);
        EXPECT_TRUE(same_bits(run(alone, part, isa, 1, 0), std::span(together).subspan(first * width, length * width)))
            << isa << " " << name(mode) << " " << length;
        first += length;
      }
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
          const double p = std::exp(score * kAttentionScale);
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

TEST(Attention, RefIsCausalAttentionOfGroupedQueriesInDouble) {
  for (const int64_t window : {0, 9}) {
    const AttentionCase c{{40}, 4, 12, "causal against double", 2, true, window};
    const std::vector<float> qkv = random_qkv(c, 8);
    const int64_t columns = columns_of(c), width = c.heads * c.head_width;
    std::vector<double> expected;
    for (int64_t i = 0; i < 40; ++i) {
      for (int64_t column = 0; column < width; ++column) {
        const int64_t head = column / c.head_width, kv = head / 2 * c.head_width, d_of = column % c.head_width;
        double sum = 0, weighted = 0;
        for (int64_t j = window == 0 ? 0 : std::max<int64_t>(0, i - window + 1); j <= i; ++j) {
          double score = 0;
          for (int64_t d = 0; d < c.head_width; ++d) {
            score += double{qkv[i * columns + head * c.head_width + d]} * qkv[j * columns + width + kv + d];
          }
          const double p = std::exp(score * kAttentionScale);
          sum += p;
          weighted += p * qkv[j * columns + width + 2 * c.head_width + kv + d_of];
        }
        expected.push_back(weighted / sum);
      }
    }
    EXPECT_TRUE(near(run(c, qkv, "ref", 1, 0), expected, [](size_t) { return 2e-6; })) << window;
  }
}

TEST(Attention, ThroughACacheInPiecesOfAnySizeTheBitsAreThoseWithoutOne) {
  for (const AttentionCase& full : kAttentionCases) {
    if (!full.causal) continue;
    for (const ActivationMode mode : kAttentionModes) {
      const AttentionCase c = in_mode(shortened(full, kSanitized ? 70 : 200), mode);
      const std::vector<float> qkv = random_qkv(c, 9);
      const std::vector<float> expected = run(c, qkv, "ref", 1, 0);
      const DType dtype = mode == ActivationMode::kFloat ? DType::kF32 : DType::kI8;
      for (const std::string& isa : cpu_isas()) {
        for (const int32_t piece : {1, 7, 64, 200}) {
          EXPECT_TRUE(same_bits(run_cached(c, qkv, isa, 2, piece, dtype), expected))
              << c.what << ", " << name(mode) << " on " << isa << " in pieces of " << piece;
        }
      }
    }
  }
}

TEST(Attention, OfHeadsThatLieApartTheBitsAreThoseOfHeadsTogether) {
  std::mt19937_64 engine(12);
  for (const int64_t width : {1, 7, 16, 40}) {
    for (const ActivationMode mode : kAttentionModes) {
      const AttentionCase together = in_mode({{70, 1, 9}, 3, width, "head by head", 0, true}, mode);
      AttentionCase apart = together;
      apart.head_by_head = true;
      const std::vector<float> qkv = random_qkv(together, engine());
      std::vector<float> rearranged(qkv.size());
      for (size_t i = 0; i < qkv.size(); ++i) {
        const int64_t columns = columns_of(together), at = static_cast<int64_t>(i);
        const int64_t part = at % columns / (3 * width), head = at % columns / width % 3;
        rearranged[at / columns * columns + (head * 3 + part) * width + at % width] = qkv[i];
      }
      const std::vector<float> expected = run(together, qkv, "ref", 1, 0);
      std::vector<DType> caches = {DType::kI8};
      if (mode == ActivationMode::kFloat) caches = {DType::kF32, DType::kF16};
      for (const std::string& isa : cpu_isas()) {
        EXPECT_TRUE(same_bits(run(apart, rearranged, isa, 2, 5), expected)) << isa << " " << name(mode) << " " << width;
        for (const DType dtype : caches) {
          EXPECT_TRUE(
              same_bits(run_cached(apart, rearranged, isa, 2, 20, dtype), run_cached(together, qkv, isa, 1, 20, dtype)))
              << isa << " " << octet::name(dtype) << " " << width;
        }
      }
    }
  }
}

TEST(Attention, ThroughAnFp16CacheTheBitsAreThoseOfRoundedKeysAndValues) {
  const AttentionCase c{{150, 3}, 4, 20, "fp16", 2, true, 0};
  const std::vector<float> qkv = random_qkv(c, 10);
  std::vector<float> rounded = qkv;
  for (size_t i = 0; i < rounded.size(); ++i) {
    if (static_cast<int64_t>(i) % columns_of(c) >= c.heads * c.head_width) rounded[i] = to_float(to_half(qkv[i]));
  }
  const std::vector<float> expected = run(c, rounded, "ref", 1, 0);
  for (const std::string& isa : cpu_isas()) {
    for (const int32_t piece : {1, 50, 150}) {
      EXPECT_TRUE(same_bits(run_cached(c, qkv, isa, 2, piece, DType::kF16), expected)) << isa << " " << piece;
    }
  }
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
                        .kv_heads = 2,
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

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "octet/models/session.h"
#include "octet/tensor/npy.h"

namespace octet {

inline std::filesystem::path golden(const std::string& name) { return std::filesystem::path(OCTET_GOLDEN) / name; }

/// The token ids, mask and, where there are any, types of a case, as a batch.
inline TokenBatch golden_batch(const std::filesystem::path& folder, const std::string& name) {
  const auto file = [&](const char* what) { return folder / (name + "." + what + ".npy"); };
  const Tensor ids = read_npy(file("input_ids")), mask = read_npy(file("attention_mask"));
  if (!std::filesystem::exists(file("token_type_ids"))) return TokenBatch::from_matrix(ids, &mask, nullptr);
  const Tensor types = read_npy(file("token_type_ids"));
  return TokenBatch::from_matrix(ids, &mask, &types);
}

/// w8a8_dynamic with static attention, by scales that clip little of what golden models make.
inline Recipe static_attention(const std::filesystem::path& model) {
  std::string scales;
  for (const AttentionSite& attention : load_model(Checkpoint::open(model), nullptr)->attention_sites()) {
    for (const char* operand : {"q", "k", "v"}) {
      scales += fmt::format("{}\"{}\": 0.03", scales.empty() ? "" : ", ", attention_operand(attention.site, operand));
    }
  }
  const std::vector<std::string> settings = {R"(attention={"bits": 8, "mode": "static"})",
                                             "activation_scales={" + scales + "}"};
  return Recipe::load("w8a8_dynamic", settings);
}

/// The largest difference as a share of the golden's range, over the kept rows of [batch, seq, …] where `per_token`.
inline double error_share(const Tensor& rows, const Tensor& golden, const TokenBatch& batch, bool per_token) {
  const int64_t columns = rows.shape()[1], seq = golden.shape()[1];
  const auto want = golden.as<float>(), got = rows.as<float>();
  double largest = 0, low = INFINITY, high = -INFINITY;
  for (int64_t r = 0, b = 0; r < rows.shape()[0]; ++r) {
    while (per_token && r >= batch.offsets[b + 1]) ++b;
    const int64_t place = per_token ? b * seq + batch.positions[r] : r;
    for (int64_t c = 0; c < columns; ++c) {
      const double value = want[place * columns + c];
      largest = std::max(largest, std::abs(value - got[r * columns + c]));
      low = std::min(low, value), high = std::max(high, value);
    }
  }
  return largest / (high - low);
}

/// The folder of real models and data that tests may use, or skips the test.
#define OCTET_SHARED_DATA_OR_SKIP(variable)                                                              \
  const char* const variable##_text = std::getenv("OCTET_SHARED_DATA");                                  \
  if (variable##_text == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set: no real model to test"; \
  const std::filesystem::path variable = variable##_text

}  // namespace octet

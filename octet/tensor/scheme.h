// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace octet {

/// How a weight [out, in] is quantized: symmetric codes with one scale an output channel.
struct WeightScheme {
  int bits = 8;

  friend bool operator==(const WeightScheme&, const WeightScheme&) = default;
};

/// What a product with a quantized weight reads on its other side.
enum class ActivationMode : uint8_t {
  kFloat,            ///< activations stay fp32; each code is widened ("A16" in recipe names)
  kDynamicPerToken,  ///< INT8 with one scale a row (token), found in the row when it is met
};

/// What a recipe does to a layer, and what a checkpoint records of it.
struct Scheme {
  WeightScheme weight;
  ActivationMode activations = ActivationMode::kFloat;

  friend bool operator==(const Scheme&, const Scheme&) = default;
};

/// "int8 weights per channel, float activations"
std::string to_string(const Scheme& scheme);

}  // namespace octet

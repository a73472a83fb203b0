// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "octet/models/transformer.h"

/// Heads that encoders of several architectures end in; their linear layers stay float.
namespace octet {

/// A linear layer and what follows it, by name.
struct HeadLayer {
  std::string name;
  int64_t outputs = 0;
  Nonlinearity nonlinearity = Nonlinearity::kNone;
};

/// One row of logits a sequence: classifier · nonlinearity(inner · x[first token]). How many labels there are is what
/// the classifier's weight says: config.json's label maps are often left out.
Transformer::HeadPlan sequence_head(const WeightSource& source, const HeadLayer& inner, const std::string& classifier,
                                    int64_t width);

/// One row of `outputs` numbers a token: layer · x, or layer · nonlinearity(inner · x).
Transformer::HeadPlan token_head(const WeightSource& source, const std::string& layer, int64_t outputs, int64_t width,
                                 const std::optional<HeadLayer>& inner = std::nullopt);

/// logits = E · norm(nonlinearity(inner · x)) + b, a row a token, E being the words' table unless config.json unties
/// them and the file has another.
Transformer::HeadPlan masked_lm_head(const WeightSource& source, const HeadLayer& inner, int64_t width,
                                     Normalization norm, const std::string& decoder, const std::string& bias);

}  // namespace octet

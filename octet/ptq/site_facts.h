// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "octet/models/model.h"
#include "octet/ptq/model_facts.h"
#include "octet/quant/range_estimator.h"

namespace octet {

/// The range that the codes of a static scale cover.
StaticFacts static_range(ActivationMode mode, const ActivationScale& scale);

/// What the sites of a float model, the inputs of its linear layers and, where asked for, the queries, keys and values
/// of its attention, were like on a sample of text, and what static scales would do to it.
class SiteObservation {
 public:
  enum class Attention : uint8_t { kLeftOut, kWatched };

  /// Runs `samples` through `model`, of which nothing is laid out yet, block by block. Throws as BlockStream does.
  SiteObservation(Model& model, Backend& backend, const TokenBatch& samples, Attention attention = Attention::kLeftOut,
                  const std::function<void(int64_t samples)>& advance = {});

  /// In the order of the forward pass, with histograms.
  std::vector<SiteFacts> facts() const;
  /// Of the sites that `model`, which must have the same, gives a static scale: what that does to the values seen.
  std::vector<SiteFacts> static_facts(const Model& model) const;

 private:
  void add_static(std::vector<SiteFacts>& out, std::string_view name, ActivationMode mode,
                  const ActivationScale& scale) const;

  std::vector<ActivationRangeEstimator> estimators_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "octet/models/model.h"
#include "octet/ptq/layer_output_error.h"

namespace octet {

/// What a search for SmoothQuant's alpha found for one fold pair.
struct AlphaChoice {
  struct Tried {
    double alpha, error;
  };

  std::optional<double> alpha;  ///< none: no factors do better than any
  std::vector<float> factors;   ///< [columns]; all 1 without alpha
  double error = 0;             ///< of the layers' outputs, see LayerOutputError
  double error_without = 0;     ///< the same with no factors
  std::vector<Tried> tried;
};

/// 0, 0.05, … 1.
std::span<const double> alpha_grid() noexcept;

/// The alpha of `grid` whose factors (smoothquant_factors, of the sample's absmax) leave the least error in the outputs
/// of the pair's layers, their weights and their input both quantized; of equal errors the smallest alpha, and none
/// where that is no better than no factors. (SmoothQuant, section 4, searches one alpha for a whole model; a pair at a
/// time is what its users do.) Static activations get the scale of the columns' ranges, divided by the factors, which
/// is min-max; dynamic ones a scale a row. `error` has the layers in pair.into; throws as smoothquant_factors does.
AlphaChoice search_alpha(const LayerOutputError& error, const FoldPair& pair,
                         std::span<const double> grid = alpha_grid());

}  // namespace octet

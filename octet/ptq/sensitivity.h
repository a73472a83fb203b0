// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/io/checkpoint.h"
#include "octet/models/model.h"
#include "octet/ptq/output_comparison.h"
#include "octet/quant/recipe.h"

namespace octet {

/// Which layers change together.
enum class SensitivityUnit : uint8_t {
  kLayer,
  kSite,   ///< layers that read one input and run as one product: query, key and value
  kBlock,  ///< all of a block
};

struct SensitivityOptions {
  SensitivityUnit per = SensitivityUnit::kLayer;
  /// Every divergence is measured by running the rest of the network. Else that is done for whole blocks only, and a
  /// layer's share of its block's divergence is taken to be that of the squared error that it alone causes in the
  /// hidden states after the block:
  ///
  ///   D(layer) = |Δh(layer)|² · D(block) / |Δh(block)|²
  ///
  /// With B blocks of n units and s schemes this runs s·B·(B/2 + n) blocks in place of s·B·n·B/2.
  bool exact = false;
  /// What the float network's inputs are like, for algorithms that read that (GPTQ). It need not be what models are
  /// compared on, and had better not be.
  const TokenBatch* calibration = nullptr;
  CpuBackendOptions cpu = {};
  std::function<void(int64_t done, int64_t total)> advance = {};  ///< in runs of a block over the sample
};

/// What one scheme does to a layer, or to several at once, all else being float.
struct Sensitivity {
  std::string unit;                 ///< a layer's or site's name, or "model.layers.7.*" of a block
  std::vector<std::string> layers;  ///< that change
  std::string scheme;               ///< the recipe's name
  double weight_error = 0;          ///< ‖W - Q‖ / ‖W‖, of all weights together
  /// ‖y - ŷ‖ / ‖y‖ over the sample, y being the layers' products without biases, or the hidden states after a block.
  /// NaN where the model does not run them.
  double output_error = 0;
  Divergence divergence;  ///< of the model's outputs
  bool estimated = false;
};

struct SensitivityReport {
  OutputMeasure measure = OutputMeasure::kDistributions;
  int64_t tokens = 0, rows = 0;      ///< of the sample; that were compared
  std::vector<Sensitivity> entries;  ///< in the order of the forward pass, schemes in the order of the recipes
};

/// Tries the scheme that each recipe has for a layer on that layer alone. Hidden states before a block are computed
/// once; a candidate changes products inside its block, from where the rest of the float network runs. Weights are
/// quantized by the recipe's algorithm, which reads what the float network gives the layer. Fills the reference of
/// `comparison` with the float model's outputs. Holds the float model, the weights of a block in one scheme, and, for
/// algorithms that calibrate, a block's statistics and the hidden states of all calibration samples.
///
/// Throws UsageError for a checkpoint that is quantized already, for recipes that check_is_layer_scheme refuses, and
/// where an algorithm wants calibration that there is none of; NumericError where a candidate makes NaN or infinity.
SensitivityReport measure_sensitivity(const Checkpoint& checkpoint, std::span<const Recipe> schemes,
                                      OutputComparison& comparison, const SensitivityOptions& options = {});

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/weight_quantizer.h"

#include <algorithm>
#include <limits>

#include "octet/base/error.h"
#include "octet/base/finite.h"
#include "octet/base/parallel.h"
#include "octet/ptq/gptq.h"
#include "octet/ptq/hessian_scales.h"
#include "octet/ptq/hqq.h"
#include "octet/ptq/output_error.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

const char* name_of(WeightAlgorithm algorithm) {
  switch (algorithm) {
    case WeightAlgorithm::kRoundToNearest:
      return "rounding to nearest";
    case WeightAlgorithm::kGptq:
      return "GPTQ";
    case WeightAlgorithm::kHessianScales:
      return "the search for scales by Hessian";
    case WeightAlgorithm::kHqq:
      return "HQQ";
    case WeightAlgorithm::kAdaRound:
      return "AdaRound";
    case WeightAlgorithm::kSignRound:
      return "SignRound";
  }
  return "";
}

void check_finite(std::span<const float> weight, int64_t cols, const std::string& what) {
  if (const auto bad = first_not_finite(weight))
    fail<NumericError>("{}: output channel {} holds {}", what, *bad / cols, weight[static_cast<size_t>(*bad)]);
}

// Zeros in their place, which every grid has: they change neither a range nor an error.
void clear_outliers(std::span<float> weight, int64_t cols, std::span<const int32_t> outliers) {
  for (size_t row = 0; row < weight.size(); row += static_cast<size_t>(cols)) {
    for (const int32_t column : outliers) weight[row + static_cast<size_t>(column)] = 0;
  }
}

void check_outliers(const WeightScheme& scheme, const WeightAlgorithmOptions& options,
                    const InputStatistics* statistics, std::span<const int32_t> outliers, const std::string& what) {
  if (outliers.empty()) return;
  if (scheme.mapping == CodeMapping::kMinimum && needs_statistics(options.algorithm)) {
    fail<UsageError>("{}: {} knows no outliers beside minima, whose grids have no 0", what, name_of(options.algorithm));
  }
  if (statistics == nullptr) return;
  for (const int32_t column : outliers) {
    if (statistics->absmax()[static_cast<size_t>(column)] != 0)
      fail<UsageError>("{}: the outlier column {} is not left out of the statistics", what, column);
  }
}

}  // namespace

WeightScheme resulting_scheme(const WeightScheme& scheme, const WeightAlgorithmOptions& options) {
  WeightScheme out = scheme;
  out.reordered = options.algorithm == WeightAlgorithm::kGptq && options.act_order && !options.static_groups &&
                  scheme.group_size != 0;
  return out;
}

QuantizedWeight quantize_weight(ConstTensorView weight, const WeightScheme& asked,
                                const WeightAlgorithmOptions& options, const InputStatistics* statistics,
                                const std::string& what, int threads, std::span<const int32_t> outliers) {
  if (weight.shape.rank() != 2) {
    fail<ShapeError>("{}: shape {}; a weight has two dimensions", what, to_string(weight.shape));
  }
  const int64_t rows = weight.shape[0], cols = weight.shape[1];
  WeightScheme scheme = asked;
  scheme.reordered = false;  // the algorithm's to say
  scheme.outliers = false;   // set in the end
  check(scheme, cols, what);
  check_outlier_columns(outliers, cols, what);
  if (learns_rounding(options.algorithm)) {
    fail<UsageError>("{}: {} learns the rounding of whole blocks, by octet quantize with --data", what,
                     name_of(options.algorithm));
  }
  if (statistics == nullptr && needs_statistics(options.algorithm)) {
    fail<UsageError>("{}: {} needs calibration, and there is none: give it text with --data", what,
                     name_of(options.algorithm));
  }
  if (statistics != nullptr && statistics->inputs() != cols) {
    fail<ShapeError>("{}: statistics of {} inputs for a weight of {}", what, statistics->inputs(), cols);
  }
  if (statistics != nullptr && statistics->rows() == 0) {
    fail<UsageError>("{}: its calibration has no rows: no text reached this layer", what);
  }
  if (threads == 0) threads = available_threads();
  check_outliers(scheme, options, statistics, outliers, what);
  Tensor values = to_f32(weight);
  const std::span<const float> floats = values.as<float>();
  check_finite(floats, cols, what);
  const bool clears = !outliers.empty() && options.algorithm != WeightAlgorithm::kRoundToNearest;
  if (clears) clear_outliers(values.mutable_as<float>(), cols, outliers);

  const auto quantized = [&]() -> QuantizedWeight {
    switch (options.algorithm) {
      case WeightAlgorithm::kGptq:
        return gptq(floats, rows, scheme, options, *statistics, std::ssize(outliers), what, threads);
      case WeightAlgorithm::kHessianScales:
        return hessian_scales(floats, rows, scheme, *statistics, threads);
      case WeightAlgorithm::kHqq:
        return hqq(floats, rows, cols, scheme, outliers, threads);
      case WeightAlgorithm::kAdaRound:
      case WeightAlgorithm::kSignRound:
      case WeightAlgorithm::kRoundToNearest:
        break;
    }
    scheme.outliers = !outliers.empty();
    return {.tensor = quantize_weight(weight, scheme, what, threads, outliers)};
  };
  QuantizedWeight out = quantized();
  if (clears) set_outliers(out.tensor, outliers, weight, what);
  out.output_error = statistics == nullptr ? std::numeric_limits<double>::quiet_NaN()
                                           : output_error(values.view(), out.tensor, *statistics, threads);
  return out;
}

}  // namespace octet

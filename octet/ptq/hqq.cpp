// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/hqq.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "octet/base/exp.h"
#include "octet/base/log.h"
#include "octet/base/parallel.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

constexpr double kNorm = 0.7;
constexpr double kFirstBeta = 10, kBetaGrowth = 1.01;
constexpr int kTurns = 20;
// Far below every error that a float can have; the logarithm wants normal numbers.
constexpr double kSmallestError = 1e-300;

double shrink(double x, double beta) {
  const double magnitude = std::fabs(x);
  if (magnitude < kSmallestError) return 0;
  // |x|^(1 - p), as 1 / |x|^(p - 1) where it is above 1.
  const double exponent = (1 - kNorm) * log_of_positive(magnitude);
  const double power = exponent <= 0 ? exp_of_nonpositive(exponent) : 1 / exp_of_nonpositive(-exponent);
  return std::copysign(std::max(0.0, magnitude - 1 / (beta * power)), x);
}

class Group {
 public:
  Group(std::span<const float> values, const WeightScheme& scheme)
      : values_(values), scheme_(scheme), codes_(values.size()), targets_(values.size()) {}

  GroupGrid minimize() {
    GroupGrid grid = find_group_grid(values_, scheme_), best = grid;
    double least = encode(grid), beta = kFirstBeta;
    for (int turn = 0; turn < kTurns && least > 0; ++turn, beta *= kBetaGrowth) {
      for (size_t i = 0; i < values_.size(); ++i) {
        targets_[i] = values_[i] - shrink(values_[i] - decode(codes_[i], grid), beta);
      }
      grid = fitted(grid);
      const double error = encode(grid);
      if (!(error < least)) break;
      least = error;
      best = grid;
    }
    return best;
  }

 private:
  // Makes the codes; returns Σ |W - decode(Q)|.
  double encode(const GroupGrid& grid) {
    encode_group(values_, grid, scheme_, codes_);
    double sum = 0;
    for (size_t i = 0; i < values_.size(); ++i) sum += std::fabs(values_[i] - decode(codes_[i], grid));
    return sum;
  }

  GroupGrid fitted(GroupGrid grid) const {
    if (scheme_.mapping != CodeMapping::kMinimum) {
      double across = 0, square = 0;
      for (size_t i = 0; i < values_.size(); ++i) {
        const double steps = codes_[i] - grid.zero_point;
        across += targets_[i] * steps;
        square += steps * steps;
      }
      const auto scale = static_cast<float>(across / square);
      // Not where all codes are 0, nor where what is left turns the group around.
      if (std::isfinite(scale) && scale >= kSmallestScale) grid.scale = scale;
    }
    if (scheme_.mapping == CodeMapping::kSymmetric) return grid;
    double sum = 0;
    for (size_t i = 0; i < values_.size(); ++i) sum += targets_[i] - double{grid.scale} * codes_[i];
    const double minimum = sum / static_cast<double>(values_.size());
    if (scheme_.mapping == CodeMapping::kMinimum) {
      grid.minimum = static_cast<float>(minimum);
    } else {
      const CodeRange codes = code_range(scheme_);
      const double lowest = codes.lowest, highest = codes.highest;
      grid.zero_point = static_cast<int8_t>(std::clamp(std::nearbyint(-minimum / grid.scale), lowest, highest));
    }
    return grid;
  }

  std::span<const float> values_;
  const WeightScheme& scheme_;
  std::vector<int8_t> codes_;
  std::vector<double> targets_;  // W - E
};

}  // namespace

QuantizedWeight hqq(std::span<const float> weight, int64_t rows, int64_t cols, const WeightScheme& scheme,
                    std::span<const int32_t> outliers, int threads) {
  QuantizedWeight out{.tensor = make_qtensor(scheme, rows, cols)};
  const int64_t width = scheme.group_size == 0 ? cols : scheme.group_size;
  parallel_for(threads, rows, [&](int64_t row, int) {
    for (int64_t g = 0; g < out.tensor.groups(); ++g) {
      const auto values = weight.subspan(row * cols + g * width, width);
      const GroupGrid grid = outliers.empty() ? Group(values, scheme).minimize()
                                              : Group(without_outliers(values, g * width, outliers), scheme).minimize();
      set_group_grid(out.tensor, row, g, grid);
      encode_group(values, grid, scheme, out.tensor.codes.mutable_as<int8_t>().subspan(row * cols + g * width, width));
    }
  });
  return out;
}

}  // namespace octet

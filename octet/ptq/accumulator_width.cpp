// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/accumulator_width.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <numeric>

#include "octet/base/error.h"
#include "octet/base/parallel.h"

namespace octet {
namespace {

using Widths = std::array<int64_t, kWidestAccumulator + 1>;

// The steps of a weight's codes and the order in which they are added: group by group, columns ascending within one.
class WeightSteps {
 public:
  explicit WeightSteps(const QTensor& weight)
      : codes_(weight.codes.as<int8_t>()), inputs_(weight.cols()), groups_(weight.groups()) {
    if (weight.zero_points.bytes() != 0) zero_points_ = weight.zero_points.as<int8_t>();
    order_.resize(static_cast<size_t>(inputs_));
    std::iota(order_.begin(), order_.end(), int64_t{0});
    if (weight.group_index.bytes() != 0) {
      const std::span<const int32_t> group = weight.group_index.as<int32_t>();
      std::ranges::stable_sort(order_, {}, [group](int64_t column) { return group[static_cast<size_t>(column)]; });
    }
  }

  int64_t inputs() const noexcept { return inputs_; }
  int64_t groups() const noexcept { return groups_; }
  int64_t sum_length() const noexcept { return inputs_ / groups_; }
  /// The column that is added k-th.
  int64_t column(int64_t k) const noexcept { return order_[static_cast<size_t>(k)]; }
  int step(int64_t output, int64_t k) const noexcept {
    const int zero_point =
        zero_points_.empty() ? 0 : zero_points_[static_cast<size_t>(output * groups_ + k / sum_length())];
    return codes_[static_cast<size_t>(output * inputs_ + column(k))] - zero_point;
  }

 private:
  std::span<const int8_t> codes_, zero_points_;
  int64_t inputs_, groups_;
  std::vector<int64_t> order_;
};

int width_of(int64_t lowest, int64_t highest) noexcept { return std::max(signed_width(lowest), signed_width(highest)); }

// The largest magnitude of a weight's step.
int largest_step(const WeightScheme& scheme) noexcept {
  const auto [lowest, highest] = code_range(scheme);
  if (scheme.mapping != CodeMapping::kSymmetric) return highest - lowest;
  return scheme.bits == 8 ? highest : -lowest;
}

double share_above(const Widths& widths, int width, int64_t sums) noexcept {
  const int64_t above = std::accumulate(widths.begin() + width + 1, widths.end(), int64_t{0});
  return sums == 0 ? 0.0 : static_cast<double>(above) / static_cast<double>(sums);
}

// Outputs whose sums run side by side, so that the loop over them vectorizes.
constexpr int64_t kLanes = 16;

struct Sums {
  std::array<int32_t, kLanes> sum{}, lowest{}, highest{};
};

// The sums of `length` products: weights [length][kLanes], steps [length].
Sums add_products(const int16_t* weights, const int16_t* steps, int64_t length) noexcept {
  Sums sums;
  for (int64_t k = 0; k < length; ++k) {
    const int32_t step = steps[k];
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const int32_t sum = sums.sum[lane] + step * weights[k * kLanes + static_cast<int64_t>(lane)];
      sums.sum[lane] = sum;
      sums.lowest[lane] = std::min(sums.lowest[lane], sum);
      sums.highest[lane] = std::max(sums.highest[lane], sum);
    }
  }
  return sums;
}

}  // namespace

StepRange::StepRange(ActivationMode mode, const ActivationScale& scale) noexcept {
  if (!is_static(mode)) return;
  const CodeRange codes = code_range(mode, scale);
  lowest = codes.lowest;
  highest = codes.highest;
}

int signed_width(int64_t value) noexcept {
  return static_cast<int>(std::bit_width(static_cast<uint64_t>(value < 0 ? ~value : value))) + 1;
}

double AccumulatorUse::wrapped_share(int width) const noexcept { return share_above(result_widths, width, sums); }

double AccumulatorUse::saturated_share(int width) const noexcept { return share_above(partial_widths, width, sums); }

int AccumulatorUse::widest() const noexcept {
  int widest = kWidestAccumulator;
  while (widest > 0 && partial_widths[static_cast<size_t>(widest)] == 0) --widest;
  return widest;
}

void bound_accumulators(const QTensor& weight, int64_t first, int64_t outputs, StepRange activations,
                        AccumulatorUse& use) {
  const WeightSteps steps(weight);
  use.inputs = steps.inputs();
  use.sum_length = steps.sum_length();
  const int64_t any = use.sum_length * largest_step(weight.scheme) * std::max(-activations.lowest, activations.highest);
  use.data_type_width = width_of(-any, any);
  use.guaranteed_width = 1;
  for (int64_t output = first; output < first + outputs; ++output) {
    for (int64_t group = 0; group < steps.groups(); ++group) {
      int64_t positive = 0, negative = 0;
      for (int64_t k = group * use.sum_length; k < (group + 1) * use.sum_length; ++k) {
        const int step = steps.step(output, k);
        (step > 0 ? positive : negative) += std::abs(step);
      }
      const int64_t lowest = positive * activations.lowest - negative * activations.highest;
      const int64_t highest = positive * activations.highest - negative * activations.lowest;
      use.guaranteed_width = std::max(use.guaranteed_width, width_of(lowest, highest));
    }
  }
}

void simulate_accumulators(const QTensor& weight, int64_t first, int64_t outputs, std::span<const int16_t> steps,
                           AccumulatorUse& use, int threads) {
  const WeightSteps of_weight(weight);
  const int64_t inputs = of_weight.inputs(), length = of_weight.sum_length(), groups = of_weight.groups();
  // Sums of products of bytes stay in 32 bits: 255 · 127 · 66,311 < 2^31, and 255 · 255 · 33,025 with zero points on
  // both sides.
  const int64_t longest = weight.scheme.bits == 8 && weight.scheme.mapping == CodeMapping::kZeroPoint ? 33'025 : 66'311;
  if (length > longest) {
    fail<ShapeError>("layer '{}': sums of {} products; up to {} are simulated", use.layer, length, longest);
  }
  if (std::ssize(steps) % inputs != 0 || first < 0 || outputs < 0 || first + outputs > weight.rows()) {
    fail<ShapeError>("layer '{}': {} activations for outputs {} to {} of a weight of shape {}", use.layer, steps.size(),
                     first, first + outputs, to_string(weight.codes.shape()));
  }
  const int64_t rows = std::ssize(steps) / inputs;
  std::vector<int16_t> in_order(steps.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < inputs; ++k) {
      in_order[static_cast<size_t>(row * inputs + k)] = steps[static_cast<size_t>(row * inputs + of_weight.column(k))];
    }
  }
  struct Counts {
    Widths results{}, partials{};
  };
  std::vector<Counts> counts(static_cast<size_t>(threads));
  parallel_for(threads, (outputs + kLanes - 1) / kLanes, [&](int64_t task, int worker) {
    const int64_t begin = first + task * kLanes, lanes = std::min(kLanes, first + outputs - begin);
    std::vector<int16_t> weights(static_cast<size_t>(inputs * kLanes), 0);
    for (int64_t k = 0; k < inputs; ++k) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        weights[static_cast<size_t>(k * kLanes + lane)] = static_cast<int16_t>(of_weight.step(begin + lane, k));
      }
    }
    Counts& found = counts[static_cast<size_t>(worker)];
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t group = 0; group < groups; ++group) {
        const Sums sums = add_products(weights.data() + group * length * kLanes,
                                       in_order.data() + row * inputs + group * length, length);
        for (size_t lane = 0; std::cmp_less(lane, lanes); ++lane) {
          ++found.results[static_cast<size_t>(signed_width(sums.sum[lane]))];
          ++found.partials[static_cast<size_t>(width_of(sums.lowest[lane], sums.highest[lane]))];
        }
      }
    }
  });
  for (const Counts& found : counts) {
    for (size_t width = 0; width < found.results.size(); ++width) {
      use.result_widths[width] += found.results[width];
      use.partial_widths[width] += found.partials[width];
    }
  }
  use.sums += rows * outputs * groups;
}

}  // namespace octet

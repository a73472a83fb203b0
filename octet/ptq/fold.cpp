// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/fold.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/log.h"

namespace octet {
namespace {

constexpr double kSmallestFactor = 1e-5, kLargestFactor = 1e5;

double exp_of(double x) noexcept { return x <= 0 ? exp_of_nonpositive(x) : 1 / exp_of_nonpositive(-x); }

// As many as `from` has for `columns` columns of `into`.
int64_t channels_of(const FoldPair& pair, int64_t columns) {
  if (pair.heads_per_value == 1) return columns;
  if (pair.head_width < 1 || pair.heads_per_value < 1 || columns % (pair.head_width * pair.heads_per_value) != 0) {
    fail<ShapeError>("'{}': {} columns are not {} heads of {} for each head of values", pair.from, columns,
                     pair.heads_per_value, pair.head_width);
  }
  return columns / pair.heads_per_value;
}

float checked_magnitude(float value, const std::string& what, int64_t column) {
  if (!std::isfinite(value))
    fail<NumericError>("'{}': column {} holds {}; no factor evens that out", what, column, value);
  return std::abs(value);
}

void check_factor(float factor, const FoldPair& pair, int64_t column) {
  if (std::isfinite(factor) && factor > 0) return;
  fail<NumericError>("'{}': the factor of column {} is {}; positive, finite ones can be folded", pair.from, column,
                     factor);
}

}  // namespace

std::vector<float> smoothquant_factors(std::span<const float> activation_absmax, std::span<const ConstTensorView> into,
                                       double alpha, const FoldPair& pair) {
  if (!(alpha >= 0 && alpha <= 1)) fail<UsageError>("'{}': alpha is {}; from 0 to 1 it may be", pair.from, alpha);
  const int64_t columns = std::ssize(activation_absmax);
  const auto channels = static_cast<size_t>(channels_of(pair, columns));
  std::vector<float> activations(channels, 0.0f), weights(channels, 0.0f);
  const auto raise = [](float& largest, float by) { largest = std::max(largest, by); };
  for (int64_t column = 0; column < columns; ++column) {
    raise(activations[static_cast<size_t>(pair.channel(column))],
          checked_magnitude(activation_absmax[static_cast<size_t>(column)], pair.from, column));
  }
  std::vector<float> row(static_cast<size_t>(columns));
  for (const ConstTensorView& weight : into) {
    if (weight.shape.rank() != 2 || weight.shape[1] != columns) {
      fail<ShapeError>("'{}': a weight of shape {} does not read {} columns", pair.from, to_string(weight.shape),
                       columns);
    }
    for (int64_t output = 0; output < weight.shape[0]; ++output) {
      read_f32(weight, output * columns, row);
      for (int64_t column = 0; column < columns; ++column) {
        raise(weights[static_cast<size_t>(pair.channel(column))],
              checked_magnitude(row[static_cast<size_t>(column)], pair.from, column));
      }
    }
  }
  std::vector<float> factors(static_cast<size_t>(columns));
  for (int64_t column = 0; column < columns; ++column) {
    const auto channel = static_cast<size_t>(pair.channel(column));
    const double a = activations[channel], w = weights[channel];
    float& factor = factors[static_cast<size_t>(column)] = 1;
    if (a == 0 || w == 0) continue;
    const double logarithm = alpha * log_of_positive(a) - (1 - alpha) * log_of_positive(w);
    factor = static_cast<float>(std::clamp(exp_of(logarithm), kSmallestFactor, kLargestFactor));
  }
  return factors;
}

std::vector<float> tied_factors(std::vector<float> factors, const FoldPair& pair) {
  const auto columns = std::ssize(factors);
  const int64_t channels = channels_of(pair, columns);
  if (channels == columns) return factors;
  std::vector<double> logarithms(static_cast<size_t>(channels), 0.0);
  for (int64_t column = 0; column < columns; ++column) {
    const float factor = factors[static_cast<size_t>(column)];
    check_factor(factor, pair, column);
    logarithms[static_cast<size_t>(pair.channel(column))] += log_of_positive(static_cast<double>(factor));
  }
  for (int64_t column = 0; column < columns; ++column) {
    const double mean =
        logarithms[static_cast<size_t>(pair.channel(column))] / static_cast<double>(pair.heads_per_value);
    factors[static_cast<size_t>(column)] = static_cast<float>(exp_of(mean));
  }
  return factors;
}

Tensor fold_into_outputs(ConstTensorView values, std::span<const float> factors, const FoldPair& pair) {
  const int64_t columns = std::ssize(factors), channels = channels_of(pair, columns);
  const int rank = values.shape.rank();
  if (rank < 1 || rank > 2 || values.shape[0] != channels) {
    fail<ShapeError>("'{}': values of shape {} for {} channels", pair.from, to_string(values.shape), channels);
  }
  std::vector<float> of_channel(static_cast<size_t>(channels), 0.0f);
  for (int64_t column = 0; column < columns; ++column) {
    const float factor = factors[static_cast<size_t>(column)];
    check_factor(factor, pair, column);
    float& known = of_channel[static_cast<size_t>(pair.channel(column))];
    if (known != 0 && known != factor) {
      fail("'{}': channel {} is to be divided by {} and by {}; tie the factors of its columns first", pair.from,
           pair.channel(column), known, factor);
    }
    known = factor;
  }
  Tensor out = to_f32(values);
  const std::span<float> folded = out.mutable_as<float>();
  const int64_t inputs = rank == 2 ? values.shape[1] : 1;
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (float& value : folded.subspan(static_cast<size_t>(channel * inputs), static_cast<size_t>(inputs))) {
      value /= of_channel[static_cast<size_t>(channel)];
    }
  }
  return out;
}

Tensor fold_into_inputs(ConstTensorView weight, std::span<const float> factors) {
  const int64_t columns = std::ssize(factors);
  if (weight.shape.rank() != 2 || weight.shape[1] != columns) {
    fail<ShapeError>("a weight of shape {} and factors for {} columns", to_string(weight.shape), columns);
  }
  Tensor out = to_f32(weight);
  const std::span<float> folded = out.mutable_as<float>();
  for (int64_t output = 0; output < weight.shape[0]; ++output) {
    const auto row = folded.subspan(static_cast<size_t>(output * columns), factors.size());
    std::ranges::transform(row, factors, row.begin(), [](float value, float factor) { return value * factor; });
  }
  return out;
}

}  // namespace octet

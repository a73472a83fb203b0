// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "octet/models/session.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// What an activation's code less its zero point may be: [-127, 127] of INT8, [-z, 255 - z] of UINT8, less of fewer
/// bits.
struct StepRange {
  int lowest = -127, highest = 127;

  StepRange() = default;
  StepRange(ActivationMode mode, const ActivationScale& scale) noexcept;
};

/// Bits of the narrowest two's complement number that holds `value`: 1 for 0 and -1, 8 for 127 and -128.
int signed_width(int64_t value) noexcept;

inline constexpr int kWidestAccumulator = 32;

/// How wide the accumulators of a layer's integer products have to be. A sum is one output of one row over the inputs
/// that share a scale: all of them, or a group's; its products are w · a, w and a codes less their zero points (with
/// minima, w the code itself), added one after another by ascending inputs.
struct AccumulatorUse {
  std::string layer;
  int64_t inputs = 0;
  int64_t sum_length = 0;    ///< products of a sum
  int data_type_width = 0;   ///< enough for any codes of these types
  int guaranteed_width = 0;  ///< enough for these weights, whatever the activations and the order of their products
  int64_t sums = 0;          ///< simulated
  /// [b]: sums whose result takes b bits, and sums that on the way to it take b bits at most.
  std::array<int64_t, kWidestAccumulator + 1> result_widths{}, partial_widths{};

  /// The share of sums that come out wrong where an accumulator of `width` bits wraps around: overflows on the way
  /// cancel, those of results do not.
  double wrapped_share(int width) const noexcept;
  /// The share of sums that leave the range of `width` bits on their way or at its end, where an accumulator that
  /// saturates loses what does not fit.
  double saturated_share(int width) const noexcept;
  /// Bits that the widest of the simulated sums took on its way.
  int widest() const noexcept;
};

/// Sets inputs, sum_length, data_type_width and guaranteed_width for outputs [first, first + outputs) of a weight. With
/// the sums P of its positive and N of the magnitudes of its negative steps, every sum of a row, and every part of it,
/// lies in [P · lowest - N · highest, P · highest - N · lowest]: of symmetric activations A2Q's bound ‖w‖₁ · 127
/// (Colbert, Pappalardo and Petri-Koenig, 2023, equation 9), here of the codes that are there instead of the norm that
/// training enforces.
void bound_accumulators(const QTensor& weight, int64_t first, int64_t outputs, StepRange activations,
                        AccumulatorUse& use);

/// Adds to `use` the sums of these outputs with rows of activations, steps [rows, inputs]. Throws ShapeError where they
/// do not fit. What it counts does not depend on `threads`.
void simulate_accumulators(const QTensor& weight, int64_t first, int64_t outputs, std::span<const int16_t> steps,
                           AccumulatorUse& use, int threads);

/// The accumulators of every layer of a quantized model that multiplies INT8 or UINT8 activations, in the order of the
/// forward pass, over the rows that `batches` give them; products within attention are not among them. Throws
/// UsageError where there is no such layer.
std::vector<AccumulatorUse> measure_accumulators(Session& session, std::span<const TokenBatch> batches,
                                                 const std::function<void(int64_t batches)>& advance = {});

}  // namespace octet

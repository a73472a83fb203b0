// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "octet/ptq/input_statistics.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// sums[r] = x_r · H · x_rᵀ of `count` rows x [count, inputs], H [inputs, inputs] symmetric. One thread.
void quadratic_forms(std::span<const double> rows, int64_t count, std::span<const double> hessian,
                     std::span<double> sums);

/// tr(X · H · Xᵀ) of a matrix [rows, inputs] that is made some rows at a time: `fill(first, rows)` writes rows from
/// `first` on, as many as `rows` has room for. The bits do not depend on `threads`.
double trace_of_quadratic_form(int64_t rows, int64_t inputs, std::span<const double> hessian, int threads,
                               const std::function<void(int64_t first, std::span<double> rows)>& fill);

/// tr(ΔW · H · ΔWᵀ) / tr(W · H · Wᵀ), ΔW being what a weight [out, inputs] F32 differs by from its codes: the share of
/// its outputs' energy that is lost over calibration. 0 where nothing is.
double output_error(ConstTensorView weight, const QTensor& quantized, const InputStatistics& statistics, int threads);

}  // namespace octet

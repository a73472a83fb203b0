// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "octet/ptq/weight_quantizer.h"

namespace octet {

/// The order in which act_order quantizes columns: by falling H[i, i], of equals by index.
std::vector<int64_t> columns_by_importance(const InputStatistics& statistics);

/// GPTQ (Frantar et al., 2022) of a weight [out, inputs] of finite fp32 values.
///
/// Columns are quantized one after another, and what rounding column i does to the outputs is made good in those after
/// it: with H⁻¹ = Uᵀ · U, U upper triangular, and e = (w_i - decode(code_i)) / U[i, i], every later w_j loses
/// e · U[i, j]. H is damped by percdamp · mean(H[i, i]) on its diagonal, the mean over columns that are not dead; ten
/// times as much, again and again, where it is not positive definite in fp64. Dead columns, whose inputs were always 0,
/// are rounded to nearest and neither give nor take; `outliers` of them are columns that are no part of the weight. A
/// group's grid is found when its first column is met, from its columns as they are by then; with static groups, and
/// for whole rows, from those of the weight as it was.
///
/// All of it in fp64, but for the codes themselves, which those of octet/quant/quantize.h are of w rounded to fp32.
QuantizedWeight gptq(std::span<const float> weight, int64_t rows, const WeightScheme& scheme,
                     const WeightAlgorithmOptions& options, const InputStatistics& statistics, int64_t outliers,
                     const std::string& what, int threads);

}  // namespace octet

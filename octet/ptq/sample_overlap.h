// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/models/model.h"
#include "octet/ptq/output_comparison.h"

namespace octet {

/// The share of the tokens of `sample` that stand in a run of 32 tokens which `calibration` has too. Where it is large,
/// what was fitted to those tokens is judged by them.
double sample_overlap(const TextSample& sample, const TokenBatch& calibration);

}  // namespace octet

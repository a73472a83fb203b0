// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>

#include "octet/eval/benchmark.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// How far a model's outputs lie from a reference's on the same text. A row is a token's hidden state or logits, or a
/// sequence's logits.
struct OutputError {
  double cosine_mean = 0, cosine_min = 0;  ///< over rows
  double max_abs_difference = 0;           ///< over all elements
  double relative_error = 0;               ///< ‖a - b‖ / ‖a‖ over all elements
  int64_t rows = 0, tokens = 0;
  int64_t truncated = 0;  ///< lines longer than the models take
};

struct Comparison {
  OutputError error;
  double reference_ms = 0, other_ms = 0;  ///< for all lines: each batch's fastest of three runs, the two models in turn
};

/// Runs both on `lines`, tokenized by `tokenizer`. Throws Error where the outputs of the two differ in kind or shape.
Comparison compare_outputs(Session& reference, Session& other, const Tokenizer& tokenizer,
                           std::span<const std::string> lines, const std::function<void(int64_t done)>& advance = {});

}  // namespace octet

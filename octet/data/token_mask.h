// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octet/text/tokenizer.h"

namespace octet {

/// Hides tokens of a text for a model to find, as BERT is trained (Devlin et al., 2019): each is chosen with a
/// probability, at least one of a text; of those chosen 80 % become the mask token, 10 % any token that is not special,
/// and 10 % stay as they are. Special tokens are never chosen.
///
/// What is drawn is a function of its place alone (seed, step, example, position), so that it is the same in any batch
/// and in a run that is resumed.
class TokenMask {
 public:
  static constexpr double kUsualProbability = 0.15;
  /// The step of masks that do not change: those that models are judged by.
  static constexpr uint32_t kFixed = 0xFFFFFFFF;

  /// Throws UsageError where the tokenizer names no mask token.
  TokenMask(const Tokenizer& tokenizer, double probability);

  /// Masks ids [tokens] and returns what they were where they are to be found, -1 elsewhere [tokens].
  std::vector<int32_t> apply(std::span<int32_t> ids, uint64_t seed, uint32_t step, uint32_t example) const;

 private:
  double probability_;
  int32_t mask_;
  std::vector<bool> special_;    ///< by id
  std::vector<int32_t> others_;  ///< ids of tokens that are not special
};

}  // namespace octet

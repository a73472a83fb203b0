// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace octet {

/// How the next token is chosen. The steps and their order are those of transformers' logits processors: repetition
/// penalty, temperature, top-k, top-p.
struct SamplingOptions {
  double temperature = 0;         ///< logits are divided by it; 0: always the most likely token
  int64_t top_k = 0;              ///< only the k most likely tokens, and those tied with the k-th; 0: all
  double top_p = 1;               ///< only the fewest of the most likely tokens whose probabilities reach p
  double repetition_penalty = 1;  ///< of tokens that came before: positive logits are divided by it, others multiplied
  uint64_t seed = 0;
};

/// Chooses tokens. The choice depends on logits, options and position only: the random number is Philox's for (seed,
/// position), and sums and exponentials are fixed sequences of operations, so that equal logits give equal text on
/// every machine.
class Sampler {
 public:
  /// Throws UsageError for options out of range.
  explicit Sampler(const SamplingOptions& options);

  /// The token that follows `before`, the sequence so far. logits [vocabulary]; -∞ excludes a token. Of exactly equal
  /// logits the lowest id goes first. Throws NumericError for NaN, +∞, or where nothing is left to choose from.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> before);

 private:
  struct Candidate {
    int32_t id;
    double logit, weight;  ///< weight: e^(logit - largest)
  };

  void penalize(std::span<const int32_t> before);
  void keep_top_k();
  void keep_top_p();
  int32_t draw(uint64_t position) const;

  SamplingOptions options_;
  std::vector<double> logits_;
  std::vector<Candidate> candidates_;
};

}  // namespace octet

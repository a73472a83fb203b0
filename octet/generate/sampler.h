// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace octet {

/// How the next token is chosen. The steps are taken in the order in which they stand here, which is that of
/// transformers' logits processors (they know no presence and frequency penalty; vLLM has them at this place). The
/// first group changes what temperature 0 chooses too, the second only what is sampled.
struct SamplingOptions {
  /// Token ids and what is added to their logits; -∞ excludes a token.
  std::vector<std::pair<int32_t, double>> logit_bias = {};
  /// Of tokens of the prompt and the text: positive logits are divided by it, others multiplied (Keskar et al., 2019).
  double repetition_penalty = 1;
  /// Subtracted from the logit of a token, as OpenAI's API defines them: the frequency penalty times the number of
  /// times that it stands in the text, the presence penalty once if it does. The prompt does not count.
  double frequency_penalty = 0, presence_penalty = 0;
  /// No sequence of so many tokens comes twice in prompt and text; 0: any may.
  int64_t no_repeat_ngram_size = 0;
  /// Of the text; before there are as many, tokens that end it are excluded.
  int64_t min_tokens = 0;

  double temperature = 0;  ///< logits are divided by it; 0: always the most likely token
  int64_t top_k = 0;       ///< only the k most likely tokens, and those tied with the k-th; 0: all
  double top_p = 1;        ///< only the fewest of the most likely tokens whose probabilities reach p
  double min_p = 0;        ///< only tokens at least p times as likely as the most likely (Nguyen et al., 2024)
  /// Only the fewest tokens whose probabilities reach p, taken by how near their information -log(probability) is to
  /// its mean, and those tied with the last (locally typical sampling: Meister et al., 2023).
  double typical_p = 1;
  uint64_t seed = 0;
};

/// Throws UsageError that names the option for one out of range, and for a token of logit_bias beyond `vocabulary`.
void check_sampling(const SamplingOptions& options, int64_t vocabulary);

/// Chooses tokens. The choice depends on logits, options and the sequence only: the random number is Philox's for
/// (seed, position), and sums and exponentials are fixed sequences of operations, so that equal logits give equal text
/// on every machine.
class Sampler {
 public:
  /// `stop_ids`: what min_tokens excludes. Throws UsageError for options out of range.
  explicit Sampler(SamplingOptions options, std::span<const int32_t> stop_ids = {});

  /// The token that follows `before`: `prompt_tokens` of the prompt and the text so far. logits [vocabulary]; -∞
  /// excludes a token. Of exactly equal logits the lowest id goes first. Throws NumericError for NaN, +∞, or where
  /// nothing is left to choose from; UsageError for a token of logit_bias that has no logit.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> before, size_t prompt_tokens);
  /// What the first group of options makes of logits, or of log-probabilities, for whoever chooses by other means. Good
  /// until the next call. Throws as sample() does.
  std::span<const double> adjust(std::span<const double> logits, std::span<const int32_t> before, size_t prompt_tokens);

 private:
  struct Candidate {
    int32_t id;
    double rank;    ///< what keep_first goes by, ascending: -logit, at last the distance of keep_typical
    double weight;  ///< e^((logit - largest) / temperature)
  };
  struct Occurrences {
    uint32_t all = 0, text = 0;
  };
  enum class Ties { kLowestIdFirst, kTogether };

  void adjust_logits(std::span<const int32_t> before, size_t prompt_tokens);
  void add_bias();
  void penalize(std::span<const int32_t> before, size_t prompt_tokens);
  void exclude_repeated_ngrams(std::span<const int32_t> before);
  void exclude_stop_ids();
  void keep_top_k();
  void keep_typical(double largest);
  void keep_first(double p, Ties ties);
  int32_t draw(uint64_t position) const;

  SamplingOptions options_;
  std::vector<int32_t> stop_ids_;
  std::vector<double> logits_;
  std::vector<Occurrences> occurrences_;  ///< [vocabulary], zeros between calls
  std::vector<Candidate> candidates_;
};

}  // namespace octet

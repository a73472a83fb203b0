// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/philox.h"

namespace octet {
namespace {

// A finite number within [lowest, highest].
bool within(double value, double lowest, double highest) {
  return std::isfinite(value) && value >= lowest && value <= highest;
}

void check_numbers(std::span<const double> logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == INFINITY) fail<NumericError>("the logit of token {} is {}", i, logits[i]);
  }
}

// The index of the largest logit, the first of equal ones.
int32_t most_likely(std::span<const double> logits) {
  const auto best = std::ranges::max_element(logits);
  if (best == logits.end() || *best == -INFINITY) {
    fail<NumericError>(
        "no token is left to choose from: the logits of all are -inf, or the sampling options (logit bias, "
        "no_repeat_ngram_size, min_tokens) exclude those that are not");
  }
  return static_cast<int32_t>(best - logits.begin());
}

}  // namespace

void check_sampling(const SamplingOptions& options, int64_t vocabulary) {
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < 0 || id >= vocabulary)
      fail<UsageError>("logit_bias names the token {}; this model's have the ids 0 to {}", id, vocabulary - 1);
    if (std::isnan(bias) || bias == INFINITY)
      fail<UsageError>("the logit bias of token {} is {}; it must be a finite number or -inf", id, bias);
  }
  if (!(options.repetition_penalty > 0) || !std::isfinite(options.repetition_penalty))
    fail<UsageError>("the repetition penalty is {}; it must lie above 0 (1: none)", options.repetition_penalty);
  if (!std::isfinite(options.frequency_penalty))
    fail<UsageError>("the frequency penalty is {}; it must be a finite number (0: none)", options.frequency_penalty);
  if (!std::isfinite(options.presence_penalty))
    fail<UsageError>("the presence penalty is {}; it must be a finite number (0: none)", options.presence_penalty);
  if (options.no_repeat_ngram_size < 0)
    fail<UsageError>("no_repeat_ngram_size is {}; it must be 0 (off) or more", options.no_repeat_ngram_size);
  if (options.min_tokens < 0) fail<UsageError>("min_tokens is {}; it must be 0 or more", options.min_tokens);
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature))
    fail<UsageError>("the temperature is {}; it must be 0 (the most likely token) or more", options.temperature);
  if (options.top_k < 0) fail<UsageError>("top_k is {}; it must be 0 (all tokens) or more", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1))
    fail<UsageError>("top_p is {}; it must lie above 0 and not above 1 (all tokens)", options.top_p);
  if (!within(options.min_p, 0, 1))
    fail<UsageError>("min_p is {}; it must lie between 0 (all tokens) and 1 (the most likely)", options.min_p);
  if (!(options.typical_p > 0 && options.typical_p <= 1))
    fail<UsageError>("typical_p is {}; it must lie above 0 and not above 1 (all tokens)", options.typical_p);
}

Sampler::Sampler(SamplingOptions options, std::span<const int32_t> stop_ids)
    : options_(std::move(options)), stop_ids_(stop_ids.begin(), stop_ids.end()) {
  check_sampling(options_, int64_t{std::numeric_limits<int32_t>::max()} + 1);
}

std::span<const double> Sampler::adjust(std::span<const double> logits, std::span<const int32_t> before,
                                        size_t prompt_tokens) {
  logits_.assign(logits.begin(), logits.end());
  adjust_logits(before, prompt_tokens);
  return logits_;
}

void Sampler::adjust_logits(std::span<const int32_t> before, size_t prompt_tokens) {
  check_numbers(logits_);
  add_bias();
  if (options_.repetition_penalty != 1 || options_.frequency_penalty != 0 || options_.presence_penalty != 0)
    penalize(before, prompt_tokens);
  if (options_.no_repeat_ngram_size > 0) exclude_repeated_ngrams(before);
  if (std::cmp_less(before.size() - prompt_tokens, options_.min_tokens)) exclude_stop_ids();
  // A bias or a penalty near the largest double can have carried a logit beyond it.
  check_numbers(logits_);
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> before, size_t prompt_tokens) {
  logits_.assign(logits.begin(), logits.end());
  adjust_logits(before, prompt_tokens);
  const int32_t best = most_likely(logits_);
  if (options_.temperature == 0) return best;

  const double largest = logits_[static_cast<size_t>(best)];
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    if (logits_[i] > -INFINITY)
      candidates_.push_back({.id = static_cast<int32_t>(i), .rank = -logits_[i], .weight = 0});
  }
  if (options_.top_k > 0) keep_top_k();
  for (Candidate& candidate : candidates_)
    candidate.weight = exp_of_nonpositive((-candidate.rank - largest) / options_.temperature);
  if (options_.top_p < 1) keep_first(options_.top_p, Ties::kLowestIdFirst);
  // The largest weight is e^0 = 1.
  if (options_.min_p > 0)
    std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.weight < options_.min_p; });
  if (options_.typical_p < 1) keep_typical(largest);
  return draw(before.size());
}

void Sampler::add_bias() {
  for (const auto& [id, bias] : options_.logit_bias) {
    if (std::cmp_greater_equal(id, logits_.size())) check_sampling(options_, std::ssize(logits_));
    logits_[static_cast<size_t>(id)] += bias;
  }
}

void Sampler::penalize(std::span<const int32_t> before, size_t prompt_tokens) {
  const auto has_logit = [&](int32_t id) { return id >= 0 && std::cmp_less(id, logits_.size()); };
  occurrences_.resize(logits_.size());
  for (size_t i = 0; i < before.size(); ++i) {
    if (!has_logit(before[i])) continue;
    Occurrences& occurrences = occurrences_[static_cast<size_t>(before[i])];
    ++occurrences.all;
    if (i >= prompt_tokens) ++occurrences.text;
  }
  for (const int32_t id : before) {
    if (!has_logit(id)) continue;
    Occurrences& occurrences = occurrences_[static_cast<size_t>(id)];
    if (occurrences.all == 0) continue;  // done where the token stood first
    double& logit = logits_[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    if (occurrences.text > 0) logit -= options_.frequency_penalty * occurrences.text + options_.presence_penalty;
    occurrences = {};
  }
}

void Sampler::exclude_repeated_ngrams(std::span<const int32_t> before) {
  if (std::cmp_less(before.size(), options_.no_repeat_ngram_size)) return;
  const auto size = static_cast<size_t>(options_.no_repeat_ngram_size);
  const std::span<const int32_t> begun = before.last(size - 1);
  for (size_t i = 0; i + size <= before.size(); ++i) {
    const int32_t id = before[i + size - 1];
    if (id >= 0 && std::cmp_less(id, logits_.size()) && std::ranges::equal(begun, before.subspan(i, size - 1)))
      logits_[static_cast<size_t>(id)] = -INFINITY;
  }
}

void Sampler::exclude_stop_ids() {
  for (const int32_t id : stop_ids_) {
    if (id >= 0 && std::cmp_less(id, logits_.size())) logits_[static_cast<size_t>(id)] = -INFINITY;
  }
}

void Sampler::keep_top_k() {
  if (std::cmp_greater_equal(options_.top_k, candidates_.size())) return;
  std::vector<double> ranks;
  for (const Candidate& candidate : candidates_) ranks.push_back(candidate.rank);
  const auto last = ranks.begin() + options_.top_k - 1;
  std::nth_element(ranks.begin(), last, ranks.end());
  std::erase_if(candidates_, [highest = *last](const Candidate& candidate) { return candidate.rank > highest; });
}

void Sampler::keep_typical(double largest) {
  // With x = (logit - largest) / temperature, -log(probability) is a constant less x. The constant is in its mean too:
  // their distance is |x - mean of x|.
  double total = 0, sum = 0;
  for (Candidate& candidate : candidates_) {
    const double x = (-candidate.rank - largest) / options_.temperature;
    candidate.rank = x;
    if (candidate.weight == 0) continue;  // x may be -∞
    total += candidate.weight;
    sum += candidate.weight * x;
  }
  for (Candidate& candidate : candidates_) candidate.rank = std::abs(candidate.rank - sum / total);
  keep_first(options_.typical_p, Ties::kTogether);
}

void Sampler::keep_first(double p, Ties ties) {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  // A heap, because a few tokens mostly are enough and the vocabulary need not be sorted for them.
  const auto after = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.id > b.id;
  };
  std::make_heap(candidates_.begin(), candidates_.end(), after);
  auto heap_end = candidates_.end();
  double kept = 0, last_rank = 0;
  while (heap_end != candidates_.begin() &&
         (kept < p * total || (ties == Ties::kTogether && candidates_.front().rank == last_rank))) {
    std::pop_heap(candidates_.begin(), heap_end, after);
    --heap_end;
    kept += heap_end->weight;
    last_rank = heap_end->rank;
  }
  candidates_.erase(candidates_.begin(), heap_end);
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

int32_t Sampler::draw(uint64_t position) const {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  const std::array<uint32_t, 4> bits =
      philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0}, options_.seed);
  const double target = uniform_double(bits[0], bits[1]) * total;
  double sum = 0;
  int32_t chosen = candidates_.front().id;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0) continue;
    chosen = candidate.id;
    sum += candidate.weight;
    if (sum > target) break;
  }
  return chosen;
}

}  // namespace octet

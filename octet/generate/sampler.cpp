// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/sampler.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/philox.h"

namespace octet {
namespace {

// The index of the largest logit, the first of equal ones; all are checked.
int32_t most_likely(std::span<const double> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == INFINITY) fail<NumericError>("the logit of token {} is {}", i, logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  if (logits.empty() || logits[best] == -INFINITY) fail<NumericError>("no token has a finite logit");
  return static_cast<int32_t>(best);
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options) : options_(options) {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature))
    fail<UsageError>("the temperature is {}; it must be 0 (the most likely token) or more", options.temperature);
  if (options.top_k < 0) fail<UsageError>("top_k is {}; it must be 0 (all tokens) or more", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1))
    fail<UsageError>("top_p is {}; it must lie above 0 and not above 1", options.top_p);
  if (!(options.repetition_penalty > 0) || !std::isfinite(options.repetition_penalty))
    fail<UsageError>("the repetition penalty is {}; it must lie above 0 (1: none)", options.repetition_penalty);
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> before) {
  logits_.assign(logits.begin(), logits.end());
  if (options_.repetition_penalty != 1) penalize(before);
  const int32_t best = most_likely(logits_);
  if (options_.temperature == 0) return best;

  const double largest = logits_[static_cast<size_t>(best)];
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    candidates_.push_back({.id = static_cast<int32_t>(i),
                           .logit = logits_[i],
                           .weight = exp_of_nonpositive((logits_[i] - largest) / options_.temperature)});
  }
  if (options_.top_k > 0) keep_top_k();
  if (options_.top_p < 1) keep_top_p();
  return draw(before.size());
}

void Sampler::penalize(std::span<const int32_t> before) {
  std::vector<int32_t> seen(before.begin(), before.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const int32_t id : seen) {
    if (id < 0 || std::cmp_greater_equal(id, logits_.size())) continue;
    double& logit = logits_[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
  }
}

void Sampler::keep_top_k() {
  if (std::cmp_greater_equal(options_.top_k, candidates_.size())) return;
  std::vector<double> order;
  for (const Candidate& candidate : candidates_) order.push_back(candidate.logit);
  const auto last = order.begin() + options_.top_k - 1;
  std::nth_element(order.begin(), last, order.end(), std::greater<>());
  std::erase_if(candidates_, [lowest = *last](const Candidate& candidate) { return candidate.logit < lowest; });
}

void Sampler::keep_top_p() {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  // A heap, because a few tokens mostly are enough and the vocabulary need not be sorted for them.
  const auto after = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit < b.logit : a.id > b.id;
  };
  std::make_heap(candidates_.begin(), candidates_.end(), after);
  auto heap_end = candidates_.end();
  for (double kept = 0; heap_end != candidates_.begin() && kept < options_.top_p * total;) {
    std::pop_heap(candidates_.begin(), heap_end, after);
    --heap_end;
    kept += heap_end->weight;
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

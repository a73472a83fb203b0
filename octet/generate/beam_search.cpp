// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/beam_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/log.h"

namespace octet {
namespace {

struct Beam {
  int sequence = 0;          // of the cache, which lacks the last token
  std::vector<int32_t> ids;  // prompt and text
  double log_likelihood = 0;
};

struct Candidate {
  size_t beam = 0;
  int32_t id = 0;
  double log_likelihood = 0;

  // Whether it goes before another.
  bool operator<(const Candidate& other) const {
    if (log_likelihood != other.log_likelihood) return log_likelihood > other.log_likelihood;
    return std::pair(beam, id) < std::pair(other.beam, other.id);
  }
};

void check(const Session& session, std::span<const int32_t> prompt, const BeamSearchOptions& options) {
  require_decoder(session);
  check_prompt(session.model().info(), prompt, "the prompt");
  if (options.max_tokens < 1) fail<UsageError>("{} tokens to generate; at least 1 is", options.max_tokens);
  const int64_t vocabulary = session.model().info().vocabulary;
  if (options.beams < 1 || options.beams > vocabulary) {
    fail<UsageError>("{} beams; from 1 to {} (the vocabulary) are possible", options.beams, vocabulary);
  }
  if (options.results < 1 || options.results > options.beams) {
    fail<UsageError>("{} results of {} beams; from 1 to as many as beams are possible", options.results, options.beams);
  }
  check_sampling(options.sampling, vocabulary);
  if (options.sampling.temperature != 0) {
    fail<UsageError>("beam search takes the likeliest texts and samples none: leave the temperature 0, or the beams 1");
  }
  if (!std::isfinite(options.length_penalty)) {
    fail<UsageError>("the length penalty is {}; it must be a finite number", options.length_penalty);
  }
}

class Search {
 public:
  Search(Session& session, std::span<const int32_t> prompt, const BeamSearchOptions& options)
      : session_(session),
        options_(options),
        prompt_tokens_(prompt.size()),
        sampler_(options.sampling, options.stop_ids),
        cache_(session.make_cache(options.kv_dtype)),
        // A position more than the context: the last token is not run.
        longest_(std::min(options.max_tokens, session.model().info().max_positions + 1 - std::ssize(prompt))) {
    running_.push_back({.sequence = cache_.add_sequence(), .ids = {prompt.begin(), prompt.end()}});
  }

  std::vector<BeamText> run() {
    for (int64_t generated = 1; !running_.empty(); ++generated) {
      const std::vector<Candidate> best = extend();
      choose(best, generated);
      if (!worth_going_on(generated)) break;
    }
    ended_.resize(std::min(ended_.size(), static_cast<size_t>(options_.results)));
    return std::move(ended_);
  }

 private:
  double score(double log_likelihood, int64_t tokens) const {
    const double power = options_.length_penalty * log_of_positive(static_cast<double>(tokens));
    return power > 0 ? log_likelihood * exp_of_nonpositive(-power) : log_likelihood / exp_of_nonpositive(power);
  }
  bool ends(int32_t id, int64_t generated) const {
    return generated == longest_ || std::ranges::count(options_.stop_ids, id) > 0;
  }

  // The best continuations of all beams by a token, best first: so many that as many as beams go on even if the
  // likeliest ones are all ends.
  std::vector<Candidate> extend() {
    const auto vocabulary = static_cast<size_t>(session_.model().info().vocabulary);
    const size_t wanted = std::max<size_t>(2, 1 + options_.stop_ids.size()) * static_cast<size_t>(options_.beams);
    std::vector<Continuation> continuations;
    for (const Beam& beam : running_) {
      const auto run = static_cast<size_t>(cache_.length(beam.sequence));
      continuations.push_back({.sequence = beam.sequence, .ids = std::span(beam.ids).subspan(run)});
    }
    // More than once for the prompt only, when there is one beam.
    do step_in_pieces(session_, cache_, continuations, options_.prefill_tokens, logits_);
    while (!continuations.front().ids.empty());
    std::vector<Candidate> best;  // a heap, the worst in front
    for (size_t b = 0; b < running_.size(); ++b) {
      const std::span<const double> scores = sampler_.adjust(
          log_softmax(std::span(logits_).subspan(b * vocabulary, vocabulary)), running_[b].ids, prompt_tokens_);
      for (size_t id = 0; id < vocabulary; ++id) {
        if (scores[id] == -INFINITY) continue;
        const Candidate candidate{
            .beam = b, .id = static_cast<int32_t>(id), .log_likelihood = running_[b].log_likelihood + scores[id]};
        if (best.size() == wanted) {
          if (!(candidate < best.front())) continue;
          std::pop_heap(best.begin(), best.end());
          best.pop_back();
        }
        best.push_back(candidate);
        std::push_heap(best.begin(), best.end());
      }
    }
    std::sort_heap(best.begin(), best.end());
    return best;
  }

  std::span<const double> log_softmax(std::span<const float> logits) {
    const double largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float logit : logits) sum += exp_of_nonpositive(static_cast<double>(logit) - largest);
    const double shift = largest + log_of_positive(sum);
    log_probabilities_.clear();
    for (const float logit : logits) log_probabilities_.push_back(static_cast<double>(logit) - shift);
    return log_probabilities_;
  }

  // The first candidates that do not end become the beams. Of those that end only the first as many as beams count.
  void choose(const std::vector<Candidate>& best, int64_t generated) {
    std::vector<Beam> next;
    std::vector<bool> taken(running_.size(), false);
    for (size_t i = 0; i < best.size() && std::cmp_less(next.size(), options_.beams); ++i) {
      const Candidate& candidate = best[i];
      const Beam& from = running_[candidate.beam];
      std::vector<int32_t> ids = from.ids;
      ids.push_back(candidate.id);
      if (ends(candidate.id, generated)) {
        if (std::cmp_less(i, options_.beams)) add_ended(ids, candidate.log_likelihood, generated);
        continue;
      }
      next.push_back({.sequence = taken[candidate.beam] ? cache_.fork(from.sequence) : from.sequence,
                      .ids = std::move(ids),
                      .log_likelihood = candidate.log_likelihood});
      taken[candidate.beam] = true;
    }
    for (size_t b = 0; b < running_.size(); ++b) {
      if (!taken[b]) cache_.remove_sequence(running_[b].sequence);
    }
    running_ = std::move(next);
  }

  void add_ended(const std::vector<int32_t>& ids, double log_likelihood, int64_t generated) {
    BeamText text{.ids = {ids.begin() + static_cast<std::ptrdiff_t>(prompt_tokens_), ids.end()},
                  .score = score(log_likelihood, generated)};
    if (std::ranges::count(options_.stop_ids, ids.back()) > 0) {
      text.finish_reason = FinishReason::kStop;
    } else if (generated < options_.max_tokens) {
      text.finish_reason = FinishReason::kContext;
    }
    const auto place = std::ranges::find_if(ended_, [&](const BeamText& other) { return other.score < text.score; });
    ended_.insert(place, std::move(text));
    if (std::cmp_greater(ended_.size(), options_.beams)) ended_.pop_back();
  }

  bool worth_going_on(int64_t generated) const {
    if (running_.empty()) return false;
    if (std::cmp_less(ended_.size(), options_.beams)) return true;
    if (options_.early_stopping == EarlyStopping::kFull) return false;
    // A log-likelihood only falls, so a text's best score is that of its present one, at the length that divides it
    // most.
    const bool later = options_.early_stopping == EarlyStopping::kNever && options_.length_penalty > 0;
    return score(running_.front().log_likelihood, later ? longest_ : generated) > ended_.back().score;
  }

  Session& session_;
  const BeamSearchOptions& options_;
  size_t prompt_tokens_;
  Sampler sampler_;
  KvCache cache_;
  int64_t longest_;
  std::vector<Beam> running_;    // best first
  std::vector<BeamText> ended_;  // best first
  std::vector<float> logits_;
  std::vector<double> log_probabilities_;
};

}  // namespace

std::vector<BeamText> beam_search(Session& session, std::span<const int32_t> prompt, const BeamSearchOptions& options) {
  check(session, prompt, options);
  return Search(session, prompt, options).run();
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/perplexity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/parallel.h"
#include "octet/eval/task.h"

namespace octet {
namespace {

TaskResult::Metric metric(const std::string& name, const Estimate& estimate) {
  return {.name = name, .value = estimate.value, .standard_error = estimate.standard_error};
}

}  // namespace

float largest(std::span<const float> logits) {
  float result = -INFINITY;
  for (const float x : logits) result = x > result ? x : result;
  return result;
}

double log_sum_exp(std::span<const float> logits) {
  constexpr size_t kLanes = 8;  // partial sums, so that the loop vectorizes: element i adds to partial i mod 8
  const double shift = largest(logits);
  std::array<double, kLanes> sums = {};
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += exp_of_nonpositive(logits[i + lane] - shift);
  }
  for (; i < logits.size(); ++i) sums[i % kLanes] += exp_of_nonpositive(logits[i] - shift);
  double total = 0;
  for (const double sum : sums) total += sum;
  return shift + std::log(total);
}

double negative_log_likelihood(std::span<const float> logits, int32_t target) {
  const double nll = log_sum_exp(logits) - logits[static_cast<size_t>(target)];
  if (!std::isfinite(nll)) fail<NumericError>("the logits hold NaN or infinity; the weights may be damaged");
  return nll;
}

void NllSums::add(double nll) {
  ++tokens_;
  const double deviation = nll - mean_;
  mean_ += deviation / static_cast<double>(tokens_);
  squares_ += deviation * (nll - mean_);
}

void NllSums::add_text(int64_t bytes, int64_t words) {
  bytes_ += bytes;
  words_ += words;
}

double NllSums::standard_error_of_sum() const {
  const auto n = static_cast<double>(tokens_);
  return tokens_ < 2 ? std::nan("") : std::sqrt(n * squares_ / (n - 1));
}

Estimate NllSums::perplexity(int64_t units) const {
  if (units == 0) return {std::nan(""), std::nan("")};
  const double value = std::exp(sum() / static_cast<double>(units));
  return {value, value * standard_error_of_sum() / static_cast<double>(units)};
}

Estimate NllSums::bits_per_byte() const {
  if (bytes_ == 0) return {std::nan(""), std::nan("")};
  const double scale = 1 / (static_cast<double>(bytes_) * std::numbers::ln2);
  return {sum() * scale, standard_error_of_sum() * scale};
}

std::vector<ScoredRow> scored_rows(const TextWindows& text, size_t first, size_t last) {
  std::vector<ScoredRow> rows;
  int64_t offset = 0;  // of the window in the batch
  for (size_t i = first; i < last; ++i) {
    const TextWindows::Window& w = text.windows[i];
    for (int64_t t = w.first_scored; t < w.end; ++t)
      rows.push_back(
          {.row = offset + t - 1 - w.begin, .target = text.documents[w.document].ids[static_cast<size_t>(t)]});
    offset += w.end - w.begin;
  }
  return rows;
}

void add_text_of(const TextWindows& text, const TextWindows::Window& window, NllSums& sums) {
  const TokenizedDocument& document = text.documents[window.document];
  const auto before = static_cast<size_t>(window.first_scored) - 1, last = static_cast<size_t>(window.end) - 1;
  sums.add_text(document.bytes[last] - document.bytes[before], document.words[last] - document.words[before]);
}

int64_t logit_rows_at_once(int64_t vocabulary) {
  constexpr int64_t kBytes = int64_t{16} << 20;
  return std::clamp<int64_t>(kBytes / (std::max<int64_t>(1, vocabulary) * 4), 1, kWindowTokensAtOnce);
}

NllSums measure_perplexity(Session& session, const TextWindows& text, int threads,
                           const std::function<void(int64_t windows)>& advance) {
  require_decoder(session);
  const int64_t vocabulary = session.model().info().vocabulary;
  if (threads == 0) threads = available_threads();
  NllSums sums;
  for (size_t first = 0, last = 0; first < text.windows.size(); first = last) {
    last = text.batch_end(first, kWindowTokensAtOnce);
    const std::vector<ScoredRow> scored = scored_rows(text, first, last);
    std::vector<double> nll(scored.size());
    size_t next = 0;  // of `scored`: the first that no part had
    session.run_in_parts(
        text.batch(first, last), logit_rows_at_once(vocabulary), [&](int64_t first_row, std::span<const float> rows) {
          const size_t begin = next;
          const int64_t end_row = first_row + static_cast<int64_t>(rows.size()) / vocabulary;
          while (next < scored.size() && scored[next].row < end_row) ++next;
          parallel_for(threads, static_cast<int64_t>(next - begin), [&](int64_t task, int) {
            const size_t i = begin + static_cast<size_t>(task);
            nll[i] = negative_log_likelihood(rows.subspan(static_cast<size_t>((scored[i].row - first_row) * vocabulary),
                                                          static_cast<size_t>(vocabulary)),
                                             scored[i].target);
          });
        });
    for (const double value : nll) sums.add(value);
    for (size_t i = first; i < last; ++i) add_text_of(text, text.windows[i], sums);
    if (advance) advance(static_cast<int64_t>(last - first));
  }
  return sums;
}

TaskResult run_perplexity(Session& session, const TaskInput& input) {
  require_decoder(session);
  const Tokenizer tokenizer = Tokenizer::load(input.model);
  WindowOptions options = input.windows;
  options.limit = input.limit;
  const TextWindows text = read_windows(input.data, tokenizer, options, session.model().info().max_positions);
  const auto total = static_cast<int64_t>(text.windows.size());
  int64_t done = 0;
  const NllSums sums =
      measure_perplexity(session, text, input.threads, [&](int64_t more) { input.advance(done += more, total); });

  TaskResult result{.metrics = {metric("perplexity", sums.per_token())}, .counts = {}, .examples = total, .notes = {}};
  if (sums.words() > 0) result.metrics.push_back(metric("word_perplexity", sums.per_word()));
  if (sums.bytes() > 0) {
    result.metrics.push_back(metric("byte_perplexity", sums.per_byte()));
    result.metrics.push_back(metric("bits_per_byte", sums.bits_per_byte()));
  }
  result.counts = {{"tokens", sums.tokens()},
                   {"words", sums.words()},
                   {"bytes", sums.bytes()},
                   {"documents", static_cast<int64_t>(text.windows.back().document) + 1},
                   {"truncated_documents", text.truncated},
                   {"window", text.window},
                   {"stride", text.stride}};
  return result;
}

}  // namespace octet

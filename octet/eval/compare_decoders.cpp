// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/compare_decoders.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/parallel.h"

namespace octet {
namespace {

// What one scored token gives.
struct TokenComparison {
  double kl = 0, reference_nll = 0, other_nll = 0;
  bool same_top = false;
};

TokenComparison compare_token(std::span<const float> reference, std::span<const float> other, int32_t target) {
  const auto at = static_cast<size_t>(target);
  const SoftmaxComparison softmax = compare_softmax(reference, other);
  const TokenComparison result = {
      .kl = softmax.kl,
      .reference_nll = softmax.reference_log_sum - reference[at],
      .other_nll = softmax.other_log_sum - other[at],
      .same_top =
          std::ranges::max_element(reference) - reference.begin() == std::ranges::max_element(other) - other.begin(),
  };
  if (!std::isfinite(result.kl) || !std::isfinite(result.reference_nll) || !std::isfinite(result.other_nll))
    fail<NumericError>("the logits hold NaN or infinity; the weights may be damaged");
  return result;
}

// Logits of both models for the same rows of a batch, part by part: visit(first row, rows of a, rows of b). The hidden
// states of both are held, the logits of a part only.
void run_both_in_parts(Session& a, Session& b, const TokenBatch& batch, int64_t rows_at_once,
                       const std::function<void(int64_t, std::span<const float>, std::span<const float>)>& visit) {
  const Workspace::Scope scope(b.workspace());
  Context context = b.context();
  const DeviceBatch on_device = upload(context, batch);
  const Activation x = b.model().hidden_states(context, on_device);
  std::vector<float> rows_b;
  a.run_in_parts(batch, rows_at_once, [&](int64_t first, std::span<const float> rows_a) {
    const Workspace::Scope part(b.workspace());
    const auto rows = static_cast<int64_t>(rows_a.size()) / a.model().info().vocabulary;
    const Activation output = b.model().head(context, on_device, x.row_range(first, rows));
    check_numerics(context, b.model().sites(), batch.offsets);
    rows_b.resize(static_cast<size_t>(output.rows * output.cols));
    b.backend().download(output, rows_b);
    visit(first, rows_a, rows_b);
  });
}

std::vector<TokenComparison> compare_windows(Session& reference, Session& other, const TokenBatch& batch,
                                             const std::vector<ScoredRow>& scored, int threads) {
  const int64_t vocabulary = reference.model().info().vocabulary;
  std::vector<TokenComparison> result(scored.size());
  size_t next = 0;  // of `scored`: the first that no part had
  run_both_in_parts(reference, other, batch, logit_rows_at_once(vocabulary),
                    [&](int64_t first_row, std::span<const float> rows_a, std::span<const float> rows_b) {
                      const size_t begin = next;
                      const int64_t end_row = first_row + static_cast<int64_t>(rows_a.size()) / vocabulary;
                      while (next < scored.size() && scored[next].row < end_row) ++next;
                      parallel_for(threads, static_cast<int64_t>(next - begin), [&](int64_t task, int) {
                        const size_t i = begin + static_cast<size_t>(task);
                        const auto offset = static_cast<size_t>((scored[i].row - first_row) * vocabulary);
                        const auto width = static_cast<size_t>(vocabulary);
                        result[i] = compare_token(rows_a.subspan(offset, width), rows_b.subspan(offset, width),
                                                  scored[i].target);
                      });
                    });
  return result;
}

void set_kl(DecoderComparison& comparison, std::vector<double> kl) {
  std::sort(kl.begin(), kl.end());
  const auto n = static_cast<double>(kl.size());
  const double mean = std::accumulate(kl.begin(), kl.end(), 0.0) / n;
  double squares = 0;
  for (const double value : kl) squares += (value - mean) * (value - mean);
  comparison.kl_mean = {mean, std::sqrt(squares / (n - 1) / n)};
  comparison.kl_p50 = percentile(kl, 0.5);
  comparison.kl_p90 = percentile(kl, 0.9);
  comparison.kl_p99 = percentile(kl, 0.99);
  comparison.kl_max = kl.back();
}

}  // namespace

// With a and b the logits less their row's largest, Z = Σ e^a and W = Σ e^b: KL = Σ e^a (a - b) / Z - log Z + log W.
SoftmaxComparison compare_softmax(std::span<const float> reference, std::span<const float> other) {
  constexpr size_t kLanes = 8;  // partial sums, so that the loop vectorizes: element i adds to partial i mod 8
  struct Sums {
    std::array<double, kLanes> reference = {}, other = {}, difference = {};

    void add(size_t lane, double a, double b) {
      const double e = exp_of_nonpositive(a);
      reference[lane] += e;
      other[lane] += exp_of_nonpositive(b);
      difference[lane] += e > 0 ? e * (a - b) : 0;  // a may be -∞
    }
  } sums;
  const double top = largest(reference), other_top = largest(other);
  size_t i = 0;
  for (; i + kLanes <= reference.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums.add(lane, reference[i + lane] - top, other[i + lane] - other_top);
  }
  for (; i < reference.size(); ++i) sums.add(i % kLanes, reference[i] - top, other[i] - other_top);

  const auto total = [](const std::array<double, kLanes>& partial) {
    return std::accumulate(partial.begin(), partial.end(), 0.0);
  };
  const double z = total(sums.reference), log_z = std::log(z), log_w = std::log(total(sums.other));
  const double kl = total(sums.difference) / z - log_z + log_w;
  // Rounding may leave a sum of equal distributions a little below 0.
  return {.kl = kl < 0 ? 0 : kl, .reference_log_sum = top + log_z, .other_log_sum = other_top + log_w};
}

double percentile(std::span<const double> sorted, double fraction) {
  if (sorted.empty()) fail("no values to take a percentile of");
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  return std::lerp(sorted[below], sorted[below + 1], place - static_cast<double>(below));
}

DecoderComparison compare_decoders(Session& reference, Session& other, const TextWindows& text, int threads,
                                   const std::function<void(int64_t windows)>& advance) {
  require_decoder(reference);
  require_decoder(other);
  const int64_t vocabulary = reference.model().info().vocabulary;
  if (vocabulary != other.model().info().vocabulary) {
    fail<ShapeError>("the models have vocabularies of {} and {} tokens; they cannot be compared", vocabulary,
                     other.model().info().vocabulary);
  }
  if (threads == 0) threads = available_threads();
  DecoderComparison comparison;
  std::vector<double> kl;
  int64_t agreeing = 0;
  for (size_t first = 0, last = 0; first < text.windows.size(); first = last) {
    last = text.batch_end(first, kWindowTokensAtOnce);
    for (const TokenComparison& token :
         compare_windows(reference, other, text.batch(first, last), scored_rows(text, first, last), threads)) {
      kl.push_back(token.kl);
      comparison.reference.add(token.reference_nll);
      comparison.other.add(token.other_nll);
      agreeing += token.same_top ? 1 : 0;
    }
    for (size_t i = first; i < last; ++i) {
      add_text_of(text, text.windows[i], comparison.reference);
      add_text_of(text, text.windows[i], comparison.other);
    }
    if (advance) advance(static_cast<int64_t>(last - first));
  }
  comparison.tokens = static_cast<int64_t>(kl.size());
  comparison.top1_agreement = static_cast<double>(agreeing) / static_cast<double>(comparison.tokens);
  comparison.perplexity_ratio = comparison.other.per_token().value / comparison.reference.per_token().value;
  set_kl(comparison, std::move(kl));
  return comparison;
}

}  // namespace octet

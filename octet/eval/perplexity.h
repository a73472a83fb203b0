// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "octet/eval/text_windows.h"
#include "octet/generate/prefill.h"

namespace octet {

/// The largest of a row of logits, NaN aside; -∞ where there is none.
float largest(std::span<const float> logits);
/// log Σ e^x over a row of logits, in double. NaN where the row holds NaN.
double log_sum_exp(std::span<const float> logits);

/// -log of the probability of token `target`, natural. Throws NumericError for logits with NaN or infinity.
double negative_log_likelihood(std::span<const float> logits, int32_t target);

/// An estimate and its standard error.
struct Estimate {
  double value = 0, standard_error = 0;
};

/// Negative log-likelihoods (natural logarithm) of tokens of a text, and the text that they stand for.
///
/// With n tokens of mean m and standard deviation s (of the sample, divisor n - 1), whose sum S = n · m has the
/// standard error √n · s where tokens are taken as independent, the perplexity per unit is e^(S / units), and its
/// standard error e^(S / units) · √n · s / units by the delta method. Units are tokens, words or bytes.
class NllSums {
 public:
  void add(double nll);
  void add_text(int64_t bytes, int64_t words);

  int64_t tokens() const noexcept { return tokens_; }
  int64_t words() const noexcept { return words_; }
  int64_t bytes() const noexcept { return bytes_; }

  double sum() const noexcept { return mean_ * static_cast<double>(tokens_); }
  Estimate per_token() const { return perplexity(tokens_); }
  /// Not defined, NaN, where the text has no words or bytes.
  Estimate per_word() const { return perplexity(words_); }
  Estimate per_byte() const { return perplexity(bytes_); }
  Estimate bits_per_byte() const;

 private:
  Estimate perplexity(int64_t units) const;
  double standard_error_of_sum() const;

  int64_t tokens_ = 0, words_ = 0, bytes_ = 0;
  double mean_ = 0, squares_ = 0;  ///< of deviations from the mean (Welford, 1962)
};

/// A row of a batch whose logits predict a token that is scored.
struct ScoredRow {
  int64_t row = 0;
  int32_t target = 0;  ///< the token that follows the row's
};

/// The scored tokens of windows [first, last), in the order of their rows in TextWindows::batch(first, last).
std::vector<ScoredRow> scored_rows(const TextWindows& text, size_t first, size_t last);
/// The bytes and words that the scored tokens of a window stand for.
void add_text_of(const TextWindows& text, const TextWindows::Window& window, NllSums& sums);

/// Tokens of windows that run at once, unless one window has more.
constexpr int64_t kWindowTokensAtOnce = 1024;
/// Rows of logits that are held at once: about 16 MiB of them.
int64_t logit_rows_at_once(int64_t vocabulary);

/// Runs the windows and adds up, on `threads` threads where the model itself does not run (0: all). Throws UsageError
/// where the model is no decoder, NumericError for logits with NaN or infinity.
NllSums measure_perplexity(Session& session, const TextWindows& text, int threads,
                           const std::function<void(int64_t windows)>& advance = {});

}  // namespace octet

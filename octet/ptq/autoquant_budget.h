// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace octet {

/// What a budget can speak of.
enum class BudgetTerm : uint8_t {
  kBytes,            ///< of the stored checkpoint
  kKl,               ///< of predictions from the float model's, nats
  kError,            ///< relative, of what a model gives that predicts no distribution
  kMs,               ///< milliseconds that one request takes
  kTokensPerSecond,  ///< of a decoder while it decodes, of others as a whole
};
constexpr size_t kBudgetTerms = 5;

/// "bytes", "kl", "error", "ms", "tokens_per_second"
std::string to_string(BudgetTerm term);
/// A name as above, or "tps". Throws UsageError, with the nearest, for another.
BudgetTerm parse_budget_term(const std::string& name);

/// What a model may take: limits from above, but of tokens per second from below.
struct Budget {
  struct Limit {
    double value = 0;
    bool of_float = false;  ///< value is a share of the float model's
    std::string text;       ///< as it was written
  };
  std::array<std::optional<Limit>, kBudgetTerms> limits;  ///< by BudgetTerm

  const std::optional<Limit>& of(BudgetTerm term) const { return limits[static_cast<size_t>(term)]; }
};

/// "bytes<60%,kl<0.02": terms NAME < NUMBER with commas between them, blanks anywhere; <=, ≤ mean the same as <, and of
/// tokens per second >, >=, ≥ stand in their place. Bytes are a number, one with a unit (kB, MB, GB, KiB, MiB, GiB) or
/// a share of the float model's in %; so may ms and tokens_per_second be shares, and ms have a unit (ms, s). Throws
/// UsageError that points at the term which is not so, or comes twice.
Budget parse_budget(std::string_view text);

}  // namespace octet

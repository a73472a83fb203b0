// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant_budget.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/suggest.h"

namespace octet {
namespace {

const std::vector<std::string> kNames = {"bytes", "kl", "error", "ms", "tokens_per_second"};  // as BudgetTerm has them
constexpr std::string_view kShortName = "tps";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) + 1 - first);
}

// The term that is read, for messages.
struct Place {
  std::string_view term;
  size_t number;

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail<UsageError>("budget, term {} '{}': {}", number, term, fmt::format(format, std::forward<Args>(args)...));
  }
};

// What a unit multiplies a number by; none for one that the term has not.
std::optional<double> factor_of(BudgetTerm term, std::string_view unit) {
  static const std::map<std::string_view, double> bytes = {
      {"B", 1}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"KiB", 1024}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
  static const std::map<std::string_view, double> milliseconds = {{"ms", 1}, {"s", 1e3}};
  if (unit.empty()) return 1;
  const auto find = [unit](const auto& units) {
    const auto found = units.find(unit);
    return found == units.end() ? std::nullopt : std::optional(found->second);
  };
  if (term == BudgetTerm::kBytes) return find(bytes);
  if (term == BudgetTerm::kMs) return find(milliseconds);
  return std::nullopt;
}

Budget::Limit read_limit(BudgetTerm term, std::string_view text, const Place& place) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value)) place.refuse("'{}' is no number", text);
  if (value <= 0) place.refuse("a limit of {} leaves nothing; it must be above 0", text);
  const std::string_view unit = trimmed(text.substr(static_cast<size_t>(end - text.data())));
  Budget::Limit limit{.value = value, .of_float = unit == "%", .text = std::string(place.term)};
  if (limit.of_float) {
    if (term == BudgetTerm::kKl || term == BudgetTerm::kError)
      place.refuse("the float model's is 0, so a share of it is too; write a number");
    limit.value /= 100;
    return limit;
  }
  const std::optional<double> factor = factor_of(term, unit);
  if (!factor) {
    place.refuse("'{}' is no unit of {}; {}", unit, to_string(term),
                 term == BudgetTerm::kBytes ? "kB, MB, GB, KiB, MiB, GiB and % are"
                 : term == BudgetTerm::kMs  ? "ms, s and % are"
                                            : "write a number");
  }
  limit.value *= *factor;
  return limit;
}

}  // namespace

std::string to_string(BudgetTerm term) { return kNames[static_cast<size_t>(term)]; }

BudgetTerm parse_budget_term(const std::string& name) {
  const size_t found = static_cast<size_t>(std::ranges::find(kNames, name) - kNames.begin());
  if (found < kNames.size()) return static_cast<BudgetTerm>(found);
  if (name == kShortName) return BudgetTerm::kTokensPerSecond;
  fail<UsageError>("'{}' is nothing that a budget speaks of.{}", name, did_you_mean(name, kNames));
}

Budget parse_budget(std::string_view text) {
  Budget budget;
  size_t number = 0;
  for (size_t begin = 0; begin <= text.size(); ++number) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const Place place{.term = trimmed(text.substr(begin, end - begin)), .number = number + 1};
    begin = end + 1;
    if (place.term.empty()) place.refuse("is empty; write for example \"bytes<60%,kl<0.02\"");
    // ≤ and ≥ are three bytes long.
    static const std::map<std::string_view, bool> kOperators = {{"<", true},  {"<=", true},  {"≤", true},
                                                                {">", false}, {">=", false}, {"≥", false}};
    const size_t first = place.term.find_first_of("<>\xE2=");
    size_t last = first;
    while (last < place.term.size() &&
           std::string_view("<>=\xE2\x89\xA4\xA5").find(place.term[last]) != std::string_view::npos)
      ++last;
    const auto relation =
        first < place.term.size() ? kOperators.find(place.term.substr(first, last - first)) : kOperators.end();
    if (relation == kOperators.end()) place.refuse("no limit; write for example bytes<60%, kl<0.02 or tps>50");
    const std::string name(trimmed(place.term.substr(0, first)));
    BudgetTerm term{};
    try {
      term = parse_budget_term(name);
    } catch (const UsageError& error) {
      place.refuse("{}", error.what());
    }
    const bool from_above = relation->second;
    if (from_above == (term == BudgetTerm::kTokensPerSecond)) {
      place.refuse("{} can be limited from {} only; write {} in place of {}", to_string(term),
                   from_above ? "below" : "above", from_above ? ">" : "<", relation->first);
    }
    std::optional<Budget::Limit>& limit = budget.limits[static_cast<size_t>(term)];
    if (limit) place.refuse("{} has a limit already, '{}'", to_string(term), limit->text);
    limit = read_limit(term, trimmed(place.term.substr(last)), place);
  }
  return budget;
}

}  // namespace octet

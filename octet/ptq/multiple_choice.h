// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace octet {

/// The multiple-choice knapsack problem (Sinha and Zoltners, 1979) with any number of criteria: of every item one of
/// its choices is taken, what they cost adds up in each criterion, and a criterion's sum may have a limit.
struct MultipleChoice {
  /// items[i][c][d] is what choice c of item i costs in criterion d: finite, of any sign. Every item has a choice, and
  /// every choice as many criteria.
  std::vector<std::vector<std::vector<double>>> items;

  size_t criteria() const { return items.empty() ? 0 : items.front().front().size(); }
  std::vector<double> costs(const std::vector<size_t>& choices) const;
};

struct Selection {
  std::vector<size_t> choices;  ///< of each item
  std::vector<double> costs;    ///< in each criterion
  /// No selection within the limits costs less than this in the objective: the objective's own cost where the selection
  /// is proven to be the best.
  double lower_bound = 0;
};

/// The selection that costs least in criterion `objective` of those within `limits`, one a criterion, infinity for
/// none; of equal ones, one that no other dominates. None where no selection is within.
///
/// Dynamic programming over the items keeps the partial selections that no other dominates, less those that cannot be
/// completed within the limits or, by the bound of a Lagrangian relaxation, better than what is known. That is exact
/// while there are at most `most_states` of them; beyond, of those that cost nearly the same in all criteria but the
/// objective one is kept, and lower_bound says how much better another selection could be.
std::optional<Selection> solve(const MultipleChoice& problem, size_t objective, const std::vector<double>& limits,
                               size_t most_states = 20'000);

/// Selections that are best for some weighting of the criteria, none of which another dominates, by ascending cost in
/// the first criterion: the corners of the Pareto front's convex hull, as far as a grid of weightings finds them.
std::vector<Selection> pareto_front(const MultipleChoice& problem);

}  // namespace octet

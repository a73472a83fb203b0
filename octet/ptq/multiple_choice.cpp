// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/multiple_choice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "octet/base/error.h"

namespace octet {
namespace {

using Costs = std::vector<double>;

void check(const MultipleChoice& problem) {
  if (problem.items.empty()) fail("a choice among no items");
  for (const auto& item : problem.items) {
    if (item.empty()) fail("an item without choices");
    for (const Costs& costs : item) {
      if (costs.size() != problem.criteria() || costs.empty()) fail("choices with different numbers of criteria");
      if (!std::ranges::all_of(costs, [](double cost) { return std::isfinite(cost); }))
        fail("a cost that is not finite");
    }
  }
}

// Of each item the choice that costs least by the weights, the first of equal ones.
std::vector<size_t> cheapest(const MultipleChoice& problem, const Costs& weights) {
  std::vector<size_t> choices;
  for (const auto& item : problem.items) {
    size_t best = 0;
    double least = INFINITY;
    for (size_t c = 0; c < item.size(); ++c) {
      const double cost = std::inner_product(weights.begin(), weights.end(), item[c].begin(), 0.0);
      if (cost < least) least = cost, best = c;
    }
    choices.push_back(best);
  }
  return choices;
}

// What all selections of the items cost at least, and at most, criterion by criterion.
struct Range {
  Costs least, most;

  explicit Range(const MultipleChoice& problem) : least(problem.criteria(), 0), most(problem.criteria(), 0) {
    for (const auto& item : problem.items) {
      for (size_t d = 0; d < least.size(); ++d) {
        const auto [low, high] = std::ranges::minmax(item, {}, [d](const Costs& costs) { return costs[d]; });
        least[d] += low[d];
        most[d] += high[d];
      }
    }
  }
  double width(size_t d) const { return most[d] > least[d] ? most[d] - least[d] : 1; }
};

bool within(const Costs& costs, const Costs& limits) {
  for (size_t d = 0; d < costs.size(); ++d) {
    if (costs[d] > limits[d]) return false;
  }
  return true;
}

// The dual of the problem: with a multiplier λ ≥ 0 on each limit, every selection within the limits costs at least
// Σᵢ min over choices of (objective + Σ λ · cost) - Σ λ · limit (Fisher, 1981).
class Relaxation {
 public:
  Relaxation(const MultipleChoice& problem, size_t objective, const Costs& limits)
      : problem_(problem), objective_(objective), limits_(limits), range_(problem), multipliers_(limits.size(), 0) {
    consider(multipliers_);
    climb_along_axes();
    follow_gradient();
  }

  const Costs& multipliers() const { return multipliers_; }
  double bound() const { return bound_; }
  /// The best selection within the limits that was met on the way.
  const std::optional<std::vector<size_t>>& met() const { return met_; }
  double met_cost() const { return met_cost_; }

 private:
  bool limited(size_t d) const { return std::isfinite(limits_[d]); }

  Costs weights(const Costs& multipliers) const {
    Costs weights = multipliers;
    weights[objective_] += 1;
    return weights;
  }

  // The selection that the multipliers lead to; keeps it, or the multipliers, where they are the best so far.
  Costs consider(const Costs& multipliers) {
    const std::vector<size_t> choices = cheapest(problem_, weights(multipliers));
    Costs costs = problem_.costs(choices);
    double bound = costs[objective_];
    for (size_t d = 0; d < costs.size(); ++d) {
      if (multipliers[d] > 0) bound += multipliers[d] * (costs[d] - limits_[d]);
    }
    if (bound > bound_) bound_ = bound, multipliers_ = multipliers;
    if (within(costs, limits_) && costs[objective_] < met_cost_) met_ = choices, met_cost_ = costs[objective_];
    return costs;
  }

  // A larger multiplier makes its criterion cost less: the smallest that keeps its limit is found by halving, one
  // criterion after another.
  void climb_along_axes() {
    constexpr int kRounds = 4, kHalvings = 50;
    constexpr double kSteepest = 1e6;  // in units of the whole range of the objective a whole range of the criterion
    Costs multipliers(limits_.size(), 0);
    for (int round = 0; round < kRounds; ++round) {
      for (size_t d = 0; d < limits_.size(); ++d) {
        if (!limited(d)) continue;
        double low = 0, high = kSteepest * range_.width(objective_) / range_.width(d);
        multipliers[d] = 0;
        if (consider(multipliers)[d] <= limits_[d]) continue;
        for (int i = 0; i < kHalvings; ++i) {
          // Of scales that differ, so the middle is that of the logarithms once there is one.
          multipliers[d] = low == 0 ? high / 16 : std::sqrt(low * high);
          (consider(multipliers)[d] <= limits_[d] ? high : low) = multipliers[d];
        }
        multipliers[d] = high;
      }
    }
  }

  // Polyak's steps on the dual, which is concave and has the excess over the limits as its gradient.
  void follow_gradient() {
    constexpr int kSteps = 300;
    Costs multipliers = multipliers_;
    for (int step = 0; step < kSteps; ++step) {
      const Costs costs = consider(multipliers);
      double squares = 0;
      for (size_t d = 0; d < costs.size(); ++d) {
        if (limited(d)) squares += std::pow((costs[d] - limits_[d]) / range_.width(d), 2);
      }
      const double gap = (met_ ? met_cost_ : range_.most[objective_]) - bound_;
      if (squares == 0 || gap <= 0) return;
      const double length = gap / squares / (1 + step / 20.0);
      for (size_t d = 0; d < costs.size(); ++d) {
        if (!limited(d)) continue;
        const double width = range_.width(d);
        multipliers[d] = std::max(0.0, multipliers[d] + length * (costs[d] - limits_[d]) / (width * width));
      }
    }
  }

  const MultipleChoice& problem_;
  size_t objective_;
  const Costs& limits_;
  Range range_;
  Costs multipliers_;
  double bound_ = -INFINITY, met_cost_ = INFINITY;
  std::optional<std::vector<size_t>> met_;
};

// A choice of each of the first items.
struct State {
  Costs costs;  ///< in the order of Search::order_
  double bound = 0;
  uint32_t parent = 0;  ///< in the layer before
  uint32_t choice = 0;
};

// Whether a state that comes later in lexicographic order is dominated by one before, looking at the first `criteria`.
class Front {
 public:
  explicit Front(size_t criteria) : criteria_(criteria) {}

  /// Adds it where none dominates it.
  bool add(const Costs& costs) {
    if (criteria_ == 1) return std::exchange(any_, true) == false;
    if (criteria_ <= 3) return add_step(costs[1], criteria_ == 3 ? costs[2] : 0);
    const auto dominates = [&](const Costs& other) {
      for (size_t d = 1; d < criteria_; ++d) {
        if (other[d] > costs[d]) return false;
      }
      return true;
    };
    if (std::ranges::any_of(members_, dominates)) return false;
    members_.push_back(costs);
    return true;
  }

 private:
  // steps_ falls: a point with more x has less y.
  bool add_step(double x, double y) {
    auto after = steps_.upper_bound(x);
    if (after != steps_.begin() && std::prev(after)->second <= y) return false;
    auto first = steps_.lower_bound(x);
    while (first != steps_.end() && first->second >= y) first = steps_.erase(first);
    steps_.emplace(x, y);
    return true;
  }

  size_t criteria_;
  bool any_ = false;
  std::map<double, double> steps_;
  std::vector<Costs> members_;
};

class Search {
 public:
  Search(const MultipleChoice& problem, size_t objective, const Costs& limits, size_t most_states)
      : problem_(problem),
        limits_(limits),
        most_states_(most_states),
        relaxation_(problem, objective, limits),
        best_known_(relaxation_.met_cost()) {
    // The objective, then what is limited, then the others, which decide between equals.
    order_.push_back(objective);
    for (const bool limited : {true, false}) {
      for (size_t d = 0; d < limits.size(); ++d) {
        if (d != objective && std::isfinite(limits[d]) == limited) order_.push_back(d);
      }
      if (limited) deciding_ = order_.size();
    }
    bound_rest();
  }

  std::optional<Selection> run() {
    std::vector<State> states = {{.costs = Costs(order_.size(), 0)}};
    for (size_t item = 0; item < problem_.items.size(); ++item) {
      states = reduced(extended(states, item));
      if (states.empty()) return std::nullopt;
      auto& layer = layers_.emplace_back();
      for (const State& state : states) layer.push_back({state.parent, state.choice});
    }
    // The first in lexicographic order.
    size_t at = 0;
    Selection selection{.choices = std::vector<size_t>(layers_.size()), .costs = {}, .lower_bound = 0};
    for (size_t item = layers_.size(); item-- > 0;) {
      selection.choices[item] = layers_[item][at].choice;
      at = layers_[item][at].parent;
    }
    selection.costs = problem_.costs(selection.choices);
    selection.lower_bound = std::min(selection.costs[order_[0]], least_dropped_);
    return selection;
  }

 private:
  struct Step {
    uint32_t parent, choice;
  };

  // Least costs, and least weighted cost, of the items from each one on.
  void bound_rest() {
    const size_t items = problem_.items.size();
    least_rest_.assign(items + 1, Costs(order_.size(), 0));
    weighted_rest_.assign(items + 1, 0);
    for (size_t d = 0; d < order_.size(); ++d) {
      if (relaxation_.multipliers()[order_[d]] > 0)
        weighted_rest_[items] -= relaxation_.multipliers()[order_[d]] * limits_[order_[d]];
    }
    for (size_t item = items; item-- > 0;) {
      double least = INFINITY;
      Costs& rest = least_rest_[item];
      rest.assign(order_.size(), INFINITY);
      for (const Costs& costs : problem_.items[item]) {
        const Costs ordered = in_order(costs);
        least = std::min(least, weighted(ordered));
        for (size_t d = 0; d < rest.size(); ++d) rest[d] = std::min(rest[d], ordered[d]);
      }
      for (size_t d = 0; d < rest.size(); ++d) rest[d] += least_rest_[item + 1][d];
      weighted_rest_[item] = weighted_rest_[item + 1] + least;
    }
  }

  Costs in_order(const Costs& costs) const {
    Costs ordered;
    for (const size_t d : order_) ordered.push_back(costs[d]);
    return ordered;
  }
  double weighted(const Costs& ordered) const {
    double sum = ordered[0];
    for (size_t d = 0; d < order_.size(); ++d) sum += relaxation_.multipliers()[order_[d]] * ordered[d];
    return sum;
  }
  double limit(size_t d) const { return limits_[order_[d]]; }

  // Sums in another order than costs() may differ in their last bits: a bound must exceed what is known, or a limit, by
  // more than that to say anything.
  static double more_than(double value) { return value + 1e-9 * std::abs(value); }

  std::vector<State> extended(const std::vector<State>& states, size_t item) {
    const bool last = item + 1 == problem_.items.size();
    std::vector<State> next;
    for (size_t c = 0; c < problem_.items[item].size(); ++c) {
      const Costs more = in_order(problem_.items[item][c]);
      for (size_t s = 0; s < states.size(); ++s) {
        State state{.costs = states[s].costs, .parent = static_cast<uint32_t>(s), .choice = static_cast<uint32_t>(c)};
        bool possible = true;
        for (size_t d = 0; d < more.size(); ++d) {
          state.costs[d] += more[d];
          const double least = state.costs[d] + least_rest_[item + 1][d];
          possible = possible && least <= (last ? limit(d) : more_than(limit(d)));
        }
        if (!possible) continue;
        state.bound = weighted(state.costs) + weighted_rest_[item + 1];
        if (state.bound > more_than(best_known_)) continue;
        next.push_back(std::move(state));
      }
    }
    return next;
  }

  std::vector<State> reduced(std::vector<State> states) {
    std::ranges::sort(states, {}, [](const State& state) -> const Costs& { return state.costs; });
    Front front(deciding_);
    std::erase_if(states, [&](const State& state) { return !front.add(state.costs); });
    for (double cells = static_cast<double>(most_states_); states.size() > most_states_; cells /= 2)
      states = one_a_cell(std::move(states), cells);
    return states;
  }

  // Of states that fall into one of about `cells` cells of a grid over all limited criteria the one with the lowest
  // bound.
  std::vector<State> one_a_cell(std::vector<State> states, double cells) {
    const size_t axes = std::max<size_t>(deciding_ - 1, 1);
    const double steps = std::max(1.0, std::floor(std::pow(cells, 1.0 / static_cast<double>(axes))));
    std::vector<std::pair<double, double>> ranges;
    for (size_t d = 1; d < deciding_; ++d) {
      const auto [low, high] = std::ranges::minmax(states, {}, [d](const State& state) { return state.costs[d]; });
      ranges.emplace_back(low.costs[d], high.costs[d] - low.costs[d]);
    }
    std::map<std::vector<int64_t>, size_t> kept;
    std::vector<bool> stays(states.size(), false);
    for (size_t i = 0; i < states.size(); ++i) {
      std::vector<int64_t> cell;
      for (size_t d = 1; d < deciding_; ++d) {
        const auto& [low, width] = ranges[d - 1];
        cell.push_back(width > 0 ? static_cast<int64_t>((states[i].costs[d] - low) / width * steps) : 0);
      }
      const auto [place, is_new] = kept.emplace(std::move(cell), i);
      if (is_new) continue;
      size_t dropped = i;
      if (states[i].bound < states[place->second].bound) std::swap(place->second, dropped);
      least_dropped_ = std::min(least_dropped_, states[dropped].bound);
    }
    for (const auto& [cell, i] : kept) stays[i] = true;
    std::vector<State> left;
    for (size_t i = 0; i < states.size(); ++i) {
      if (stays[i]) left.push_back(std::move(states[i]));
    }
    return left;
  }

  const MultipleChoice& problem_;
  const Costs& limits_;
  size_t most_states_;
  Relaxation relaxation_;
  double best_known_;
  std::vector<size_t> order_;  ///< of the criteria
  size_t deciding_ = 1;        ///< the first of them that dominance looks at
  std::vector<Costs> least_rest_;
  std::vector<double> weighted_rest_;
  std::vector<std::vector<Step>> layers_;
  double least_dropped_ = INFINITY;
};

}  // namespace

std::vector<double> MultipleChoice::costs(const std::vector<size_t>& choices) const {
  Costs sums(criteria(), 0);
  for (size_t i = 0; i < items.size(); ++i) {
    const Costs& costs = items[i].at(choices.at(i));
    for (size_t d = 0; d < sums.size(); ++d) sums[d] += costs[d];
  }
  return sums;
}

std::optional<Selection> solve(const MultipleChoice& problem, size_t objective, const std::vector<double>& limits,
                               size_t most_states) {
  check(problem);
  if (objective >= problem.criteria() || limits.size() != problem.criteria()) {
    fail("an objective or limits for other criteria than the {} that there are", problem.criteria());
  }
  return Search(problem, objective, limits, std::max<size_t>(most_states, 1)).run();
}

std::vector<Selection> pareto_front(const MultipleChoice& problem) {
  check(problem);
  // About as many weightings whatever the number of criteria: from a millionth to a million, the first having weight 1.
  constexpr double kWeightings = 2000, kDecades = 6;
  const size_t criteria = problem.criteria();
  const Range range(problem);
  const auto steps =
      criteria == 1 ? size_t{1} : static_cast<size_t>(std::pow(kWeightings, 1.0 / static_cast<double>(criteria - 1)));
  std::set<std::vector<size_t>> found;
  std::vector<size_t> place(criteria, 0);  // of each but the first: a step on a logarithmic scale
  for (bool more = true; more;) {
    Costs weights(criteria);
    for (size_t d = 0; d < criteria; ++d) {
      const double share = steps > 1 ? static_cast<double>(place[d]) / static_cast<double>(steps - 1) : 0.5;
      weights[d] = (d == 0 ? 1 : std::pow(10, kDecades * (2 * share - 1))) / range.width(d);
    }
    found.insert(cheapest(problem, weights));
    more = false;
    for (size_t d = 1; d < criteria && !more; ++d) {
      place[d] = (place[d] + 1) % steps;
      more = place[d] != 0;
    }
  }
  std::vector<Selection> front;
  for (const std::vector<size_t>& choices : found) {
    Costs costs = problem.costs(choices);
    const double first = costs[0];
    front.push_back({.choices = choices, .costs = std::move(costs), .lower_bound = first});
  }
  const auto dominates = [](const Selection& a, const Selection& b) {
    return a.costs != b.costs && within(a.costs, b.costs);
  };
  std::vector<Selection> corners;
  for (const Selection& one : front) {
    const bool dominated = std::ranges::any_of(front, [&](const Selection& other) { return dominates(other, one); });
    const bool twin = std::ranges::any_of(corners, [&](const Selection& other) { return other.costs == one.costs; });
    if (!dominated && !twin) corners.push_back(one);
  }
  std::ranges::sort(corners, {}, [](const Selection& selection) { return selection.costs; });
  return corners;
}

}  // namespace octet

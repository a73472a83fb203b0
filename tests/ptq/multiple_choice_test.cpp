// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/multiple_choice.h"

#include <cmath>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/sanitized.h"

namespace octet {
namespace {

using Costs = std::vector<double>;

// Calls visit(costs) for every selection.
template <class Visit>
void for_all(const MultipleChoice& problem, Visit visit) {
  std::vector<size_t> choices(problem.items.size(), 0);
  for (size_t i = 0; i < choices.size();) {
    visit(problem.costs(choices));
    for (i = 0; i < choices.size() && ++choices[i] == problem.items[i].size(); ++i) choices[i] = 0;
  }
}

bool within(const Costs& costs, const Costs& limits) {
  for (size_t d = 0; d < costs.size(); ++d) {
    if (costs[d] > limits[d]) return false;
  }
  return true;
}

struct Random {
  std::mt19937 generator;
  int64_t below(int64_t end) { return static_cast<int64_t>(generator() % static_cast<uint32_t>(end)); }
};

// Whole numbers, of which sums are exact and ties frequent; some far larger than others.
MultipleChoice random_problem(Random& random, size_t criteria) {
  MultipleChoice problem;
  const int64_t items = 1 + random.below(6);
  for (int64_t i = 0; i < items; ++i) {
    auto& item = problem.items.emplace_back();
    const int64_t choices = 1 + random.below(5);
    for (int64_t c = 0; c < choices; ++c) {
      Costs& costs = item.emplace_back();
      for (size_t d = 0; d < criteria; ++d)
        costs.push_back(static_cast<double>(random.below(20) - 3) * (random.below(4) == 0 ? 1000 : 1));
    }
  }
  return problem;
}

TEST(MultipleChoice, TheSolutionIsTheBestOfAllSelections) {
  Random random{.generator = std::mt19937(1)};
  int solved = 0, impossible = 0;
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE(round);
    const auto criteria = static_cast<size_t>(1 + random.below(4));
    const MultipleChoice problem = random_problem(random, criteria);
    const auto objective = static_cast<size_t>(random.below(static_cast<int64_t>(criteria)));
    Costs limits(criteria, INFINITY);
    for (double& limit : limits) {
      // Near what some selection costs, where a limit cuts.
      if (random.below(4) > 0) limit = static_cast<double>(random.below(80) * (random.below(3) == 0 ? 100 : 1) - 10);
    }
    double best = INFINITY;
    for_all(problem, [&](const Costs& costs) {
      if (within(costs, limits)) best = std::min(best, costs[objective]);
    });
    const std::optional<Selection> found = solve(problem, objective, limits);
    ASSERT_EQ(found.has_value(), std::isfinite(best));
    ++(found ? solved : impossible);
    if (!found) continue;
    EXPECT_EQ(found->costs, problem.costs(found->choices));
    EXPECT_TRUE(within(found->costs, limits));
    EXPECT_EQ(found->costs[objective], best);
    EXPECT_EQ(found->lower_bound, best);
    // Of equally good ones, one that no other dominates.
    for_all(problem, [&](const Costs& costs) {
      EXPECT_FALSE(costs != found->costs && within(costs, found->costs)) << "dominated";
    });
  }
  EXPECT_GT(solved, 1000);
  EXPECT_GT(impossible, 200);
}

TEST(MultipleChoice, FewStatesStillGiveASelectionAndABoundThatHolds) {
  Random random{.generator = std::mt19937(2)};
  int64_t apart = 0;
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const MultipleChoice problem = random_problem(random, 3);
    Costs limits = {INFINITY, 0, 0};
    std::vector<Costs> all;
    for_all(problem, [&](const Costs& costs) { all.push_back(costs); });
    // Limits that a selection keeps.
    const Costs& kept = all[static_cast<size_t>(random.below(std::ssize(all)))];
    limits[1] = kept[1], limits[2] = kept[2];
    double best = INFINITY;
    for (const Costs& costs : all) {
      if (within(costs, limits)) best = std::min(best, costs[0]);
    }
    const std::optional<Selection> found = solve(problem, 0, limits, 3);
    if (!found) continue;
    EXPECT_TRUE(within(found->costs, limits));
    EXPECT_GE(found->costs[0], best);
    EXPECT_LE(found->lower_bound, best + 1e-9 * std::abs(best));
    apart += found->costs[0] > best ? 1 : 0;
  }
  EXPECT_LT(apart, 100);
}

// As many items as a model has sites, of the few kinds that its blocks have.
TEST(MultipleChoice, AModelsSitesAreSolvedNearlyToTheBound) {
  Random random{.generator = std::mt19937(3)};
  MultipleChoice problem;
  for (int block = 0; block < 30; ++block) {
    for (const double size : {1.0, 0.6, 5.3, 2.7}) {
      auto& item = problem.items.emplace_back();
      const double error = size * (1 + static_cast<double>(random.below(1000)) / 100);
      item.push_back({16 * size, 0, 16 * size});
      item.push_back({8 * size, 0.1 * error, 8.5 * size});
      item.push_back({8 * size, 0.2 * error, 5 * size});
      item.push_back({4.5 * size, 5 * error, 6 * size});
      item.push_back({4.5 * size, 5.5 * error, 4 * size});
      item.push_back({4.2 * size, 9 * error, 5.8 * size});
    }
  }
  const double bytes = problem.costs(std::vector<size_t>(problem.items.size(), 0))[0];
  for (const double share : kSanitized ? std::vector{0.4} : std::vector{0.3, 0.4, 0.5}) {
    const std::optional<Selection> two = solve(problem, 1, {bytes * share, INFINITY, INFINITY});
    ASSERT_TRUE(two);
    EXPECT_LE(two->costs[0], bytes * share);
    EXPECT_GE(two->lower_bound, 0.995 * two->costs[1]);
    const std::optional<Selection> three = solve(problem, 1, {bytes * share, INFINITY, two->costs[2] * 0.98});
    ASSERT_TRUE(three);
    EXPECT_GE(three->costs[1], two->costs[1]);
    EXPECT_GE(three->lower_bound, 0.98 * three->costs[1]);
  }
}

TEST(MultipleChoice, TheFrontHoldsSelectionsThatNoneDominates) {
  Random random{.generator = std::mt19937(4)};
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(round);
    const auto criteria = static_cast<size_t>(1 + random.below(3));
    const MultipleChoice problem = random_problem(random, criteria);
    const std::vector<Selection> front = pareto_front(problem);
    ASSERT_FALSE(front.empty());
    double least = INFINITY;
    for_all(problem, [&](const Costs& costs) {
      least = std::min(least, costs[0]);
      for (const Selection& corner : front)
        EXPECT_FALSE(costs != corner.costs && within(costs, corner.costs)) << "dominated";
    });
    if (criteria == 1) {
      EXPECT_EQ(front.front().costs[0], least);
    }
    EXPECT_TRUE(std::ranges::is_sorted(front, {}, [](const Selection& corner) { return corner.costs; }));
  }
}

TEST(MultipleChoice, WhatIsNoProblemIsRefused) {
  EXPECT_THROW(solve({}, 0, {}), Error);
  EXPECT_THROW(solve({.items = {{}}}, 0, {1}), Error);
  EXPECT_THROW(solve({.items = {{{1, 2}, {1}}}}, 0, {1, 1}), Error);
  EXPECT_THROW(solve({.items = {{{NAN}}}}, 0, {1}), Error);
  EXPECT_THROW(solve({.items = {{{1, 2}}}}, 2, {1, 1}), Error);
}

}  // namespace
}  // namespace octet

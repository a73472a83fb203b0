// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <list>
#include <set>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/scratch_directory.h"
#include "octet/eval/benchmark.h"
#include "octet/generate/prefill.h"
#include "octet/ptq/autoquant_costs.h"
#include "octet/ptq/layer_schemes.h"
#include "octet/ptq/quantize_model.h"
#include "octet/ptq/sample_overlap.h"

namespace octet {
namespace {

// What is summed up and limited.
enum Criterion : size_t { kBytesTaken, kDivergence, kRequestMs, kStepMs, kCriteria };

Criterion criterion_of(BudgetTerm term, bool decodes) {
  switch (term) {
    case BudgetTerm::kBytes:
      return kBytesTaken;
    case BudgetTerm::kKl:
    case BudgetTerm::kError:
      return kDivergence;
    case BudgetTerm::kMs:
      return kRequestMs;
    case BudgetTerm::kTokensPerSecond:
      return decodes ? kStepMs : kRequestMs;
  }
  return kCriteria;
}

constexpr std::array kAllTerms = {BudgetTerm::kBytes, BudgetTerm::kKl, BudgetTerm::kError, BudgetTerm::kMs,
                                  BudgetTerm::kTokensPerSecond};

class Search {
 public:
  Search(const Checkpoint& checkpoint, OutputComparison& comparison, const AutoquantOptions& options)
      : checkpoint_(checkpoint),
        comparison_(comparison),
        options_(options),
        load_(options.load),
        backend_(make_cpu_backend(options.cpu)) {
    if (options.timing_cache) cache_.emplace(*options.timing_cache);
    take_recipes();
  }

  AutoquantReport run() {
    measure_float();
    check_measure();
    report_.objective = objective();
    set_limits();
    const SensitivityReport sensitivities = measure_sensitivities();
    measure_given();
    ProductTimer timer(*backend_, cache_ ? &*cache_ : nullptr);
    AutoquantCosts costs(checkpoint_, load_, timer);
    costs.build(sensitivities, *report_.in_float.measured, given_, switches_);
    report_.timed_products = timer.measured();
    if (cache_) {
      cache_->save();
      report_.notes.insert(report_.notes.end(), cache_->notes().begin(), cache_->notes().end());
    }
    for (AutoquantPoint& point : report_.given) point.schemes = costs.sites_of(Recipe::parse(point.recipe, point.name));
    problem_ = costs.problem([&](const ModelFigures& figures) { return criteria(figures); });
    find_front(costs);
    try_solutions(costs);
    choose();
    return std::move(report_);
  }

 private:
  void take_recipes() {
    std::set<std::string> names;
    for (const Recipe& recipe : options_.recipes) {
      if (!names.insert(recipe.name()).second)
        fail<UsageError>("two recipes are called '{}'; give one another \"name\"", recipe.name());
      if (!options_.calibration && needs_samples(checkpoint_, recipe))
        fail<UsageError>("recipe '{}' needs calibration data, and there is none", recipe.name());
      if (is_layer_scheme(recipe)) schemes_.push_back(recipe);
    }
    if (schemes_.empty()) {
      fail<UsageError>(
          "no scheme for sites to choose from: of the recipes, one at least must have weights, perhaps dynamic "
          "activations, and nothing more, as w8a16 does");
    }
    calibration_ = common_calibration(schemes_);
    // A mixture of both could be applied in neither way.
    const auto loads_only = std::ranges::find_if(schemes_, [](const Recipe& recipe) {
      return parse_json(recipe.text(), recipe.name())["weights"].value("minima", false);
    });
    const auto writes_only = std::ranges::find_if(schemes_, &Recipe::is_offline);
    if (loads_only != schemes_.end() && writes_only != schemes_.end()) {
      fail<UsageError>(
          "recipe '{}' has minima, which only quantizing while loading makes, and '{}' only octet quantize "
          "applies; leave one of them out",
          loads_only->name(), writes_only->name());
    }
  }

  // What a recipe calibrates on.
  const CalibrationData& samples_by(const CalibrationOptions& asked) {
    const auto known = std::ranges::find(samples_, asked, [](const auto& one) { return one.first; });
    if (known != samples_.end()) return known->second;
    const CalibrationData& data = samples_.emplace_back(asked, options_.calibration(asked)).second;
    report_.notes.insert(report_.notes.end(), data.notes.begin(), data.notes.end());
    constexpr double kMuch = 0.25;
    if (const double overlap = sample_overlap(comparison_.sample(), data.samples); overlap > kMuch) {
      report_.notes.push_back(fmt::format(
          "calibration reads {:.0f} % of the tokens that models are compared on, which flatters recipes that "
          "need data; give it a text of its own",
          100 * overlap));
    }
    return data;
  }

  std::vector<double> criteria(const ModelFigures& figures) const {
    return {figures.bytes, figures.divergence, load_.ms(figures), figures.step_ms};
  }

  void advance(const std::string& what, int64_t done, int64_t total) const {
    if (options_.advance) options_.advance(what, done, total);
  }

  bool applies_while_loading(const Recipe& recipe) const {
    return !recipe.is_offline() && !needs_samples(checkpoint_, recipe);
  }

  // In a folder of `scratch`, as octet quantize does it.
  std::filesystem::path write(const Recipe& recipe, bool needs_data, const std::string& what,
                              const ScratchDirectory& scratch) {
    std::filesystem::path out = scratch.path() / "model";
    QuantizeModelOptions how{.cpu = options_.cpu};
    how.data = needs_data ? &samples_by(recipe.calibration()) : nullptr;
    how.advance_calibration = [&](int64_t done, int64_t total) { advance("calibrating " + what, done, total); };
    how.advance = [&](int64_t done, int64_t total) { advance("quantizing " + what, done, total); };
    quantize_model(checkpoint_, recipe, out, how);
    return out;
  }

  // Fills in what applying the recipe takes, and what comes out.
  void apply(const Recipe& recipe, const std::string& what, AutoquantPoint& point) {
    point.needs_data = needs_samples(checkpoint_, recipe);
    point.while_loading = applies_while_loading(recipe);
    if (point.while_loading) {
      point.measured = measure(recipe, what);
    } else {
      const ScratchDirectory scratch(options_.scratch);
      Session session(write(recipe, point.needs_data, what, scratch), {.cpu = options_.cpu});
      point.measured = measure(session, what);
    }
    point.within_budget = within(*point.measured);
  }

  // Of a recipe that is applied while loading.
  ModelFigures measure(const Recipe& recipe, const std::string& what) {
    Session session(checkpoint_.folder(), {.recipe = recipe, .cpu = options_.cpu});
    return measure(session, what);
  }

  ModelFigures measure(Session& session, const std::string& what) {
    ModelFigures figures = size_and_times(session);
    figures.divergence = comparison_.compare(session, what).value;
    return figures;
  }

  // Its times are the float model's but for what attention takes: that of embeddings is known from their products.
  void measure(MeasuredSwitch& one) {
    one.figures = *report_.in_float.measured;
    {
      Session session(checkpoint_.folder(), {.recipe = one.recipe, .cpu = options_.cpu});
      one.figures.bytes = bytes_of(session);
      one.figures.divergence = comparison_.compare(session, one.name()).value;
    }
    if (one.embedding_bits == 0) add_difference_of_times(one);
  }

  // It is little beside what other work does to a machine in the meantime, so both models are timed in turn.
  void add_difference_of_times(MeasuredSwitch& one) {
    ModelFigures with{.prefill_ms = INFINITY, .step_ms = INFINITY}, without = with;
    const auto time = [this](const LoadOptions& how, ModelFigures& least) {
      Session session(checkpoint_.folder(), how);
      const ModelFigures times = times_of(session);
      least.prefill_ms = std::min(least.prefill_ms, times.prefill_ms);
      least.step_ms = std::min(least.step_ms, times.step_ms);
    };
    constexpr int kRounds = 2;
    for (int round = 0; round < kRounds; ++round) {
      time({.cpu = options_.cpu}, without);
      time({.recipe = one.recipe, .cpu = options_.cpu}, with);
    }
    one.figures.prefill_ms += with.prefill_ms - without.prefill_ms;
    one.figures.step_ms += with.step_ms - without.step_ms;
  }

  ModelFigures size_and_times(Session& session) {
    decodes_ = predicts_next_token(session.model().info());
    ModelFigures figures = times_of(session);
    figures.bytes = bytes_of(session);
    return figures;
  }

  static double bytes_of(Session& session) {
    return static_cast<double>(stored_bytes(session.checkpoint(), session.model()));
  }

  ModelFigures times_of(Session& session) const {
    ModelFigures figures;
    if (decodes_) {
      const DecoderTiming timing = time_decoder(
          session, {.batch = load_.batch, .seq = load_.prompt, .decode_tokens = load_.decode_tokens, .repetitions = 5});
      figures.prefill_ms = timing.prefill.min_ms;
      figures.step_ms = timing.decode.min_ms / static_cast<double>(timing.decode_steps);
    } else {
      figures.prefill_ms =
          time_forward(session, random_batch(session.model().info(), load_.batch, load_.prompt), 1, 5).min_ms;
    }
    return figures;
  }

  void measure_float() {
    report_.load = load_;
    report_.in_float = {.name = "float", .recipe = "", .schemes = {}, .predicted = {}, .measured = {}};
    Session session(checkpoint_.folder(), {.cpu = options_.cpu});
    comparison_.set_reference(session);
    report_.in_float.measured = size_and_times(session);
    report_.measure = comparison_.measure();
  }

  void check_measure() const {
    const bool kl = comparison_.measure() == OutputMeasure::kDistributions;
    const BudgetTerm other = kl ? BudgetTerm::kError : BudgetTerm::kKl;
    if (!options_.budget.of(other) && options_.objective != other) return;
    if (kl)
      fail<UsageError>(
          "this model predicts distributions, which are compared by their KL divergence: write kl in "
          "place of error");
    fail<UsageError>(
        "this model predicts no distribution that a KL divergence could be taken of; write error, the "
        "relative error of what it gives, in place of kl");
  }

  BudgetTerm objective() const {
    if (options_.objective) return *options_.objective;
    const bool kl = comparison_.measure() == OutputMeasure::kDistributions;
    for (const BudgetTerm term : {kl ? BudgetTerm::kKl : BudgetTerm::kError, BudgetTerm::kMs, BudgetTerm::kBytes}) {
      if (!options_.budget.of(term)) return term;
    }
    return BudgetTerm::kMs;
  }

  // Of the budget, in the criteria's units.
  void set_limits() {
    limits_.assign(kCriteria, INFINITY);
    const ModelFigures& floats = *report_.in_float.measured;
    for (const BudgetTerm term : kAllTerms) {
      const std::optional<Budget::Limit>& limit = options_.budget.of(term);
      if (!limit) continue;
      const double value = limit->of_float ? limit->value * value_of(term, floats) : limit->value;
      const Criterion criterion = criterion_of(term, decodes_);
      double most = value;
      if (term == BudgetTerm::kError) most = value * value;
      if (term == BudgetTerm::kTokensPerSecond) {
        const auto tokens = static_cast<double>(decodes_ ? load_.batch : load_.batch * load_.prompt);
        most = tokens / value * 1e3;
      }
      limits_[criterion] = std::min(limits_[criterion], most);
    }
  }

  double value_of(BudgetTerm term, const ModelFigures& figures) const {
    switch (term) {
      case BudgetTerm::kBytes:
        return figures.bytes;
      case BudgetTerm::kKl:
        return figures.divergence;
      case BudgetTerm::kError:
        return std::sqrt(figures.divergence);
      case BudgetTerm::kMs:
        return load_.ms(figures);
      case BudgetTerm::kTokensPerSecond:
        return load_.tokens_per_second(figures);
    }
    return 0;
  }

  bool within(const ModelFigures& figures) const {
    const std::vector<double> costs = criteria(figures);
    for (size_t d = 0; d < kCriteria; ++d) {
      if (costs[d] > limits_[d]) return false;
    }
    return true;
  }

  SensitivityReport measure_sensitivities() {
    return measure_sensitivity(
        checkpoint_, schemes_, comparison_,
        {.per = SensitivityUnit::kSite,
         .exact = options_.exact,
         .calibration = calibration_ ? &samples_by(*calibration_).samples : nullptr,
         .cpu = options_.cpu,
         .advance = [&](int64_t done, int64_t total) { advance("trying schemes", done, total); }});
  }

  void measure_given() {
    constexpr const char* kWhat = "measuring recipes";
    const auto add_switch = [&](const nlohmann::json& recipe) {
      switches_.push_back({.recipe = Recipe::parse(json_text(recipe), "embeddings and attention"),
                           .embedding_bits = recipe.value("embeddings", 0),
                           .head_activations = recipe.value("activations", nlohmann::json()),
                           .figures = {}});
    };
    const bool has_head = predicts_over_vocabulary();
    for (const int bits : {8, 4}) {
      add_switch({{"embeddings", bits}});
      if (!has_head) continue;
      add_switch(
          {{"embeddings", bits}, {"activations", {{"bits", 8}, {"granularity", "per_token"}, {"mode", "dynamic"}}}});
    }
    add_switch({{"attention", 8}});
    std::vector<const Recipe*> load, others;
    for (const Recipe& recipe : options_.recipes) (applies_while_loading(recipe) ? load : others).push_back(&recipe);
    const auto total = std::ssize(load) + std::ssize(switches_);
    int64_t done = 0;
    for (const Recipe* recipe : load) {
      add_given(*recipe, recipe->name());
      advance(kWhat, ++done, total);
    }
    for (MeasuredSwitch& one : switches_) {
      measure(one);
      advance(kWhat, ++done, total);
    }
    for (size_t i = 0; i < others.size(); ++i) {
      const Recipe& recipe = *others[i];
      try {
        add_given(recipe, fmt::format("{} ({} of {})", recipe.name(), i + 1, others.size()));
      } catch (const Error& error) {
        report_.notes.push_back(fmt::format("recipe '{}' is left out: {}", recipe.name(), error.what()));
      }
    }
    if (given_.empty()) fail("{}", report_.notes.back());
  }

  void add_given(const Recipe& recipe, const std::string& what) {
    AutoquantPoint point{
        .name = recipe.name(), .recipe = recipe.text(), .schemes = {}, .predicted = {}, .measured = {}};
    apply(recipe, what, point);
    if (is_layer_scheme(recipe)) given_.push_back({&recipe, *point.measured});
    report_.given.push_back(std::move(point));
  }

  bool predicts_over_vocabulary() const {
    return comparison_.measure() == OutputMeasure::kDistributions &&
           load_model(checkpoint_, nullptr)->info().output == OutputKind::kTokenLogits;
  }

  // Evenly spread over its length, of bytes, divergence and the time of a request.
  void find_front(const AutoquantCosts& costs) {
    constexpr size_t kMostPoints = 16;
    const MultipleChoice problem = costs.problem([&](const ModelFigures& figures) {
      std::vector<double> some = criteria(figures);
      some.resize(kStepMs);
      return some;
    });
    const std::vector<Selection> front = pareto_front(problem);
    const size_t shown = std::min(front.size(), kMostPoints);
    for (size_t i = 0; i < shown; ++i) {
      const size_t at = shown < 2 ? 0 : i * (front.size() - 1) / (shown - 1);
      AutoquantPoint point = costs.point(front[at].choices, options_.recipe_name);
      if (costs.in_float(front[at].choices)) point.name = "float";
      point.within_budget = within(*point.predicted);
      report_.front.push_back(std::move(point));
    }
  }

  void try_solutions(const AutoquantCosts& costs) {
    constexpr int kTries = 4;
    // What is left of a limit when it is missed again by as much as it was.
    constexpr double kCaution = 0.99;
    const Criterion goal = criterion_of(report_.objective, decodes_);
    std::vector<double> limits = limits_;
    std::set<std::vector<size_t>> tried;
    for (int i = 0; i < kTries; ++i) {
      const std::optional<Selection> solution = solve(problem_, goal, limits);
      if (!solution || !tried.insert(solution->choices).second) return;
      if (costs.in_float(solution->choices)) {
        if (i > 0) return;
        fail<UsageError>(
            "the float model itself is within this budget, and of what is, it has the best {}. Ask for "
            "less, for example bytes<60%.",
            to_string(report_.objective));
      }
      if (i == 0 && solution->costs[goal] > 0) report_.bound_share = solution->lower_bound / solution->costs[goal];
      AutoquantPoint point = costs.point(solution->choices, options_.recipe_name);
      apply(Recipe::parse(point.recipe, options_.recipe_name), "what was found", point);
      advance("applying what was found", i + 1, kTries);
      const std::vector<double> predicted = criteria(*point.predicted), measured = criteria(*point.measured);
      report_.tried.push_back(std::move(point));
      if (report_.tried.back().within_budget) return;
      for (size_t d = 0; d < kCriteria; ++d) {
        if (measured[d] > limits_[d]) limits[d] = predicted[d] * limits_[d] / measured[d] * kCaution;
      }
    }
  }

  void choose() {
    const Criterion goal = criterion_of(report_.objective, decodes_);
    const AutoquantPoint* best = nullptr;
    const auto order = [&](const AutoquantPoint& point) {
      std::vector<double> costs = criteria(*point.measured);
      costs.insert(costs.begin(), costs[goal]);
      return costs;
    };
    for (const auto* points : {&report_.given, &report_.tried}) {
      for (const AutoquantPoint& point : *points) {
        if (point.within_budget && (best == nullptr || order(point) < order(*best))) best = &point;
      }
    }
    if (best == nullptr) refuse();
    report_.winner = *best;
  }

  std::string format(BudgetTerm term, double cost) const {
    switch (term) {
      case BudgetTerm::kBytes:
        return fmt::format("{:.4g} MB, {:.1f} % of float", cost * 1e-6, 100 * cost / report_.in_float.measured->bytes);
      case BudgetTerm::kKl:
        return fmt::format("{:.3g} nats", cost);
      case BudgetTerm::kError:
        return fmt::format("{:.3g}", std::sqrt(cost));
      case BudgetTerm::kMs:
        return fmt::format("{:.4g} ms", cost);
      case BudgetTerm::kTokensPerSecond:
        return fmt::format("{:.4g} tokens/s",
                           static_cast<double>(decodes_ ? load_.batch : load_.batch * load_.prompt) / cost * 1e3);
    }
    return "";
  }

  // Nothing is within the budget: for each of its terms, how near one can come.
  [[noreturn]] void refuse() const {
    std::string message = "nothing is within this budget. What can be had:";
    for (const BudgetTerm term : kAllTerms) {
      const std::optional<Budget::Limit>& limit = options_.budget.of(term);
      if (!limit) continue;
      const Criterion criterion = criterion_of(term, decodes_);
      std::vector<double> others = limits_;
      others[criterion] = INFINITY;
      const std::optional<Selection> nearest = solve(problem_, criterion, others);
      const Selection alone = *solve(problem_, criterion, std::vector<double>(kCriteria, INFINITY));
      message += fmt::format("\n  {}: ", limit->text);
      if (nearest) {
        message += fmt::format("{} with the other limits kept; ", format(term, nearest->costs[criterion]));
      }
      message += fmt::format("{} without them (predicted)", format(term, alone.costs[criterion]));
      const AutoquantPoint* measured = nullptr;
      for (const auto* points : {&report_.given, &report_.tried}) {
        for (const AutoquantPoint& point : *points) {
          if (measured == nullptr || criteria(*point.measured)[criterion] < criteria(*measured->measured)[criterion])
            measured = &point;
        }
      }
      message +=
          fmt::format("; {} measured ({})", format(term, criteria(*measured->measured)[criterion]), measured->name);
    }
    fail<UsageError>("{}", message);
  }

  const Checkpoint& checkpoint_;
  OutputComparison& comparison_;
  const AutoquantOptions& options_;
  RequestLoad load_;
  std::unique_ptr<Backend> backend_;
  std::optional<TimingCache> cache_;
  bool decodes_ = false;
  std::vector<Recipe> schemes_;                    ///< that sites choose from
  std::optional<CalibrationOptions> calibration_;  ///< of those that need data
  std::list<std::pair<CalibrationOptions, CalibrationData>> samples_;
  AutoquantReport report_;
  std::vector<double> limits_;  ///< by Criterion
  std::vector<MeasuredRecipe> given_;
  std::vector<MeasuredSwitch> switches_;
  MultipleChoice problem_;
};

}  // namespace

double RequestLoad::tokens_per_second(const ModelFigures& figures) const {
  const double ms = decode_tokens > 0 ? figures.step_ms : figures.prefill_ms;
  const auto tokens = static_cast<double>(decode_tokens > 0 ? batch : batch * prompt);
  return ms > 0 ? tokens / ms * 1e3 : 0;
}

RequestLoad default_load(const ModelInfo& info) {
  if (!predicts_next_token(info)) return {.batch = 8, .prompt = std::min<int64_t>(128, info.max_positions)};
  const int64_t decode_tokens = std::clamp<int64_t>(info.max_positions / 8, 1, 64);
  return {.batch = 1,
          .prompt = std::clamp<int64_t>(info.max_positions - decode_tokens, 1, 512),
          .decode_tokens = decode_tokens};
}

AutoquantReport autoquant(const Checkpoint& checkpoint, OutputComparison& comparison, const AutoquantOptions& options) {
  return Search(checkpoint, comparison, options).run();
}

}  // namespace octet

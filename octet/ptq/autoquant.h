// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/ptq/autoquant_budget.h"
#include "octet/ptq/calibration_data.h"
#include "octet/ptq/output_comparison.h"
#include "octet/quant/recipe.h"

namespace octet {

/// What a model takes, and how far it is from the float one.
struct ModelFigures {
  double bytes = 0;       ///< of its stored checkpoint
  double divergence = 0;  ///< see OutputMeasure
  double prefill_ms = 0;  ///< all prompts of a request; of models that are no decoders a forward pass
  double step_ms = 0;     ///< then a token more of every sequence
};

/// A request that a model is made fast for.
struct RequestLoad {
  int64_t batch = 1, prompt = 0, decode_tokens = 0;  ///< decode_tokens: of decoders only

  double ms(const ModelFigures& figures) const {
    return figures.prefill_ms + static_cast<double>(decode_tokens) * figures.step_ms;
  }
  double tokens_per_second(const ModelFigures& figures) const;
};

/// What a request is unless told otherwise: of a decoder 512 tokens and 64 more, or less where its context is shorter;
/// else 8 sequences of 128 tokens.
RequestLoad default_load(const ModelInfo& info);

struct AutoquantOptions {
  Budget budget;
  /// What is to be as good as can be within the budget. None: the first of kl (or error), ms, bytes that the budget
  /// does not limit, or ms.
  std::optional<BudgetTerm> objective = {};
  /// Those that are schemes of layers (see is_layer_scheme) are what sites choose from. They and all others, such as
  /// recipes that fold, are compared with as they are.
  std::vector<Recipe> recipes = {};
  /// Gives samples, chosen as it is told, for recipes that need data; those are refused where it is left out.
  std::function<CalibrationData(const CalibrationOptions& options)> calibration = {};
  /// Where a model is written for a while that is not quantized while loading: in a folder of its own, one at a time.
  std::filesystem::path scratch = std::filesystem::temp_directory_path();
  RequestLoad load = {};
  bool exact = false;  ///< see SensitivityOptions
  CpuBackendOptions cpu = {};
  std::optional<std::filesystem::path> timing_cache = {};
  std::string recipe_name = "autoquant";  ///< of the recipe that is found
  std::function<void(const std::string& what, int64_t done, int64_t total)> advance = {};
};

/// A way to quantize the model: a scheme for all layers, or one for each site.
struct AutoquantPoint {
  std::string name;    ///< a recipe's, "float", or "found"
  std::string recipe;  ///< its JSON; "" of the float model
  /// How many sites have which scheme, in the order of the schemes; then "embeddings=8" (or 4) and "attention=8" where
  /// they are quantized, once each.
  std::vector<std::pair<std::string, int64_t>> schemes;
  bool while_loading = true;  ///< it may be applied so; else octet quantize does it
  bool needs_data = false;    ///< then: with --data
  std::optional<ModelFigures> predicted, measured;
  bool within_budget = false;  ///< by what was measured, or else predicted
};

struct AutoquantReport {
  OutputMeasure measure = OutputMeasure::kDistributions;
  BudgetTerm objective = BudgetTerm::kMs;
  RequestLoad load;
  AutoquantPoint in_float;
  std::vector<AutoquantPoint> given;  ///< the recipes that it was told of, measured: those that load first
  std::vector<AutoquantPoint> front;  ///< predicted; corners of the Pareto front of bytes, divergence and ms
  std::vector<AutoquantPoint> tried;  ///< solutions that were applied and measured
  AutoquantPoint winner;              ///< one of given or tried
  /// No choice among the schemes is predicted to have an objective better than this share of the first solution's.
  double bound_share = 1;
  int64_t timed_products = 0;  ///< measured now; others were in the cache
  std::vector<std::string> notes;
};

/// Finds a recipe for the float model in `checkpoint`: a scheme for each site, the algorithm that finds its weights
/// included, embeddings in float, 8 or 4 bits and attention in float or 8.
///
/// A site's divergence comes from measure_sensitivity, its time from products of its shape (ProductTimer); both are
/// scaled, scheme by scheme, so that their sums over a whole model in one scheme are what is measured of it. Sums are
/// minimized within the budget (see solve); the solution is applied and measured, and where it breaks the budget
/// another is looked for with as much more room. The winner is the best within the budget of all that was measured,
/// given recipes included, so it is never worse than one of those in everything. What is not quantized while loading is
/// measured as quantize_model writes it; where it cannot do that, a recipe is left out, with a note.
///
/// Throws UsageError where nothing measured is within the budget, saying what can be had, where the float model is the
/// best within it, and for a budget that speaks of KL where there is no distribution, or the other way round.
AutoquantReport autoquant(const Checkpoint& checkpoint, OutputComparison& comparison, const AutoquantOptions& options);

}  // namespace octet

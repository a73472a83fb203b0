// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/octet/command_line.h"
#include "octet/io/checkpoint.h"
#include "octet/ptq/calibration_data.h"
#include "octet/ptq/output_comparison.h"
#include "octet/quant/recipe.h"

// What commands share that compare a model's outputs on a sample of text.
namespace octet::cli {

/// --data, --tokens, --window.
struct SampleOptions {
  std::string data;
  int64_t tokens = 512, window = 0;

  void add_to(Command command);
};

/// --calibration, --samples, --quick: of commands that try recipes which may need data.
struct TriedRecipesOptions {
  std::string calibration;
  std::optional<int64_t> samples;
  bool quick = false;
  std::vector<std::string> names;  ///< --schemes

  void add_to(Command command, const std::string& schemes_help);
};

/// Recipes to try, and what those of them that need data calibrate on.
struct TriedRecipes {
  std::vector<Recipe> recipes;
  std::function<CalibrationData(const CalibrationOptions&)> calibration;
};

/// Those that the options name, or else `built_in(models)`, whose recipes that need data are left out, with a warning,
/// where the text cannot calibrate.
TriedRecipes recipes_to_try(const Checkpoint& checkpoint, const TriedRecipesOptions& options, const std::string& data,
                            const std::function<std::vector<Recipe>(Recipe::AppliesTo models)>& built_in);

/// Reads the sample. That it is shorter than was asked, or has truncated lines, is told on stderr.
OutputComparison open_comparison(const Checkpoint& checkpoint, const SampleOptions& options, int threads);

/// "kl", "sentence_vectors", …: in JSON.
std::string measure_name(OutputMeasure measure);
/// "KL divergence of predictions from the float model's", …
std::string measure_description(OutputMeasure measure);
/// "KL" in nats, or "error" in hundredths: a column's head and unit, and a number in it.
std::string measure_column(OutputMeasure measure);
std::string measure_unit(OutputMeasure measure);
std::string format_divergence(OutputMeasure measure, double value);

}  // namespace octet::cli

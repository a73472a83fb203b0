// SPDX-License-Identifier: Apache-2.0
#include "octet/train/quantized_run.h"

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/ptq/quantize_model.h"

namespace octet {
namespace {

Recipe with_scales(const Recipe& recipe, const nlohmann::json& scales) {
  nlohmann::json json = parse_json(recipe.text(), recipe.name());
  if (!scales.empty()) json["activation_scales"] = scales;
  return Recipe::parse(json_text(json, 2), recipe.name());
}

nlohmann::json to_json(const ActivationScale& scale) {
  nlohmann::json out = {{"scale", scale.scale}};
  if (scale.zero_point != 0) out["zero_point"] = scale.zero_point;
  return out;
}

}  // namespace

Recipe calibrated(const Checkpoint& checkpoint, const Recipe& recipe, const TokenBatch& samples,
                  const CpuBackendOptions& cpu, const std::filesystem::path& scratch) {
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  bool missing = false;
  for (const Linear::Part* part : model->linear_parts()) {
    const std::optional<Scheme> scheme = recipe.scheme_for(part->weight.layer, part->weight.shape[1]);
    missing = missing || (scheme && is_static(scheme->activations) && !recipe.has_scale(part->weight.layer));
  }
  if (!missing) return recipe;
  const CalibrationData data{.samples = samples, .options = recipe.calibration(), .sha256 = fingerprint(samples)};
  QuantizeModelOptions options;
  options.data = &data;
  options.cpu = cpu;
  const QuantizeReport report = quantize_model(checkpoint, recipe, scratch, options);
  std::filesystem::remove_all(scratch);
  nlohmann::json scales = nlohmann::json::object();
  for (const SiteReport& site : report.sites) scales[site.site] = to_json(site.estimate.scale);
  return with_scales(recipe, scales);
}

Recipe with_ranges_of(const Model& model, const Recipe& recipe, const QuantizedTraining& training) {
  nlohmann::json scales = nlohmann::json::object();
  for (const Linear* linear : model.linears()) {
    const std::optional<StaticCodes> codes = linear->input_codes();
    if (codes) scales[linear->site().name] = to_json(codes->scale);
  }
  Recipe found = with_scales(recipe, scales);
  if (!training.learns_weight_clips) return found;
  nlohmann::json json = parse_json(found.text(), found.name());
  const auto by_absmax = [](nlohmann::json& says) {
    if (says.contains("weights") && says["weights"].is_object()) says["weights"]["range"] = "absmax";
  };
  by_absmax(json);
  if (json.contains("overrides")) {
    for (nlohmann::json& rule : json["overrides"]) by_absmax(rule);
  }
  return Recipe::parse(json_text(json, 2), recipe.name());
}

void write_recipe(const std::filesystem::path& file, const Recipe& recipe) {
  OutputFile out(file);
  out.write(recipe.text() + "\n");
  out.commit();
}

void check_trainable(const Recipe& recipe) {
  if (recipe.keeps_outliers()) {
    fail<UsageError>(
        "recipe '{}': outlier columns are not trained beside codes; leave 'outliers' out, or quantize what was trained "
        "(octet quantize)",
        recipe.name());
  }
  if (recipe.is_offline()) {
    fail<UsageError>(
        "recipe '{}': its weights are found by an algorithm; training finds them itself. Round to nearest "
        "(\"algorithm\": \"rtn\"), without a fold.",
        recipe.name());
  }
  if (recipe.quantizes_embeddings()) {
    fail<UsageError>("recipe '{}': embeddings are trained in float; leave 'embeddings' out", recipe.name());
  }
  if (!recipe.quantizes_weights()) fail<UsageError>("recipe '{}': it quantizes no weights", recipe.name());
}

}  // namespace octet

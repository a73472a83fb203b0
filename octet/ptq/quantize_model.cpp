// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/quantize_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/compressed_tensors.h"
#include "octet/io/gguf_names.h"
#include "octet/io/other_files.h"
#include "octet/ptq/checkpoint_plan.h"
#include "octet/ptq/quantize_pieces.h"
#include "octet/ptq/weight_quantizer.h"
#include "octet/text/gguf_tokenizer.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Nothing where the file has none.
void write_tokenizer(const GgufFile& from, const fs::path& to) {
  if (!from.has(gguf_keys::kTokenizerModel)) return;
  for (const auto& [name, content] : gguf_tokenizer_files(from)) {
    OutputFile file(to / name);
    file.write(content);
    file.commit();
  }
}

}  // namespace

std::vector<GroupFallback> group_fallbacks(const Recipe& recipe, const Model& model) {
  std::vector<GroupFallback> fallbacks;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    const std::optional<int64_t> asked = recipe.asked_group_size(weight.layer);
    // Recipes do not name embeddings and heads, whose scheme is a matter of its own.
    if (!weight.scheme || weight.over_vocabulary || !asked) continue;
    if (*asked == weight.scheme->weight.group_size) continue;
    const GroupFallback taken{
        .asked = *asked, .inputs = weight.shape[1], .taken = weight.scheme->weight.group_size, .layers = 1};
    const auto known = std::find_if(fallbacks.begin(), fallbacks.end(), [&](const GroupFallback& other) {
      return other.asked == taken.asked && other.inputs == taken.inputs && other.taken == taken.taken;
    });
    if (known == fallbacks.end()) {
      fallbacks.push_back(taken);
    } else {
      ++known->layers;
    }
  }
  return fallbacks;
}

std::string to_string(const GroupFallback& fallback) {
  return fmt::format("group_size {} does not divide {} inputs: {} taken in {} layer{}", fallback.asked, fallback.inputs,
                     fallback.taken == 0 ? "one scale a row" : std::to_string(fallback.taken), fallback.layers,
                     fallback.layers == 1 ? "" : "s");
}

std::unique_ptr<Model> load_to_quantize(const Checkpoint& checkpoint, const Recipe& recipe) {
  // Static scales that it lacks are found, or missed, later.
  const Recipe to_load = recipe.to_be_calibrated();
  std::unique_ptr<Model> model = load_model(checkpoint, &to_load);
  for (int64_t piece = 0; piece < model->pieces(); ++piece) {
    for (Linear* linear : model->piece(piece).linears) {
      for (Linear::Part& part : linear->parts()) {
        Parameter& weight = part.weight;
        if (weight.scheme && !weight.over_vocabulary)
          weight.scheme->weight = resulting_scheme(weight.scheme->weight, recipe.weight_algorithm(weight.layer));
      }
    }
  }
  return model;
}

namespace {

const std::string& reader_of(const Parameter& weight) {
  return weight.tied_head.empty() ? weight.layer : weight.tied_head;
}

// Operands of static attention whose scales calibration finds. Throws as find_targets does.
std::vector<std::string> operands_to_calibrate(const Model& model, const Recipe& recipe, bool has_data) {
  std::vector<std::string> found;
  if (!is_static(model.info().attention)) return found;
  for (const AttentionSite& attention : model.attention_sites()) {
    for (const char* operand : {"q", "k", "v"}) {
      std::string name = attention_operand(attention.site, operand);
      if (has_data && !recipe.has_scale(name)) {
        found.push_back(std::move(name));
      } else {
        recipe.attention_scale(name);
      }
    }
  }
  return found;
}

// Throws where a scale is missing and nothing is there to find it by.
std::map<std::string, LayerTarget> find_targets(const Model& model, const Recipe& recipe, bool has_data) {
  std::map<std::string, LayerTarget> targets;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    if (!weight.scheme || weight.stored_codes) continue;
    const std::string& reader = reader_of(weight);
    const ActivationMode mode = weight.scheme->activations;
    const bool finds = is_static(mode) && has_data && !recipe.has_scale(reader);
    if (is_static(mode) && !finds) recipe.activation_scale(reader, mode, weight.scheme->activation_bits);
    targets[reader] = {.scheme = *weight.scheme, .static_scale = finds, .quantized_here = !weight.over_vocabulary};
  }
  return targets;
}

bool needs_calibration(const Recipe& recipe, const std::map<std::string, LayerTarget>& targets) {
  return !recipe.needs_data().empty() ||
         std::ranges::any_of(targets, [](const auto& target) { return target.second.static_scale; });
}

void check_has_data(const Recipe& recipe, const QuantizeModelOptions& options) {
  const std::string needs = recipe.needs_data();
  if (options.data != nullptr || needs.empty()) return;
  fail<UsageError>("recipe '{}': {} needs calibration data: add --data TEXT, a text of the kind that the model is for",
                   recipe.name(), needs);
}

void check_something_is_quantized(const CheckpointPlan& plan, const Model& model, const Recipe& recipe) {
  if (!plan.schemes.empty() || !plan.embeddings.empty()) return;
  if (model.info().attention != ActivationMode::kFloat) {
    fail(
        "recipe '{}' quantizes attention alone, which leaves nothing to write: apply it while loading, or add "
        "\"weights\": {{\"bits\": 8}}",
        recipe.name());
  }
  const std::vector<const Linear::Part*> parts = model.linear_parts();
  fail("recipe '{}' quantizes none of this model's {} linear layers; its patterns match others. Names look like '{}'.",
       recipe.name(), parts.size(), parts.empty() ? std::string() : parts.front()->weight.layer);
}

// Of vectors that are looked up: a matrix that no layer multiplies by.
bool is_table(const TensorSource& tensor, std::span<const std::string> float_layers) {
  return tensor.shape.rank() == 2 &&
         std::ranges::none_of(float_layers, [&](const std::string& layer) { return tensor.name == layer + ".weight"; });
}

// Now that the outliers are known, layers without any are as those of schemes without.
void set_outliers(Model& model, const QuantizedPieces& pieces) {
  for (int64_t piece = 0; piece < model.pieces(); ++piece) {
    for (Linear* linear : model.piece(piece).linears) {
      for (Linear::Part& part : linear->parts()) {
        Parameter& weight = part.weight;
        if (!weight.scheme || !weight.scheme->weight.outliers || !pieces.has_weight(weight.layer)) continue;
        weight.outlier_columns = pieces.outlier_columns(weight.layer);
        weight.scheme->weight.outliers = !weight.outlier_columns.empty();
      }
    }
  }
}

std::string shard_name(size_t index, size_t shards) {
  return shards == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, shards);
}

// Everything that decides what is written: a run that was killed is taken up by one with the same job only.
std::string job_of(const Checkpoint& checkpoint, const Recipe& recipe, const QuantizeModelOptions& options) {
  json files = json::object();
  const auto add = [&](const fs::directory_entry& entry) {
    if (!entry.is_regular_file()) return;
    files[entry.path().filename().string()] = {entry.file_size(), entry.last_write_time().time_since_epoch().count()};
  };
  if (checkpoint.is_gguf()) {
    add(fs::directory_entry(checkpoint.folder()));
  } else {
    std::ranges::for_each(fs::directory_iterator(checkpoint.folder()), add);
  }
  return json_text(json{{"from", fs::canonical(checkpoint.folder()).string()},
                        {"files", std::move(files)},
                        {"recipe", recipe.text()},
                        {"samples", options.data != nullptr ? json(fingerprint(options.data->samples)) : json()},
                        {"largest_shard", options.largest_shard}});
}

json calibration_config(const CalibrationData& data, const QuantizedPieces& pieces) {
  json sites = json::object();
  for (const SiteReport& site : pieces.sites()) {
    if (site.given) continue;
    sites[site.site] = {{"range", name(site.estimate.method)},
                        {"clipped_share", site.estimate.loss.clipped_share},
                        {"relative_error", site.estimate.loss.relative_error}};
  }
  json folds = json::array();
  for (const FoldReport& fold : pieces.folds())
    folds.push_back({{"from", fold.from}, {"into", fold.into}, {"alpha", fold.alpha ? json(*fold.alpha) : json()}});
  json out = {{"data", {{"sha256", data.sha256}, {"samples_sha256", fingerprint(data.samples)}}},
              {"samples", data.samples.sequences()},
              {"tokens", data.samples.tokens()},
              {"sequence_length", data.options.sequence_length},
              {"seed", data.options.seed}};
  if (!sites.empty()) out["activation_ranges"] = std::move(sites);
  if (!folds.empty()) out["folds"] = std::move(folds);
  return out;
}

std::vector<LayerReport> report_layers(const Checkpoint& checkpoint, const Model& model,
                                       const std::map<std::string, WeightReport>& weights,
                                       const QuantizedPieces& pieces) {
  std::vector<LayerReport> layers;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    const StoredTensor stored = describe_values(checkpoint, weight);
    // Of a tensor that is written as the values it is read as, or as other ones in fp32.
    const DType dtype = pieces.changes(weight.layer + ".weight") ? DType::kF32 : stored.dtype;
    LayerReport layer{.name = weight.layer,
                      .scheme = weight.scheme,
                      .over_vocabulary = weight.over_vocabulary,
                      .bytes_before = stored.bytes,
                      .bytes_after = stored.shape.elements() * byte_size(dtype),
                      .inputs = weight.shape[1]};
    if (weight.scheme) {
      const WeightReport& report = weights.at(weight.layer);
      layer.relative_error = report.relative_error;
      if (!std::isnan(report.output_error)) layer.output_error = report.output_error;
      layer.notes = report.notes;
      layer.bytes_after = stored_bytes(weight);
      layer.outlier_columns = std::ssize(weight.outlier_columns);
      layer.outlier_bytes = encoded_outlier_bytes(weight.shape[0], layer.outlier_columns);
      const std::string twin = weight.tied_head + ".weight";
      if (!weight.tied_head.empty() && checkpoint.contains(twin)) layer.bytes_before += checkpoint.describe(twin).bytes;
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace

bool needs_samples(const Checkpoint& checkpoint, const Recipe& recipe) {
  return needs_calibration(recipe, find_targets(*load_to_quantize(checkpoint, recipe), recipe, true));
}

QuantizeReport quantize_model(const Checkpoint& checkpoint, const Recipe& recipe, const fs::path& out,
                              const QuantizeModelOptions& options) {
  if (options.largest_shard < 1) fail<UsageError>("files of {} bytes; at least 1 is", options.largest_shard);
  check_has_data(recipe, options);
  const std::unique_ptr<Model> model = load_to_quantize(checkpoint, recipe);
  const std::map<std::string, LayerTarget> targets = find_targets(*model, recipe, options.data != nullptr);
  const bool calibrates =
      !operands_to_calibrate(*model, recipe, options.data != nullptr).empty() || needs_calibration(recipe, targets);

  std::map<std::string, WeightReport> made;  // by layer
  int64_t done = 0, total = 0;
  const auto advance = [&] {
    ++done;
    if (options.advance) options.advance(done, total);
  };
  QuantizedPieces pieces;
  const auto weights = std::make_shared<LayerWeights>(recipe, pieces, options.cpu.threads,
                                                      [&](const std::string& layer, const WeightReport& report) {
                                                        made[layer] = report;
                                                        advance();
                                                      });
  // Before anything is calibrated, for what is impossible.
  check_something_is_quantized(plan_checkpoint(checkpoint, *model, pieces, weights), *model, recipe);
  ResumableDirectory directory(out, job_of(checkpoint, recipe, options));

  QuantizeReport report;
  report.unmatched_patterns = unmatched_patterns(recipe, *model);
  report.group_fallbacks = group_fallbacks(recipe, *model);
  if (options.data != nullptr && !calibrates)
    report.notes.push_back(fmt::format("recipe '{}' needs no calibration data; none was used", recipe.name()));
  if (calibrates) {
    report.notes = options.data->notes;
    pieces = quantize_pieces(checkpoint, recipe, targets, *options.data, directory, options.cpu,
                             options.advance_calibration);
    set_outliers(*model, pieces);
    for (const auto& [layer, target] : targets) {
      if (pieces.has_weight(layer)) made[layer] = pieces.report(layer);
    }
    report.sites = pieces.sites();
    report.folds = pieces.folds();
    if (pieces.uncorrected() > 0)
      report.notes.push_back(fmt::format("{} layers have no bias to correct", pieces.uncorrected()));
  }
  CheckpointPlan plan = plan_checkpoint(checkpoint, *model, pieces, weights);
  total = std::ranges::count_if(plan.units, [&](const CheckpointPlan::Unit& unit) {
    return unit.layer != nullptr && !pieces.has_weight(unit.layer->weight.layer);
  });
  std::vector<std::vector<CheckpointPlan::Unit>> shards = into_shards(std::move(plan.units), options.largest_shard);
  json places = json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = shard_name(i, shards.size());
    const std::optional<std::string> finished = directory.finished(file);
    SafetensorsWriter writer;
    json reports = finished ? parse_json(*finished, file) : json::object();
    for (CheckpointPlan::Unit& unit : shards[i]) {
      for (TensorSource& tensor : unit.tensors) {
        report.bytes_after += tensor.shape.elements() * byte_size(tensor.dtype);
        report.float_tables = report.float_tables || (unit.layer == nullptr && is_table(tensor, plan.float_layers));
        places[tensor.name] = file;
        if (!finished) writer.add(std::move(tensor));
      }
      if (!finished || unit.layer == nullptr || pieces.has_weight(unit.layer->weight.layer)) continue;
      made[unit.layer->weight.layer] = weight_report_of(reports.at(unit.layer->weight.layer));
      ++report.resumed_layers;
      advance();
    }
    if (finished) continue;
    writer.write(directory.path() / file);
    for (const CheckpointPlan::Unit& unit : shards[i]) {
      if (unit.layer != nullptr) reports[unit.layer->weight.layer] = to_json(made.at(unit.layer->weight.layer));
    }
    directory.finish(file, json_text(reports));
  }
  report.bytes_before = checkpoint.bytes();
  report.layers = report_layers(checkpoint, *model, made, pieces);

  const auto write = [&](const char* name, const json& content) {
    OutputFile file(directory.path() / name);
    file.write(json_text(content, 2) + "\n");
    file.commit();
  };
  if (shards.size() > 1) {
    write("model.safetensors.index.json",
          {{"metadata", {{"total_size", report.bytes_after}}}, {"weight_map", std::move(places)}});
  }
  json config = quantized_model_config(checkpoint.config(), plan.schemes, plan.float_layers, plan.embeddings,
                                       model->info().attention, model->info().attention_bits);
  if (calibrates) config["octet_calibration"] = calibration_config(*options.data, pieces);
  write("config.json", config);
  if (checkpoint.is_gguf()) {
    write_tokenizer(GgufFile::open(checkpoint.folder()), directory.path());
  } else {
    copy_other_files(checkpoint.folder(), directory.path());
  }
  directory.commit();
  return report;
}

}  // namespace octet

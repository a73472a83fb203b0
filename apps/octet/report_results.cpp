// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/report_results.h"

#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/ptq/site_facts.h"

namespace octet::cli {
namespace {

constexpr int64_t kLargestFile = int64_t{256} << 20;
constexpr IntegerRange kCount = {.min = 0};

template <class T>
void fill(std::optional<T>& place, const std::optional<T>& value) {
  if (value) place = value;
}
template <class T>
void fill(T& place, const T& value) {
  if (!value.empty()) place = value;
}

// What `from` knows, over what is known already.
void merge(VariantFacts& to, const VariantFacts& from) {
  fill(to.recipe, from.recipe);
  fill(to.bytes, from.bytes);
  fill(to.packed_bytes, from.packed_bytes);
  fill(to.perplexity, from.perplexity);
  fill(to.kl, from.kl);
  fill(to.top1_agreement, from.top1_agreement);
  fill(to.decode_tokens_per_s, from.decode_tokens_per_s);
  fill(to.prefill_tokens_per_s, from.prefill_tokens_per_s);
  fill(to.output_error, from.output_error);
  fill(to.cosine_mean, from.cosine_mean);
  fill(to.cosine_min, from.cosine_min);
  fill(to.forward_ms, from.forward_ms);
  fill(to.layers, from.layers);
  fill(to.sites, from.sites);
  fill(to.calibration, from.calibration);
  to.notes.insert(to.notes.end(), from.notes.begin(), from.notes.end());
}

void add_facts(const Config& json, ModelFacts& facts) {
  const ModelFacts other = read_model_facts(json);
  fill(facts.accuracy_data, other.accuracy_data);
  fill(facts.speed_load, other.speed_load);
  fill(facts.sample, other.sample);
  merge(facts.reference, other.reference);
  fill(facts.predicted_front, other.predicted_front);
  for (const VariantFacts& variant : other.variants) merge(variant_named(facts, variant.name), variant);
}

MeasuredValue perplexity_of(const Config& json) {
  return {json.number("perplexity"), json.has("perplexity_standard_error")
                                         ? std::optional(json.number("perplexity_standard_error"))
                                         : std::nullopt};
}

void add_decoder_comparison(const Config& json, ModelFacts& facts, VariantFacts& variant) {
  const Config a = json.object("a"), b = json.object("b");
  variant.kl = MeasuredValue{json.number("kl_mean"), json.number("kl_mean_standard_error")};
  variant.top1_agreement = json.number("top1_agreement");
  variant.perplexity = perplexity_of(b);
  variant.bytes = b.integer("bytes", kCount);
  if (!facts.reference.perplexity) facts.reference.perplexity = perplexity_of(a);
  if (!facts.reference.bytes) facts.reference.bytes = a.integer("bytes", kCount);
}

void add_encoder_comparison(const Config& json, ModelFacts& facts, VariantFacts& variant) {
  const Config a = json.object("a"), b = json.object("b");
  variant.output_error = json.number("relative_error");
  variant.cosine_mean = json.number("cosine_mean");
  variant.cosine_min = json.number("cosine_min");
  variant.bytes = b.integer("bytes", kCount);
  if (!facts.reference.bytes) facts.reference.bytes = a.integer("bytes", kCount);
}

void add_bench(const Config& json, VariantFacts& variant) {
  variant.packed_bytes = json.integer("packed_bytes", kCount);
  if (json.has("prefill_tokens_per_s")) {
    variant.prefill_tokens_per_s = json.number("prefill_tokens_per_s");
    variant.decode_tokens_per_s = json.number("decode_tokens_per_s");
  } else {
    variant.forward_ms = json.number("median_ms");
  }
}

void add_quantize_report(const Config& json, ModelFacts& facts, VariantFacts& variant) {
  variant.bytes = json.integer("bytes", kCount);
  if (!facts.reference.bytes) facts.reference.bytes = json.integer("bytes_before", kCount);
  std::vector<LayerFacts> layers;
  for (const Config& entry : objects(json, "layers")) {
    LayerFacts layer;
    layer.name = entry.text("name");
    std::tie(layer.block, layer.kind) = place_of_layer(layer.name);
    layer.bytes = entry.integer("bytes", kCount);
    layer.scheme = entry.text("scheme", "");
    if (entry.has("relative_error")) layer.relative_error = entry.number("relative_error");
    if (entry.has("output_error")) layer.output_error = entry.number("output_error");
    layer.notes = entry.texts("notes");
    layers.push_back(std::move(layer));
  }
  std::vector<SiteFacts> sites;
  for (const Config& entry : objects(json, "activation_ranges")) {
    SiteFacts site;
    site.name = entry.text("site");
    std::tie(site.block, site.kind) = place_of_layer(site.name);
    // Codes of a zero point are unsigned.
    const bool has_zero_point = entry.has("zero_point");
    site.fixed =
        static_range(has_zero_point ? ActivationMode::kStaticPerTensorZeroPoint : ActivationMode::kStaticPerTensor,
                     {.scale = static_cast<float>(entry.number("scale")),
                      .zero_point = static_cast<int>(entry.integer("zero_point", 0, {.min = 0, .max = 255})),
                      .bits = static_cast<int>(entry.integer("bits", 8, {.min = 2, .max = 8}))});
    site.fixed->method = entry.text("range", "");
    site.fixed->clipped_share = entry.number("clipped_share");
    site.fixed->zeroed_share = entry.number("zeroed_share");
    site.fixed->relative_error = entry.number("relative_error");
    site.dynamic_error = entry.number("dynamic_relative_error");
    sites.push_back(std::move(site));
  }
  fill(variant.sites, sites);
  for (const std::string& note : json.texts("notes")) variant.notes.push_back(note);
  // What was measured on the weights themselves says more.
  if (variant.layers.empty()) {
    variant.layers = std::move(layers);
    return;
  }
  for (const LayerFacts& layer : layers) {
    const auto known = std::find_if(variant.layers.begin(), variant.layers.end(),
                                    [&](const LayerFacts& other) { return other.name == layer.name; });
    if (known == variant.layers.end()) continue;
    fill(known->relative_error, layer.relative_error);
    fill(known->output_error, layer.output_error);
    fill(known->notes, layer.notes);
  }
}

// Figures as `octet autoquant` prints them, of requests of `request`.
struct Figures {
  int64_t bytes = 0;
  std::optional<double> kl = {}, output_error = {};
  std::optional<double> prefill_tokens_per_s = {}, decode_tokens_per_s = {}, forward_ms = {};
};

Figures read_figures(const Config& json, const Config& request) {
  const auto optional = [&](const char* key) { return json.has(key) ? std::optional(json.number(key)) : std::nullopt; };
  Figures out{.bytes = json.integer("bytes", kCount), .kl = optional("kl"), .output_error = optional("error")};
  const double prefill_ms = json.number("prefill_ms");
  const auto batch = static_cast<double>(request.integer("batch", kCount)),
             prompt = static_cast<double>(request.integer("prompt", kCount));
  if (const std::optional<double> step_ms = optional("step_ms")) {
    if (prefill_ms > 0) out.prefill_tokens_per_s = batch * prompt / prefill_ms * 1e3;
    if (*step_ms > 0) out.decode_tokens_per_s = batch / *step_ms * 1e3;
  } else {
    out.forward_ms = prefill_ms;
  }
  return out;
}

template <class Facts>
void fill_figures(Facts& facts, const Figures& figures) {
  facts.bytes = figures.bytes;
  fill(facts.output_error, figures.output_error);
  fill(facts.prefill_tokens_per_s, figures.prefill_tokens_per_s);
  fill(facts.decode_tokens_per_s, figures.decode_tokens_per_s);
  fill(facts.forward_ms, figures.forward_ms);
}

void add_autoquant(const Config& json, ModelFacts& facts) {
  const Config request = json.object("request");
  fill_figures(facts.reference, read_figures(json.object("float").object("measured"), request));
  const auto add = [&](const Config& point, const std::string& name) {
    if (!point.has("measured")) return;
    const Figures figures = read_figures(point.object("measured"), request);
    VariantFacts& variant = variant_named(facts, name);
    fill_figures(variant, figures);
    if (figures.kl) variant.kl = MeasuredValue{*figures.kl};
    if (point.has("recipe")) variant.recipe = json_text(point.object("recipe").json());
  };
  for (const Config& point : objects(json, "recipes")) add(point, point.text("name"));
  const Config winner = json.object("winner");
  add(winner, winner.text("name"));
  for (const Config& point : objects(json, "front")) {
    if (!point.has("predicted")) continue;
    const Figures figures = read_figures(point.object("predicted"), request);
    PredictedModel& model = facts.predicted_front.emplace_back();
    fill_figures(model, figures);
    model.kl = figures.kl;
  }
  for (const std::string& note : json.texts("notes")) facts.reference.notes.push_back(note);
}

// What each layer alone does, by scheme: the variants of these names.
void add_sensitivity(const Config& json, ModelFacts& facts) {
  for (const Config& entry : objects(json, "entries")) {
    VariantFacts& variant = variant_named(facts, entry.text("scheme"));
    const std::vector<std::string> names = entry.texts("layers");
    for (const std::string& name : names) {
      auto layer = std::find_if(variant.layers.begin(), variant.layers.end(),
                                [&](const LayerFacts& other) { return other.name == name; });
      if (layer == variant.layers.end()) {
        layer = variant.layers.emplace(variant.layers.end());
        layer->name = name;
        std::tie(layer->block, layer->kind) = place_of_layer(name);
        layer->relative_error = entry.number("weight_error");
      }
      if (entry.has("output_error")) layer->output_error = entry.number("output_error");
      if (entry.has("kl")) layer->kl = entry.number("kl");
      if (names.size() > 1)
        layer->notes.push_back("KL divergence and error of outputs of " + entry.text("unit") + " together");
    }
  }
}

// A list, as `octet bench` prints of several loads, counts by its first.
Config parse_results(const std::string& file) {
  const nlohmann::json json = parse_json(read_text_file(file, kLargestFile), file);
  if (!json.is_array()) return Config::parse(json_text(json), file);
  if (json.empty()) fail<FormatError>("{}: an empty list; no results are in it", file);
  return Config::parse(json_text(json.front()), file + ", [0]");
}

}  // namespace

VariantFacts& variant_named(ModelFacts& facts, const std::string& name) {
  if (name == facts.reference.name) return facts.reference;
  const auto known = std::find_if(facts.variants.begin(), facts.variants.end(),
                                  [&](const VariantFacts& variant) { return variant.name == name; });
  if (known != facts.variants.end()) return *known;
  facts.variants.emplace_back();
  facts.variants.back().name = name;
  return facts.variants.back();
}

void add_results(const std::string& given, ModelFacts& facts) {
  std::string file = given, name;
  if (const size_t equals = given.find('='); equals != std::string::npos && !std::filesystem::exists(given)) {
    name = given.substr(0, equals);
    file = given.substr(equals + 1);
  }
  const Config json = parse_results(file);
  if (json.has("reference") && json.has("variants")) {
    add_facts(json, facts);
    return;
  }
  if (json.has("winner") && json.has("front")) {
    add_autoquant(json, facts);
    return;
  }
  if (json.has("entries") && json.has("measure")) {
    add_sensitivity(json, facts);
    return;
  }
  const bool decoders = json.has("kl_mean"), encoders = json.has("cosine_mean"), quantized = json.has("bytes_before"),
             timed = json.has("prefill_tokens_per_s") || json.has("median_ms");
  if (!decoders && !encoders && !quantized && !timed) {
    fail<FormatError>(
        "{}: is not what Octet prints with --json: it has none of the keys 'variants' (report), 'kl_mean' or "
        "'cosine_mean' "
        "(compare), 'prefill_tokens_per_s' or 'median_ms' (bench), 'bytes_before' (quantize), 'winner' (autoquant), "
        "'entries' (sensitivity)",
        json.source());
  }
  if (name.empty()) name = json.text("recipe", std::filesystem::path(file).stem().string());
  VariantFacts& variant = variant_named(facts, name);
  if (decoders) add_decoder_comparison(json, facts, variant);
  if (encoders) add_encoder_comparison(json, facts, variant);
  if (quantized) add_quantize_report(json, facts, variant);
  if (timed) add_bench(json, variant);
}

}  // namespace octet::cli

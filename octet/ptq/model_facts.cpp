// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/model_facts.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostBins = 4096;

template <class T>
void put(Json& json, const char* key, const std::optional<T>& value) {
  if (value) json[key] = *value;
}
void put(Json& json, const char* key, const std::string& text) {
  if (!text.empty()) json[key] = text;
}
void put(Json& json, const char* key, const std::vector<std::string>& texts) {
  if (!texts.empty()) json[key] = texts;
}
void put(Json& json, const char* key, const std::optional<MeasuredValue>& measured) {
  if (!measured) return;
  json[key] = {{"value", measured->value}};
  put(json[key], "standard_error", measured->standard_error);
}
void put(Json& json, const char* key, const std::optional<HistogramFacts>& histogram) {
  if (histogram) json[key] = {{"low", histogram->low}, {"high", histogram->high}, {"counts", histogram->counts}};
}

Json to_json(const LayerFacts& layer) {
  Json json = {{"name", layer.name}};
  put(json, "block", layer.block);
  json["kind"] = layer.kind;
  json["outputs"] = layer.outputs;
  json["inputs"] = layer.inputs;
  json["bytes"] = layer.bytes;
  put(json, "scheme", layer.scheme);
  put(json, "relative_error", layer.relative_error);
  put(json, "output_error", layer.output_error);
  put(json, "kl", layer.kl);
  put(json, "outside_share", layer.outside_share);
  put(json, "codes", layer.codes);
  if (layer.codes) json["code_range"] = {layer.code_range.first, layer.code_range.second};
  put(json, "notes", layer.notes);
  return json;
}

Json to_json(const SiteFacts& site) {
  Json json = {{"name", site.name}};
  put(json, "block", site.block);
  json["kind"] = site.kind;
  json["rows"] = site.rows;
  json["smallest"] = site.smallest;
  json["largest"] = site.largest;
  put(json, "dynamic_error", site.dynamic_error);
  put(json, "values", site.values);
  if (site.fixed) {
    Json& fixed = json["static"] = Json::object();
    put(fixed, "method", site.fixed->method);
    fixed["low"] = site.fixed->low;
    fixed["high"] = site.fixed->high;
    fixed["clipped_share"] = site.fixed->clipped_share;
    put(fixed, "clipped_energy", site.fixed->clipped_energy);
    put(fixed, "zeroed_share", site.fixed->zeroed_share);
    fixed["relative_error"] = site.fixed->relative_error;
  }
  return json;
}

Json to_json(const VariantFacts& variant) {
  Json json = {{"name", variant.name}};
  put(json, "recipe", variant.recipe);
  put(json, "bytes", variant.bytes);
  put(json, "packed_bytes", variant.packed_bytes);
  put(json, "perplexity", variant.perplexity);
  put(json, "kl", variant.kl);
  put(json, "top1_agreement", variant.top1_agreement);
  put(json, "decode_tokens_per_s", variant.decode_tokens_per_s);
  put(json, "prefill_tokens_per_s", variant.prefill_tokens_per_s);
  put(json, "output_error", variant.output_error);
  put(json, "cosine_mean", variant.cosine_mean);
  put(json, "cosine_min", variant.cosine_min);
  put(json, "forward_ms", variant.forward_ms);
  for (const auto& [name, value] : variant.calibration)
    json["calibration"].push_back({{"name", name}, {"value", value}});
  put(json, "notes", variant.notes);
  for (const LayerFacts& layer : variant.layers) json["layers"].push_back(to_json(layer));
  for (const SiteFacts& site : variant.sites) json["sites"].push_back(to_json(site));
  return json;
}

constexpr IntegerRange kCount = {.min = 0};

std::optional<double> optional_number(const Config& json, std::string_view key, double low = 0,
                                      double high = INFINITY) {
  if (!json.has(key)) return std::nullopt;
  const double value = json.number(key);
  if (!(value >= low && value <= high))
    fail<FormatError>("{}: '{}' is {}; it must lie in [{}, {}]", json.source(), key, value, low, high);
  return value;
}

std::optional<int64_t> optional_count(const Config& json, std::string_view key) {
  return json.has(key) ? std::optional(json.integer(key, kCount)) : std::nullopt;
}

std::optional<MeasuredValue> read_measured(const Config& json, std::string_view key) {
  if (!json.has(key)) return std::nullopt;
  const Config object = json.object(key);
  return MeasuredValue{object.number("value"), optional_number(object, "standard_error")};
}

std::optional<HistogramFacts> read_histogram(const Config& json, std::string_view key) {
  if (!json.has(key)) return std::nullopt;
  const Config object = json.object(key);
  HistogramFacts out{.low = object.number("low"), .high = object.number("high"), .counts = {}};
  for (const double count : object.numbers("counts")) {
    if (!(count >= 0 && count < 9e18 && count == std::floor(count)))
      fail<FormatError>("{}: '{}' holds {}; counts are whole numbers", object.source(), "counts", count);
    out.counts.push_back(static_cast<int64_t>(count));
  }
  if (!(out.low < out.high) || out.counts.empty() || out.counts.size() > kMostBins) {
    fail<FormatError>("{}: '{}' has {} bins from {} to {}; from 1 to {} in ascending order can be had", object.source(),
                      key, out.counts.size(), out.low, out.high, kMostBins);
  }
  return out;
}

LayerFacts read_layer(const Config& json) {
  LayerFacts layer;
  layer.name = json.text("name");
  layer.block = optional_count(json, "block");
  layer.kind = json.text("kind", layer.name);
  layer.outputs = json.integer("outputs", 0, kCount);
  layer.inputs = json.integer("inputs", 0, kCount);
  layer.bytes = json.integer("bytes", 0, kCount);
  layer.scheme = json.text("scheme", "");
  layer.relative_error = optional_number(json, "relative_error");
  layer.output_error = optional_number(json, "output_error");
  layer.kl = optional_number(json, "kl");
  layer.outside_share = optional_number(json, "outside_share", 0, 1);
  layer.codes = read_histogram(json, "codes");
  if (layer.codes) {
    const std::vector<double> range = json.numbers("code_range");
    if (range.size() != 2 || !(range[0] < range[1]))
      fail<FormatError>("{}: '{}' must be the lowest and the highest code", json.source(), "code_range");
    layer.code_range = {range[0], range[1]};
  }
  layer.notes = json.texts("notes");
  return layer;
}

SiteFacts read_site(const Config& json) {
  SiteFacts site;
  site.name = json.text("name");
  site.block = optional_count(json, "block");
  site.kind = json.text("kind", site.name);
  site.rows = json.integer("rows", 0, kCount);
  site.smallest = json.number("smallest");
  site.largest = json.number("largest");
  site.dynamic_error = optional_number(json, "dynamic_error");
  site.values = read_histogram(json, "values");
  if (json.has("static")) {
    const Config fixed = json.object("static");
    StaticFacts facts;
    facts.method = fixed.text("method", "");
    facts.low = fixed.number("low");
    facts.high = fixed.number("high");
    facts.clipped_share = optional_number(fixed, "clipped_share", 0, 1).value_or(0);
    facts.clipped_energy = optional_number(fixed, "clipped_energy", 0, 1);
    facts.zeroed_share = optional_number(fixed, "zeroed_share", 0, 1);
    facts.relative_error = optional_number(fixed, "relative_error").value_or(0);
    site.fixed = std::move(facts);
  }
  return site;
}

VariantFacts read_variant(const Config& json) {
  VariantFacts variant;
  variant.name = json.text("name");
  variant.recipe = json.text("recipe", "");
  variant.bytes = optional_count(json, "bytes");
  variant.packed_bytes = optional_count(json, "packed_bytes");
  variant.perplexity = read_measured(json, "perplexity");
  variant.kl = read_measured(json, "kl");
  variant.top1_agreement = optional_number(json, "top1_agreement", 0, 1);
  variant.decode_tokens_per_s = optional_number(json, "decode_tokens_per_s");
  variant.prefill_tokens_per_s = optional_number(json, "prefill_tokens_per_s");
  variant.output_error = optional_number(json, "output_error");
  variant.cosine_mean = optional_number(json, "cosine_mean", -1.001, 1.001);
  variant.cosine_min = optional_number(json, "cosine_min", -1.001, 1.001);
  variant.forward_ms = optional_number(json, "forward_ms");
  for (const Config& fact : objects(json, "calibration"))
    variant.calibration.emplace_back(fact.text("name"), fact.text("value"));
  variant.notes = json.texts("notes");
  for (const Config& layer : objects(json, "layers")) variant.layers.push_back(read_layer(layer));
  for (const Config& site : objects(json, "sites")) variant.sites.push_back(read_site(site));
  return variant;
}

}  // namespace

std::vector<Config> objects(const Config& json, const std::string& key) {
  std::vector<Config> out;
  if (!json.has(key)) return out;
  const nlohmann::json& list = json.json().at(key);
  if (!list.is_array()) fail<FormatError>("{}: '{}' must be a list of objects", json.source(), key);
  for (const nlohmann::json& item : list)
    out.push_back(Config::parse(json_text(item), fmt::format("{}, {}[{}]", json.source(), key, out.size())));
  return out;
}

std::pair<std::optional<int64_t>, std::string> place_of_layer(const std::string& name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t dot = name.find('.', begin), end = std::min(dot, name.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(name.data() + begin, name.data() + end, number);
    if (error == std::errc() && stop == name.data() + end && dot != std::string::npos && number >= 0)
      return {number, name.substr(dot + 1)};
    begin = end + 1;
  }
  return {std::nullopt, name};
}

Json to_json(const ModelFacts& facts) {
  Json json = {{"name", facts.name},
               {"architecture", facts.architecture},
               {"blocks", facts.blocks},
               {"width", facts.width},
               {"vocabulary", facts.vocabulary},
               {"max_positions", facts.max_positions},
               {"parameters", facts.parameters}};
  put(json, "accuracy_data", facts.accuracy_data);
  put(json, "speed_load", facts.speed_load);
  put(json, "sample", facts.sample);
  json["reference"] = to_json(facts.reference);
  json["variants"] = Json::array();
  for (const VariantFacts& variant : facts.variants) json["variants"].push_back(to_json(variant));
  for (const PredictedModel& model : facts.predicted_front) {
    Json one = {{"bytes", model.bytes}};
    put(one, "kl", model.kl);
    put(one, "output_error", model.output_error);
    put(one, "prefill_tokens_per_s", model.prefill_tokens_per_s);
    put(one, "decode_tokens_per_s", model.decode_tokens_per_s);
    put(one, "forward_ms", model.forward_ms);
    json["predicted_front"].push_back(std::move(one));
  }
  return json;
}

ModelFacts read_model_facts(const Config& json) {
  ModelFacts facts;
  facts.name = json.text("name");
  facts.architecture = json.text("architecture");
  facts.blocks = json.integer("blocks", kCount);
  facts.width = json.integer("width", kCount);
  facts.vocabulary = json.integer("vocabulary", kCount);
  facts.max_positions = json.integer("max_positions", kCount);
  facts.parameters = json.integer("parameters", kCount);
  facts.accuracy_data = json.text("accuracy_data", "");
  facts.speed_load = json.text("speed_load", "");
  facts.sample = json.text("sample", "");
  facts.reference = read_variant(json.object("reference"));
  for (const Config& variant : objects(json, "variants")) facts.variants.push_back(read_variant(variant));
  for (const Config& one : objects(json, "predicted_front")) {
    PredictedModel model;
    model.bytes = one.integer("bytes", kCount);
    model.kl = optional_number(one, "kl");
    model.output_error = optional_number(one, "output_error");
    model.prefill_tokens_per_s = optional_number(one, "prefill_tokens_per_s");
    model.decode_tokens_per_s = optional_number(one, "decode_tokens_per_s");
    model.forward_ms = optional_number(one, "forward_ms");
    facts.predicted_front.push_back(model);
  }
  return facts;
}

}  // namespace octet

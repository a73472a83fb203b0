// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant_costs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "octet/base/json.h"
#include "octet/generate/prefill.h"
#include "octet/ptq/quantize_model.h"

namespace octet {
namespace {

using nlohmann::json;

ModelFigures sum(ModelFigures a, const ModelFigures& b) {
  return {.bytes = a.bytes + b.bytes,
          .divergence = a.divergence + b.divergence,
          .prefill_ms = a.prefill_ms + b.prefill_ms,
          .step_ms = a.step_ms + b.step_ms};
}

// How many times as large what was measured is as what was summed up. Between a quarter and four times: beyond, one of
// the two is noise.
double ratio(double measured, double summed) {
  constexpr double kMost = 4;
  return summed > 0 ? std::clamp(measured / summed, 1 / kMost, kMost) : 1;
}

DType float_dtype(const Parameter& weight) {
  const Tensor* const values = std::get_if<Tensor>(&weight.value);
  const bool in_16_bits = values != nullptr && byte_size(values->dtype()) == 2;
  return in_16_bits ? values->dtype() : DType::kF32;
}

const Linear* find_site(const Model& model, const std::string& name) {
  for (const Linear* linear : model.linears()) {
    if (linear->site().name == name) return linear;
  }
  return nullptr;
}

// The product over the vocabulary, if there is one.
const Linear* vocabulary_head(const Model& model) {
  if (model.info().output != OutputKind::kTokenLogits) return nullptr;
  const std::vector<const Linear*> linears = model.linears();
  const auto head = std::ranges::find(linears, model.info().vocabulary, &Linear::outputs);
  return head == linears.end() ? nullptr : *head;
}

json to_json(const CalibrationOptions& options) {
  return {{"samples", options.samples}, {"sequence_length", options.sequence_length}, {"seed", options.seed}};
}

// Models whose layers have the same schemes take the same time, however their weights were found: the least that was
// measured of them.
std::vector<MeasuredRecipe> with_equal_times(std::vector<MeasuredRecipe> given,
                                             const std::map<std::string, std::unique_ptr<Model>>& models) {
  const auto schemes = [&](const MeasuredRecipe& one) {
    std::vector<std::optional<Scheme>> all;
    for (const Linear::Part* part : models.at(one.recipe->name())->linear_parts()) all.push_back(part->weight.scheme);
    return all;
  };
  for (MeasuredRecipe& one : given) {
    for (const MeasuredRecipe& other : given) {
      if (schemes(one) != schemes(other)) continue;
      one.figures.prefill_ms = std::min(one.figures.prefill_ms, other.figures.prefill_ms);
      one.figures.step_ms = std::min(one.figures.step_ms, other.figures.step_ms);
    }
  }
  return given;
}

}  // namespace

AutoquantCosts::AutoquantCosts(const Checkpoint& checkpoint, const RequestLoad& load, ProductTimer& timer)
    : checkpoint_(checkpoint),
      load_(load),
      timer_(timer),
      float_model_(load_model(checkpoint, nullptr)),
      decodes_(predicts_next_token(float_model_->info())) {}

double AutoquantCosts::product_ms(const Linear& site, int64_t rows) {
  double ms = 0;
  const std::vector<Linear::Part>& parts = site.parts();
  for (auto first = parts.begin(); first != parts.end();) {
    const auto last = std::find_if(
        first, parts.end(), [&](const Linear::Part& part) { return part.weight.scheme != first->weight.scheme; });
    int64_t outputs = 0;
    for (auto part = first; part != last; ++part) outputs += part->weight.shape[0];
    ms += timer_.time({.rows = rows,
                       .inputs = site.inputs(),
                       .outputs = outputs,
                       .scheme = first->weight.scheme,
                       .float_dtype = float_dtype(first->weight),
                       .weights_in_turn = checkpoint_.bytes()});
    first = last;
  }
  return ms;
}

double AutoquantCosts::prefill_ms(const Linear& site) {
  const int64_t tokens = load_.batch * load_.prompt;
  // A decoder reads prompts in pieces.
  const int64_t piece = decodes_ ? std::min(kPrefillTokens, tokens) : tokens;
  const int64_t whole = tokens / piece, rest = tokens % piece;
  double ms = static_cast<double>(whole) * product_ms(site, piece);
  if (rest > 0) ms += product_ms(site, rest);
  return ms;
}

double AutoquantCosts::step_ms(const Linear& site) { return decodes_ ? product_ms(site, load_.batch) : 0; }

ModelFigures AutoquantCosts::bytes_of(const std::vector<std::string>& layers, const Model& model) const {
  double bytes = 0;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    if (std::ranges::find(layers, weight.layer) == layers.end()) continue;
    bytes += static_cast<double>(weight.scheme ? stored_bytes(weight)
                                               : checkpoint_.describe(weight.layer + ".weight").bytes);
  }
  return {.bytes = bytes};
}

void AutoquantCosts::build(const SensitivityReport& sensitivities, const ModelFigures& in_float,
                           const std::vector<MeasuredRecipe>& given, const std::vector<MeasuredSwitch>& switches) {
  std::map<std::string, std::unique_ptr<Model>> models;
  for (const MeasuredRecipe& scheme : given) {
    schemes_.push_back(scheme.recipe->name());
    models[scheme.recipe->name()] = load_to_quantize(checkpoint_, *scheme.recipe);
  }
  schemes_.emplace_back();
  for (const MeasuredSwitch& measured : switches) {
    if (schemes_.back() != measured.name()) schemes_.push_back(measured.name());
  }
  std::map<std::string, size_t> places;  // of sites among the items
  for (const Sensitivity& entry : sensitivities.entries) {
    const auto measured = std::ranges::find_if(
        given, [&](const MeasuredRecipe& scheme) { return scheme.recipe->name() == entry.scheme; });
    if (measured == given.end()) continue;
    const bool runs = !std::isnan(entry.output_error);
    const auto add_times = [&](Option& option, const Model& model) {
      const Linear* const site = runs ? find_site(model, entry.unit) : nullptr;
      if (site == nullptr) return;
      option.adds.prefill_ms = prefill_ms(*site);
      option.adds.step_ms = step_ms(*site);
    };
    const auto [place, is_new] = places.emplace(entry.unit, items_.size());
    if (is_new) {
      Option floats{.scheme = "",
                    .adds = bytes_of(entry.layers, *float_model_),
                    .weights = {},
                    .activations = {},
                    .layers = entry.layers};
      add_times(floats, *float_model_);
      items_.push_back({.name = entry.unit, .options = {std::move(floats)}});
    }
    const json recipe = parse_json(measured->recipe->text(), measured->recipe->name());
    const Model& model = *models.at(entry.scheme);
    Option option{.scheme = entry.scheme,
                  .adds = bytes_of(entry.layers, model),
                  .weights = recipe.at("weights"),
                  .activations = recipe.value("activations", json()),
                  .layers = entry.layers};
    option.adds.divergence = entry.divergence.value;
    if (!measured->recipe->needs_data().empty()) option.calibration = to_json(measured->recipe->calibration());
    add_times(option, model);
    items_[place->second].options.push_back(std::move(option));
  }
  sites_ = items_.size();
  for (const Linear::Part* part : float_model_->linear_parts()) {
    const bool spoken_of = std::ranges::any_of(items_, [&](const Item& item) {
      const std::vector<std::string>& layers = item.options.front().layers;
      return std::ranges::find(layers, part->weight.layer) != layers.end();
    });
    if (spoken_of) layers_.push_back(part->weight.layer);
  }
  const Scaled scaled = scale(in_float, with_equal_times(given, models), head_times(std::nullopt));

  Item embeddings{.name = "embeddings", .options = {{}}}, attention{.name = "attention", .options = {{}}};
  const auto scaled_head = [&](const std::optional<Scheme>& scheme) {
    ModelFigures times = head_times(scheme);
    times.prefill_ms *= scaled.prefill;
    times.step_ms *= scaled.step;
    return times;
  };
  embeddings.options.front().adds = scaled_head(std::nullopt);
  for (const MeasuredSwitch& measured : switches) {
    const bool embeds = measured.embedding_bits != 0;
    Option option{.scheme = measured.name(),
                  .adds = {},
                  .weights = {},
                  .activations = measured.head_activations,
                  .embedding_bits = measured.embedding_bits};
    if (embeds) {
      const Linear* const head = vocabulary_head(*float_model_);
      if (head != nullptr) {
        option.adds = scaled_head(measured.recipe.embedding_scheme(head->parts().front().weight.layer, head->inputs()));
      }
    } else {
      // What a noisy machine measures must not make the rest of the model take less than nothing.
      option.adds.prefill_ms = std::max(measured.figures.prefill_ms - in_float.prefill_ms, -scaled.rest.prefill_ms);
      option.adds.step_ms = std::max(measured.figures.step_ms - in_float.step_ms, -scaled.rest.step_ms);
    }
    option.adds.bytes = measured.figures.bytes - in_float.bytes;
    option.adds.divergence = measured.figures.divergence;
    (embeds ? embeddings : attention).options.push_back(std::move(option));
  }
  items_.push_back(std::move(embeddings));
  items_.push_back(std::move(attention));
}

// The rest of the model, which stays as it is, becomes the last item.
AutoquantCosts::Scaled AutoquantCosts::scale(const ModelFigures& in_float, const std::vector<MeasuredRecipe>& given,
                                             const ModelFigures& head) {
  const auto total = [&](const std::string& scheme) {
    ModelFigures figures;
    for (const Item& item : items_) {
      const auto option = std::ranges::find(item.options, scheme, &Option::scheme);
      // A site that a scheme leaves in float.
      figures = sum(figures, (option == item.options.end() ? item.options.front() : *option).adds);
    }
    return figures;
  };
  const auto scale_times = [&](const std::string& scheme, double divergence, double prefill, double step) {
    for (Item& item : items_) {
      for (Option& option : item.options) {
        if (option.scheme != scheme) continue;
        option.adds.divergence *= divergence;
        option.adds.prefill_ms *= prefill;
        option.adds.step_ms *= step;
      }
    }
  };
  const ModelFigures floats = sum(total(""), head);
  const ModelFigures rest{.bytes = in_float.bytes - floats.bytes,
                          .divergence = 0,
                          .prefill_ms = std::max(0.0, in_float.prefill_ms - floats.prefill_ms),
                          .step_ms = std::max(0.0, in_float.step_ms - floats.step_ms)};
  const Scaled scaled{.rest = rest,
                      .prefill = std::min(1.0, ratio(in_float.prefill_ms, floats.prefill_ms)),
                      .step = std::min(1.0, ratio(in_float.step_ms, floats.step_ms))};
  std::vector<std::array<double, 3>> ratios;
  for (const MeasuredRecipe& scheme : given) {
    const ModelFigures summed = total(scheme.recipe->name());
    ratios.push_back(
        {ratio(scheme.figures.divergence, summed.divergence),
         ratio(scheme.figures.prefill_ms - rest.prefill_ms - scaled.prefill * head.prefill_ms, summed.prefill_ms),
         ratio(scheme.figures.step_ms - rest.step_ms - scaled.step * head.step_ms, summed.step_ms)});
  }
  scale_times("", 1, scaled.prefill, scaled.step);
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& [divergence, prefill, step] = ratios[i];
    scale_times(given[i].recipe->name(), divergence, prefill, step);
  }
  items_.push_back({.name = "", .options = {{.scheme = "", .adds = rest, .weights = {}, .activations = {}}}});
  return scaled;
}

// Of the product over the vocabulary, which a decoder runs for the last token of a prompt and for each token after it.
ModelFigures AutoquantCosts::head_times(const std::optional<Scheme>& scheme) {
  const Linear* const head = vocabulary_head(*float_model_);
  if (head == nullptr) return {};
  const double ms = timer_.time({.rows = decodes_ ? load_.batch : load_.batch * load_.prompt,
                                 .inputs = head->inputs(),
                                 .outputs = head->outputs(),
                                 .scheme = scheme,
                                 .float_dtype = float_dtype(head->parts().front().weight),
                                 .weights_in_turn = checkpoint_.bytes()});
  return {.prefill_ms = ms, .step_ms = decodes_ ? ms : 0};
}

AutoquantPoint AutoquantCosts::point(const std::vector<size_t>& choices, const std::string& recipe_name) const {
  AutoquantPoint point{.name = "found", .recipe = "", .schemes = {}, .predicted = ModelFigures(), .measured = {}};
  RecipeContent content{.name = recipe_name, .layers = {}, .head_activations = {}};
  std::map<std::string, const Option*> by_layer;
  std::map<std::string, int64_t> counts;
  for (size_t i = 0; i < items_.size(); ++i) {
    const Option& option = items_[i].options[choices[i]];
    point.predicted = sum(*point.predicted, option.adds);
    if (i < sites_ || !option.scheme.empty()) ++counts[option.scheme];
    for (const std::string& layer : option.layers) by_layer[layer] = option.scheme.empty() ? nullptr : &option;
    if (option.embedding_bits != 0) {
      content.embedding_bits = option.embedding_bits;
      content.head_activations = option.activations;
    }
    content.attention = content.attention || option.scheme == MeasuredSwitch::kAttention;
    if (!option.calibration.is_null()) content.calibration = option.calibration;
  }
  for (const std::string& layer : layers_) {
    const auto found = by_layer.find(layer);
    const Option* const option = found == by_layer.end() ? nullptr : found->second;
    content.layers.push_back(
        {layer, option == nullptr ? json() : option->weights, option == nullptr ? json() : option->activations});
  }
  for (const std::string& name : schemes_) {
    if (counts.contains(name)) point.schemes.emplace_back(name.empty() ? "float" : name, counts.at(name));
  }
  if (in_float(choices)) return point;
  point.recipe = write_recipe(content);
  const Recipe recipe = Recipe::parse(point.recipe, recipe_name);
  point.while_loading = !recipe.is_offline();
  point.needs_data = !recipe.needs_data().empty();
  return point;
}

bool AutoquantCosts::in_float(const std::vector<size_t>& choices) const {
  for (size_t i = 0; i < items_.size(); ++i) {
    if (!items_[i].options[choices[i]].scheme.empty()) return false;
  }
  return true;
}

std::vector<std::pair<std::string, int64_t>> AutoquantCosts::sites_of(const Recipe& recipe) const {
  const std::unique_ptr<Model> model = load_to_quantize(checkpoint_, recipe);
  std::set<std::string> quantized;
  for (const Linear::Part* part : model->linear_parts()) {
    if (part->weight.scheme) quantized.insert(part->weight.layer);
  }
  int64_t count = 0;
  for (size_t i = 0; i < sites_; ++i) {
    const std::vector<std::string>& layers = items_[i].options.front().layers;
    count += std::ranges::any_of(layers, [&](const std::string& layer) { return quantized.contains(layer); }) ? 1 : 0;
  }
  std::vector<std::pair<std::string, int64_t>> sites = {{recipe.name(), count}};
  if (const auto scheme = recipe.embedding_scheme("embeddings", model->info().width))
    sites.emplace_back(MeasuredSwitch::embeddings(scheme->weight.bits), 1);
  if (recipe.attention() != ActivationMode::kFloat) sites.emplace_back(MeasuredSwitch::kAttention, 1);
  return sites;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant_costs.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "octet/base/error.h"
#include "octet/generate/prefill.h"

namespace octet {
namespace {

using nlohmann::json;

ModelFigures sum(ModelFigures a, const ModelFigures& b) {
  return {.bytes = a.bytes + b.bytes,
          .divergence = a.divergence + b.divergence,
          .prefill_ms = a.prefill_ms + b.prefill_ms,
          .step_ms = a.step_ms + b.step_ms};
}

// What a recipe says that is no scheme for all layers; "" where there is nothing.
std::string foreign_key(const Recipe& recipe) {
  const json content = json::parse(recipe.text());
  for (const auto& [key, value] : content.items()) {
    if (key != "name" && key != "weights" && key != "activations" && !value.is_null()) return key;
    if (key == "activations" && value.is_object() && value.value("mode", "dynamic") == "static") return "activations";
    if (key == "weights" && value.is_object() && value.contains("algorithm") && value["algorithm"] != "rtn" &&
        value["algorithm"] != "hqq")
      return "weights.algorithm";
  }
  return "";
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

// The product over the vocabulary, if there is one; the last that runs.
const Linear* vocabulary_head(const Model& model) {
  const std::vector<const Linear*> linears = model.linears();
  if (model.info().output != OutputKind::kTokenLogits || linears.empty()) return nullptr;
  for (const Linear* linear : linears) {
    if (linear->outputs() != model.info().vocabulary) continue;
    const Parameter& weight = linear->parts().front().weight;
    if (!weight.over_vocabulary || !weight.tied_head.empty() || linear == linears.back()) return linear;
  }
  return nullptr;
}

}  // namespace

void check_is_scheme(const Recipe& recipe) {
  const std::string key = foreign_key(recipe);
  if (key.empty() && recipe.quantizes_weights()) return;
  fail<UsageError>(
      "recipe '{}': {}; what is chosen from are schemes for all layers that need no data: weights and "
      "dynamic activations",
      recipe.name(), key.empty() ? "has no weights" : fmt::format("has '{}'", key));
}

std::vector<Recipe> built_in_schemes() {
  std::vector<Recipe> schemes;
  for (const std::string& name : Recipe::built_in_names()) {
    Recipe recipe = Recipe::load(name, {});
    if (foreign_key(recipe).empty()) schemes.push_back(std::move(recipe));
  }
  return schemes;
}

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
                       .float_dtype = float_dtype(first->weight)});
    first = last;
  }
  return ms;
}

double AutoquantCosts::prefill_ms(const Linear& site) {
  const int64_t tokens = load_.batch * load_.prompt;
  // A decoder reads prompts in pieces.
  const int64_t piece = decodes_ ? std::min(kPrefillTokens, tokens) : tokens;
  const int64_t rest = tokens % piece;
  double ms = static_cast<double>(tokens / piece) * product_ms(site, piece);
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
    models[scheme.recipe->name()] = load_model(checkpoint_, scheme.recipe);
  }
  std::map<std::string, size_t> places;  // of sites among the items
  for (const Sensitivity& entry : sensitivities.entries) {
    const bool runs = !std::isnan(entry.output_error);
    const auto add_times = [&](Option& option, const Model& model) {
      const Linear* const site = runs ? find_site(model, entry.unit) : nullptr;
      if (site == nullptr) return;
      option.adds.prefill_ms = prefill_ms(*site);
      option.adds.step_ms = step_ms(*site);
    };
    const auto [place, is_new] = places.emplace(entry.unit, items_.size());
    if (is_new) {
      Option floats{.scheme = "", .adds = bytes_of(entry.layers, *float_model_), .weights = {}, .activations = {}};
      add_times(floats, *float_model_);
      items_.push_back({.name = entry.unit, .options = {std::move(floats)}});
    }
    const json recipe = json::parse(std::ranges::find_if(given, [&](const MeasuredRecipe& scheme) {
                                      return scheme.recipe->name() == entry.scheme;
                                    })->recipe->text());
    const Model& model = *models.at(entry.scheme);
    Option option{.scheme = entry.scheme,
                  .adds = bytes_of(entry.layers, model),
                  .weights = recipe.at("weights"),
                  .activations = recipe.value("activations", json()),
                  .layers = entry.layers};
    option.adds.divergence = entry.divergence.value;
    add_times(option, model);
    Item& item = items_[place->second];
    if (item.options.front().layers.size() < entry.layers.size()) item.options.front().layers = entry.layers;
    item.options.push_back(std::move(option));
  }
  sites_ = items_.size();
  for (const Linear::Part* part : float_model_->linear_parts()) {
    const bool spoken_of = std::ranges::any_of(items_, [&](const Item& item) {
      const std::vector<std::string>& layers = item.options.front().layers;
      return std::ranges::find(layers, part->weight.layer) != layers.end();
    });
    if (spoken_of) layers_.push_back(part->weight.layer);
  }
  scale(in_float, given);

  Item embeddings{.name = "embeddings", .options = {{}}}, attention{.name = "attention", .options = {{}}};
  const Linear* const head = vocabulary_head(*float_model_);
  for (const MeasuredSwitch& measured : switches) {
    Option option{.scheme = measured.embeddings ? "embeddings" : "attention",
                  .adds = {.bytes = measured.figures.bytes - in_float.bytes, .divergence = measured.figures.divergence},
                  .weights = {},
                  .activations = measured.head_activations};
    if (measured.attention) {
      option.adds.prefill_ms = measured.figures.prefill_ms - in_float.prefill_ms;
      option.adds.step_ms = measured.figures.step_ms - in_float.step_ms;
      attention.options.push_back(std::move(option));
      continue;
    }
    if (head != nullptr) {
      // Of a prompt only the last token's prediction is wanted.
      const int64_t rows = decodes_ ? load_.batch : load_.batch * load_.prompt;
      const ActivationMode mode =
          measured.head_activations.is_null() ? ActivationMode::kFloat : ActivationMode::kDynamicPerToken;
      ProductShape shape{.rows = rows,
                         .inputs = head->inputs(),
                         .outputs = head->outputs(),
                         .scheme = {},
                         .float_dtype = float_dtype(head->parts().front().weight)};
      const double before = timer_.time(shape);
      shape.scheme = Scheme{WeightScheme{.bits = 8}, mode};
      option.adds.prefill_ms = timer_.time(shape) - before;
      option.adds.step_ms = decodes_ ? option.adds.prefill_ms : 0;
    }
    embeddings.options.push_back(std::move(option));
  }
  items_.push_back(std::move(embeddings));
  items_.push_back(std::move(attention));
}

// The rest of the model, which stays as it is, becomes the last item.
void AutoquantCosts::scale(const ModelFigures& in_float, const std::vector<MeasuredRecipe>& given) {
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
  const ModelFigures floats = total("");
  const ModelFigures rest{.bytes = in_float.bytes - floats.bytes,
                          .divergence = 0,
                          .prefill_ms = std::max(0.0, in_float.prefill_ms - floats.prefill_ms),
                          .step_ms = std::max(0.0, in_float.step_ms - floats.step_ms)};
  std::vector<std::array<double, 3>> ratios;
  for (const MeasuredRecipe& scheme : given) {
    const ModelFigures summed = total(scheme.recipe->name());
    ratios.push_back({ratio(scheme.figures.divergence, summed.divergence),
                      ratio(scheme.figures.prefill_ms - rest.prefill_ms, summed.prefill_ms),
                      ratio(scheme.figures.step_ms - rest.step_ms, summed.step_ms)});
  }
  scale_times("", 1, std::min(1.0, ratio(in_float.prefill_ms, floats.prefill_ms)),
              std::min(1.0, ratio(in_float.step_ms, floats.step_ms)));
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& [divergence, prefill, step] = ratios[i];
    scale_times(given[i].recipe->name(), divergence, prefill, step);
  }
  items_.push_back({.name = "", .options = {{.scheme = "", .adds = rest, .weights = {}, .activations = {}}}});
}

AutoquantPoint AutoquantCosts::point(const std::vector<size_t>& choices, const std::string& recipe_name) const {
  AutoquantPoint point{.name = "found", .recipe = "", .schemes = {}, .predicted = ModelFigures(), .measured = {}};
  RecipeContent content{.name = recipe_name, .layers = {}, .embeddings = false, .head_activations = {}};
  std::map<std::string, const Option*> by_layer;
  std::map<std::string, int64_t> counts;
  for (size_t i = 0; i < items_.size(); ++i) {
    const Option& option = items_[i].options[choices[i]];
    point.predicted = sum(*point.predicted, option.adds);
    if (i < sites_ || !option.scheme.empty()) ++counts[option.scheme];
    for (const std::string& layer : option.layers) by_layer[layer] = option.scheme.empty() ? nullptr : &option;
    if (option.scheme == "embeddings") {
      content.embeddings = true;
      content.head_activations = option.activations;
    }
    content.attention = content.attention || option.scheme == "attention";
  }
  for (const std::string& layer : layers_) {
    const auto found = by_layer.find(layer);
    const Option* const option = found == by_layer.end() ? nullptr : found->second;
    content.layers.push_back(
        {layer, option == nullptr ? json() : option->weights, option == nullptr ? json() : option->activations});
  }
  std::vector<std::string> names = schemes_;
  names.insert(names.end(), {"", "embeddings", "attention"});
  for (const std::string& name : names) {
    if (counts.contains(name)) point.schemes.emplace_back(name.empty() ? "float" : name, counts.at(name));
  }
  if (!in_float(choices)) point.recipe = write_recipe(content);
  return point;
}

bool AutoquantCosts::in_float(const std::vector<size_t>& choices) const {
  for (size_t i = 0; i < items_.size(); ++i) {
    if (!items_[i].options[choices[i]].scheme.empty()) return false;
  }
  return true;
}

std::vector<std::pair<std::string, int64_t>> AutoquantCosts::sites_of(const Recipe& recipe) const {
  int64_t count = 0;
  for (size_t i = 0; i < sites_; ++i) {
    const auto& options = items_[i].options;
    count += std::ranges::find(options, recipe.name(), &Option::scheme) == options.end() ? 0 : 1;
  }
  return {{recipe.name(), count}};
}

}  // namespace octet

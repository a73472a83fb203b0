// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/recipe.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/base/suggest.h"
#include "octet/tensor/qtensor.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr int64_t kLargestRecipe = 1 << 20;
constexpr int kDeepestRecipe = 16;

struct BuiltIn {
  const char* name;
  const char* text;
  Recipe::AppliesTo models = Recipe::AppliesTo::kFloat;
};

// SmolLM2's 576 inputs are no multiple of 128, hence the fallbacks. None says "symmetric": settings may add zero points
// or minima.
constexpr std::array kBuiltIn = {
    BuiltIn{"w8a16", R"({"name": "w8a16", "weights": {"bits": 8, "granularity": "per_channel"}})"},
    BuiltIn{"w8a8_dynamic", R"({"name": "w8a8_dynamic",
      "weights": {"bits": 8, "granularity": "per_channel"},
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"}})"},
    BuiltIn{"w4a16_g128", R"({"name": "w4a16_g128",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32, "row"],
                  "range": "mse"}})"},
    BuiltIn{"w4a16_g32", R"({"name": "w4a16_g32",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 32, "group_size_fallback": ["row"],
                  "range": "mse"}})"},
    BuiltIn{"w4a8_g128_dynamic", R"({"name": "w4a8_g128_dynamic",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32, "row"],
                  "range": "mse"},
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"}})"},
    BuiltIn{"w4a8_g32_dynamic", R"({"name": "w4a8_g32_dynamic",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 32, "group_size_fallback": ["row"],
                  "range": "mse"},
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"}})"},
    BuiltIn{"a8_dynamic", R"({"name": "a8_dynamic",
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"}})",
            Recipe::AppliesTo::kQuantized},
};

constexpr const char* kRow = "row";

// One JSON object of a recipe, read key by key: what is asked for is checked, what was never asked for is unknown.
class Reader {
 public:
  Reader(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail<FormatError>("{}: an object {{…}} is needed, not {}", where_, object.type_name());
  }

  const std::string& where() const { return where_; }

  /// The value of `key`, or null where it is missing.
  const json* find(const std::string& key) {
    known_.push_back(key);
    const auto value = object_.find(key);
    return value == object_.end() ? nullptr : &*value;
  }

  std::string text(const std::string& key, const std::string& fallback) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) fail<FormatError>("{}: '{}' must be text, not {}", where_, key, value->type_name());
    return value->get<std::string>();
  }

  std::vector<std::string> texts(const std::string& key, std::vector<std::string> fallback) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    const bool good = value->is_array() &&
                      std::all_of(value->begin(), value->end(), [](const json& item) { return item.is_string(); });
    if (!good) fail<FormatError>("{}: '{}' must be a list of layer patterns, such as [\"*.query\"]", where_, key);
    return value->get<std::vector<std::string>>();
  }

  /// The value of `key`, which must be one of `offered`; the first of them where it is missing.
  json choice(const std::string& key, const std::vector<json>& offered) {
    const json* value = find(key);
    if (value == nullptr) return offered.front();
    refuse_others(key, *value, offered);
    return *value;
  }
  /// The values of a list, each one of `offered`; none where it is missing.
  std::vector<json> choices(const std::string& key, const std::vector<json>& offered) {
    const json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_array()) {
      fail<FormatError>("{}: '{}' must be a list, such as {}", where_, key, json(offered).dump());
    }
    for (const json& item : *value) refuse_others(key, item, offered);
    return value->get<std::vector<json>>();
  }

  void refuse_unknown_keys() const {
    for (const auto& item : object_.items()) {
      if (std::find(known_.begin(), known_.end(), item.key()) == known_.end()) {
        fail<FormatError>("{}: unknown key '{}'.{}", where_, item.key(), did_you_mean(item.key(), known_));
      }
    }
  }

 private:
  void refuse_others(const std::string& key, const json& value, const std::vector<json>& offered) const {
    if (std::find(offered.begin(), offered.end(), value) != offered.end()) return;
    std::string can_be_had;
    for (const json& one : offered) can_be_had += (can_be_had.empty() ? "" : " or ") + one.dump();
    fail<FormatError>("{}: '{}' is {}; {} is what can be had here", where_, key, quote_json(value), can_be_had);
  }

  const json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

// From "symmetric" and "minima". "symmetric": false alone means zero points; beside minima it says nothing new.
CodeMapping read_mapping(Reader& reader, int bits) {
  const bool says_symmetric = reader.find("symmetric") != nullptr;
  const bool symmetric = reader.choice("symmetric", {true, false}).get<bool>();
  const bool minima = reader.choice("minima", {false, true}).get<bool>();
  const auto refuse = [&](const char* key, const char* what) {
    fail<FormatError>("{}: {} needs \"bits\": 4; 8-bit weights have no {}", reader.where(), key, what);
  };
  if (minima && bits != 4) refuse("\"minima\": true", "minima");
  if (minima && says_symmetric && symmetric) {
    fail<FormatError>("{}: \"minima\": true contradicts \"symmetric\": true; leave one of them out", reader.where());
  }
  if (minima) return CodeMapping::kMinimum;
  if (symmetric) return CodeMapping::kSymmetric;
  if (bits != 4) refuse("\"symmetric\": false", "zero points");
  return CodeMapping::kZeroPoint;
}

ActivationMode read_activations(const json& value, const std::string& where) {
  if (value.is_null()) return ActivationMode::kFloat;
  Reader reader(value, where);
  reader.choice("bits", {8});
  const bool fixed = reader.choice("mode", {"dynamic", "static"}) == "static";
  reader.choice("granularity", {fixed ? "per_tensor" : "per_token"});
  const bool symmetric =
      reader.choice("symmetric", fixed ? std::vector<json>{true, false} : std::vector<json>{true}) == true;
  reader.refuse_unknown_keys();
  if (!fixed) return ActivationMode::kDynamicPerToken;
  return symmetric ? ActivationMode::kStaticPerTensor : ActivationMode::kStaticPerTensorZeroPoint;
}

// "weights.bits=8" into the JSON; objects on the way are made.
void apply_setting(json& recipe, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0)
    fail<UsageError>("--set '{}': write key=value, for example --set weights.bits=8", setting);
  json* place = &recipe;
  std::string_view key = std::string_view(setting).substr(0, equals);
  if (std::count(key.begin(), key.end(), '.') > kDeepestRecipe)
    fail<UsageError>("--set '{:.80}…': no recipe nests so deeply", setting);
  for (size_t dot = key.find('.'); dot != std::string_view::npos; dot = key.find('.')) {
    if (!place->is_object()) break;
    place = &(*place)[std::string(key.substr(0, dot))];
    if (place->is_null()) *place = json::object();
    key.remove_prefix(dot + 1);
  }
  if (!place->is_object()) fail<UsageError>("--set '{}': the part before '{}' is not an object", setting, key);
  const std::string text = setting.substr(equals + 1);
  // Short enough to need no bound on its depth: a command line's argument nests at most as deep as it is long.
  json value =
      text.size() < 4096 ? json::parse(text, nullptr, /*allow_exceptions=*/false) : json(json::value_t::discarded);
  (*place)[std::string(key)] = value.is_discarded() ? json(text) : std::move(value);
}

}  // namespace

Recipe Recipe::load(const std::string& name_or_file, std::span<const std::string> settings) {
  const auto found = std::find_if(kBuiltIn.begin(), kBuiltIn.end(),
                                  [&](const BuiltIn& recipe) { return recipe.name == name_or_file; });
  if (found != kBuiltIn.end()) return parse(found->text, name_or_file, settings);
  if (!std::filesystem::exists(name_or_file)) {
    std::vector<std::string> names;
    for (const BuiltIn& recipe : kBuiltIn) names.emplace_back(recipe.name);
    fail<UsageError>("recipe '{}': neither a built-in recipe nor a file.{}", name_or_file,
                     did_you_mean(name_or_file, names));
  }
  return parse(read_text_file(name_or_file, kLargestRecipe), name_or_file, settings);
}

Recipe Recipe::parse(std::string_view text, const std::string& source, std::span<const std::string> settings) {
  json recipe = parse_json(text, fmt::format("recipe '{}'", source), kDeepestRecipe);
  for (const std::string& setting : settings) apply_setting(recipe, setting);
  return from_json(recipe, source);
}

std::vector<std::string> Recipe::built_in_names(AppliesTo models) {
  std::vector<std::string> names;
  for (const BuiltIn& recipe : kBuiltIn) {
    if (recipe.models == models) names.emplace_back(recipe.name);
  }
  return names;
}

std::optional<Recipe::Weights> Recipe::read_weights(const json& value, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  Reader reader(value, where);
  Weights out;
  out.scheme.bits = reader.choice("bits", {8, 4}).get<int>();
  const bool sized = reader.find("group_size") != nullptr;
  const bool grouped = reader.choice("granularity", {sized ? "per_group" : "per_channel",
                                                     sized ? "per_channel" : "per_group"}) == "per_group";
  if (grouped && !sized) fail<FormatError>("{}: 'per_group' needs a 'group_size', such as 128", where);
  if (sized && !grouped) fail<FormatError>("{}: a 'group_size' needs \"granularity\": \"per_group\"", where);
  if (grouped) out.scheme.group_size = reader.choice("group_size", {32, 64, 128, 256}).get<int64_t>();
  for (const json& size : reader.choices("group_size_fallback", {32, 64, 128, 256, kRow})) {
    if (!grouped) fail<FormatError>("{}: a 'group_size_fallback' needs a 'group_size'", where);
    if (!out.fallback.empty() && out.fallback.back() == 0) {
      fail<FormatError>("{}: in 'group_size_fallback' nothing is tried after \"row\", which every layer can have",
                        where);
    }
    out.fallback.push_back(size == kRow ? 0 : size.get<int64_t>());
  }
  out.scheme.mapping = read_mapping(reader, out.scheme.bits);
  const bool search = reader.choice("range", out.scheme.bits == 4 ? std::vector<json>{"mse", "absmax"}
                                                                  : std::vector<json>{"absmax", "mse"}) == "mse";
  out.scheme.range = search ? RangeEstimator::kMse : RangeEstimator::kAbsmax;
  reader.refuse_unknown_keys();
  return out;
}

ActivationScales Recipe::read_scales(const json& value, const std::string& where) {
  if (value.is_null()) return {};
  if (value.is_string()) return ActivationScales::load(value.get<std::string>());
  return {value, where};
}

Recipe Recipe::from_json(const json& recipe, const std::string& source) {
  Reader reader(recipe, fmt::format("recipe '{}'", source));
  Recipe out;
  out.name_ = reader.text("name", std::filesystem::path(source).stem().string());
  if (const json* weights = reader.find("weights")) out.weights_ = read_weights(*weights, reader.where() + ", weights");
  if (const json* activations = reader.find("activations")) {
    out.activations_ = read_activations(*activations, reader.where() + ", activations");
  }
  if (const json* scales = reader.find("activation_scales")) {
    out.scales_ = read_scales(*scales, reader.where() + ", activation_scales");
  }
  out.embeddings_ = reader.choice("embeddings", {nullptr, 8}) == 8;
  if (reader.choice("attention", {nullptr, 8}) == 8) out.attention_ = ActivationMode::kDynamicPerToken;
  out.include_ = reader.texts("include", {"*"});
  out.exclude_ = reader.texts("exclude", {});
  if (const json* overrides = reader.find("overrides")) {
    if (!overrides->is_array()) fail<FormatError>("{}: 'overrides' must be a list", reader.where());
    for (const json& item : *overrides) {
      Reader rule(item, fmt::format("{}, override {}", reader.where(), out.overrides_.size() + 1));
      Override parsed{.match = rule.text("match", ""), .weights = {}, .activations = {}};
      if (parsed.match.empty()) fail<FormatError>("{}: says no 'match': which layers is it for?", rule.where());
      if (const json* weights = rule.find("weights"))
        parsed.weights = read_weights(*weights, rule.where() + ", weights");
      if (const json* activations = rule.find("activations")) {
        parsed.activations = read_activations(*activations, rule.where() + ", activations");
      }
      rule.refuse_unknown_keys();
      out.overrides_.push_back(std::move(parsed));
    }
  }
  reader.refuse_unknown_keys();
  const bool any = out.quantizes_weights() || out.attention_ != ActivationMode::kFloat ||
                   out.activations_ != ActivationMode::kFloat ||
                   std::any_of(out.overrides_.begin(), out.overrides_.end(), [](const Override& rule) {
                     return rule.activations.value_or(ActivationMode::kFloat) != ActivationMode::kFloat;
                   });
  if (!any) fail<FormatError>("{}: quantizes nothing. Add \"weights\": {{\"bits\": 8}}.", reader.where());
  out.text_ = recipe.dump(-1, ' ', false, json::error_handler_t::replace);
  return out;
}

bool Recipe::quantizes_weights() const noexcept {
  return weights_ || embeddings_ || std::any_of(overrides_.begin(), overrides_.end(), [](const Override& rule) {
           return rule.weights && *rule.weights;
         });
}

bool Recipe::takes(std::string_view layer) const {
  const auto matches = [layer](const std::string& pattern) { return glob_match(pattern, layer); };
  return std::any_of(include_.begin(), include_.end(), matches) &&
         std::none_of(exclude_.begin(), exclude_.end(), matches);
}

std::optional<ActivationMode> Recipe::activations_for(std::string_view layer) const {
  if (!takes(layer)) return std::nullopt;
  std::optional<ActivationMode> mode;
  if (activations_ != ActivationMode::kFloat) mode = activations_;
  for (const Override& rule : overrides_) {
    if (rule.activations && glob_match(rule.match, layer)) mode = rule.activations;
  }
  return mode;
}

std::optional<Recipe::Layer> Recipe::find(std::string_view layer) const {
  if (!takes(layer)) return std::nullopt;
  const std::optional<Weights>* weights = &weights_;
  ActivationMode activations = activations_;
  for (const Override& rule : overrides_) {
    if (!glob_match(rule.match, layer)) continue;
    if (rule.weights) weights = &*rule.weights;
    if (rule.activations) activations = *rule.activations;
  }
  if (!*weights) return std::nullopt;
  return Layer{**weights, activations};
}

std::optional<Scheme> Recipe::scheme_for(std::string_view layer, int64_t inputs) const {
  const std::optional<Layer> found = find(layer);
  if (!found) return std::nullopt;
  const auto& [weights, activations] = *found;
  const auto divides = [inputs](int64_t group_size) { return group_size == 0 || inputs % group_size == 0; };
  Scheme scheme{weights.scheme, activations};
  if (weights.scheme.bits != 8 && activations == ActivationMode::kStaticPerTensorZeroPoint) {
    fail<UsageError>("recipe '{}': layer '{}' has {}-bit weights; activations with a zero point need 8-bit ones", name_,
                     layer, weights.scheme.bits);
  }
  if (divides(weights.scheme.group_size)) return scheme;
  const auto fallback = std::find_if(weights.fallback.begin(), weights.fallback.end(), divides);
  if (fallback == weights.fallback.end()) {
    fail<ShapeError>(
        "recipe '{}': layer '{}' has {} inputs, which {} does not divide{}. Add \"row\" to its group_size_fallback, or "
        "exclude the layer.",
        name_, layer, inputs, weights.scheme.group_size, weights.fallback.empty() ? "" : ", nor does a fallback");
  }
  scheme.weight.group_size = *fallback;
  return scheme;
}

ActivationScale Recipe::activation_scale(std::string_view layer, ActivationMode mode) const {
  const ActivationScale* scale = scales_.find(layer);
  if (scale == nullptr) {
    fail<UsageError>(
        "recipe '{}': layer '{}' has static activations and no scale. Add one to its activation_scales, or make its "
        "activations dynamic.",
        name_, layer);
  }
  check(*scale, mode, fmt::format("recipe '{}', activation_scales, layer '{}'", name_, layer));
  return *scale;
}

std::optional<Scheme> Recipe::embedding_scheme() const {
  if (!embeddings_) return std::nullopt;
  return Scheme{WeightScheme{.bits = 8}, activations_};
}

std::optional<int64_t> Recipe::asked_group_size(std::string_view layer) const {
  const std::optional<Layer> found = find(layer);
  return found ? std::optional(found->weights.scheme.group_size) : std::nullopt;
}

std::vector<std::string> Recipe::unmatched_patterns(std::span<const std::string> layers) const {
  std::vector<std::string> patterns = include_;
  patterns.insert(patterns.end(), exclude_.begin(), exclude_.end());
  for (const Override& rule : overrides_) patterns.push_back(rule.match);
  std::erase_if(patterns, [layers](const std::string& pattern) {
    return std::any_of(layers.begin(), layers.end(),
                       [&](const std::string& layer) { return glob_match(pattern, layer); });
  });
  const std::vector<std::string> unknown = scales_.unknown(layers);
  patterns.insert(patterns.end(), unknown.begin(), unknown.end());
  return patterns;
}

bool glob_match(std::string_view pattern, std::string_view text) noexcept {
  // On a mismatch the latest star takes one character more: linear space, at worst |pattern| · |text| steps.
  size_t p = 0, t = 0, star = std::string_view::npos, taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace octet

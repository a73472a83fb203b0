// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/recipe.h"

#include <algorithm>
#include <array>
#include <limits>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/base/suggest.h"
#include "octet/quant/quantize.h"
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

// SmolLM2's 576 inputs are no multiple of 128, hence the fallbacks. Static activations have zero points: what a GELU
// gives lies almost all on one side of 0. The other recipes leave it to settings to add zero points or minima.
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
    BuiltIn{"w8a8_static", R"({"name": "w8a8_static",
      "weights": {"bits": 8, "granularity": "per_channel"},
      "activations": {"bits": 8, "granularity": "per_tensor", "mode": "static", "symmetric": false},
      "overrides": [{"match": "*.down_proj", "activations": {"mode": "dynamic"}, "optional": true}]})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"qat_int8", R"({"name": "qat_int8",
      "weights": {"bits": 8, "granularity": "per_channel"},
      "activations": {"bits": 8, "granularity": "per_tensor", "mode": "static", "range": "percentile",
                      "percentile": 99.99},
      "overrides": [{"match": "*.down_proj", "activations": {"mode": "dynamic"}, "optional": true}]})",
            Recipe::AppliesTo::kTraining},
    BuiltIn{"qat_uint8", R"({"name": "qat_uint8",
      "weights": {"bits": 8, "granularity": "per_channel"},
      "activations": {"bits": 8, "granularity": "per_tensor", "mode": "static", "symmetric": false,
                      "range": "percentile", "percentile": 99.99},
      "overrides": [{"match": "*.down_proj", "activations": {"mode": "dynamic"}, "optional": true}]})",
            Recipe::AppliesTo::kTraining},
    BuiltIn{"w8a8_dynamic_outliers", R"({"name": "w8a8_dynamic_outliers",
      "weights": {"bits": 8, "granularity": "per_channel"},
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"},
      "outliers": {"threshold": 6.0, "max_share": 0.02}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"w8a8_smoothquant", R"({"name": "w8a8_smoothquant",
      "weights": {"bits": 8, "granularity": "per_channel"},
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"},
      "fold": {"method": "smoothquant"}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"w8a8_smoothquant_static", R"({"name": "w8a8_smoothquant_static",
      "weights": {"bits": 8, "granularity": "per_channel"},
      "activations": {"bits": 8, "granularity": "per_tensor", "mode": "static", "symmetric": false},
      "overrides": [{"match": "*.down_proj", "activations": {"mode": "dynamic"}, "optional": true}],
      "fold": {"method": "smoothquant"}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"w4a16_g128_gptq", R"({"name": "w4a16_g128_gptq",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32, "row"],
                  "range": "mse", "algorithm": "gptq", "act_order": true, "static_groups": true}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"w4a16_g32_gptq", R"({"name": "w4a16_g32_gptq",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 32, "group_size_fallback": ["row"],
                  "range": "mse", "algorithm": "gptq", "act_order": true, "static_groups": true}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"w4a16_g128_awq", R"({"name": "w4a16_g128_awq",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32, "row"],
                  "range": "mse"},
      "fold": {"method": "awq"}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"w4a16_g128_hqq", R"({"name": "w4a16_g128_hqq",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32, "row"],
                  "symmetric": false, "algorithm": "hqq"}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"w4a8_g128_gptq", R"({"name": "w4a8_g128_gptq",
      "weights": {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32, "row"],
                  "range": "mse", "algorithm": "gptq", "act_order": true, "static_groups": true},
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"}})",
            Recipe::AppliesTo::kFloatOffline},
    BuiltIn{"a8_dynamic", R"({"name": "a8_dynamic",
      "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"}})",
            Recipe::AppliesTo::kQuantized},
};

constexpr const char* kRow = "row";
constexpr int64_t kFewestBits = 2;

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
      fail<FormatError>("{}: '{}' must be a list, such as {}", where_, key, json_text(json(offered)));
    }
    for (const json& item : *value) refuse_others(key, item, offered);
    return value->get<std::vector<json>>();
  }

  /// A number from `low` to `high`, which are part of it.
  double number(const std::string& key, double fallback, double low, double high) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    // Not-a-number fails the comparison.
    if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
      fail<FormatError>("{}: '{}' is {}; a number from {} to {} is needed", where_, key, quote_json(*value), low, high);
    }
    return value->get<double>();
  }
  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_number_integer() || *value < low || *value > high) {
      fail<FormatError>("{}: '{}' is {}; a whole number from {} to {} is needed", where_, key, quote_json(*value), low,
                        high);
    }
    return value->get<int64_t>();
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
    for (const json& one : offered) can_be_had += (can_be_had.empty() ? "" : " or ") + json_text(one);
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
  if (minima && bits != 4)
    fail<FormatError>("{}: \"minima\": true needs \"bits\": 4 or fewer; 8-bit weights have no minima", reader.where());
  if (minima && says_symmetric && symmetric) {
    fail<FormatError>("{}: \"minima\": true contradicts \"symmetric\": true; leave one of them out", reader.where());
  }
  if (minima) return CodeMapping::kMinimum;
  return symmetric ? CodeMapping::kSymmetric : CodeMapping::kZeroPoint;
}

// The keys from "bits" to "range": a scheme, and the group sizes to try where its own does not divide; 0 is a whole
// row.
std::pair<WeightScheme, std::vector<int64_t>> read_grid(Reader& reader) {
  const std::string& where = reader.where();
  WeightScheme scheme;
  std::vector<int64_t> fallback;
  const auto bits = static_cast<int>(reader.integer("bits", 8, kFewestBits, 8));
  scheme.bits = bits <= 4 ? 4 : 8;
  scheme.unused_bits = scheme.bits - bits;
  const bool sized = reader.find("group_size") != nullptr;
  const bool grouped = reader.choice("granularity", {sized ? "per_group" : "per_channel",
                                                     sized ? "per_channel" : "per_group"}) == "per_group";
  if (grouped && !sized) fail<FormatError>("{}: 'per_group' needs a 'group_size', such as 128", where);
  if (sized && !grouped) fail<FormatError>("{}: a 'group_size' needs \"granularity\": \"per_group\"", where);
  if (grouped) scheme.group_size = reader.choice("group_size", {32, 64, 128, 256}).get<int64_t>();
  for (const json& size : reader.choices("group_size_fallback", {32, 64, 128, 256, kRow})) {
    if (!grouped) fail<FormatError>("{}: a 'group_size_fallback' needs a 'group_size'", where);
    if (!fallback.empty() && fallback.back() == 0) {
      fail<FormatError>("{}: in 'group_size_fallback' nothing is tried after \"row\", which every layer can have",
                        where);
    }
    fallback.push_back(size == kRow ? 0 : size.get<int64_t>());
  }
  scheme.mapping = read_mapping(reader, scheme.bits);
  const json range = reader.choice(
      "range", bits == 8 ? std::vector<json>{"absmax", "mse", "sawb"} : std::vector<json>{"mse", "absmax", "sawb"});
  if (range == "mse") scheme.range = RangeEstimator::kMse;
  if (range == "sawb") {
    if (scheme.mapping != CodeMapping::kSymmetric)
      fail<FormatError>("{}: the range \"sawb\" is of symmetric codes", where);
    if (!has_sawb(bits)) fail<FormatError>("{}: SAWB has no coefficients for {} bits; take \"mse\"", where, bits);
    scheme.range = RangeEstimator::kSawb;
  }
  return {scheme, std::move(fallback)};
}

constexpr std::array kAlgorithms = {
    std::pair{"rtn", WeightAlgorithm::kRoundToNearest},    std::pair{"gptq", WeightAlgorithm::kGptq},
    std::pair{"hessian", WeightAlgorithm::kHessianScales}, std::pair{"hqq", WeightAlgorithm::kHqq},
    std::pair{"adaround", WeightAlgorithm::kAdaRound},     std::pair{"signround", WeightAlgorithm::kSignRound}};

WeightAlgorithm read_algorithm(Reader& reader) {
  std::vector<json> names;
  for (const auto& [name, algorithm] : kAlgorithms) names.emplace_back(name);
  const json chosen = reader.choice("algorithm", names);
  return std::ranges::find_if(kAlgorithms, [&](const auto& known) { return chosen == known.first; })->second;
}

// Refuses a key of algorithms that were not chosen.
void refuse_unless(Reader& reader, const char* key, bool chosen, const char* algorithms) {
  if (reader.find(key) != nullptr && !chosen)
    fail<FormatError>("{}: '{}' belongs to \"algorithm\": {}", reader.where(), key, algorithms);
}

WeightAlgorithmOptions read_algorithm_options(Reader& reader) {
  constexpr int64_t kLargestBlock = 1 << 16;
  WeightAlgorithmOptions out{.algorithm = read_algorithm(reader)};
  out.block_size = reader.integer("block_size", out.block_size, 1, kLargestBlock);
  out.percdamp = reader.number("percdamp", out.percdamp, 0, 1);
  out.act_order = reader.choice("act_order", {false, true}).get<bool>();
  out.static_groups = reader.choice("static_groups", {false, true}).get<bool>();
  for (const char* key : {"block_size", "percdamp", "act_order", "static_groups"})
    refuse_unless(reader, key, out.algorithm == WeightAlgorithm::kGptq, "\"gptq\"");
  constexpr int64_t kMost = 1 << 20;
  RoundingOptions& rounding = out.rounding;
  rounding.iterations = reader.integer("iterations", rounding.iterations, 1, kMost);
  rounding.batch_size = reader.integer("batch_size", rounding.batch_size, 1, kMost);
  if (reader.find("learning_rate") != nullptr) rounding.learning_rate = reader.number("learning_rate", 0, 0, 1);
  rounding.round_weight = reader.number("round_weight", rounding.round_weight, 0, 1e6);
  for (const char* key : {"iterations", "batch_size", "learning_rate"})
    refuse_unless(reader, key, learns_rounding(out.algorithm), "\"adaround\" or \"signround\"");
  refuse_unless(reader, "round_weight", out.algorithm == WeightAlgorithm::kAdaRound, "\"adaround\"");
  return out;
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
  for (const std::string& setting : settings) apply_setting(recipe, setting, "weights.bits=8");
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
  auto [scheme, fallback] = read_grid(reader);
  Weights out;
  out.scheme = scheme;
  out.fallback = std::move(fallback);
  out.algorithm = read_algorithm_options(reader);
  out.true_sequential = reader.choice("true_sequential", {true, false}).get<bool>();
  refuse_unless(reader, "true_sequential", needs_statistics(out.algorithm.algorithm), "\"gptq\" or \"hessian\"");
  reader.refuse_unknown_keys();
  return out;
}

std::optional<Recipe::Grid> Recipe::read_embeddings(const json& value, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  if (value == 8) return Grid{{.bits = 8}, {}};
  if (value == 4) return Grid{{.bits = 4, .group_size = 32, .range = RangeEstimator::kMse}, {0}};
  if (!value.is_object()) {
    fail<FormatError>("{} is {}; null, 8, 4 or an object such as {{\"bits\": 4, \"group_size\": 64}} is needed", where,
                      quote_json(value));
  }
  Reader reader(value, where);
  auto [scheme, fallback] = read_grid(reader);
  reader.refuse_unknown_keys();
  return Grid{scheme, std::move(fallback)};
}

namespace {

// Of activations' codes; `fixed`: their scales are.
int read_code_bits(Reader& reader, const char* key, int fallback, bool fixed) {
  const int64_t bits = reader.integer(key, fallback, kFewestBits, 8);
  if (bits != 8 && !fixed) {
    fail<FormatError>("{}: '{}' is {}; dynamic ones have 8 bits, fewer need \"mode\": \"static\"", reader.where(), key,
                      bits);
  }
  return static_cast<int>(bits);
}

// How a static range is found: one of all methods but kBest, or `first`, which is what counts where nothing is said.
RangeOptions read_range(Reader& reader, bool fixed, RangeMethod first) {
  for (const char* key : {"range", "percentile"}) {
    if (reader.find(key) != nullptr && !fixed) {
      fail<FormatError>("{}: '{}' is found by calibration, for \"mode\": \"static\"; dynamic scales need none",
                        reader.where(), key);
    }
  }
  std::vector<json> methods;
  methods.emplace_back(octet::name(first));
  for (const RangeMethod method : range_methods()) {
    if (method != first) methods.emplace_back(octet::name(method));
  }
  RangeOptions out;
  out.method = parse_range_method(reader.choice("range", methods).get<std::string>());
  out.percentile = reader.number("percentile", out.percentile, 99, 99.9999);
  if (reader.find("percentile") != nullptr && out.method != RangeMethod::kPercentile &&
      out.method != RangeMethod::kBest) {
    fail<FormatError>("{}: a 'percentile' belongs to \"range\": \"percentile\"{}", reader.where(),
                      first == RangeMethod::kBest ? " or \"best\"" : "");
  }
  return out;
}

}  // namespace

Recipe::Activations Recipe::read_activations(const json& value, const std::string& where) {
  Activations out;
  if (value.is_null()) return out;
  Reader reader(value, where);
  const bool fixed = reader.choice("mode", {"dynamic", "static"}) == "static";
  const int bits = read_code_bits(reader, "bits", 8, fixed);
  reader.choice("granularity", {fixed ? "per_tensor" : "per_token"});
  const bool symmetric =
      reader.choice("symmetric", fixed ? std::vector<json>{true, false} : std::vector<json>{true}) == true;
  out.range = read_range(reader, fixed, RangeMethod::kBest);
  out.range.bits = bits;
  reader.refuse_unknown_keys();
  out.mode = !fixed      ? ActivationMode::kDynamicPerToken
             : symmetric ? ActivationMode::kStaticPerTensor
                         : ActivationMode::kStaticPerTensorZeroPoint;
  return out;
}

void Recipe::read_attention(const json& value, const std::string& where) {
  Reader reader(value, where);
  const bool fixed = reader.choice("mode", {"dynamic", "static"}) == "static";
  const int bits = read_code_bits(reader, "bits", 8, fixed);
  attention_bits_ = {.qk = read_code_bits(reader, "qk_bits", bits, fixed),
                     .v = read_code_bits(reader, "v_bits", bits, fixed)};
  attention_ = fixed ? ActivationMode::kStaticPerTensor : ActivationMode::kDynamicPerToken;
  // "best" asks the weights that multiply which values matter; there are none here.
  attention_range_ = read_range(reader, fixed, RangeMethod::kMse);
  reader.refuse_unknown_keys();
}

std::optional<FoldOptions> Recipe::read_fold(const json& value, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  Reader reader(value, where);
  FoldOptions out;
  const json* method = reader.find("method");
  if (method == nullptr) fail<FormatError>("{}: has no 'method'; \"smoothquant\" and \"awq\" can be had", where);
  const bool smooth = reader.choice("method", {"smoothquant", "awq"}) == "smoothquant";
  out.method = smooth ? FoldOptions::Method::kSmoothQuant : FoldOptions::Method::kAwq;
  const json* alpha = reader.find("alpha");
  if (alpha != nullptr && *alpha == "search") {
    out.alpha.reset();
  } else if (alpha != nullptr && !smooth) {
    fail<FormatError>("{}: awq searches its 'alpha'; leave it out", where);
  } else if (alpha != nullptr && !alpha->is_number()) {
    fail<FormatError>("{}: 'alpha' is {}; a number from 0 to 1 or \"search\" is needed", where, quote_json(*alpha));
  } else {
    out.alpha = reader.number("alpha", *out.alpha, 0, 1);
  }
  if (!smooth) out.alpha.reset();
  reader.refuse_unknown_keys();
  return out;
}

CalibrationOptions Recipe::read_calibration(const json& value, const std::string& where) {
  CalibrationOptions out;
  if (value.is_null()) return out;
  constexpr int64_t kMost = 1 << 20, kLargestSeed = std::numeric_limits<int64_t>::max();
  Reader reader(value, where);
  out.samples = reader.integer("samples", out.samples, 1, kMost);
  out.sequence_length = reader.integer("sequence_length", out.sequence_length, 2, kMost);
  out.seed = static_cast<uint64_t>(reader.integer("seed", 0, 0, kLargestSeed));
  reader.refuse_unknown_keys();
  return out;
}

std::optional<OutlierOptions> Recipe::read_outlier_search(const json& value, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  constexpr double kLargest = 1e30;
  constexpr int64_t kMost = 1 << 30;
  Reader reader(value, where);
  OutlierOptions out;
  out.threshold = static_cast<float>(reader.number("threshold", out.threshold, 0, kLargest));
  if (reader.find("max_columns") != nullptr) out.max_columns = reader.integer("max_columns", 1, 1, kMost);
  out.max_share = reader.number("max_share", out.max_share, 0, 1);
  reader.refuse_unknown_keys();
  return out;
}

void Recipe::read_outliers(const json& value, const std::string& where) {
  if (!value.is_object() || !value.contains("columns")) {
    outliers_ = read_outlier_search(value, where);
    return;
  }
  Reader reader(value, where);
  const json& columns = *reader.find("columns");
  for (const char* key : {"threshold", "max_columns", "max_share"}) {
    if (reader.find(key) != nullptr)
      fail<FormatError>("{}: '{}' is how 'columns' would be found, which are given here", where, key);
  }
  reader.refuse_unknown_keys();
  outlier_columns_ = columns.is_string() ? OutlierColumns::load(columns.get<std::string>())
                                         : OutlierColumns(columns, where + ", columns");
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
  if (const json* outliers = reader.find("outliers")) out.read_outliers(*outliers, reader.where() + ", outliers");
  if (const json* fold = reader.find("fold")) out.fold_ = read_fold(*fold, reader.where() + ", fold");
  out.bias_correction_ = reader.choice("bias_correction", {false, true}).get<bool>();
  if (const json* calibration = reader.find("calibration")) {
    out.calibration_ = read_calibration(*calibration, reader.where() + ", calibration");
  }
  if (const json* scales = reader.find("activation_scales")) {
    out.scales_ = read_scales(*scales, reader.where() + ", activation_scales");
  }
  if (const json* embeddings = reader.find("embeddings"))
    out.embeddings_ = read_embeddings(*embeddings, reader.where() + ", embeddings");
  if (const json* attention = reader.find("attention"); attention != nullptr && attention->is_object()) {
    out.read_attention(*attention, reader.where() + ", attention");
  } else if (reader.choice("attention", {nullptr, 8}) == 8) {
    out.attention_ = ActivationMode::kDynamicPerToken;
  }
  out.include_ = reader.texts("include", {"*"});
  out.exclude_ = reader.texts("exclude", {});
  if (const json* overrides = reader.find("overrides")) {
    if (!overrides->is_array()) fail<FormatError>("{}: 'overrides' must be a list", reader.where());
    for (const json& item : *overrides) {
      Reader rule(item, fmt::format("{}, override {}", reader.where(), out.overrides_.size() + 1));
      Override parsed;
      parsed.match = rule.text("match", "");
      if (parsed.match.empty()) fail<FormatError>("{}: says no 'match': which layers is it for?", rule.where());
      if (const json* weights = rule.find("weights"))
        parsed.weights = read_weights(*weights, rule.where() + ", weights");
      if (const json* activations = rule.find("activations")) {
        parsed.activations = read_activations(*activations, rule.where() + ", activations");
      }
      if (const json* outliers = rule.find("outliers"))
        parsed.outliers = read_outlier_search(*outliers, rule.where() + ", outliers");
      parsed.optional = rule.choice("optional", {false, true}).get<bool>();
      rule.refuse_unknown_keys();
      out.overrides_.push_back(std::move(parsed));
    }
  }
  reader.refuse_unknown_keys();
  const bool any = out.quantizes_weights() || out.attention_ != ActivationMode::kFloat ||
                   out.activations_.mode != ActivationMode::kFloat ||
                   std::any_of(out.overrides_.begin(), out.overrides_.end(), [](const Override& rule) {
                     return rule.activations.value_or(Activations()).mode != ActivationMode::kFloat;
                   });
  if (!any) fail<FormatError>("{}: quantizes nothing. Add \"weights\": {{\"bits\": 8}}.", reader.where());
  if ((out.fold_ || out.bias_correction_) && !out.quantizes_weights()) {
    fail<FormatError>(
        "{}: '{}' changes weights, which this recipe leaves as they are. Add \"weights\": {{\"bits\": 8}}.",
        reader.where(), out.fold_ ? "fold" : "bias_correction");
  }
  if (out.keeps_outliers() && !out.quantizes_weights()) {
    fail<FormatError>(
        "{}: 'outliers' are columns that are not quantized with the others, and this recipe leaves all weights as they "
        "are. Add \"weights\": {{\"bits\": 8}}.",
        reader.where());
  }
  out.text_ = printable_json(recipe);
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

std::optional<Recipe::Activations> Recipe::said_activations(std::string_view layer) const {
  if (!takes(layer)) return std::nullopt;
  std::optional<Activations> said;
  if (activations_.mode != ActivationMode::kFloat) said = activations_;
  for (const Override& rule : overrides_) {
    if (rule.activations && glob_match(rule.match, layer)) said = rule.activations;
  }
  return said;
}

std::optional<ActivationMode> Recipe::activations_for(std::string_view layer) const {
  const std::optional<Activations> said = said_activations(layer);
  return said ? std::optional(said->mode) : std::nullopt;
}

int Recipe::activation_bits(std::string_view layer) const {
  return said_activations(layer).value_or(Activations()).range.bits;
}

std::optional<Recipe::Layer> Recipe::find(std::string_view layer) const {
  if (!takes(layer)) return std::nullopt;
  const std::optional<Weights>* weights = &weights_;
  Activations activations = activations_;
  std::optional<OutlierOptions> outliers = outliers_;
  for (const Override& rule : overrides_) {
    if (!glob_match(rule.match, layer)) continue;
    if (rule.weights) weights = &*rule.weights;
    if (rule.activations) activations = *rule.activations;
    if (rule.outliers) outliers = *rule.outliers;
  }
  if (!*weights) return std::nullopt;
  return Layer{**weights, activations, outliers};
}

std::span<const int32_t> Recipe::outlier_columns(std::string_view layer) const {
  return takes(layer) ? outlier_columns_.find(layer) : std::span<const int32_t>();
}

std::optional<OutlierOptions> Recipe::outliers(std::string_view layer) const {
  const std::optional<Layer> found = find(layer);
  return found ? found->outliers : std::nullopt;
}

bool Recipe::finds_outliers() const noexcept {
  return outliers_ || std::ranges::any_of(
                          overrides_, [](const Override& rule) { return rule.outliers && rule.outliers->has_value(); });
}

std::optional<Scheme> Recipe::scheme_for(std::string_view layer, int64_t inputs) const {
  const std::optional<Layer> found = find(layer);
  if (!found) return std::nullopt;
  Scheme scheme = fit(found->weights, found->activations, layer, inputs);
  const std::span<const int32_t> given = outlier_columns(layer);
  check_outlier_columns(given, inputs, fmt::format("recipe '{}', outliers, layer '{}'", name_, layer));
  scheme.weight.outliers = found->outliers.has_value() || !given.empty();
  return scheme;
}

Scheme Recipe::fit(const Grid& grid, const Activations& activations, std::string_view layer, int64_t inputs) const {
  const auto divides = [inputs](int64_t group_size) { return group_size == 0 || inputs % group_size == 0; };
  Scheme scheme{grid.scheme, activations.mode, activations.range.bits};
  if (grid.scheme.bits != 8 && activations.mode == ActivationMode::kStaticPerTensorZeroPoint) {
    fail<UsageError>(
        "recipe '{}': layer '{}' has {}-bit weights; activations with a zero point need 8-bit ones, which hold 5 to 8 "
        "bits",
        name_, layer, grid.scheme.used_bits());
  }
  if (divides(grid.scheme.group_size)) return scheme;
  const auto fallback = std::find_if(grid.fallback.begin(), grid.fallback.end(), divides);
  if (fallback == grid.fallback.end()) {
    fail<ShapeError>(
        "recipe '{}': layer '{}' has {} inputs, which {} does not divide{}. Add \"row\" to its group_size_fallback, or "
        "exclude the layer.",
        name_, layer, inputs, grid.scheme.group_size, grid.fallback.empty() ? "" : ", nor does a fallback");
  }
  scheme.weight.group_size = *fallback;
  return scheme;
}

ActivationScale Recipe::activation_scale(std::string_view layer, ActivationMode mode, int bits) const {
  const ActivationScale* given = scales_.find(layer);
  ActivationScale scale = given == nullptr ? ActivationScale() : *given;
  scale.bits = bits;
  if (given == nullptr && to_be_calibrated_) return scale;
  if (given == nullptr) {
    fail<UsageError>(
        "recipe '{}': layer '{}' has static activations and no scale. Calibrate it (octet quantize MODEL --recipe {} "
        "--data TEXT --out DIR), add one to activation_scales, or make its activations dynamic.",
        name_, layer, name_);
  }
  check(scale, mode, fmt::format("recipe '{}', activation_scales, layer '{}'", name_, layer));
  return scale;
}

float Recipe::attention_scale(const std::string& operand) const {
  const ActivationScale* scale = scales_.find(operand);
  if (scale == nullptr && to_be_calibrated_) return 1;
  if (scale == nullptr) {
    fail<UsageError>(
        "recipe '{}': static attention has no scale for '{}'. Calibrate it (octet quantize MODEL --recipe {} --data "
        "TEXT "
        "--out DIR), add one to activation_scales, or make it dynamic (\"attention\": 8).",
        name_, operand, name_);
  }
  check(*scale, ActivationMode::kStaticPerTensor, fmt::format("recipe '{}', activation_scales, '{}'", name_, operand));
  return scale->scale;
}

WeightAlgorithmOptions Recipe::weight_algorithm(std::string_view layer) const {
  const std::optional<Layer> found = find(layer);
  return found ? found->weights.algorithm : WeightAlgorithmOptions();
}

bool Recipe::true_sequential(std::string_view layer) const {
  const std::optional<Layer> found = find(layer);
  return found && needs_statistics(found->weights.algorithm.algorithm) && found->weights.true_sequential;
}

RangeOptions Recipe::activation_range(std::string_view layer) const {
  const std::optional<Layer> found = find(layer);
  return found ? found->activations.range : activations_.range;
}

bool Recipe::any_weights(const std::function<bool(const Weights&)>& holds) const {
  return (weights_ && holds(*weights_)) || std::ranges::any_of(overrides_, [&](const Override& rule) {
           return rule.weights && *rule.weights && holds(**rule.weights);
         });
}

std::string Recipe::needs_data() const {
  if (fold_) return fold_->method == FoldOptions::Method::kAwq ? "AWQ" : "SmoothQuant";
  const auto uses = [&](WeightAlgorithm algorithm) {
    return any_weights([algorithm](const Weights& weights) { return weights.algorithm.algorithm == algorithm; });
  };
  if (uses(WeightAlgorithm::kGptq)) return "GPTQ";
  if (any_weights([](const Weights& weights) { return learns_rounding(weights.algorithm.algorithm); }))
    return "learning how to round";
  if (uses(WeightAlgorithm::kHessianScales)) return "a search of scales by Hessians";
  if (finds_outliers()) return "a search of outlier columns";
  return bias_correction_ ? "bias correction" : "";
}

bool Recipe::is_offline() const {
  return !needs_data().empty() || any_weights([](const Weights& weights) {
    return weights.algorithm.algorithm != WeightAlgorithm::kRoundToNearest;
  });
}

Recipe Recipe::to_be_calibrated() const {
  Recipe recipe = *this;
  recipe.to_be_calibrated_ = true;
  return recipe;
}

std::optional<Scheme> Recipe::embedding_scheme(std::string_view layer, int64_t width) const {
  if (!embeddings_) return std::nullopt;
  return fit(*embeddings_, activations_, layer, width);
}

std::optional<int64_t> Recipe::asked_group_size(std::string_view layer) const {
  const std::optional<Layer> found = find(layer);
  return found ? std::optional(found->weights.scheme.group_size) : std::nullopt;
}

std::vector<std::string> Recipe::unmatched_patterns(std::span<const std::string> layers,
                                                    std::span<const std::string> operands) const {
  std::vector<std::string> patterns = include_;
  patterns.insert(patterns.end(), exclude_.begin(), exclude_.end());
  for (const Override& rule : overrides_) {
    if (!rule.optional) patterns.push_back(rule.match);
  }
  std::erase_if(patterns, [layers](const std::string& pattern) {
    return std::any_of(layers.begin(), layers.end(),
                       [&](const std::string& layer) { return glob_match(pattern, layer); });
  });
  std::vector<std::string> readers(layers.begin(), layers.end());
  readers.insert(readers.end(), operands.begin(), operands.end());
  for (const std::vector<std::string>& unknown : {scales_.unknown(readers), outlier_columns_.unknown(layers)})
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

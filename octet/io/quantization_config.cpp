// SPDX-License-Identifier: Apache-2.0
#include "octet/io/quantization_config.h"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr std::string_view kPatternPrefix = "re:";
constexpr const char* kLinear = "Linear";
constexpr const char* kEmbedding = "Embedding";
// Octet's own. The library's kv_cache_scheme, which static attention writes besides, says nothing of queries and of
// what meets the values.
constexpr const char* kAttention = "octet_attention";
constexpr const char* kCacheScheme = "kv_cache_scheme";
// And where values have other bits than queries and keys, in "octet_attention".
constexpr const char* kValueBits = "v_bits";
// Octet's own too, but among the arguments of weights, where the library refuses what it does not know: a reader that
// passed over it would compute with zeros in the place of the outliers.
constexpr const char* kOutliers = "octet_outlier_columns";
// How compressed-tensors calls the search for a range.
constexpr const char* kMse = "mse";
// What shares a scale.
constexpr const char *kTensor = "tensor", *kChannel = "channel", *kGroup = "group";
// And groups of columns that an order by activations has put together.
constexpr const char* kReordered = "group";

const char* text_of(WeightFormat format) {
  return format == WeightFormat::kIntQuantized ? "int-quantized" : "pack-quantized";
}

// None where the format is to be found from the scheme.
std::optional<WeightFormat> read_format(const Config& config) {
  const std::string format = config.text("format", "");
  if (format.empty() || format == "mixed-precision") return std::nullopt;
  // The two are stored alike.
  if (format == "int-quantized" || format == "naive-quantized") return WeightFormat::kIntQuantized;
  if (format == "pack-quantized") return WeightFormat::kPackQuantized;
  fail<FormatError>("{}: the quantization format is {}; int-quantized and pack-quantized can be read", config.source(),
                    quote_name(format));
}

[[noreturn]] void refuse(const Config& config, const std::string& key, const json& value, const std::string& what) {
  fail<FormatError>("{}: '{}' is {}: {}", config.source(), key, quote_json(value), what);
}

// Throws unless every key of `config` is missing, null, empty, or among `known`.
void refuse_other_keys(const Config& config, const std::string& where, std::initializer_list<std::string_view> known) {
  for (const auto& item : config.json().items()) {
    if (item.value().is_null() || std::find(known.begin(), known.end(), item.key()) != known.end()) continue;
    if (item.value().is_structured() && item.value().empty()) continue;
    fail<FormatError>("{}: {} holds {}, which is not supported", config.source(), where, quote_name(item.key()));
  }
}

// What weights and activations have in common: signed integers.
void check_integers(const Config& args, const std::string& where) {
  const auto require = [&](std::string_view key, const json& offered, const char* what) {
    if (!args.has(key)) return;
    const json& value = args.json().at(key);
    if (value != offered) refuse(args, fmt::format("{}.{}", where, key), value, what);
  };
  require("type", "int", "integers are supported");
  require("block_structure", nullptr, "blocks are not supported");
  if (where != kAttention && args.has(kValueBits)) {
    refuse(args, fmt::format("{}.{}", where, kValueBits), args.json().at(kValueBits), "it is said of attention");
  }
  // The last steer how scales were found, not what they mean.
  refuse_other_keys(
      args, where,
      {"num_bits", "type", "symmetric", "strategy", "dynamic", "group_size", "actorder", "block_structure", "observer",
       "observer_kwargs", "scale_dtype", "zp_dtype", kOutliers, kValueBits});
}

// Of weights; compressed-tensors' own defaults: one scale in all, or, with group_size -1, one an output channel.
std::string read_strategy(const Config& weights) {
  const bool sized = weights.has("group_size");
  return weights.text("strategy", !sized ? kTensor : weights.integer("group_size") == -1 ? kChannel : kGroup);
}

int64_t read_group_size(const Config& weights, const std::string& where) {
  const int64_t group_size = weights.integer("group_size", -1);
  const std::string strategy = read_strategy(weights);
  if (strategy == kChannel || strategy == kTensor) {
    if (group_size != -1)
      refuse(weights, where + ".group_size", group_size, fmt::format("the strategy \"{}\" has no groups", strategy));
    return 0;
  }
  if (strategy != kGroup) {
    refuse(weights, where + ".strategy", strategy,
           "one scale in all (\"tensor\"), an output channel (\"channel\") or a group of its inputs (\"group\") is "
           "supported");
  }
  if (group_size != 32 && group_size != 64 && group_size != 128 && group_size != 256) {
    refuse(weights, where + ".group_size", group_size, "groups of 32, 64, 128 and 256 are supported");
  }
  return group_size;
}

WeightScheme read_weights(const Config& weights, const std::string& where) {
  check_integers(weights, where);
  WeightScheme scheme;
  const int64_t bits = weights.integer("num_bits", 8);
  if (bits != 8 && bits != 4) refuse(weights, where + ".num_bits", bits, "8 and 4 bits are supported");
  scheme.bits = static_cast<int>(bits);
  scheme.group_size = read_group_size(weights, where);
  if (!weights.flag("symmetric", true)) scheme.mapping = CodeMapping::kZeroPoint;
  if (weights.has("observer") && weights.json().at("observer") == kMse) scheme.range = RangeEstimator::kMse;
  scheme.outliers = weights.flag(kOutliers, false);
  if (weights.flag("dynamic", false)) refuse(weights, where + ".dynamic", true, "weights have stored scales");
  if (weights.has("actorder")) {
    // "group" and its older names reorder the groups; "weight" and "static" are the order in which columns were
    // quantized, not one in which they are stored.
    const json& order = weights.json().at("actorder");
    if (order == kReordered || order == "dynamic" || order == true) {
      if (scheme.group_size == 0) {
        refuse(weights, where + ".actorder", order, "one scale an output channel has no groups to reorder");
      }
      scheme.reordered = true;
    } else if (order != false && order != "weight" && order != "static") {
      refuse(weights, where + ".actorder", order, "\"group\", \"weight\" and \"static\" are known");
    }
  }
  return scheme;
}

struct Activations {
  ActivationMode mode;
  int bits;
};

Activations read_activations(const Config& activations, const std::string& where) {
  check_integers(activations, where);
  if (activations.has(kOutliers)) {
    refuse(activations, where + "." + kOutliers, activations.json().at(kOutliers), "it is said of weights");
  }
  // A text, "local", stands for another method.
  const json dynamic = activations.has("dynamic") ? activations.json().at("dynamic") : json(false);
  if (!dynamic.is_boolean()) {
    refuse(activations, where + ".dynamic", dynamic,
           "scales found while running (true) or before (false) are supported");
  }
  const bool fixed = dynamic == false, symmetric = activations.flag("symmetric", true);
  const int64_t bits = activations.integer("num_bits", 8);
  if (bits != 8 && (!fixed || bits < 2 || bits > 8)) {
    refuse(activations, where + ".num_bits", bits, "8 bits are supported, and 2 to 7 where scales are not dynamic");
  }
  const std::string strategy = activations.text("strategy", "tensor");
  if (strategy != (fixed ? "tensor" : "token")) {
    refuse(activations, where + ".strategy", strategy,
           "one scale a \"token\" is supported where they are dynamic, one a \"tensor\" where they are not");
  }
  if (!fixed && !symmetric) {
    refuse(activations, where + ".symmetric", false, "a zero point is supported where scales are not dynamic");
  }
  if (!fixed) return {ActivationMode::kDynamicPerToken, 8};
  return {symmetric ? ActivationMode::kStaticPerTensor : ActivationMode::kStaticPerTensorZeroPoint,
          static_cast<int>(bits)};
}

// Bits of values where they are said, else those of queries and keys.
AttentionBits read_attention_bits(const Config& attention, const Activations& read) {
  const int64_t v = attention.integer(kValueBits, read.bits);
  if (v != read.bits && (!is_static(read.mode) || v < 2 || v > 8)) {
    refuse(attention, fmt::format("{}.{}", kAttention, kValueBits), v, "2 to 8 bits of static scales are supported");
  }
  return {.qk = read.bits, .v = static_cast<int>(v)};
}

StoredScheme read_group(const Config& group, const std::string& where, std::optional<WeightFormat> common) {
  refuse_other_keys(group, where, {"targets", "weights", "input_activations", "format"});
  if (!group.has("weights")) fail<FormatError>("{}: {} has no 'weights'", group.source(), where);
  Scheme scheme{.weight = read_weights(group.object("weights"), where + ".weights")};
  if (group.has("input_activations")) {
    const auto [mode, bits] = read_activations(group.object("input_activations"), where + ".input_activations");
    scheme.activations = mode;
    scheme.activation_bits = bits;
    if (scheme.weight.bits != 8 && scheme.activations == ActivationMode::kStaticPerTensorZeroPoint) {
      fail<FormatError>("{}: {} has {}-bit weights; activations with a zero point need 8-bit ones", group.source(),
                        where, scheme.weight.bits);
    }
  }
  const std::optional<WeightFormat> own = read_format(group);
  return {.scheme = scheme,
          .format = own      ? *own
                    : common ? *common
                             : format_for(scheme),
          .one_scale = read_strategy(group.object("weights")) == kTensor};
}

// What a text of "targets" or "ignore" counts as, the first counting most.
enum class Rank { kName, kPattern, kKind };

Rank rank_of(std::string_view target) {
  if (target == kLinear || target == kEmbedding) return Rank::kKind;
  return target.starts_with(kPatternPrefix) ? Rank::kPattern : Rank::kName;
}

json to_json(ActivationMode activations, int bits) {
  if (activations == ActivationMode::kFloat) return nullptr;
  const bool fixed = is_static(activations);
  return {{"num_bits", bits},
          {"type", "int"},
          {"symmetric", activations != ActivationMode::kStaticPerTensorZeroPoint},
          {"strategy", fixed ? "tensor" : "token"},
          {"dynamic", !fixed}};
}

json to_json(const Scheme& scheme, const json& targets, WeightFormat format) {
  const WeightScheme& weight = scheme.weight;
  json weights = {{"num_bits", weight.bits},
                  {"type", "int"},
                  {"symmetric", weight.mapping == CodeMapping::kSymmetric},
                  {"strategy", weight.group_size == 0 ? kChannel : kGroup},
                  {"dynamic", false},
                  {"observer", weight.range == RangeEstimator::kMse ? kMse : "minmax"}};
  if (weight.group_size != 0) weights["group_size"] = weight.group_size;
  if (weight.reordered) weights["actorder"] = kReordered;
  if (weight.outliers) weights[kOutliers] = true;
  return {{"targets", targets},
          {"format", text_of(format)},
          {"weights", std::move(weights)},
          {"input_activations", to_json(scheme.activations, scheme.activation_bits)},
          {"output_activations", nullptr}};
}

struct TargetGroup {
  Scheme scheme;
  json targets;
  WeightFormat format;
};

// In the order of the names.
std::vector<TargetGroup> by_scheme(const std::map<std::string, Scheme>& schemes) {
  std::vector<TargetGroup> groups;
  for (const auto& [name, scheme] : schemes) {
    check_storable(scheme.weight, name);
    Scheme stored = scheme;
    stored.weight.unused_bits = 0;
    auto group = std::ranges::find(groups, stored, &TargetGroup::scheme);
    if (group == groups.end())
      group = groups.insert(groups.end(), TargetGroup{stored, json::array(), format_for(stored)});
    group->targets.push_back(name);
  }
  return groups;
}

}  // namespace

void check_storable(const WeightScheme& scheme, const std::string& layer) {
  if (scheme.mapping != CodeMapping::kMinimum) return;
  fail<FormatError>(
      "layer '{}' is to have minima, which the compressed-tensors layout cannot store. Write zero points instead "
      "(--set weights.minima=false --set weights.symmetric=false), or quantize while loading: every command that takes "
      "a model takes --recipe too.",
      layer);
}

WeightFormat format_for(const Scheme& scheme) noexcept {
  return scheme.activations == ActivationMode::kFloat ? WeightFormat::kPackQuantized : WeightFormat::kIntQuantized;
}

WeightFormat embedding_format(const WeightScheme& scheme) noexcept {
  return scheme.bits == 8 ? WeightFormat::kIntQuantized : WeightFormat::kPackQuantized;
}

StoredQuantization::Matcher::Matcher(const std::string& text, const std::string& source) : target(text) {
  if (rank_of(target) == Rank::kPattern) pattern.emplace(target.substr(kPatternPrefix.size()), source);
}

bool StoredQuantization::Matcher::matches(std::string_view layer, LayerKind kind) const {
  if (rank_of(target) == Rank::kKind) return target == (kind == LayerKind::kLinear ? kLinear : kEmbedding);
  return pattern ? pattern->matches(layer) : target == layer;
}

StoredQuantization StoredQuantization::parse(const Config& config) {
  const std::string& source = config.source();
  const std::string method = config.text("quant_method", "compressed-tensors");
  if (method != "compressed-tensors") {
    fail<FormatError>(
        "{}: quantized by the method {}; compressed-tensors, gptq and awq can be read. Start from the float model.",
        source, quote_name(method));
  }
  refuse_other_keys(config, "quantization_config",
                    {"quant_method", "format", "config_groups", "ignore", "quantization_status", "sparsity_config",
                     "global_compression_ratio", "version", "run_compressed", "dequantize", "use_optimized_inference",
                     kAttention, kCacheScheme});
  if (config.has("sparsity_config") && config.object("sparsity_config").text("format", "dense") != "dense") {
    fail<FormatError>("{}: sparse weights (sparsity_config) are not supported", source);
  }
  // Before that state weights are stored in float.
  const std::string status = config.text("quantization_status", "initialized");
  if (status != "compressed") {
    fail<FormatError>("{}: quantization_status is {}; only \"compressed\" weights can be read", source,
                      quote_name(status));
  }
  const std::optional<WeightFormat> common = read_format(config);

  StoredQuantization out;
  const Config groups = config.object("config_groups");
  // A target named in two groups belongs to the later one, as in a Python dictionary.
  std::map<std::string, StoredScheme> schemes;
  for (const auto& item : groups.json().items()) {
    if (!item.value().is_object()) {
      fail<FormatError>("{}: the group {} is a preset; write its scheme out", source, quote_name(item.key()));
    }
    const Config group = groups.object(item.key());
    const StoredScheme scheme = read_group(group, quote_name(item.key()), common);
    for (const std::string& target : group.texts("targets")) {
      schemes.insert_or_assign(target, scheme);
    }
  }
  const std::vector<std::string> ignored = config.texts("ignore");
  const auto is_pattern = [](const std::string& target) { return rank_of(target) == Rank::kPattern; };
  const auto patterns =
      std::count_if(ignored.begin(), ignored.end(), is_pattern) +
      std::count_if(schemes.begin(), schemes.end(), [&](const auto& target) { return is_pattern(target.first); });
  if (std::cmp_greater(patterns, kMostNamePatterns)) {
    fail<FormatError>("{}: {} layer patterns; at most {} are read", source, patterns, kMostNamePatterns);
  }
  for (const auto& [target, scheme] : schemes) out.targets_.emplace_back(Matcher(target, source), scheme);
  std::stable_sort(out.targets_.begin(), out.targets_.end(),
                   [](const auto& a, const auto& b) { return rank_of(a.first.target) < rank_of(b.first.target); });
  for (const std::string& layer : ignored) out.ignored_.emplace_back(layer, source);
  if (config.has(kAttention)) {
    const Activations read = read_activations(config.object(kAttention), kAttention);
    out.attention_ = read.mode;
    out.attention_bits_ = read_attention_bits(config.object(kAttention), read);
    if (out.attention_ == ActivationMode::kStaticPerTensorZeroPoint) {
      refuse(config, std::string(kAttention) + ".symmetric", false, "attention has no zero points");
    }
  }
  // What static attention keeps of keys and values; by itself it would leave queries and weights in float.
  if (config.has(kCacheScheme)) {
    const auto [cache, bits] = read_activations(config.object(kCacheScheme), kCacheScheme);
    if (cache != ActivationMode::kStaticPerTensor || cache != out.attention_ ||
        out.attention_bits_ != AttentionBits{.qk = bits, .v = bits}) {
      fail<FormatError>("{}: '{}' without attention of the same kind ('{}') is not supported", source, kCacheScheme,
                        kAttention);
    }
  }
  return out;
}

std::optional<StoredScheme> StoredQuantization::scheme_for(std::string_view layer, LayerKind kind) const {
  const auto matches = [layer, kind](const Matcher& matcher) { return matcher.matches(layer, kind); };
  if (std::any_of(ignored_.begin(), ignored_.end(), matches)) return std::nullopt;
  for (const auto& [matcher, scheme] : targets_) {
    if (matches(matcher)) return scheme;
  }
  return std::nullopt;
}

json quantization_config(const std::map<std::string, Scheme>& schemes, std::span<const std::string> float_layers,
                         const std::map<std::string, Scheme>& embeddings, ActivationMode attention,
                         AttentionBits attention_bits) {
  std::vector<TargetGroup> groups = by_scheme(schemes);
  if (groups.size() == 1) groups.front().targets = json::array({kLinear});
  for (TargetGroup& group : by_scheme(embeddings)) {
    group.format = embedding_format(group.scheme.weight);
    groups.push_back(std::move(group));
  }

  json out = {{"quant_method", "compressed-tensors"},
              {"quantization_status", "compressed"},
              {"config_groups", json::object()},
              {"ignore", json(std::vector<std::string>(float_layers.begin(), float_layers.end()))},
              {kCacheScheme, json()}};
  const bool alike = attention_bits.qk == attention_bits.v;
  if (attention != ActivationMode::kFloat) out[kAttention] = to_json(attention, attention_bits.qk);
  if (attention != ActivationMode::kFloat && !alike) out[kAttention][kValueBits] = attention_bits.v;
  // A cache whose keys have other bits than its values the library has no words for.
  if (is_static(attention) && alike) out[kCacheScheme] = to_json(attention, attention_bits.v);
  std::vector<WeightFormat> formats;
  for (const auto& [scheme, targets, format] : groups) {
    out["config_groups"][fmt::format("group_{}", formats.size())] = to_json(scheme, targets, format);
    formats.push_back(format);
  }
  const bool uniform = std::equal(formats.begin() + (formats.empty() ? 0 : 1), formats.end(), formats.begin());
  if (!formats.empty()) out["format"] = uniform ? text_of(formats.front()) : "mixed-precision";
  return out;
}

json quantized_model_config(const Config& config, const std::map<std::string, Scheme>& schemes,
                            std::span<const std::string> float_layers, const std::map<std::string, Scheme>& embeddings,
                            ActivationMode attention, AttentionBits attention_bits) {
  json out = config.json();
  out["quantization_config"] = quantization_config(schemes, float_layers, embeddings, attention, attention_bits);
  out.erase("torch_dtype");  // its name before transformers 5
  out["dtype"] = "float32";
  return out;
}

}  // namespace octet

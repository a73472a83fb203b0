// SPDX-License-Identifier: Apache-2.0
#include "octet/models/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/suggest.h"

namespace octet {
namespace {

// One config of rotary embeddings, wherever its keys stand.
struct RopeConfig {
  const Config& model;
  Config parameters;  // empty where the model says nothing
  std::string type;
  double theta;

  RopeConfig(const Config& config, double default_theta) : model(config), parameters(find_parameters(config)) {
    type = parameters.text("rope_type", parameters.text("type", "default"));
    theta = parameters.has("rope_theta") ? parameters.number("rope_theta") : config.number("rope_theta", default_theta);
    if (!(theta > 0)) fail<FormatError>("{}: rope_theta is {}; it must be positive", config.source(), theta);
  }

  double factor() const {
    const double value = parameters.number("factor");
    if (!(value >= 1)) fail<FormatError>("{}: the rope factor is {}; it must be at least 1", model.source(), value);
    return value;
  }
  double original_positions() const {
    const IntegerRange range{1, kLargestExtent};
    if (parameters.has("original_max_position_embeddings"))
      return static_cast<double>(parameters.integer("original_max_position_embeddings", range));
    return static_cast<double>(model.integer("max_position_embeddings", range));
  }

 private:
  static Config find_parameters(const Config& config) {
    for (const char* key : {"rope_parameters", "rope_scaling"}) {
      if (config.has(key)) return config.object(key);
    }
    return Config::parse("{}", config.source());
  }
};

// Rotations slower than one in `low` of the original context turn slower by the factor, those faster than one in `high`
// keep their speed, with a ramp between (Llama 3.1).
void scale_llama3(const RopeConfig& rope, std::vector<float>& frequencies) {
  const double factor = rope.factor(), original = rope.original_positions();
  const double low = rope.parameters.number("low_freq_factor"), high = rope.parameters.number("high_freq_factor");
  if (!(low > 0 && high > low)) {
    fail<FormatError>("{}: low_freq_factor {} and high_freq_factor {}; the second must be the larger",
                      rope.model.source(), low, high);
  }
  for (float& frequency : frequencies) {
    const double rotations = original * frequency / (2 * std::numbers::pi);
    const double kept = std::clamp((rotations - low) / (high - low), 0.0, 1.0);
    frequency = static_cast<float>((1 - kept) * frequency / factor + kept * frequency);
  }
}

// YaRN (Peng et al., 2023): the ramp runs over the pairs between those that turn beta_fast and beta_slow times in the
// original context. Returns the factor on sine and cosine.
float scale_yarn(const RopeConfig& rope, std::vector<float>& frequencies) {
  const double factor = rope.factor(), original = rope.original_positions();
  const double width = 2 * static_cast<double>(frequencies.size());
  const auto pair_of = [&](double rotations) {
    return width * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double first = pair_of(rope.parameters.number("beta_fast", 32)),
         last = pair_of(rope.parameters.number("beta_slow", 1));
  if (rope.parameters.flag("truncate", true)) first = std::floor(first), last = std::ceil(last);
  first = std::max(first, 0.0), last = std::min(last, width - 1);
  if (first == last) last += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double slowed = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    frequencies[i] = static_cast<float>(frequencies[i] / factor * slowed + frequencies[i] * (1 - slowed));
  }
  if (rope.parameters.has("attention_factor")) return static_cast<float>(rope.parameters.number("attention_factor"));
  const auto magnitude = [factor](double scale) { return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0; };
  const double mscale = rope.parameters.number("mscale", 0), all = rope.parameters.number("mscale_all_dim", 0);
  return static_cast<float>(mscale != 0 && all != 0 ? magnitude(mscale) / magnitude(all) : magnitude(1));
}

}  // namespace

Nonlinearity read_nonlinearity(const Config& config, std::string_view key, std::string_view fallback) {
  static const std::array<std::pair<std::string, Nonlinearity>, 8> known = {
      {{"gelu", Nonlinearity::kGelu},
       {"gelu_new", Nonlinearity::kGeluTanh},
       {"gelu_fast", Nonlinearity::kGeluTanh},
       {"gelu_pytorch_tanh", Nonlinearity::kGeluTanh},
       {"relu", Nonlinearity::kRelu},
       {"silu", Nonlinearity::kSilu},
       {"swish", Nonlinearity::kSilu},
       {"tanh", Nonlinearity::kTanh}}};
  const std::string asked = config.text(key, fallback);
  std::vector<std::string> names;
  for (const auto& [name, value] : known) {
    if (asked == name) return value;
    names.push_back(name);
  }
  fail<FormatError>("{}: {} is '{}', which Octet does not have.{}", config.source(), key, asked,
                    did_you_mean(asked, names));
}

int64_t read_head_width(const Config& config, std::string_view width_key, std::string_view heads_key) {
  const IntegerRange extent{1, kLargestExtent};
  const int64_t width = config.integer(width_key, extent), heads = config.integer(heads_key, extent);
  if (width % heads != 0) {
    fail<FormatError>("{}: {} {} is not a multiple of {} {}", config.source(), width_key, width, heads_key, heads);
  }
  return width / heads;
}

int64_t read_kv_heads(const Config& config) {
  const IntegerRange extent{1, kLargestExtent};
  const int64_t heads = config.integer("num_attention_heads", extent);
  const int64_t kv_heads = config.integer("num_key_value_heads", heads, extent);
  if (heads % kv_heads != 0) {
    fail<FormatError>("{}: num_attention_heads {} is not a multiple of num_key_value_heads {}", config.source(), heads,
                      kv_heads);
  }
  return kv_heads;
}

int64_t read_block_count(const Config& config, std::string_view key) { return config.integer(key, {0, 10'000}); }

// Rounded to fp32 at the same places as transformers does, since angles are positions times these. Results of pow in
// double are off by less than 2^-52 everywhere, which the rounding hides.
std::vector<float> rotary_frequencies(int64_t width, double theta) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < width; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(width);
    frequencies.push_back(1.0f / static_cast<float>(std::pow(theta, double{exponent})));
  }
  return frequencies;
}

Rotary read_rotary(const Config& config, int64_t head_width, const RotaryDefaults& defaults) {
  const RopeConfig rope(config, defaults.theta);
  const double share =
      rope.parameters.number("partial_rotary_factor", config.number("partial_rotary_factor", defaults.share));
  const auto width = static_cast<int64_t>(static_cast<double>(head_width) * share);
  if (!(share > 0 && share <= 1) || width < 2 || width % 2 != 0) {
    fail<FormatError>("{}: {} of the {} columns of a head would be rotary; an even number is needed", config.source(),
                      share, head_width);
  }
  std::vector<float> frequencies = rotary_frequencies(width, rope.theta);
  // "dynamic" leaves positions within the model's longest context as they are, and Octet goes no further.
  float factor = 1;
  if (rope.type == "linear") {
    const auto slower = static_cast<float>(rope.factor());
    for (float& frequency : frequencies) frequency /= slower;
  } else if (rope.type == "llama3") {
    scale_llama3(rope, frequencies);
  } else if (rope.type == "yarn") {
    factor = scale_yarn(rope, frequencies);
  } else if (rope.type == "divided") {
    const std::vector<double> divisors = rope.parameters.numbers("frequency_divisors");
    if (divisors.size() != frequencies.size()) {
      fail<FormatError>("{}: {} divisors of {} rotary frequencies", config.source(), divisors.size(),
                        frequencies.size());
    }
    for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= static_cast<float>(divisors[i]);
  } else if (rope.type != "default" && rope.type != "dynamic") {
    fail<FormatError>(
        "{}: rotary embeddings of the kind '{}' are not supported; default, linear, dynamic, llama3 and "
        "yarn are",
        config.source(), rope.type);
  }
  return {std::move(frequencies), factor};
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/generation_config.h"

#include <algorithm>
#include <limits>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

int32_t token_id(const nlohmann::json& value, const std::string& source) {
  // The range as unsigned and signed: a number beyond int64 is kept as unsigned by the parser.
  if (!value.is_number_integer() || value < 0 || value > std::numeric_limits<int32_t>::max())
    fail<FormatError>("{}: 'eos_token_id' holds {}, which is no token id", source, quote_json(value));
  return value.get<int32_t>();
}

std::vector<int32_t> eos_ids(const Config& config) {
  if (!config.has("eos_token_id")) return {};
  const nlohmann::json& value = config.json().at("eos_token_id");
  if (!value.is_array()) return {token_id(value, config.source())};
  std::vector<int32_t> ids;
  for (const nlohmann::json& element : value) ids.push_back(token_id(element, config.source()));
  return ids;
}

std::filesystem::path file_of(const Checkpoint& checkpoint) { return checkpoint.folder() / "generation_config.json"; }

// Settings of generation_config.json that change the text, and the values with which they do not.
struct Unread {
  const char* key;
  std::vector<nlohmann::json> harmless;
};
const std::vector<Unread>& unread_settings() {
  static const std::vector<Unread> settings = {
      {"num_beams", {1}},
      {"num_beam_groups", {1}},
      {"penalty_alpha", {0}},
      {"guidance_scale", {1}},
      {"encoder_repetition_penalty", {1}},
      {"encoder_no_repeat_ngram_size", {0}},
      {"epsilon_cutoff", {0}},
      {"eta_cutoff", {0}},
      {"top_h", {}},
      {"min_length", {0}},
      {"sequence_bias", {}},
      {"bad_words_ids", {}},
      {"forced_bos_token_id", {}},
      {"forced_eos_token_id", {}},
      {"suppress_tokens", {nlohmann::json::array()}},
      {"begin_suppress_tokens", {nlohmann::json::array()}},
      {"exponential_decay_length_penalty", {}},
      {"stop_strings", {}},
      {"watermarking_config", {}},
  };
  return settings;
}

}  // namespace

std::vector<int32_t> read_eos_ids(const Checkpoint& checkpoint, std::optional<int32_t> otherwise) {
  const std::filesystem::path file = file_of(checkpoint);
  std::vector<int32_t> ids;
  if (std::filesystem::exists(file)) ids = eos_ids(Config::read(file));
  if (ids.empty()) ids = eos_ids(checkpoint.config());
  if (ids.empty() && otherwise) ids = {*otherwise};
  return ids;
}

SamplingConfig read_sampling(const Checkpoint& checkpoint) {
  const std::filesystem::path file = file_of(checkpoint);
  if (!std::filesystem::exists(file))
    fail<FormatError>("{}: there is no such file; this model says nothing of how to sample from it", file.string());
  const Config config = Config::read(file);
  SamplingConfig result;
  SamplingOptions& sampling = result.sampling;
  sampling.repetition_penalty = config.number("repetition_penalty", 1);
  sampling.no_repeat_ngram_size = config.integer("no_repeat_ngram_size", 0);
  sampling.min_tokens = config.integer("min_new_tokens", 0);
  if (config.flag("do_sample", false)) {
    sampling.temperature = config.number("temperature", 1);
    sampling.top_k = config.integer("top_k", 50);
    sampling.top_p = config.number("top_p", 1);
    sampling.min_p = config.number("min_p", 0);
    sampling.typical_p = config.number("typical_p", 1);
  }
  try {
    check_sampling(sampling, 0);
  } catch (const UsageError& error) {
    fail<FormatError>("{}: {}", file.string(), error.what());
  }
  for (const auto& [key, harmless] : unread_settings()) {
    if (!config.has(key)) continue;
    const nlohmann::json& value = config.json().at(key);
    if (std::ranges::find(harmless, value) == harmless.end())
      result.ignored.push_back(fmt::format("{} {}", key, quote_json(value)));
  }
  return result;
}

}  // namespace octet

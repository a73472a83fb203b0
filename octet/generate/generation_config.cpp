// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/generation_config.h"

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

}  // namespace

std::vector<int32_t> read_eos_ids(const Checkpoint& checkpoint, std::optional<int32_t> otherwise) {
  const std::filesystem::path file = checkpoint.folder() / "generation_config.json";
  std::vector<int32_t> ids;
  if (std::filesystem::exists(file)) ids = eos_ids(Config::read(file));
  if (ids.empty()) ids = eos_ids(checkpoint.config());
  if (ids.empty() && otherwise) ids = {*otherwise};
  return ids;
}

}  // namespace octet

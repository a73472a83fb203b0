// SPDX-License-Identifier: Apache-2.0
#include "octet/text/json_node.h"

#include "octet/base/json.h"

namespace octet {

std::string shorten(std::string_view text) {
  constexpr size_t kMost = 60;
  if (text.size() <= kMost) return std::string(text);
  size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a UTF-8 character
  return std::string(text.substr(0, end)) + "…";
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  const nlohmann::json::object_t& object = members();
  const auto found = object.find(std::string(key));
  if (found == object.end() || found->second.is_null()) return std::nullopt;
  return JsonNode(found->second, source_, path_.empty() ? std::string(key) : path_ + "." + std::string(key));
}

JsonNode JsonNode::at(std::string_view key) const {
  std::optional<JsonNode> node = find(key);
  if (!node) error("has no '{}'", key);
  return *std::move(node);
}

std::vector<JsonNode> JsonNode::elements() const {
  if (!value_->is_array()) error("must be an array");
  std::vector<JsonNode> nodes;
  nodes.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    nodes.push_back(JsonNode((*value_)[i], source_, fmt::format("{}[{}]", path_, i)));
  }
  return nodes;
}

const nlohmann::json::object_t& JsonNode::members() const {
  if (!value_->is_object()) error("must be an object");
  return value_->get_ref<const nlohmann::json::object_t&>();
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) error("must be a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) error("must be true or false");
  return value_->get<bool>();
}

int64_t JsonNode::integer(int64_t min, int64_t max) const {
  if (!value_->is_number_integer()) error("must be an integer");
  // Only what int64 cannot hold is stored as unsigned alone.
  const bool too_large = value_->is_number_unsigned() && std::cmp_greater(value_->get<uint64_t>(), max);
  if (too_large || value_->get<int64_t>() < min || value_->get<int64_t>() > max) {
    error("is {}; it must lie in [{}, {}]", json_text(*value_), min, max);
  }
  return value_->get<int64_t>();
}

void JsonNode::unsupported(std::string_view known) const {
  const std::string name = value_->is_string() ? value_->get<std::string>() : json_text(*value_);
  error("'{}' is not supported. Octet reads {}.", shorten(name), known);
}

}  // namespace octet

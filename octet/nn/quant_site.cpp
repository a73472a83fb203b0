// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/quant_site.h"

#include <algorithm>

#include <fmt/ranges.h>

namespace octet {

QuantSite QuantSites::add(std::string name, ActivationMode mode) {
  sites_.push_back({std::move(name), mode, static_cast<int>(sites_.size())});
  return sites_.back();
}

std::string site_name(const std::vector<std::string>& layers) {
  if (layers.size() == 1) return layers.front();
  const size_t dot = layers.front().rfind('.');
  const std::string path = dot == std::string::npos ? "" : layers.front().substr(0, dot + 1);
  std::vector<std::string> leaves;
  for (const std::string& layer : layers) leaves.push_back(layer.starts_with(path) ? layer.substr(path.size()) : layer);
  return fmt::format("{}{{{}}}", path, fmt::join(leaves, ","));
}

std::string attention_operand(const QuantSite& site, std::string_view operand) {
  return site.name.substr(0, site.name.rfind('.') + 1).append(operand);
}

}  // namespace octet

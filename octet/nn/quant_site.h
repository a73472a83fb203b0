// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "octet/tensor/scheme.h"

namespace octet {

/// The input of one or several quantizable products (query, key and value share theirs): the one place where
/// activations are quantized, observed or reported. Named after the layers that read it.
struct QuantSite {
  std::string name;
  ActivationMode mode = ActivationMode::kFloat;
  int id = 0;  ///< its place in the model's QuantSites; what a backend reports a fault by
};

/// The sites of a model, in the order of its forward pass.
class QuantSites {
 public:
  QuantSite add(std::string name, ActivationMode mode);
  const QuantSite& operator[](int id) const { return sites_.at(static_cast<size_t>(id)); }
  const std::vector<QuantSite>& all() const noexcept { return sites_; }

 private:
  std::vector<QuantSite> sites_;
};

/// "encoder.layer.0.attention.self.{query,key,value}": the names' common path once, what differs in braces.
std::string site_name(const std::vector<std::string>& layers);

/// What the "q", "k" or "v" that the products of attention at `site` read is called, in recipes and, with "_scale"
/// behind it, in checkpoints: "model.layers.0.self_attn.k" of "model.layers.0.self_attn.attention".
std::string attention_operand(const QuantSite& site, std::string_view operand);

}  // namespace octet

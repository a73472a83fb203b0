// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "octet/tensor/scheme.h"

namespace octet {

/// The layers that a name of a layer, or of a site, stands for: "a.{b,c}" is a.b and a.c.
std::vector<std::string> layers_of_site(const std::string& name);

/// Scales of static activations by the layer that reads them, as a JSON object:
///
///   {
///     "encoder.layer.0.attention.self.{query,key,value}": 0.021,
///     "encoder.layer.0.output.dense": {"scale": 0.0173, "zero_point": 12}
///   }
///
/// A name is a layer's, or a site's: several layers that read one input, what differs in braces. Or as a npz file: NAME
/// is an array of one float, the scale, and NAME.zero_point, where there is one, of one integer.
class ActivationScales {
 public:
  ActivationScales() = default;
  /// Throws FormatError, naming `where`, for what is not such an object, or names a layer twice.
  ActivationScales(const nlohmann::json& object, const std::string& where);
  /// From a file, JSON or npz. Throws Error where it cannot be read.
  static ActivationScales load(const std::string& file);

  /// Null where there is none.
  const ActivationScale* find(std::string_view layer) const;
  /// The layers that have scales, of which `layers` has none.
  std::vector<std::string> unknown(std::span<const std::string> layers) const;

 private:
  std::map<std::string, ActivationScale, std::less<>> by_layer_;
};

}  // namespace octet

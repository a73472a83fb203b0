// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace octet {

/// Which input columns of a layer stay in 16 bits (Dettmers et al., 2022): those where calibration met a magnitude
/// above `threshold`, the largest first where that is more than are wanted.
struct OutlierOptions {
  float threshold = 6;
  int64_t max_columns = std::numeric_limits<int64_t>::max();
  double max_share = 1;  ///< of the layer's inputs

  friend bool operator==(const OutlierOptions&, const OutlierOptions&) = default;
};

/// The columns, ascending, of inputs whose largest magnitudes were `absmax`; of equals the first ones are taken.
std::vector<int32_t> find_outlier_columns(std::span<const float> absmax, const OutlierOptions& options);

/// Columns that are given, by the layer that reads them, as a JSON object:
///
///   {"model.layers.0.self_attn.{q_proj,k_proj,v_proj}": [12, 400], "model.layers.0.mlp.down_proj": [3]}
///
/// Names are as those of ActivationScales.
class OutlierColumns {
 public:
  OutlierColumns() = default;
  /// Throws FormatError, naming `where`, for what is not such an object, names a layer twice, or has a column that is
  /// no whole number from 0 on or is there twice.
  OutlierColumns(const nlohmann::json& object, const std::string& where);
  /// From a JSON file. Throws Error where it cannot be read.
  static OutlierColumns load(const std::string& file);

  bool empty() const noexcept { return by_layer_.empty(); }
  /// Ascending; empty where there are none.
  std::span<const int32_t> find(std::string_view layer) const;
  /// The layers that have columns, of which `layers` has none.
  std::vector<std::string> unknown(std::span<const std::string> layers) const;

 private:
  std::map<std::string, std::vector<int32_t>, std::less<>> by_layer_;
};

}  // namespace octet

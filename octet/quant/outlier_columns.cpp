// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/outlier_columns.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/quant/activation_scales.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr int64_t kLargestFile = int64_t{16} << 20;
constexpr int kDeepestFile = 4;

std::vector<int32_t> read_columns(const json& value, const std::string& where) {
  if (!value.is_array()) fail<FormatError>("{}: a list of columns is needed, not {}", where, value.type_name());
  std::vector<int32_t> columns;
  for (const json& column : value) {
    if (!column.is_number_integer() || column < 0 || column > std::numeric_limits<int32_t>::max()) {
      fail<FormatError>("{}: the column {}; whole numbers from 0 on are needed", where, quote_json(column));
    }
    columns.push_back(column.get<int32_t>());
  }
  std::ranges::sort(columns);
  const auto twice = std::ranges::adjacent_find(columns);
  if (twice != columns.end()) fail<FormatError>("{}: the column {} is there twice", where, *twice);
  return columns;
}

}  // namespace

std::vector<int32_t> find_outlier_columns(std::span<const float> absmax, const OutlierOptions& options) {
  std::vector<int32_t> columns(absmax.size());
  std::iota(columns.begin(), columns.end(), 0);
  std::erase_if(columns, [&](int32_t column) { return !(absmax[column] > options.threshold); });
  const auto share = static_cast<int64_t>(std::floor(options.max_share * static_cast<double>(absmax.size())));
  const auto most = static_cast<size_t>(std::min(options.max_columns, share));
  if (columns.size() > most) {
    std::ranges::stable_sort(columns, std::greater(), [absmax](int32_t column) { return absmax[column]; });
    columns.resize(most);
    std::ranges::sort(columns);
  }
  return columns;
}

OutlierColumns::OutlierColumns(const json& object, const std::string& where) {
  if (!object.is_object()) {
    fail<FormatError>("{}: an object of layer names and lists of columns is needed, not {}", where, object.type_name());
  }
  for (const auto& item : object.items()) {
    const std::vector<int32_t> columns =
        read_columns(item.value(), fmt::format("{}, {}", where, quote_name(item.key())));
    for (const std::string& layer : layers_of_site(item.key())) {
      if (!by_layer_.emplace(layer, columns).second) {
        fail<FormatError>("{}: has two lists of columns for the layer {}", where, quote_name(layer));
      }
    }
  }
}

OutlierColumns OutlierColumns::load(const std::string& file) {
  return {parse_json(read_text_file(file, kLargestFile), file, kDeepestFile), file};
}

std::span<const int32_t> OutlierColumns::find(std::string_view layer) const {
  const auto found = by_layer_.find(layer);
  return found == by_layer_.end() ? std::span<const int32_t>() : found->second;
}

std::vector<std::string> OutlierColumns::unknown(std::span<const std::string> layers) const {
  std::vector<std::string> out;
  for (const auto& [layer, columns] : by_layer_) {
    if (std::ranges::find(layers, layer) == layers.end()) out.push_back(layer);
  }
  return out;
}

}  // namespace octet

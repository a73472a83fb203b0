// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/activation_scales.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/tensor/npz.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr int64_t kLargestFile = int64_t{16} << 20;
constexpr int kDeepestFile = 4;

float read_scale(const json& value, const std::string& where) {
  if (!value.is_number()) fail<FormatError>("{}: the scale must be a number, not {}", where, quote_json(value));
  return value.get<float>();
}

ActivationScale read_one(const json& value, const std::string& where) {
  if (!value.is_object()) return {.scale = read_scale(value, where), .zero_point = 0};
  ActivationScale out;
  if (!value.contains("scale")) fail<FormatError>("{}: has no 'scale'", where);
  for (const auto& item : value.items()) {
    if (item.key() == "scale") {
      out.scale = read_scale(item.value(), where);
    } else if (item.key() == "zero_point") {
      const json& zero_point = item.value();
      if (!zero_point.is_number_integer() || zero_point < 0 || zero_point > 255) {
        fail<FormatError>("{}: 'zero_point' is {}; a whole number from 0 to 255 is needed", where,
                          quote_json(zero_point));
      }
      out.zero_point = zero_point.get<int>();
    } else {
      fail<FormatError>("{}: unknown key {}; 'scale' and 'zero_point' are known", where, quote_name(item.key()));
    }
  }
  return out;
}

template <class T>
bool read_element(const Tensor& array, int64_t& value) {
  if (array.dtype() != DTypeOf<T>::value) return false;
  value = int64_t{array.as<T>()[0]};
  return true;
}

int64_t read_zero_point(const Tensor& array, const std::string& where) {
  int64_t value = 0;
  if (array.shape().elements() != 1 || !(read_element<int64_t>(array, value) || read_element<int32_t>(array, value) ||
                                         read_element<int8_t>(array, value) || read_element<uint8_t>(array, value))) {
    fail<FormatError>("{}: {} {}; a zero point is one integer", where, name(array.dtype()), to_string(array.shape()));
  }
  return value;
}

float read_scale(const Tensor& array, const std::string& where) {
  if (!is_float(array.dtype()) || array.shape().elements() != 1) {
    fail<FormatError>("{}: {} {}; a scale is one float", where, name(array.dtype()), to_string(array.shape()));
  }
  return to_f32(array.view()).as<float>()[0];
}

// The object that a JSON file of the same scales would hold.
json object_of(const std::map<std::string, Tensor>& arrays, const std::string& file) {
  constexpr std::string_view kZeroPoint = ".zero_point";
  json object = json::object();
  for (const auto& [name, array] : arrays) {
    const std::string where = fmt::format("{}, {}", file, quote_name(name));
    if (!name.ends_with(kZeroPoint)) {
      object[name]["scale"] = read_scale(array, where);
      continue;
    }
    const std::string layer = name.substr(0, name.size() - kZeroPoint.size());
    if (!arrays.contains(layer)) fail<FormatError>("{}: there is no scale {} beside it", where, quote_name(layer));
    object[layer]["zero_point"] = read_zero_point(array, where);
  }
  return object;
}

}  // namespace

std::vector<std::string> layers_of_site(const std::string& name) {
  const size_t open = name.find('{');
  if (open == std::string::npos || !name.ends_with('}')) return {name};
  std::vector<std::string> layers;
  for (size_t first = open + 1; first < name.size();) {
    const size_t last = std::min(name.find(',', first), name.size() - 1);
    layers.push_back(name.substr(0, open) + name.substr(first, last - first));
    first = last + 1;
  }
  return layers;
}

ActivationScales::ActivationScales(const json& object, const std::string& where) {
  if (!object.is_object()) {
    fail<FormatError>("{}: an object of layer names and scales is needed, not {}", where, object.type_name());
  }
  for (const auto& item : object.items()) {
    const ActivationScale scale = read_one(item.value(), fmt::format("{}, {}", where, quote_name(item.key())));
    for (const std::string& layer : layers_of_site(item.key())) {
      if (!by_layer_.emplace(layer, scale).second) {
        fail<FormatError>("{}: has two scales for the layer {}", where, quote_name(layer));
      }
    }
  }
}

ActivationScales ActivationScales::load(const std::string& file) {
  if (is_zip(MappedFile::open(file)->bytes())) return {object_of(read_npz(file, kLargestFile), file), file};
  return {parse_json(read_text_file(file, kLargestFile), file, kDeepestFile), file};
}

const ActivationScale* ActivationScales::find(std::string_view layer) const {
  const auto found = by_layer_.find(layer);
  return found == by_layer_.end() ? nullptr : &found->second;
}

std::vector<std::string> ActivationScales::unknown(std::span<const std::string> layers) const {
  std::vector<std::string> out;
  for (const auto& [layer, scale] : by_layer_) {
    if (std::ranges::find(layers, layer) == layers.end()) out.push_back(layer);
  }
  return out;
}

}  // namespace octet

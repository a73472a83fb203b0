// SPDX-License-Identifier: Apache-2.0
#include "octet/io/packed_layer.h"

#include <algorithm>
#include <cctype>

#include <fmt/ranges.h>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/checkpoint.h"

namespace octet {

bool PackedLayer::exists() const {
  return !contains(".weight") && (contains(".qweight") || contains(".qzeros") || contains(".scales"));
}

bool PackedLayer::contains(const char* part) const { return checkpoint_.contains(layer_ + part); }

std::string PackedLayer::where(const char* part) const {
  return fmt::format("{}: tensor {}", checkpoint_.folder().string(), quote_name(layer_ + part));
}

void PackedLayer::expect_shape(const Tensor& tensor, const char* part, const Shape& shape) const {
  if (tensor.shape() == shape) return;
  fail<FormatError>("{} has the shape {}; {} is needed beside {} of {}", where(part), to_string(tensor.shape()),
                    to_string(shape), quote_name(layer_ + ".qweight"),
                    to_string(checkpoint_.describe(layer_ + ".qweight").shape));
}

Tensor PackedLayer::words(const char* part) const {
  Tensor tensor = checkpoint_.tensor(layer_ + part);
  if (tensor.dtype() != DType::kI32 || tensor.shape().rank() != 2) {
    fail<FormatError>("{} is {} {}; I32 of two dimensions is needed", where(part), name(tensor.dtype()),
                      to_string(tensor.shape()));
  }
  return tensor;
}

Tensor PackedLayer::words(const char* part, const Shape& shape) const {
  Tensor tensor = words(part);
  expect_shape(tensor, part, shape);
  return tensor;
}

Tensor PackedLayer::scales(const Shape& shape) const {
  const Tensor stored = checkpoint_.tensor(layer_ + ".scales");
  if (stored.dtype() != DType::kF16 && stored.dtype() != DType::kBF16 && stored.dtype() != DType::kF32)
    fail<FormatError>("{} is {}; F16, BF16 or F32 is needed", where(".scales"), name(stored.dtype()));
  expect_shape(stored, ".scales", shape);
  return to_f32(stored.view());
}

Tensor PackedLayer::group_index() const {
  Tensor tensor = checkpoint_.tensor(layer_ + ".g_idx");
  if (tensor.dtype() != DType::kI32 || tensor.shape().rank() != 1) {
    fail<FormatError>("{} is {} {}; I32 of one dimension is needed", where(".g_idx"), name(tensor.dtype()),
                      to_string(tensor.shape()));
  }
  return tensor;
}

void PackedLayer::expect_whole_groups(const WeightScheme& scheme, int64_t inputs) const {
  if (scheme.group_size == 0 || inputs % scheme.group_size == 0) return;
  fail<FormatError>("{}: its {} inputs are not a multiple of the group size {}", where(), inputs, scheme.group_size);
}

QTensor PackedLayer::checked(QTensor weight) const {
  try {
    check(weight, where());
  } catch (const NumericError& error) {
    throw FormatError(error.what());
  } catch (const ShapeError& error) {
    throw FormatError(error.what());
  }
  return weight;
}

WeightScheme packed_scheme(const Config& config, int64_t bits, int64_t group_size, bool symmetric) {
  const std::string where = config.source() + ": quantization_config";
  if (bits != 4 && bits != 8) fail<FormatError>("{}: 'bits' is {}; 4 and 8 are supported", where, bits);
  if (group_size == 0 || group_size < -1) fail<FormatError>("{}: 'group_size' is {}", where, group_size);
  const WeightScheme scheme{.bits = static_cast<int>(bits),
                            .group_size = group_size == -1 ? 0 : group_size,
                            .mapping = symmetric ? CodeMapping::kSymmetric : CodeMapping::kZeroPoint};
  try {
    check(scheme, scheme.group_size, where);
  } catch (const ShapeError& error) {
    throw FormatError(error.what());
  }
  return scheme;
}

std::string packed_text(const Config& config, std::initializer_list<std::string_view> keys,
                        std::initializer_list<std::string_view> offered) {
  std::string found;
  for (const std::string_view key : keys) {
    if (!config.has(key)) continue;
    std::string text = config.text(key);
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (std::ranges::find(offered, text) == offered.end()) {
      fail<FormatError>("{}: '{}' is {}; {} can be read", config.source(), key, quote_name(config.text(key)),
                        fmt::join(offered, " and "));
    }
    if (!found.empty() && text != found)
      fail<FormatError>("{}: '{}' is '{}', but another key says '{}'", config.source(), key, text, found);
    found = std::move(text);
  }
  return found.empty() ? std::string(*offered.begin()) : found;
}

}  // namespace octet

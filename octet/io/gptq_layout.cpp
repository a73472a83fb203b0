// SPDX-License-Identifier: Apache-2.0
#include "octet/io/gptq_layout.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/packed_codes.h"
#include "octet/tensor/transpose.h"

namespace octet {
namespace {

using nlohmann::json;

WeightScheme read_scheme(const Config& config, const WeightScheme& otherwise) {
  const int64_t group_size = otherwise.group_size == 0 ? -1 : otherwise.group_size;
  return packed_scheme(config, config.integer("bits", otherwise.bits), config.integer("group_size", group_size),
                       config.flag("sym", otherwise.mapping == CodeMapping::kSymmetric));
}

// What would change the meaning of the tensors.
void refuse_other_layouts(const Config& config) {
  packed_text(config, {"quant_method", "method"}, {"gptq"});
  packed_text(config, {"pack_dtype"}, {"int32"});
  if (config.flag("is_marlin_format", false)) {
    fail<FormatError>("{}: 'is_marlin_format' is true; that layout is for one kernel. Take the original checkpoint.",
                      config.source());
  }
  for (const char* key : {"rotation", "adapter", "activation"}) {
    if (!config.has(key)) continue;
    const json& value = config.json().at(key);
    if (value == false || (value.is_structured() && value.empty())) continue;
    fail<FormatError>("{}: '{}' is {}, which is not supported", config.source(), key, quote_json(value));
  }
}

bool is_ascending(std::span<const int32_t> group_index, int64_t group_size) {
  for (size_t i = 0; i < group_index.size(); ++i) {
    if (group_index[i] != static_cast<int64_t>(i) / group_size) return false;
  }
  return true;
}

}  // namespace

GptqLayout GptqLayout::parse(const Config& config) {
  refuse_other_layouts(config);
  GptqLayout out;
  out.source_ = config.source();
  out.zero_points_are_one_less_ = packed_text(config, {"checkpoint_format", "format"}, {"gptq", "gptq_v2"}) == "gptq";
  out.common_ = packed_scheme(config, config.integer("bits"), config.integer("group_size"), config.flag("sym", true));
  if (!config.has("dynamic")) return out;
  const Config dynamic = config.object("dynamic");
  if (dynamic.json().size() > kMostNamePatterns) {
    fail<FormatError>("{}: {} layer patterns; at most {} are read", out.source_, dynamic.json().size(),
                      kMostNamePatterns);
  }
  for (const auto& item : dynamic.json().items()) {
    const std::string& text = item.key();
    if (text.starts_with("-:")) continue;
    const Config changes = dynamic.object(text);
    refuse_other_layouts(changes);
    for (const char* key : {"checkpoint_format", "format"}) {
      if (changes.has(key))
        fail<FormatError>("{}: {} of 'dynamic' has a '{}' of its own", out.source_, quote_name(text), key);
    }
    const std::string pattern = text.substr(text.starts_with("+:") ? 2 : 0);
    out.overrides_.push_back({text, NamePattern(pattern, out.source_), read_scheme(changes, out.common_)});
  }
  return out;
}

WeightScheme GptqLayout::stored_scheme(const Checkpoint& checkpoint, const std::string& layer) const {
  const Override* first = nullptr;
  for (const Override& one : overrides_) {
    if (!one.pattern.matches(layer)) continue;
    if (first == nullptr) first = &one;
    // The first of the file would count, but JSON objects have no order.
    if (one.scheme == first->scheme) continue;
    fail<FormatError>("{}: the patterns {} and {} of 'dynamic' both match the layer '{}' and say different things",
                      source_, quote_name(first->text), quote_name(one.text), layer);
  }
  WeightScheme scheme = first == nullptr ? common_ : first->scheme;
  const PackedLayer stored(checkpoint, layer);
  if (scheme.group_size != 0 && stored.contains(".g_idx"))
    scheme.reordered = !is_ascending(stored.group_index().as<int32_t>(), scheme.group_size);
  return scheme;
}

std::optional<WeightScheme> GptqLayout::scheme_of(const Checkpoint& checkpoint, const std::string& layer) const {
  if (!PackedLayer(checkpoint, layer).exists()) return std::nullopt;
  return stored_scheme(checkpoint, layer);
}

QTensor GptqLayout::codes(const Checkpoint& checkpoint, const std::string& layer) const {
  const PackedLayer stored(checkpoint, layer);
  QTensor out{.scheme = stored_scheme(checkpoint, layer), .codes = {}, .scales = {}};
  const int bits = out.scheme.bits;
  const bool symmetric = out.scheme.mapping == CodeMapping::kSymmetric;
  const Tensor words = stored.words(".qweight");
  const int64_t inputs = checked_mul(words.shape()[0], 32 / bits), outputs = words.shape()[1];
  stored.expect_whole_groups(out.scheme, inputs);
  const int64_t groups = out.scheme.groups(inputs);
  const int middle = 1 << (bits - 1);
  // Codes of 8 bits lie around 0 in either case.
  const int offset = symmetric || bits == 8 ? middle : 0;
  out.codes = unpack_codes(transposed(words.view()).view(), inputs, bits, offset);
  words.release_pages();
  out.scales = transposed(stored.scales({groups, outputs}).view());

  Tensor zeros = Tensor::copy_of(stored.words(".qzeros", {groups, words_for(outputs, bits)}).view());
  if (zero_points_are_one_less_) {
    const uint32_t ones = bits == 4 ? 0x11111111u : 0x01010101u;
    for (int32_t& word : zeros.mutable_as<int32_t>()) word = static_cast<int32_t>(static_cast<uint32_t>(word) + ones);
  }
  const Tensor zero_points = unpack_codes(zeros.view(), outputs, bits, offset);
  if (symmetric) {
    if (!std::ranges::all_of(zero_points.as<int8_t>(), [](int8_t zero) { return zero == 0; })) {
      fail<FormatError>(
          "{}: not every zero point is {}, though 'sym' is true in {}. If the codes are asymmetric, "
          "'sym' must be false.",
          stored.where(".qzeros"), middle, source_);
    }
  } else {
    out.zero_points = transposed(zero_points.view());
  }

  if (stored.contains(".g_idx")) {
    const Tensor index = stored.group_index();
    if (index.shape() != Shape{inputs}) {
      fail<FormatError>("{} has the shape {}; {} is needed", stored.where(".g_idx"), to_string(index.shape()),
                        to_string(Shape{inputs}));
    }
    const std::span<const int32_t> of_inputs = index.as<int32_t>();
    const auto outside = std::ranges::find_if(of_inputs, [groups](int32_t g) { return g < 0 || g >= groups; });
    if (outside != of_inputs.end()) {
      fail<FormatError>("{}: input {} is of group {}, of {}", stored.where(".g_idx"), outside - of_inputs.begin(),
                        *outside, groups);
    }
    if (out.scheme.reordered) out.group_index = Tensor::copy_of(index.view());
  }
  return stored.checked(std::move(out));
}

}  // namespace octet

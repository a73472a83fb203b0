// SPDX-License-Identifier: Apache-2.0
#include "octet/io/awq_layout.h"

#include <algorithm>
#include <array>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/packed_codes.h"
#include "octet/tensor/transpose.h"

namespace octet {
namespace {

constexpr int kBits = 4;
// The output of each code of a word, from the lowest bits.
constexpr std::array<int64_t, 8> kOrder = {0, 2, 4, 6, 1, 3, 5, 7};

// Words [rows, outputs / 8] as codes [rows, outputs].
Tensor unpack_in_order(ConstTensorView words, int64_t outputs) {
  const Tensor shuffled = unpack_codes(words, outputs, kBits, 0);
  Tensor out(DType::kI8, shuffled.shape());
  const std::span<const int8_t> from = shuffled.as<int8_t>();
  const std::span<int8_t> to = out.mutable_as<int8_t>();
  for (size_t word = 0; word < from.size(); word += kOrder.size()) {
    for (size_t i = 0; i < kOrder.size(); ++i) to[word + static_cast<size_t>(kOrder[i])] = from[word + i];
  }
  return out;
}

// The first columns of a matrix F32.
Tensor first_columns(const Tensor& matrix, int64_t count) {
  const int64_t rows = matrix.shape()[0], stride = matrix.shape()[1];
  Tensor out(DType::kF32, {rows, count});
  if (count == 0) return out;  // of any number of rows
  const std::span<float> to = out.mutable_as<float>();
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(matrix.as<float>().begin() + r * stride, count, to.begin() + r * count);
  return out;
}

// Words of a row of zero points in the version "gemv".
int64_t words_of_groups(int64_t groups, int64_t group_size) {
  const int64_t multiple = group_size == 32 ? 4 : group_size == 64 ? 2 : 1;
  return round_up(words_for(groups, kBits), multiple);
}

}  // namespace

AwqLayout AwqLayout::parse(const Config& config, std::span<const std::string> tensors) {
  packed_text(config, {"quant_method", "method"}, {"awq"});
  const std::string version = packed_text(config, {"version", "format", "checkpoint_format"}, {"gemm", "gemv"});
  if (config.text("backend", "") == "llm-awq")
    fail<FormatError>("{}: 'backend' is 'llm-awq'; gemm and gemv layouts can be read", config.source());
  AwqLayout out;
  if (version == "gemv") out.version_ = Version::kGemv;
  if (const int64_t bits = config.integer("bits"); bits != kBits) {
    fail<FormatError>("{}: 'bits' is {}; {} is supported", config.source(), bits, kBits);
  }
  if (!config.flag("zero_point", true)) {
    fail<FormatError>("{}: 'zero_point' is false; {} layouts have zero points", config.source(), version);
  }
  out.scheme_ = packed_scheme(config, kBits, config.integer("group_size"), false);
  const auto scaled =
      std::ranges::find_if(tensors, [](const std::string& name) { return name.ends_with(".act.scales"); });
  if (scaled != tensors.end()) {
    fail<FormatError>("{}: the tensor {} scales what an activation function gives, which is not supported",
                      config.source(), quote_name(*scaled));
  }
  return out;
}

std::optional<WeightScheme> AwqLayout::scheme_of(const Checkpoint& checkpoint, const std::string& layer) const {
  if (!PackedLayer(checkpoint, layer).exists()) return std::nullopt;
  return scheme_;
}

QTensor AwqLayout::codes(const Checkpoint& checkpoint, const std::string& layer) const {
  const PackedLayer stored(checkpoint, layer);
  QTensor out{.scheme = scheme_, .codes = {}, .scales = {}};
  const Tensor words = stored.words(".qweight");
  const int64_t of_words = checked_mul(words.shape()[1], kOrder.size());
  if (version_ == Version::kGemm) {
    const int64_t inputs = words.shape()[0], outputs = of_words;
    stored.expect_whole_groups(scheme_, inputs);
    const int64_t groups = scheme_.groups(inputs);
    out.codes = transposed(unpack_in_order(words.view(), outputs).view());
    const Tensor zeros = stored.words(".qzeros", {groups, words.shape()[1]});
    out.zero_points = transposed(unpack_in_order(zeros.view(), outputs).view());
    out.scales = transposed(stored.scales({groups, outputs}).view());
  } else {
    const int64_t outputs = words.shape()[0], inputs = of_words;
    stored.expect_whole_groups(scheme_, inputs);
    const int64_t groups = scheme_.groups(inputs);
    const int64_t row = words_of_groups(groups, scheme_.group_size == 0 ? inputs : scheme_.group_size);
    out.codes = unpack_codes(words.view(), inputs, kBits, 0);
    const Tensor zeros = stored.words(".qzeros", {outputs, row});
    out.zero_points = unpack_codes(zeros.view(), groups, kBits, 0);
    out.scales = first_columns(stored.scales({outputs, checked_mul(row, kOrder.size())}), groups);
  }
  words.release_pages();
  return stored.checked(std::move(out));
}

}  // namespace octet

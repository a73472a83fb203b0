// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/parameter.h"

#include <vector>

namespace octet {

FloatWeight::FloatWeight(const Parameter& parameter) : view_(std::get<Tensor>(parameter.value).view()) {
  if (!parameter.transposed) return;
  const int64_t inputs = view_.shape[0], outputs = view_.shape[1];
  turned_ = Tensor(DType::kF32, {outputs, inputs});
  const std::span<float> turned = turned_.mutable_as<float>();
  std::vector<float> row(static_cast<size_t>(outputs));
  for (int64_t i = 0; i < inputs; ++i) {
    read_f32(view_, i * outputs, row);
    for (int64_t o = 0; o < outputs; ++o) turned[static_cast<size_t>(o * inputs + i)] = row[static_cast<size_t>(o)];
  }
  view_ = turned_.view();
}

}  // namespace octet

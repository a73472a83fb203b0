// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/parameter.h"

namespace octet {
namespace {

template <class Element>
Tensor turned_as(ConstTensorView source) {
  const int64_t inputs = source.shape[0], outputs = source.shape[1];
  const std::span<const Element> values = source.as<Element>();
  Tensor out(source.dtype, {outputs, inputs});
  const std::span<Element> turned = out.mutable_as<Element>();
  for (int64_t i = 0; i < inputs; ++i) {
    for (int64_t o = 0; o < outputs; ++o) {
      turned[static_cast<size_t>(o * inputs + i)] = values[static_cast<size_t>(i * outputs + o)];
    }
  }
  return out;
}

// In its dtype: a backend may keep 16-bit floats as they are.
Tensor turned(ConstTensorView source) {
  switch (source.dtype) {
    case DType::kF64:
      return turned_as<double>(source);
    case DType::kF16:
      return turned_as<Half>(source);
    case DType::kBF16:
      return turned_as<BFloat16>(source);
    default:
      return turned_as<float>(source);
  }
}

}  // namespace

FloatWeight::FloatWeight(const Parameter& parameter) : view_(std::get<Tensor>(parameter.value).view()) {
  if (!parameter.transposed) return;
  turned_ = turned(view_);
  view_ = turned_.view();
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/parameter.h"

namespace octet {
namespace {

template <class Element>
Tensor transposed_as(ConstTensorView source) {
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

}  // namespace

Tensor transposed(ConstTensorView source) {
  switch (source.dtype) {
    case DType::kF64:
      return transposed_as<double>(source);
    case DType::kF16:
      return transposed_as<Half>(source);
    case DType::kBF16:
      return transposed_as<BFloat16>(source);
    default:
      return transposed_as<float>(source);
  }
}

void Parameter::load() {
  const WeightReader* reader = std::get_if<WeightReader>(&value);
  if (reader == nullptr) return;
  std::variant<Tensor, QTensor> read = (*reader)();
  std::visit([this](auto& held) { value = std::move(held); }, read);
}

FloatWeight::FloatWeight(const Parameter& parameter) : parameter_(parameter) {
  if (const WeightReader* reader = std::get_if<WeightReader>(&parameter.value)) {
    read_ = std::get<Tensor>((*reader)());
    view_ = read_.view();
  } else {
    view_ = std::get<Tensor>(parameter.value).view();
  }
  if (!parameter.transposed) return;
  turned_ = transposed(view_);
  view_ = turned_.view();
}

void FloatWeight::release_pages() const {
  if (const Tensor* values = std::get_if<Tensor>(&parameter_.value)) values->release_pages();
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/parameter.h"

#include "octet/tensor/transpose.h"

namespace octet {

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

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "octet/quant/quantize.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// A weight [out, in] of a product under its layer's name: float values, or codes. Float values with a scheme are
/// quantized on their way into products (a recipe applied while loading; later, every step of quantization-aware
/// training); codes come with the scheme that made them.
struct Parameter {
  std::string layer;
  Shape shape;
  std::variant<std::monostate, Tensor, QTensor> value;  ///< nothing once a packed form has taken its place
  std::optional<Scheme> scheme;                         ///< none: products in fp32
  ActivationScale input = {};                           ///< of what it multiplies, where the scheme says static
  bool transposed = false;                              ///< float values lie as [in, out]
  bool over_vocabulary = false;                         ///< an input embedding, or an output head beside one
  std::string tied_head = {};                           ///< the layer that multiplies by this input embedding too
};

/// The float values of a parameter as [out, in], turned around in memory of their own where they lie the other way.
class FloatWeight {
 public:
  explicit FloatWeight(const Parameter& parameter);
  ConstTensorView view() const noexcept { return view_; }

 private:
  Tensor turned_;
  ConstTensorView view_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "octet/quant/quantize.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// Reads the values or codes of a weight from its file, where reading makes a copy: left until the weight is laid out,
/// so that a model is never held twice.
using WeightReader = std::function<std::variant<Tensor, QTensor>()>;

/// What becomes of the values that a packed form is made of.
enum class Sources : uint8_t {
  kLetGo,  ///< the packed form takes their place
  kKept,   ///< they stay, so that the form can be dropped, the values changed, and laid out again
};

/// A weight [out, in] of a product under its layer's name: float values, or codes. Float values with a scheme are
/// quantized on their way into products (a recipe applied while loading; later, every step of quantization-aware
/// training); codes come with the scheme that made them.
struct Parameter {
  std::string layer;
  Shape shape;
  /// Nothing once a packed form has taken its place.
  std::variant<std::monostate, Tensor, QTensor, WeightReader> value;
  std::optional<Scheme> scheme;  ///< none: products in fp32
  ActivationScale input = {};    ///< of what it multiplies, where the scheme says static
  /// The columns that the scheme calls outliers; empty as long as it is calibration's to find them.
  std::vector<int32_t> outlier_columns = {};
  bool stored_codes = false;     ///< the checkpoint holds codes, whether they have been read or not
  bool transposed = false;       ///< float values lie as [in, out]
  bool in_out = false;           ///< Hugging Face's files hold its float values so
  bool over_vocabulary = false;  ///< an input embedding, or an output head beside one
  std::string tied_head = {};    ///< the layer that multiplies by this input embedding too

  /// Reads a value that waits in its file.
  void load();
};

/// The float values of a parameter as [out, in]: where they lie, or in memory of their own where they wait in a file or
/// lie the other way.
class FloatWeight {
 public:
  explicit FloatWeight(const Parameter& parameter);
  ConstTensorView view() const noexcept { return view_; }
  /// Lets go of the pages of a file that the values were read from.
  void release_pages() const;

 private:
  const Parameter& parameter_;
  Tensor read_, turned_;
  ConstTensorView view_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "octet/tensor/tensor.h"

namespace octet {

/// What is known of a stored tensor before it is read.
struct StoredTensor {
  std::string type;           ///< of its elements: "F32", or "Q4_K" in a GGUF file
  DType dtype = DType::kF32;  ///< what they are read as
  Shape shape;
  int64_t bytes = 0;     ///< in the file
  bool decoded = false;  ///< reading it makes a copy of another size or order
};

/// The files that hold a checkpoint's tensors, which have Hugging Face's names whatever the files call them.
class TensorFiles {
 public:
  virtual ~TensorFiles() = default;

  /// In alphabetical order.
  virtual std::vector<std::string> names() const = 0;
  /// Both for a name that is there. Values that are stored as codes are read as F32.
  virtual StoredTensor describe(const std::string& name) const = 0;
  virtual Tensor tensor(const std::string& name) const = 0;
};

}  // namespace octet

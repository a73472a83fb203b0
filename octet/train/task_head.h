// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"

namespace octet {

/// What a model that is to be trained must end in.
struct TaskHead {
  enum class Kind : uint8_t {
    kAsItIs,          ///< whatever the model has
    kClassification,  ///< a row of `outputs` numbers a text
    kSpan,            ///< start and end of an answer, for each token
  };

  Kind kind = Kind::kAsItIs;
  int64_t outputs = 0;              ///< of kClassification; 1: a grade
  std::vector<std::string> labels;  ///< names of its classes, or none
};

/// Writes a copy of the float encoder in `checkpoint` (BERT, RoBERTa, ELECTRA, DistilBERT) that ends in `head` to the
/// folder `out`, which must not exist: layers that it has already, the others with weights from N(0, 0.02²), drawn by
/// `seed`, and biases 0, as transformers starts them; heads for other tasks are left out. A model that has such a head
/// keeps its weights, and gets the names of the labels. Says which layers are new.
///
/// Throws FormatError for models of other architectures, UsageError for a quantized one.
std::vector<std::string> write_with_head(const Checkpoint& checkpoint, const TaskHead& head, uint64_t seed,
                                         const std::filesystem::path& out);

/// `count` numbers from N(0, deviation²), float [count], by Marsaglia's polar method (1964) of Philox's bits: the same
/// on every machine. `stream` tells series of one seed apart.
std::vector<float> normal_values(int64_t count, double deviation, uint64_t seed, uint32_t stream);

}  // namespace octet

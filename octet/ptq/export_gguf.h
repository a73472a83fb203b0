// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/io/gguf_blocks.h"

namespace octet {

/// What became of one tensor.
struct ExportedTensor {
  /// Why a matrix is not of the type that was asked for; kAsAsked also of what is never a matrix of a product.
  enum class Reason : uint8_t {
    kAsAsked,
    kRows,   ///< its rows are no multiple of 32
    kCodes,  ///< the checkpoint holds its codes, which stay
  };

  std::string name;  ///< in the GGUF file
  GgufType type = GgufType::kF32;
  int64_t bytes_before = 0, bytes = 0;
  Reason reason = Reason::kAsAsked;
};

struct ExportReport {
  std::string architecture;  ///< general.architecture
  std::vector<ExportedTensor> tensors;
  int64_t bytes_before = 0, bytes = 0;  ///< of all tensors
  std::vector<std::string> notes;       ///< what other programs will do otherwise than Octet
};

/// "f16", "q8_0", "q4_0"; throws UsageError, with the nearest, for others.
GgufType parse_gguf_type(const std::string& name);

/// Writes the language model in `checkpoint`, a Hugging Face directory of an architecture in gguf_architectures(), as
/// a GGUF file with its tokenizer and chat template, in the order and under the names of llama.cpp's converter.
/// Matrices of products and the table of token embeddings become `type` (F16, Q8_0 or Q4_0; F16 where 32 does not
/// divide their rows), all else F32. Codes that are stored already stay, where a GGUF type is exactly what they are;
/// else a UsageError. Holds one tensor at a time; `out` must not exist and appears whole or not at all. `advance(done,
/// total)` follows the tensors; rows are encoded on `threads` threads (0: as many as there are).
ExportReport export_gguf(const Checkpoint& checkpoint, GgufType type, const std::filesystem::path& out,
                         const std::function<void(int64_t done, int64_t total)>& advance = {}, int threads = 0);

}  // namespace octet

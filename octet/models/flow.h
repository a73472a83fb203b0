// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "octet/models/session.h"

namespace octet {

/// What an operation of a forward pass reads.
struct FlowInput {
  std::string role;               ///< "x", "residual", "q", "k", "v"
  std::vector<std::string> from;  ///< operations that made it; "hidden states" of another section
  std::string dtype;              ///< as it arrives: "fp32", or codes: "int8, static scale"
  /// What the operation makes of it first: "rms_norm", "int8, a scale a token". Empty: nothing.
  std::vector<std::string> steps = {};

  friend bool operator==(const FlowInput&, const FlowInput&) = default;
};

/// One operation of a forward pass.
struct FlowOperation {
  std::string operation;  ///< "linear", "attention", "rms_norm", …
  std::string name;       ///< the layers that it is, as sites are named; else the operation
  std::vector<FlowInput> inputs;
  std::string weights =
      {};  ///< of a product: "int8 weights per channel", "fp32", "16-bit float"; of a lookup: the tables
  std::string cache = {};  ///< of attention: what keys and values are kept in; "" without a cache
  std::string output;      ///< "fp32", or codes: "int8, static scale"

  friend bool operator==(const FlowOperation&, const FlowOperation&) = default;
};

/// Operations of the embedding, of blocks that are all alike, or of the head. In the names of a block's operations its
/// number is "*".
struct FlowSection {
  std::string name;             ///< "embedding", "blocks", "head"
  std::vector<int64_t> blocks;  ///< whose operations these are
  std::vector<FlowOperation> operations;
};

/// In which form numbers go from operation to operation: what ran when token 0 went through the model, on a cache if it
/// is a decoder (see Session::make_cache).
std::vector<FlowSection> trace_flow(Session& session, std::optional<DType> kv_dtype = std::nullopt);

/// "{0..3,5}" of ascending numbers.
std::string to_ranges(const std::vector<int64_t>& numbers);

}  // namespace octet

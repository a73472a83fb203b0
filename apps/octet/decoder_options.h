// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "apps/octet/command_line.h"
#include "octet/eval/text_windows.h"
#include "octet/tensor/dtype.h"

// Options that several commands on decoders take.
namespace octet::cli {

/// --kv-dtype fp32|fp16|int8, into `name`.
void add_kv_dtype(Command command, std::string& name);
/// None for "": the model's own.
std::optional<DType> parse_kv_dtype(const std::string& name);
std::string kv_dtype_name(DType dtype);

/// --window, --stride, --documents, --truncate.
struct TextOptions {
  WindowOptions windows;
  std::string documents = "whole";

  void add_to(Command command);
  /// The first of these options that was given ("--stride"), "" if none was.
  static std::string first_given(const Command& command);
  WindowOptions parsed() const;
};

}  // namespace octet::cli

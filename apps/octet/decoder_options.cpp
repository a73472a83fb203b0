// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/decoder_options.h"

namespace octet::cli {
namespace {

constexpr const char* kTextOptions[] = {"--window", "--stride", "--documents", "--truncate"};

}  // namespace

void add_kv_dtype(Command command, std::string& name) {
  command
      .add_option("--kv-dtype", name,
                  "What a decoder keeps keys and values in: fp32, fp16 in half the memory, or int8 where its attention "
                  "is in INT8 (default: fp32, or int8 there)")
      .one_of({"fp32", "fp16", "int8"})
      .type_name("TYPE");
}

std::optional<DType> parse_kv_dtype(const std::string& name) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
    if (name == kv_dtype_name(dtype)) return dtype;
  }
  return std::nullopt;
}

std::string kv_dtype_name(DType dtype) { return dtype == DType::kI8 ? "int8" : dtype == DType::kF16 ? "fp16" : "fp32"; }

void TextOptions::add_to(Command command) {
  command
      .add_option("--window", windows.window,
                  "Tokens that a decoder sees at once (default: 1024, or its longest context if that is less)")
      .positive()
      .type_name("W");
  command
      .add_option("--stride", windows.stride,
                  "Tokens from a window to the next; those that the last one scored are context only (default: the "
                  "window)")
      .positive()
      .type_name("S");
  command
      .add_option("--documents", documents,
                  "What the text is: the whole one document, or documents that are lines or have blank-lines or "
                  "end-of-text lines (<|endoftext|>) between them; each begins anew, as the tokenizer begins a text")
      .capture_default_str()
      .type_name("KIND");
  command.add_option("--truncate", windows.truncate, "Use the first N tokens of each document only")
      .positive()
      .type_name("N");
}

std::string TextOptions::first_given(const Command& command) {
  for (const char* option : kTextOptions) {
    if (command.count(option) > 0) return option;
  }
  return "";
}

WindowOptions TextOptions::parsed() const {
  WindowOptions result = windows;
  result.documents = parse_documents(documents);
  return result;
}

}  // namespace octet::cli

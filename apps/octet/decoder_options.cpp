// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/decoder_options.h"

namespace octet::cli {
namespace {

constexpr const char* kTextOptions[] = {"--window", "--stride", "--documents", "--truncate"};

}  // namespace

void add_kv_dtype(CLI::App& command, std::string& name) {
  command.add_option("--kv-dtype", name, "What a decoder keeps keys and values in: fp32, or fp16 in half the memory")
      ->check(CLI::IsMember({"fp32", "fp16"}))
      ->capture_default_str()
      ->type_name("TYPE");
}

DType parse_kv_dtype(const std::string& name) { return name == "fp16" ? DType::kF16 : DType::kF32; }

void TextOptions::add_to(CLI::App& command) {
  command
      .add_option("--window", windows.window,
                  "Tokens that a decoder sees at once (default: 1024, or its longest context if that is less)")
      ->check(CLI::PositiveNumber)
      ->type_name("W");
  command
      .add_option("--stride", windows.stride,
                  "Tokens from a window to the next; those that the last one scored are context only (default: the "
                  "window)")
      ->check(CLI::PositiveNumber)
      ->type_name("S");
  command
      .add_option("--documents", documents,
                  "What the text is: the whole one document, or documents that are lines or have blank-lines or "
                  "end-of-text lines (<|endoftext|>) between them; each begins anew, as the tokenizer begins a text")
      ->capture_default_str()
      ->type_name("KIND");
  command.add_option("--truncate", windows.truncate, "Use the first N tokens of each document only")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
}

std::string TextOptions::first_given(const CLI::App& command) {
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

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "octet/generate/stop_strings.h"
#include "octet/text/stream_decoder.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {

/// What the continuation of one prompt adds to its text, character by character, up to the first stop string. Those
/// that come in the first `min_tokens` tokens do not count.
class ContinuedText {
 public:
  ContinuedText(const Tokenizer& tokenizer, std::span<const int32_t> prompt, StopStrings stops, int64_t min_tokens);

  void push(int32_t id);
  void finish();
  bool finished() const { return finished_; }
  /// Whether a stop string came.
  bool stopped() const { return stops_.found(); }
  const std::string& stop_string() const { return stops_.which(); }
  const std::string& text() const { return text_; }

 private:
  void add(const std::string& piece);

  const Tokenizer* tokenizer_;
  StreamDecoder decoder_;
  StopStrings stops_;
  int64_t min_tokens_, tokens_ = 0;
  std::string text_;
  bool finished_ = false;
};

}  // namespace octet::cli

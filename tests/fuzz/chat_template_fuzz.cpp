// SPDX-License-Identifier: Apache-2.0
// A chat template: it is refused with an error, or renders a conversation within its limits.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const octet::Conversation conversation = [] {
    octet::Conversation made;
    made.messages = octet::parse_ordered_json(
        R"([{"role": "system", "content": "S"}, {"role": "user", "content": "Héllo <b> 1 2.5\n"},
      {"role": "assistant", "content": [{"type": "text", "text": "A"}], "tool_calls": [{"function": {"name": "f",
      "arguments": {"x": [1, 2.5, true]}}}]}])",
        "the test");
    made.tools = octet::parse_ordered_json(
        R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])", "the test");
    made.variables = octet::parse_ordered_json(R"({"bos_token": "<s>", "n": -3})", "the test");
    return made;
  }();
  // Small ones, so that a run tries many templates.
  const octet::jinja::Limits limits{.steps = 20'000, .output_bytes = 1 << 18, .memory_bytes = 1 << 22};
  try {
    octet::ChatTemplate::parse(std::string_view(reinterpret_cast<const char*>(data), size), "template")
        .render(conversation, limits);
  } catch (const octet::FormatError&) {
  } catch (const octet::ConversationError&) {
  }
  return 0;
}

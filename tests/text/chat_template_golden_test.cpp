// SPDX-License-Identifier: Apache-2.0
// Chat templates against jinja2 in transformers' environment; make_chat_template_golden.py wrote what it printed.
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/text/chat_template.h"

namespace octet {
namespace {

using nlohmann::ordered_json;

TEST(ChatTemplateGolden, EveryConstructGivesTheTextOfJinja) {
  const ordered_json golden =
      parse_ordered_json(read_text_file(OCTET_TEST_FILES "/chat_template_golden.json", int64_t{1} << 22), "the test");
  Conversation conversation;
  conversation.messages = golden["variables"]["messages"];
  conversation.tools = golden["variables"]["tools"];
  conversation.variables = golden["variables"];
  ASSERT_GT(golden["cases"].size(), 500);
  for (const ordered_json& one : golden["cases"]) {
    const auto text = one["template"].get<std::string>();
    const bool fails = one.contains("error");
    try {
      const std::string rendered = ChatTemplate::parse(text, "case").render(conversation);
      if (fails) {
        ADD_FAILURE() << text << "\n  is an error, and gave: " << rendered;
      } else {
        EXPECT_EQ(rendered, one["text"]) << text;
      }
    } catch (const Error& error) {
      EXPECT_TRUE(fails) << text << "\n  " << error.what();
      EXPECT_THAT(error.what(), testing::StartsWith("case: "));
    }
  }
}

}  // namespace
}  // namespace octet

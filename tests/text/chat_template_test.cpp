// SPDX-License-Identifier: Apache-2.0
#include "octet/text/chat_template.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;

Conversation hello() {
  Conversation conversation;
  conversation.messages = {{{"role", "user"}, {"content", "Hello"}}};
  return conversation;
}

std::string render(const std::string& text, const Conversation& conversation = hello(),
                   const jinja::Limits& limits = {}) {
  return ChatTemplate::parse(text, "t.jinja").render(conversation, limits);
}

template <class E>
std::string error_of(const std::string& text, const jinja::Limits& limits = {}) {
  try {
    render(text, hello(), limits);
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

TEST(ChatTemplate, ErrorsNameTheSourceAndTheLine) {
  EXPECT_THAT(error_of<FormatError>("a\nb\n{{ missing.x }}"),
              AllOf(testing::StartsWith("t.jinja: line 3: "), HasSubstr("'missing' is undefined")));
  EXPECT_THAT(error_of<FormatError>("{% if true %}\n{{\n 1 +\n 'a' }}\n{% endif %}"),
              HasSubstr("line 3: '+' is not possible"));
  EXPECT_THAT(error_of<FormatError>("a\n{% include 'x' %}"), HasSubstr("line 2: the tag 'include' is not supported"));
  EXPECT_THAT(error_of<FormatError>("\n\n{{ 1|urlize }}"), HasSubstr("line 3: the filter 'urlize' is not supported"));
  EXPECT_THAT(error_of<FormatError>("{% for x in [1] %}"), HasSubstr("{% endfor %}"));
}

TEST(ChatTemplate, WhatJinjaHasAndOctetDoesNotIsNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{% for x in [1] recursive %}{% endfor %}", "a recursive loop"},
      {"{{ lipsum() }}", "'lipsum'"},
      {"{{ 'a'.encode('utf8') }}", "'encode'"},
      {"{{ (1).bit_length() }}", "'bit_length'"},
      {"{{ [1]|map('upper') }}", "|list"},
      {"{{ (-8) ** 0.5 }}", "complex"},
      {"{{ '\\N{DASH}' }}", "'\\N'"},
      {"{{ 1 is filter }}", "'is filter'"},
      {"{% autoescape true %}{% endautoescape %}", "'autoescape'"},
  };
  for (const auto& [text, words] : cases) EXPECT_THAT(error_of<FormatError>(text), HasSubstr(words)) << text;
}

TEST(ChatTemplate, WhatTheTemplateRefusesIsAnErrorOfTheConversation) {
  EXPECT_THAT(error_of<ConversationError>("{{ raise_exception('roles must alternate') }}"),
              HasSubstr("roles must alternate"));
  EXPECT_THROW(ChatTemplate::parse("x", "t").render({}), Error);
  Conversation wrong;
  wrong.messages = {"text"};
  EXPECT_THROW(ChatTemplate::parse("x", "t").render(wrong), Error);
}

TEST(ChatTemplate, MessagesAreNormalizedAsTransformersDoes) {
  Conversation conversation;
  conversation.messages = {{{"role", "assistant"}, {"content", nullptr}, {"reasoning", "hm"}}};
  EXPECT_EQ(
      render("{{ messages[0].content is defined }} {{ messages[0].reasoning_content }} {{ messages[0].thinking }}",
             conversation),
      "False hm hm");
}

TEST(ChatTemplate, VariablesGoBeforeSpecialTokensAndThePrompt) {
  ChatTemplate chat_template = ChatTemplate::parse("{{ bos_token }}{{ x }}{{ add_generation_prompt }}{{ tools }}", "t");
  chat_template.set_special_token("bos_token", "<s>");
  Conversation conversation = hello();
  conversation.add_generation_prompt = false;
  conversation.variables = {{"x", 1}};
  EXPECT_EQ(chat_template.render(conversation), "<s>1FalseNone");
  conversation.variables = {{"bos_token", "B"}, {"tools", 2}};
  EXPECT_EQ(chat_template.render(conversation), "BFalse2");
}

TEST(ChatTemplate, TheTimeIsTold) {
  const auto time = std::chrono::system_clock::from_time_t(1'700'000'000);  // a Tuesday or a Wednesday, by the zone
  const std::string text = ChatTemplate::parse("{{ strftime_now('%Y-%m %f|%z%') }}", "t").render(hello(), {}, time);
  EXPECT_EQ(text, "2023-11 000000|%");
  EXPECT_THAT(error_of<FormatError>("{{ strftime_now('a' * 1001) }}"), HasSubstr("longer than"));
}

// Each ends quickly and with one message, whatever it would have done to the machine.
TEST(ChatTemplate, HostileTemplatesEndInOneError) {
  const std::string doubling =
      "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{% for i in range(10**9) %}{% endfor %}", "more than 100000 items"},
      {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "steps"},
      {doubling, "memory"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", ""},
      {"{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
       "levels inside one another"},
      {"{% set ns = namespace(x='a') %}{% for i in range(150) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
       ""},
      {"{% set ns = namespace(x='a') %}{% for i in range(150) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
       "ns.x|tojson }}",
       ""},
      {"{% set ns = namespace(x='a', y='a') %}{% for i in range(150) %}{% set ns.x = (ns.x, ns.x) %}{% set ns.y = "
       "(ns.y, ns.y) %}"
       "{% endfor %}{{ ns.x == ns.y }}",
       ""},
      {"{% set ns = namespace(x=1) %}{% for i in range(150) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
       ""},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "inside one another"},
      {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "inside one another"},
      {"{{ 'x' * 10**12 }}", "memory"},
      {"{{ [1] * 10**17 }}", "memory"},
      {"{{ 'x'|center(10**12) }}", "memory"},
      {"{{ '%1000000000d' % 1 }}", "wider"},
      {"{{ '{:1000000000}'.format(1) }}", "wider"},
      {"{{ 'a'|indent(10**12) }}", "memory"},
      {"{{ ('a' * 10**5).replace('', 'b' * 10**5) }}", "memory"},
      {"{{ ('a' * 10**5)|replace('', 'b' * 10**5) }}", "memory"},
      {"{{ ('b' * 10**6).join(('a' * 10**6)|list) }}", "memory"},
      {"{{ ([1] * 10**4)|join('b' * 10**6) }}", "memory"},
      {"{{ {}|tojson(indent=10**12) }}", "memory"},
      {"{{ [[[]]]|tojson(indent=10**8) }}", "memory"},
      {"{{ [1]|batch(10**12, 2)|list }}", "steps"},
      {"{{ [1]|slice(10**12)|list }}", "memory"},
      {"{{ 10**19 }}", "64 bits"},
      {"{{ 9223372036854775807 + 1 }}", "64 bits"},
      {"{{ -9223372036854775807 - 2 }}", "64 bits"},
      {"{{ 99999999999999999999 }}", "64 bits"},
      {"{% for i in range(99999) %}{{ 'x' * 10**4 }}{% endfor %}", "printed"},
      {"{{ " + std::string(100'000, '('), ""},
      {"{{ " + std::string(100'000, '[') + std::string(100'000, ']') + " }}", ""},
      {"{{ " + std::string(100'000, '-') + "1 }}", ""},
  };
  for (const auto& [text, words] : cases) {
    EXPECT_THAT(error_of<FormatError>(text), AllOf(testing::StartsWith("t.jinja: line "), HasSubstr(words)))
        << text.substr(0, 100);
  }
}

std::string repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

TEST(ChatTemplate, LongChainsAndNestsEndInOneError) {
  for (const std::string& text :
       {"{{ 1" + repeated(" + 1", 50'000) + " }}", "{{ x" + repeated("|upper", 50'000) + " }}",
        "{{ x" + repeated(".a", 50'000) + " }}", "{{ " + repeated("not ", 50'000) + "1 }}",
        "{{ 1" + repeated(" if 1 else 1", 50'000) + " }}", repeated("{% if 1 %}", 50'000),
        repeated("{% for i in [1] %}", 5'000) + "x" + repeated("{% endfor %}", 5'000),
        "{{ 1" + repeated(" and 1", 50'000) + " }}", "{{ 'a'|map(" + repeated("'map', ", 50'000) + "'upper')|list }}",
        "{{ x" + repeated("()", 50'000) + " }}"}) {
    EXPECT_THAT(error_of<FormatError>(text), testing::StartsWith("t.jinja: line ")) << text.substr(0, 100);
  }
  EXPECT_THAT(error_of<FormatError>(std::string((1 << 20) + 1, 'x')), HasSubstr("1048577 bytes"));
}

TEST(ChatTemplate, WhatReadersWriteIsWellWithinTheLimits) {
  EXPECT_EQ(render("{{ 1" + repeated(" + 1", 100) + " }}"), "101");
  EXPECT_EQ(render(repeated("{% if 1 %}", 50) + "x" + repeated("{% endif %}", 50)), "x");
  EXPECT_EQ(
      render("{% macro m(n) %}{% if n > 0 %}{{ n % 10 }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}").size(),
      40);
  Conversation conversation;
  for (int i = 0; i < 2000; ++i)
    conversation.messages.push_back({{"role", "user"}, {"content", std::string(1000, 'x')}});
  EXPECT_EQ(render("{% for m in messages %}{% set rest = messages[loop.index0:] %}{{ m.content|trim }}{% endfor %}",
                   conversation)
                .size(),
            2'000'000);
}

TEST(ChatTemplate, LimitsAreThoseAskedFor) {
  EXPECT_THAT(error_of<FormatError>("{{ 'abcdef' }}", {.output_bytes = 5}), HasSubstr("more than 5 bytes are printed"));
  EXPECT_THAT(error_of<FormatError>("{% for i in range(50) %}{% endfor %}", {.steps = 100}),
              HasSubstr("more than 100 steps"));
}

// A namespace may hold itself, or a macro that sees it.
TEST(ChatTemplate, CyclesAreNoLeakAndNoCrash) {
  EXPECT_EQ(
      render("{% set ns = namespace() %}{% set ns.a = [ns] %}{% set ns.b = {'c': ns.a} %}{{ ns.b.c[0].a|length }}"),
      "1");
  EXPECT_EQ(
      render("{% set ns = namespace() %}{% for i in [1, 2] %}{% macro m() %}{{ i }}{{ ns.m is defined }}{% endmacro %}"
             "{% set ns.m = m %}{% endfor %}{{ ns.m() }}"),
      "2True");
  EXPECT_THAT(error_of<FormatError>("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}"), HasSubstr("Namespace"));
}

TEST(ChatTemplate, InvalidUtf8BecomesReplacementCharacters) {
  Conversation conversation;
  conversation.messages = {{{"role", "user"}, {"content", "a\xFF"}}};
  EXPECT_EQ(render("\xC3{{ messages[0].content }}{{ messages[0].content|length }}", conversation), "\uFFFDa\uFFFD2");
}

class ChatTemplateFiles : public testing::Test {
 protected:
  ChatTemplateFiles() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~ChatTemplateFiles() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  std::string rendered(bool tools = false) {
    Conversation conversation = hello();
    if (tools) conversation.tools = ordered_json::array({ordered_json::object()});
    return ChatTemplate::find(folder_).value().render(conversation);
  }

  fs::path folder_ = fs::path(testing::TempDir()) /
                     (std::string("chat_template_") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(ChatTemplateFiles, AFolderWithoutOneHasNone) {
  EXPECT_FALSE(ChatTemplate::find(folder_));
  write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_FALSE(ChatTemplate::find(folder_));
}

TEST_F(ChatTemplateFiles, TheJinjaFileGoesBeforeTheConfigs) {
  write("chat_template.json", R"({"chat_template": "processor"})");
  EXPECT_EQ(rendered(), "processor");
  write("tokenizer_config.json",
        R"({"chat_template": "config {{ bos_token }}{{ eos_token }}", "bos_token": {"content": "<s>"}})");
  write("special_tokens_map.json", R"({"bos_token": "<b>", "eos_token": "</s>"})");
  EXPECT_EQ(rendered(), "config <s></s>");
  write("chat_template.jinja", "file {{ eos_token }}\n");
  EXPECT_EQ(rendered(), "file </s>");
}

TEST_F(ChatTemplateFiles, ToolsChooseTheirTemplate) {
  write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "with tools"}, {"name": "default", "template": "plain"}]})");
  EXPECT_EQ(rendered(), "plain");
  EXPECT_EQ(rendered(true), "with tools");
  write("chat_template.jinja", "file");
  EXPECT_EQ(rendered(true), "file");
  write("additional_chat_templates/tool_use.jinja", "file with tools");
  EXPECT_EQ(rendered(true), "file with tools");
  EXPECT_EQ(rendered(), "file");
}

TEST_F(ChatTemplateFiles, DamagedFilesAreErrors) {
  for (const char* text :
       {R"({"chat_template": 5})", R"({"chat_template": [{"name": "x"}]})", R"({"chat_template": "{{"})", "{"}) {
    write("tokenizer_config.json", text);
    EXPECT_THROW(ChatTemplate::find(folder_), FormatError) << text;
  }
  write("tokenizer_config.json", R"({"chat_template": [{"name": "other", "template": "x"}]})");
  EXPECT_THROW(rendered(), FormatError);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/data/questions.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/data/lines.h"
#include "octet/io/config.h"

namespace octet {
namespace {

// The one of `keys` that the object has.
std::string_view key_of(const Config& object, std::initializer_list<std::string_view> keys) {
  std::optional<std::string_view> found;
  for (const std::string_view key : keys) {
    if (!object.has(key)) continue;
    if (found) fail<FormatError>("{}: has '{}' and '{}', which mean the same; keep one", object.source(), *found, key);
    found = key;
  }
  if (!found) fail<FormatError>("{}: has none of '{}'", object.source(), fmt::join(keys, "', '"));
  return *found;
}

struct Choices {
  std::vector<std::string> texts, names;
};

Choices read_choices(const Config& object, std::string_view key) {
  Choices choices;
  if (object.json().at(std::string(key)).is_object()) {
    const Config named = object.object(key);
    choices = {named.texts("text"), named.texts("label")};
    if (choices.names.size() != choices.texts.size()) {
      fail<FormatError>("{}: '{}' has {} texts and {} labels", object.source(), key, choices.texts.size(),
                        choices.names.size());
    }
  } else {
    choices.texts = object.texts(key);
  }
  if (choices.texts.size() < 2)
    fail<FormatError>("{}: '{}' holds {}; there must be two to choose from", object.source(), key,
                      choices.texts.size());
  if (std::ranges::count(choices.texts, "") > 0)
    fail<FormatError>("{}: '{}' holds an empty text, which has no likelihood", object.source(), key);
  return choices;
}

size_t read_answer(const Config& object, std::string_view key, const Choices& choices) {
  const nlohmann::json& value = object.json().at(std::string(key));
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    const auto named = std::ranges::find(choices.names, text);
    if (named != choices.names.end()) return static_cast<size_t>(named - choices.names.begin());
    size_t index = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    if (error == std::errc() && end == text.data() + text.size() && index < choices.texts.size()) return index;
  } else if (value.is_number_integer() && value >= 0 && value < choices.texts.size()) {
    return value.get<size_t>();
  }
  fail<FormatError>("{}: '{}' is {}; it must be the index of one of {} choices, 0 to {}{}", object.source(), key,
                    quote_json(value), choices.texts.size(), choices.texts.size() - 1,
                    choices.names.empty() ? "" : ", or its label");
}

template <class Parse>
auto read_objects(const std::filesystem::path& path, std::optional<int64_t> limit, Parse parse) {
  std::vector<decltype(parse(std::string_view(), std::string()))> objects;
  const std::vector<std::string> lines = read_lines(path);
  for (size_t i = 0; i < lines.size() && (!limit || std::cmp_less(objects.size(), *limit)); ++i) {
    if (lines[i].find_first_not_of(" \t") == std::string::npos) continue;
    objects.push_back(parse(lines[i], fmt::format("{}: line {}", path.string(), i + 1)));
  }
  if (objects.empty()) fail<FormatError>("{}: holds nothing; a JSON object a line is needed", path.string());
  return objects;
}

}  // namespace

MultipleChoice parse_multiple_choice(std::string_view line, const std::string& source) {
  const Config object = Config::parse(line, source);
  const std::string_view context = key_of(object, {"context", "query", "question", "ctx"});
  Choices choices = read_choices(object, key_of(object, {"choices", "endings"}));
  const size_t answer = read_answer(object, key_of(object, {"answer", "label", "gold", "answerKey"}), choices);
  return {.context = object.text(context),
          .choices = std::move(choices.texts),
          .answer = answer,
          .source = object.source()};
}

Passage parse_passage(std::string_view line, const std::string& source) {
  const Config object = Config::parse(line, source);
  return {.text = object.text("text"), .source = object.source()};
}

std::vector<MultipleChoice> read_multiple_choice(const std::filesystem::path& path, std::optional<int64_t> limit) {
  return read_objects(path, limit, parse_multiple_choice);
}

std::vector<Passage> read_passages(const std::filesystem::path& path, std::optional<int64_t> limit) {
  return read_objects(path, limit, parse_passage);
}

}  // namespace octet

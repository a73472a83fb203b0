// SPDX-License-Identifier: Apache-2.0
#include "octet/data/squad.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/data/lines.h"

namespace octet {
namespace {

using nlohmann::json;

const json& member(const json& object, const char* key, const std::string& where) {
  if (!object.is_object()) fail<FormatError>("{}: an object is needed, not {}", where, quote_json(object));
  const auto found = object.find(key);
  if (found == object.end()) fail<FormatError>("{}: '{}' is missing", where, key);
  return *found;
}

const json& list(const json& object, const char* key, const std::string& where) {
  const json& value = member(object, key, where);
  if (!value.is_array()) fail<FormatError>("{}: '{}' must be a list, not {}", where, key, quote_json(value));
  return value;
}

const std::string& text(const json& object, const char* key, const std::string& where) {
  const json& value = member(object, key, where);
  if (!value.is_string()) fail<FormatError>("{}: '{}' must be text, not {}", where, key, quote_json(value));
  return value.get_ref<const std::string&>();
}

// Where each code point of a text begins, and its end.
std::vector<int64_t> character_starts(std::string_view text) {
  std::vector<int64_t> starts;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) starts.push_back(static_cast<int64_t>(i));
  }
  starts.push_back(static_cast<int64_t>(text.size()));
  return starts;
}

void read_answer(const json& answer, const std::vector<int64_t>& characters, SquadQuestion& question,
                 const std::string& where) {
  const std::string& answer_text = text(answer, "text", where);
  const json& start = member(answer, "answer_start", where);
  const bool inside = start.is_number_integer() && start >= 0 && start < characters.size();
  const int64_t byte = inside ? characters[start.get<size_t>()] : 0;
  if (!inside || question.context.compare(static_cast<size_t>(byte), answer_text.size(), answer_text) != 0) {
    fail<FormatError>("{}: the context has no {} at character {}", where, quote_name(answer_text), quote_json(start));
  }
  question.answers.push_back(answer_text);
  question.answer_starts.push_back(byte);
}

std::string_view without_leading_space(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(" \t\n\v\f\r"), text.size()));
}

void label(SpanFeature& feature, int64_t begin, int64_t end) {
  const auto& offsets = feature.offsets;
  if (offsets.empty() || offsets.front().first > begin || offsets.back().second < end) return;
  size_t first = 0, last = offsets.size() - 1;
  while (first + 1 < offsets.size() && offsets[first + 1].first <= begin) ++first;
  while (last > 0 && offsets[last - 1].second >= end) --last;
  feature.start = feature.context_begin + static_cast<int64_t>(first);
  feature.end = feature.context_begin + static_cast<int64_t>(last);
}

SpanFeature feature_of(Encoding encoding, size_t question) {
  SpanFeature feature;
  feature.question = question;
  const auto first = std::ranges::find(encoding.sequence_ids, 1);
  const auto last = std::find_if(first, encoding.sequence_ids.end(), [](int8_t id) { return id != 1; });
  feature.context_begin = first - encoding.sequence_ids.begin();
  feature.context_end = last - encoding.sequence_ids.begin();
  feature.offsets.assign(encoding.offsets.begin() + feature.context_begin,
                         encoding.offsets.begin() + feature.context_end);
  feature.ids = std::move(encoding.ids);
  feature.type_ids = std::move(encoding.type_ids);
  return feature;
}

}  // namespace

std::vector<SquadQuestion> parse_squad(std::string_view text_of_file, const std::string& source,
                                       std::optional<int64_t> limit) {
  const json file = parse_json(text_of_file, source);
  std::vector<SquadQuestion> questions;
  const json& articles = list(file, "data", source);
  for (size_t a = 0; a < articles.size(); ++a) {
    const std::string article = fmt::format("{}: data[{}]", source, a);
    const json& paragraphs = list(articles[a], "paragraphs", article);
    for (size_t p = 0; p < paragraphs.size(); ++p) {
      const std::string paragraph = fmt::format("{}.paragraphs[{}]", article, p);
      const std::string& context = text(paragraphs[p], "context", paragraph);
      const std::vector<int64_t> characters = character_starts(context);
      const json& qas = list(paragraphs[p], "qas", paragraph);
      for (size_t q = 0; q < qas.size(); ++q) {
        if (limit && std::cmp_greater_equal(questions.size(), *limit)) return questions;
        const std::string where = fmt::format("{}.qas[{}]", paragraph, q);
        SquadQuestion question{.id = text(qas[q], "id", where),
                               .context = context,
                               .question = text(qas[q], "question", where),
                               .answers = {},
                               .answer_starts = {}};
        for (const json& answer : list(qas[q], "answers", where)) read_answer(answer, characters, question, where);
        if (question.answers.empty())
          fail<FormatError>("{}: has no answers; questions without one (SQuAD 2.0) are not read", where);
        questions.push_back(std::move(question));
      }
    }
  }
  if (questions.empty()) fail<FormatError>("{}: holds no questions", source);
  return questions;
}

std::vector<SquadQuestion> read_squad(const std::filesystem::path& path, std::optional<int64_t> limit) {
  return parse_squad(read_plain_text(path), path.string(), limit);
}

std::vector<SpanFeature> make_span_features(const std::vector<SquadQuestion>& questions, const Tokenizer& tokenizer,
                                            const SpanOptions& options) {
  const EncodeOptions encode{.truncation = Truncation{.max_length = options.length,
                                                      .strategy = Truncation::Strategy::kOnlySecond,
                                                      .stride = options.stride}};
  std::vector<SpanFeature> features;
  for (size_t i = 0; i < questions.size(); ++i) {
    const SquadQuestion& question = questions[i];
    std::vector<Encoding> windows;
    try {
      windows = tokenizer.encode_pair_windows(without_leading_space(question.question), question.context, encode);
    } catch (const UsageError& error) {
      fail<UsageError>("question {} in windows of {} tokens with a stride of {}: {}", quote_name(question.id),
                       options.length, options.stride, error.what());
    }
    const int64_t begin = question.answer_starts.front();
    const int64_t end = begin + static_cast<int64_t>(question.answers.front().size());
    for (Encoding& window : windows) {
      features.push_back(feature_of(std::move(window), i));
      label(features.back(), begin, end);
    }
  }
  return features;
}

}  // namespace octet

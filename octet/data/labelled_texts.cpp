// SPDX-License-Identifier: Apache-2.0
#include "octet/data/labelled_texts.h"

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "octet/base/error.h"
#include "octet/data/tsv.h"

namespace octet {
namespace {

struct Columns {
  size_t first = 0;
  std::optional<size_t> second;
  size_t label = 0;
  size_t first_line = 1;  // that holds a text
};

// CoLA's files do not name their columns.
bool is_cola(const TsvFile& file) {
  const std::string_view line = file.line(0);
  size_t tabs = 0;
  for (const char c : line) tabs += c == '\t' ? 1 : 0;
  return tabs == 3 && (file.field(0, 1) == "0" || file.field(0, 1) == "1");
}

Columns read_header(const TsvFile& file) {
  static constexpr std::array<std::pair<const char*, const char*>, 5> kPairs = {{{"sentence1", "sentence2"},
                                                                                 {"#1 String", "#2 String"},
                                                                                 {"question1", "question2"},
                                                                                 {"question", "sentence"},
                                                                                 {"premise", "hypothesis"}}};
  std::optional<size_t> first, second, label;
  for (const auto& [one, other] : kPairs) {
    if (first) break;
    if (!file.has(one) || !file.has(other)) continue;
    first = file.find({one});
    second = file.find({other});
  }
  if (!first) first = file.find({"sentence", "text"});
  // MNLI's files have the labels of single judges before the one that counts.
  for (const char* name : {"gold_label", "label", "Quality", "is_duplicate", "score"}) {
    if (!label) label = file.find({name});
  }
  if (first && label) return {.first = *first, .second = second, .label = *label};
  if (!first && !label && is_cola(file)) return {.first = 3, .second = {}, .label = 1, .first_line = 0};
  fail<FormatError>(
      "{}: line 1 has no column for {}. It begins '{}'. A file of labelled texts is tab-separated, and its first line "
      "names the columns: 'sentence', or 'sentence1' and 'sentence2', and 'label', as the files of GLUE do.",
      file.path(), first ? "the label" : "the text", excerpt(file.line(0)));
}

}  // namespace

LabelledTexts read_labelled_texts(const std::filesystem::path& path) {
  const TsvFile file(path);
  const Columns columns = read_header(file);
  if (file.lines() == columns.first_line) {
    fail<FormatError>("{}: names its columns but has no texts under them", file.path());
  }
  file.check_rows();
  LabelledTexts texts;
  for (size_t i = columns.first_line; i < file.lines(); ++i) {
    texts.first.emplace_back(file.field(i, columns.first));
    if (columns.second) texts.second.emplace_back(file.field(i, *columns.second));
    texts.labels.emplace_back(file.field(i, columns.label));
    texts.lines.push_back(i + 1);
    if (texts.labels.back().empty()) {
      fail<FormatError>("{}: line {} has no label; the test files of GLUE have none", file.path(), i + 1);
    }
  }
  return texts;
}

}  // namespace octet

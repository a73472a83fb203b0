// SPDX-License-Identifier: Apache-2.0
#include "octet/data/pairs.h"

#include <cmath>
#include <optional>
#include <string_view>

#include "octet/base/error.h"
#include "octet/data/tsv.h"

namespace octet {
namespace {

struct Columns {
  size_t first = 0, second = 0, score = 0;
  std::string score_name;
  SentencePairs::Kind kind = SentencePairs::Kind::kLabels;
  double lowest = 0, highest = 1;
};

Columns read_header(const TsvFile& file) {
  const auto first = file.find({"sentence1", "#1 String"});
  const auto second = file.find({"sentence2", "#2 String"});
  const auto score = file.find({"label", "Quality", "score"});
  if (!first || !second || !score) {
    fail<FormatError>(
        "{}: line 1 has no column for {}. It begins '{}'. A file of sentence pairs is tab-separated, and its first "
        "line "
        "names the columns: 'Quality', '#1 String', '#2 String' (MRPC); 'sentence1', 'sentence2', 'score' (STS-B); or "
        "'sentence1', 'sentence2', 'label'.",
        file.path(), !first ? "the first sentence" : (!second ? "the second sentence" : "a label or score"),
        excerpt(file.line(0)));
  }
  Columns columns{*first, *second, *score, std::string(file.field(0, *score)), SentencePairs::Kind::kLabels};
  if (file.find({"score"}) == score) {
    const bool is_sts_b = file.has("old_index");
    columns.kind = SentencePairs::Kind::kGrades;
    columns.lowest = is_sts_b ? 0 : -HUGE_VAL;
    columns.highest = is_sts_b ? 5 : HUGE_VAL;
  }
  return columns;
}

double read_score(std::string_view field, const Columns& columns, const std::string& path, size_t line) {
  const std::optional<double> value = finite_number(field);
  if (columns.kind == SentencePairs::Kind::kLabels) {
    if (value && (*value == 0 || *value == 1)) return *value;
    fail<FormatError>("{}: line {}: '{}' is '{}'; a label is 0 or 1", path, line, columns.score_name, excerpt(field));
  }
  if (!value) {
    fail<FormatError>("{}: line {}: '{}' is '{}', not a number", path, line, columns.score_name, excerpt(field));
  }
  if (*value < columns.lowest || *value > columns.highest) {
    fail<FormatError>("{}: line {}: '{}' is {}; STS-B's grades go from {} to {}", path, line, columns.score_name,
                      *value, columns.lowest, columns.highest);
  }
  return *value;
}

}  // namespace

SentencePairs read_sentence_pairs(const std::filesystem::path& path) {
  const TsvFile file(path);
  const Columns columns = read_header(file);
  if (file.lines() == 1) fail<FormatError>("{}: names its columns but has no pairs under them", file.path());
  file.check_rows();

  SentencePairs pairs;
  pairs.kind = columns.kind;
  pairs.first.reserve(file.lines() - 1);
  pairs.second.reserve(file.lines() - 1);
  pairs.score.reserve(file.lines() - 1);
  for (size_t i = 1; i < file.lines(); ++i) {
    pairs.score.push_back(read_score(file.field(i, columns.score), columns, file.path(), i + 1));
    pairs.first.emplace_back(file.field(i, columns.first));
    pairs.second.emplace_back(file.field(i, columns.second));
  }
  return pairs;
}

}  // namespace octet

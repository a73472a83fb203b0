// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace octet {

/// Texts, single or in pairs, with a label each: what a classifier is measured on.
struct LabelledTexts {
  std::vector<std::string> first;
  std::vector<std::string> second;  ///< without elements where texts are single
  std::vector<std::string> labels;  ///< as the file spells them: "1", "entailment", "3.8"
  std::vector<size_t> lines;        ///< where each stands, from 1 on

  size_t size() const noexcept { return labels.size(); }
  bool in_pairs() const noexcept { return !second.empty(); }
};

/// What the columns of a file are called, where that is not usual.
struct ColumnNames {
  std::optional<std::string> first;   ///< the text; then the second is one of a pair only where it is named too
  std::optional<std::string> second;  ///< the other text of a pair
  std::optional<std::string> label;
};

/// Reads a file of at least one text, a table with named columns: .csv, .jsonl, or tab-separated (see read_table). The
/// columns are those of `names`, or (in any order, upper or lower case, others between them)
///
///   texts   "sentence1" and "sentence2"; "#1 String" and "#2 String"; "question1" and "question2"; "question" and
///           "sentence"; "premise" and "hypothesis"; or "sentence", "sentence1" or "text" alone
///   labels  "gold_label", "label", "Quality", "is_duplicate" or "score"; of several the first of these
///
/// In a tab-separated file of four columns whose first line has 0 or 1 in the second, no line names them: they are
/// "source", "label", "mark" and "sentence" (CoLA). That takes the files of GLUE (Wang et al., 2018) for all its tasks.
///
/// Throws FormatError naming file and line where a row lacks a text or a label, and for what read_table refuses; naming
/// the columns that are there where those needed are not.
LabelledTexts read_labelled_texts(const std::filesystem::path& path, const ColumnNames& names = {});

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
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

/// Reads a tab-separated file of at least one text. Its first line names the columns (in any order, upper or lower
/// case, others between them):
///
///   texts   "sentence1" and "sentence2"; "#1 String" and "#2 String"; "question1" and "question2"; "question" and
///           "sentence"; "premise" and "hypothesis"; or "sentence" or "text" alone
///   labels  "gold_label", "label", "Quality", "is_duplicate" or "score"; of several the first of these
///
/// or there is no such line, and each has four fields, a source, 0 or 1, a mark and a sentence (CoLA). That takes the
/// files of GLUE (Wang et al., 2018) for CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE and WNLI. Fields are never
/// quoted.
///
/// Throws FormatError naming file and line where a row has more or fewer fields than the first line, or no label;
/// and naming the forms that are known where the first line is another.
LabelledTexts read_labelled_texts(const std::filesystem::path& path);

}  // namespace octet

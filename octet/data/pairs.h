// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace octet {

/// Pairs of sentences with a person's judgement of each: first[i], second[i], score[i].
struct SentencePairs {
  enum class Kind : uint8_t {
    kLabels,  ///< 1 where the two mean the same, 0 where not
    kGrades,  ///< how near their meanings are; the larger the nearer
  };

  std::vector<std::string> first, second;
  std::vector<double> score;
  Kind kind = Kind::kLabels;

  size_t size() const noexcept { return score.size(); }
};

/// Reads a tab-separated file with one pair a line, at least one. Its first line names the columns (in any order, upper
/// or lower case, others between them):
///
///   sentences  "sentence1" and "sentence2", or "#1 String" and "#2 String"
///   labels     "label" or "Quality", each 0 or 1
///   grades     "score", each a finite number; from 0 to 5 where an "old_index" column says that the file is STS-B
///
/// That takes the files of GLUE (Wang et al., 2018) for MRPC and STS-B, and many others. Fields are never quoted: " is
/// a character like any other.
///
/// Throws FormatError naming file, line and column where a row has more or fewer fields than the first line, or where a
/// label or grade is not as above; and naming the forms that are known where the first line is another.
SentencePairs read_sentence_pairs(const std::filesystem::path& path);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "octet/models/model.h"
#include "octet/quant/recipe.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// What calibration runs through a model, a sequence a sample.
struct CalibrationData {
  TokenBatch samples;                   ///< ragged: short texts are not padded
  CalibrationOptions options;           ///< by which they were chosen
  std::string sha256;                   ///< of the file, as sha256sum gives it
  std::vector<std::string> notes = {};  ///< what is to be told: "12 samples of 128 that were asked for"
};

/// Of the tokens themselves, 64 hexadecimal digits: two runs with the same calibrate alike.
std::string fingerprint(const TokenBatch& samples);

/// Reads samples for `model` from a file:
///
///   .tsv           pairs of sentences (see read_sentence_pairs): both together where the model labels sequences, else
///                  each by itself
///   .json, .jsonl  objects with a "text", or a question and its right answer (see octet/data/questions.h), one a line
///   any other      a text whose tokens are cut, one after another, into sequences of options.sequence_length; what is
///                  left at the end is a sample only where it is all there is. Where the tokenizer frames a text
///                  ([CLS] … [SEP]), each sequence is framed.
///
/// Texts of the first two are samples by themselves, cut to sequence_length. Of all samples options.samples are drawn
/// without repetition by options.seed, and kept in the order of the file. Throws Error, with counts, where the file is
/// empty, holds fewer than 128 tokens, or more than half of its tokens are the unknown one; UsageError where
/// sequence_length exceeds the model's longest.
CalibrationData read_calibration_data(const std::filesystem::path& file, const Tokenizer& tokenizer,
                                      const ModelInfo& model, const CalibrationOptions& options);

}  // namespace octet

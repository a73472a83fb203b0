// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>

#include "octet/models/session.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// How a directory makes one vector of a sentence, as sentence-transformers records it (modules.json, the pooling
/// module's config.json, sentence_bert_config.json).
struct SentenceConfig {
  Pooling pooling = Pooling::kMean;
  bool normalize = false;
  std::optional<int64_t> max_length;  ///< tokens, special ones included
  bool found = false;                 ///< false: the directory says nothing, and the above is mean pooling alone
};

/// Throws FormatError for modules or poolings that Octet does not have.
SentenceConfig read_sentence_config(const std::filesystem::path& directory);

/// One vector a sequence, [sequences, width] fp32, in the open scope of the context's workspace.
Activation sentence_vectors(const Model& model, Context& context, const DeviceBatch& batch,
                            const SentenceConfig& config);

/// Sentences to vectors.
class SentenceEncoder {
 public:
  /// Throws Error unless the session's model ends in hidden states.
  SentenceEncoder(Session& session, const Tokenizer& tokenizer, const SentenceConfig& config);

  /// One vector a sentence, [sentences, width] fp32, in their order and independent of how they are batched. Sentences
  /// beyond the longest that the model takes are truncated. `advance` is called with numbers of sentences done.
  Tensor encode(std::span<const std::string> sentences, const std::function<void(int64_t)>& advance = {});

  /// Sentences truncated so far: to be reported.
  int64_t truncated() const noexcept { return truncated_; }

 private:
  Session& session_;
  const Tokenizer& tokenizer_;
  SentenceConfig config_;
  int64_t longest_;
  int64_t truncated_ = 0;
};

}  // namespace octet

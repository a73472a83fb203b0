// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "octet/models/model.h"
#include "octet/models/transformer_block.h"
#include "octet/models/weight_source.h"
#include "octet/nn/token_embedding.h"

namespace octet {

/// A stack of blocks between an embedding and a head: what decoders and encoders have in common. An architecture's file
/// says what its checkpoints call the parts and how large they are; what it lacks is left out of its Plan.
class Transformer : public Model {
 public:
  /// How the tokens of a sequence are numbered.
  enum class Numbering : uint8_t {
    kByPlace,           ///< by their place in the text, dropped tokens before them included
    kKeptTokens,        ///< one after the other (OPT)
    kExceptForPadding,  ///< one after the other from the padding id + 1 on, but padding by its id (RoBERTa)
  };

  /// e = norm(words[id] + types[type] + positions[position]);  x = project · e
  ///
  /// Tables are as wide as the words', `word_width`; a position table as wide as x is added after the projection.
  struct EmbeddingPlan {
    std::string words;  ///< their table's name
    int64_t vocabulary = 0, word_width = 0;
    std::optional<Embedding> types = {};
    std::optional<Embedding> positions = {};
    Numbering numbering = Numbering::kByPlace;
    int32_t padding_id = 0;  ///< for kExceptForPadding
    std::optional<Normalization> norm = {};
    std::vector<Linear::Part> project = {};  ///< none or one
  };

  /// y = W · norm(nonlinearity(inner · n)), n = final_norm(x), of all tokens or of each sequence's first; without W it
  /// ends before, and without inner too y is n.
  struct HeadPlan {
    OutputKind output = OutputKind::kHiddenStates;  ///< kSequenceLogits: of first tokens
    std::optional<Normalization> final_norm = {};
    std::vector<Linear::Part> inner = {};  ///< none or one
    Nonlinearity nonlinearity = Nonlinearity::kNone;
    std::optional<Normalization> norm = {};
    std::vector<Linear::Part> outputs = {};         ///< W, or
    std::optional<VocabularyHead> vocabulary = {};  ///< W over the vocabulary
    std::vector<Linear::Part> kept = {};            ///< in checkpoints, known, and not run: a pooler
  };

  /// To be assigned member by member, see TransformerBlock::Plan.
  struct Plan {
    std::string architecture;
    int64_t width = 0;          ///< of hidden states
    int64_t max_positions = 0;  ///< the longest sequence
    EmbeddingPlan embedding;
    std::optional<Rotary> rotary = {};
    int64_t blocks = 0;
    std::string block_path;  ///< names in block i begin with BLOCK_PATH.i.
    std::function<TransformerBlock::Plan(const std::string& path, int64_t index)> block;
    HeadPlan head;
  };

  Transformer(const WeightSource& source, Plan plan);

  std::vector<const Linear*> linears() const override;
  std::vector<AttentionSite> attention_sites() const override;
  std::vector<FoldPair> fold_pairs() const override;
  std::optional<ResidualStream> residual_stream() const override;
  ModelPiece piece(int64_t index) override;
  void prepare_piece(Backend& backend, int64_t index, Sources sources) override;
  void release_piece(int64_t index) override;
  int64_t packed_bytes() const override;
  Activation embed(Context& context, const DeviceBatch& batch) const override;
  void run_block(Context& context, int64_t index, const DeviceBatch& batch, const Activation& x) const override;
  Activation head(Context& context, const DeviceBatch& batch, const Activation& x) const override;

  void train(Trainables& all) override;
  void train_block(int64_t index, Trainables& all) override;
  void stop_training_block(int64_t index) noexcept override;
  std::unique_ptr<TrainingPass> run_block(Training& training, int64_t index, const DeviceBatch& batch,
                                          const Activation& x) const override;
  void backward_block(Training& training, int64_t index, const DeviceBatch& batch, const TrainingPass& pass,
                      const Activation& d) const override;
  void lay_out_trained(Backend& backend) override;
  std::unique_ptr<TrainingPass> forward(Training& training, const DeviceBatch& batch) const override;
  void backward(Training& training, const DeviceBatch& batch, const TrainingPass& pass,
                const Activation& d) const override;
  using Model::forward;

 private:
  struct Pass;
  struct BlockPass;
  void embed(Training& training, const DeviceBatch& batch, Pass& pass, const Activation& x) const;
  void embed_backward(Training& training, const DeviceBatch& batch, const Pass& pass, const Activation& d) const;
  void head(Training& training, const DeviceBatch& batch, Pass& pass, const Activation& x) const;
  void head_backward(Training& training, const DeviceBatch& batch, const Pass& pass, const Activation& dy,
                     const Activation& d) const;
  Activation head_input(Training& training, const Pass& pass) const;

  static std::optional<Linear> optional_linear(std::vector<Linear::Part> parts, QuantSites& sites);
  DeviceSpan positions_of(Context& context, const DeviceBatch& batch) const;
  /// The product over the vocabulary or labels, if there is one: its own, or the words' where they are tied and
  /// quantized.
  const Linear* outputs() const;

  std::string words_name_;
  TokenEmbedding words_;
  int64_t word_width_, width_;
  std::optional<Embedding> types_, positions_;
  Numbering numbering_;
  int32_t padding_id_;
  std::optional<Normalization> embedding_norm_;
  std::optional<Linear> project_;
  std::optional<Rotary> rotary_;
  std::vector<TransformerBlock> blocks_;
  std::optional<Normalization> final_norm_, head_norm_;
  bool tied_;
  std::optional<Linear> inner_;
  Nonlinearity head_nonlinearity_;
  std::optional<Linear> outputs_;
  std::optional<Linear> kept_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/models/token_batch.h"
#include "octet/nn/layers.h"
#include "octet/nn/linear.h"
#include "octet/nn/trainable.h"
#include "octet/quant/recipe.h"

namespace octet {

/// What a model's last step gives.
enum class OutputKind : uint8_t {
  kHiddenStates,    ///< no head: the last hidden state, a row a token
  kTokenLogits,     ///< a row a token: over the vocabulary, or start and end of an answer
  kSequenceLogits,  ///< a row a sequence
};

/// What a model is, as far as those who call it care.
struct ModelInfo {
  std::string architecture;   ///< as in config.json: "BertModel"
  int64_t vocabulary = 0;     ///< ids lie in [0, vocabulary)
  int64_t token_types = 0;    ///< type ids lie in [0, token_types); 0: the model reads none
  int64_t max_positions = 0;  ///< positions lie in [0, max_positions)
  int64_t width = 0;          ///< of hidden states; where they are the output, of these
  int64_t blocks = 0;
  OutputKind output = OutputKind::kHiddenStates;
  bool causal = false;   ///< a decoder: a token sees those before it, and a KvCache may hold them
  int64_t kv_heads = 0;  ///< of a decoder: heads of keys and values, and their width
  int64_t kv_head_width = 0;
  /// What products of attention read: INT8 with dynamic or static scales, of a cache too, or floats.
  ActivationMode attention = ActivationMode::kFloat;
  AttentionBits attention_bits = {};
};

/// Between which layers a factor for each channel can move without changing what the model computes: what `from` gives
/// times f > 0, the columns of all in `into` by 1 / f (SmoothQuant: Xiao et al., 2023; AWQ: Lin et al., 2024).
struct FoldPair {
  std::string from;               ///< a normalization or a linear layer, which nothing but `into` reads
  std::vector<std::string> into;  ///< linear layers
  /// Values that several query heads read (grouped queries): `from` has fewer channels than `into` has columns, as
  /// those of each value head, head_width of them, meet `heads_per_value` heads of columns one after another.
  int64_t head_width = 0, heads_per_value = 1;

  /// The channel of `from` that a column of `into` reads.
  int64_t channel(int64_t column) const noexcept {
    if (heads_per_value == 1) return column;
    return column / (heads_per_value * head_width) * head_width + column % head_width;
  }
};

/// The hidden states of a transformer that normalizes them before every part, by root mean squares alone: a rotation of
/// them changes nothing, if all that write and read them turn with it (Ashkboos et al., 2024).
struct ResidualStream {
  int64_t width = 0;
  std::string embedding;                  ///< the table that they begin as
  std::vector<FoldPair> readers = {};     ///< every normalization and the layers that read it; the last is the head's
  std::vector<std::string> writers = {};  ///< layers whose outputs are added
  std::vector<FoldPair> values = {};      ///< heads of values and what reads them; none where a block has no such layer
  bool tied = false;                      ///< the head multiplies by the embedding's table
};

/// What one piece of a model is made of, in the order of the forward pass; tables are not among it. Values may be
/// changed before the piece is laid out (see Linear::parts and Normalization::set).
struct ModelPiece {
  std::vector<Linear*> linears;
  std::vector<Normalization*> normalizations;
};

/// The products of attention in a block.
struct AttentionSite {
  QuantSite site;
  AttentionScales scales;  ///< of a static mode
};

/// What a forward pass in training gave, and what its backward pass needs.
struct TrainingPass {
  virtual ~TrainingPass() = default;
  Activation output = {};  ///< logits, as info().output says; in Training::kept
};

/// A transformer: embed, blocks callable one by one, head. Weights are views of the mapped checkpoint until prepare
/// lays them out for a backend. Activations live in the workspace scope that the caller has open.
class Model {
 public:
  virtual ~Model() = default;

  const ModelInfo& info() const noexcept { return info_; }
  const QuantSites& sites() const noexcept { return sites_; }
  /// Every linear layer in the order of the forward pass, those that run as one product in one Linear.
  virtual std::vector<const Linear*> linears() const = 0;
  /// The same one by one: every part of every Linear.
  std::vector<const Linear::Part*> linear_parts() const;
  /// Block by block.
  virtual std::vector<AttentionSite> attention_sites() const = 0;
  /// All fold pairs, in the order of the forward pass.
  virtual std::vector<FoldPair> fold_pairs() const = 0;
  /// None where the model is no such transformer, or has no head that could turn its hidden states back.
  virtual std::optional<ResidualStream> residual_stream() const = 0;

  /// The pieces that a forward pass goes through one after another, to be laid out one by one: 0 is the embedding,
  /// 1 + i block i, the last one the head.
  int64_t pieces() const noexcept { return info_.blocks + 2; }
  virtual ModelPiece piece(int64_t index) = 0;
  /// A head that is tied to its embedding's table needs the embedding laid out too.
  virtual void prepare_piece(Backend& backend, int64_t index, Sources sources) = 0;
  /// Drops what was laid out of a piece.
  virtual void release_piece(int64_t index) = 0;

  /// All pieces, whose sources it lets go of.
  void prepare(Backend& backend);
  virtual int64_t packed_bytes() const = 0;  ///< of what prepare laid out; mapped tables not counted

  virtual Activation embed(Context& context, const DeviceBatch& batch) const = 0;
  /// Block `index` on the hidden states x [tokens, width], in place.
  virtual void run_block(Context& context, int64_t index, const DeviceBatch& batch, const Activation& x) const = 0;
  /// Heads that give a row a token take any of the rows of x, as many as there are.
  virtual Activation head(Context& context, const DeviceBatch& batch, const Activation& x) const = 0;

  /// From now on the parameters are what training changes, in `all`, whose backend is the model's. A model that was
  /// loaded with a recipe, or is quantized, throws UsageError.
  virtual void train(Trainables& all) = 0;
  /// Block `index` alone is to be trained by what it gives, its parameters in `all`; and is as it was before, not laid
  /// out.
  virtual void train_block(int64_t index, Trainables& all) = 0;
  virtual void stop_training_block(int64_t index) noexcept = 0;
  /// That block on hidden states x in place, which are the pass's output.
  virtual std::unique_ptr<TrainingPass> run_block(Training& training, int64_t index, const DeviceBatch& batch,
                                                  const Activation& x) const = 0;
  /// d, the gradient by its output, becomes that by its x; its parameters' are added.
  virtual void backward_block(Training& training, int64_t index, const DeviceBatch& batch, const TrainingPass& pass,
                              const Activation& d) const = 0;
  /// To be called when an optimizer has changed them.
  virtual void lay_out_trained(Backend& backend) = 0;
  virtual std::unique_ptr<TrainingPass> forward(Training& training, const DeviceBatch& batch) const = 0;
  /// Adds to the gradients of all parameters what a loss gives whose gradient by the pass's output is d (which is
  /// lost).
  virtual void backward(Training& training, const DeviceBatch& batch, const TrainingPass& pass,
                        const Activation& d) const = 0;

  /// Throws Error for ids, types or positions outside the model's ranges.
  void check_inputs(const TokenBatch& batch) const;

  /// The last hidden state [tokens, width]. Throws as check_inputs does, and NumericError where NaN or infinity meets a
  /// quantizer (looked for after every block).
  Activation hidden_states(Context& context, const DeviceBatch& batch) const;
  /// Embed, blocks, head: [tokens, …] or [sequences, …] as info().output says.
  Activation forward(Context& context, const DeviceBatch& batch) const;

 protected:
  ModelInfo info_;
  QuantSites sites_;
};

/// The model in a checkpoint, by the architecture that its config.json names. With a recipe its layers are quantized on
/// the way; a checkpoint that is quantized already brings its schemes and takes recipes for activations alone. Throws
/// FormatError for an architecture that Octet does not have, and for missing or misshapen tensors; UsageError for a
/// recipe of the other kind.
std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, const Recipe* recipe);

/// Layers whose activations `recipe`, one for activations alone, asks to quantize, but whose weights are float: they
/// stay so, which is to be told.
std::vector<std::string> layers_left_float(const Recipe& recipe, const Model& model);

/// Patterns of `recipe` that match no layer of `model` (see Recipe::unmatched_patterns).
std::vector<std::string> unmatched_patterns(const Recipe& recipe, const Model& model);

/// How a quantized weight of a model is written.
WeightFormat stored_format(const Parameter& weight);
/// Whether a tied head has a copy of the scales, and zero points, under its own name: beside plain codes.
bool repeats_scales(const Parameter& weight);
/// Bytes that it then takes.
int64_t stored_bytes(const Parameter& weight);

/// Bytes of the checkpoint's tensors with the model's schemes applied: what a written checkpoint of it holds.
int64_t stored_bytes(const Checkpoint& checkpoint, const Model& model);

}  // namespace octet

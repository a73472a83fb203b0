// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "octet/models/model.h"
#include "octet/ptq/paused_batch.h"

namespace octet {

/// Rows that met a site on their way through a model.
struct SiteInput {
  /// Of a product there is one kind of input; attention reads three.
  enum class Role : uint8_t { kInput, kQuery, kKey, kValue };

  const QuantSite& site;
  Role role = Role::kInput;
  int64_t columns = 0;          ///< of keys and queries: their heads side by side, position embedding included
  std::span<const float> rows;  ///< [n, columns], normalized where the product normalizes first
};

/// What attention reads, and what attention_operand calls it.
inline constexpr std::pair<SiteInput::Role, const char*> kAttentionOperands[] = {
    {SiteInput::Role::kQuery, "q"}, {SiteInput::Role::kKey, "k"}, {SiteInput::Role::kValue, "v"}};

/// Calibration samples on their way through a float model, one piece (see Model::piece) after another: the hidden
/// states of all samples wait between two pieces, and of the weights only one piece is laid out. What a piece gives are
/// the bits that Model::forward gives.
///
/// A piece may run any number of times, its parts changed in between, so that the next one gets what a quantized piece
/// gives. Rows that meet quantization sites can be watched on the way.
class BlockStream {
 public:
  enum class Outputs : uint8_t {
    kDropped,  ///< the piece ends as soon as all sites that are watched were seen, and will run again
    kPaused,   ///< the same, and the next run goes on from there, if what it watches comes after: what came before the
               ///< last of these sites may not change in between
    kTaken,    ///< the stream goes on to the next piece
  };
  using Visitor = std::function<void(const SiteInput&)>;

  /// All must outlive it; nothing of `model` is laid out yet. `advance` is told of samples that a piece was run on.
  /// Throws as Model::check_inputs does.
  BlockStream(Model& model, Backend& backend, const TokenBatch& samples,
              std::function<void(int64_t samples)> advance = {});

  /// The piece that run() runs.
  int64_t piece() const noexcept { return piece_; }
  const TokenBatch& samples() const noexcept { return samples_; }
  int64_t tokens() const noexcept { return samples_.tokens(); }
  bool done() const noexcept { return piece_ == model_.pieces(); }

  /// Lays the piece out, runs it on every sample, and lets go of it. `visit` sees the inputs of `sites`, sample by
  /// sample. After the last piece there are no outputs. Throws NumericError, naming layer and sample, where NaN or
  /// infinity meets a site that is watched or leaves the piece.
  void run(Outputs outputs, std::span<const int> sites = {}, const Visitor& visit = {});

  /// Tells of samples that the piece was run on elsewhere.
  void advance(int64_t samples) const {
    if (advance_) advance_(samples);
  }

  /// What the next piece reads, [tokens, width].
  std::span<const float> hidden_states() const noexcept { return states_; }
  /// Goes on before `piece` with hidden states that were saved there.
  void resume(int64_t piece, std::vector<float> hidden_states);

 private:
  class Watcher;

  PausedBatch run_batch(Watcher& watcher, const TokenBatch& batch, int64_t first_sample, bool stops);
  void run_head(Context& context, Watcher& watcher, const DeviceBatch& batch, const Activation& x);
  void check_finite(std::span<const float> states, const TokenBatch& batch, int64_t first_sample) const;

  Model& model_;
  Backend& backend_;
  const TokenBatch& samples_;
  std::function<void(int64_t)> advance_;
  Workspace workspace_;
  int64_t piece_ = 0;
  int64_t width_ = 0;          ///< of hidden states
  std::vector<float> states_;  ///< [tokens, width]
  std::vector<PausedBatch> paused_;
};

/// "the embedding", "block 3", "the head".
std::string piece_name(const Model& model, int64_t piece);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "octet/models/sentence_encoder.h"
#include "octet/models/session.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// Texts that models are compared on, as batches of a size that runs well.
struct TextSample {
  std::vector<TokenBatch> batches;
  int64_t tokens = 0, sequences = 0;
  int64_t truncated = 0;  ///< sequences that were longer than the model takes
};

/// About `tokens` tokens of a text file, spread evenly over it: of a decoder windows of `window` tokens (0: 256, or its
/// longest context if that is less), of other models lines, empty ones left out. Throws Error where there is nothing,
/// UsageError for a window that the model does not take.
TextSample read_sample(const std::filesystem::path& file, const Tokenizer& tokenizer, const ModelInfo& info,
                       int64_t tokens, int64_t window = 0);

/// What is compared of two models.
enum class OutputMeasure : uint8_t {
  kDistributions,    ///< of the next token, a masked one, or classes: Kullback-Leibler divergence
  kSentenceVectors,  ///< squared relative error
  kHiddenStates,     ///< the last ones: squared relative error
  kLogits,           ///< that are no distribution over a row: squared relative error
};

/// How far a model's outputs lie from the reference's. Both figures grow with the square of a small error, so those of
/// independent causes add up.
struct Divergence {
  /// The mean of KL(reference ‖ other) in nats over rows; or Σ ‖a - b‖² / Σ ‖a‖² over rows a and b.
  double value = 0;
  double standard_error = 0;  ///< of a mean, taking rows as independent; NaN for other measures
};

/// The outputs of a reference model on a sample, and how far those of others lie from them. Holds at most about 64 MiB
/// of reference outputs: of models that give logits for each token, every k-th token is looked at if need be.
class OutputComparison {
 public:
  struct Sums {
    double sum = 0, squares = 0, reference = 0;
    int64_t rows = 0;
  };

  /// `directory` of the reference says how sentence vectors are made. Work outside the models is done on `threads`
  /// threads (0: all).
  OutputComparison(const std::filesystem::path& directory, const ModelInfo& info, TextSample sample, int threads = 0);

  const TextSample& sample() const noexcept { return sample_; }
  OutputMeasure measure() const noexcept { return measure_; }
  int64_t rows() const noexcept { return rows_; }  ///< that are compared

  /// Keeps the outputs that follow from the reference's last hidden states x of a batch, which the head may change.
  void set_reference(const Model& model, Context& context, size_t batch, const DeviceBatch& on_device,
                     const Activation& x);
  /// Adds those of another model.
  void add(const Model& model, Context& context, size_t batch, const DeviceBatch& on_device, const Activation& x,
           Sums& sums) const;
  /// Throws NumericError where outputs held NaN or infinity, naming `what` they were of.
  Divergence divergence(const Sums& sums, const std::string& what) const;

  /// Whole models.
  void set_reference(Session& session);
  Divergence compare(Session& session, const std::string& what) const;

 private:
  /// Hands on the outputs row by row, some rows at a time: visit(first row, rows).
  void visit(const Model& model, Context& context, const DeviceBatch& on_device, const Activation& x,
             const std::function<void(int64_t first, std::span<const float> rows)>& visit) const;

  TextSample sample_;
  SentenceConfig sentence_;
  OutputMeasure measure_ = OutputMeasure::kDistributions;
  int threads_;
  int64_t columns_ = 0, every_ = 1, rows_ = 0;
  bool a_row_a_sequence_ = false;
  std::vector<std::vector<float>> reference_;  ///< of each batch [rows, columns]
};

/// The whole of such a pass: embed, blocks, then `use(batch, device batch, last hidden states)`.
void for_each_batch(const Model& model, Context& context, const TextSample& sample,
                    const std::function<void(size_t batch, const DeviceBatch& on_device, const Activation& x)>& use);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/nn/context.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// Some rows of a Trainable, or elements of one that is a vector, which are a tensor of the checkpoint.
struct TrainedRows {
  std::string tensor;  ///< "encoder.layer.0.attention.self.query.weight"
  int64_t first = 0, rows = 0;
  bool in_out = false;  ///< the checkpoint stores it as [in, out]
};

/// A matrix that training changes, [rows, cols] in a backend's memory, and its fp32 gradient; a vector has one row, as
/// a matrix may. Values are fp32, or of matrices fp16 or bf16. The weights of layers that run as one product are one
/// matrix.
class Trainable {
 public:
  enum class Kind : uint8_t {
    kMatrix,  ///< weight decay applies to it
    kVector,
    kClip,  ///< the largest value that static activations tell apart (see ClipGradientOp), [1, 1], or both ends of
            ///< UINT8, [1, 2]; or those of a weight, one for each scale: no tensor of the checkpoint
  };

  /// The gradient is zero.
  Trainable(Backend& backend, std::vector<TrainedRows> parts, std::span<const float> values, int64_t cols, Kind kind,
            DType dtype = DType::kF32);

  const std::vector<TrainedRows>& parts() const noexcept { return parts_; }
  int64_t rows() const noexcept { return rows_; }
  int64_t cols() const noexcept { return cols_; }
  int64_t elements() const noexcept { return rows_ * cols_; }
  bool decays() const noexcept { return kind_ == Kind::kMatrix; }
  bool is_clip() const noexcept { return kind_ == Kind::kClip; }

  DeviceTable values() const noexcept { return {values_.span(), dtype_, rows_, cols_}; }
  Activation gradient() const noexcept { return {gradient_.span(), rows_, cols_, cols_}; }
  void zero_gradient(Backend& backend) const;
  std::vector<float> download(Backend& backend) const;
  /// Other values, rounded to what they are stored as.
  void upload(Backend& backend, std::span<const float> values) const;
  /// The part's own of all values, or of all of the gradient.
  std::span<const float> own(const TrainedRows& part, std::span<const float> all) const;

 private:
  std::vector<TrainedRows> parts_;
  int64_t rows_, cols_;
  Kind kind_;
  DType dtype_;
  DeviceMemory values_, gradient_;
};

/// How layers train that are to be quantized (quantization-aware training: Jacob et al., 2018).
struct QuantizedTraining {
  enum class Clips : uint8_t {
    kFixed,  ///< static ranges stay as calibration found them
    kPact,   ///< they learn from what they cut off (Choi et al., 2018), both ends alike
    kLsq,    ///< and from what they do to the steps (Esser et al., 2020), by a gradient scaled as there
  };

  Clips clips = Clips::kFixed;
  /// Ranges of weights learn too (see WeightClips), by kLsq's gradient; else they are found anew at each step.
  bool learns_weight_clips = false;
  /// Products of rounded values in fp32 in the place of the integer ones: for comparison, not for the same bits.
  bool simulated = false;
};

/// All that training changes of a model, in the order of the forward pass.
class Trainables {
 public:
  /// `matrices`: what their values are stored as, kF32, kF16 or kBF16.
  explicit Trainables(Backend& backend, const QuantizedTraining& quantized = {}, DType matrices = DType::kF32)
      : quantized_(quantized), matrices_(matrices), backend_(&backend) {}

  const QuantizedTraining& quantized() const noexcept { return quantized_; }

  Backend& backend() const noexcept { return *backend_; }
  Trainable& add(std::vector<TrainedRows> parts, std::span<const float> values, int64_t cols, Trainable::Kind kind);
  const std::vector<std::unique_ptr<Trainable>>& all() const noexcept { return all_; }
  /// A clip of the site.
  Trainable& add_clip(const std::string& site, std::span<const float> values);
  /// `completes` is called when the gradients of weights are whole, to make others of them.
  void add_completion(std::function<void()> completes) { completions_.push_back(std::move(completes)); }
  /// All gradients are there after this: once a step, after the last backward pass.
  void complete_gradients() const {
    for (const auto& completes : completions_) completes();
  }
  /// The one that holds a tensor, or null.
  Trainable* find(std::string_view tensor) const;
  int64_t bytes() const noexcept;  ///< of values and gradients

 private:
  QuantizedTraining quantized_;
  DType matrices_;
  Backend* backend_;
  std::vector<std::unique_ptr<Trainable>> all_;
  std::vector<std::function<void()>> completions_;
};

/// What a forward pass in training needs besides a Context: where it keeps what its backward pass reads.
struct Training {
  Context& context;
  /// Of what is kept until the backward pass has read it.
  Workspace& kept;
  float dropout = 0;            ///< of hidden states, and of embeddings
  float attention_dropout = 0;  ///< of the weights that softmax gives
  uint64_t seed = 0;            ///< of dropout
  uint32_t step = 0;            ///< of the optimizer: each draws other masks
  uint32_t streams = 0;         ///< dropouts that were met in this pass: each has its own
  /// Of a block only its input is kept; backward runs it forward again (Chen et al., 2016), to the same bits.
  bool recomputes_blocks = false;
  /// Of a model whose output is a row a token: the tokens whose rows are wanted, ascending; none: all.
  std::span<const int32_t> output_rows = {};
  /// Where they are set, for losses of hidden states: forward shows those that the embedding (0) and each block (1 +
  /// its index) gives, and backward asks that their own gradient be added to d, what the rest of the model gives for
  /// them.
  std::function<void(int64_t piece, const Activation& x)> after_piece = {};
  std::function<void(int64_t piece, const Activation& d)> add_gradient = {};

  /// The pass's dropout of that number.
  Dropout dropout_of(float probability, uint32_t stream) const { return {probability, seed, step, stream}; }
};

}  // namespace octet

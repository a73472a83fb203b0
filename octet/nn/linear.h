// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "octet/nn/context.h"
#include "octet/nn/parameter.h"
#include "octet/nn/trainable.h"
#include "octet/nn/weight_clips.h"

namespace octet {

/// One or several linear layers that read the same input, their outputs side by side (a fusible group: query, key and
/// value). Parts of one scheme, one order of columns and the same outliers, that are neighbours, run as one product.
///
///   y = nonlinearity(x · Wᵀ + bias) + residual          x [T, in], y [T, Σ outᵢ]
///
/// Both are fp32, or x holds input_codes(), and y those of the layer that reads it.
class Linear {
 public:
  struct Part {
    Parameter weight;            ///< [outᵢ, in]
    std::optional<Tensor> bias;  ///< [outᵢ], any float dtype
  };

  /// All parts must have the same `in`; throws ShapeError otherwise. Adds its site to `sites`.
  Linear(std::vector<Part> parts, QuantSites& sites);

  int64_t inputs() const noexcept { return inputs_; }
  int64_t outputs() const noexcept { return outputs_; }
  const QuantSite& site() const noexcept { return site_; }
  /// Names, schemes and, until prepare, values.
  const std::vector<Part>& parts() const noexcept { return parts_; }
  /// The same, to be given other values, schemes or biases of the same shapes before it is laid out: float activations
  /// only, for what the site reads stays as it was.
  std::vector<Part>& parts() noexcept { return parts_; }

  /// Lays the weights out for `backend`, unless they are. Sources are let go of: codes are dropped (packing is
  /// invertible), mapped pages released, so that nothing but the packed form stays in memory; or they are kept.
  void prepare(Backend& backend, Sources sources = Sources::kLetGo);
  /// Drops the packed form; what was kept can be laid out again.
  void release() noexcept;
  /// The packed weight of a layer that is one product, for an embedding that shares it. Good once prepared.
  const PackedWeight& packed() const;
  /// What its x may hold in place of fp32, so that whoever makes x makes the codes too: of static activations, where
  /// all parts agree on them and none has outliers, which read fp32. Good once prepared.
  std::optional<StaticCodes> input_codes() const;
  /// Bytes of the packed weights and biases; 0 before prepare.
  int64_t packed_bytes() const noexcept;

  void forward(Context& context, const Activation& x, const Activation& y,
               Nonlinearity nonlinearity = Nonlinearity::kNone,
               std::optional<Activation> residual = std::nullopt) const;
  /// The same of rows of x that are normalized first, if `normalize` says how.
  void forward(Context& context, const std::optional<NormalizeRows>& normalize, const Activation& x,
               const Activation& y, Nonlinearity nonlinearity = Nonlinearity::kNone) const;

  /// From now on weights and biases are what training changes, laid out anew by lay_out_trained. `tied`: the matrix of
  /// an embedding that is this layer's weight, or null for one of its own. Parts with schemes, which must have the
  /// same, are quantized whenever they are laid out, and multiplied as they will be when they are served; gradients
  /// pass straight through what rounds. The range of a static input, and those of weights, are trained too, if `all`
  /// says so. It may not move any more then.
  void train(Trainables& all, Trainable* tied = nullptr);
  /// Weights and biases are its own again, as they were before, and not laid out.
  void stop_training() noexcept;
  /// What an optimizer's step has changed.
  void lay_out_trained(Backend& backend);
  /// dx, that of the x which forward read, from dy, that of x · Wᵀ + bias, written or added to unless there is none;
  /// gradients of weights and biases are added to theirs.
  void backward(Context& context, const Activation& x, const Activation& dy, const std::optional<Activation>& dx,
                bool adds) const;

 private:
  /// Neighbouring parts of one scheme, one order of columns and the same outliers, and of one scale of their input if
  /// that is static.
  struct Product {
    int64_t first_column, columns;
    ActivationScale input;
    std::unique_ptr<PackedWeight> weight;
  };

  /// What training needs of a layer that is quantized.
  struct Quantized {
    Scheme scheme;
    ActivationScale input;      ///< as it was given
    Trainable* clip = nullptr;  ///< where it is learned
    std::optional<WeightClips> weight_clips;
    DeviceMemory weight;  ///< fp32 [outputs, inputs]: what the codes stand for
    bool simulated = false;
    QuantizedTraining::Clips clips = QuantizedTraining::Clips::kFixed;
  };

  void train_quantized(Trainables& all);
  void lay_out_quantized(Backend& backend);
  void add_gradient_of_clips(Backend& backend) const;
  Activation rounded(Context& context, const Activation& x) const;
  void multiply_by_trained(Context& context, const Activation& dy, const Activation& dx, bool adds) const;
  void backward_input(Context& context, const Activation& x, const Activation& dy, const Activation& dx,
                      bool adds) const;
  ActivationScale input_scale() const noexcept { return products_.front().input; }
  void multiply(Context& context, const std::optional<NormalizeRows>& normalize, const Activation& x,
                const Activation& y, Nonlinearity nonlinearity, const std::optional<Activation>& residual) const;
  DeviceSpan bias() const noexcept { return trained_bias_ != nullptr ? trained_bias_->values().memory : bias_.span(); }
  Product pack(Backend& backend, std::span<Part> parts, int64_t first_column, Sources sources);

  std::vector<Part> parts_;
  int64_t inputs_ = 0, outputs_ = 0;
  QuantSite site_;
  std::vector<Product> products_;
  DeviceMemory bias_;  ///< [Σ outᵢ] fp32, zeros where a part has none
  Trainable *trained_weight_ = nullptr, *trained_bias_ = nullptr;
  std::unique_ptr<Quantized> quantized_;  ///< null: trained in float
};

}  // namespace octet

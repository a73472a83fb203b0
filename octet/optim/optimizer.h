// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "octet/nn/trainable.h"

namespace octet {

/// Changes parameters by their gradients.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// One step with the gradients as they are, times `gradient_factor`; their values stay.
  virtual void step(double rate, double gradient_factor) = 0;
  int64_t steps() const noexcept { return steps_; }

  /// A vector of each parameter's state, by names that are the same in every run.
  struct State {
    std::string name;  ///< "m", "v", or of 16 bits "root_v"
    size_t parameter = 0;
    DType dtype = DType::kF32;
    DeviceSpan memory;
  };
  virtual std::vector<State> states() const = 0;
  /// Goes on after so many steps, once the states have been uploaded.
  void set_steps(int64_t steps) noexcept { steps_ = steps; }

 protected:
  int64_t steps_ = 0;
};

/// What clips of activations have for themselves (see Trainable::is_clip).
struct ClipOptions {
  double rate_factor = 1;  ///< on the learning rate
  double decay = 0;
};

/// How moments are stored (see UpdateStorage): those of matrices as `dtype`, kF32, kF16 or kBF16, all others as fp32.
struct MomentOptions {
  DType dtype = DType::kF32;
  uint64_t seed = 0;  ///< of what rounds moments and weights of 16 bits
};

struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  ClipOptions clips = {};
  MomentOptions moments = {};
};

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), which biases and normalizations do not have.
std::unique_ptr<Optimizer> make_adamw(const Trainables& parameters, const AdamwOptions& options);

struct SgdOptions {
  double momentum = 0.9, weight_decay = 0;
  ClipOptions clips = {};
  MomentOptions moments = {};
};

/// Stochastic gradient descent with momentum.
std::unique_ptr<Optimizer> make_sgd(const Trainables& parameters, const SgdOptions& options);

/// √Σ g² over all gradients, in double in a fixed order.
double gradient_norm(const Trainables& parameters);

}  // namespace octet

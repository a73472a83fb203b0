// SPDX-License-Identifier: Apache-2.0
#include "octet/optim/optimizer.h"

#include <cmath>

namespace octet {
namespace {

// A zeroed vector for every parameter.
std::vector<DeviceMemory> zeros(const Trainables& parameters) {
  std::vector<DeviceMemory> all;
  for (const std::unique_ptr<Trainable>& parameter : parameters.all()) {
    const DeviceMemory& memory = all.emplace_back(parameters.backend(), parameter->elements() * int64_t{sizeof(float)});
    parameters.backend().fill_zero(memory.span());
  }
  return all;
}

void add_states(const char* name, const std::vector<DeviceMemory>& memories, std::vector<Optimizer::State>& states) {
  for (size_t i = 0; i < memories.size(); ++i) states.push_back({name, i, memories[i].span()});
}

// What a parameter's step has: the rate, and the decay of values of its kind.
struct Kind {
  float rate, decay;
};

Kind kind_of(const Trainable& parameter, double rate, double weight_decay, const ClipOptions& clips) {
  if (parameter.is_clip()) return {static_cast<float>(rate * clips.rate_factor), static_cast<float>(clips.decay)};
  return {static_cast<float>(rate), parameter.decays() ? static_cast<float>(weight_decay) : 0.0f};
}

class Adamw final : public Optimizer {
 public:
  Adamw(const Trainables& parameters, const AdamwOptions& options)
      : parameters_(parameters), options_(options), m_(zeros(parameters)), v_(zeros(parameters)) {}

  void step(double rate, double gradient_factor) override {
    ++steps_;
    const auto t = static_cast<double>(steps_);
    for (size_t i = 0; i < m_.size(); ++i) {
      const Trainable& parameter = *parameters_.all()[i];
      const Kind kind = kind_of(parameter, rate, options_.weight_decay, options_.clips);
      parameters_.backend().adamw({.weights = parameter.values().memory,
                                   .gradient = parameter.gradient().memory,
                                   .m = m_[i].span(),
                                   .v = v_[i].span(),
                                   .count = parameter.elements(),
                                   .rate = kind.rate,
                                   .beta1 = static_cast<float>(options_.beta1),
                                   .beta2 = static_cast<float>(options_.beta2),
                                   .eps = static_cast<float>(options_.eps),
                                   .decay = kind.decay,
                                   .correction1 = static_cast<float>(1 - std::pow(options_.beta1, t)),
                                   .correction2 = static_cast<float>(1 - std::pow(options_.beta2, t)),
                                   .gradient_factor = static_cast<float>(gradient_factor)});
    }
  }

  std::vector<State> states() const override {
    std::vector<State> all;
    add_states("m", m_, all);
    add_states("v", v_, all);
    return all;
  }

 private:
  const Trainables& parameters_;
  AdamwOptions options_;
  std::vector<DeviceMemory> m_, v_;
};

class Sgd final : public Optimizer {
 public:
  Sgd(const Trainables& parameters, const SgdOptions& options)
      : parameters_(parameters), options_(options), v_(zeros(parameters)) {}

  void step(double rate, double gradient_factor) override {
    ++steps_;
    for (size_t i = 0; i < v_.size(); ++i) {
      const Trainable& parameter = *parameters_.all()[i];
      const Kind kind = kind_of(parameter, rate, options_.weight_decay, options_.clips);
      parameters_.backend().sgd({.weights = parameter.values().memory,
                                 .gradient = parameter.gradient().memory,
                                 .v = v_[i].span(),
                                 .count = parameter.elements(),
                                 .rate = kind.rate,
                                 .momentum = static_cast<float>(options_.momentum),
                                 .decay = kind.decay,
                                 .gradient_factor = static_cast<float>(gradient_factor)});
    }
  }

  std::vector<State> states() const override {
    std::vector<State> all;
    add_states("v", v_, all);
    return all;
  }

 private:
  const Trainables& parameters_;
  SgdOptions options_;
  std::vector<DeviceMemory> v_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const Trainables& parameters, const AdamwOptions& options) {
  return std::make_unique<Adamw>(parameters, options);
}

std::unique_ptr<Optimizer> make_sgd(const Trainables& parameters, const SgdOptions& options) {
  return std::make_unique<Sgd>(parameters, options);
}

double gradient_norm(const Trainables& parameters) {
  double sum = 0;
  for (const std::unique_ptr<Trainable>& parameter : parameters.all())
    sum += parameters.backend().squared_norm(parameter->gradient().memory, parameter->elements());
  return std::sqrt(sum);
}

}  // namespace octet

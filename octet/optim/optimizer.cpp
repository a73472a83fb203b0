// SPDX-License-Identifier: Apache-2.0
#include "octet/optim/optimizer.h"

#include <cmath>

namespace octet {
namespace {

// A zeroed vector for every parameter.
class Moments {
 public:
  Moments(const Trainables& parameters, DType of_matrices) {
    for (const std::unique_ptr<Trainable>& parameter : parameters.all()) {
      dtypes_.push_back(parameter->decays() ? of_matrices : DType::kF32);
      const DeviceMemory& memory =
          memories_.emplace_back(parameters.backend(), parameter->elements() * byte_size(dtypes_.back()));
      parameters.backend().fill_zero(memory.span());
    }
  }

  size_t size() const { return memories_.size(); }
  DType dtype(size_t i) const { return dtypes_[i]; }
  DeviceSpan operator[](size_t i) const { return memories_[i].span(); }

  void add_to(std::vector<Optimizer::State>& states, const std::string& name, const std::string& in_16_bits) const {
    for (size_t i = 0; i < size(); ++i)
      states.push_back({dtypes_[i] == DType::kF32 ? name : in_16_bits, i, dtypes_[i], memories_[i].span()});
  }

 private:
  std::vector<DType> dtypes_;
  std::vector<DeviceMemory> memories_;
};

// Streams of dropout begin at 0; a step's rounding draws from the other end.
constexpr uint32_t kRoundingStreams = 1u << 29;

UpdateStorage storage_of(const Trainable& parameter, DType moments, size_t index, int64_t step, uint64_t seed) {
  return {.weights = parameter.values().dtype,
          .moments = moments,
          .seed = seed,
          .step = static_cast<uint32_t>(step),
          .stream = kRoundingStreams + static_cast<uint32_t>(index)};
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
      : parameters_(parameters),
        options_(options),
        m_(parameters, options.moments.dtype),
        v_(parameters, options.moments.dtype) {}

  void step(double rate, double gradient_factor) override {
    ++steps_;
    const auto t = static_cast<double>(steps_);
    for (size_t i = 0; i < m_.size(); ++i) {
      const Trainable& parameter = *parameters_.all()[i];
      const Kind kind = kind_of(parameter, rate, options_.weight_decay, options_.clips);
      parameters_.backend().adamw({.weights = parameter.values().memory,
                                   .gradient = parameter.gradient().memory,
                                   .m = m_[i],
                                   .v = v_[i],
                                   .count = parameter.elements(),
                                   .rate = kind.rate,
                                   .beta1 = static_cast<float>(options_.beta1),
                                   .beta2 = static_cast<float>(options_.beta2),
                                   .eps = static_cast<float>(options_.eps),
                                   .decay = kind.decay,
                                   .correction1 = static_cast<float>(1 - std::pow(options_.beta1, t)),
                                   .correction2 = static_cast<float>(1 - std::pow(options_.beta2, t)),
                                   .gradient_factor = static_cast<float>(gradient_factor),
                                   .storage = storage_of(parameter, m_.dtype(i), i, steps_, options_.moments.seed)});
    }
  }

  std::vector<State> states() const override {
    std::vector<State> all;
    m_.add_to(all, "m", "m");
    v_.add_to(all, "v", "root_v");
    return all;
  }

 private:
  const Trainables& parameters_;
  AdamwOptions options_;
  Moments m_, v_;
};

class Sgd final : public Optimizer {
 public:
  Sgd(const Trainables& parameters, const SgdOptions& options)
      : parameters_(parameters), options_(options), v_(parameters, options.moments.dtype) {}

  void step(double rate, double gradient_factor) override {
    ++steps_;
    for (size_t i = 0; i < v_.size(); ++i) {
      const Trainable& parameter = *parameters_.all()[i];
      const Kind kind = kind_of(parameter, rate, options_.weight_decay, options_.clips);
      parameters_.backend().sgd({.weights = parameter.values().memory,
                                 .gradient = parameter.gradient().memory,
                                 .v = v_[i],
                                 .count = parameter.elements(),
                                 .rate = kind.rate,
                                 .momentum = static_cast<float>(options_.momentum),
                                 .decay = kind.decay,
                                 .gradient_factor = static_cast<float>(gradient_factor),
                                 .storage = storage_of(parameter, v_.dtype(i), i, steps_, options_.moments.seed)});
    }
  }

  std::vector<State> states() const override {
    std::vector<State> all;
    v_.add_to(all, "v", "v");
    return all;
  }

 private:
  const Trainables& parameters_;
  SgdOptions options_;
  Moments v_;
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

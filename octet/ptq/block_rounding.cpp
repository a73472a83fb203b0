// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/block_rounding.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/log.h"
#include "octet/base/parallel.h"
#include "octet/nn/trainable.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

// Of AdaRound. The ends of h(v) are reached, not only approached.
constexpr double kStretch = 1.2, kBelow = 0.1;
constexpr double kFirstExponent = 20, kLastExponent = 2, kWarmUp = 0.2;
constexpr double kSoftRate = 0.05;
constexpr int64_t kTaskWeights = 1 << 14;

double sigmoid(double v) noexcept {
  const double small = exp_of_nonpositive(v < 0 ? v : -v);
  return (v < 0 ? small : 1.0) / (1.0 + small);
}

// x^power for x in [0, 1].
double power_of(double x, double power) noexcept {
  return x > 0 ? exp_of_nonpositive(power * log_of_positive(x)) : 0.0;
}

// How far learning is.
struct Step {
  int64_t number = 1;
  float rate = 0;
  double pull = 0, power = 0;  // of AdaRound: pull · (1 - |2h - 1|^power) makes h(v) 0 or 1
};

// The weights of a layer while their rounding is learned.
class LayerRounding {
 public:
  LayerRounding(Backend& backend, const Trainable& weight, const TrainedRows& rows, const WeightScheme& scheme,
                std::string layer, bool soft)
      : backend_(backend), weight_(weight), rows_(rows), layer_(std::move(layer)), soft_(soft) {
    const std::vector<float> all = weight.download(backend);
    const std::span<const float> own = weight.own(rows, all);
    nearest_ =
        quantize_weight({DType::kF32, {rows.rows, weight.cols()}, reinterpret_cast<const std::byte*>(own.data())},
                        scheme, layer_, backend.threads());
    range_ = chosen_codes(scheme);
    floor_.resize(own.size());
    v_.resize(own.size());
    for_weights([&](size_t i, const GroupGrid& grid) {
      const double t = (double{own[i]} - grid.minimum) / grid.scale + grid.zero_point;
      // Beyond the codes both neighbours are the last one.
      const double down = std::clamp(std::floor(t), range_.lowest - 1.0, double{1} * range_.highest);
      floor_[i] = static_cast<int16_t>(down);
      const double above = std::clamp(t - down, 0.0, 1.0), share = (above + kBelow) / kStretch;
      v_[i] = static_cast<float>(soft ? log_of_positive(share / (1 - share)) : above - 0.5);
    });
    if (!soft) return;
    for (DeviceMemory* memory : {&on_device_, &gradient_, &mean_, &mean_square_}) {
      *memory = DeviceMemory(backend, weights() * int64_t{sizeof(float)});
      backend.fill_zero(memory->span());
    }
    backend.upload(std::as_bytes(std::span(v_)), on_device_.span());
  }

  const std::string& layer() const noexcept { return layer_; }
  int64_t weights() const noexcept { return std::ssize(floor_); }
  const QTensor& nearest() const noexcept { return nearest_; }

  /// What the codes that are being learned stand for, in its rows of `all`.
  void write_values(std::span<float> all) const {
    const std::span<float> own = rows_of(all);
    for_weights([&](size_t i, const GroupGrid& grid) {
      const double code =
          std::clamp(floor_[i] + rounding(v_[i]).up, double{1} * range_.lowest, double{1} * range_.highest);
      own[i] = static_cast<float>((code - grid.zero_point) * grid.scale + grid.minimum);
    });
  }

  /// By the gradient `all` of the matrix that its rows are in; these are lost.
  void step(const Step& step, std::span<float> all) {
    const std::span<float> gradient = rows_of(all);
    for_weights([&](size_t i, const GroupGrid& grid) {
      const bool between = floor_[i] >= range_.lowest && floor_[i] < range_.highest;
      const double of_code = between ? double{gradient[i]} * grid.scale : 0.0;
      if (soft_) {
        gradient[i] = static_cast<float>(soft_gradient(of_code, v_[i], step));
      } else {
        v_[i] -= of_code > 0 ? step.rate : of_code < 0 ? -step.rate : 0.0f;
      }
    });
    if (!soft_) return;
    backend_.upload(std::as_bytes(std::span<const float>(gradient)), gradient_.span());
    AdamwOp adam{.weights = on_device_.span(),
                 .gradient = gradient_.span(),
                 .m = mean_.span(),
                 .v = mean_square_.span(),
                 .count = weights(),
                 .rate = step.rate};
    adam.correction1 = static_cast<float>(1 - std::pow(adam.beta1, static_cast<double>(step.number)));
    adam.correction2 = static_cast<float>(1 - std::pow(adam.beta2, static_cast<double>(step.number)));
    backend_.adamw(adam);
    backend_.download(on_device_.span(), std::as_writable_bytes(std::span(v_)));
  }

  QTensor learned() const {
    QTensor out = copy_of(nearest_);
    const std::span<int8_t> codes = out.codes.mutable_as<int8_t>();
    for (size_t i = 0; i < codes.size(); ++i) {
      const int up = rounding(v_[i]).up >= 0.5 ? 1 : 0;
      codes[i] = static_cast<int8_t>(std::clamp(floor_[i] + up, range_.lowest, range_.highest));
    }
    return out;
  }

  std::span<float> rows_of(std::span<float> all) const {
    return all.subspan(static_cast<size_t>(rows_.first * weight_.cols()),
                       static_cast<size_t>(rows_.rows * weight_.cols()));
  }

 private:
  struct Rounding {
    double up, slope;  // h(v) and dh / dv
  };

  Rounding rounding(float v) const noexcept {
    if (!soft_) return {v >= 0 ? 1.0 : 0.0, 1};
    const double share = sigmoid(v), stretched = kStretch * share - kBelow;
    if (stretched <= 0) return {0, 0};
    if (stretched >= 1) return {1, 0};
    return {stretched, kStretch * share * (1 - share)};
  }

  double soft_gradient(double of_code, float v, const Step& step) const noexcept {
    const Rounding h = rounding(v);
    if (step.pull > 0) {
      const double off = 2 * h.up - 1, slope = 2 * step.power * power_of(std::abs(off), step.power - 1);
      of_code -= step.pull * (off < 0 ? -slope : slope);
    }
    return of_code * h.slope;
  }

  // body(index, grid of its group) for all, in parallel.
  template <class Body>
  void for_weights(const Body& body) const {
    const int64_t cols = weight_.cols(), groups = nearest_.scheme.groups(cols), width = cols / groups;
    const int64_t rows_at_once = std::max<int64_t>(1, kTaskWeights / cols);
    parallel_for(backend_.threads(), (rows_.rows + rows_at_once - 1) / rows_at_once, [&](int64_t task, int) {
      const int64_t end = std::min(rows_.rows, (task + 1) * rows_at_once);
      for (int64_t row = task * rows_at_once; row < end; ++row) {
        for (int64_t group = 0; group < groups; ++group) {
          const GroupGrid grid = group_grid(nearest_, row, group);
          const int64_t first = row * cols + group * width;
          for (int64_t i = first; i < first + width; ++i) body(static_cast<size_t>(i), grid);
        }
      }
    });
  }

  Backend& backend_;
  const Trainable& weight_;
  TrainedRows rows_;
  std::string layer_;
  QTensor nearest_;
  std::vector<int16_t> floor_;  // ⌊t⌋, from lowest - 1 to highest
  std::vector<float> v_;
  CodeRange range_ = {};
  bool soft_;
  DeviceMemory on_device_, gradient_, mean_, mean_square_;  // of AdaRound: v again, and what Adam knows of it
};

// A block in training, and what it is to give.
class Reconstruction {
 public:
  Reconstruction(Model& model, Backend& backend, int64_t block, const TokenBatch& samples, const BlockStates& states,
                 int64_t batch_size)
      : model_(model),
        backend_(backend),
        block_(block),
        states_(states),
        width_(std::ssize(states.inputs) / std::max<int64_t>(1, samples.tokens())),
        all_(backend),
        workspace_(backend),
        kept_(backend) {
    model.train_block(block, all_);
    for (int64_t first = 0; first < samples.sequences(); first += batch_size) {
      batches_.push_back(samples.slice(first, std::min(samples.sequences(), first + batch_size)));
      first_rows_.push_back(samples.offsets[static_cast<size_t>(first)]);
    }
    for (size_t i = 0; i < states.inputs.size(); ++i)
      added_ += std::pow(double{states.targets[i]} - double{states.inputs[i]}, 2);
  }
  ~Reconstruction() { model_.stop_training_block(block_); }
  Reconstruction(const Reconstruction&) = delete;
  Reconstruction& operator=(const Reconstruction&) = delete;

  Trainables& trainables() noexcept { return all_; }
  int64_t batches() const noexcept { return std::ssize(batches_); }
  int64_t samples_in(int64_t batch) const { return batches_[static_cast<size_t>(batch)].sequences(); }
  int64_t values_in(int64_t batch) const { return batches_[static_cast<size_t>(batch)].tokens() * width_; }
  /// ‖y₀ - x‖².
  double added() const noexcept { return added_; }

  /// To be called when weights have changed.
  void lay_out() {
    for (Linear* linear : model_.piece(1 + block_).linears) linear->lay_out_trained(backend_);
  }

  /// ‖y - y₀‖² of a batch; with a factor, gradients of factor · that.
  double error(int64_t batch, std::optional<float> factor) {
    double sum = 0;
    const auto index = static_cast<size_t>(batch);
    if (factor) {
      for (const auto& trainable : all_.all()) trainable->zero_gradient(backend_);
    }
    run(index, [&](Training& training, const DeviceBatch& on_device, const TrainingPass& pass) {
      Workspace& workspace = training.context.workspace;
      const Activation target = workspace.take_matrix(pass.output.rows, pass.output.cols);
      backend_.upload(std::as_bytes(rows_of(states_.targets, index)), target.memory);
      const Activation losses = workspace.take_matrix(1, pass.output.rows);
      backend_.squared_error(
          {.x = pass.output, .target = target, .factor = factor.value_or(0.0f), .losses = losses.memory, .dx = target});
      std::vector<float> sums(static_cast<size_t>(pass.output.rows));
      backend_.download(losses, sums);
      sum = std::accumulate(sums.begin(), sums.end(), 0.0);
      if (factor) model_.backward_block(training, block_, on_device, pass, target);
    });
    return sum;
  }

  double error_of_all() {
    double sum = 0;
    for (int64_t batch = 0; batch < batches(); ++batch) sum += error(batch, std::nullopt);
    return sum;
  }

 private:
  std::span<const float> rows_of(std::span<const float> all, size_t batch) const {
    return all.subspan(static_cast<size_t>(first_rows_[batch] * width_),
                       static_cast<size_t>(batches_[batch].tokens() * width_));
  }

  // use(training, batch, pass) after a forward pass.
  template <class Use>
  void run(size_t index, const Use& use) {
    const Workspace::Scope scope(workspace_), keeping(kept_);
    Context context{backend_, workspace_};
    Training training{.context = context, .kept = kept_};
    const DeviceBatch on_device = upload(context, batches_[index]);
    const Activation x = workspace_.take_matrix(batches_[index].tokens(), width_);
    backend_.upload(std::as_bytes(rows_of(states_.inputs, index)), x.memory);
    const std::unique_ptr<TrainingPass> pass = model_.run_block(training, block_, on_device, x);
    use(training, on_device, *pass);
  }

  Model& model_;
  Backend& backend_;
  int64_t block_;
  BlockStates states_;
  int64_t width_;
  Trainables all_;
  Workspace workspace_, kept_;
  std::vector<TokenBatch> batches_;
  std::vector<int64_t> first_rows_;
  double added_ = 0;
};

}  // namespace

LearnedRounding learn_rounding(Model& model, Backend& backend, int64_t block, const TokenBatch& samples,
                               const BlockStates& states, const std::map<std::string, WeightScheme>& schemes,
                               WeightAlgorithm algorithm, const RoundingOptions& options,
                               const std::function<void(int64_t samples)>& advance) {
  const bool soft = algorithm == WeightAlgorithm::kAdaRound;
  Reconstruction reconstruction(model, backend, block, samples, states, options.batch_size);
  std::map<const Trainable*, std::vector<LayerRounding>> layers;
  int64_t weights = 0;
  for (const auto& [layer, scheme] : schemes) {
    const Trainable* trainable = reconstruction.trainables().find(layer + ".weight");
    if (trainable == nullptr) fail("layer '{}' is not in block {}", layer, block);
    const auto rows = std::ranges::find(trainable->parts(), layer + ".weight", &TrainedRows::tensor);
    const LayerRounding& added = layers[trainable].emplace_back(backend, *trainable, *rows, scheme, layer, soft);
    weights += added.weights();
  }
  // Rows of float layers beside them stay as they are.
  std::map<const Trainable*, std::vector<float>> floats;
  for (const auto& [trainable, own] : layers) floats[trainable] = trainable->download(backend);
  const auto set = [&](const auto& write) {
    for (const auto& [trainable, own] : layers) {
      std::vector<float> values = floats.at(trainable);
      for (const LayerRounding& layer : own) write(layer, std::span(values));
      trainable->upload(backend, values);
    }
    reconstruction.lay_out();
  };
  const auto set_codes = [&](const std::map<std::string, QTensor>& codes) {
    set([&](const LayerRounding& layer, std::span<float> values) {
      const Tensor rounded = dequantize(codes.at(layer.layer()));
      std::ranges::copy(rounded.as<float>(), layer.rows_of(values).begin());
    });
  };

  std::map<std::string, QTensor> nearest, learned;
  for (const auto& [trainable, own] : layers) {
    for (const LayerRounding& layer : own) nearest.emplace(layer.layer(), copy_of(layer.nearest()));
  }
  LearnedRounding out;
  const double added = std::max(reconstruction.added(), 1e-300);
  set_codes(nearest);
  const double of_nearest = reconstruction.error_of_all();
  out.nearest_error = out.error = of_nearest / added;
  out.weights = std::move(nearest);
  if (of_nearest == 0) return out;

  const double of_value = of_nearest / static_cast<double>(std::ssize(states.inputs));
  const auto steps = static_cast<double>(options.iterations);
  const double rate = options.learning_rate.value_or(soft ? kSoftRate : 1 / steps);
  for (int64_t step = 0; step < options.iterations; ++step) {
    set([](const LayerRounding& layer, std::span<float> values) { layer.write_values(values); });
    const int64_t batch = step % reconstruction.batches();
    const double values = static_cast<double>(reconstruction.values_in(batch));
    reconstruction.error(batch, static_cast<float>(1 / (values * of_value)));
    const double done = static_cast<double>(step) / steps;
    const double cooled = std::max(0.0, (done - kWarmUp) / (1 - kWarmUp));
    const Step now{.number = step + 1,
                   .rate = static_cast<float>(soft ? rate : rate * (1 - done)),
                   .pull = done < kWarmUp ? 0 : options.round_weight / static_cast<double>(weights),
                   .power = kLastExponent + (kFirstExponent - kLastExponent) * (1 - cooled)};
    for (auto& [trainable, own] : layers) {
      std::vector<float> gradient(static_cast<size_t>(trainable->elements()));
      backend.download(trainable->gradient(), gradient);
      for (LayerRounding& layer : own) layer.step(now, gradient);
    }
    advance(reconstruction.samples_in(batch));
  }
  for (const auto& [trainable, own] : layers) {
    for (const LayerRounding& layer : own) learned.emplace(layer.layer(), layer.learned());
  }
  set_codes(learned);
  if (const double error = reconstruction.error_of_all() / added; error < out.error) {
    out.error = error;
    out.weights = std::move(learned);
  }
  return out;
}

}  // namespace octet

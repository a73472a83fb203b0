// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <optional>

#include "octet/backend/forwarding.h"
#include "octet/base/error.h"
#include "octet/base/finite.h"
#include "octet/ptq/accumulator_width.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

bool multiplies_codes(const Linear::Part& part) {
  return part.weight.scheme && part.weight.scheme->activations != ActivationMode::kFloat;
}

// Simulates the products of codes on their way to another backend.
class AccumulatorWatch final : public ForwardingBackend {
 public:
  AccumulatorWatch(Backend& inner, const Model& model) : ForwardingBackend(inner) {
    for (const Linear* linear : model.linears()) {
      linears_[linear->site().id] = linear;
      for (const Linear::Part& part : linear->parts()) {
        if (multiplies_codes(part)) uses_.push_back({.layer = part.weight.layer});
      }
    }
  }

  std::vector<AccumulatorUse>& uses() noexcept { return uses_; }

  void linear(const LinearOp& op) override {
    simulate(op);
    ForwardingBackend::linear(op);
  }

 private:
  // The parts of a product: those of its layers that no other product of the site has had, as many as have its rows.
  struct Product {
    size_t first_part = 0, parts = 0;
  };

  const Product& product(const LinearOp& op, const Linear& linear) {
    const auto known = products_.find(op.weight);
    if (known != products_.end()) return known->second;
    Product product{.first_part = parts_seen_[op.site]};
    for (int64_t rows = 0; rows < op.weight->rows(); ++product.parts) {
      rows += linear.parts().at(product.first_part + product.parts).weight.shape[0];
    }
    parts_seen_[op.site] += product.parts;
    return products_.emplace(op.weight, product).first->second;
  }

  void simulate(const LinearOp& op) {
    const auto found = linears_.find(op.site);
    if (found == linears_.end()) return;
    const Linear& linear = *found->second;
    const Product& parts = product(op, linear);
    const Linear::Part& first = linear.parts()[parts.first_part];
    if (!multiplies_codes(first)) return;
    const ActivationMode mode = first.weight.scheme->activations;
    const QTensor weight = inner().unpack(*op.weight);
    const std::optional<std::vector<int16_t>> steps = steps_of(op, mode, weight.outlier_indices());
    if (!steps) return;
    int64_t output = 0;
    for (size_t i = parts.first_part; i < parts.first_part + parts.parts; ++i) {
      const Parameter& parameter = linear.parts()[i].weight;
      AccumulatorUse& use = *std::ranges::find(uses_, parameter.layer, &AccumulatorUse::layer);
      if (use.sums == 0) bound_accumulators(weight, output, parameter.shape[0], {mode, op.input}, use);
      simulate_accumulators(weight, output, parameter.shape[0], *steps, use, threads());
      output += parameter.shape[0];
    }
  }

  // The rows that the product reads as codes, less their zero point, [rows, cols], outliers being 0; none where one
  // holds NaN or infinity, which the product itself will report.
  std::optional<std::vector<int16_t>> steps_of(const LinearOp& op, ActivationMode mode,
                                               std::span<const int32_t> outliers) {
    const int64_t rows = op.x.rows, cols = op.x.cols;
    std::vector<int16_t> steps(static_cast<size_t>(rows * cols));
    if (rows == 0) return steps;
    if (op.x.codes) {
      // UINT8 codes are held less 128, which makes bytes with a sign of them.
      const int shift = mode == ActivationMode::kStaticPerTensorZeroPoint ? 128 - op.input.zero_point : 0;
      std::vector<std::byte> bytes(static_cast<size_t>((rows - 1) * op.x.stride + cols));
      download(op.x.memory.slice(0, std::ssize(bytes)), bytes);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t col = 0; col < cols; ++col) {
          const auto code = static_cast<int8_t>(bytes[static_cast<size_t>(row * op.x.stride + col)]);
          steps[static_cast<size_t>(row * cols + col)] = static_cast<int16_t>(code + shift);
        }
      }
      return steps;
    }
    std::vector<float> values = values_of(op);
    if (first_not_finite(values)) return std::nullopt;
    for (int64_t row = 0; row < rows; ++row) {
      for (const int32_t column : outliers) values[static_cast<size_t>(row * cols + column)] = 0;
    }
    const float inverse = 1.0f / op.input.scale;
    std::vector<int8_t> codes(static_cast<size_t>(cols));
    for (int64_t row = 0; row < rows; ++row) {
      const auto of_row = std::span(values).subspan(static_cast<size_t>(row * cols), static_cast<size_t>(cols));
      int16_t* const out = steps.data() + row * cols;
      switch (mode) {
        case ActivationMode::kStaticPerTensorZeroPoint:
          std::ranges::transform(of_row, out, [&](float x) {
            return static_cast<int16_t>(uint8_code(x, inverse, op.input.zero_point, op.input.bits) -
                                        op.input.zero_point);
          });
          break;
        case ActivationMode::kStaticPerTensor:
          std::ranges::transform(of_row, out, [&](float x) { return int16_t{int8_code(x, inverse, op.input.bits)}; });
          break;
        default:
          quantize_row(of_row, codes);
          std::ranges::copy(codes, out);
      }
    }
    return steps;
  }

  // x, normalized where the product does that first.
  std::vector<float> values_of(const LinearOp& op) {
    std::vector<float> values(static_cast<size_t>(op.x.rows * op.x.cols));
    if (!op.normalize) {
      download(op.x, values);
      return values;
    }
    const DeviceMemory memory(inner(), static_cast<int64_t>(values.size() * sizeof(float)));
    const Activation y{.memory = memory.span(), .rows = op.x.rows, .cols = op.x.cols, .stride = op.x.cols};
    const NormalizeRows& how = *op.normalize;
    if (how.beta.empty()) {
      inner().rms_norm({.x = op.x, .gamma = how.gamma, .eps = how.eps, .y = y});
    } else {
      inner().layer_norm({.x = op.x, .gamma = how.gamma, .beta = how.beta, .eps = how.eps, .y = y});
    }
    download(y, values);
    return values;
  }

  std::map<int, const Linear*> linears_;  ///< by site
  std::map<const PackedWeight*, Product> products_;
  std::map<int, size_t> parts_seen_;  ///< by site
  std::vector<AccumulatorUse> uses_;
};

}  // namespace

std::vector<AccumulatorUse> measure_accumulators(Session& session, std::span<const TokenBatch> batches,
                                                 const std::function<void(int64_t batches)>& advance) {
  AccumulatorWatch watch(session.backend(), session.model());
  if (watch.uses().empty()) {
    fail<UsageError>(
        "{}: no layer multiplies INT8 activations, so there are no integer sums to look at. Quantize it on the way: "
        "add "
        "--recipe w8a8_dynamic.",
        session.checkpoint().folder().string());
  }
  for (const TokenBatch& batch : batches) {
    const Workspace::Scope scope(session.workspace());
    Context context{watch, session.workspace()};
    session.model().forward(context, upload(context, batch));
    if (advance) advance(1);
  }
  // A pooler that is kept and not run has met nothing.
  std::erase_if(watch.uses(), [](const AccumulatorUse& use) { return use.inputs == 0; });
  return std::move(watch.uses());
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/linear.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <variant>

#include "octet/base/error.h"
#include "octet/nn/layers.h"

namespace octet {
namespace {

// Elements of 16-bit weights that are fp32 at once on the way back: 4 MB.
constexpr int64_t kMostWidened = 1 << 20;

std::vector<std::string> layer_names(const std::vector<Linear::Part>& parts) {
  std::vector<std::string> names;
  for (const Linear::Part& part : parts) names.push_back(part.weight.layer);
  return names;
}

// A site that one part quantizes is a quantizing site.
ActivationMode site_mode(const std::vector<Linear::Part>& parts) {
  for (const Linear::Part& part : parts) {
    if (part.weight.scheme && part.weight.scheme->activations != ActivationMode::kFloat)
      return part.weight.scheme->activations;
  }
  return ActivationMode::kFloat;
}

// Whether two parts of one scheme have the same columns in their groups, and as outliers, which takes codes to tell.
bool same_columns(Parameter& a, Parameter& b) {
  if (!a.scheme || !(a.scheme->weight.reordered || a.scheme->weight.outliers)) return true;
  if (a.outlier_columns != b.outlier_columns) return false;
  a.load();
  b.load();
  const QTensor *one = std::get_if<QTensor>(&a.value), *other = std::get_if<QTensor>(&b.value);
  if (one == nullptr || other == nullptr) {
    if (a.stored_codes != b.stored_codes) return false;
    return outlier_dtype(a.outlier_columns, FloatWeight(a).view()) ==
           outlier_dtype(b.outlier_columns, FloatWeight(b).view());
  }
  if (a.scheme->weight.reordered &&
      !std::ranges::equal(one->group_index.as<int32_t>(), other->group_index.as<int32_t>())) {
    return false;
  }
  return std::ranges::equal(one->outlier_indices(), other->outlier_indices()) &&
         one->outliers.dtype() == other->outliers.dtype();
}

}  // namespace

Linear::Linear(std::vector<Part> parts, QuantSites& sites) : parts_(std::move(parts)) {
  if (parts_.empty()) fail<ShapeError>("a linear layer without weights");
  for (const Part& part : parts_) {
    const Shape shape = part.weight.shape;
    if (shape.rank() != 2 || (inputs_ != 0 && shape[1] != inputs_)) {
      fail<ShapeError>("layer '{}': a weight of shape {} cannot join a group that reads {} inputs", part.weight.layer,
                       to_string(shape), inputs_);
    }
    inputs_ = shape[1];
    outputs_ += shape[0];
    if (part.bias && part.bias->shape() != Shape{shape[0]}) {
      fail<ShapeError>("layer '{}': a bias of shape {} for {} outputs", part.weight.layer,
                       to_string(part.bias->shape()), shape[0]);
    }
  }
  site_ = sites.add(site_name(layer_names(parts_)), site_mode(parts_));
}

void Linear::prepare(Backend& backend, Sources sources) {
  if (!products_.empty()) return;
  std::vector<float> bias(static_cast<size_t>(outputs_), 0.0f);
  int64_t column = 0;
  for (const Part& part : parts_) {
    const int64_t outputs = part.weight.shape[0];
    if (part.bias)
      read_f32(part.bias->view(), 0,
               std::span(bias).subspan(static_cast<size_t>(column), static_cast<size_t>(outputs)));
    column += outputs;
  }
  bias_ = DeviceMemory(backend, outputs_ * int64_t{sizeof(float)});
  backend.upload(std::as_bytes(std::span(bias)), bias_.span());

  column = 0;
  for (auto first = parts_.begin(); first != parts_.end();) {
    const auto last = std::find_if(first, parts_.end(), [&](Part& part) {
      return part.weight.scheme != first->weight.scheme || part.weight.input != first->weight.input ||
             !same_columns(first->weight, part.weight);
    });
    products_.push_back(pack(backend, {first, last}, column, sources));
    column += products_.back().columns;
    first = last;
  }
}

void Linear::release() noexcept {
  products_.clear();
  bias_ = DeviceMemory();
}

Linear::Product Linear::pack(Backend& backend, std::span<Part> parts, int64_t first_column, Sources sources) {
  Product product{.first_column = first_column, .columns = 0, .input = parts.front().weight.input, .weight = nullptr};
  std::vector<WeightReader> readers(parts.size());  // of values that wait in their file, if they are kept
  for (size_t i = 0; i < parts.size(); ++i) {
    Part& part = parts[i];
    const WeightReader* reader = std::get_if<WeightReader>(&part.weight.value);
    if (reader != nullptr && sources == Sources::kKept) readers[i] = *reader;
    part.weight.load();
    product.columns += part.weight.shape[0];
  }
  if (const std::optional<Scheme> scheme = parts.front().weight.scheme) {
    std::vector<QTensor> made;  // of float values, and gone at the end of this block
    made.reserve(parts.size());
    std::vector<const QTensor*> quantized;
    for (const Part& part : parts) {
      if (std::holds_alternative<Tensor>(part.weight.value)) {
        const FloatWeight values(part.weight);
        quantized.push_back(&made.emplace_back(quantize_weight(values.view(), scheme->weight, part.weight.layer,
                                                               backend.threads(), part.weight.outlier_columns)));
      } else {
        quantized.push_back(&std::get<QTensor>(part.weight.value));
      }
    }
    product.weight = backend.pack(quantized, scheme->activations);
  } else {
    std::vector<FloatWeight> values;
    values.reserve(parts.size());
    std::vector<ConstTensorView> views;
    for (const Part& part : parts) views.push_back(values.emplace_back(part.weight).view());
    product.weight = backend.pack(views);
  }
  // Let go of, the packed form is the only one in memory: codes can be had back from it, pages from the file.
  for (size_t i = 0; i < parts.size(); ++i) {
    Parameter& weight = parts[i].weight;
    if (const Tensor* values = std::get_if<Tensor>(&weight.value)) values->release_pages();
    if (const QTensor* codes = std::get_if<QTensor>(&weight.value)) codes->codes.release_pages();
    if (sources == Sources::kLetGo) {
      weight.value = std::monostate();
    } else if (readers[i]) {
      weight.value = std::move(readers[i]);
    }
  }
  return product;
}

void Linear::train(Trainables& all, Trainable* tied) {
  std::vector<TrainedRows> weights, biases;
  std::vector<float> values, bias(static_cast<size_t>(outputs_), 0.0f);
  int64_t row = 0;
  for (Part& part : parts_) {
    const int64_t outputs = part.weight.shape[0];
    weights.push_back({part.weight.layer + ".weight", row, outputs, part.weight.in_out});
    if (tied == nullptr) {
      part.weight.load();
      if (part.weight.stored_codes) {
        fail<UsageError>("layer '{}' is stored as codes; training starts from float weights", part.weight.layer);
      }
      const FloatWeight source(part.weight);
      const size_t before = values.size();
      values.resize(before + static_cast<size_t>(outputs * inputs_));
      read_f32(source.view(), 0, std::span(values).subspan(before));
    }
    if (part.bias) {
      biases.push_back({part.weight.layer + ".bias", row, outputs});
      read_f32(part.bias->view(), 0, std::span(bias).subspan(static_cast<size_t>(row), static_cast<size_t>(outputs)));
    }
    row += outputs;
  }
  trained_weight_ = tied != nullptr ? tied : &all.add(std::move(weights), values, inputs_, Trainable::Kind::kMatrix);
  if (!biases.empty()) trained_bias_ = &all.add(std::move(biases), bias, outputs_, Trainable::Kind::kVector);
  release();
  train_quantized(all);
  lay_out_trained(all.backend());
}

void Linear::stop_training() noexcept {
  trained_weight_ = trained_bias_ = nullptr;
  quantized_.reset();
  release();
}

// What the parts' schemes ask for, if any.
void Linear::train_quantized(Trainables& all) {
  const Parameter& first = parts_.front().weight;
  for (const Part& part : parts_) {
    if (part.weight.scheme != first.scheme || part.weight.input != first.input) {
      fail<UsageError>("'{}' and '{}' read the same input and are trained as one: give them one scheme", first.layer,
                       part.weight.layer);
    }
  }
  if (!first.scheme) return;
  if (first.scheme->weight.outliers) {
    fail<UsageError>("layer '{}' is to keep outlier columns in 16 bits, which are not trained; leave 'outliers' out",
                     first.layer);
  }
  quantized_ = std::make_unique<Quantized>();
  quantized_->scheme = *first.scheme;
  quantized_->input = first.input;
  quantized_->simulated = all.quantized().simulated;
  quantized_->clips = all.quantized().clips;
  if (all.quantized().learns_weight_clips) {
    quantized_->weight_clips.emplace(all, *trained_weight_, first.scheme->weight, site_.name);
    quantized_->scheme.weight = quantized_->weight_clips->scheme();
    all.add_completion([this, &backend = all.backend()] { add_gradient_of_clips(backend); });
  }
  if (quantized_->clips == QuantizedTraining::Clips::kFixed) return;
  const ActivationMode mode = first.scheme->activations;
  const CodeRange codes = code_range(mode, first.input);
  const float high = static_cast<float>(codes.highest) * first.input.scale;
  if (mode == ActivationMode::kStaticPerTensor) {
    quantized_->clip = &all.add_clip(site_.name, std::array{high});
  } else if (mode == ActivationMode::kStaticPerTensorZeroPoint) {
    const float low = static_cast<float>(codes.lowest) * first.input.scale;
    quantized_->clip = &all.add_clip(site_.name, std::array{low, high});
  }
}

void Linear::lay_out_trained(Backend& backend) {
  products_.clear();
  if (quantized_ != nullptr) {
    lay_out_quantized(backend);
  } else {
    products_.push_back(
        {.first_column = 0, .columns = outputs_, .input = {}, .weight = backend.pack(trained_weight_->values())});
  }
  if (trained_bias_ == nullptr && bias_.span().empty()) {
    bias_ = DeviceMemory(backend, outputs_ * int64_t{sizeof(float)});
    backend.fill_zero(bias_.span());
  }
}

void Linear::lay_out_quantized(Backend& backend) {
  Quantized& own = *quantized_;
  ActivationScale input = own.input;
  if (own.clip != nullptr) {
    const std::vector<float> ends = own.clip->download(backend);
    // An end that has crossed 0 comes back by its gradient; until then the range ends there.
    input = ends.size() == 1 ? ActivationScale{.scale = int8_scale(ends[0], input.bits), .bits = input.bits}
                             : uint8_scale(std::min(ends[0], 0.0f), std::max(ends[1], 0.0f), input.bits);
  }
  std::vector<float> values = trained_weight_->download(backend);
  if (own.weight_clips) own.weight_clips->apply(backend, values);
  const QTensor codes =
      quantize_weight({DType::kF32, {outputs_, inputs_}, reinterpret_cast<const std::byte*>(values.data())},
                      own.scheme.weight, site_.name, backend.threads());
  const Tensor rounded = dequantize(codes);
  if (own.weight.span().empty()) own.weight = DeviceMemory(backend, rounded.bytes());
  backend.upload(std::as_bytes(rounded.as<float>()), own.weight.span());
  Product product{.first_column = 0, .columns = outputs_, .input = input, .weight = nullptr};
  if (own.simulated) {
    product.weight = backend.pack(DeviceTable{own.weight.span(), DType::kF32, outputs_, inputs_});
  } else {
    const QTensor* const parts[] = {&codes};
    product.weight = backend.pack(parts, own.scheme.activations);
  }
  products_.push_back(std::move(product));
}

void Linear::add_gradient_of_clips(Backend& backend) const {
  std::vector<float> rounded(static_cast<size_t>(outputs_ * inputs_));
  backend.download(quantized_->weight.span(), std::as_writable_bytes(std::span(rounded)));
  quantized_->weight_clips->add_gradient(backend, rounded);
}

// What products with quantized weights read of x, as floats: x itself where activations are.
Activation Linear::rounded(Context& context, const Activation& x) const {
  if (quantized_ == nullptr || quantized_->scheme.activations == ActivationMode::kFloat) return x;
  const Activation out = context.workspace.take_matrix(x.rows, x.cols);
  context.backend.round_trip({.x = x, .mode = quantized_->scheme.activations, .scale = input_scale(), .y = out});
  return out;
}

// dx = dy · W, the rows of a W that lies in 16 bits made fp32 some at a time.
void Linear::multiply_by_trained(Context& context, const Activation& dy, const Activation& dx, bool adds) const {
  const DeviceTable weight = trained_weight_->values();
  const int64_t most = weight.dtype == DType::kF32 ? outputs_ : std::max<int64_t>(1, kMostWidened / inputs_);
  for (int64_t first = 0; first < outputs_; first += most) {
    const int64_t rows = std::min(most, outputs_ - first);
    const Workspace::Scope scope(context.workspace);
    MatrixView own{weight.memory, rows, inputs_, inputs_};
    if (weight.dtype != DType::kF32) {
      const Activation wide = context.workspace.take_matrix(rows, inputs_);
      context.backend.widen({.x = weight.row_range(first, rows), .y = wide});
      own.memory = wide.memory;
    }
    context.backend.matmul(
        {.a = dy.columns(first, rows), .b = own, .turned = Turned::kNone, .adds = adds || first > 0, .y = dx});
  }
}

void Linear::backward_input(Context& context, const Activation& x, const Activation& dy, const Activation& dx,
                            bool adds) const {
  if (quantized_ == nullptr) {
    multiply_by_trained(context, dy, dx, adds);
    return;
  }
  const MatrixView weight{quantized_->weight.span(), outputs_, inputs_, inputs_};
  if (!is_static(quantized_->scheme.activations)) {
    context.backend.matmul({.a = dy, .b = weight, .turned = Turned::kNone, .adds = adds, .y = dx});
    return;
  }
  const Activation d = context.workspace.take_matrix(x.rows, x.cols);
  context.backend.matmul({.a = dy, .b = weight, .turned = Turned::kNone, .y = d});
  ClipGradientOp op{
      .x = x, .dy = d, .mode = quantized_->scheme.activations, .scale = input_scale(), .dx = dx, .adds = adds};
  if (quantized_->clip != nullptr) {
    op.dclip = quantized_->clip->gradient().memory;
    if (quantized_->clips == QuantizedTraining::Clips::kLsq) {
      op.inside = 1;
      // n features and 127 or 255 steps of 8 bits: so that the clip moves about as fast, of its own size, as weights do
      // of theirs.
      const CodeRange codes = code_range(op.mode, op.scale);
      const int steps = op.mode == ActivationMode::kStaticPerTensor ? codes.highest : codes.steps();
      op.factor = 1 / std::sqrt(static_cast<float>(x.cols) * static_cast<float>(steps));
    }
  }
  context.backend.clip_gradient(op);
}

void Linear::backward(Context& context, const Activation& x, const Activation& dy, const std::optional<Activation>& dx,
                      bool adds) const {
  const Workspace::Scope scope(context.workspace);
  const Activation read = rounded(context, x);
  context.backend.matmul({.a = dy,
                          .b = {read.memory, read.rows, read.cols, read.stride},
                          .turned = Turned::kA,
                          .adds = true,
                          .y = trained_weight_->gradient()});
  if (trained_bias_ != nullptr) {
    // Parts without a bias have zeros that stay so.
    for (const TrainedRows& part : trained_bias_->parts()) {
      context.backend.column_sums({.x = dy.columns(part.first, part.rows),
                                   .sums = trained_bias_->gradient().memory.slice(part.first * int64_t{sizeof(float)},
                                                                                  part.rows * int64_t{sizeof(float)})});
    }
  }
  if (dx) backward_input(context, x, dy, *dx, adds);
}

const PackedWeight& Linear::packed() const {
  if (products_.size() != 1) fail("layer '{}' is {} products, where one is needed", site_.name, products_.size());
  return *products_.front().weight;
}

std::optional<StaticCodes> Linear::input_codes() const {
  if (products_.size() != 1 || !is_static(site_.mode)) return std::nullopt;
  const std::optional<Scheme>& scheme = parts_.front().weight.scheme;
  if (scheme && scheme->weight.outliers) return std::nullopt;
  return StaticCodes{site_.mode, products_.front().input, site_.id};
}

int64_t Linear::packed_bytes() const noexcept {
  int64_t bytes = bias_.span().bytes();
  for (const Product& product : products_) bytes += product.weight->bytes();
  return bytes;
}

void Linear::forward(Context& context, const Activation& x, const Activation& y, Nonlinearity nonlinearity,
                     std::optional<Activation> residual) const {
  const Workspace::Scope scope(context.workspace);
  multiply(context, std::nullopt, quantized_ != nullptr && quantized_->simulated ? rounded(context, x) : x, y,
           nonlinearity, residual);
}

void Linear::forward(Context& context, const std::optional<NormalizeRows>& normalize, const Activation& x,
                     const Activation& y, Nonlinearity nonlinearity) const {
  if (!normalize || products_.size() <= 1) {
    multiply(context, normalize, x, y, nonlinearity, std::nullopt);
    return;
  }
  // Several products read the rows: they are normalized once.
  const Workspace::Scope scope(context.workspace);
  const Activation rows = normalize->y ? *normalize->y : context.workspace.take_matrix(x.rows, x.cols);
  octet::normalize(context, *normalize, x, rows);
  multiply(context, std::nullopt, rows, y, nonlinearity, std::nullopt);
}

void Linear::multiply(Context& context, const std::optional<NormalizeRows>& normalize, const Activation& x,
                      const Activation& y, Nonlinearity nonlinearity, const std::optional<Activation>& residual) const {
  if (products_.empty()) fail("layer '{}' ran before it was prepared", site_.name);
  for (const Product& product : products_) {
    LinearOp op{.x = x,
                .weight = product.weight.get(),
                .bias = bias().slice(product.first_column * 4, product.columns * 4),
                .nonlinearity = nonlinearity,
                .residual = std::nullopt,
                .normalize = normalize,
                .y = y.columns(product.first_column, product.columns),
                .site = site_.id,
                .input = product.input};
    if (residual) op.residual = residual->columns(product.first_column, product.columns);
    context.backend.linear(op);
  }
}

}  // namespace octet

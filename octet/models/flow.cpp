// SPDX-License-Identifier: Apache-2.0
#include "octet/models/flow.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "octet/backend/forwarding.h"

namespace octet {
namespace {

constexpr const char* kFromOutside = "hidden states";

std::string quantized(ActivationMode mode, int bits) {
  switch (mode) {
    case ActivationMode::kFloat:
      return "";
    case ActivationMode::kDynamicPerToken:
      return "int8, a scale a token";
    case ActivationMode::kStaticPerTensor:
      return fmt::format("int{}, static scale", bits);
    case ActivationMode::kStaticPerTensorZeroPoint:
      return fmt::format("uint{}, static scale and zero point", bits);
  }
  return "";
}

std::string dtype_of(const Activation& x) { return x.codes ? quantized(x.codes->mode, x.codes->scale.bits) : "fp32"; }

std::string float_name(DType dtype) {
  if (dtype == DType::kF32) return "fp32";
  return dtype == DType::kF16 ? "fp16" : dtype == DType::kBF16 ? "bf16" : std::string(name(dtype));
}

// What attention makes of its operands, if not floats.
const char* codes_of(const AttentionOp& op) {
  return is_static(op.activations) ? "int8, one scale" : "int8, a scale a token and head";
}

std::string cache_of(const AttentionOp& op) {
  if (!op.cache) return "";
  return op.cache->dtype == DType::kI8 ? codes_of(op) : float_name(op.cache->dtype);
}

// A scheme's text, what it says of activations aside: that is in the steps of their input.
std::string weights_of(const Scheme& scheme) {
  const std::string text = to_string(scheme);
  return text.substr(0, text.find(", "));
}

// Notes every operation on its way to another backend. Matrices of one row lie in memory without gaps, so what was
// written where says who made what is read.
class Recorder final : public ForwardingBackend {
 public:
  Recorder(Backend& inner, const Model& model) : ForwardingBackend(inner), model_(&model) {
    for (const Linear* linear : model.linears()) linears_[linear->site().id] = linear;
  }

  // What was recorded since the last call. What is read next and was written before comes from outside.
  std::vector<FlowOperation> take() {
    for (Written& written : written_) written.by = kFromOutside;
    columns_seen_.clear();
    return std::exchange(operations_, {});
  }

  void embed(const EmbedOp& op) override {
    std::vector<std::string> tables;
    for (const EmbedOp::Lookup& lookup : op.lookups)
      tables.emplace_back(lookup.packed != nullptr ? "quantized table" : float_name(lookup.table.dtype));
    record({.operation = "embed",
            .name = "embed",
            .inputs = {},
            .weights = fmt::format("{}", fmt::join(tables, ", ")),
            .output = ""},
           op.y);
    ForwardingBackend::embed(op);
  }
  void linear(const LinearOp& op) override {
    const auto [name, scheme] = product(op);
    FlowOperation operation{.operation = "linear", .name = name, .inputs = {input("x", op.x)}, .output = ""};
    FlowInput& x = operation.inputs.front();
    if (op.normalize) x.steps.emplace_back(op.normalize->beta.empty() ? "rms_norm" : "layer_norm");
    if (scheme && !op.x.codes && scheme->activations != ActivationMode::kFloat)
      x.steps.push_back(quantized(scheme->activations, scheme->activation_bits));
    if (op.residual) operation.inputs.push_back(input("residual", *op.residual));
    if (scheme) {
      operation.weights = weights_of(*scheme);
    } else {
      const int64_t numbers = op.weight->rows() * op.weight->cols();
      operation.weights = op.weight->bytes() >= numbers * 4 ? "fp32" : "16-bit float";
    }
    if (op.normalize && op.normalize->y) write(*op.normalize->y, name);
    record(std::move(operation), op.y);
    ForwardingBackend::linear(op);
  }
  void layer_norm(const LayerNormOp& op) override {
    record_simple("layer_norm", op.x, op.y);
    ForwardingBackend::layer_norm(op);
  }
  void rms_norm(const RmsNormOp& op) override {
    record_simple("rms_norm", op.x, op.y);
    ForwardingBackend::rms_norm(op);
  }
  void rope(const RopeOp& op) override {
    record_simple("rope", op.x, op.x);
    ForwardingBackend::rope(op);
  }
  void gated(const GatedOp& op) override {
    record_simple("gated", op.x, op.y);
    ForwardingBackend::gated(op);
  }
  void attention(const AttentionOp& op) override {
    FlowOperation operation{.operation = "attention",
                            .name = model_->sites()[op.site].name,
                            .inputs = {input("q", op.q), input("k", op.k), input("v", op.v)},
                            .cache = cache_of(op),
                            .output = ""};
    if (op.activations != ActivationMode::kFloat) {
      for (FlowInput& each : operation.inputs) each.steps.emplace_back(codes_of(op));
    }
    record(std::move(operation), op.y);
    ForwardingBackend::attention(op);
  }
  void pool(const PoolOp& op) override {
    record_simple("pool", op.x, op.y);
    ForwardingBackend::pool(op);
  }
  void l2_normalize(const Activation& x) override {
    record_simple("l2_normalize", x, x);
    ForwardingBackend::l2_normalize(x);
  }

 private:
  struct Written {
    const std::byte *begin, *end;
    std::string by;
  };

  static std::pair<const std::byte*, const std::byte*> range(const Activation& x) {
    return {x.memory.address(), x.memory.address() + x.cols * x.element_bytes()};
  }

  // The layers of a product, and their scheme. A site whose layers differ runs as several products, in their order.
  std::pair<std::string, std::optional<Scheme>> product(const LinearOp& op) {
    const std::vector<Linear::Part>& parts = linears_.at(op.site)->parts();
    int64_t& seen = columns_seen_[op.site];
    std::vector<std::string> layers;
    std::optional<Scheme> scheme;
    int64_t column = 0;
    for (const Linear::Part& part : parts) {
      if (column >= seen && column < seen + op.weight->rows()) {
        layers.push_back(part.weight.layer);
        scheme = part.weight.scheme;
      }
      column += part.weight.shape[0];
    }
    seen += op.weight->rows();
    return {site_name(layers), scheme};
  }

  FlowInput input(const std::string& role, const Activation& x) const {
    FlowInput result{.role = role, .from = {}, .dtype = dtype_of(x)};
    const auto [begin, end] = range(x);
    for (const Written& written : written_) {
      if (written.begin < end && begin < written.end && std::ranges::count(result.from, written.by) == 0)
        result.from.push_back(written.by);
    }
    return result;
  }

  void write(const Activation& y, const std::string& by) {
    const auto [begin, end] = range(y);
    std::vector<Written> left;
    for (const Written& written : written_) {
      if (written.begin < begin) left.push_back({written.begin, std::min(written.end, begin), written.by});
      if (end < written.end) left.push_back({std::max(written.begin, end), written.end, written.by});
    }
    left.push_back({begin, end, by});
    written_ = std::move(left);
  }

  void record(FlowOperation operation, const Activation& y) {
    operation.output = dtype_of(y);
    write(y, operation.name);
    operations_.push_back(std::move(operation));
  }
  void record_simple(const std::string& name, const Activation& x, const Activation& y) {
    record({.operation = name, .name = name, .inputs = {input("x", x)}, .output = ""}, y);
  }

  const Model* model_;
  std::map<int, const Linear*> linears_;  // by site
  std::map<int, int64_t> columns_seen_;   // by site: columns of its products that ran
  std::vector<Written> written_;          // what lies where; no two overlap
  std::vector<FlowOperation> operations_;
};

// The number of a block in its layers' names, "model.layers.3.mlp", as "*".
std::string without_number(std::string name, int64_t block) {
  const std::string number = std::to_string(block);
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    if (std::string_view(name).substr(begin, end - begin) == number) return name.replace(begin, number.size(), "*");
    begin = end + 1;
  }
  return name;
}

void add_block(std::vector<FlowSection>& sections, std::vector<FlowOperation> operations, int64_t block) {
  for (FlowOperation& operation : operations) {
    operation.name = without_number(operation.name, block);
    for (FlowInput& input : operation.inputs) {
      for (std::string& name : input.from) name = without_number(name, block);
    }
  }
  const auto same = std::ranges::find_if(sections, [&](const FlowSection& section) {
    return section.name == "blocks" && section.operations == operations;
  });
  if (same == sections.end()) {
    sections.push_back({.name = "blocks", .blocks = {block}, .operations = std::move(operations)});
  } else {
    same->blocks.push_back(block);
  }
}

}  // namespace

std::vector<FlowSection> trace_flow(Session& session, std::optional<DType> kv_dtype) {
  const Model& model = session.model();
  Recorder recorder(session.backend(), model);
  const Workspace::Scope scope(session.workspace());
  Context context{recorder, session.workspace()};
  TokenBatch batch;
  batch.add(std::vector<int32_t>{0});
  DeviceBatch on_device = upload(context, batch);
  std::optional<KvCache> cache;
  if (model.info().causal) {
    cache.emplace(session.make_cache(kv_dtype));
    const int sequence = cache->add_sequence();
    on_device.kv = cache->extend(session.workspace(), std::span(&sequence, 1), batch.offsets, batch.ids);
  }
  std::vector<FlowSection> sections;
  const Activation x = model.embed(context, on_device);
  sections.push_back({.name = "embedding", .blocks = {}, .operations = recorder.take()});
  for (int64_t i = 0; i < model.info().blocks; ++i) {
    model.run_block(context, i, on_device, x);
    add_block(sections, recorder.take(), i);
  }
  model.head(context, on_device, x);
  sections.push_back({.name = "head", .blocks = {}, .operations = recorder.take()});
  // What token 0 gives does not matter, and a later pass should not be told of it.
  session.backend().take_fault();
  return sections;
}

std::string to_ranges(const std::vector<int64_t>& numbers) {
  std::string text;
  for (size_t first = 0, last = 0; first < numbers.size(); first = last) {
    while (last < numbers.size() && numbers[last] - numbers[first] == static_cast<int64_t>(last - first)) ++last;
    if (!text.empty()) text += ',';
    text +=
        last - first == 1 ? std::to_string(numbers[first]) : fmt::format("{}..{}", numbers[first], numbers[last - 1]);
  }
  return numbers.size() == 1 ? text : "{" + text + "}";
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/ptq/block_stream.h"
#include "octet/ptq/layer_schemes.h"
#include "octet/ptq/quantize_model.h"
#include "octet/ptq/substituting_backend.h"
#include "octet/ptq/weight_quantizer.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

double squared_norm(ConstTensorView values) {
  constexpr int64_t kAtOnce = 4096;
  std::vector<float> part(static_cast<size_t>(kAtOnce));
  double sum = 0;
  for (int64_t first = 0; first < values.shape.elements(); first += kAtOnce) {
    const std::span<float> some =
        std::span(part).first(static_cast<size_t>(std::min(kAtOnce, values.shape.elements() - first)));
    read_f32(values, first, some);
    for (const float value : some) sum += double{value} * double{value};
  }
  return sum;
}

// Σ ‖a - b‖² and Σ ‖a‖², of which the relative error is made.
struct SquaredError {
  double difference = 0, reference = 0;

  void add(std::span<const float> a, std::span<const float> b) {
    for (size_t i = 0; i < a.size(); ++i) {
      const double error = double{a[i]} - double{b[i]};
      difference += error * error;
      reference += double{a[i]} * double{a[i]};
    }
  }
  void add(const SquaredError& other) {
    difference += other.difference;
    reference += other.reference;
  }
  double relative() const { return reference == 0 ? 0 : std::sqrt(difference / reference); }
};

using Parts = std::map<std::string, const Linear::Part*>;

Parts parts_by_layer(const Model& model) {
  Parts parts;
  for (const Linear::Part* part : model.linear_parts()) parts.emplace(part->weight.layer, part);
  return parts;
}

// A scheme that is tried: the model as the recipe makes it, of which no weight is laid out.
struct Candidate {
  const Recipe* recipe;
  std::unique_ptr<Model> model;
  Parts parts;
  std::string weights;  ///< what the recipe says of them

  /// Null where the recipe leaves the layer in float.
  const Linear::Part* quantized(const std::string& layer) const {
    const auto part = parts.find(layer);
    return part == parts.end() || !part->second->weight.scheme || part->second->weight.over_vocabulary ? nullptr
                                                                                                       : part->second;
  }
  bool calibrates(const std::string& layer) const {
    return quantized(layer) != nullptr && needs_statistics(recipe->weight_algorithm(layer).algorithm);
  }
};

Candidate make_candidate(const Checkpoint& checkpoint, const Recipe& recipe) {
  check_is_layer_scheme(recipe);
  Candidate candidate{.recipe = &recipe,
                      .model = load_to_quantize(checkpoint, recipe),
                      .parts = {},
                      .weights = json_text(parse_json(recipe.text(), recipe.name()).at("weights"))};
  candidate.parts = parts_by_layer(*candidate.model);
  return candidate;
}

// Stage 0 embeds, stages 1 to B are blocks, stage B + 1 is the head.
class Study {
 public:
  Study(const Checkpoint& checkpoint, OutputComparison& comparison, const SensitivityOptions& options)
      : comparison_(comparison),
        options_(options),
        cpu_(make_cpu_backend(options.cpu)),
        backend_(*cpu_),
        workspace_(backend_),
        context_{backend_, workspace_},
        model_(load_model(checkpoint, nullptr)),
        source_(load_model(checkpoint, nullptr)),
        calibrated_(load_model(checkpoint, nullptr)),
        source_parts_(parts_by_layer(*source_)) {
    for (const Linear::Part* part : source_->linear_parts()) {
      if (!part->weight.stored_codes) continue;
      fail<UsageError>(
          "{}: is quantized already: layer '{}' is stored as codes ({}). Sensitivity is measured on the float model.",
          checkpoint.folder().string(), part->weight.layer, to_string(*part->weight.scheme));
    }
    model_->prepare(backend_);
    for (const Linear* linear : model_->linears()) linears_[linear->site().id] = linear;
    find_sites();
  }

  SensitivityReport run(std::span<const Candidate> candidates) {
    if (std::ranges::any_of(candidates, [](const Candidate& one) { return !one.recipe->needs_data().empty(); }))
      calibration_.emplace(*calibrated_, *cpu_, *options_.calibration, [this](int64_t samples) {
        passed_ += samples;
        advance();
      });
    total_ = count_runs(candidates);
    set_reference();
    for (size_t stage = 0; stage < sites_.size(); ++stage) {
      const bool any = std::ranges::any_of(candidates, [&](const Candidate& candidate) {
        return !units(stage, candidate, SensitivityUnit::kSite).empty();
      });
      // A head over the vocabulary is no layer to try, and all its logits would be large.
      if (!any && std::cmp_greater(stage, blocks())) break;
      start(stage);
      calibrate(stage, candidates);
      for (const Candidate& candidate : candidates) try_on(stage, candidate);
      states_ = std::move(next_states_);
    }
    for (const Candidate& candidate : candidates) add_unused(candidate);
    return {.measure = comparison_.measure(),
            .tokens = comparison_.sample().tokens,
            .rows = comparison_.rows(),
            .entries = std::move(entries_)};
  }

 private:
  // The quantized weights of a stage in one scheme, and what they do by themselves.
  struct Quantized {
    std::unique_ptr<PackedWeight> weight;
    ActivationScale input;
    SquaredError weight_error, output_error;
  };
  using QuantizedLayers = std::map<std::string, Quantized>;

  struct Outcome {
    SquaredError hidden;  ///< after the stage
    Divergence divergence;
  };

  int64_t blocks() const { return model_->info().blocks; }
  bool is_block(size_t stage) const { return stage > 0 && std::cmp_less_equal(stage, blocks()); }
  // Only there a layer's share can be taken of its block's.
  bool estimates(size_t stage) const {
    return is_block(stage) && !options_.exact && options_.per != SensitivityUnit::kBlock;
  }
  // Blocks that a candidate in a stage runs, through to the end or not.
  int64_t runs(size_t stage, bool through) const {
    return through ? std::max<int64_t>(1, blocks() + 1 - static_cast<int64_t>(std::max<size_t>(stage, 1))) : 1;
  }

  // Which sites run in which stage: those met when one token goes through the model.
  void find_sites() {
    TokenBatch token;
    token.add(std::vector<int32_t>{0});
    sites_.resize(static_cast<size_t>(blocks()) + 2);
    const Workspace::Scope scope(workspace_);
    const DeviceBatch on_device = upload(context_, token);
    Activation x;
    for (size_t stage = 0; stage < sites_.size(); ++stage) {
      backend_.watch();
      if (stage == 0) {
        x = model_->embed(context_, on_device);
      } else if (is_block(stage)) {
        model_->run_block(context_, static_cast<int64_t>(stage) - 1, on_device, x);
      } else {
        model_->head(context_, on_device, x);
      }
      for (const SubstitutingBackend::Input& input : backend_.take_inputs()) {
        if (std::ranges::find(sites_[stage], input.site) == sites_[stage].end()) sites_[stage].push_back(input.site);
      }
    }
  }

  void set_reference() {
    for_each_batch(*model_, context_, comparison_.sample(),
                   [&](size_t batch, const DeviceBatch& on_device, const Activation& x) {
                     comparison_.set_reference(*model_, context_, batch, on_device, x);
                   });
  }

  // Runs the stage in float: what its sites read, and the hidden states after it.
  void start(size_t stage) {
    inputs_.clear();
    next_.clear();
    next_states_.clear();
    float_outputs_.clear();
    for (size_t i = 0; i < batches().size(); ++i) {
      const Workspace::Scope scope(workspace_);
      const DeviceBatch on_device = upload(context_, batches()[i]);
      backend_.watch();
      const Activation x = run_stage(stage, i, on_device);
      if (!is_block(stage) && stage != 0) model_->head(context_, on_device, x);
      for (SubstitutingBackend::Input& input : backend_.take_inputs()) inputs_[input.site].push_back(std::move(input));
      if (stage > static_cast<size_t>(blocks())) continue;
      std::vector<float>& after = next_.emplace_back(static_cast<size_t>(x.rows * x.cols));
      backend_.download(x, after);
      const DeviceMemory& kept = next_states_.emplace_back(backend_, x.rows * x.cols * int64_t{sizeof(float)});
      backend_.upload(std::as_bytes(std::span(after)), kept.span());
    }
  }

  // What the sites of the stage read over calibration, where an algorithm wants that.
  void calibrate(size_t stage, std::span<const Candidate> candidates) {
    found_.clear();
    statistics_.clear();
    if (!calibration_) return;
    std::vector<int> watched;
    for (const int site : sites_[stage]) {
      const Linear& linear = *linears_.at(site);
      const bool wanted = std::ranges::any_of(linear.parts(), [&](const Linear::Part& part) {
        return std::ranges::any_of(candidates,
                                   [&](const Candidate& candidate) { return candidate.calibrates(part.weight.layer); });
      });
      if (!wanted) continue;
      watched.push_back(site);
      statistics_.try_emplace(site, linear.inputs(), backend_.threads());
    }
    calibration_->run(BlockStream::Outputs::kTaken, watched,
                      [&](const SiteInput& input) { statistics_.at(input.site.id).add(input.rows); });
  }

  // The hidden states of a batch after the stage, or, of the head, those that it reads.
  Activation run_stage(size_t stage, size_t batch, const DeviceBatch& on_device) {
    if (stage == 0) return model_->embed(context_, on_device);
    const int64_t rows = on_device.host.tokens();
    const Activation x = workspace_.take_matrix(rows, states_[batch].span().bytes() / (rows * int64_t{sizeof(float)}));
    backend_.copy(states_[batch].span(), x.memory);
    if (is_block(stage)) run_block(static_cast<int64_t>(stage) - 1, on_device, x);
    return x;
  }

  void run_block(int64_t block, const DeviceBatch& on_device, const Activation& x) {
    model_->run_block(context_, block, on_device, x);
    check_numerics(context_, model_->sites(), on_device.host.offsets);
  }

  // With the products that are substituted now: the stage, and, `through`, all after it.
  Outcome run_from(size_t stage, bool through, const std::string& what) {
    Outcome outcome;
    OutputComparison::Sums sums;
    for (size_t i = 0; i < batches().size(); ++i) {
      const Workspace::Scope scope(workspace_);
      const DeviceBatch on_device = upload(context_, batches()[i]);
      const Activation x = run_stage(stage, i, on_device);
      if (i < next_.size()) {
        rows_.resize(next_[i].size());
        backend_.download(x, rows_);
        outcome.hidden.add(next_[i], rows_);
      }
      if (!through) continue;
      for (auto block = static_cast<int64_t>(stage); block < blocks(); ++block) run_block(block, on_device, x);
      comparison_.add(*model_, context_, i, on_device, x, sums);
    }
    if (!std::isfinite(outcome.hidden.difference)) fail<NumericError>("{}: makes NaN or infinity", what);
    if (through) outcome.divergence = comparison_.divergence(sums, what);
    done_ += runs(stage, through);
    advance();
    return outcome;
  }

  // A pass of the calibration samples counts by its length.
  int64_t calibration_runs(int64_t samples) const {
    const TokenBatch& all = *options_.calibration;
    return samples * all.tokens() / (all.sequences() * std::max<int64_t>(1, comparison_.sample().tokens));
  }

  void advance() const {
    if (options_.advance) options_.advance(done_ + (calibration_ ? calibration_runs(passed_) : 0), total_);
  }

  QuantizedLayers quantize(size_t stage, const Candidate& candidate) {
    QuantizedLayers layers;
    for (const int site : sites_[stage]) {
      for (const Linear::Part& part : linears_.at(site)->parts()) {
        const Linear::Part* quantized = candidate.quantized(part.weight.layer);
        if (quantized == nullptr) continue;
        Quantized& layer = layers[part.weight.layer] = quantize(candidate, quantized->weight, site);
        layer.output_error = output_error(site, part.weight.layer, layer);
      }
    }
    return layers;
  }

  // By the candidate's algorithm. What a search found is kept, for several schemes may have the same weights.
  std::shared_ptr<const QTensor> codes(const Candidate& candidate, const Parameter& weight, ConstTensorView values,
                                       std::optional<int> site) {
    std::pair<std::string, std::string> key(weight.layer, candidate.weights);
    if (const auto found = found_.find(key); found != found_.end()) return found->second;
    const WeightAlgorithmOptions algorithm = candidate.recipe->weight_algorithm(weight.layer);
    const InputStatistics* inputs = site && needs_statistics(algorithm.algorithm) ? &statistics_.at(*site) : nullptr;
    QuantizedWeight made =
        quantize_weight(values, weight.scheme->weight, algorithm, inputs, weight.layer, backend_.threads());
    auto tensor = std::make_shared<const QTensor>(std::move(made.tensor));
    if (algorithm.algorithm != WeightAlgorithm::kRoundToNearest) found_.emplace(std::move(key), tensor);
    return tensor;
  }

  Quantized quantize(const Candidate& candidate, const Parameter& weight, std::optional<int> site = {}) {
    const FloatWeight values(weight);
    const std::shared_ptr<const QTensor> tensor = codes(candidate, weight, values.view(), site);
    const double norm = squared_norm(values.view()), error = relative_error(values.view(), *tensor);
    const QTensor* const parts[] = {tensor.get()};
    return {.weight = backend_.pack(parts, weight.scheme->activations),
            .input = weight.input,
            .weight_error = {.difference = error * error * norm, .reference = norm},
            .output_error = {}};
  }

  std::unique_ptr<PackedWeight> pack_float(const std::string& layer) {
    const FloatWeight values(source_parts_.at(layer)->weight);
    const ConstTensorView parts[] = {values.view()};
    return backend_.pack(parts);
  }

  // x · Wᵀ of what the site read, all batches one after another.
  std::vector<float> product(int site, const PackedWeight& weight, const ActivationScale& input) {
    std::vector<float> outputs;
    for (const SubstitutingBackend::Input& rows : inputs_.at(site)) {
      const Workspace::Scope scope(workspace_);
      const Activation x = workspace_.take_matrix(rows.rows, rows.cols);
      const Activation y = workspace_.take_matrix(rows.rows, weight.rows());
      backend_.upload(std::as_bytes(std::span(rows.values)), x.memory);
      cpu_->linear({.x = x, .weight = &weight, .y = y, .site = site, .input = input});
      check_numerics(context_, model_->sites(), std::vector<int32_t>{0, static_cast<int32_t>(rows.rows)});
      const size_t before = outputs.size();
      outputs.resize(before + static_cast<size_t>(y.rows * y.cols));
      backend_.download(y, std::span(outputs).subspan(before));
    }
    return outputs;
  }

  SquaredError output_error(int site, const std::string& layer, const Quantized& quantized) {
    std::vector<float>& in_float = float_outputs_[layer];
    if (in_float.empty()) in_float = product(site, *pack_float(layer), {});
    SquaredError error;
    error.add(in_float, product(site, *quantized.weight, quantized.input));
    return error;
  }

  // Quantized layers of `unit` in place of the float ones.
  void substitute(const std::vector<std::string>& unit, const QuantizedLayers& layers, size_t stage) {
    backend_.restore_all();
    split_.clear();
    for (const int site : sites_[stage]) {
      std::vector<SubstitutingBackend::Product> products;
      bool any = false;
      int64_t column = 0;
      for (const Linear::Part& part : linears_.at(site)->parts()) {
        const std::string& layer = part.weight.layer;
        SubstitutingBackend::Product product{.first_column = column};
        if (std::ranges::find(unit, layer) != unit.end()) {
          product.weight = layers.at(layer).weight.get();
          product.input = layers.at(layer).input;
          any = true;
        }
        products.push_back(product);
        column += part.weight.shape[0];
      }
      if (!any) continue;
      for (size_t i = 0; i < products.size(); ++i) {
        if (products[i].weight != nullptr) continue;
        split_.push_back(pack_float(linears_.at(site)->parts()[i].weight.layer));
        products[i].weight = split_.back().get();
      }
      backend_.substitute(site, std::move(products));
    }
  }

  // Names of the layers of a stage that change together, of those that the candidate quantizes.
  struct Unit {
    std::string name;
    std::vector<std::string> layers;
  };

  std::vector<Unit> units(size_t stage, const Candidate& candidate, SensitivityUnit per) const {
    std::vector<Unit> all;
    for (const int site : sites_[stage]) {
      if (per == SensitivityUnit::kSite || (per == SensitivityUnit::kBlock && !is_block(stage)))
        all.push_back({model_->sites()[site].name, {}});
      for (const Linear::Part& part : linears_.at(site)->parts()) {
        const std::string& layer = part.weight.layer;
        if (candidate.quantized(layer) == nullptr) continue;
        if (per == SensitivityUnit::kLayer) all.push_back({layer, {}});
        if (all.empty()) all.emplace_back();
        all.back().layers.push_back(layer);
      }
    }
    std::erase_if(all, [](const Unit& unit) { return unit.layers.empty(); });
    if (per == SensitivityUnit::kBlock && is_block(stage) && !all.empty())
      all.front().name = common_path(all.front().layers) + "*";
    return all;
  }

  // "model.layers.7." of layers in a block
  static std::string common_path(const std::vector<std::string>& layers) {
    std::string path = layers.front();
    for (const std::string& layer : layers)
      path.resize(static_cast<size_t>(std::ranges::mismatch(path, layer).in1 - path.begin()));
    return path.substr(0, path.rfind('.') + 1);
  }

  int64_t count_runs(std::span<const Candidate> candidates) const {
    int64_t count = 0;
    for (size_t stage = 0; stage < sites_.size(); ++stage) {
      if (calibration_ && std::cmp_less_equal(stage, blocks()))
        count += calibration_runs(options_.calibration->sequences());
      for (const Candidate& candidate : candidates) {
        const std::vector<Unit> all = units(stage, candidate, options_.per);
        count += std::ssize(all) * runs(stage, !estimates(stage));
        if (estimates(stage) && !all.empty()) count += runs(stage, true);
      }
    }
    return count;
  }

  void try_on(size_t stage, const Candidate& candidate) {
    const std::vector<Unit> all = units(stage, candidate, options_.per);
    if (all.empty()) return;
    const QuantizedLayers layers = quantize(stage, candidate);
    std::optional<Outcome> block;
    if (estimates(stage)) {
      const Unit whole = units(stage, candidate, SensitivityUnit::kBlock).front();
      substitute(whole.layers, layers, stage);
      block = run_from(stage, true, fmt::format("{} in {}", whole.name, candidate.recipe->name()));
    }
    for (const Unit& unit : all) {
      substitute(unit.layers, layers, stage);
      const Outcome outcome = run_from(stage, !block, fmt::format("{} in {}", unit.name, candidate.recipe->name()));
      SquaredError weight, output;
      for (const std::string& layer : unit.layers) {
        weight.add(layers.at(layer).weight_error);
        output.add(layers.at(layer).output_error);
      }
      if (options_.per == SensitivityUnit::kBlock && is_block(stage)) output = outcome.hidden;
      Divergence divergence = outcome.divergence;
      if (block) {
        const double share = block->hidden.difference == 0 ? 0 : outcome.hidden.difference / block->hidden.difference;
        divergence = {.value = share * block->divergence.value,
                      .standard_error = share * block->divergence.standard_error};
      }
      entries_.push_back({.unit = unit.name,
                          .layers = unit.layers,
                          .scheme = candidate.recipe->name(),
                          .weight_error = weight.relative(),
                          .output_error = output.relative(),
                          .divergence = divergence,
                          .estimated = block.has_value()});
    }
    backend_.restore_all();
  }

  // Layers that are in the checkpoint and in no forward pass: a pooler.
  void add_unused(const Candidate& candidate) {
    std::set<std::string> used;
    for (const std::vector<int>& stage : sites_) {
      for (const int site : stage) {
        for (const Linear::Part& part : linears_.at(site)->parts()) used.insert(part.weight.layer);
      }
    }
    for (const Linear::Part* part : candidate.model->linear_parts()) {
      const std::string& layer = part->weight.layer;
      // Calibration would not meet it either.
      if (used.contains(layer) || candidate.quantized(layer) == nullptr || candidate.calibrates(layer)) continue;
      entries_.push_back({.unit = layer,
                          .layers = {layer},
                          .scheme = candidate.recipe->name(),
                          .weight_error = quantize(candidate, part->weight).weight_error.relative(),
                          .output_error = std::nan(""),
                          .divergence = {},
                          .estimated = false});
    }
  }

  const std::vector<TokenBatch>& batches() const { return comparison_.sample().batches; }

  OutputComparison& comparison_;
  const SensitivityOptions& options_;
  std::unique_ptr<Backend> cpu_;
  SubstitutingBackend backend_;
  Workspace workspace_;
  Context context_;
  std::unique_ptr<Model> model_;       ///< in float, laid out
  std::unique_ptr<Model> source_;      ///< the same, its weights in their files
  std::unique_ptr<Model> calibrated_;  ///< the same, laid out block by block
  Parts source_parts_;
  std::map<int, const Linear*> linears_;  ///< by site
  std::vector<std::vector<int>> sites_;   ///< of each stage

  // Of the stage that is looked at.
  std::vector<DeviceMemory> states_, next_states_;  ///< of each batch: hidden states before and after it, in float
  std::vector<std::vector<float>> next_;            ///< the latter, on the host; none of the head
  std::map<int, std::vector<SubstitutingBackend::Input>> inputs_;  ///< by site, of each batch
  std::map<std::string, std::vector<float>> float_outputs_;        ///< by layer
  std::vector<std::unique_ptr<PackedWeight>> split_;               ///< float layers beside substituted ones
  std::vector<float> rows_;
  std::map<int, InputStatistics> statistics_;  ///< by site
  /// By layer and what a recipe says of weights.
  std::map<std::pair<std::string, std::string>, std::shared_ptr<const QTensor>> found_;

  std::optional<BlockStream> calibration_;
  std::vector<Sensitivity> entries_;
  int64_t done_ = 0, passed_ = 0, total_ = 0;
};

}  // namespace

SensitivityReport measure_sensitivity(const Checkpoint& checkpoint, std::span<const Recipe> schemes,
                                      OutputComparison& comparison, const SensitivityOptions& options) {
  if (schemes.empty()) fail<UsageError>("no scheme to try");
  std::set<std::string> names;
  for (const Recipe& recipe : schemes) {
    if (!names.insert(recipe.name()).second)
      fail<UsageError>("two schemes to try are called '{}'; give one another \"name\"", recipe.name());
  }
  Study study(checkpoint, comparison, options);
  std::vector<Candidate> candidates;
  for (const Recipe& recipe : schemes) {
    candidates.push_back(make_candidate(checkpoint, recipe));
    if (options.calibration == nullptr && !recipe.needs_data().empty())
      fail<UsageError>("recipe '{}': {} needs calibration data", recipe.name(), recipe.needs_data());
  }
  return study.run(candidates);
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/piece_quantizer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <utility>

#include "octet/base/error.h"
#include "octet/ptq/activation_sample.h"
#include "octet/ptq/alpha_search.h"
#include "octet/ptq/awq.h"
#include "octet/ptq/bias_correction.h"
#include "octet/ptq/block_rounding.h"
#include "octet/ptq/fold.h"
#include "octet/ptq/layer_output_error.h"
#include "octet/ptq/weight_quantizer.h"
#include "octet/quant/quantize.h"

namespace octet {

// What a pass collects of the rows that meet one site; only what is asked for.
struct PieceQuantizer::Collected {
  std::optional<InputStatistics> statistics;
  int64_t every = 1;  ///< row is one that the statistics see
  std::optional<ActivationRangeEstimator> range;
  std::optional<ActivationSample> sample;
  std::vector<int32_t> outliers;  ///< columns that all of the above see zeros in
  bool channels = false;
  std::vector<double> sum;    ///< [columns], of the rows, as is
  std::vector<float> absmax;  ///< if `channels`
  int64_t rows = 0;
  std::vector<float> rest = {};  ///< what is left of some rows
  std::vector<float> some = {};  ///< every so many of them
  int64_t met = 0;

  void add(std::span<const float> values, int64_t columns) {
    std::span<const float> seen = values;
    if (!outliers.empty()) {
      rest.assign(values.begin(), values.end());
      for (size_t row = 0; row < rest.size(); row += static_cast<size_t>(columns)) {
        for (const int32_t column : outliers) rest[row + static_cast<size_t>(column)] = 0;
      }
      seen = rest;
    }
    if (statistics) statistics->add(every == 1 ? seen : some_of(seen, columns));
    if (range) range->add(seen, columns);
    if (sample) sample->add(seen);
    if (!channels) return;
    sum.resize(static_cast<size_t>(columns));
    absmax.resize(static_cast<size_t>(columns));
    for (size_t i = 0; i < values.size(); i += static_cast<size_t>(columns), ++rows) {
      for (size_t c = 0; c < sum.size(); ++c) {
        sum[c] += values[i + c];
        absmax[c] = std::max(absmax[c], std::abs(values[i + c]));
      }
    }
  }

  std::span<const float> some_of(std::span<const float> values, int64_t columns) {
    some.clear();
    for (auto row = values.begin(); row != values.end(); row += columns) {
      if (met++ % every == 0) some.insert(some.end(), row, row + columns);
    }
    return some;
  }
};

namespace {

using Outputs = BlockStream::Outputs;

// Rows for each input that AWQ's search for an exponent sees, spread over all samples: twenty exponents are told apart
// by less than what GPTQ's codes need.
constexpr int64_t kAwqRowsPerInput = 16;

// Rows whose ranges a moving average takes as one: a sample of the usual length.
constexpr int64_t kBatchRows = 512;

void run(BlockStream& stream, Outputs outputs, std::span<const int> sites, auto& collected) {
  stream.run(outputs, sites, [&](const SiteInput& input) {
    collected.at({input.site.id, input.role}).add(input.rows, input.columns);
  });
}

// Values of its own, as [out, in].
void set_values(Parameter& weight, Tensor values) {
  weight.value = std::move(values);
  weight.transposed = false;
}

// With what it takes to undo the shift of the outputs' mean.
Tensor corrected(ConstTensorView bias, ConstTensorView weight, const QTensor& quantized, std::span<const double> sum,
                 int64_t rows, const std::string& layer) {
  const Tensor correction = bias_correction(weight, quantized, sum, rows, layer);
  Tensor out = to_f32(bias);
  std::ranges::transform(out.as<float>(), correction.as<float>(), out.mutable_as<float>().begin(), std::plus());
  return out;
}

std::vector<Linear::Part*> parts_of(Model& model, int64_t piece) {
  std::vector<Linear::Part*> parts;
  for (Linear* linear : model.piece(piece).linears) {
    for (Linear::Part& part : linear->parts()) parts.push_back(&part);
  }
  return parts;
}

}  // namespace

PieceQuantizer::PieceQuantizer(const Checkpoint& checkpoint, const Recipe& recipe,
                               std::map<std::string, LayerTarget> targets, Model& model, Backend& backend)
    : checkpoint_(checkpoint),
      recipe_(recipe),
      targets_(std::move(targets)),
      model_(model),
      pairs_(recipe.fold() ? model.fold_pairs() : std::vector<FoldPair>()),
      backend_(backend),
      sends_quantized_(recipe.bias_correction()) {
  for (const auto& [layer, target] : targets_) {
    if (!target.quantized_here) continue;
    const WeightAlgorithm algorithm = recipe.weight_algorithm(layer).algorithm;
    sends_quantized_ = sends_quantized_ || sees_earlier_errors(algorithm);
    learns_rounding_ = learns_rounding_ || learns_rounding(algorithm);
  }
}

const LayerTarget* PieceQuantizer::find(const std::string& layer) const {
  const auto found = targets_.find(layer);
  return found == targets_.end() ? nullptr : &found->second;
}

bool PieceQuantizer::needs_statistics_of(const Linear& linear) const {
  return std::ranges::any_of(linear.parts(), [&](const Linear::Part& part) {
    const LayerTarget* target = find(part.weight.layer);
    return target != nullptr && target->quantized_here &&
           needs_statistics(recipe_.weight_algorithm(part.weight.layer).algorithm);
  });
}

bool PieceQuantizer::needs_range(const Linear& linear) const {
  return std::ranges::any_of(linear.parts(), [&](const Linear::Part& part) {
    const LayerTarget* target = find(part.weight.layer);
    return target != nullptr && is_static(target->scheme.activations);
  });
}

bool PieceQuantizer::needs_rows(const Linear& linear) const {
  if (needs_statistics_of(linear) || needs_range(linear)) return true;
  return recipe_.bias_correction() && std::ranges::any_of(linear.parts(), [&](const Linear::Part& part) {
           const LayerTarget* target = find(part.weight.layer);
           return part.bias && target != nullptr && target->quantized_here;
         });
}

PieceQuantizer::Plan PieceQuantizer::plan(int64_t piece) const {
  Plan plan;
  const ModelPiece parts = model_.piece(piece);
  bool sequential = false;
  std::map<std::string, int> sites;  // by layer
  for (const Linear* linear : parts.linears) {
    for (const Linear::Part& part : std::as_const(*linear).parts()) {
      const std::string& layer = part.weight.layer;
      if (find(layer) == nullptr) continue;
      sites[layer] = linear->site().id;
      sequential = sequential || (find(layer)->quantized_here && recipe_.true_sequential(layer));
    }
  }
  for (const FoldPair& pair : pairs_) {
    const auto quantized =
        std::ranges::find_if(pair.into, [&](const std::string& layer) { return sites.contains(layer); });
    if (quantized == pair.into.end()) continue;
    const bool from_norm = std::ranges::any_of(parts.normalizations,
                                               [&](const Normalization* norm) { return norm->layer() == pair.from; });
    // A normalization without gains of its own has no place for factors.
    if (from_norm && !checkpoint_.contains(pair.from + ".weight") && !checkpoint_.contains(pair.from + ".gamma"))
      continue;
    plan.pairs.push_back(pair);
    plan.fold_sites.push_back(sites.at(*quantized));
  }
  for (Linear* linear : parts.linears) {
    const bool here = std::ranges::any_of(std::as_const(*linear).parts(),
                                          [&](const Linear::Part& part) { return find(part.weight.layer) != nullptr; });
    if (!here) continue;
    if (plan.steps.empty() || sequential) plan.steps.emplace_back();
    plan.steps.back().linears.push_back(linear);
    if (outliers_of(*linear).search) plan.steps.back().searched.push_back(linear->site().id);
    if (needs_rows(*linear)) plan.steps.back().sites.push_back(linear->site().id);
  }
  if (is_static(recipe_.attention()) && piece > 0 && piece <= model_.info().blocks) {
    // In the last step, for what makes queries, keys and values is quantized by then if steps see that at all.
    if (plan.steps.empty()) plan.steps.emplace_back();
    Step& last = plan.steps.back();
    last.attention = model_.attention_sites().at(static_cast<size_t>(piece - 1)).site;
    last.sites.push_back(last.attention->id);
  }
  return plan;
}

int64_t PieceQuantizer::watched_passes(const Plan& plan) {
  int64_t passes = plan.pairs.empty() ? 0 : 1;
  for (const Step& step : plan.steps) passes += (step.searched.empty() ? 0 : 1) + (step.sites.empty() ? 0 : 1);
  return passes;
}

int64_t PieceQuantizer::passes(int64_t piece, int64_t samples) const {
  // The last pass takes the outputs too, unless they are to be those of quantized weights.
  return std::max<int64_t>(1, watched_passes(plan(piece)) + (sends_quantized_ ? 1 : 0)) +
         rounding_of(piece).passes(samples);
}

PieceQuantizer::Rounding PieceQuantizer::rounding_of(int64_t piece) const {
  Rounding out;
  if (piece == 0 || piece > model_.info().blocks) return out;
  for (const Linear* linear : model_.piece(piece).linears) {
    for (const Linear::Part& part : linear->parts()) {
      const std::string& layer = part.weight.layer;
      const LayerTarget* target = find(layer);
      const WeightAlgorithmOptions asked = recipe_.weight_algorithm(layer);
      if (target == nullptr || !target->quantized_here || !learns_rounding(asked.algorithm)) continue;
      if (target->scheme.weight.outliers) {
        fail<UsageError>("recipe '{}': layer '{}' is to keep outlier columns, beside which rounding is not learned",
                         recipe_.name(), layer);
      }
      if (!out.layers.empty() && (asked.algorithm != out.algorithm || asked.rounding != out.options)) {
        fail<UsageError>(
            "recipe '{}': layers '{}' and '{}' learn their rounding together: give them one algorithm and options",
            recipe_.name(), out.layers.begin()->first, layer);
      }
      out.algorithm = asked.algorithm;
      out.options = asked.rounding;
      out.layers[layer] = target->scheme.weight;
    }
  }
  return out;
}

int64_t PieceQuantizer::Rounding::passes(int64_t samples) const {
  if (layers.empty()) return 0;
  const int64_t of_step = std::min(options.batch_size, std::max<int64_t>(1, samples));
  return (options.iterations * of_step + samples - 1) / samples;
}

void PieceQuantizer::learn_rounding(BlockStream& stream, PieceResult& result) {
  const Rounding rounding = rounding_of(stream.piece());
  if (rounding.layers.empty()) return;
  const int64_t samples = stream.samples().sequences();
  int64_t left = rounding.passes(samples) * samples;
  LearnedRounding learned =
      octet::learn_rounding(model_, backend_, stream.piece() - 1, stream.samples(),
                            {.inputs = stream.hidden_states(), .targets = floats_->hidden_states()}, rounding.layers,
                            rounding.algorithm, rounding.options, [&](int64_t more) {
                              const int64_t told = std::min(more, left);
                              left -= told;
                              stream.advance(told);
                            });
  stream.advance(left);
  result.layers[rounding.layers.begin()->first].notes.push_back(fmt::format(
      "rounding learned with the other layers of its block, whose outputs' error fell from {:.2f} % to {:.2f} %",
      100 * std::sqrt(learned.nearest_error), 100 * std::sqrt(learned.error)));
  result.weights = std::move(learned.weights);
}

PieceResult PieceQuantizer::quantize(BlockStream& stream) {
  const int64_t piece = stream.piece();
  const Plan plan = this->plan(piece);
  PieceResult result;
  if (learns_rounding_ && !floats_) floats_.emplace(model_, backend_, stream.samples());
  while (floats_ && floats_->piece() <= std::min(piece, model_.info().blocks)) floats_->run(Outputs::kTaken);
  int64_t left = watched_passes(plan);
  const NextOutputs outputs = [&](const Step* step) {
    if (--left == 0 && !sends_quantized_) return Outputs::kTaken;
    // A product that is alone in a step: none before it changes any more.
    return step != nullptr && step->linears.size() == 1 && !step->attention ? Outputs::kPaused : Outputs::kDropped;
  };
  if (!plan.pairs.empty()) fold(stream, plan, outputs(nullptr), result);
  learn_rounding(stream, result);
  for (const Step& step : plan.steps) run_step(stream, step, outputs, result);
  if (stream.piece() == piece) stream.run(Outputs::kTaken);
  for (Linear::Part* part : parts_of(model_, piece)) part->weight.value = std::monostate();
  return result;
}

std::vector<LayerToQuantize> PieceQuantizer::layers_to_quantize(std::span<const std::string> layers,
                                                                std::span<const ConstTensorView> weights,
                                                                const std::vector<int32_t>& outliers) const {
  std::vector<LayerToQuantize> out;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerTarget* target = find(layers[i]);
    out.push_back({.name = layers[i],
                   .weight = weights[i],
                   .scheme = target != nullptr ? std::optional(target->scheme) : std::nullopt});
    if (target == nullptr) continue;
    out.back().scheme->weight.outliers = !outliers.empty();
    out.back().outlier_columns = outliers;
  }
  return out;
}

namespace {

// Factors of one pair, and the exponent that they come from.
struct Factors {
  std::vector<float> values;
  std::optional<double> alpha;
};

// Divides what `from` gives, whichever of the two it is.
void fold_into_linear(Linear::Part& from, std::span<const float> factors, const FoldPair& pair, bool stays_float,
                      PieceResult& result) {
  Tensor folded = fold_into_outputs(FloatWeight(from.weight).view(), factors, pair);
  if (stays_float) result.tensors.insert_or_assign(pair.from + ".weight", Tensor::copy_of(folded.view()));
  set_values(from.weight, std::move(folded));
  if (!from.bias) return;
  from.bias = fold_into_outputs(from.bias->view(), factors, pair);
  result.tensors.insert_or_assign(pair.from + ".bias", Tensor::copy_of(from.bias->view()));
}

void fold_into_norm(Normalization& from, std::span<const float> factors, const FoldPair& pair, bool old_names,
                    PieceResult& result) {
  Tensor gamma = fold_into_outputs(from.gamma().view(), factors, pair);
  result.tensors.insert_or_assign(pair.from + (old_names ? ".gamma" : ".weight"), Tensor::copy_of(gamma.view()));
  std::optional<Tensor> beta;
  if (from.beta()) {
    beta = fold_into_outputs(from.beta()->view(), factors, pair);
    result.tensors.insert_or_assign(pair.from + (old_names ? ".beta" : ".bias"), Tensor::copy_of(beta->view()));
  }
  from.set(std::move(gamma), std::move(beta));
}

}  // namespace

void PieceQuantizer::fold(BlockStream& stream, const Plan& plan, Outputs outputs, PieceResult& result) {
  const FoldOptions& options = *recipe_.fold();
  const bool awq = options.method == FoldOptions::Method::kAwq;
  const std::vector<Linear::Part*> parts = parts_of(model_, stream.piece());
  const ModelPiece piece = model_.piece(stream.piece());
  const auto part_of = [&](const std::string& layer) {
    const auto found = std::ranges::find(parts, layer, [](const Linear::Part* part) { return part->weight.layer; });
    return found == parts.end() ? nullptr : *found;
  };

  SeenBySite collected;
  for (const Linear* linear : piece.linears) {
    const QuantSite& site = linear->site();
    if (std::ranges::find(plan.fold_sites, site.id) == plan.fold_sites.end()) continue;
    Collected& of_site = collected[{site.id, SiteInput::Role::kInput}];
    of_site.channels = !awq && options.alpha;
    if (awq) {
      of_site.statistics.emplace(linear->inputs(), backend_.threads());
      of_site.every = std::max<int64_t>(1, stream.tokens() / (kAwqRowsPerInput * linear->inputs()));
    }
    if (!awq && !options.alpha) of_site.sample.emplace(site.name, linear->inputs());
  }
  run(stream, outputs, plan.fold_sites, collected);

  for (size_t i = 0; i < plan.pairs.size(); ++i) {
    const FoldPair& pair = plan.pairs[i];
    const Collected& inputs = collected.at({plan.fold_sites[i], SiteInput::Role::kInput});
    std::vector<FloatWeight> weights;
    weights.reserve(pair.into.size());
    std::vector<ConstTensorView> into;
    for (const std::string& layer : pair.into) {
      if (part_of(layer) == nullptr) fail("fold pair '{}': layer '{}' is in another block", pair.from, layer);
      into.push_back(weights.emplace_back(part_of(layer)->weight).view());
    }
    Factors factors{.values = {}, .alpha = options.alpha};
    if (awq) {
      const auto quantized = std::ranges::find_if(pair.into, [&](const std::string& layer) { return find(layer); });
      WeightScheme scheme = find(*quantized)->scheme.weight;
      scheme.outliers = false;  // none are known yet
      AwqFactors found = awq_factors(*inputs.statistics, into, scheme, pair.into.front(), backend_.threads());
      factors = {tied_factors(std::move(found.factors), pair), found.alpha};
    } else if (options.alpha) {
      factors.values = smoothquant_factors(inputs.absmax, into, *options.alpha, pair);
    } else {
      const LayerOutputError error(backend_, layers_to_quantize(pair.into, into), *inputs.sample);
      AlphaChoice choice = search_alpha(error, pair);
      factors = {std::move(choice.factors), choice.alpha};
    }
    result.folds.push_back({.from = pair.from, .into = pair.into, .alpha = factors.alpha});
    if (!factors.alpha) continue;  // all are 1

    for (size_t w = 0; w < pair.into.size(); ++w) {
      Tensor folded = fold_into_inputs(into[w], factors.values);
      if (find(pair.into[w]) == nullptr)
        result.tensors.insert_or_assign(pair.into[w] + ".weight", Tensor::copy_of(folded.view()));
      set_values(part_of(pair.into[w])->weight, std::move(folded));
    }
    if (Linear::Part* from = part_of(pair.from)) {
      fold_into_linear(*from, factors.values, pair, find(pair.from) == nullptr, result);
      continue;
    }
    const auto norm = std::ranges::find(piece.normalizations, pair.from, &Normalization::layer);
    if (norm == piece.normalizations.end()) fail("fold pair '{}': is in another block", pair.from);
    fold_into_norm(**norm, factors.values, pair, !checkpoint_.contains(pair.from + ".weight"), result);
  }
}

RangeEstimate PieceQuantizer::find_range(const Linear& linear, ActivationMode mode, const RangeOptions& options,
                                         const Collected& inputs) const {
  if (options.method != RangeMethod::kBest) return inputs.range->estimate(mode, options);
  // Which values matter, only the weights know that multiply them.
  std::vector<FloatWeight> weights;
  std::vector<ConstTensorView> views;
  std::vector<std::string> layers;
  weights.reserve(linear.parts().size());
  for (const Linear::Part& part : linear.parts()) {
    views.push_back(weights.emplace_back(part.weight).view());
    layers.push_back(part.weight.layer);
  }
  const LayerOutputError error(backend_, layers_to_quantize(layers, views, inputs.outliers), *inputs.sample);
  return best_range(error, inputs.range->estimates(mode, options.percentile, options.bits)).estimate;
}

PieceQuantizer::Outliers PieceQuantizer::outliers_of(const Linear& linear) const {
  std::optional<Outliers> all;
  std::string first;
  for (const Linear::Part& part : linear.parts()) {
    const std::string& layer = part.weight.layer;
    const LayerTarget* target = find(layer);
    if (target == nullptr || !target->quantized_here) continue;
    Outliers own;
    const std::span<const int32_t> given = recipe_.outlier_columns(layer);
    own.columns.assign(given.begin(), given.end());
    if (given.empty() && target->scheme.weight.outliers) own.search = recipe_.outliers(layer);
    if (all && own != *all) {
      fail<UsageError>("recipe '{}': layers '{}' and '{}' read the same input: give them the same outliers",
                       recipe_.name(), first, layer);
    }
    if (!all) first = layer;
    all = std::move(own);
  }
  return all.value_or(Outliers());
}

PieceQuantizer::OutliersBySite PieceQuantizer::find_outliers(BlockStream& stream, const Step& step,
                                                             const NextOutputs& outputs) const {
  SeenBySite collected;
  for (const int site : step.searched) collected[{site, SiteInput::Role::kInput}].channels = true;
  if (!step.searched.empty()) run(stream, outputs(&step), step.searched, collected);
  OutliersBySite found;
  for (const Linear* linear : step.linears) {
    const Outliers outliers = outliers_of(*linear);
    const int site = linear->site().id;
    found[site] = outliers.search
                      ? find_outlier_columns(collected.at({site, SiteInput::Role::kInput}).absmax, *outliers.search)
                      : outliers.columns;
  }
  return found;
}

void PieceQuantizer::run_step(BlockStream& stream, const Step& step, const NextOutputs& outputs, PieceResult& result) {
  const OutliersBySite outliers = find_outliers(stream, step, outputs);
  SeenBySite collected;
  for (const Linear* linear : step.linears) {
    if (!needs_rows(*linear)) continue;
    Collected& of_site = collected[{linear->site().id, SiteInput::Role::kInput}];
    of_site.outliers = outliers.at(linear->site().id);
    of_site.channels = recipe_.bias_correction();
    if (needs_statistics_of(*linear)) of_site.statistics.emplace(linear->inputs(), backend_.threads());
    if (!needs_range(*linear)) continue;
    of_site.range.emplace(linear->site().name, kBatchRows, backend_.threads());
    of_site.sample.emplace(linear->site().name, linear->inputs());
  }
  if (step.attention) {
    for (const auto& [role, operand] : kAttentionOperands) {
      collected[{step.attention->id, role}].range.emplace(attention_operand(*step.attention, operand), kBatchRows,
                                                          backend_.threads());
    }
  }
  if (!step.sites.empty()) run(stream, outputs(&step), step.sites, collected);

  if (step.attention) find_attention_scales(*step.attention, collected, result);
  for (Linear* linear : step.linears) {
    const auto found = collected.find({linear->site().id, SiteInput::Role::kInput});
    const Collected* inputs = found == collected.end() ? nullptr : &found->second;
    // Ranges come first, while all weights that read the site are float.
    if (inputs != nullptr && inputs->range) find_scales(*linear, *inputs, result);
    for (Linear::Part& part : linear->parts()) {
      const LayerTarget* target = find(part.weight.layer);
      if (target != nullptr && target->quantized_here)
        quantize_part(part, target->scheme.weight, inputs, outliers.at(linear->site().id), result);
    }
  }
}

void PieceQuantizer::find_scales(const Linear& linear, const Collected& inputs, PieceResult& result) const {
  struct Found {
    ActivationMode mode;
    RangeOptions options;
    RangeEstimate estimate;
  };
  std::optional<Found> last;
  for (const Linear::Part& part : linear.parts()) {
    const std::string& layer = part.weight.layer;
    const LayerTarget* target = find(layer);
    if (target == nullptr || !is_static(target->scheme.activations)) continue;
    const ActivationMode mode = target->scheme.activations;
    const int bits = target->scheme.activation_bits;
    SiteReport report{.site = linear.site().name, .given = !target->static_scale};
    report.dynamic_error = inputs.range->dynamic_relative_error();
    if (report.given) {
      report.estimate.scale = recipe_.activation_scale(layer, mode, bits);
      report.estimate.loss = inputs.range->measure(mode, report.estimate.scale);
    } else {
      // Layers that read one input mostly ask the same of it.
      RangeOptions asked = recipe_.activation_range(layer);
      asked.bits = bits;
      const bool known = last && last->mode == mode && last->options.method == asked.method &&
                         last->options.percentile == asked.percentile && last->options.bits == bits;
      if (!known) last = Found{mode, asked, find_range(linear, mode, asked, inputs)};
      report.estimate = last->estimate;
      result.scales[layer] = report.estimate.scale;
    }
    const bool told = !result.sites.empty() && result.sites.back().site == report.site &&
                      result.sites.back().estimate.scale == report.estimate.scale;
    if (!told) result.sites.push_back(std::move(report));
  }
}

void PieceQuantizer::find_attention_scales(const QuantSite& attention, const SeenBySite& seen,
                                           PieceResult& result) const {
  constexpr ActivationMode kMode = ActivationMode::kStaticPerTensor;
  for (const auto& [role, operand] : kAttentionOperands) {
    const ActivationRangeEstimator& range = *seen.at({attention.id, role}).range;
    SiteReport report{.site = range.site(), .given = recipe_.has_scale(range.site())};
    report.dynamic_error = range.dynamic_relative_error();
    RangeOptions options = recipe_.attention_range();
    options.bits = role == SiteInput::Role::kValue ? recipe_.attention_bits().v : recipe_.attention_bits().qk;
    if (report.given) {
      report.estimate.scale = {.scale = recipe_.attention_scale(report.site), .bits = options.bits};
      report.estimate.loss = range.measure(kMode, report.estimate.scale);
    } else {
      report.estimate = range.estimate(kMode, options);
      result.scales[report.site] = report.estimate.scale;
    }
    result.sites.push_back(std::move(report));
  }
}

void PieceQuantizer::quantize_part(Linear::Part& part, const WeightScheme& scheme, const Collected* inputs,
                                   std::span<const int32_t> outliers, PieceResult& result) const {
  const std::string layer = part.weight.layer;
  const FloatWeight values(part.weight);
  WeightAlgorithmOptions algorithm = recipe_.weight_algorithm(layer);
  // What is in no block has none to learn by.
  if (learns_rounding(algorithm.algorithm)) algorithm.algorithm = WeightAlgorithm::kRoundToNearest;
  const auto learned = result.weights.find(layer);
  QuantizedWeight quantized =
      learned != result.weights.end()
          ? QuantizedWeight{.tensor = std::move(learned->second),
                            .notes = {},
                            .output_error = std::numeric_limits<double>::quiet_NaN()}
          : quantize_weight(values.view(), scheme, algorithm,
                            inputs != nullptr && inputs->statistics ? &*inputs->statistics : nullptr, layer,
                            backend_.threads(), outliers);
  WeightReport& report = result.layers[layer];
  report.relative_error = relative_error(values.view(), quantized.tensor);
  report.output_error = quantized.output_error;
  std::ranges::move(quantized.notes, std::back_inserter(report.notes));
  if (recipe_.bias_correction() && part.bias) {
    part.bias = corrected(part.bias->view(), values.view(), quantized.tensor, inputs->sum, inputs->rows, layer);
    result.tensors.insert_or_assign(layer + ".bias", Tensor::copy_of(part.bias->view()));
  } else if (recipe_.bias_correction()) {
    ++result.uncorrected;
  }
  values.release_pages();
  if (sends_quantized_) {
    part.weight.value = copy_of(quantized.tensor);
    part.weight.scheme = Scheme{quantized.tensor.scheme, ActivationMode::kFloat};
  }
  result.weights.insert_or_assign(layer, std::move(quantized.tensor));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/models/model.h"

#include <algorithm>
#include <map>

#include "octet/base/error.h"
#include "octet/base/suggest.h"
#include "octet/io/compressed_tensors.h"
#include "octet/models/bert.h"
#include "octet/models/distilbert.h"
#include "octet/models/gpt2.h"
#include "octet/models/gpt_neox.h"
#include "octet/models/gptj.h"
#include "octet/models/llama.h"
#include "octet/models/opt.h"
#include "octet/models/phi.h"

namespace octet {
namespace {

using Loader = std::unique_ptr<Model> (*)(const std::string& architecture, const WeightSource& source);

// Every architecture that Octet has; a new one adds its file and its names here.
const std::map<std::string, Loader>& loaders() {
  static const std::map<std::string, Loader> table = {
      {"BertModel", load_bert},
      {"BertForSequenceClassification", load_bert},
      {"BertForQuestionAnswering", load_bert},
      {"BertForMaskedLM", load_bert},
      {"RobertaModel", load_bert},
      {"RobertaForSequenceClassification", load_bert},
      {"RobertaForQuestionAnswering", load_bert},
      {"RobertaForMaskedLM", load_bert},
      {"XLMRobertaModel", load_bert},
      {"XLMRobertaForSequenceClassification", load_bert},
      {"XLMRobertaForQuestionAnswering", load_bert},
      {"XLMRobertaForMaskedLM", load_bert},
      {"ElectraModel", load_bert},
      {"ElectraForSequenceClassification", load_bert},
      {"ElectraForQuestionAnswering", load_bert},
      {"ElectraForMaskedLM", load_bert},
      {"ElectraForPreTraining", load_bert},
      {"DistilBertModel", load_distilbert},
      {"DistilBertForSequenceClassification", load_distilbert},
      {"DistilBertForQuestionAnswering", load_distilbert},
      {"DistilBertForMaskedLM", load_distilbert},
      {"LlamaModel", load_llama},
      {"LlamaForCausalLM", load_llama},
      {"MistralModel", load_llama},
      {"MistralForCausalLM", load_llama},
      {"Qwen2Model", load_llama},
      {"Qwen2ForCausalLM", load_llama},
      {"GPT2Model", load_gpt2},
      {"GPT2LMHeadModel", load_gpt2},
      {"GPTJModel", load_gptj},
      {"GPTJForCausalLM", load_gptj},
      {"GPTNeoXModel", load_gpt_neox},
      {"GPTNeoXForCausalLM", load_gpt_neox},
      {"OPTModel", load_opt},
      {"OPTForCausalLM", load_opt},
      {"PhiModel", load_phi},
      {"PhiForCausalLM", load_phi},
  };
  return table;
}

void check_range(std::span<const int32_t> values, int64_t end, const char* what, std::span<const int32_t> offsets) {
  const auto bad =
      std::find_if(values.begin(), values.end(), [end](int32_t value) { return value < 0 || value >= end; });
  if (bad == values.end()) return;
  const int64_t row = bad - values.begin();
  const int64_t sequence = std::upper_bound(offsets.begin(), offsets.end(), row) - offsets.begin() - 1;
  fail("sequence {}: its {} {} is outside the model's range, 0 to {}", sequence, what, *bad, end - 1);
}

// Rounding to nearest is done while loading; what takes data or a search is written once.
void check_is_for_loading(const Recipe& recipe) {
  if (recipe.is_to_be_calibrated() || !recipe.is_offline()) return;
  const std::string data = recipe.needs_data();
  fail<UsageError>(
      "recipe '{}': {} is not done while loading. Write the model first: octet quantize MODEL --recipe {}{} "
      "--out DIR; then use DIR.",
      recipe.name(), data.empty() ? "its search" : data + ", which needs calibration data,", recipe.name(),
      data.empty() ? "" : " --data TEXT");
}

// A recipe that quantizes activations alone needs weights that are stored as codes.
void check_applies(const Recipe& recipe, const Checkpoint& checkpoint, const Model& model) {
  if (recipe.quantizes_weights() || layers_left_float(recipe, model).empty()) return;
  const std::vector<const Linear::Part*> parts = model.linear_parts();
  if (std::ranges::any_of(parts, [](const Linear::Part* part) { return part->weight.stored_codes; })) return;
  fail<UsageError>(
      "recipe '{}': quantizes activations but not weights, and those of {} are float; an integer product needs both. "
      "Add "
      "\"weights\": {{\"bits\": 8}}, or take w8a8_dynamic.",
      recipe.name(), checkpoint.folder().string());
}

}  // namespace

std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, const Recipe* recipe) {
  const std::vector<std::string> architectures = checkpoint.config().texts("architectures");
  if (architectures.size() != 1) {
    fail<FormatError>("{}: 'architectures' must name one architecture, such as [\"BertModel\"]; it names {}",
                      checkpoint.config().source(), architectures.size());
  }
  const auto loader = loaders().find(architectures.front());
  if (loader == loaders().end()) {
    std::vector<std::string> names;
    for (const auto& [name, load] : loaders()) names.push_back(name);
    fail<FormatError>("{}: the architecture '{}' is not supported.{}", checkpoint.config().source(),
                      architectures.front(), did_you_mean(architectures.front(), names));
  }
  if (recipe != nullptr) check_is_for_loading(*recipe);
  std::unique_ptr<Model> model = loader->second(loader->first, WeightSource(checkpoint, recipe));
  if (recipe != nullptr) check_applies(*recipe, checkpoint, *model);
  return model;
}

std::vector<std::string> layers_left_float(const Recipe& recipe, const Model& model) {
  std::vector<std::string> layers;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    const ActivationMode asked = recipe.activations_for(weight.layer).value_or(ActivationMode::kFloat);
    if (!recipe.quantizes_weights() && !weight.scheme && asked != ActivationMode::kFloat)
      layers.push_back(weight.layer);
  }
  return layers;
}

std::vector<std::string> unmatched_patterns(const Recipe& recipe, const Model& model) {
  std::vector<std::string> layers;
  for (const Linear::Part* part : model.linear_parts()) {
    layers.push_back(part->weight.layer);
    if (!part->weight.tied_head.empty()) layers.push_back(part->weight.tied_head);
  }
  std::vector<std::string> operands;
  for (const AttentionSite& attention : model.attention_sites()) {
    if (!is_static(attention.site.mode)) continue;
    for (const char* operand : {"q", "k", "v"}) operands.push_back(attention_operand(attention.site, operand));
  }
  return recipe.unmatched_patterns(layers, operands);
}

WeightFormat stored_format(const Parameter& weight) {
  return weight.over_vocabulary ? embedding_format(weight.scheme->weight) : format_for(*weight.scheme);
}

bool repeats_scales(const Parameter& weight) {
  return !weight.tied_head.empty() && stored_format(weight) == WeightFormat::kIntQuantized;
}

int64_t stored_bytes(const Parameter& weight) {
  const int64_t bytes = encoded_bytes(weight.shape, weight.scheme->weight, stored_format(weight)) +
                        encoded_scale_bytes(weight.scheme->activations) +
                        encoded_outlier_bytes(weight.shape[0], std::ssize(weight.outlier_columns));
  if (!repeats_scales(weight)) return bytes;
  const bool zero_points = weight.scheme->weight.mapping == CodeMapping::kZeroPoint;
  const int64_t beside = byte_size(DType::kF32) + (zero_points ? byte_size(DType::kI8) : 0);
  return bytes + weight.shape[0] * weight.scheme->weight.groups(weight.shape[1]) * beside;
}

int64_t stored_bytes(const Checkpoint& checkpoint, const Model& model) {
  int64_t bytes = checkpoint.bytes();
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    if (!weight.scheme || weight.stored_codes) continue;
    bytes += stored_bytes(weight) - checkpoint.describe(weight.layer + ".weight").bytes;
    // Some checkpoints store a tied table twice.
    const std::string twin = weight.tied_head + ".weight";
    if (!weight.tied_head.empty() && checkpoint.contains(twin)) bytes -= checkpoint.describe(twin).bytes;
  }
  if (!checkpoint.quantization() && is_static(model.info().attention))
    bytes += model.info().blocks * 3 * byte_size(DType::kF32);
  return bytes;
}

std::vector<const Linear::Part*> Model::linear_parts() const {
  std::vector<const Linear::Part*> parts;
  for (const Linear* linear : linears()) {
    for (const Linear::Part& part : linear->parts()) parts.push_back(&part);
  }
  return parts;
}

void Model::prepare(Backend& backend) {
  for (int64_t i = 0; i < pieces(); ++i) prepare_piece(backend, i, Sources::kLetGo);
}

void Model::check_inputs(const TokenBatch& batch) const {
  // Length first: that a sequence is too long says more than which of its tokens is.
  if (const int64_t longest = batch.longest(); longest > info_.max_positions) {
    fail("a sequence has {} tokens; this model's longest is {}. Truncate it.", longest, info_.max_positions);
  }
  check_range(batch.positions, info_.max_positions, "position", batch.offsets);
  check_range(batch.ids, info_.vocabulary, "token id", batch.offsets);
  if (info_.token_types != 0) check_range(batch.type_ids, info_.token_types, "type id", batch.offsets);
}

Activation Model::hidden_states(Context& context, const DeviceBatch& batch) const {
  check_inputs(batch.host);
  const Activation x = embed(context, batch);
  for (int64_t i = 0; i < info_.blocks; ++i) {
    run_block(context, i, batch, x);
    check_numerics(context, sites_, batch.host.offsets);
  }
  return x;
}

Activation Model::forward(Context& context, const DeviceBatch& batch) const {
  const Activation output = head(context, batch, hidden_states(context, batch));
  check_numerics(context, sites_, batch.host.offsets);
  return output;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/models/encoder_heads.h"

#include <utility>

#include "octet/base/error.h"

namespace octet {
namespace {

std::vector<Linear::Part> head_linear(const WeightSource& source, const std::string& layer, int64_t outputs,
                                      int64_t inputs) {
  return source.lone_linear(layer, outputs, inputs, WeightSource::Role::kHead);
}

int64_t outputs_of(const WeightSource& source, const std::string& layer, int64_t inputs) {
  const Tensor weight = source.tensor(layer + ".weight");
  if (weight.shape().rank() != 2 || weight.shape()[1] != inputs || weight.shape()[0] == 0) {
    fail<ShapeError>("{}: tensor '{}.weight' has the shape {}; [labels, {}] is needed", source.config().source(), layer,
                     to_string(weight.shape()), inputs);
  }
  return weight.shape()[0];
}

}  // namespace

Transformer::HeadPlan sequence_head(const WeightSource& source, const HeadLayer& inner, const std::string& classifier,
                                    int64_t width) {
  Transformer::HeadPlan plan;
  plan.output = OutputKind::kSequenceLogits;
  plan.inner = head_linear(source, inner.name, inner.outputs, width);
  plan.nonlinearity = inner.nonlinearity;
  plan.outputs = head_linear(source, classifier, outputs_of(source, classifier, inner.outputs), inner.outputs);
  return plan;
}

Transformer::HeadPlan token_head(const WeightSource& source, const std::string& layer, int64_t outputs, int64_t width,
                                 const std::optional<HeadLayer>& inner) {
  Transformer::HeadPlan plan;
  plan.output = OutputKind::kTokenLogits;
  if (inner) {
    plan.inner = head_linear(source, inner->name, inner->outputs, width);
    plan.nonlinearity = inner->nonlinearity;
  }
  plan.outputs = head_linear(source, layer, outputs, inner ? inner->outputs : width);
  return plan;
}

Transformer::HeadPlan masked_lm_head(const WeightSource& source, const HeadLayer& inner, int64_t width,
                                     Normalization norm, const std::string& decoder, const std::string& bias) {
  const bool own = !source.config().flag("tie_word_embeddings", true) && source.contains_weight(decoder);
  Transformer::HeadPlan plan;
  plan.output = OutputKind::kTokenLogits;
  plan.inner = head_linear(source, inner.name, inner.outputs, width);
  plan.nonlinearity = inner.nonlinearity;
  plan.norm = std::move(norm);
  plan.vocabulary = {.layer = decoder, .tied = !own, .bias = bias};
  return plan;
}

}  // namespace octet

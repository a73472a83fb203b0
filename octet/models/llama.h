// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// Llama (Touvron et al., 2023) as transformers lays it out, with and without its head over the vocabulary: LlamaModel,
/// LlamaForCausalLM; and what differs from it in a config's words only: Mistral (a sliding window), Qwen2 (biases on
/// query, key and value).
std::unique_ptr<Model> load_llama(const std::string& architecture, const WeightSource& source);

}  // namespace octet

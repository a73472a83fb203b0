// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// GPT-J (Wang and Komatsuzaki, 2021) as transformers lays it out: GPTJModel, GPTJForCausalLM.
std::unique_ptr<Model> load_gptj(const std::string& architecture, const WeightSource& source);

}  // namespace octet

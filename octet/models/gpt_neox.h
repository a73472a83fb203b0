// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// GPT-NeoX (Black et al., 2022), which Pythia is too, as transformers lays it out: GPTNeoXModel, GPTNeoXForCausalLM.
std::unique_ptr<Model> load_gpt_neox(const std::string& architecture, const WeightSource& source);

}  // namespace octet

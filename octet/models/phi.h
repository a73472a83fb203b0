// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// Phi-1, 1.5 and 2 (Gunasekar et al., 2023) as transformers lays them out: PhiModel, PhiForCausalLM.
std::unique_ptr<Model> load_phi(const std::string& architecture, const WeightSource& source);

}  // namespace octet

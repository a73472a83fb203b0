// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// OPT (Zhang et al., 2022) as transformers lays it out: OPTModel, OPTForCausalLM, with normalization before or after
/// each part, and word vectors as wide as the blocks or projected in and out.
std::unique_ptr<Model> load_opt(const std::string& architecture, const WeightSource& source);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// GPT-2 (Radford et al., 2019) as transformers lays it out: GPT2Model, GPT2LMHeadModel.
std::unique_ptr<Model> load_gpt2(const std::string& architecture, const WeightSource& source);

}  // namespace octet

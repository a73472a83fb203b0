// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "octet/models/model.h"

namespace octet {

/// Throws UsageError, naming `source`, for a model without a head that finds masked tokens (BertForMaskedLM and its
/// like).
void require_masked_lm(const ModelInfo& info, const std::string& source);

}  // namespace octet

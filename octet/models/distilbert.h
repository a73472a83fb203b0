// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// DistilBERT (Sanh et al., 2019) as transformers lays it out: DistilBertModel, DistilBertForSequenceClassification,
/// DistilBertForQuestionAnswering, DistilBertForMaskedLM.
std::unique_ptr<Model> load_distilbert(const std::string& architecture, const WeightSource& source);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// BERT (Devlin et al., 2019) as transformers lays it out: BertModel (its last hidden state; the pooler is not run),
/// BertForSequenceClassification, BertForQuestionAnswering, BertForMaskedLM.
std::unique_ptr<Model> load_bert(const std::string& architecture, const WeightSource& source);

}  // namespace octet

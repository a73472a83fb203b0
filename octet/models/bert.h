// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"

namespace octet {

/// BERT (Devlin et al., 2019) as transformers lays it out, and what has its blocks under its names: RoBERTa (Liu et
/// al., 2019) and XLM-RoBERTa, which count positions around padding, and ELECTRA (Clark et al., 2020), whose embeddings
/// may be narrower than its blocks. Each as …Model (the last hidden state; a pooler is not run),
/// …ForSequenceClassification, …ForQuestionAnswering and …ForMaskedLM; ELECTRA as …ForPreTraining too (a logit a token:
/// was it replaced?).
std::unique_ptr<Model> load_bert(const std::string& architecture, const WeightSource& source);

}  // namespace octet

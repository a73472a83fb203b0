// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "octet/ptq/model_facts.h"
#include "octet/report/markup.h"

namespace octet::cli {

/// The page that `octet report` writes. `program` is told at its end: who measured, and on what. The same facts give
/// the same bytes.
std::string report_page(const ModelFacts& facts, const std::string& program);

// Its parts that go layer by layer; empty where nothing is known.

/// Errors of all layers of all variants: by block and kind, and ranked.
Markup layers_part(const ModelFacts& facts);
/// Where the weights of the layers that lose most lie on the scales of their codes.
Markup weights_part(const ModelFacts& facts);
/// What sites saw, and what scales do to it.
Markup activations_part(const ModelFacts& facts);
/// What stands out in layers and activations, in sentences.
std::vector<std::string> remarkable(const VariantFacts& variant);

/// The layer that loses most, null where no error is known.
const LayerFacts* worst_layer(const VariantFacts& variant);

}  // namespace octet::cli

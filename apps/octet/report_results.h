// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "octet/ptq/model_facts.h"

namespace octet::cli {

/// Adds what a JSON file says that `octet report`, `compare`, `bench`, `quantize`, `sensitivity` or `autoquant` printed
/// with --json, known by its keys. `given` is a path, or NAME=PATH; what the file measured belongs to the variant NAME,
/// else to the one of the recipe that the file names, else to one that is called like the file. Throws Error where it
/// cannot be read, FormatError, naming file and key, where it is none of these.
void add_results(const std::string& given, ModelFacts& facts);

/// The variant of that name, made where there is none.
VariantFacts& variant_named(ModelFacts& facts, const std::string& name);

}  // namespace octet::cli

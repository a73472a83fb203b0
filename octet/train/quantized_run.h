// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/io/checkpoint.h"
#include "octet/models/model.h"
#include "octet/quant/recipe.h"

namespace octet {

/// The recipe that a checkpoint of quantization-aware training lies beside: which layers, and the scales of static
/// activations as they are then. Its weights are float; octet lower makes the codes.
inline constexpr const char* kTrainedRecipe = "qat_recipe.json";

/// `recipe` with a scale for every static site that has none, found by running `samples` through the float model in
/// `checkpoint`; `scratch` is a folder to be made, and gone at the end.
Recipe calibrated(const Checkpoint& checkpoint, const Recipe& recipe, const TokenBatch& samples,
                  const CpuBackendOptions& cpu, const std::filesystem::path& scratch);

/// `recipe` with the scales that the static sites of a model in training have now, and ranges of weights that find what
/// was learned of them, if it was.
Recipe with_ranges_of(const Model& model, const Recipe& recipe, const QuantizedTraining& training);

/// To `file`, which appears whole or not at all.
void write_recipe(const std::filesystem::path& file, const Recipe& recipe);

/// Throws UsageError for what training does not go along with: folds, algorithms other than rounding to nearest,
/// quantized embeddings.
void check_trainable(const Recipe& recipe);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/io/checkpoint.h"
#include "octet/models/model.h"
#include "octet/ptq/calibration_data.h"
#include "octet/ptq/piece_quantizer.h"
#include "octet/quant/recipe.h"

namespace octet {

/// What became of one linear layer.
struct LayerReport {
  std::string name;
  std::optional<Scheme> scheme;  ///< none: kept in float
  bool over_vocabulary = false;  ///< an input embedding, or an output head beside one
  int64_t bytes_before = 0, bytes_after = 0;
  int64_t inputs = 0;
  int64_t outlier_columns = 0,
          outlier_bytes = 0;                ///< inputs that meet 16-bit weights, and what these take of bytes_after
  double relative_error = 0;                ///< ‖W - Q‖ / ‖W‖, W with what was folded into it
  std::optional<double> output_error = {};  ///< see QuantizedWeight; none where calibration did not measure it
  std::vector<std::string> notes = {};      ///< what is to be told: "3 dead columns"
};

/// Layers whose inputs the recipe's group size does not divide, so that a fallback was taken.
struct GroupFallback {
  int64_t asked = 0, inputs = 0;
  int64_t taken = 0;   ///< 0: one scale a row
  int64_t layers = 0;  ///< of so many inputs
};

/// In the order of the forward pass.
std::vector<GroupFallback> group_fallbacks(const Recipe& recipe, const Model& model);
/// "group_size 128 does not divide 576 inputs: 64 taken in 120 layers"
std::string to_string(const GroupFallback& fallback);

struct QuantizeReport {
  std::vector<LayerReport> layers;              ///< in the order of the forward pass
  std::vector<std::string> unmatched_patterns;  ///< of the recipe: they name no layer of this model
  std::vector<GroupFallback> group_fallbacks;
  bool float_tables = false;                  ///< other embeddings are left in float: of positions, of token types
  int64_t bytes_before = 0, bytes_after = 0;  ///< of all tensors
  int64_t resumed_layers = 0;                 ///< quantized by a run that was killed
  std::vector<SiteReport> sites;              ///< static ones, in the order of the forward pass
  std::vector<FoldReport> folds;
  std::vector<std::string> notes;  ///< what is to be told
};

struct QuantizeModelOptions {
  /// Of a weight file, in bytes; a larger model is written in several. What a killed run has to do again.
  int64_t largest_shard = int64_t{2} << 30;
  /// Follows the layers, but for those that are quantized with data.
  std::function<void(int64_t done, int64_t total)> advance = {};
  const CalibrationData* data = nullptr;  ///< for recipes that need it
  CpuBackendOptions cpu = {};             ///< what samples run on
  /// Follows the samples, each as often as it passes a piece of the model (see quantize_pieces).
  std::function<void(int64_t done, int64_t total)> advance_calibration = {};
};

/// The float model with the schemes that quantize_model gives its layers; nothing is quantized yet.
std::unique_ptr<Model> load_to_quantize(const Checkpoint& checkpoint, const Recipe& recipe);

/// Whether quantize_model reads samples for `recipe`: its algorithms or folds want them, or it lacks a static scale.
bool needs_samples(const Checkpoint& checkpoint, const Recipe& recipe);

/// Quantizes the float model in `checkpoint` by `recipe` and writes a Hugging Face directory: model.safetensors (or
/// several files and their index) and config.json in the compressed-tensors layout, every other tensor as it was,
/// tokenizer and other files copied. Holds one layer at a time. `out` must not exist; it appears whole or not at all.
/// What a killed run has finished is taken up by the next one from the same files by the same recipe with the same
/// samples.
///
/// Recipes that need data get it by options.data, UsageError otherwise: its samples go through the float model, and
/// config.json says under "octet_calibration" what they were and which ranges were found. Biases and normalizations
/// that a fold or a correction changes are written in fp32.
QuantizeReport quantize_model(const Checkpoint& checkpoint, const Recipe& recipe, const std::filesystem::path& out,
                              const QuantizeModelOptions& options = {});

}  // namespace octet

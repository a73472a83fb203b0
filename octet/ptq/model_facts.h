// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "octet/io/config.h"

namespace octet {

/// What is known of a model and of what quantization did to it, as plain data: whoever knows a part fills it in, and
/// `octet report` shows it. An optional that is empty was not measured. Errors and shares are fractions of 1.

struct MeasuredValue {
  double value = 0;
  std::optional<double> standard_error = {};
};

/// Counts of values in bins of one width from `low` to `high`.
struct HistogramFacts {
  double low = 0, high = 0;
  std::vector<int64_t> counts;
};

/// A linear layer.
struct LayerFacts {
  std::string name;
  std::optional<int64_t> block = {};  ///< none: outside of the blocks
  std::string kind;                   ///< its name in its block: "self_attn.q_proj"
  int64_t outputs = 0, inputs = 0;
  int64_t bytes = 0;                          ///< in a checkpoint
  std::string scheme = {};                    ///< in words; "": float
  std::optional<double> relative_error = {};  ///< of the weight: ‖W - Q‖ / ‖W‖
  std::optional<double> output_error = {};    ///< of its outputs on the calibration data, ‖y - ŷ‖ / ‖y‖
  /// What the model's predictions lose, in nats a token, where nothing else is quantized.
  std::optional<double> kl = {};
  std::optional<double> outside_share = {};   ///< of its weights: more than half a step beyond the last code
  std::optional<HistogramFacts> codes = {};   ///< where its weights lie on the scale of their codes
  std::pair<double, double> code_range = {};  ///< the lowest and the highest code
  std::vector<std::string> notes = {};        ///< what is to be told: "3 dead columns"
};

/// The fixed scale of a site's activations, and what it does to those seen (see QuantizationLoss).
struct StaticFacts {
  std::string method = {};  ///< that found it: "percentile"; "" if not known
  double low = 0, high = 0;
  double clipped_share = 0, relative_error = 0;
  std::optional<double> clipped_energy = {}, zeroed_share = {};
};

/// The activations that linear layers with one input read.
struct SiteFacts {
  std::string name;
  std::optional<int64_t> block = {};
  std::string kind;
  int64_t rows = 0;
  double smallest = 0, largest = 0;
  std::optional<double> dynamic_error = {};  ///< relative, of INT8 with a scale a row
  std::optional<HistogramFacts> values = {};
  std::optional<StaticFacts> fixed = {};
};

/// The model as one recipe, or one checkpoint, has it.
struct VariantFacts {
  std::string name;
  std::string recipe = {};                   ///< its JSON; "" if not known
  std::optional<int64_t> bytes = {};         ///< of the checkpoint
  std::optional<int64_t> packed_bytes = {};  ///< of the weights in memory
  // Of decoders:
  std::optional<MeasuredValue> perplexity = {};
  std::optional<MeasuredValue> kl = {};       ///< nats a token, from the reference
  std::optional<double> top1_agreement = {};  ///< with the reference
  std::optional<double> decode_tokens_per_s = {}, prefill_tokens_per_s = {};
  // Of other models:
  std::optional<double> output_error = {};  ///< ‖a - b‖ / ‖a‖ of all outputs, from the reference
  std::optional<double> cosine_mean = {}, cosine_min = {};
  std::optional<double> forward_ms = {};
  std::vector<LayerFacts> layers = {};  ///< in the order of the forward pass
  std::vector<SiteFacts> sites = {};
  std::vector<std::pair<std::string, std::string>> calibration = {};  ///< in words: {"samples", "128 of 512 tokens"}
  std::vector<std::string> notes = {};                                ///< what a reader must know
};

/// A model that a search predicted, without making it.
struct PredictedModel {
  int64_t bytes = 0;
  std::optional<double> kl = {}, output_error = {};
  std::optional<double> prefill_tokens_per_s = {}, decode_tokens_per_s = {}, forward_ms = {};
};

struct ModelFacts {
  std::string name, architecture;
  int64_t blocks = 0, width = 0, vocabulary = 0, max_positions = 0;
  int64_t parameters = 0;
  std::string accuracy_data = {};  ///< in words: on what accuracy was measured
  std::string speed_load = {};     ///< in words: what was timed, and on what
  std::string sample = {};         ///< in words: what the sites saw
  VariantFacts reference;          ///< what the others are compared with
  std::vector<VariantFacts> variants = {};
  std::vector<PredictedModel> predicted_front = {};  ///< the best trade-offs that a search found
};

/// A layer's place: {7, "self_attn.q_proj"} of "model.layers.7.self_attn.q_proj"; no block, and the whole name, where
/// no part of the name is a number. Braces of sites belong to the kind.
std::pair<std::optional<int64_t>, std::string> place_of_layer(const std::string& name);

/// A list of objects in a JSON object, each of which names itself in errors; empty where the key is missing. Throws
/// FormatError where it is no such list.
std::vector<Config> objects(const Config& json, const std::string& key);

/// Keys are the members' names; what is not known is left out.
nlohmann::ordered_json to_json(const ModelFacts& facts);
/// What to_json has written. Throws FormatError, naming file and key, for what is missing or of another type, and for
/// numbers that no measurement gives.
ModelFacts read_model_facts(const Config& json);

}  // namespace octet

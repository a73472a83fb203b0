// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "octet/io/checkpoint.h"
#include "octet/ptq/output_comparison.h"

// What commands share that compare a model's outputs on a sample of text.
namespace octet::cli {

/// --data, --tokens, --window.
struct SampleOptions {
  std::string data;
  int64_t tokens = 512, window = 0;

  void add_to(CLI::App& command);
};

/// Reads the sample. That it is shorter than was asked, or has truncated lines, is told on stderr.
OutputComparison open_comparison(const Checkpoint& checkpoint, const SampleOptions& options, int threads);

/// "kl", "sentence_vectors", …: in JSON.
std::string measure_name(OutputMeasure measure);
/// "KL divergence of predictions from the float model's", …
std::string measure_description(OutputMeasure measure);
/// "KL" in nats, or "error" in hundredths: a column's head and unit, and a number in it.
std::string measure_column(OutputMeasure measure);
std::string measure_unit(OutputMeasure measure);
std::string format_divergence(OutputMeasure measure, double value);

}  // namespace octet::cli

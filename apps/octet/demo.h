// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/octet/options.h"
#include "octet/eval/benchmark.h"
#include "octet/eval/perplexity.h"

/// The two halves of the demo: a small model by every recipe, what that did to it and how fast it runs.
namespace octet::cli {

/// A model in fp32 and by every built-in recipe, ready to run side by side.
struct DemoModels {
  std::vector<std::string> names;  ///< "fp32" first
  std::vector<std::unique_ptr<Session>> sessions;

  DemoModels(const std::filesystem::path& model, int threads);
  Session& fp32() { return *sessions.front(); }
};

/// An encoder on labelled pairs of sentences.
class EncoderDemo {
 public:
  EncoderDemo(const std::filesystem::path& model, const std::filesystem::path& data, int threads);
  void print() const;
  nlohmann::ordered_json json() const;

 private:
  struct Row {
    std::string recipe;
    int64_t bytes = 0;
    std::optional<double> accuracy;
    double relative_error = 0;
    Timing timing;
  };
  std::filesystem::path model_;
  std::vector<Row> rows_;
};

/// A decoder on texts that it samples itself in fp32, and a text that every recipe continues.
class DecoderDemo {
 public:
  DecoderDemo(const std::filesystem::path& model, int threads);
  void print() const;
  nlohmann::ordered_json json() const;

 private:
  struct Row {
    std::string recipe;
    int64_t bytes = 0;
    Estimate perplexity, kl;
    double top1_agreement = 1;
    double decode_tokens_per_s = 0;
    std::string text;
  };
  std::filesystem::path model_;
  std::string prompt_;
  int64_t tokens_ = 0;
  std::vector<Row> rows_;
};

}  // namespace octet::cli

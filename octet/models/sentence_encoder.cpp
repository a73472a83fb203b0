// SPDX-License-Identifier: Apache-2.0
#include "octet/models/sentence_encoder.h"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/models/batches.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kLargestConfig = 1 << 20;

json read_json(const fs::path& path) { return parse_json(read_text_file(path, kLargestConfig), path.string()); }

// "sentence_transformers.models.Pooling" → "Pooling"
std::string class_name(const json& module, const fs::path& file) {
  const auto type = module.is_object() ? module.find("type") : module.end();
  if (!module.is_object() || type == module.end() || !type->is_string()) {
    fail<FormatError>("{}: a module without a 'type'", file.string());
  }
  const std::string name = type->get<std::string>();
  return name.substr(name.rfind('.') + 1);
}

std::string folder_name(const json& module, const fs::path& file) {
  const auto path = module.find("path");
  std::string name = path != module.end() && path->is_string() ? path->get<std::string>() : "";
  if (name.find("..") != std::string::npos || fs::path(name).is_absolute()) {
    fail<FormatError>("{}: the module path '{}' leads out of the model's folder", file.string(), name);
  }
  return name;
}

// Written as "pooling_mode": "mean" by sentence-transformers 5 and later, as "pooling_mode_mean_tokens": true before.
Pooling read_pooling(const fs::path& file) {
  static const std::map<std::string, Pooling> modes = {
      {"mean", Pooling::kMean},        {"cls", Pooling::kFirst},
      {"max", Pooling::kMax},          {"mean_sqrt_len_tokens", Pooling::kMeanSqrtLength},
      {"mean_tokens", Pooling::kMean}, {"cls_token", Pooling::kFirst},
      {"max_tokens", Pooling::kMax}};
  const Config config = Config::parse(read_text_file(file, kLargestConfig), file.string());
  std::vector<std::string> asked;
  if (config.has("pooling_mode")) asked.push_back(config.text("pooling_mode"));
  constexpr std::string_view kOldPrefix = "pooling_mode_";
  for (const auto& [key, value] : config.json().items()) {
    if (key.starts_with(kOldPrefix) && config.flag(key)) asked.push_back(key.substr(kOldPrefix.size()));
  }
  if (asked.size() != 1)
    fail<FormatError>("{}: asks for {} poolings at once; one is needed", file.string(), asked.size());
  const auto mode = modes.find(asked.front());
  if (mode == modes.end()) {
    fail<FormatError>("{}: the pooling '{}' is not supported; Octet has mean, cls, max and mean_sqrt_len",
                      file.string(), asked.front());
  }
  return mode->second;
}

}  // namespace

SentenceConfig read_sentence_config(const fs::path& directory) {
  SentenceConfig config;
  const fs::path modules_file = directory / "modules.json";
  if (!fs::exists(modules_file)) return config;
  const json modules = read_json(modules_file);
  if (!modules.is_array()) fail<FormatError>("{}: a list of modules is needed", modules_file.string());
  for (const json& module : modules) {
    const std::string type = class_name(module, modules_file);
    if (type == "Pooling") {
      config.pooling = read_pooling(directory / folder_name(module, modules_file) / "config.json");
      config.found = true;
    } else if (type == "Normalize") {
      config.normalize = true;
    } else if (type != "Transformer") {
      fail<FormatError>("{}: the module '{}' is not supported; Octet has Transformer, Pooling and Normalize",
                        modules_file.string(), type);
    }
  }
  const fs::path limits_file = directory / "sentence_bert_config.json";
  if (fs::exists(limits_file)) {
    const Config limits = Config::parse(read_text_file(limits_file, kLargestConfig), limits_file.string());
    if (limits.flag("do_lower_case", false)) {
      fail<FormatError>("{}: do_lower_case is not supported; let the tokenizer's normalizer do it",
                        limits_file.string());
    }
    if (limits.has("max_seq_length")) config.max_length = limits.integer("max_seq_length", {1, 1 << 24});
  }
  return config;
}

Activation sentence_vectors(const Model& model, Context& context, const DeviceBatch& batch,
                            const SentenceConfig& config) {
  const Activation hidden = model.forward(context, batch);
  const Activation y = context.workspace.take_matrix(batch.host.sequences(), hidden.cols);
  context.backend.pool({.x = hidden, .offsets = batch.offsets, .pooling = config.pooling, .y = y});
  if (config.normalize) context.backend.l2_normalize(y);
  return y;
}

SentenceEncoder::SentenceEncoder(Session& session, const Tokenizer& tokenizer, const SentenceConfig& config)
    : session_(session), tokenizer_(tokenizer), config_(config) {
  const ModelInfo& info = session.model().info();
  if (info.output != OutputKind::kHiddenStates) {
    fail("{}: {} ends in logits; sentence vectors need a model without a head, such as BertModel",
         session.checkpoint().folder().string(), info.architecture);
  }
  const int64_t asked = config.max_length.value_or(tokenizer.model_max_length().value_or(info.max_positions));
  longest_ = std::min(asked, info.max_positions);
}

Tensor SentenceEncoder::encode(std::span<const std::string> sentences, const std::function<void(int64_t)>& advance) {
  std::vector<Encoding> encodings;
  encodings.reserve(sentences.size());
  for (const std::string& sentence : sentences) {
    encodings.push_back(tokenizer_.encode(sentence, {.truncation = Truncation{.max_length = longest_}}));
    if (encodings.back().dropped > 0) ++truncated_;
  }
  const int64_t width = session_.model().info().width;
  Tensor vectors(DType::kF32, {static_cast<int64_t>(sentences.size()), width});
  const std::span<float> out = vectors.mutable_as<float>();
  std::vector<float> pooled;
  for_batches_by_length(encodings, [&](const TokenBatch& batch, std::span<const size_t> places) {
    const Workspace::Scope scope(session_.workspace());
    Context context = session_.context();
    const DeviceBatch device = upload(context, batch);
    pooled.resize(static_cast<size_t>(batch.sequences() * width));
    context.backend.download(sentence_vectors(session_.model(), context, device, config_), pooled);
    for (size_t i = 0; i < places.size(); ++i) {
      std::copy_n(pooled.begin() + static_cast<int64_t>(i) * width, width,
                  out.begin() + static_cast<int64_t>(places[i]) * width);
    }
    if (advance) advance(std::ssize(places));
  });
  return vectors;
}

}  // namespace octet

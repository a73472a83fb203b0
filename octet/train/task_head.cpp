// SPDX-License-Identifier: Apache-2.0
#include "octet/train/task_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <string_view>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/log.h"
#include "octet/base/philox.h"
#include "octet/io/other_files.h"
#include "octet/io/safetensors.h"

namespace octet {
namespace {

// As configs have it in initializer_range unless they say otherwise.
constexpr double kDeviation = 0.02;

struct Family {
  std::string_view architecture;  // what names of architectures begin with
  std::string_view prefix;        // of the encoder's tensors where a head is beside it
  std::string_view inner, outer;  // the layers of a head for labels
};

constexpr std::array<Family, 5> kFamilies = {{{"Bert", "bert.", "bert.pooler.dense", "classifier"},
                                              {"XLMRoberta", "roberta.", "classifier.dense", "classifier.out_proj"},
                                              {"Roberta", "roberta.", "classifier.dense", "classifier.out_proj"},
                                              {"Electra", "electra.", "classifier.dense", "classifier.out_proj"},
                                              {"DistilBert", "distilbert.", "pre_classifier", "classifier"}}};
constexpr std::string_view kSpanLayer = "qa_outputs";

const Family& family_of(const std::string& architecture, const std::string& source) {
  for (const Family& family : kFamilies) {
    if (architecture.starts_with(family.architecture)) return family;
  }
  fail<FormatError>(
      "{}: Octet cannot add a head to '{}'; start from a BERT, RoBERTa, ELECTRA or DistilBERT, or from a model that "
      "has "
      "the head already",
      source, architecture);
}

struct NewLayer {
  std::string name;
  int64_t outputs = 0, inputs = 0;
};

nlohmann::json config_with_head(const Config& config, const std::string& architecture, const TaskHead& head) {
  nlohmann::json out = config.json();
  out["architectures"] = {architecture};
  // transformers 5 calls it dtype; earlier ones read the other.
  out["dtype"] = out["torch_dtype"] = "float32";
  if (head.kind != TaskHead::Kind::kClassification) return out;
  out["num_labels"] = head.outputs;
  nlohmann::json names = nlohmann::json::object(), ids = nlohmann::json::object();
  for (int64_t i = 0; i < head.outputs; ++i) {
    const std::string name = head.labels.empty() ? fmt::format("LABEL_{}", i) : head.labels.at(static_cast<size_t>(i));
    names[std::to_string(i)] = name;
    ids[name] = i;
  }
  out["id2label"] = std::move(names);
  out["label2id"] = std::move(ids);
  out["problem_type"] = head.outputs == 1 ? "regression" : "single_label_classification";
  return out;
}

}  // namespace

std::vector<float> normal_values(int64_t count, double deviation, uint64_t seed, uint32_t stream) {
  std::vector<float> out;
  out.reserve(static_cast<size_t>(count) + 1);
  for (uint64_t draw = 0; std::ssize(out) < count; ++draw) {
    const std::array<uint32_t, 4> bits =
        philox({static_cast<uint32_t>(draw), static_cast<uint32_t>(draw >> 32), stream, 0}, seed);
    const double u = 2 * uniform_double(bits[0], bits[1]) - 1, v = 2 * uniform_double(bits[2], bits[3]) - 1;
    const double square = u * u + v * v;
    if (square >= 1 || square == 0) continue;  // outside the circle: 21 % of draws
    const double factor = deviation * std::sqrt(-2 * log_of_positive(square) / square);
    out.push_back(static_cast<float>(u * factor));
    out.push_back(static_cast<float>(v * factor));
  }
  out.resize(static_cast<size_t>(count));
  return out;
}

std::vector<std::string> write_with_head(const Checkpoint& checkpoint, const TaskHead& head, uint64_t seed,
                                         const std::filesystem::path& out) {
  const Config& config = checkpoint.config();
  if (checkpoint.is_quantized()) {
    fail<UsageError>("{}: its weights are codes; training starts from float weights", checkpoint.folder().string());
  }
  const std::vector<std::string> architectures = config.texts("architectures");
  if (architectures.empty()) fail<FormatError>("{}: 'architectures' names none", config.source());
  const Family& family = family_of(architectures.front(), config.source());
  const bool labels = head.kind == TaskHead::Kind::kClassification;
  const std::string architecture =
      std::string(family.architecture) + (labels ? "ForSequenceClassification" : "ForQuestionAnswering");
  const int64_t width = config.integer(config.has("dim") ? "dim" : "hidden_size", {1, int64_t{1} << 24});

  std::vector<NewLayer> layers;  // that the head needs
  if (labels) layers = {{std::string(family.inner), width, width}, {std::string(family.outer), head.outputs, width}};
  if (head.kind == TaskHead::Kind::kSpan) layers = {{std::string(kSpanLayer), 2, width}};

  std::map<std::string, std::string> source_of;  // tensors to write, by what the checkpoint calls them
  const bool bare =
      std::ranges::none_of(checkpoint.names(), [&](const std::string& n) { return n.starts_with(family.prefix); });
  for (const std::string& name : checkpoint.names()) {
    const std::string written = bare ? std::string(family.prefix) + name : name;
    if (written.starts_with(family.prefix)) source_of.emplace(written, name);
  }
  std::vector<std::string> made;
  SafetensorsWriter writer;
  for (size_t i = 0; i < layers.size(); ++i) {
    const NewLayer& layer = layers[i];
    const std::string weight = layer.name + ".weight", bias = layer.name + ".bias";
    // A pooler may be there under the encoder's own names; a head's layers only where the checkpoint has that head.
    const std::string stored = source_of.contains(weight) ? source_of.at(weight) : weight;
    const bool fits = checkpoint.contains(stored) &&
                      checkpoint.describe(stored).shape == Shape{layer.outputs, layer.inputs} &&
                      (source_of.contains(weight) || architectures.front() == architecture);
    source_of.erase(weight);
    source_of.erase(bias);
    if (fits) {
      source_of[weight] = stored;
      const std::string stored_bias = stored.substr(0, stored.size() - std::string_view("weight").size()) + "bias";
      source_of[bias] = stored_bias;
      continue;
    }
    made.push_back(layer.name);
    Tensor values(DType::kF32, {layer.outputs, layer.inputs});
    std::ranges::copy(normal_values(layer.outputs * layer.inputs, kDeviation, seed, static_cast<uint32_t>(i)),
                      values.mutable_as<float>().begin());
    writer.add(weight, std::move(values));
    writer.add(bias, Tensor(DType::kF32, {layer.outputs}));
  }
  for (const auto& [written, stored] : source_of) {
    const StoredTensor described = checkpoint.describe(stored);
    const bool is_value = is_float(described.dtype);
    writer.add({.name = written,
                .dtype = is_value ? DType::kF32 : described.dtype,
                .shape = described.shape,
                .make = [&checkpoint, stored = stored, is_value] {
                  Tensor tensor = checkpoint.tensor(stored);
                  return is_value ? to_f32(tensor.view()) : std::move(tensor);
                }});
  }
  ResumableDirectory directory(out, "head " + checkpoint.folder().string());
  writer.write(directory.path() / "model.safetensors");
  OutputFile file(directory.path() / "config.json");
  file.write(json_text(config_with_head(config, architecture, head), 2) + "\n");
  file.commit();
  copy_other_files(checkpoint.folder(), directory.path());
  directory.commit();
  return made;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/rotation.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/parallel.h"
#include "octet/io/other_files.h"
#include "octet/io/safetensors.h"
#include "octet/models/model.h"
#include "octet/ptq/hadamard.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

// Rows or columns of a matrix that a thread takes at once.
constexpr int64_t kLinesPerTask = 16;

// Calls turn(line) for every row of a matrix [rows, cols] in double, or for every column, and puts back what it leaves.
template <class Turn>
void for_each_line(std::span<float> values, int64_t rows, int64_t cols, bool columns, const Turn& turn) {
  const int64_t lines = columns ? cols : rows, length = columns ? rows : cols;
  const int64_t next_line = columns ? 1 : cols, next_value = columns ? cols : 1;
  parallel_for(available_threads(), (lines + kLinesPerTask - 1) / kLinesPerTask, [&](int64_t task, int) {
    std::vector<double> line(static_cast<size_t>(length));
    for (int64_t i = task * kLinesPerTask; i < std::min(lines, (task + 1) * kLinesPerTask); ++i) {
      float* const first = values.data() + i * next_line;
      for (int64_t k = 0; k < length; ++k) line[static_cast<size_t>(k)] = first[k * next_value];
      turn(line);
      for (int64_t k = 0; k < length; ++k) first[k * next_value] = static_cast<float>(line[static_cast<size_t>(k)]);
    }
  });
}

// All that happens to the tensors of one layer, in this order: columns times gamma, columns turned, rows turned.
struct Turns {
  std::string gamma;                             ///< the normalization before it; empty: none
  const HadamardRotation* of_inputs = nullptr;   ///< of every `of_inputs->width()` columns; null: none
  const HadamardRotation* of_outputs = nullptr;  ///< of every so many rows
};

// `line` cut into pieces of the rotation's width.
void turn(const HadamardRotation& rotation, std::vector<double>& line) {
  for (size_t first = 0; first < line.size(); first += static_cast<size_t>(rotation.width())) {
    rotation.apply(line.data() + first);
  }
}

Tensor turned(ConstTensorView source, const Turns& turns, const std::optional<Tensor>& gamma) {
  Tensor out = to_f32(source);
  const std::span<float> values = out.mutable_as<float>();
  const int64_t rows = source.shape[0], cols = source.shape.rank() == 2 ? source.shape[1] : 1;
  if (gamma || turns.of_inputs != nullptr) {
    for_each_line(values, rows, cols, false, [&](std::vector<double>& row) {
      if (gamma) {
        for (size_t i = 0; i < row.size(); ++i) row[i] *= gamma->as<float>()[i];
      }
      if (turns.of_inputs != nullptr) turn(*turns.of_inputs, row);
    });
  }
  if (turns.of_outputs != nullptr) {
    for_each_line(values, rows, cols, true, [&](std::vector<double>& column) { turn(*turns.of_outputs, column); });
  }
  return out;
}

class Rotation {
 public:
  Rotation(const Checkpoint& checkpoint, const ResidualStream& stream, uint64_t seed)
      : checkpoint_(checkpoint), stream_(stream), hidden_(stream.width, seed) {
    if (!stream.values.empty()) values_.emplace(stream.values.front().head_width, seed);
    layers_[stream.embedding].of_inputs = &hidden_;
    for (const FoldPair& reader : stream.readers) {
      ones_.push_back(reader.from + ".weight");
      for (const std::string& layer : reader.into) {
        layers_[layer].gamma = reader.from;
        layers_[layer].of_inputs = &hidden_;
      }
    }
    for (const std::string& layer : stream.writers) layers_[layer].of_outputs = &hidden_;
    for (const FoldPair& pair : stream.values) {
      layers_[pair.from].of_outputs = &*values_;
      for (const std::string& layer : pair.into) layers_[layer].of_inputs = &*values_;
    }
  }

  RotationReport report() const {
    return {.width = hidden_.width(),
            .block = hidden_.block(),
            .head_width = values_ ? values_->width() : 0,
            .head_block = values_ ? values_->block() : 0};
  }

  /// Every tensor of the checkpoint to be; turned ones are counted in `report`.
  std::vector<TensorSource> tensors(RotationReport& report) const {
    const std::string head = stream_.readers.back().into.front() + ".weight";
    std::vector<TensorSource> sources;
    for (const std::string& name : checkpoint_.names()) {
      // Some checkpoints store a tied table twice.
      if (stream_.tied && name == head) continue;
      sources.push_back(source(name, name, report));
    }
    if (stream_.tied) {
      sources.push_back(source(stream_.embedding + ".weight", head, report));
      report.untied = true;
    }
    return sources;
  }

 private:
  // The tensor that is stored as `stored`, written as `name`.
  TensorSource source(const std::string& stored, const std::string& name, RotationReport& report) const {
    const StoredTensor found = checkpoint_.describe(stored);
    if (std::ranges::find(ones_, name) != ones_.end()) {
      ++report.tensors;
      return {name, DType::kF32, found.shape, [shape = found.shape] {
                Tensor ones(DType::kF32, shape);
                std::ranges::fill(ones.mutable_as<float>(), 1.0f);
                return ones;
              }};
    }
    const size_t dot = name.rfind('.');
    const auto layer = layers_.find(name.substr(0, dot));
    const bool bias = name.ends_with(".bias");
    const bool turns = layer != layers_.end() && (!bias || layer->second.of_outputs != nullptr);
    if (!turns) {
      return {name, found.dtype, found.shape, [this, stored] { return checkpoint_.tensor(stored); }};
    }
    ++report.tensors;
    const auto make = [this, stored, bias, &how = layer->second] {
      const Tensor values = checkpoint_.tensor(stored);
      if (bias) return turned(values.view(), {.gamma = {}, .of_outputs = how.of_outputs}, std::nullopt);
      std::optional<Tensor> gamma;
      if (!how.gamma.empty()) gamma = to_f32(checkpoint_.tensor(how.gamma + ".weight").view());
      Tensor out = turned(values.view(), how, gamma);
      values.release_pages();
      return out;
    };
    return {name, DType::kF32, found.shape, make};
  }

  const Checkpoint& checkpoint_;
  const ResidualStream& stream_;
  HadamardRotation hidden_;
  std::optional<HadamardRotation> values_;
  std::map<std::string, Turns> layers_;
  std::vector<std::string> ones_;  ///< gammas, by tensor
};

}  // namespace

RotationReport rotate_model(const Checkpoint& checkpoint, const fs::path& out, const RotationOptions& options) {
  const std::string where = checkpoint.folder().string();
  if (checkpoint.is_gguf()) fail<UsageError>("{}: rotate the model directory that the GGUF file was made of", where);
  if (checkpoint.is_quantized())
    fail<UsageError>("{}: is quantized already; rotate the float model it was made of", where);
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  const std::optional<ResidualStream> stream = model->residual_stream();
  if (!stream) {
    fail<UsageError>(
        "{}: {} cannot be rotated: that needs normalizations by root mean squares before every part, no other table "
        "than the words' and a head, as in LlamaForCausalLM",
        where, model->info().architecture);
  }
  const Rotation rotation(checkpoint, *stream, options.seed);
  RotationReport report = rotation.report();
  std::vector<TensorSource> sources = rotation.tensors(report);
  report.bytes_before = checkpoint.bytes();
  nlohmann::json config = checkpoint.config().json();
  config["torch_dtype"] = "float32";
  if (config.contains("dtype")) config["dtype"] = "float32";
  if (report.untied) config["tie_word_embeddings"] = false;

  ResumableDirectory directory(out, json_text(nlohmann::json{{"rotate", where}, {"seed", options.seed}}));
  SafetensorsWriter writer;
  int64_t done = 0;
  const auto total = std::ssize(sources);
  for (TensorSource& source : sources) {
    report.bytes_after += source.shape.elements() * byte_size(source.dtype);
    writer.add({source.name, source.dtype, source.shape, [&, make = std::move(source.make)] {
                  Tensor tensor = make();
                  if (options.advance) options.advance(++done, total);
                  return tensor;
                }});
  }
  writer.write(directory.path() / "model.safetensors");
  OutputFile file(directory.path() / "config.json");
  file.write(json_text(config, 2) + "\n");
  file.commit();
  copy_other_files(checkpoint.folder(), directory.path());
  directory.commit();
  return report;
}

}  // namespace octet

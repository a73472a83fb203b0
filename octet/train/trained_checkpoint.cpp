// SPDX-License-Identifier: Apache-2.0
#include "octet/train/trained_checkpoint.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/other_files.h"
#include "octet/io/safetensors.h"
#include "octet/tensor/narrow.h"
#include "octet/tensor/transpose.h"

namespace octet {
namespace {

// Heads that are the words' table where they are tied: files may hold the table twice.
constexpr std::array<std::string_view, 6> kTiedHeads = {"lm_head.weight",         "cls.predictions.decoder.weight",
                                                        "lm_head.decoder.weight", "generator_lm_head.weight",
                                                        "vocab_projector.weight", "embed_out.weight"};

// The part of `trainable` that `rows` says, in the checkpoint's shape.
Tensor trained_tensor(const Trainable& trainable, const TrainedRows& rows, const Shape& shape, Backend& backend) {
  const std::vector<float> all = trainable.download(backend);
  const std::span<const float> part = trainable.own(rows, all);
  // Narrowing is exact: this is what is stored.
  const DType dtype = trainable.values().dtype;
  if (!rows.in_out) return narrowed(part, dtype, shape);
  return transposed(narrowed(part, dtype, {rows.rows, trainable.cols()}).view());
}

// Under which name training has a tensor of the checkpoint: old files call a normalization's gamma and beta so, and a
// masked head's bias stands beside its layer.
std::string trained_name(const Trainables& trained, const std::string& stored) {
  const auto ends = [&](std::string_view end, std::string_view other) {
    if (!stored.ends_with(end)) return std::string();
    const std::string name = stored.substr(0, stored.size() - end.size()) + std::string(other);
    return trained.find(name) != nullptr ? name : std::string();
  };
  if (trained.find(stored) != nullptr) return stored;
  for (const auto& [end, other] : {std::pair<std::string_view, std::string_view>{".gamma", ".weight"},
                                   {".beta", ".bias"},
                                   {".bias", ".decoder.bias"}}) {
    if (std::string name = ends(end, other); !name.empty()) return name;
  }
  return {};
}

}  // namespace

void write_trained(const Checkpoint& source, const Trainables& trained, const std::filesystem::path& folder) {
  SafetensorsWriter writer;
  std::set<std::string> written;
  const auto add = [&](const std::string& name, const std::string& known_as) {
    const Trainable& trainable = *trained.find(known_as);
    const TrainedRows& rows = *std::ranges::find(trainable.parts(), known_as, &TrainedRows::tensor);
    const Shape shape = source.describe(name).shape;
    writer.add(
        {.name = name, .dtype = trainable.values().dtype, .shape = shape, .make = [&trained, &trainable, &rows, shape] {
           return trained_tensor(trainable, rows, shape, trained.backend());
         }});
    written.insert(known_as);
  };
  for (const std::string& name : source.names()) {
    if (const std::string known_as = trained_name(trained, name); !known_as.empty()) {
      add(name, known_as);
    } else if (std::ranges::find(kTiedHeads, name) == kTiedHeads.end()) {
      writer.add({name, source.describe(name).dtype, source.describe(name).shape,
                  [&source, name] { return source.tensor(name); }});
    }
  }
  for (const std::unique_ptr<Trainable>& trainable : trained.all()) {
    if (trainable->is_clip()) continue;
    for (const TrainedRows& rows : trainable->parts()) {
      if (!written.contains(rows.tensor))
        fail("{}: has no tensor '{}', which was trained", source.folder().string(), rows.tensor);
    }
  }
  writer.write(folder / "model.safetensors");
  nlohmann::json config = source.config().json();
  // Its names in transformers 5 and before. Matrices may be of 16 bits, vectors are not: in fp32 nothing is lost.
  config["dtype"] = config["torch_dtype"] = "float32";
  OutputFile file(folder / "config.json");
  file.write(json_text(config, 2) + "\n");
  file.commit();
  if (!source.is_gguf()) copy_other_files(source.folder(), folder);
}

}  // namespace octet

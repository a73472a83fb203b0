// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/quantize_model.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/io/compressed_tensors.h"
#include "octet/io/gguf_names.h"
#include "octet/io/safetensors.h"
#include "octet/quant/quantize.h"
#include "octet/text/gguf_tokenizer.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

// Weights in any form: they are written anew, or are copies that would contradict what is written.
bool holds_weights(const fs::path& file) {
  static const std::array<std::string_view, 9> kEndings = {".safetensors", ".bin",  ".pt",   ".pth", ".h5",
                                                           ".msgpack",     ".onnx", ".gguf", ".ot"};
  return std::find(kEndings.begin(), kEndings.end(), file.extension().string()) != kEndings.end() ||
         file.filename().string().ends_with(".index.json");
}

// Of a tensor that is written as the values it is read as.
int64_t float_bytes(const StoredTensor& stored) { return stored.shape.elements() * byte_size(stored.dtype); }

// A float head that is tied has no tensor of its own.
StoredTensor describe_values(const Checkpoint& checkpoint, const Parameter& weight) {
  const std::string name = weight.layer + ".weight";
  if (checkpoint.contains(name)) return checkpoint.describe(name);
  const FloatWeight values(weight);
  return {.type = "", .dtype = values.view().dtype, .shape = weight.shape, .bytes = values.view().bytes()};
}

// Tokenizer, pooling and other small files of the model; links are followed, as caches of downloads are made of them.
void copy_other_files(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const fs::path target = to / entry.path().filename();
    if (entry.path().filename().string().starts_with(".")) continue;
    if (entry.is_directory()) {
      fs::create_directory(target);
      copy_other_files(entry.path(), target);
    } else if (entry.is_regular_file() && !holds_weights(entry.path()) && !fs::exists(target)) {
      fs::copy_file(entry.path(), target);
      fs::permissions(target, fs::perms::owner_write, fs::perm_options::add);
    }
  }
}

// Nothing where the file has none.
void write_tokenizer(const GgufFile& from, const fs::path& to) {
  if (!from.has(gguf_keys::kTokenizerModel)) return;
  for (const auto& [name, content] : gguf_tokenizer_files(from)) {
    OutputFile file(to / name);
    file.write(content);
    file.commit();
  }
}

}  // namespace

std::vector<GroupFallback> group_fallbacks(const Recipe& recipe, const Model& model) {
  std::vector<GroupFallback> fallbacks;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    const std::optional<int64_t> asked = recipe.asked_group_size(weight.layer);
    // Recipes do not name embeddings and heads, whose scheme is a matter of its own.
    if (!weight.scheme || weight.over_vocabulary || !asked) continue;
    if (*asked == weight.scheme->weight.group_size) continue;
    const GroupFallback taken{
        .asked = *asked, .inputs = weight.shape[1], .taken = weight.scheme->weight.group_size, .layers = 1};
    const auto known = std::find_if(fallbacks.begin(), fallbacks.end(), [&](const GroupFallback& other) {
      return other.asked == taken.asked && other.inputs == taken.inputs && other.taken == taken.taken;
    });
    if (known == fallbacks.end()) {
      fallbacks.push_back(taken);
    } else {
      ++known->layers;
    }
  }
  return fallbacks;
}

std::string to_string(const GroupFallback& fallback) {
  return fmt::format("group_size {} does not divide {} inputs: {} taken in {} layer{}", fallback.asked, fallback.inputs,
                     fallback.taken == 0 ? "one scale a row" : std::to_string(fallback.taken), fallback.layers,
                     fallback.layers == 1 ? "" : "s");
}

QuantizeReport quantize_model(const Checkpoint& checkpoint, const Recipe& recipe, const fs::path& out,
                              const std::function<void(int64_t, int64_t)>& advance) {
  OutputDirectory directory(out);
  const std::unique_ptr<Model> model = load_model(checkpoint, &recipe);

  const std::vector<const Linear::Part*> parts = model->linear_parts();
  for (const Linear::Part* part : parts) {
    if (part->weight.stored_codes) {
      fail<UsageError>(
          "{}: is quantized already: layer '{}' is stored as codes ({}). Quantize the float model it was made from; to "
          "run it with quantized activations, give the recipe to the command that runs it.",
          checkpoint.folder().string(), part->weight.layer, to_string(*part->weight.scheme));
    }
    if (part->weight.scheme) check_storable(part->weight.scheme->weight, part->weight.layer);
  }
  QuantizeReport report;
  report.unmatched_patterns = unmatched_patterns(recipe, *model);

  report.group_fallbacks = group_fallbacks(recipe, *model);

  // Scales and zero points. They decide the codes, which are dropped here and made again when they are written: only
  // one layer's are held at a time.
  std::map<std::string, QTensor> grids;
  std::map<std::string, Scheme> schemes, embeddings;
  std::vector<std::string> float_layers;
  std::set<std::string> replaced;
  SafetensorsWriter writer;
  for (const Linear::Part* part : parts) {
    const Parameter& weight = part->weight;
    const StoredTensor stored = describe_values(checkpoint, weight);
    LayerReport layer{.name = weight.layer,
                      .scheme = weight.scheme,
                      .bytes_before = stored.bytes,
                      .bytes_after = float_bytes(stored)};
    if (weight.scheme) {
      const FloatWeight floats(weight);
      QTensor& grid = grids.emplace(weight.layer, quantize_weight(floats.view(), weight.scheme->weight, weight.layer))
                          .first->second;
      layer.relative_error = relative_error(floats.view(), grid);
      layer.bytes_after = stored_bytes(weight);
      grid.codes = Tensor();
      floats.release_pages();
      if (weight.tied_head.empty()) {
        (weight.over_vocabulary ? embeddings : schemes).emplace(weight.layer, *weight.scheme);
      } else {
        // To others the head is a layer of its own, which shares the codes and lacks only scales.
        embeddings.emplace(weight.layer, Scheme{weight.scheme->weight, ActivationMode::kFloat});
        embeddings.emplace(weight.tied_head, *weight.scheme);
        writer.add(weight.tied_head + ".weight_scale", Tensor::copy_of(grid.scales.view()));
        // Some checkpoints store the table twice.
        const std::string twin = weight.tied_head + ".weight";
        if (checkpoint.contains(twin)) layer.bytes_before += checkpoint.describe(twin).bytes;
        replaced.insert(twin);
      }
      replaced.insert(weight.layer + ".weight");
      const auto codes = [&weight, &grid] {
        const FloatWeight values(weight);
        Tensor made = quantize_codes(values.view(), grid, weight.layer);
        values.release_pages();
        return made;
      };
      for (TensorSource& source : encode_weight(weight.layer, weight.shape, grid, codes, stored_format(weight)))
        writer.add(std::move(source));
      const std::string& reader = weight.tied_head.empty() ? weight.layer : weight.tied_head;
      for (TensorSource& source : encode_activation_scale(reader, weight.input, weight.scheme->activations))
        writer.add(std::move(source));
    } else {
      float_layers.push_back(weight.layer);
      // As Hugging Face's files hold it, where this one does not.
      if (weight.in_out && !weight.transposed) {
        replaced.insert(weight.layer + ".weight");
        const auto turned = [&weight] { return transposed(FloatWeight(weight).view()); };
        writer.add({weight.layer + ".weight", stored.dtype, {weight.shape[1], weight.shape[0]}, turned});
        report.bytes_after += layer.bytes_after;
      }
    }
    report.layers.push_back(std::move(layer));
    if (advance) advance(static_cast<int64_t>(report.layers.size()), static_cast<int64_t>(parts.size()));
  }
  if (schemes.empty() && embeddings.empty() && model->info().attention != ActivationMode::kFloat) {
    fail(
        "recipe '{}' quantizes attention alone, which leaves nothing to write: apply it while loading, or add "
        "\"weights\": {{\"bits\": 8}}",
        recipe.name());
  }
  if (schemes.empty() && embeddings.empty()) {
    fail(
        "recipe '{}' quantizes none of this model's {} linear layers; its patterns match others. Names look like '{}'.",
        recipe.name(), parts.size(), parts.empty() ? std::string() : parts.front()->weight.layer);
  }
  report.bytes_before = checkpoint.bytes();
  for (const LayerReport& layer : report.layers) report.bytes_after += layer.scheme ? layer.bytes_after : 0;
  for (const std::string& name : checkpoint.names()) {
    if (replaced.contains(name)) continue;
    const StoredTensor stored = checkpoint.describe(name);
    writer.add({name, stored.dtype, stored.shape, [&checkpoint, name] { return checkpoint.tensor(name); }});
    report.bytes_after += float_bytes(stored);
  }

  writer.write(directory.path() / "model.safetensors");
  OutputFile config(directory.path() / "config.json");
  config.write(
      quantized_model_config(checkpoint.config(), schemes, float_layers, embeddings, model->info().attention).dump(2) +
      "\n");
  config.commit();
  if (checkpoint.is_gguf()) {
    write_tokenizer(GgufFile::open(checkpoint.folder()), directory.path());
  } else {
    copy_other_files(checkpoint.folder(), directory.path());
  }
  directory.commit();
  return report;
}

}  // namespace octet

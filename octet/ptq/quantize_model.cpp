// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/quantize_model.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/memory.h"
#include "octet/io/compressed_tensors.h"
#include "octet/io/gguf_names.h"
#include "octet/io/safetensors.h"
#include "octet/quant/quantize.h"
#include "octet/tensor/transpose.h"
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

namespace {

// A tensor or more of the checkpoint to be, that are made together.
struct Unit {
  std::vector<TensorSource> tensors;
  const Linear::Part* layer = nullptr;  // none: a tensor that stays as it was

  int64_t bytes() const {
    int64_t sum = 0;
    for (const TensorSource& tensor : tensors)
      sum = checked_add(sum, checked_mul(tensor.shape.elements(), byte_size(tensor.dtype)));
    return sum;
  }
};

// The quantized weight of one layer at a time: the tensors that make it up are written one after another.
class QuantizedLayer {
 public:
  explicit QuantizedLayer(std::function<void(const std::string& layer, double relative_error)> made)
      : made_(std::move(made)) {}

  const QTensor& of(const Parameter& weight) {
    if (weight.layer == layer_) return *value_;
    value_.reset();
    release_free_memory();  // else what is freed in pieces adds up to more than a layer
    const FloatWeight floats(weight);
    value_ = quantize_weight(floats.view(), weight.scheme->weight, weight.layer);
    layer_ = weight.layer;
    made_(layer_, relative_error(floats.view(), *value_));
    floats.release_pages();
    return *value_;
  }

 private:
  std::function<void(const std::string&, double)> made_;
  std::string layer_;
  std::optional<QTensor> value_;
};

// Everything of the checkpoint to be that does not need its values: what the tensors are, and how layers are told.
struct Plan {
  std::vector<Unit> units;
  std::map<std::string, Scheme> schemes, embeddings;
  std::vector<std::string> float_layers;
};

Plan make_plan(const Checkpoint& checkpoint, const Model& model, const std::shared_ptr<QuantizedLayer>& quantized) {
  Plan plan;
  std::set<std::string> replaced;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    if (weight.stored_codes) {
      fail<UsageError>(
          "{}: is quantized already: layer '{}' is stored as codes ({}). Quantize the float model it was made from; to "
          "run it with quantized activations, give the recipe to the command that runs it.",
          checkpoint.folder().string(), weight.layer, to_string(*weight.scheme));
    }
    if (!weight.scheme) {
      plan.float_layers.push_back(weight.layer);
      // As Hugging Face's files hold it, where this one does not.
      if (weight.in_out && !weight.transposed) {
        replaced.insert(weight.layer + ".weight");
        const auto turned = [&weight] { return transposed(FloatWeight(weight).view()); };
        const DType dtype = describe_values(checkpoint, weight).dtype;
        plan.units.push_back(
            {.tensors = {{weight.layer + ".weight", dtype, {weight.shape[1], weight.shape[0]}, turned}}});
      }
      continue;
    }
    check_storable(weight.scheme->weight, weight.layer);
    Unit unit{.tensors = {}, .layer = part};
    const auto value = [quantized, &weight]() -> const QTensor& { return quantized->of(weight); };
    if (weight.tied_head.empty()) {
      (weight.over_vocabulary ? plan.embeddings : plan.schemes).emplace(weight.layer, *weight.scheme);
    } else {
      // To others the head is a layer of its own, which shares the codes and lacks only scales.
      plan.embeddings.emplace(weight.layer, Scheme{weight.scheme->weight, ActivationMode::kFloat});
      plan.embeddings.emplace(weight.tied_head, *weight.scheme);
      const Shape scales{weight.shape[0], weight.scheme->weight.groups(weight.shape[1])};
      unit.tensors.push_back({weight.tied_head + ".weight_scale", DType::kF32, scales,
                              [value] { return Tensor::copy_of(value().scales.view()); }});
      // Some checkpoints store the table twice.
      replaced.insert(weight.tied_head + ".weight");
    }
    replaced.insert(weight.layer + ".weight");
    for (TensorSource& source :
         encode_weight(weight.layer, weight.shape, weight.scheme->weight, value, stored_format(weight)))
      unit.tensors.push_back(std::move(source));
    const std::string& reader = weight.tied_head.empty() ? weight.layer : weight.tied_head;
    for (TensorSource& source : encode_activation_scale(reader, weight.input, weight.scheme->activations))
      unit.tensors.push_back(std::move(source));
    plan.units.push_back(std::move(unit));
  }
  for (const std::string& name : checkpoint.names()) {
    if (replaced.contains(name)) continue;
    const StoredTensor stored = checkpoint.describe(name);
    plan.units.push_back(
        {.tensors = {{name, stored.dtype, stored.shape, [&checkpoint, name] { return checkpoint.tensor(name); }}}});
  }
  return plan;
}

void check_something_is_quantized(const Plan& plan, const Model& model, const Recipe& recipe) {
  if (!plan.schemes.empty() || !plan.embeddings.empty()) return;
  if (model.info().attention != ActivationMode::kFloat) {
    fail(
        "recipe '{}' quantizes attention alone, which leaves nothing to write: apply it while loading, or add "
        "\"weights\": {{\"bits\": 8}}",
        recipe.name());
  }
  const std::vector<const Linear::Part*> parts = model.linear_parts();
  fail("recipe '{}' quantizes none of this model's {} linear layers; its patterns match others. Names look like '{}'.",
       recipe.name(), parts.size(), parts.empty() ? std::string() : parts.front()->weight.layer);
}

// Units in files of at most `largest` bytes, but one unit at least.
std::vector<std::vector<Unit>> into_shards(std::vector<Unit> units, int64_t largest) {
  std::vector<std::vector<Unit>> shards(1);
  int64_t bytes = 0;
  for (Unit& unit : units) {
    const int64_t more = unit.bytes();
    if (!shards.back().empty() && more > largest - bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    shards.back().push_back(std::move(unit));
  }
  return shards;
}

std::string shard_name(size_t index, size_t shards) {
  return shards == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, shards);
}

// Everything that decides what is written: a run that was killed is taken up by one with the same job only.
std::string job_of(const Checkpoint& checkpoint, const Recipe& recipe, int64_t largest_shard) {
  nlohmann::json files = nlohmann::json::object();
  const auto add = [&](const fs::directory_entry& entry) {
    if (!entry.is_regular_file()) return;
    files[entry.path().filename().string()] = {entry.file_size(), entry.last_write_time().time_since_epoch().count()};
  };
  if (checkpoint.is_gguf()) {
    add(fs::directory_entry(checkpoint.folder()));
  } else {
    std::ranges::for_each(fs::directory_iterator(checkpoint.folder()), add);
  }
  return nlohmann::json{{"from", fs::canonical(checkpoint.folder()).string()},
                        {"files", std::move(files)},
                        {"recipe", recipe.text()},
                        {"largest_shard", largest_shard}}
      .dump();
}

}  // namespace

QuantizeReport quantize_model(const Checkpoint& checkpoint, const Recipe& recipe, const fs::path& out,
                              const QuantizeModelOptions& options) {
  if (options.largest_shard < 1) fail<UsageError>("files of {} bytes; at least 1 is", options.largest_shard);
  const std::unique_ptr<Model> model = load_model(checkpoint, &recipe);
  std::map<std::string, double> relative_errors;
  int64_t done = 0, total = 0;
  const auto advance = [&] {
    ++done;
    if (options.advance) options.advance(done, total);
  };
  const auto quantized = std::make_shared<QuantizedLayer>([&](const std::string& layer, double relative_error) {
    relative_errors[layer] = relative_error;
    advance();
  });
  Plan plan = make_plan(checkpoint, *model, quantized);
  check_something_is_quantized(plan, *model, recipe);
  ResumableDirectory directory(out, job_of(checkpoint, recipe, options.largest_shard));

  QuantizeReport report;
  report.unmatched_patterns = unmatched_patterns(recipe, *model);
  report.group_fallbacks = group_fallbacks(recipe, *model);
  total = std::ranges::count_if(plan.units, [](const Unit& unit) { return unit.layer != nullptr; });
  std::vector<std::vector<Unit>> shards = into_shards(std::move(plan.units), options.largest_shard);
  nlohmann::json places = nlohmann::json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = shard_name(i, shards.size());
    const std::optional<std::string> finished = directory.finished(file);
    SafetensorsWriter writer;
    nlohmann::json errors = nlohmann::json::object();
    if (finished) errors = nlohmann::json::parse(*finished);
    for (Unit& unit : shards[i]) {
      for (TensorSource& tensor : unit.tensors) {
        report.bytes_after += tensor.shape.elements() * byte_size(tensor.dtype);
        places[tensor.name] = file;
        if (!finished) writer.add(std::move(tensor));
      }
      if (!finished || unit.layer == nullptr) continue;
      relative_errors[unit.layer->weight.layer] = errors.at(unit.layer->weight.layer);
      ++report.resumed_layers;
      advance();
    }
    if (finished) continue;
    writer.write(directory.path() / file);
    for (const Unit& unit : shards[i]) {
      if (unit.layer != nullptr) errors[unit.layer->weight.layer] = relative_errors.at(unit.layer->weight.layer);
    }
    directory.finish(file, errors.dump());
  }
  report.bytes_before = checkpoint.bytes();
  for (const Linear::Part* part : model->linear_parts()) {
    const Parameter& weight = part->weight;
    const StoredTensor stored = describe_values(checkpoint, weight);
    LayerReport layer{.name = weight.layer,
                      .scheme = weight.scheme,
                      .bytes_before = stored.bytes,
                      .bytes_after = float_bytes(stored)};
    if (weight.scheme) {
      layer.relative_error = relative_errors.at(weight.layer);
      layer.bytes_after = stored_bytes(weight);
      const std::string twin = weight.tied_head + ".weight";
      if (!weight.tied_head.empty() && checkpoint.contains(twin)) layer.bytes_before += checkpoint.describe(twin).bytes;
    }
    report.layers.push_back(std::move(layer));
  }

  const auto write = [&](const char* name, const nlohmann::json& json) {
    OutputFile file(directory.path() / name);
    file.write(json.dump(2) + "\n");
    file.commit();
  };
  if (shards.size() > 1) {
    write("model.safetensors.index.json",
          {{"metadata", {{"total_size", report.bytes_after}}}, {"weight_map", std::move(places)}});
  }
  write("config.json", quantized_model_config(checkpoint.config(), plan.schemes, plan.float_layers, plan.embeddings,
                                              model->info().attention));
  if (checkpoint.is_gguf()) {
    write_tokenizer(GgufFile::open(checkpoint.folder()), directory.path());
  } else {
    copy_other_files(checkpoint.folder(), directory.path());
  }
  directory.commit();
  return report;
}

}  // namespace octet

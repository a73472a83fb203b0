// SPDX-License-Identifier: Apache-2.0
#include "octet/io/checkpoint.h"

#include <algorithm>
#include <map>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/base/suggest.h"
#include "octet/io/awq_layout.h"
#include "octet/io/compressed_tensors.h"
#include "octet/io/gguf_model.h"
#include "octet/io/gptq_layout.h"
#include "octet/io/safetensors.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
// About 100 bytes a tensor; a large mixture of experts has some hundred thousand tensors.
constexpr int64_t kLargestIndex = 256 << 20;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Says what the folder holds instead of weights that can be read.
[[noreturn]] void fail_without_weights(const fs::path& folder) {
  std::vector<std::string> pickles, others;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string(), kind = entry.path().extension().string();
    if (kind == ".bin" || kind == ".pt" || kind == ".pth" || kind == ".ckpt") pickles.push_back(quote_name(name));
    if (kind == ".safetensors" || kind == ".gguf" || kind == ".h5" || kind == ".msgpack" || kind == ".onnx") {
      others.push_back(quote_name(name));
    }
  }
  std::sort(pickles.begin(), pickles.end());
  std::sort(others.begin(), others.end());
  if (!others.empty()) {
    fail<FormatError>(
        "{}: holds neither {} nor {}, but {}. Give a folder in the Hugging Face layout, or the name of a GGUF file.",
        folder.string(), kSingle, kIndex, fmt::join(others, ", "));
  }
  if (!pickles.empty()) {
    fail<FormatError>(
        "{}: the weights are only there as {}. That is a Python pickle, and loading one can run any code, so Octet "
        "does "
        "not. Convert it where you trust it:\n"
        "  import torch, safetensors.torch\n"
        "  weights = torch.load('pytorch_model.bin', map_location='cpu', weights_only=True)\n"
        "  weights = {{name: tensor.clone() for name, tensor in weights.items()}}\n"
        "  safetensors.torch.save_file(weights, '{}', metadata={{'format': 'pt'}})",
        folder.string(), fmt::join(pickles, ", "), kSingle);
  }
  fail<FormatError>("{}: holds no weights: neither {} nor {}. The download is incomplete; fetch it again.",
                    folder.string(), kSingle, kIndex);
}

// A name from an index, which must not lead out of the folder.
bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

// The safetensors files of a folder.
class SafetensorsFiles : public TensorFiles {
 public:
  /// One file, or those that an index names.
  static SafetensorsFiles single(const fs::path& file);
  static SafetensorsFiles sharded(const fs::path& index);

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, file] : files_of_) names.push_back(name);
    return names;
  }
  StoredTensor describe(const std::string& name) const override { return files_[files_of_.at(name)].describe(name); }
  Tensor tensor(const std::string& name) const override { return files_[files_of_.at(name)].tensor(name); }

 private:
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> files_of_;  // which of files_ holds a tensor
};

SafetensorsFiles SafetensorsFiles::single(const fs::path& file) {
  SafetensorsFiles out;
  out.files_.push_back(SafetensorsFile::open(file));
  for (std::string& name : out.files_.back().names()) out.files_of_.emplace(std::move(name), 0);
  return out;
}

SafetensorsFiles SafetensorsFiles::sharded(const fs::path& index) {
  const fs::path folder = index.parent_path();
  SafetensorsFiles out;
  const std::string source = index.string();
  const json content = parse_json(read_text_file(index, kLargestIndex), source);
  const auto map = content.is_object() ? content.find("weight_map") : content.end();
  if (map == content.end() || !map->is_object()) {
    fail<FormatError>("{}: has no 'weight_map' object of tensor and file names", source);
  }
  std::map<std::string, size_t> opened;
  for (const auto& item : map->items()) {
    if (!item.value().is_string()) {
      fail<FormatError>("{}: tensor {} has {} for a file name", source, quote_name(item.key()),
                        quote_json(item.value()));
    }
    const std::string& shard = item.value().get_ref<const std::string&>();
    const auto [file, is_new] = opened.try_emplace(shard, out.files_.size());
    if (is_new) {
      if (!is_plain_file_name(shard)) {
        fail<FormatError>("{}: tensor {} is said to be in {}, which is not the name of a file in this folder", source,
                          quote_name(item.key()), quote_name(shard));
      }
      if (!is_file(folder / shard)) {
        fail<FormatError>("{}: names {}, which is missing. The download is incomplete; fetch it again.", source,
                          quote_name(shard));
      }
      out.files_.push_back(SafetensorsFile::open(folder / shard));
    }
    if (!out.files_[file->second].contains(item.key())) {
      fail<FormatError>("{}: tensor {} is not in {}. Index and file belong to different models; fetch both again.",
                        source, quote_name(item.key()), quote_name(shard));
    }
    out.files_of_.emplace(item.key(), file->second);
  }
  for (size_t i = 0; i < out.files_.size(); ++i) {
    for (const std::string& name : out.files_[i].names()) {
      const auto listed = out.files_of_.find(name);
      if (listed == out.files_of_.end() || listed->second != i) {
        fail<FormatError>(
            "{}: does not say that tensor {} is in {}, but it is. Index and file belong to different models; "
            "fetch both again.",
            source, quote_name(name), quote_name(out.files_[i].path().filename().string()));
      }
    }
  }
  return out;
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail("{}: there is no such folder or file", path.string());
  if (const std::optional<fs::path> gguf = find_gguf(path)) return open_gguf(*gguf);
  if (!fs::is_directory(path, ignored)) {
    fail("{}: is neither a folder nor a GGUF file. Give the folder that holds config.json and {}.", path.string(),
         kSingle);
  }
  return open_folder(path);
}

Checkpoint Checkpoint::open_folder(const fs::path& folder) {
  const fs::path config = folder / "config.json";
  if (!is_file(config)) {
    fail<FormatError>("{}: holds no config.json, so it is no model in the Hugging Face layout", folder.string());
  }
  Checkpoint checkpoint(folder, Config::read(config));
  if (is_file(folder / kSingle)) {
    checkpoint.hold(std::make_shared<SafetensorsFiles>(SafetensorsFiles::single(folder / kSingle)));
  } else if (is_file(folder / kIndex)) {
    checkpoint.hold(std::make_shared<SafetensorsFiles>(SafetensorsFiles::sharded(folder / kIndex)));
  } else {
    fail_without_weights(folder);
  }
  checkpoint.read_quantization();
  return checkpoint;
}

void Checkpoint::read_quantization() {
  // AutoGPTQ's own file, before transformers took its content into config.json.
  const fs::path beside = folder_ / "quantize_config.json";
  if (!config_.has("quantization_config") && is_file(beside)) {
    packed_ = std::make_shared<GptqLayout>(GptqLayout::parse(Config::read(beside)));
    return;
  }
  if (!config_.has("quantization_config")) {
    if (!config_.has("compression_config")) return;
    fail<FormatError>(
        "{}: 'compression_config' is the form of old releases of compressed-tensors; save the model again "
        "with a current one",
        config_.source());
  }
  const Config quantization = config_.object("quantization_config");
  const std::string method = quantization.text("quant_method", "");
  if (method == "gptq") {
    packed_ = std::make_shared<GptqLayout>(GptqLayout::parse(quantization));
  } else if (method == "awq") {
    packed_ = std::make_shared<AwqLayout>(AwqLayout::parse(quantization, names_));
  } else {
    quantization_ = StoredQuantization::parse(quantization);
  }
}

Checkpoint Checkpoint::open_gguf(const fs::path& file) {
  auto model = std::make_shared<const GgufModel>(GgufModel::open(file));
  Checkpoint checkpoint(file, model->config());
  checkpoint.gguf_ = model;
  checkpoint.hold(std::move(model));
  return checkpoint;
}

void Checkpoint::hold(std::shared_ptr<const TensorFiles> files) {
  files_ = std::move(files);
  names_ = files_->names();
  for (const std::string& name : names_) bytes_ += files_->describe(name).bytes;
}

const std::string& Checkpoint::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(names_, name);
  if (found != names_.end() && *found == name) return *found;
  // Only a near name helps: the list of all of them would fill the screen.
  std::string hint = did_you_mean(name, names_);
  if (hint.find("Did you mean") == std::string::npos) hint = fmt::format(" It holds {} others.", names_.size());
  fail<FormatError>("{}: holds no tensor {}.{}", folder_.string(), quote_name(name), hint);
}

StoredTensor Checkpoint::describe(std::string_view name) const { return files_->describe(find(name)); }

Tensor Checkpoint::tensor(std::string_view name) const { return files_->tensor(find(name)); }

std::optional<Scheme> Checkpoint::stored_scheme(std::string_view layer, LayerKind kind) const {
  if (is_gguf()) {
    const std::optional<WeightScheme> weight = gguf_->scheme_of(std::string(layer) + ".weight");
    return weight ? std::optional(Scheme{.weight = *weight}) : std::nullopt;
  }
  if (packed_) {
    const std::optional<WeightScheme> weight = packed_->scheme_of(*this, std::string(layer));
    return weight ? std::optional(Scheme{.weight = *weight}) : std::nullopt;
  }
  const std::optional<StoredScheme> stored = quantization_ ? quantization_->scheme_for(layer, kind) : std::nullopt;
  return stored ? std::optional(stored->scheme) : std::nullopt;
}

QTensor Checkpoint::stored_weight(const std::string& layer, LayerKind kind) const {
  if (is_gguf()) return gguf_->codes(layer + ".weight");
  if (packed_) return packed_->codes(*this, layer);
  return decode_weight(*this, layer, quantization_->scheme_for(layer, kind).value());
}

}  // namespace octet

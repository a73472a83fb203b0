// SPDX-License-Identifier: Apache-2.0
#include "octet/io/checkpoint.h"

#include <algorithm>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/base/suggest.h"

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
    fail<FormatError>("{}: holds neither {} nor {}, but {}. Give a folder in the Hugging Face layout.", folder.string(),
                      kSingle, kIndex, fmt::join(others, ", "));
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

}  // namespace

Checkpoint::Checkpoint(fs::path folder, Config config) : folder_(std::move(folder)), config_(std::move(config)) {}

Checkpoint Checkpoint::open(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) fail("{}: there is no such folder", folder.string());
  if (!fs::is_directory(folder, ignored)) {
    fail("{}: is not a folder. Give the folder that holds config.json and {}.", folder.string(), kSingle);
  }
  const fs::path config = folder / "config.json";
  if (!is_file(config)) {
    fail<FormatError>("{}: holds no config.json, so it is no model in the Hugging Face layout", folder.string());
  }
  Checkpoint checkpoint(folder, Config::read(config));
  if (checkpoint.config_.has("quantization_config")) {
    checkpoint.quantization_ = StoredQuantization::parse(checkpoint.config_.object("quantization_config"));
  } else if (checkpoint.config_.has("compression_config")) {
    fail<FormatError>(
        "{}: 'compression_config' is the form of old releases of compressed-tensors; save the model again "
        "with a current one",
        config.string());
  }
  if (is_file(folder / kSingle)) {
    checkpoint.open_single(folder / kSingle);
  } else if (is_file(folder / kIndex)) {
    checkpoint.open_sharded(folder / kIndex);
  } else {
    fail_without_weights(folder);
  }
  for (const auto& [name, file] : checkpoint.files_of_) checkpoint.names_.push_back(name);
  return checkpoint;
}

void Checkpoint::open_single(const fs::path& file) {
  files_.push_back(SafetensorsFile::open(file));
  bytes_ = files_.back().bytes();
  for (std::string& name : files_.back().names()) files_of_.emplace(std::move(name), 0);
}

void Checkpoint::open_sharded(const fs::path& index) {
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
    const auto [file, is_new] = opened.try_emplace(shard, files_.size());
    if (is_new) {
      if (!is_plain_file_name(shard)) {
        fail<FormatError>("{}: tensor {} is said to be in {}, which is not the name of a file in this folder", source,
                          quote_name(item.key()), quote_name(shard));
      }
      if (!is_file(folder_ / shard)) {
        fail<FormatError>("{}: names {}, which is missing. The download is incomplete; fetch it again.", source,
                          quote_name(shard));
      }
      files_.push_back(SafetensorsFile::open(folder_ / shard));
    }
    if (!files_[file->second].contains(item.key())) {
      fail<FormatError>("{}: tensor {} is not in {}. Index and file belong to different models; fetch both again.",
                        source, quote_name(item.key()), quote_name(shard));
    }
    files_of_.emplace(item.key(), file->second);
  }
  for (size_t i = 0; i < files_.size(); ++i) {
    for (const std::string& name : files_[i].names()) {
      const auto listed = files_of_.find(name);
      if (listed == files_of_.end() || listed->second != i) {
        fail<FormatError>(
            "{}: does not say that tensor {} is in {}, but it is. Index and file belong to different models; "
            "fetch both again.",
            source, quote_name(name), quote_name(files_[i].path().filename().string()));
      }
    }
    bytes_ += files_[i].bytes();
  }
}

Tensor Checkpoint::tensor(std::string_view name) const {
  const auto file = files_of_.find(name);
  if (file != files_of_.end()) return files_[file->second].tensor(name);
  // Only a near name helps: the list of all of them would fill the screen.
  std::string hint = did_you_mean(name, names_);
  if (hint.find("Did you mean") == std::string::npos) hint = fmt::format(" It holds {} others.", names_.size());
  fail<FormatError>("{}: holds no tensor {}.{}", folder_.string(), quote_name(name), hint);
}

}  // namespace octet

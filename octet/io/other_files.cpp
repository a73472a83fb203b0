// SPDX-License-Identifier: Apache-2.0
#include "octet/io/other_files.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace octet {
namespace {

namespace fs = std::filesystem;

bool holds_weights(const fs::path& file) {
  static const std::array<std::string_view, 9> kEndings = {".safetensors", ".bin",  ".pt",   ".pth", ".h5",
                                                           ".msgpack",     ".onnx", ".gguf", ".ot"};
  return std::find(kEndings.begin(), kEndings.end(), file.extension().string()) != kEndings.end() ||
         file.filename().string().ends_with(".index.json");
}

}  // namespace

void copy_other_files(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const fs::path target = to / entry.path().filename();
    if (entry.path().filename().string().starts_with('.')) continue;
    if (entry.is_directory()) {
      fs::create_directory(target);
      copy_other_files(entry.path(), target);
    } else if (entry.is_regular_file() && !holds_weights(entry.path()) && !fs::exists(target)) {
      fs::copy_file(entry.path(), target);
      fs::permissions(target, fs::perms::owner_write, fs::perm_options::add);
    }
  }
}

}  // namespace octet

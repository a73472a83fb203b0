// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/base/mapped_file.h"

namespace octet {

inline nlohmann::json read_json(const std::filesystem::path& file) {
  return parse_json(read_text_file(file, int64_t{1} << 26), file.string());
}

}  // namespace octet

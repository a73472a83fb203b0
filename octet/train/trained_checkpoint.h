// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "octet/io/checkpoint.h"
#include "octet/nn/trainable.h"

namespace octet {

/// Writes the model in `source` with the values that training gave it to `folder`, which is there: model.safetensors
/// in fp32, config.json and the files that lie beside `source`. Tensors that training does not change are as they were.
void write_trained(const Checkpoint& source, const Trainables& trained, const std::filesystem::path& folder);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace octet {

/// Copies what lies in a model directory beside its weights: tokenizer, pooling and other small files, and what folders
/// hold of them. Files whose names begin with a dot and those that `to` has already are left out; links are followed,
/// as caches of downloads are made of them. Weights in any form are written anew, or are copies that would contradict
/// what is written.
void copy_other_files(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "octet/base/error.h"
#include "octet/quant/recipe.h"

// The first line, where it holds an equals sign, is a setting as --set gives it; the rest is the recipe.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> settings;
  const std::string_view line = text.substr(0, text.find('\n'));
  if (line.find('=') != line.npos) {
    settings.emplace_back(line);
    text.remove_prefix(line.size());
  }
  try {
    const octet::Recipe recipe = octet::Recipe::parse(text, "input.json", settings);
    const std::array<std::string, 3> layers = {"", "encoder.layer.0.output.dense", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"};
    for (const std::string& layer : layers) {
      recipe.asked_group_size(layer);
      for (const int64_t inputs : {0, 1, 576, 1024}) {
        try {
          recipe.scheme_for(layer, inputs);
          recipe.embedding_scheme(layer, inputs);
        } catch (const octet::ShapeError&) {  // no group size divides the inputs
        }
      }
    }
    recipe.unmatched_patterns(layers);
  } catch (const octet::FormatError&) {
  } catch (const octet::UsageError&) {
  }
  return 0;
}

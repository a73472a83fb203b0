// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/io/awq_layout.h"
#include "octet/io/gptq_layout.h"
#include "octet/io/quantization_config.h"

// Reads the input as a config.json with every accessor, and its quantization_config, in each layout, with the layer
// patterns in it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto ignoring_bad_values = [](auto read) {
    try {
      read();
    } catch (const octet::FormatError&) {
    }
  };
  ignoring_bad_values([&] {
    const octet::Config config = octet::Config::parse({reinterpret_cast<const char*>(data), size}, "config.json");
    for (const auto& item : config.json().items()) {
      const std::string& key = item.key();
      ignoring_bad_values([&] { config.text(key); });
      ignoring_bad_values([&] { config.integer(key, octet::IntegerRange{1, 1'000'000}); });
      ignoring_bad_values([&] { config.number(key, 1.0); });
      ignoring_bad_values([&] { config.flag(key, false); });
      ignoring_bad_values([&] { config.texts(key); });
      ignoring_bad_values([&] { config.object(key).integer("bits", 8); });
    }
    const octet::Config stored = config.object("quantization_config");
    ignoring_bad_values([&] { octet::GptqLayout::parse(stored); });
    ignoring_bad_values([&] { octet::AwqLayout::parse(stored, {}); });
    const auto quantization = octet::StoredQuantization::parse(stored);
    for (const std::string_view layer :
         {"", "lm_head", "encoder.layer.11.attention.self.query", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!"}) {
      quantization.scheme_for(layer);
      quantization.scheme_for(layer, octet::LayerKind::kEmbedding);
    }
  });
  return 0;
}

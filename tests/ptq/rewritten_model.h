// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "octet/io/checkpoint.h"
#include "octet/io/safetensors.h"
#include "octet/models/session.h"
#include "tests/json_file.h"

namespace octet {

/// All tensors of a checkpoint, floats as fp32.
inline std::map<std::string, Tensor> tensors_of(const Checkpoint& checkpoint) {
  std::map<std::string, Tensor> tensors;
  for (const std::string& name : checkpoint.names()) {
    const Tensor stored = checkpoint.tensor(name);
    tensors.emplace(name, is_float(stored.dtype()) ? to_f32(stored.view()) : Tensor::copy_of(stored.view()));
  }
  return tensors;
}

/// A model directory at `out`: the config of the one at `from` with `changes`, and these tensors.
inline void write_model(const std::filesystem::path& from, const nlohmann::json& changes,
                        std::map<std::string, Tensor> tensors, const std::filesystem::path& out) {
  std::filesystem::create_directory(out);
  nlohmann::json config = read_json(from / "config.json");
  config.update(changes);
  std::ofstream(out / "config.json") << config;
  SafetensorsWriter writer;
  for (auto& [name, tensor] : tensors) writer.add(name, std::move(tensor));
  writer.write(out / "model.safetensors");
}

/// The largest difference of two tensors as a share of the largest magnitude of the first.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  double difference = 0, largest = 0;
  for (size_t i = 0; i < a.as<float>().size(); ++i) {
    const double x = a.as<float>()[i], y = b.as<float>()[i];
    difference = std::max(difference, std::abs(x - y));
    largest = std::max(largest, std::abs(x));
  }
  return difference / largest;
}

}  // namespace octet

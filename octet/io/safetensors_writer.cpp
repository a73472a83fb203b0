// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <numeric>

#include <nlohmann/json.hpp>

#include "octet/base/atomic_output.h"
#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/safetensors.h"

namespace octet {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little,
              "safetensors and npy are little-endian, and mapped as they are");

void SafetensorsWriter::add(TensorSource source) {
  if (source.name == "__metadata__") fail("a tensor cannot have the name '__metadata__'");
  if (!names_.insert(source.name).second) fail("two tensors have the name {}", quote_name(source.name));
  sources_.push_back(std::move(source));
}

void SafetensorsWriter::add(std::string name, Tensor tensor) {
  const DType dtype = tensor.dtype();
  const Shape shape = tensor.shape();
  // std::function wants to be copied, a Tensor cannot be.
  add({std::move(name), dtype, shape,
       [held = std::make_shared<Tensor>(std::move(tensor))] { return std::move(*held); }});
}

void SafetensorsWriter::write(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata) {
  std::vector<size_t> order(sources_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return byte_size(sources_[i].dtype); });
  std::vector<int64_t> offsets(sources_.size());

  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const size_t i : order) {
    const TensorSource& source = sources_[i];
    const int64_t end = checked_add(offset, checked_mul(source.shape.elements(), byte_size(source.dtype)));
    const std::span<const int64_t> extents = source.shape.extents();
    header[source.name] = {{"dtype", name(source.dtype)},
                           {"shape", std::vector<int64_t>(extents.begin(), extents.end())},
                           {"data_offsets", std::array{offset, end}}};
    offsets[i] = offset;
    offset = end;
  }
  std::string text;
  try {
    text = json_text(header);
  } catch (const json::exception&) {
    fail("{}: the name of a tensor is not UTF-8", path.string());
  }
  // Data that starts on a multiple of 8 is aligned for every dtype.
  text.resize(static_cast<size_t>(round_up(static_cast<int64_t>(text.size()), 8)), ' ');

  OutputFile file(path);
  const uint64_t header_bytes = text.size();
  file.write(std::as_bytes(std::span(&header_bytes, 1)));
  file.write(text);
  const auto data_begin = static_cast<int64_t>(sizeof header_bytes + text.size());
  for (size_t i = 0; i < sources_.size(); ++i) {
    TensorSource& source = sources_[i];
    const Tensor tensor = source.make();
    if (tensor.dtype() != source.dtype || tensor.shape() != source.shape) {
      fail("{}: tensor {} was announced as {} {} but is {} {}", path.string(), quote_name(source.name),
           name(source.dtype), to_string(source.shape), name(tensor.dtype()), to_string(tensor.shape()));
    }
    file.write_at(data_begin + offsets[i], std::span(tensor.view().data, static_cast<size_t>(tensor.bytes())));
    tensor.release_pages();
    source.make = nullptr;
  }
  file.commit();
  sources_.clear();
  names_.clear();
}

}  // namespace octet

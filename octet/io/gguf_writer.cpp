// SPDX-License-Identifier: Apache-2.0
#include "octet/io/gguf_writer.h"

#include "octet/base/atomic_output.h"
#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

constexpr int64_t kAlignment = 32;  // what readers take where the metadata do not say
constexpr size_t kLongestName = 64;
constexpr int kMostExtents = 4;

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& bytes, std::string_view text) {
  append<uint64_t>(bytes, text.size());
  bytes += text;
}

template <class T>
void append_array(std::string& bytes, GgufValueType type, std::span<const T> values) {
  append(bytes, type);
  append<uint64_t>(bytes, values.size());
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

std::string padding(int64_t bytes) {
  return std::string(static_cast<size_t>(round_up(bytes, kAlignment) - bytes), '\0');
}

}  // namespace

std::string& GgufWriter::begin(std::string_view key) {
  if (!keys_.emplace(key).second) fail("two metadata values have the key {}", quote_name(key));
  append_text(metadata_, key);
  return metadata_;
}

std::string& GgufWriter::begin(std::string_view key, GgufValueType type) {
  std::string& bytes = begin(key);
  append(bytes, type);
  return bytes;
}

void GgufWriter::add_encoded(std::string_view key, std::string_view type_and_value) { begin(key) += type_and_value; }

void GgufWriter::add_text(std::string_view key, std::string_view value) {
  append_text(begin(key, GgufValueType::kText), value);
}

void GgufWriter::add_integer(std::string_view key, uint32_t value) { append(begin(key, GgufValueType::kU32), value); }

void GgufWriter::add_number(std::string_view key, float value) { append(begin(key, GgufValueType::kF32), value); }

void GgufWriter::add_flag(std::string_view key, bool value) {
  append(begin(key, GgufValueType::kBool), static_cast<uint8_t>(value));
}

void GgufWriter::add_texts(std::string_view key, std::span<const std::string> values) {
  std::string& bytes = begin(key, GgufValueType::kArray);
  append(bytes, GgufValueType::kText);
  append<uint64_t>(bytes, values.size());
  for (const std::string& value : values) append_text(bytes, value);
}

void GgufWriter::add_integers(std::string_view key, std::span<const int32_t> values) {
  append_array(begin(key, GgufValueType::kArray), GgufValueType::kI32, values);
}

void GgufWriter::add_numbers(std::string_view key, std::span<const float> values) {
  append_array(begin(key, GgufValueType::kArray), GgufValueType::kF32, values);
}

void GgufWriter::add(GgufTensorSource source) {
  const int rank = source.shape.rank();
  if (rank < 1 || rank > kMostExtents || source.name.size() > kLongestName) {
    fail("a GGUF file cannot hold the tensor {} of shape {}: names have up to {} bytes, shapes 1 to {} extents",
         quote_name(source.name), to_string(source.shape), kLongestName, kMostExtents);
  }
  const std::optional<GgufBlock> block = find_block(source.type);
  if (!block || source.shape[rank - 1] % block->elements != 0) {
    fail("tensor {}: rows of {} elements do not fill blocks of the type {}", quote_name(source.name),
         source.shape[rank - 1], block ? block->name : "?");
  }
  if (!names_.insert(source.name).second) fail("two tensors have the name {}", quote_name(source.name));
  sources_.push_back(std::move(source));
}

void GgufWriter::write(const std::filesystem::path& path, const std::function<void()>& advance) {
  std::string header = "GGUF";
  append<uint32_t>(header, 3);
  append<uint64_t>(header, sources_.size());
  append<uint64_t>(header, keys_.size());
  header += metadata_;
  int64_t offset = 0;
  for (const GgufTensorSource& source : sources_) {
    append_text(header, source.name);
    append(header, static_cast<uint32_t>(source.shape.rank()));
    for (int axis = source.shape.rank(); axis-- > 0;) append(header, source.shape[axis]);
    append(header, source.type);
    append(header, offset);
    offset = checked_add(offset, round_up(gguf_bytes(source.type, source.shape.elements()), kAlignment));
  }
  header += padding(static_cast<int64_t>(header.size()));

  OutputFile file(path);
  file.write(header);
  for (GgufTensorSource& source : sources_) {
    const std::vector<std::byte> blocks = source.make();
    const int64_t announced = gguf_bytes(source.type, source.shape.elements());
    if (std::cmp_not_equal(blocks.size(), announced)) {
      fail("{}: tensor {} was announced with {} bytes but has {}", path.string(), quote_name(source.name), announced,
           blocks.size());
    }
    file.write(blocks);
    file.write(padding(announced));
    source.make = nullptr;
    if (advance) advance();
  }
  file.commit();
  sources_.clear();
}

}  // namespace octet

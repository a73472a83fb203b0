// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/safetensors.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr uint64_t kLongestHeader = 100'000'000;  // as the reference implementation
constexpr int64_t kPrefix = 8;                    // the header's length, before the header
// {"name": {"shape": [ is three levels.
constexpr int kDeepest = 3;
constexpr std::string_view kMetadata = "__metadata__";

// 91204112 → "91,204,112"
std::string grouped(uint64_t number) {
  const std::string digits = std::to_string(number);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::optional<DType> dtype_named(const std::string& text) {
  using enum DType;
  for (const DType dtype : {kF64, kF32, kF16, kBF16, kI64, kI32, kI8, kU8, kBool}) {
    if (name(dtype) == text) return dtype;
  }
  return std::nullopt;
}

// A tensor's part of the header, read with its name at hand for errors.
class EntryReader {
 public:
  EntryReader(const json& entry, const std::string& source, const std::string& name)
      : entry_(entry), where_(source + ": tensor " + quote_name(name)) {
    if (!entry.is_object())
      fail<FormatError>("{}: an object is needed in the header, not {}", where_, quote_json(entry));
    for (const auto& item : entry.items()) {
      const std::string& key = item.key();
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        fail<FormatError>("{}: unknown key {} in the header", where_, quote_name(key));
      }
    }
  }

  const std::string& where() const { return where_; }

  DType dtype() const {
    const json& value = get("dtype");
    if (!value.is_string()) fail<FormatError>("{}: its dtype is {}, not text", where_, quote_json(value));
    const std::optional<DType> dtype = dtype_named(value.get_ref<const std::string&>());
    if (!dtype) {
      fail<FormatError>("{}: its dtype is {}; F64, F32, F16, BF16, I64, I32, I8, U8 and BOOL can be read", where_,
                        quote_name(value.get_ref<const std::string&>()));
    }
    return *dtype;
  }

  Shape shape() const {
    const std::vector<int64_t> extents = integers("shape");
    try {
      return Shape(extents);
    } catch (const ShapeError& error) {
      fail<FormatError>("{}: {}", where_, error.what());
    }
  }

  // From the start of the data.
  std::array<int64_t, 2> offsets() const {
    const std::vector<int64_t> both = integers("data_offsets");
    if (both.size() != 2) fail<FormatError>("{}: {} data_offsets; begin and end are needed", where_, both.size());
    if (both[0] > both[1])
      fail<FormatError>("{}: begins at byte {} and ends before it, at {}", where_, both[0], both[1]);
    return {both[0], both[1]};
  }

 private:
  const json& get(const char* key) const {
    const auto value = entry_.find(key);
    if (value == entry_.end()) fail<FormatError>("{}: has no {} in the header", where_, key);
    return *value;
  }

  std::vector<int64_t> integers(const char* key) const {
    const json& value = get(key);
    std::vector<int64_t> out;
    if (!value.is_array()) fail<FormatError>("{}: its {} is {}, not a list", where_, key, quote_json(value));
    for (const json& item : value) {
      const bool good = item.is_number_unsigned() && std::in_range<int64_t>(item.get<uint64_t>());
      if (!good) fail<FormatError>("{}: {} holds {}; whole numbers are needed", where_, key, quote_json(item));
      out.push_back(item.get<int64_t>());
    }
    return out;
  }

  const json& entry_;
  std::string where_;
};

struct Range {
  int64_t begin, end;
  const std::string* name;
};

// Every byte of the data belongs to exactly one tensor.
void check_coverage(std::vector<Range> ranges, int64_t data_bytes, const std::string& source) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  int64_t covered = 0;
  for (const Range& range : ranges) {
    if (range.begin < covered) {
      fail<FormatError>("{}: tensor {} overlaps the one before it. The file is damaged.", source,
                        quote_name(*range.name));
    }
    if (range.begin > covered) {
      fail<FormatError>("{}: {} bytes before tensor {} belong to no tensor. The file is damaged.", source,
                        grouped(static_cast<uint64_t>(range.begin - covered)), quote_name(*range.name));
    }
    covered = range.end;
  }
  if (covered != data_bytes) {
    fail<FormatError>("{}: {} bytes at the end belong to no tensor. The file is damaged; fetch it again.", source,
                      grouped(static_cast<uint64_t>(data_bytes - covered)));
  }
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return SafetensorsFile(MappedFile::open(path));
}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {
  const std::string source = path().string();
  const std::span<const std::byte> all = file_->bytes();
  if (all.size() < kPrefix) {
    fail<FormatError>("{}: {} bytes are no safetensors file. Fetch it again.", source, all.size());
  }
  uint64_t header_bytes = 0;
  static_assert(sizeof header_bytes == kPrefix);
  std::memcpy(&header_bytes, all.data(), sizeof header_bytes);
  if (header_bytes > kLongestHeader) {
    fail<FormatError>("{}: a header of {} bytes; at most {} are allowed. This is no safetensors file.", source,
                      grouped(header_bytes), grouped(kLongestHeader));
  }
  if (header_bytes > all.size() - kPrefix) {
    fail<FormatError>(
        "{}: the header ends at byte {}, but the file has {}. The download is incomplete or the file is "
        "damaged; fetch it again.",
        source, grouped(header_bytes + kPrefix), grouped(all.size()));
  }
  const std::string_view text(reinterpret_cast<const char*>(all.data()) + kPrefix, header_bytes);
  if (!text.starts_with('{'))
    fail<FormatError>("{}: the header is no JSON object. This is no safetensors file.", source);
  const json header = parse_json(text, source + ": the header", kDeepest);

  const int64_t data_start = kPrefix + static_cast<int64_t>(header_bytes);
  const auto file_bytes = static_cast<int64_t>(all.size());
  std::vector<Range> ranges;
  for (const auto& item : header.items()) {
    if (item.key() == kMetadata) {
      if (!item.value().is_object()) fail<FormatError>("{}: its {} is not an object", source, kMetadata);
      for (const auto& fact : item.value().items()) {
        if (!fact.value().is_string()) {
          fail<FormatError>("{}: {} holds {} under {}; only text is allowed", source, kMetadata,
                            quote_json(fact.value()), quote_name(fact.key()));
        }
        metadata_.emplace(fact.key(), fact.value().get<std::string>());
      }
      continue;
    }
    const EntryReader reader(item.value(), source, item.key());
    const DType dtype = reader.dtype();
    const Shape shape = reader.shape();
    const auto [begin, end] = reader.offsets();
    if (end > file_bytes - data_start) {
      fail<FormatError>(
          "{} ends at byte {}, but the file has {}. The download is incomplete or the file is damaged; "
          "fetch it again.",
          reader.where(), grouped(static_cast<uint64_t>(end) + static_cast<uint64_t>(data_start)), grouped(all.size()));
    }
    int64_t needed = 0;
    if (__builtin_mul_overflow(shape.elements(), byte_size(dtype), &needed) || needed != end - begin) {
      fail<FormatError>("{}: {} {} does not fill its {} bytes. The file is damaged.", reader.where(), name(dtype),
                        to_string(shape), grouped(static_cast<uint64_t>(end - begin)));
    }
    const auto entry = entries_.emplace(item.key(), Entry{dtype, shape, data_start + begin}).first;
    ranges.push_back({begin, end, &entry->first});
    bytes_ += needed;  // ranges that lie in the file and, as is checked next, do not overlap
  }
  check_coverage(std::move(ranges), file_bytes - data_start, source);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const SafetensorsFile::Entry& SafetensorsFile::find(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail<FormatError>("{}: holds no tensor {}", path().string(), quote_name(name));
  return found->second;
}

StoredTensor SafetensorsFile::describe(std::string_view name) const {
  const Entry& entry = find(name);
  return {.type = std::string(octet::name(entry.dtype)),
          .dtype = entry.dtype,
          .shape = entry.shape,
          .bytes = entry.shape.elements() * byte_size(entry.dtype)};
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const Entry& entry = find(name);
  // A mapping starts on a page, so the offset alone decides.
  if (entry.offset % byte_size(entry.dtype) == 0) return Tensor::mapped(file_, entry.offset, entry.dtype, entry.shape);
  return Tensor::copy_of({entry.dtype, entry.shape, file_->bytes().data() + entry.offset});
}

}  // namespace octet

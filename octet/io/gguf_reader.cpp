// SPDX-License-Identifier: Apache-2.0
#include "octet/io/gguf_reader.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>

#include <fmt/ranges.h>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian, and mapped as they are");

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "GGUF";
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr int64_t kDefaultAlignment = 32;
// The format's own bound for keys, and far above its bound for names of tensors, 64.
constexpr size_t kLongestKey = 65'535;
constexpr size_t kLongestName = 1024;
constexpr uint32_t kMostExtents = 4;
// Real files nest nothing; each level is a recursion.
constexpr int kDeepestArray = 4;

// Bytes of a value of fixed size; 0: a text or an array.
size_t fixed_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
      return 8;
    case GgufValueType::kText:
    case GgufValueType::kArray:
      return 0;
  }
  return 0;
}

bool is_integer(GgufValueType type) {
  using enum GgufValueType;
  return type != kF32 && type != kF64 && type != kBool && type != kText && type != kArray;
}

}  // namespace

/// Reads on from a place in the file and never beyond its end.
class GgufFile::Cursor {
 public:
  Cursor(std::span<const std::byte> all, size_t at, std::string where) : all_(all), at_(at), where_(std::move(where)) {}

  size_t position() const { return at_; }
  size_t left() const { return all_.size() - at_; }
  const std::string& where() const { return where_; }
  /// What errors name from now on.
  void set_where(std::string where) { where_ = std::move(where); }

  void skip(size_t bytes) {
    if (bytes > left()) {
      fail<FormatError>(
          "{}: {} bytes are announced where {} are left. The download is incomplete or the file is damaged; "
          "fetch it again.",
          where_, bytes, left());
    }
    at_ += bytes;
  }

  template <class T>
  T number() {
    skip(sizeof(T));
    T value;
    std::memcpy(&value, all_.data() + at_ - sizeof(T), sizeof value);
    return value;
  }

  std::string_view text() {
    const auto size = number<uint64_t>();
    skip(size);
    return {reinterpret_cast<const char*>(all_.data()) + at_ - size, size};
  }

  GgufValueType value_type() {
    const auto type = number<uint32_t>();
    if (type > static_cast<uint32_t>(GgufValueType::kF64)) {
      fail<FormatError>("{}: a value of type {}; there are 0 to 12. The file is damaged.", where_, type);
    }
    return static_cast<GgufValueType>(type);
  }

  /// The type and number of an array's elements, of which each takes a byte at least: as many fit in what is left.
  std::pair<GgufValueType, int64_t> array_head(int depth) {
    const GgufValueType element = value_type();
    const auto count = number<uint64_t>();
    if (element == GgufValueType::kArray && depth == kDeepestArray) {
      fail<FormatError>("{}: an array nests more than {} levels", where_, kDeepestArray);
    }
    // A text has its length, an array its type and length.
    const size_t least = element == GgufValueType::kText    ? 8
                         : element == GgufValueType::kArray ? 12
                                                            : fixed_bytes(element);
    if (count > left() / least) {
      fail<FormatError>(
          "{}: an array of {} elements where {} bytes are left. The download is incomplete or the file is "
          "damaged; fetch it again.",
          where_, count, left());
    }
    return {element, static_cast<int64_t>(count)};
  }

  void skip_values(GgufValueType type, int64_t count, int depth) {
    if (const size_t bytes = fixed_bytes(type); bytes != 0) return skip(bytes * static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      if (type == GgufValueType::kText) {
        text();
      } else {
        const auto [element, elements] = array_head(depth + 1);
        skip_values(element, elements, depth + 1);
      }
    }
  }

  /// An integer of a type; of U64 those that int64 holds, else `too_large` is set.
  int64_t integer(GgufValueType type, bool& too_large) {
    switch (type) {
      case GgufValueType::kU8:
        return number<uint8_t>();
      case GgufValueType::kI8:
        return number<int8_t>();
      case GgufValueType::kU16:
        return number<uint16_t>();
      case GgufValueType::kI16:
        return number<int16_t>();
      case GgufValueType::kU32:
        return number<uint32_t>();
      case GgufValueType::kI32:
        return number<int32_t>();
      case GgufValueType::kU64: {
        const auto value = number<uint64_t>();
        too_large = too_large || !std::in_range<int64_t>(value);
        return static_cast<int64_t>(value);
      }
      default:
        return number<int64_t>();
    }
  }

 private:
  std::span<const std::byte> all_;
  size_t at_;
  std::string where_;
};

GgufFile GgufFile::open(const fs::path& path) { return GgufFile(MappedFile::open(path)); }

GgufFile::GgufFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {
  const std::string source = path().string();
  Cursor cursor(file_->bytes(), 0, source + ": the header");
  const std::span<const std::byte> all = file_->bytes();
  if (all.size() < kMagic.size() || std::memcmp(all.data(), kMagic.data(), kMagic.size()) != 0) {
    fail<FormatError>("{}: does not begin with \"{}\": this is no GGUF file", source, kMagic);
  }
  cursor.skip(kMagic.size());
  const auto version = cursor.number<uint32_t>();
  if (version != 0 && version % 0x10000 == 0) {
    fail<FormatError>(
        "{}: is big-endian; little-endian GGUF files can be read. Convert it, for example with "
        "gguf_convert_endian of the gguf package.",
        source);
  }
  if (version != 2 && version != 3) {
    fail<FormatError>("{}: GGUF version {}; 2 and 3 can be read", source, version);
  }
  const auto tensor_count = cursor.number<uint64_t>(), pairs = cursor.number<uint64_t>();
  read_metadata(cursor, pairs);
  read_tensors(cursor, tensor_count);

  int64_t alignment = kDefaultAlignment;
  if (has(kAlignmentKey)) {
    alignment = integer(kAlignmentKey, {1, int64_t{1} << 31});
    if (!std::has_single_bit(static_cast<uint64_t>(alignment))) {
      fail<FormatError>("{} is {}; a power of two is needed", where(kAlignmentKey), alignment);
    }
  }
  if (integer("split.count", 1) > 1) {
    fail<FormatError>("{}: is one of {} parts of a model; join them with 'llama-gguf-split --merge'", source,
                      integer("split.count"));
  }
  for (const auto& [name, entry] : tensors_) {
    if (entry.offset % alignment != 0) {
      fail<FormatError>("{}: tensor {}: its offset {} is not a multiple of the alignment {}", source, quote_name(name),
                        entry.offset, alignment);
    }
  }
  check_tensors(round_up(static_cast<int64_t>(cursor.position()), alignment));
}

void GgufFile::read_metadata(Cursor& cursor, uint64_t pairs) {
  const std::string source = path().string();
  for (uint64_t i = 0; i < pairs; ++i) {
    cursor.set_where(fmt::format("{}: the header, at metadata pair {} of {}", source, i + 1, pairs));
    const std::string_view key = cursor.text();
    if (key.size() > kLongestKey) fail<FormatError>("{}: a key of {} bytes", cursor.where(), key.size());
    cursor.set_where(where(key));
    Value value{
        .type = GgufValueType::kU8, .element = GgufValueType::kU8, .count = 1, .offset = 0, .begin = 0, .end = 0};
    value.begin = cursor.position();
    value.type = cursor.value_type();
    if (value.type == GgufValueType::kArray) std::tie(value.element, value.count) = cursor.array_head(1);
    value.offset = cursor.position();
    if (value.type == GgufValueType::kArray) {
      cursor.skip_values(value.element, value.count, 1);
    } else {
      cursor.skip_values(value.type, 1, 1);
    }
    value.end = cursor.position();
    if (!metadata_.emplace(key, value).second) fail<FormatError>("{} is there twice", where(key));
  }
}

void GgufFile::read_tensors(Cursor& cursor, uint64_t count) {
  const std::string source = path().string();
  for (uint64_t i = 0; i < count; ++i) {
    cursor.set_where(fmt::format("{}: the header, at tensor {} of {}", source, i + 1, count));
    const std::string_view name = cursor.text();
    if (name.size() > kLongestName) fail<FormatError>("{}: a name of {} bytes", cursor.where(), name.size());
    const std::string tensor = fmt::format("{}: tensor {}", source, quote_name(name));
    cursor.set_where(tensor);
    const auto rank = cursor.number<uint32_t>();
    if (rank > kMostExtents) fail<FormatError>("{}: {} extents; at most {} are allowed", tensor, rank, kMostExtents);
    std::vector<int64_t> extents;
    for (uint32_t axis = 0; axis < rank; ++axis) {
      const auto extent = cursor.number<uint64_t>();
      if (!std::in_range<int64_t>(extent)) fail<FormatError>("{}: an extent of {}", tensor, extent);
      extents.insert(extents.begin(), static_cast<int64_t>(extent));
    }
    const auto number = cursor.number<uint32_t>();
    const auto type = static_cast<GgufType>(number);
    const std::optional<GgufBlock> block = find_block(type);
    if (!block) {
      const std::optional<std::string_view> type_name = gguf_type_name(number);
      fail<FormatError>(
          "{}: is stored as {}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K can be read. Fetch "
          "the "
          "model in one of these.",
          tensor, type_name ? std::string(*type_name) : fmt::format("type {}", number));
    }
    const auto offset = cursor.number<uint64_t>();
    if (offset > static_cast<uint64_t>(file_->bytes().size())) {
      fail<FormatError>(
          "{}: begins at byte {} of the data, but the file has {}. The download is incomplete or the file is damaged; "
          "fetch it again.",
          tensor, offset, file_->bytes().size());
    }
    TensorEntry entry{.type = type, .shape = {}, .offset = static_cast<int64_t>(offset), .bytes = 0};
    try {
      entry.shape = Shape(extents);
      if (rank > 0 && extents.back() % block->elements != 0) {
        fail<ShapeError>("rows of {} elements do not fill blocks of {}", extents.back(), block->elements);
      }
      if (rank == 0 && block->elements != 1) fail<ShapeError>("one element does not fill a block");
      entry.bytes = gguf_bytes(type, entry.shape.elements());
    } catch (const Error& error) {
      fail<FormatError>("{}: {} {}: {}", tensor, block->name, fmt::join(extents, " × "), error.what());
    }
    if (!tensors_.emplace(name, entry).second) fail<FormatError>("{} is there twice", tensor);
  }
}

// Turns offsets into places in the file, once the header has been read.
void GgufFile::check_tensors(int64_t data_start) {
  const auto file_bytes = static_cast<int64_t>(file_->bytes().size());
  struct Range {
    int64_t begin, end;
    const std::string* name;
  };
  std::vector<Range> ranges;
  for (auto& [name, entry] : tensors_) {
    entry.offset += data_start;
    int64_t end = 0;
    if (__builtin_add_overflow(entry.offset, entry.bytes, &end) || end > file_bytes) {
      fail<FormatError>(
          "{}: tensor {}: its {} bytes begin at byte {}, but the file has {}. The download is incomplete or the file "
          "is "
          "damaged; fetch it again.",
          path().string(), quote_name(name), entry.bytes, entry.offset, file_bytes);
    }
    if (entry.bytes > 0) ranges.push_back({entry.offset, end, &name});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].begin < ranges[i - 1].end) {
      fail<FormatError>("{}: the tensors {} and {} overlap. The file is damaged.", path().string(),
                        quote_name(*ranges[i - 1].name), quote_name(*ranges[i].name));
    }
  }
}

std::vector<std::string> GgufFile::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : metadata_) keys.push_back(key);
  return keys;
}

const GgufFile::Value* GgufFile::find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

std::string GgufFile::where(std::string_view key) const {
  return fmt::format("{}: metadata key {}", path().string(), quote_name(key));
}

const GgufFile::Value& GgufFile::get(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) fail<FormatError>("{} is missing", where(key));
  return *value;
}

const GgufFile::Value& GgufFile::get_array(std::string_view key) const {
  const Value& value = get(key);
  if (value.type != GgufValueType::kArray) fail_type(key, "an array");
  return value;
}

void GgufFile::fail_type(std::string_view key, std::string_view needed) const {
  fail<FormatError>("{} has a value of another type; {} is needed", where(key), needed);
}

GgufFile::Cursor GgufFile::at(const Value& value, std::string_view key) const {
  return {file_->bytes(), value.offset, where(key)};
}

std::string_view GgufFile::text(std::string_view key) const {
  const Value& value = get(key);
  if (value.type != GgufValueType::kText) fail_type(key, "text");
  return at(value, key).text();
}
std::string_view GgufFile::text(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : fallback;
}

int64_t GgufFile::to_integer(std::string_view key, const Value& value, IntegerRange range) const {
  if (!is_integer(value.type)) fail_type(key, "a whole number");
  bool too_large = false;
  const int64_t number = at(value, key).integer(value.type, too_large);
  if (too_large || number < range.min || number > range.max) {
    fail<FormatError>("{} is {}; it must lie in [{}, {}]", where(key),
                      too_large ? std::to_string(static_cast<uint64_t>(number)) : std::to_string(number), range.min,
                      range.max);
  }
  return number;
}
int64_t GgufFile::integer(std::string_view key, IntegerRange range) const { return to_integer(key, get(key), range); }
int64_t GgufFile::integer(std::string_view key, int64_t fallback, IntegerRange range) const {
  const Value* value = find(key);
  return value == nullptr ? fallback : to_integer(key, *value, range);
}

double GgufFile::to_number(std::string_view key, const Value& value) const {
  if (is_integer(value.type)) {
    bool too_large = false;
    return static_cast<double>(at(value, key).integer(value.type, too_large));
  }
  if (value.type != GgufValueType::kF32 && value.type != GgufValueType::kF64) fail_type(key, "a number");
  const double number =
      value.type == GgufValueType::kF32 ? at(value, key).number<float>() : at(value, key).number<double>();
  if (!std::isfinite(number)) fail<FormatError>("{} is {}; a finite number is needed", where(key), number);
  return number;
}
double GgufFile::number(std::string_view key) const { return to_number(key, get(key)); }
double GgufFile::number(std::string_view key, double fallback) const {
  const Value* value = find(key);
  return value == nullptr ? fallback : to_number(key, *value);
}

bool GgufFile::flag(std::string_view key, bool fallback) const {
  const Value* value = find(key);
  if (value == nullptr) return fallback;
  if (value->type != GgufValueType::kBool) fail_type(key, "true or false");
  return at(*value, key).number<uint8_t>() != 0;
}

bool GgufFile::is_array(std::string_view key) const {
  const Value* value = find(key);
  return value != nullptr && value->type == GgufValueType::kArray;
}

std::string_view GgufFile::encoded(std::string_view key) const {
  const Value& value = get(key);
  return {reinterpret_cast<const char*>(file_->bytes().data()) + value.begin, value.end - value.begin};
}

std::vector<std::string_view> GgufFile::texts(std::string_view key) const {
  const Value& value = get_array(key);
  if (value.element != GgufValueType::kText) fail_type(key, "an array of texts");
  std::vector<std::string_view> out;
  out.reserve(static_cast<size_t>(value.count));
  Cursor cursor = at(value, key);
  for (int64_t i = 0; i < value.count; ++i) out.push_back(cursor.text());
  return out;
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
  const Value& value = get_array(key);
  if (!is_integer(value.element)) fail_type(key, "an array of whole numbers");
  std::vector<int64_t> out;
  out.reserve(static_cast<size_t>(value.count));
  Cursor cursor = at(value, key);
  bool too_large = false;
  for (int64_t i = 0; i < value.count; ++i) out.push_back(cursor.integer(value.element, too_large));
  if (too_large) fail<FormatError>("{} holds a number beyond 2^63", where(key));
  return out;
}

std::vector<float> GgufFile::numbers(std::string_view key) const {
  const Value& value = get_array(key);
  if (value.element != GgufValueType::kF32) fail_type(key, "an array of F32 numbers");
  std::vector<float> out;
  out.reserve(static_cast<size_t>(value.count));
  Cursor cursor = at(value, key);
  for (int64_t i = 0; i < value.count; ++i) out.push_back(cursor.number<float>());
  return out;
}

bool is_gguf_name(const fs::path& path) { return path.extension() == ".gguf"; }

std::optional<fs::path> find_gguf(const fs::path& path) {
  std::error_code ignored;
  if (is_gguf_name(path) && fs::is_regular_file(path, ignored)) return path;
  if (!fs::is_directory(path, ignored) || fs::exists(path / "config.json", ignored)) return std::nullopt;
  std::vector<std::string> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, ignored)) {
    if (is_gguf_name(entry.path())) found.push_back(entry.path().filename().string());
  }
  if (found.empty()) return std::nullopt;
  if (found.size() > 1) {
    std::sort(found.begin(), found.end());
    fail<FormatError>("{}: holds several models: {}. Name one of the files.", path.string(), fmt::join(found, ", "));
  }
  return path / found.front();
}

}  // namespace octet

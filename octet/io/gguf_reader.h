// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/base/mapped_file.h"
#include "octet/io/config.h"
#include "octet/io/gguf_blocks.h"
#include "octet/tensor/shape.h"

namespace octet {

/// Types of a metadata value, as in the file.
enum class GgufValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kText = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// A GGUF file, mapped (format: ggml-org/ggml, docs/gguf.md). All numbers are little-endian; a text is its length as
/// U64 and its bytes:
///
///   "GGUF", version (U32: 2 or 3), number of tensors (U64), number of metadata pairs (U64)
///   metadata pairs    key (text), type (U32), value; an array's value is its elements' type, their number, and they
///   tensors           name (text), number of extents (U32), extents (U64, the innermost first), type (U32), offset
///   padding           to the next multiple of general.alignment (32 where the metadata do not say)
///   the rest          the tensors' blocks (gguf_blocks.h); offsets count from its start, are such multiples, and may
///                     leave gaps, but not overlap
///
/// Everything before the blocks is checked when the file is opened, and so is that they lie in the file: what does not
/// fit is a FormatError that names file and key or tensor. Bad values of metadata are found when they are asked for.
class GgufFile {
 public:
  struct TensorEntry {
    GgufType type;
    Shape shape;     ///< outermost first
    int64_t offset;  ///< from the start of the file
    int64_t bytes;
  };

  /// Throws Error where the file cannot be opened.
  static GgufFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return file_->path(); }
  const std::shared_ptr<const MappedFile>& file() const noexcept { return file_; }

  bool has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }
  /// Keys in alphabetical order.
  std::vector<std::string> keys() const;
  /// The value of `key` as asked for; without a fallback, a missing one is a FormatError, and so is one of another
  /// type or out of range. Whole numbers of any width and sign count as integers; any finite number as a number. Views
  /// are of the mapped file.
  std::string_view text(std::string_view key) const;
  std::string_view text(std::string_view key, std::string_view fallback) const;
  int64_t integer(std::string_view key, IntegerRange range = {}) const;
  int64_t integer(std::string_view key, int64_t fallback, IntegerRange range = {}) const;
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool flag(std::string_view key, bool fallback) const;
  bool is_array(std::string_view key) const;
  /// Type and value as they stand in the file, for writers that carry them over.
  std::string_view encoded(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<float> numbers(std::string_view key) const;

  const std::map<std::string, TensorEntry, std::less<>>& tensors() const noexcept { return tensors_; }
  /// The blocks of a tensor.
  std::span<const std::byte> blocks(const TensorEntry& entry) const {
    return file_->bytes().subspan(static_cast<size_t>(entry.offset), static_cast<size_t>(entry.bytes));
  }

 private:
  class Cursor;
  struct Value {
    GgufValueType type;
    GgufValueType element;  ///< of an array
    int64_t count;          ///< of its elements; 1 of others
    size_t offset;          ///< where it, or its first element, begins in the file
    size_t begin, end;      ///< where its type begins, and it ends
  };

  explicit GgufFile(std::shared_ptr<const MappedFile> file);
  void read_metadata(Cursor& cursor, uint64_t pairs);
  void read_tensors(Cursor& cursor, uint64_t count);
  void check_tensors(int64_t data_start);

  const Value* find(std::string_view key) const;
  const Value& get(std::string_view key) const;
  const Value& get_array(std::string_view key) const;
  std::string where(std::string_view key) const;
  [[noreturn]] void fail_type(std::string_view key, std::string_view needed) const;
  Cursor at(const Value& value, std::string_view key) const;
  int64_t to_integer(std::string_view key, const Value& value, IntegerRange range) const;
  double to_number(std::string_view key, const Value& value) const;

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, Value, std::less<>> metadata_;
  std::map<std::string, TensorEntry, std::less<>> tensors_;
};

/// Whether a path looks like a GGUF file to be opened: its name ends in ".gguf".
bool is_gguf_name(const std::filesystem::path& path);
/// The GGUF file that a path stands for: itself, or the only one in a folder without config.json. None where it is
/// neither. Throws FormatError for such a folder with several.
std::optional<std::filesystem::path> find_gguf(const std::filesystem::path& path);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/npy.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include <fmt/ranges.h>

#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"

namespace octet {
namespace {

static_assert(std::endian::native == std::endian::little, "npy files are written as tensors lie in memory");

constexpr std::string_view kMagic = "\x93NUMPY";
// NumPy reads up to 10,000 by itself.
constexpr uint32_t kLongestHeader = 10'000;
// Version 1.0: magic, two bytes of version, two of the header's length.
constexpr size_t kPrefix = 10, kAlignment = 64;

struct Element {
  DType dtype;
  std::string_view description;
};
constexpr Element kElements[] = {{DType::kF64, "<f8"}, {DType::kF32, "<f4"}, {DType::kF16, "<f2"},
                                 {DType::kI64, "<i8"}, {DType::kI32, "<i4"}, {DType::kI8, "|i1"},
                                 {DType::kU8, "|u1"},  {DType::kBool, "|b1"}};

// The header: a Python dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  void read() {
    expect("{");
    while (!take("}")) {
      const std::string_view key = quoted_text();
      expect(":");
      if (key == "descr" && !description_) {
        description_ = description();
      } else if (key == "fortran_order" && !fortran_order_) {
        fortran_order_ = boolean();
      } else if (key == "shape" && !shape_) {
        shape_ = shape();
      } else {
        fail<FormatError>("{}: unexpected key {} in the header", source_, quote_name(key));
      }
      if (!take(",")) {
        expect("}");
        break;
      }
    }
    skip_space();
    if (!text_.empty()) refuse();
    if (!description_ || !fortran_order_ || !shape_)
      fail<FormatError>("{}: the header lacks descr, fortran_order or shape", source_);
    if (*fortran_order_ && shape_->rank() > 1) {
      fail<FormatError>("{}: the array is in Fortran order; save numpy.ascontiguousarray(array) instead", source_);
    }
  }

  const std::string& description_found() const { return *description_; }
  const Shape& shape_found() const { return *shape_; }

 private:
  [[noreturn]] void refuse() const {
    fail<FormatError>("{}: the header is malformed near {}. The file is damaged.", source_,
                      quote_name(text_.substr(0, 20)));
  }

  void skip_space() {
    const size_t space = std::min(text_.find_first_not_of(" \t\r\n"), text_.size());
    text_.remove_prefix(space);
  }
  bool take(std::string_view token) {
    skip_space();
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  void expect(std::string_view token) {
    if (!take(token)) refuse();
  }

  // Names and types are plain: no escapes.
  std::string_view quoted_text() {
    skip_space();
    const char quote = text_.empty() ? '\0' : text_.front();
    if (quote != '\'' && quote != '"') refuse();
    const size_t end = text_.find(quote, 1);
    if (end == text_.npos) refuse();
    const std::string_view inside = text_.substr(1, end - 1);
    text_.remove_prefix(end + 1);
    return inside;
  }

  bool boolean() {
    if (take("True")) return true;
    expect("False");
    return false;
  }

  std::string description() {
    if (take("[")) fail<FormatError>("{}: an array of records; save its fields one by one", source_);
    const std::string_view found = quoted_text();
    if (found.starts_with('>')) {
      fail<FormatError>("{}: the elements {} are big-endian; save array.astype(array.dtype.newbyteorder('<')) instead",
                        source_, quote_name(found));
    }
    return std::string(found);
  }

  // (), (3,) or (2, 3)
  Shape shape() {
    std::vector<int64_t> extents;
    expect("(");
    while (!take(")")) {
      skip_space();
      int64_t extent = 0;
      const auto [end, problem] = std::from_chars(text_.data(), text_.data() + text_.size(), extent);
      if (problem != std::errc()) refuse();
      text_.remove_prefix(static_cast<size_t>(end - text_.data()));
      extents.push_back(extent);
      if (!take(",")) {
        expect(")");
        break;
      }
    }
    try {
      return Shape(extents);
    } catch (const ShapeError& error) {
      fail<FormatError>("{}: {}", source_, error.what());
    }
  }

  std::string_view text_;
  const std::string& source_;
  std::optional<std::string> description_;
  std::optional<bool> fortran_order_;
  std::optional<Shape> shape_;
};

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

DType dtype_of(const std::string& description, const std::string& source) {
  for (const Element& element : kElements) {
    if (element.description == description) return element.dtype;
  }
  fail<FormatError>(
      "{}: elements of type {}; float16, float32, float64, int8, uint8, int32, int64 and bool can be read. "
      "Convert with array.astype.",
      source, quote_name(description));
}

std::string header_for(ConstTensorView tensor) {
  const auto* element = std::find_if(std::begin(kElements), std::end(kElements),
                                     [&](const Element& candidate) { return candidate.dtype == tensor.dtype; });
  if (element == std::end(kElements)) fail("NumPy has no {}; convert the tensor to F32 first", name(tensor.dtype));
  return npy_header(element->description, tensor.shape);
}

}  // namespace

std::string npy_header(std::string_view description, const Shape& shape, size_t least) {
  const std::span<const int64_t> extents = shape.extents();
  std::string dictionary = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", description,
                                       fmt::join(extents, ", "), extents.size() == 1 ? "," : "");
  // Spaces and a newline fill up to the alignment of the elements.
  const size_t needed = std::max(least, kPrefix + dictionary.size() + 1);
  dictionary.resize((needed + kAlignment - 1) / kAlignment * kAlignment - kPrefix - 1, ' ');
  dictionary += '\n';
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(dictionary.size() & 0xff), static_cast<char>(dictionary.size() >> 8)};
  return header + dictionary;
}

NpyHeader parse_npy_header(std::span<const std::byte> bytes, const std::string& source) {
  if (!text_of(bytes).starts_with(kMagic) || bytes.size() < kPrefix) {
    fail<FormatError>("{}: not an npy file", source);
  }
  const auto major = static_cast<int>(bytes[kMagic.size()]), minor = static_cast<int>(bytes[kMagic.size() + 1]);
  if (major < 1 || major > 3 || minor != 0) {
    fail<FormatError>("{}: npy version {}.{}; 1.0, 2.0 and 3.0 can be read", source, major, minor);
  }
  const size_t length_bytes = major == 1 ? 2 : 4;
  std::span<const std::byte> rest = bytes.subspan(kMagic.size() + 2);
  uint32_t header_bytes = 0;
  if (rest.size() < length_bytes) fail<FormatError>("{}: the file ends in its header. It is truncated.", source);
  std::memcpy(&header_bytes, rest.data(), length_bytes);
  rest = rest.subspan(length_bytes);
  if (header_bytes > kLongestHeader) {
    fail<FormatError>("{}: a header of {} bytes; at most {} are allowed", source, header_bytes, kLongestHeader);
  }
  if (header_bytes > rest.size()) fail<FormatError>("{}: the file ends in its header. It is truncated.", source);

  HeaderReader header(text_of(rest.first(header_bytes)), source);
  header.read();
  return {.description = header.description_found(),
          .shape = header.shape_found(),
          .bytes = bytes.size() - rest.size() + header_bytes};
}

Tensor parse_npy(std::span<const std::byte> bytes, const std::string& source) {
  const NpyHeader header = parse_npy_header(bytes, source);
  const DType dtype = dtype_of(header.description, source);
  const Shape& shape = header.shape;
  const std::span<const std::byte> elements = bytes.subspan(header.bytes);
  int64_t needed = 0;
  if (__builtin_mul_overflow(shape.elements(), byte_size(dtype), &needed) ||
      std::cmp_not_equal(needed, elements.size())) {
    fail<FormatError>("{}: {} {} does not fit the {} bytes after the header. The file is damaged.", source, name(dtype),
                      to_string(shape), elements.size());
  }
  return Tensor::copy_of({dtype, shape, elements.data()});
}

Tensor read_npy(const std::filesystem::path& path) { return parse_npy(MappedFile::open(path)->bytes(), path.string()); }

std::vector<std::byte> to_npy_bytes(ConstTensorView tensor) {
  const std::string header = header_for(tensor);
  std::vector<std::byte> bytes(header.size() + static_cast<size_t>(tensor.bytes()));
  std::memcpy(bytes.data(), header.data(), header.size());
  std::copy_n(tensor.data, tensor.bytes(), bytes.data() + header.size());
  return bytes;
}

void write_npy(const std::filesystem::path& path, ConstTensorView tensor) {
  const std::string header = header_for(tensor);
  OutputFile file(path);
  file.write(header);
  file.write(std::span(tensor.data, static_cast<size_t>(tensor.bytes())));
  file.commit();
}

}  // namespace octet

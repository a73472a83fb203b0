// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/tensor/tensor.h"

namespace octet {

/// NumPy's array file (numpy.lib.format, versions 1.0, 2.0 and 3.0), in C order and little-endian, of float16, float32,
/// float64, int8, uint8, int32, int64 or bool. Everything else, a file that is longer or shorter than its shape says
/// included, is a FormatError that says what to do. Throws Error where the file cannot be opened.
Tensor read_npy(const std::filesystem::path& path);
/// The same from memory; `source` names it in errors.
Tensor parse_npy(std::span<const std::byte> bytes, const std::string& source);

/// How such a file begins, whatever its elements are.
struct NpyHeader {
  std::string description;  ///< of the elements, as NumPy has it: "<u2"
  Shape shape;
  size_t bytes = 0;  ///< before the first element
};
/// Throws FormatError where it is damaged, and for big-endian elements, records and matrices in Fortran order.
NpyHeader parse_npy_header(std::span<const std::byte> bytes, const std::string& source);
/// Version 1.0, a multiple of 64 bytes and `least` at least: room for a shape that is not known yet.
std::string npy_header(std::string_view description, const Shape& shape, size_t least = 0);

/// Version 1.0, its elements aligned to 64 bytes. NumPy has no bfloat16: Error.
std::vector<std::byte> to_npy_bytes(ConstTensorView tensor);
/// The file appears whole or not at all.
void write_npy(const std::filesystem::path& path, ConstTensorView tensor);

}  // namespace octet

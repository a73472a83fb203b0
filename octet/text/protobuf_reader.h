// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "octet/base/error.h"

namespace octet {

/// Reads the fields of a protobuf message, one after the other, without knowing its schema. Every length is checked;
/// what it gives are views of the message.
class ProtobufReader {
 public:
  enum class Wire : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  struct Field {
    uint32_t number = 0;
    Wire wire = Wire::kVarint;
    uint64_t value = 0;      ///< kVarint, kFixed64, kFixed32
    std::string_view bytes;  ///< kBytes
  };

  /// `source` names the file in errors; `begin` is where in it `message` begins. Both views must outlive the reader.
  ProtobufReader(std::string_view message, std::string_view source, size_t begin = 0)
      : message_(message), source_(source), begin_(begin) {}

  /// The next field; false at the end. Throws FormatError where the message is damaged.
  bool next(Field& field);
  /// The message in a field that next() has just given.
  ProtobufReader inside(const Field& field) const {
    return ProtobufReader(require(field, Wire::kBytes).bytes, source_,
                          begin_ + static_cast<size_t>(field.bytes.data() - message_.data()));
  }
  /// `field`, which must have that wire type.
  const Field& require(const Field& field, Wire wire) const;
  /// Throws FormatError: "SOURCE: byte N: MESSAGE".
  [[noreturn]] void error(std::string_view message) const;

 private:
  uint64_t varint();
  uint64_t fixed(size_t size);

  std::string_view message_, source_;
  size_t begin_, at_ = 0;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/protobuf_reader.h"

namespace octet {

void ProtobufReader::error(std::string_view message) const {
  fail<FormatError>("{}: byte {}: {}. The file is damaged, or no SentencePiece model.", source_, begin_ + at_, message);
}

const ProtobufReader::Field& ProtobufReader::require(const Field& field, Wire wire) const {
  if (field.wire != wire) {
    error(fmt::format("field {} has the wire type {}, not {}", field.number, static_cast<int>(field.wire),
                      static_cast<int>(wire)));
  }
  return field;
}

uint64_t ProtobufReader::varint() {
  uint64_t value = 0;
  // Seven bits a byte: the tenth holds the last one.
  for (int shift = 0; shift < 70; shift += 7) {
    if (at_ == message_.size()) error("the message ends inside a number");
    const auto byte = static_cast<unsigned char>(message_[at_++]);
    if (shift == 63 && byte > 1) error("a number has more than 64 bits");
    value |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
  error("a number has more than ten bytes");
}

uint64_t ProtobufReader::fixed(size_t size) {
  if (message_.size() - at_ < size) error("the message ends inside a number");
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= uint64_t{static_cast<unsigned char>(message_[at_++])} << 8 * i;
  return value;
}

bool ProtobufReader::next(Field& field) {
  if (at_ == message_.size()) return false;
  const uint64_t tag = varint();
  constexpr uint64_t kLargestNumber = (uint64_t{1} << 29) - 1;
  if (tag >> 3 == 0 || tag >> 3 > kLargestNumber) error("a field has no valid number");
  field = {};
  field.number = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case 0:
      field.value = varint();
      break;
    case 1:
      field.value = fixed(8);
      break;
    case 2: {
      const uint64_t size = varint();
      if (size > message_.size() - at_) {
        error(fmt::format("field {} has {} bytes, but {} are left", field.number, size, message_.size() - at_));
      }
      field.bytes = message_.substr(at_, static_cast<size_t>(size));
      at_ += static_cast<size_t>(size);
      break;
    }
    case 5:
      field.value = fixed(4);
      break;
    default:
      error(fmt::format("field {} has the wire type {}, which Octet does not read", field.number, tag & 7));
  }
  field.wire = static_cast<Wire>(tag & 7);
  return true;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/report/markup.h"

#include <cstdint>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

struct CodePoint {
  uint32_t value = 0;
  size_t bytes = 0;  ///< 0: none begins here
};

// Strictly: no overlong form, no surrogate, nothing above U+10FFFF.
CodePoint decode_utf8(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < bytes) return {};
  uint32_t value = first & (0x7Fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3F);
  }
  const uint32_t least = bytes == 2 ? 0x80 : bytes == 3 ? 0x800 : 0x10000;
  if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return {};
  return {value, bytes};
}

bool may_be_shown(uint32_t code_point) {
  if (code_point < 0x20) return code_point == '\t' || code_point == '\n';
  if (code_point >= 0x7F && code_point <= 0x9F) return false;
  const bool turns_direction =
      (code_point >= 0x202A && code_point <= 0x202E) || (code_point >= 0x2066 && code_point <= 0x2069);
  return !turns_direction && code_point != 0xFFFE && code_point != 0xFFFF;
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = decode_utf8(text.substr(i));
    if (point.bytes == 0 || !may_be_shown(point.value)) {
      out += kReplacement;
    } else if (point.value == '&') {
      out += "&amp;";
    } else if (point.value == '<') {
      out += "&lt;";
    } else if (point.value == '>') {
      out += "&gt;";
    } else if (point.value == '"') {
      out += "&quot;";
    } else if (point.value == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(i, point.bytes);
    }
    i += point.bytes == 0 ? 1 : point.bytes;
  }
  return out;
}

Markup Markup::trusted(std::string markup) {
  Markup out;
  out.markup_ = std::move(markup);
  return out;
}

Markup& Markup::text(std::string_view text) {
  markup_ += escape_markup(text);
  return *this;
}

Markup& Markup::add(const Markup& other) {
  markup_ += other.to_string();
  return *this;
}

void Markup::begin(std::string_view tag, Attributes attributes) {
  markup_ += '<';
  markup_ += tag;
  for (const Attribute& attribute : attributes) {
    markup_ += ' ';
    markup_ += attribute.name;
    markup_ += "=\"";
    markup_ += escape_markup(attribute.value);
    markup_ += '"';
  }
}

Markup& Markup::open(std::string_view tag, Attributes attributes) {
  begin(tag, attributes);
  markup_ += '>';
  open_.emplace_back(tag);
  return *this;
}

Markup& Markup::close() {
  if (open_.empty()) fail("markup: no element is open");
  markup_ += "</" + open_.back() + ">";
  open_.pop_back();
  return *this;
}

Markup& Markup::element(std::string_view tag, Attributes attributes, std::string_view text) {
  return open(tag, attributes).text(text).close();
}

Markup& Markup::element(std::string_view tag, Attributes attributes, const Markup& content) {
  return open(tag, attributes).add(content).close();
}

Markup& Markup::empty(std::string_view tag, Attributes attributes) {
  begin(tag, attributes);
  markup_ += "/>";
  return *this;
}

const std::string& Markup::to_string() const {
  if (!open_.empty()) fail("markup: the element '{}' is not closed", open_.back());
  return markup_;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/byte_level.h"

#include <array>

#include "octet/text/unicode.h"

namespace octet::byte_level {
namespace {

constexpr bool is_visible(int byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD); }

constexpr char32_t kFirstOther = 0x100;
constexpr size_t kOthers = 68;  // 33 to the space, 127 to 160, and 173

constexpr auto kCharacters = [] {
  std::array<char32_t, 256> characters{};
  char32_t next = kFirstOther;
  for (size_t byte = 0; byte < characters.size(); ++byte) {
    characters[byte] = is_visible(static_cast<int>(byte)) ? static_cast<char32_t>(byte) : next++;
  }
  return characters;
}();
static_assert(kCharacters[' '] == U'Ġ' && kCharacters[0xAD] == kFirstOther + kOthers - 1);

constexpr auto kOtherBytes = [] {
  std::array<unsigned char, kOthers> bytes{};
  for (size_t byte = 0; byte < kCharacters.size(); ++byte) {
    if (kCharacters[byte] >= kFirstOther) bytes[kCharacters[byte] - kFirstOther] = static_cast<unsigned char>(byte);
  }
  return bytes;
}();

bool is_space(char32_t c) { return c == kCharacters[' '] || unicode::is_whitespace(c); }

}  // namespace

char32_t character_of(unsigned char byte) { return kCharacters[byte]; }

std::optional<unsigned char> byte_of(char32_t c) {
  if (c < kFirstOther)
    return is_visible(static_cast<int>(c)) ? std::optional(static_cast<unsigned char>(c)) : std::nullopt;
  if (c < kFirstOther + kOthers) return kOtherBytes[c - kFirstOther];
  return std::nullopt;
}

const Regex& words() {
  static const Regex regex =
      Regex::compile(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
  return regex;
}

size_t leading_spaces(std::string_view token) {
  size_t count = 0;
  for (size_t at = 0; at < token.size() && is_space(unicode::decode_utf8(token, at)); ++count) {
  }
  return count;
}

size_t trailing_spaces(std::string_view token) {
  size_t count = 0;
  for (size_t at = 0; at < token.size();) count = is_space(unicode::decode_utf8(token, at)) ? count + 1 : 0;
  return count;
}

}  // namespace octet::byte_level

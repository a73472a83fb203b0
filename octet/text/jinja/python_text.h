// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Python's operations on strings, on UTF-8. Every text given is valid UTF-8, and so is every text returned. Places and
/// lengths count code points.
namespace octet::jinja {

/// `text` with U+FFFD in place of bytes that are not UTF-8.
std::string valid_utf8(std::string_view text);
/// Where the character behind the one at byte `begin` begins.
size_t next_character(std::string_view text, size_t begin);
size_t count_characters(std::string_view text);
std::u32string to_code_points(std::string_view text);
std::string to_utf8(std::u32string_view text);

/// str.isspace of a character; also what the regular expression \s matches.
bool is_space(char32_t c);

enum class Side { kBoth, kLeft, kRight };
/// str.strip, lstrip, rstrip; without `characters` of white space.
std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> characters = std::nullopt);
/// str.split and, from the right, rsplit. Without `separator` at runs of white space. `most` < 0: no limit. `separator`
/// must not be empty.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator, int64_t most,
                                    Side from);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
/// str.replace; `most` < 0: all.
std::string replace(std::string_view text, std::string_view old, std::string_view with, int64_t most);
/// The bytes that str.replace would give.
size_t replaced_size(std::string_view text, std::string_view old, std::string_view with, int64_t most);
/// str.count; an empty `part` is there between all characters.
int64_t count_parts(std::string_view text, std::string_view part);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);
std::string capitalize(std::string_view text);
std::string swap_case(std::string_view text);

/// str.isalpha and so on: every character is of the class, and there is one.
enum class CharacterClass { kAlpha, kAlphanumeric, kDecimal, kDigit, kNumeric, kSpace, kUpper, kLower };
bool is_all(std::string_view text, CharacterClass of);

/// repr of a string: quoted, what does not print escaped.
std::string quote(std::string_view text);
/// repr of a float: the fewest digits that give it back.
std::string float_repr(double value);
/// int(text, base) and float(text); none where Python raises ValueError. Integers beyond 64 bits throw OperationError.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base);
std::optional<double> parse_float(std::string_view text);

/// markupsafe.escape of a plain string.
std::string escape_markup(std::string_view text);

}  // namespace octet::jinja

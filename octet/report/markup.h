// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// Text as it stands in HTML and SVG, between tags as in attributes: & < > " ' become entities; what is no UTF-8,
/// control characters but tab and newline, and those that turn the direction of text, which could make a name look
/// like another, become �.
std::string escape_markup(std::string_view text);

/// HTML or SVG, well-formed by its making: elements nest and are closed, and every text is escaped on its way in.
class Markup {
 public:
  struct Attribute {
    std::string_view name;
    std::string value;
  };
  using Attributes = std::initializer_list<Attribute>;

  /// What the program itself writes: style sheets, scripts, a doctype. Nothing from outside may get here.
  static Markup trusted(std::string markup);

  Markup& text(std::string_view text);
  /// `other` must have closed its elements.
  Markup& add(const Markup& other);
  /// <tag …>, to be closed by close().
  Markup& open(std::string_view tag, Attributes attributes = {});
  /// Closes the element opened last. Throws Error where none is open.
  Markup& close();
  /// <tag …>text</tag>
  Markup& element(std::string_view tag, Attributes attributes, std::string_view text);
  Markup& element(std::string_view tag, Attributes attributes, const Markup& content);
  /// <tag …/>, of SVG; HTML's elements without content are closed so too.
  Markup& empty(std::string_view tag, Attributes attributes);

  bool is_empty() const noexcept { return markup_.empty(); }
  /// Throws Error while an element is open.
  const std::string& to_string() const;

 private:
  void begin(std::string_view tag, Attributes attributes);

  std::string markup_;
  std::vector<std::string> open_;
};

}  // namespace octet

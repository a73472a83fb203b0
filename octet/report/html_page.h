// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "octet/report/markup.h"

namespace octet {

/// A page of HTML that is a single file: its style sheet and its script, which sorts tables and opens what is folded
/// before printing, are part of it; nothing is fetched, and a content security policy forbids it. It reads as well
/// without the script, in light and dark surroundings, on wide and narrow screens, and on paper.
class HtmlPage {
 public:
  /// `title` names the tab and stands on top, `subtitle` under it.
  HtmlPage(std::string title, std::string subtitle);

  /// A part of the page, with a line in its table of contents; `id` is what that leads to.
  void add_section(std::string id, std::string heading, Markup content);
  /// The small print at the end.
  void set_footer(std::string text) { footer_ = std::move(text); }

  std::string to_string() const;

 private:
  struct Section {
    std::string id, heading;
    Markup content;
  };

  std::string title_, subtitle_, footer_;
  std::vector<Section> sections_;
};

/// A paragraph of text.
Markup paragraph(std::string_view text);
/// A remark of lesser weight.
Markup remark(std::string_view text);
/// What a reader should look at: a list with a sign beside it.
Markup warning_list(const std::vector<std::string>& texts);
/// Content that is folded away under a summary.
Markup folded(std::string_view summary, const Markup& content, bool open = false);
/// Drawings of equal width beside each other, as many as there is room for, each under its own heading.
struct Figure {
  std::string caption, note;  ///< note: a line below; may be empty
  Markup drawing;
};
enum class FigureSize {
  kSmall,  ///< drawings about 320 units wide, three beside each other on a wide page
  kLarge,  ///< 500, two
};
Markup figure_grid(const std::vector<Figure>& figures, FigureSize size = FigureSize::kSmall);
/// One of two drawings: for a page that is wide, or narrow.
Markup for_width(const Markup& wide, const Markup& narrow);
/// Facts with their names: "architecture", "LlamaForCausalLM".
struct Fact {
  std::string name, value, note = {};
};
Markup fact_list(const std::vector<Fact>& facts);
/// The few of them that matter most, in large letters.
Markup fact_tiles(const std::vector<Fact>& facts);
/// Text as it is, in letters of one width.
Markup code_block(std::string_view text);

}  // namespace octet

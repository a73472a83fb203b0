// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// An element of a page that was read back.
struct PageElement {
  std::string tag;
  std::map<std::string, std::string> attributes;  ///< as they stand there, entities included
  std::string text;                               ///< that stands in it directly
  std::string parent;
};

/// Reads HTML strictly: elements nest and are closed, attributes are quoted and there once, and & and < in texts are
/// entities. `error` says where that ends, "" if nowhere.
struct PageReader {
  std::vector<PageElement> elements;
  std::string error;

  explicit PageReader(std::string_view page) : page_(page) { read(); }

  std::vector<PageElement> all(std::string_view tag) const {
    std::vector<PageElement> out;
    std::copy_if(elements.begin(), elements.end(), std::back_inserter(out),
                 [&](const PageElement& element) { return element.tag == tag; });
    return out;
  }

 private:
  void stop(const std::string& what) {
    if (error.empty()) error = what + " at '" + std::string(page_.substr(at_, 60)) + "'";
    at_ = page_.size();
  }

  static bool is_entity(std::string_view text) {
    constexpr std::array<std::string_view, 5> kKnown = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    return std::any_of(kKnown.begin(), kKnown.end(), [&](std::string_view known) { return text.starts_with(known); });
  }

  void read() {
    if (page_.starts_with("<!DOCTYPE html>")) at_ = 15;
    std::vector<size_t> open;
    while (at_ < page_.size()) {
      if (page_[at_] != '<') {
        if (page_[at_] == '&' && !is_entity(page_.substr(at_))) return stop("a bare &");
        if (page_[at_] == '>') return stop("a bare >");
        if (!open.empty()) elements[open.back()].text += page_[at_];
        ++at_;
        continue;
      }
      if (page_.substr(at_).starts_with("</")) {
        const size_t end = page_.find('>', at_);
        const std::string tag(page_.substr(at_ + 2, end - at_ - 2));
        if (open.empty() || elements[open.back()].tag != tag) return stop("</" + tag + "> closes nothing");
        open.pop_back();
        at_ = end + 1;
        continue;
      }
      PageElement element;
      bool closed = false;
      if (!read_tag(element, closed)) return stop("no tag");
      if (!open.empty()) element.parent = elements[open.back()].tag;
      const std::string tag = element.tag;
      elements.push_back(element);
      if (closed) continue;
      if (tag == "style" || tag == "script") {
        const size_t end = page_.find("</" + tag + ">", at_);
        if (end == std::string_view::npos) return stop(tag + " without an end");
        elements.back().text = page_.substr(at_, end - at_);
        at_ = end + tag.size() + 3;
        continue;
      }
      open.push_back(elements.size() - 1);
    }
    if (error.empty() && !open.empty()) error = "<" + elements[open.back()].tag + "> is not closed";
  }

  bool read_tag(PageElement& element, bool& closed) {
    ++at_;
    const auto name = [&] {
      const size_t begin = at_;
      while (at_ < page_.size() && (std::isalnum(static_cast<unsigned char>(page_[at_])) || page_[at_] == '-')) ++at_;
      return std::string(page_.substr(begin, at_ - begin));
    };
    element.tag = name();
    if (element.tag.empty()) return false;
    for (;;) {
      if (page_.substr(at_).starts_with("/>")) return at_ += 2, closed = true;
      if (page_.substr(at_).starts_with(">")) return ++at_, true;
      if (!page_.substr(at_).starts_with(" ")) return false;
      ++at_;
      const std::string key = name();
      if (key.empty() || !page_.substr(at_).starts_with("=\"")) return false;
      const size_t begin = at_ + 2, end = page_.find('"', begin);
      const std::string value(page_.substr(begin, end - begin));
      for (size_t i = 0; i < value.size(); ++i) {
        if (value[i] == '<' || value[i] == '>' || (value[i] == '&' && !is_entity(value.substr(i)))) return false;
      }
      if (!element.attributes.emplace(key, value).second) return false;
      at_ = end + 1;
    }
  }

  std::string_view page_;
  size_t at_ = 0;
};

}  // namespace octet

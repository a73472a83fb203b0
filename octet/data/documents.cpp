// SPDX-License-Identifier: Apache-2.0
#include "octet/data/documents.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/suggest.h"

namespace octet {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr std::string_view kSpace = " \t\n\v\f\r";

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

bool separates(std::string_view line, Documents documents) {
  switch (documents) {
    case Documents::kWhole:
      return false;
    case Documents::kLines:
      return true;
    case Documents::kBlankLines:
      return trimmed(line).empty();
    case Documents::kEndOfText:
      return trimmed(line) == kEndOfText;
  }
  return false;
}

}  // namespace

const std::vector<std::string>& documents_names() {
  static const std::vector<std::string> names = {"whole", "lines", "blank-lines", "end-of-text"};
  return names;
}

Documents parse_documents(const std::string& name) {
  const std::vector<std::string>& names = documents_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) fail<UsageError>("unknown kind of documents '{}'.{}", name, did_you_mean(name, names));
  return static_cast<Documents>(found - names.begin());
}

std::optional<std::string_view> DocumentScanner::next() {
  if (documents_ == Documents::kWhole) {
    position_ = text_.size();
    if (std::exchange(done_, true)) return std::nullopt;
    return text_;
  }
  while (!done_) {
    const size_t document = position_;
    size_t end = text_.size();
    done_ = true;
    while (position_ < text_.size()) {
      const size_t begin = position_, end_of_line = std::min(text_.find('\n', begin), text_.size());
      position_ = std::min(end_of_line + 1, text_.size());
      if (!separates(text_.substr(begin, end_of_line - begin), documents_)) continue;
      end = documents_ == Documents::kLines ? end_of_line : begin;
      done_ = false;
      break;
    }
    const std::string_view body = trimmed(text_.substr(document, end - document));
    if (!body.empty()) return body;
  }
  return std::nullopt;
}

std::vector<std::string_view> split_documents(std::string_view text, Documents documents) {
  std::vector<std::string_view> result;
  DocumentScanner scanner(text, documents);
  while (const std::optional<std::string_view> document = scanner.next()) result.push_back(*document);
  return result;
}

}  // namespace octet

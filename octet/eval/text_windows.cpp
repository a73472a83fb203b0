// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/text_windows.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"
#include "octet/data/lines.h"

namespace octet {
namespace {

constexpr std::string_view kSpace = " \t\n\v\f\r";
constexpr int64_t kDefaultWindow = 1024;

bool is_space(char c) { return kSpace.find(c) != std::string_view::npos; }

// Offsets may leave out white space between tokens and may be shared by the tokens of one character: a token's text
// goes from where those before it end to where it ends.
TokenizedDocument tokenize(std::string_view text, const Tokenizer& tokenizer) {
  const Encoding encoding = tokenizer.encode(text);
  TokenizedDocument document{.ids = encoding.ids, .bytes = {}, .words = {}};
  int64_t bytes = 0, words = 0;
  for (const auto& [begin, end] : encoding.offsets) {
    for (; bytes < end; ++bytes) {
      const auto at = static_cast<size_t>(bytes);
      words += !is_space(text[at]) && (at == 0 || is_space(text[at - 1])) ? 1 : 0;
    }
    document.bytes.push_back(bytes);
    document.words.push_back(words);
  }
  return document;
}

void check(const WindowOptions& options, int64_t window, int64_t stride, int64_t longest_context) {
  if (window < 2 || window > longest_context) {
    fail<UsageError>("a window of {} tokens; this model takes 2 to {}", window, longest_context);
  }
  if (stride < 1 || stride > window) {
    fail<UsageError>("a stride of {} tokens; a window of {} takes 1 to {}", stride, window, window);
  }
  if (options.truncate && *options.truncate < 2)
    fail<UsageError>("documents cut to {} tokens; at least 2 are needed, one to be predicted from the other",
                     *options.truncate);
}

void add_windows(TextWindows& text, size_t document) {
  const auto tokens = static_cast<int64_t>(text.documents[document].ids.size());
  for (int64_t begin = 0, scored = 0; begin < tokens && scored < tokens; begin += text.stride) {
    const int64_t end = std::min(begin + text.window, tokens);
    const int64_t first = std::max(scored, begin + 1);
    if (first < end) text.windows.push_back({document, begin, end, first});
    scored = end;
  }
}

}  // namespace

TokenBatch TextWindows::batch(size_t first, size_t last) const {
  TokenBatch batch;
  for (size_t i = first; i < last; ++i) {
    const Window& w = windows[i];
    batch.add(std::span(documents[w.document].ids)
                  .subspan(static_cast<size_t>(w.begin), static_cast<size_t>(w.end - w.begin)));
  }
  return batch;
}

size_t TextWindows::batch_end(size_t first, int64_t tokens) const {
  size_t last = first;
  for (int64_t sum = 0; last < windows.size(); ++last) {
    sum += windows[last].end - windows[last].begin;
    if (last > first && sum > tokens) break;
  }
  return last;
}

TextWindows make_windows(std::string_view text, const Tokenizer& tokenizer, const WindowOptions& options,
                         int64_t longest_context) {
  TextWindows result;
  result.window = options.window.value_or(std::min(longest_context, kDefaultWindow));
  result.stride = options.stride.value_or(result.window);
  check(options, result.window, result.stride, longest_context);
  std::vector<std::string_view> documents = split_documents(text, options.documents);
  const bool limits_windows = options.documents == Documents::kWhole;
  if (!limits_windows && options.limit && std::cmp_less(*options.limit, documents.size()))
    documents.resize(static_cast<size_t>(*options.limit));
  for (const std::string_view document : documents) {
    result.documents.push_back(tokenize(document, tokenizer));
    TokenizedDocument& tokens = result.documents.back();
    if (options.truncate && std::cmp_less(*options.truncate, tokens.ids.size())) {
      tokens.ids.resize(static_cast<size_t>(*options.truncate));
      ++result.truncated;
    }
    add_windows(result, result.documents.size() - 1);
  }
  if (limits_windows && options.limit && std::cmp_less(*options.limit, result.windows.size()))
    result.windows.resize(static_cast<size_t>(*options.limit));
  if (result.windows.empty()) fail("no text to measure on: no document has two tokens");
  return result;
}

TextWindows read_windows(const std::filesystem::path& file, const Tokenizer& tokenizer, const WindowOptions& options,
                         int64_t longest_context) {
  const std::string text = read_text_file(file, kLargestLinesFile);
  if (const size_t zero = text.find('\0'); zero != std::string::npos) {
    fail<FormatError>("{}: byte {} is zero, so this is no UTF-8 text. Convert it if it is UTF-16.", file.string(),
                      zero);
  }
  return make_windows(text, tokenizer, options, longest_context);
}

}  // namespace octet

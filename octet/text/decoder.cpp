// SPDX-License-Identifier: Apache-2.0
#include "octet/text/decoder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "octet/base/error.h"
#include "octet/text/byte_level.h"
#include "octet/text/unicode.h"

namespace octet {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  size_t at = 0, found = text.find(from);
  if (found == std::string::npos) return;
  std::string replaced;
  for (; found != std::string::npos; found = text.find(from, at)) {
    replaced.append(text, at, found - at);
    replaced += to;
    at = found + from.size();
  }
  replaced.append(text, at);
  text = std::move(replaced);
}

/// The library's list, one after the other; it sees one token at a time, with the space before it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kCleanups{{{" .", "."},
                                                                                   {" ?", "?"},
                                                                                   {" !", "!"},
                                                                                   {" ,", ","},
                                                                                   {" ' ", "'"},
                                                                                   {" n't", "n't"},
                                                                                   {" 'm", "'m"},
                                                                                   {" do not", " don't"},
                                                                                   {" 's", "'s"},
                                                                                   {" 've", "'ve"},
                                                                                   {" 're", "'re"}}};

/// The byte of "<0x41>"; none for any other token.
std::optional<unsigned char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int byte = 0;
  for (const char c : token.substr(3, 2)) {
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      return std::nullopt;
    }
    byte = 16 * byte + digit;
  }
  return static_cast<unsigned char>(byte);
}

bool is_utf8(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const size_t begin = at;
    if (unicode::decode_utf8(bytes, at) == unicode::kReplacement && bytes.substr(begin, at - begin) != kReplacement) {
      return false;
    }
  }
  return true;
}

/// Takes everything from `bytes` but the beginning of a character that is not all there yet (`last`: that too) and
/// gives it to `take(character's bytes, whether it is one)`.
template <class Take>
void take_characters(std::string& bytes, bool last, const Take& take) {
  const size_t end = bytes.size() - (last ? 0 : unicode::unfinished_bytes(bytes));
  const std::string_view whole = std::string_view(bytes).substr(0, end);
  for (size_t at = 0; at < whole.size();) {
    const size_t begin = at;
    const char32_t c = unicode::decode_utf8(whole, at);
    const std::string_view character = whole.substr(begin, at - begin);
    take(character, c != unicode::kReplacement || character == kReplacement);
  }
  bytes.erase(0, end);
}

}  // namespace

class DecoderStream::Step {
 public:
  explicit Step(Step* next) : next_(next) {}
  virtual ~Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  /// More of a token: whole characters. `ends` says that nothing of it is to come.
  virtual void part(std::string_view text, bool ends) = 0;
  virtual void finish() { next_->finish(); }

 protected:
  void give(std::string_view text, bool ends) { next_->part(text, ends); }
  void give_token(std::string_view text) { give(text, true); }
  void finish_next() { next_->finish(); }

 private:
  Step* next_;
};

namespace {

using Step = DecoderStream::Step;

/// How much text there was to begin with, and what replacements may make of it.
struct Growth {
  size_t bytes = 0;

  void require(size_t written) const {
    // As for normalizers: a file can ask for "a" to become "aa" again and again.
    if (written > 64 * bytes + 4096) {
      fail<FormatError>("the tokenizer's Replace decoders make a text more than 64 times longer; its file is damaged");
    }
  }
};

/// A step that needs to see a whole token.
class TokenStep : public Step {
 public:
  using Step::Step;

  void part(std::string_view text, bool ends) final {
    if (ends && buffer_.empty()) return token(text);
    buffer_ += text;
    if (!ends) return;
    const std::string whole = std::exchange(buffer_, {});
    token(whole);
  }

 protected:
  virtual void token(std::string_view text) = 0;

 private:
  std::string buffer_;
};

class SpacesStep : public Step {
 public:
  SpacesStep(const SpacesDecoder& /*spec*/, Step* next) : Step(next) {}
  void part(std::string_view text, bool ends) override {
    if (at_beginning_ && !first_) give(" ", false);
    give(text, ends);
    at_beginning_ = ends;
    first_ = false;
  }

 private:
  bool first_ = true, at_beginning_ = true;
};

class WordPieceStep : public TokenStep {
 public:
  WordPieceStep(const WordPieceDecoder& spec, Step* next) : TokenStep(next), spec_(spec) {}

 protected:
  void token(std::string_view text) override {
    std::string piece;
    if (first_) {
      piece = text;
    } else if (text.starts_with(spec_.prefix)) {
      piece = text.substr(spec_.prefix.size());
    } else {
      piece = " ";
      piece += text;
    }
    first_ = false;
    if (spec_.cleanup) {
      for (const auto& [from, to] : kCleanups) replace_all(piece, from, to);
    }
    give_token(piece);
  }

 private:
  const WordPieceDecoder& spec_;
  bool first_ = true;
};

class ByteLevelStep : public TokenStep {
 public:
  ByteLevelStep(const ByteLevelDecoder& /*spec*/, Step* next) : TokenStep(next) {}

  void finish() override {
    give_bytes(true);
    finish_next();
  }

 protected:
  void token(std::string_view text) override {
    const size_t before = bytes_.size();
    for (size_t at = 0; at < text.size();) {
      const auto byte = byte_level::byte_of(unicode::decode_utf8(text, at));
      if (!byte) {
        bytes_.resize(before);
        bytes_ += text;
        break;
      }
      bytes_ += static_cast<char>(*byte);
    }
    give_bytes(false);
  }

 private:
  void give_bytes(bool last) {
    std::string text;
    take_characters(bytes_, last,
                    [&](std::string_view character, bool valid) { text += valid ? character : kReplacement; });
    if (last || !text.empty()) give(text, last);
  }

  std::string bytes_;
};

class ByteFallbackStep : public TokenStep {
 public:
  ByteFallbackStep(const ByteFallbackDecoder& /*spec*/, Step* next) : TokenStep(next) {}

  void finish() override {
    give_bytes();
    finish_next();
  }

 protected:
  void token(std::string_view text) override {
    if (const auto byte = byte_of_token(text)) {
      bytes_ += static_cast<char>(*byte);
      return;
    }
    give_bytes();
    give_token(text);
  }

 private:
  void give_bytes() {
    const std::string bytes = std::exchange(bytes_, {});
    if (bytes.empty()) return;
    if (is_utf8(bytes)) return give_token(bytes);
    // One byte that fits nowhere spoils the run, characters before it included.
    for (size_t i = 0; i < bytes.size(); ++i) give_token(kReplacement);
  }

  std::string bytes_;
};

class FuseStep : public Step {
 public:
  FuseStep(const FuseDecoder& /*spec*/, Step* next) : Step(next) {}
  void part(std::string_view text, bool /*ends*/) override { give(text, false); }
  void finish() override {
    give("", true);
    finish_next();
  }
};

/// Of a token that comes in parts it keeps back only what may be the beginning of a match.
class ReplaceStringStep : public Step {
 public:
  ReplaceStringStep(std::string_view pattern, std::string_view content, const Growth& growth, Step* next)
      : Step(next), pattern_(pattern), content_(content), growth_(growth) {}

  void part(std::string_view text, bool ends) override {
    pending_ += text;
    std::string replaced;
    size_t at = 0;
    for (size_t found; (found = pending_.find(pattern_, at)) != std::string::npos; at = found + pattern_.size()) {
      replaced.append(pending_, at, found - at);
      replaced += content_;
      growth_.require(written_ + replaced.size());
    }
    pending_.erase(0, at);
    const size_t kept = ends ? 0 : begun();
    replaced.append(pending_, 0, pending_.size() - kept);
    pending_.erase(0, pending_.size() - kept);
    written_ += replaced.size();
    if (ends || !replaced.empty()) give(replaced, ends);
  }

 private:
  /// The longest end of what is pending that begins the pattern.
  size_t begun() const {
    for (size_t size = std::min(pending_.size(), pattern_.size() - 1); size > 0; --size) {
      if (std::string_view(pending_).ends_with(pattern_.substr(0, size))) return size;
    }
    return 0;
  }

  std::string_view pattern_, content_;
  const Growth& growth_;
  std::string pending_;
  size_t written_ = 0;
};

class ReplacePatternStep : public TokenStep {
 public:
  ReplacePatternStep(const Regex& pattern, std::string_view content, const Growth& growth, Step* next)
      : TokenStep(next), pattern_(pattern), content_(content), growth_(growth) {}

 protected:
  void token(std::string_view text) override {
    std::string replaced;
    size_t at = 0;
    // The library looks for nothing in an empty token.
    if (!text.empty()) {
      for (const ByteRange& match : pattern_.find_all(text)) {
        replaced += text.substr(at, match.begin - at);
        replaced += content_;
        growth_.require(written_ + replaced.size());
        at = match.end;
      }
    }
    replaced += text.substr(at);
    written_ += replaced.size();
    give_token(replaced);
  }

 private:
  const Regex& pattern_;
  std::string_view content_;
  const Growth& growth_;
  size_t written_ = 0;
};

class StripStep : public Step {
 public:
  StripStep(const StripDecoder& spec, Step* next) : Step(next), spec_(spec), left_(spec.start) {
    unicode::append_utf8(content_, spec.content);
  }

  void part(std::string_view text, bool ends) override {
    while (left_ > 0 && text.starts_with(content_)) {
      text.remove_prefix(content_.size());
      --left_;
    }
    if (!text.empty()) left_ = 0;
    // What it keeps back are spec_.stop characters at the end, at most, all of them `content`.
    pending_ += text;
    size_t end = pending_.size();
    for (int64_t i = 0; i < spec_.stop && std::string_view(pending_).substr(0, end).ends_with(content_); ++i) {
      end -= content_.size();
    }
    const std::string kept = ends ? std::string() : pending_.substr(end);
    pending_.resize(end);
    if (ends || !pending_.empty()) give(pending_, ends);
    pending_ = kept;
    if (ends) left_ = spec_.start;
  }

 private:
  const StripDecoder& spec_;
  std::string content_, pending_;
  int64_t left_;
};

class MetaspaceStep : public Step {
 public:
  MetaspaceStep(const MetaspaceDecoder& spec, Step* next) : Step(next), strip_first_(spec.strip_first) {
    unicode::append_utf8(replacement_, spec.replacement);
  }

  void part(std::string_view text, bool ends) override {
    std::string spaced(text);
    replace_all(spaced, replacement_, first_ && strip_first_ ? "" : " ");
    give(spaced, ends);
    if (ends) first_ = false;
  }

 private:
  std::string replacement_;
  bool strip_first_, first_ = true;
};

class SuffixStep : public TokenStep {
 public:
  SuffixStep(const SuffixDecoder& spec, const Growth& growth, Step* next)
      : TokenStep(next), spec_(spec), growth_(growth) {}

  void finish() override {
    if (held_) give_held("");
    finish_next();
  }

 protected:
  void token(std::string_view text) override {
    if (held_) give_held(" ");
    held_ = text;
  }

 private:
  void give_held(std::string_view space) {
    std::string spaced = *std::exchange(held_, std::nullopt);
    replace_all(spaced, spec_.suffix, space);
    growth_.require(written_ += spaced.size());
    give_token(spaced);
  }

  const SuffixDecoder& spec_;
  const Growth& growth_;
  std::optional<std::string> held_;  // the last token so far
  size_t written_ = 0;
};

class SentencePieceStep : public TokenStep {
 public:
  SentencePieceStep(const SentencePieceDecoder& spec, Step* next) : TokenStep(next), spec_(spec) {}

  void finish() override {
    give_bytes(true);
    finish_next();
  }

 protected:
  void token(std::string_view text) override {
    const auto& pieces = *spec_.pieces;
    if (const auto byte = pieces.bytes.find(text); byte != pieces.bytes.end()) {
      bytes_ += static_cast<char>(byte->second);
      return give_bytes(false);
    }
    give_bytes(true);
    if (space_seen_ || has_text_) at_beginning_ = false;
    space_seen_ = false;
    if (pieces.control.contains(text)) return;
    if (text == pieces.unknown) return give_text(pieces.unknown_text);
    constexpr std::string_view kSpace = "▁";
    std::string spaced(text);
    if (at_beginning_ && spec_.strips_space && text.starts_with(kSpace)) {
      spaced.erase(0, kSpace.size());
      space_seen_ = !spec_.strips_all_spaces;
    }
    replace_all(spaced, kSpace, " ");
    give_text(spaced);
  }

 private:
  void give_bytes(bool last) {
    std::string text;
    take_characters(bytes_, last, [&](std::string_view character, bool valid) {
      if (valid) {
        text += character;
      } else {
        for (size_t i = 0; i < character.size(); ++i) text += kReplacement;
      }
    });
    if (!text.empty()) give_text(text);
  }
  void give_text(std::string_view text) {
    has_text_ = has_text_ || !text.empty();
    give_token(text);
  }

  const SentencePieceDecoder& spec_;
  std::string bytes_;
  bool at_beginning_ = true, space_seen_ = false, has_text_ = false;
};

/// The last step: the text.
class Collector : public Step {
 public:
  Collector() : Step(nullptr) {}
  void part(std::string_view text, bool /*ends*/) override { text_ += text; }
  void finish() override {}
  void take(std::string& text) {
    text += text_;
    text_.clear();
  }

 private:
  std::string text_;
};

std::unique_ptr<Step> make_step(const DecoderStep& spec, const Growth& growth, Step* next) {
  struct Make {
    const Growth& growth;
    Step* next;

    std::unique_ptr<Step> operator()(const SpacesDecoder& s) const { return std::make_unique<SpacesStep>(s, next); }
    std::unique_ptr<Step> operator()(const WordPieceDecoder& s) const {
      return std::make_unique<WordPieceStep>(s, next);
    }
    std::unique_ptr<Step> operator()(const ByteLevelDecoder& s) const {
      return std::make_unique<ByteLevelStep>(s, next);
    }
    std::unique_ptr<Step> operator()(const ByteFallbackDecoder& s) const {
      return std::make_unique<ByteFallbackStep>(s, next);
    }
    std::unique_ptr<Step> operator()(const FuseDecoder& s) const { return std::make_unique<FuseStep>(s, next); }
    std::unique_ptr<Step> operator()(const ReplaceDecoder& s) const {
      if (const auto* regex = std::get_if<Regex>(&s.pattern)) {
        return std::make_unique<ReplacePatternStep>(*regex, s.content, growth, next);
      }
      return std::make_unique<ReplaceStringStep>(std::get<std::string>(s.pattern), s.content, growth, next);
    }
    std::unique_ptr<Step> operator()(const StripDecoder& s) const { return std::make_unique<StripStep>(s, next); }
    std::unique_ptr<Step> operator()(const MetaspaceDecoder& s) const {
      return std::make_unique<MetaspaceStep>(s, next);
    }
    std::unique_ptr<Step> operator()(const SuffixDecoder& s) const {
      return std::make_unique<SuffixStep>(s, growth, next);
    }
    std::unique_ptr<Step> operator()(const SentencePieceDecoder& s) const {
      return std::make_unique<SentencePieceStep>(s, next);
    }
  };
  return std::visit(Make{growth, next}, spec);
}

}  // namespace

struct DecoderStream::State {
  Growth growth;
  Collector collector;
  std::vector<std::unique_ptr<Step>> steps;  // the last one first
};

DecoderStream::DecoderStream(const Decoder& decoder) : state_(std::make_unique<State>()) {
  Step* next = &state_->collector;
  for (auto spec = decoder.steps.rbegin(); spec != decoder.steps.rend(); ++spec) {
    state_->steps.push_back(make_step(*spec, state_->growth, next));
    next = state_->steps.back().get();
  }
}

DecoderStream::~DecoderStream() = default;
DecoderStream::DecoderStream(DecoderStream&&) noexcept = default;
DecoderStream& DecoderStream::operator=(DecoderStream&&) noexcept = default;

void DecoderStream::push(std::string_view token, std::string& text) {
  // A token is worth a byte even where it is empty: a decoder may put a space between two.
  state_->growth.bytes += token.size() + 1;
  (state_->steps.empty() ? &state_->collector : state_->steps.back().get())->part(token, true);
  state_->collector.take(text);
}

void DecoderStream::finish(std::string& text) {
  (state_->steps.empty() ? &state_->collector : state_->steps.back().get())->finish();
  state_->collector.take(text);
}

}  // namespace octet

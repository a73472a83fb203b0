// SPDX-License-Identifier: Apache-2.0
#include "octet/data/token_documents.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/data/lines.h"
#include "octet/tensor/npy.h"
#include "octet/text/tokenizer_fingerprint.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kFormat = "octet tokens 1";
constexpr int64_t kLargestDescription = 1 << 16;
// Of the array: room for a shape of any size, and elements that begin at a multiple of 64.
constexpr size_t kHeaderBytes = 128;
constexpr size_t kBufferBytes = size_t{1} << 20;

fs::path description_of(const fs::path& path) { return path.string() + ".json"; }

int32_t end_of_text(const Tokenizer& tokenizer) {
  const std::optional<int32_t> end = tokenizer.eos_id() ? tokenizer.eos_id() : tokenizer.sep_id();
  if (end) return *end;
  fail<UsageError>(
      "the tokenizer names no token that ends a text; give its tokenizer_config.json an 'eos_token' or a 'sep_token'");
}

void read_description(std::string_view text_of_file, const std::string& source, TokenFileFacts& out) {
  const json file = parse_json(text_of_file, source);
  const auto value = [&](const char* key) -> const json& {
    if (!file.is_object() || !file.contains(key))
      fail<FormatError>("{}: '{}' is missing; it is no file of octet prepare", source, key);
    return file.at(key);
  };
  const auto text = [&](const char* key) {
    if (!value(key).is_string()) fail<FormatError>("{}: '{}' is {}, not a text", source, key, quote_json(value(key)));
    return value(key).get<std::string>();
  };
  const auto number = [&](const char* key, int64_t largest) {
    const json& found = value(key);
    if (!found.is_number_unsigned() || found.get<uint64_t>() > static_cast<uint64_t>(largest))
      fail<FormatError>("{}: '{}' is {}; a number from 0 to {} is needed", source, key, quote_json(found), largest);
    return found.get<int64_t>();
  };
  if (text("format") != kFormat) {
    fail<FormatError>("{}: its format is {}; this version reads '{}'", source, quote_name(text("format")), kFormat);
  }
  out.tokens = number("tokens", std::numeric_limits<int64_t>::max());
  out.vocabulary = number("vocabulary", std::numeric_limits<int32_t>::max());
  out.end_of_text = static_cast<int32_t>(number("end_of_text", std::numeric_limits<int32_t>::max()));
  out.sha256 = text("sha256");
  out.tokenizer = text("tokenizer");
  const std::vector<std::string>& kinds = documents_names();
  const auto kind = std::ranges::find(kinds, text("documents"));
  if (kind == kinds.end()) fail<FormatError>("{}: unknown documents {}", source, quote_name(text("documents")));
  out.documents = static_cast<Documents>(kind - kinds.begin());
}

}  // namespace

TokenFileFacts parse_token_file(std::span<const std::byte> array, std::string_view description,
                                const std::string& source) {
  const NpyHeader header = parse_npy_header(array, source);
  const bool wide = header.description == "<u4";
  if ((!wide && header.description != "<u2") || header.shape.rank() != 1) {
    fail<FormatError>("{}: an array {} of {}; a file of tokens is one row of uint16 or uint32 (octet prepare)", source,
                      to_string(header.shape), quote_name(header.description));
  }
  TokenFileFacts facts;
  facts.bytes_per_token = wide ? 4 : 2;
  facts.first_byte = header.bytes;
  const int64_t bytes = std::ssize(array) - static_cast<int64_t>(header.bytes), tokens = header.shape[0],
                held = bytes / facts.bytes_per_token;
  if (held != tokens || bytes % facts.bytes_per_token != 0) {
    fail<FormatError>("{}: {} bytes of tokens, but its header tells of {} tokens of {} bytes. {}", source, bytes,
                      tokens, facts.bytes_per_token,
                      held < tokens ? "The file is truncated; copy or prepare it again."
                                    : "The file is damaged; prepare the text again.");
  }
  if (header.bytes % static_cast<size_t>(facts.bytes_per_token) != 0)
    fail<FormatError>("{}: its tokens begin at byte {}; the file is damaged", source, header.bytes);
  read_description(description, description_of(source).string(), facts);
  if (facts.tokens != tokens) {
    fail<FormatError>("{}: holds {} tokens, but {} tells of {}: they are of two files. Prepare the text again.", source,
                      tokens, description_of(source).filename().string(), facts.tokens);
  }
  return facts;
}

bool is_token_file(const fs::path& path) { return path.extension() == ".npy"; }

TokenFileWriter::TokenFileWriter(const fs::path& path, const Tokenizer& tokenizer, Documents documents)
    : path_(path),
      file_(path),
      documents_(documents),
      end_(end_of_text(tokenizer)),
      wide_(tokenizer.max_id() > std::numeric_limits<uint16_t>::max()),
      fingerprint_(tokenizer_fingerprint(tokenizer)),
      vocabulary_(tokenizer.vocab_size()) {
  if (!is_token_file(path)) fail<UsageError>("{}: a file of tokens is called FILE.npy", path.string());
  // Takes the room; commit() knows the shape.
  file_.write(npy_header(wide_ ? "<u4" : "<u2", Shape{0}, kHeaderBytes));
  buffer_.reserve(kBufferBytes + 4);
}

void TokenFileWriter::put(int32_t id) {
  std::array<std::byte, 4> bytes;
  std::memcpy(bytes.data(), &id, 4);  // little-endian: the low half first
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + bytes_per_token());
  ++tokens_;
  if (buffer_.size() >= kBufferBytes) flush();
}

void TokenFileWriter::flush() {
  sha_.add(buffer_);
  file_.write(buffer_);
  buffer_.clear();
}

void TokenFileWriter::add(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    if (id == end_) {
      ++inner_ends_;
      end_document();
      continue;
    }
    put(id);
    ++open_;
  }
}

void TokenFileWriter::end_document() {
  if (std::exchange(open_, 0) == 0) return;
  put(end_);
  ++count_;
}

void TokenFileWriter::commit() {
  if (tokens_ == 0) fail("{}: the texts hold no tokens", path_.string());
  flush();
  const std::string header = npy_header(wide_ ? "<u4" : "<u2", Shape{tokens_}, kHeaderBytes);
  file_.write_at(0, std::as_bytes(std::span(header)));
  file_.commit();
  const nlohmann::ordered_json description = {{"format", kFormat},
                                              {"tokens", tokens_},
                                              {"documents", documents_names()[static_cast<size_t>(documents_)]},
                                              {"document_count", count_},
                                              {"end_of_text", end_},
                                              {"vocabulary", vocabulary_},
                                              {"tokenizer", fingerprint_},
                                              {"sha256", sha_.hex()}};
  OutputFile file(description_of(path_));
  file.write(json_text(description, 2) + "\n");
  file.commit();
}

TokenDocuments TokenDocuments::of_text(const fs::path& path, const Tokenizer& tokenizer, Documents documents) {
  const std::string text = read_text_file(path, kLargestLinesFile);
  if (const size_t zero = text.find('\0'); zero != std::string::npos) {
    fail<FormatError>("{}: byte {} is zero, so this is no UTF-8 text. Convert it if it is UTF-16.", path.string(),
                      zero);
  }
  TokenDocuments out;
  out.documents_ = documents;
  DocumentScanner scanner(text, documents);
  while (const std::optional<std::string_view> document = scanner.next()) {
    const Encoding encoding =
        tokenizer.encode(*document, {.special_tokens = SpecialTokens::kWithout, .truncation = {}});
    const auto begin = static_cast<int64_t>(out.ids_.size());
    out.ids_.insert(out.ids_.end(), encoding.ids.begin(), encoding.ids.end());
    if (!encoding.ids.empty()) out.extents_.push_back({begin, static_cast<int64_t>(out.ids_.size())});
  }
  return out;
}

template <class T>
void TokenDocuments::find_documents(std::span<const T> ids, int32_t end_of_text, int32_t largest,
                                    const std::string& source) {
  int64_t begin = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (std::cmp_greater(ids[i], largest))
      fail<FormatError>("{}: token {} is {}; the tokenizer's are 0 to {}", source, i, ids[i], largest);
    if (std::cmp_not_equal(ids[i], end_of_text)) continue;
    const auto end = static_cast<int64_t>(i);
    if (end > begin) extents_.push_back({begin, end});
    begin = end + 1;
  }
  if (std::cmp_less(begin, ids.size())) extents_.push_back({begin, static_cast<int64_t>(ids.size())});
}

TokenDocuments TokenDocuments::open(const fs::path& path, const Tokenizer& tokenizer) {
  const std::string source = path.string();
  TokenDocuments out;
  out.file_ = MappedFile::open(path);
  const fs::path beside = description_of(path);
  std::error_code ignored;
  if (!fs::exists(beside, ignored)) {
    fail<FormatError>("{}: {} is not beside it, which octet prepare writes too. Prepare the text again.", source,
                      beside.filename().string());
  }
  const std::span<const std::byte> bytes = out.file_->bytes();
  const TokenFileFacts facts = parse_token_file(bytes, read_text_file(beside, kLargestDescription), source);
  if (facts.tokenizer != tokenizer_fingerprint(tokenizer)) {
    fail<UsageError>(
        "{}: was prepared with another tokenizer (a vocabulary of {}; this model's has {}). Prepare the text with "
        "this model: octet prepare MODEL --data TEXT --out FILE.npy",
        source, facts.vocabulary, tokenizer.vocab_size());
  }
  const std::span<const std::byte> array = bytes.subspan(facts.first_byte);
  Sha256 sha;
  sha.add(array);
  if (sha.hex() != facts.sha256) {
    fail<FormatError>("{}: its tokens are not those that {} tells of: the file is damaged. Prepare the text again.",
                      source, beside.filename().string());
  }
  out.documents_ = facts.documents;
  out.first_ = facts.first_byte;
  out.wide_ = facts.bytes_per_token == 4;
  const auto count = static_cast<size_t>(facts.tokens);
  if (out.wide_) {
    out.find_documents(std::span(reinterpret_cast<const uint32_t*>(array.data()), count), facts.end_of_text,
                       tokenizer.max_id(), source);
  } else {
    out.find_documents(std::span(reinterpret_cast<const uint16_t*>(array.data()), count), facts.end_of_text,
                       tokenizer.max_id(), source);
  }
  out.file_->release(bytes);
  return out;
}

TokenDocuments TokenDocuments::load(const fs::path& path, const Tokenizer& tokenizer, Documents documents) {
  return is_token_file(path) ? open(path, tokenizer) : of_text(path, tokenizer, documents);
}

void TokenDocuments::append(size_t document, int64_t begin, int64_t end, std::vector<int32_t>& to) const {
  const Extent& extent = extents_.at(document);
  if (begin < 0 || end < begin || end > extent.end - extent.begin)
    fail("tokens {} to {} of a document that has {}", begin, end, extent.end - extent.begin);
  const auto first = static_cast<size_t>(extent.begin + begin), last = static_cast<size_t>(extent.begin + end);
  if (file_ == nullptr) {
    to.insert(to.end(), ids_.begin() + static_cast<std::ptrdiff_t>(first),
              ids_.begin() + static_cast<std::ptrdiff_t>(last));
    return;
  }
  const std::byte* array = file_->bytes().data() + first_;
  if (wide_) {
    const auto* ids = reinterpret_cast<const uint32_t*>(array);
    std::ranges::transform(ids + first, ids + last, std::back_inserter(to),
                           [](uint32_t id) { return static_cast<int32_t>(id); });
  } else {
    const auto* ids = reinterpret_cast<const uint16_t*>(array);
    to.insert(to.end(), ids + first, ids + last);
  }
}

}  // namespace octet

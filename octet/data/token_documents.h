// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/base/atomic_output.h"
#include "octet/base/mapped_file.h"
#include "octet/base/sha256.h"
#include "octet/data/documents.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// Whether a file is one of tokens (TokenFileWriter), by its name: .npy.
bool is_token_file(const std::filesystem::path& path);

/// Writes documents as tokens: a NumPy file, one row of uint16, or of uint32 where a token has no room in 16 bits, with
/// the tokens of each document, the token that ends a text behind each; and beside it FILE.json, which says how many
/// there are, their SHA-256 and what the tokenizer is. Special tokens that the tokenizer's template puts around a text
/// are not in the file. Both files appear whole or not at all, the array first.
class TokenFileWriter {
 public:
  /// Throws UsageError where the tokenizer names no token that ends a text (eos_token or sep_token), Error where the
  /// file cannot be written.
  TokenFileWriter(const std::filesystem::path& path, const Tokenizer& tokenizer, Documents documents);

  /// Tokens of the document that is being written. Those that end a text end a document too, and are counted.
  void add(std::span<const int32_t> ids);
  /// A document without tokens is left out.
  void end_document();
  /// Between two documents. Throws Error where there are no tokens.
  void commit();

  int64_t tokens() const noexcept { return tokens_; }  ///< those that end documents included
  int64_t documents() const noexcept { return count_; }
  int64_t inner_ends() const noexcept { return inner_ends_; }  ///< tokens that end a text, found inside documents
  int64_t bytes_per_token() const noexcept { return wide_ ? 4 : 2; }

 private:
  void put(int32_t id);
  void flush();

  std::filesystem::path path_;
  OutputFile file_;
  Documents documents_;
  int32_t end_;
  bool wide_;
  std::string fingerprint_;
  int64_t vocabulary_, tokens_ = 0, count_ = 0, inner_ends_ = 0, open_ = 0;  // open_: tokens since the last end
  std::vector<std::byte> buffer_;
  Sha256 sha_;
};

/// What a file of tokens and FILE.json tell of it.
struct TokenFileFacts {
  int64_t tokens = 0, vocabulary = 0;
  int32_t end_of_text = 0;
  Documents documents = Documents::kWhole;
  std::string tokenizer, sha256;  ///< fingerprint of the one; of the tokens' bytes
  size_t first_byte = 0;          ///< of the tokens
  int64_t bytes_per_token = 0;    ///< 2 or 4
};
/// From the contents of both; `source` names the array in errors. Throws FormatError, saying what to do, where one is
/// truncated, damaged or of another file. Neither the SHA-256 nor the tokens are looked at.
TokenFileFacts parse_token_file(std::span<const std::byte> array, std::string_view description,
                                const std::string& source);

/// Documents as tokens, without the special tokens of a template: of a text, in memory, or of a file that
/// TokenFileWriter made, where it is mapped and only what is asked for is read.
class TokenDocuments {
 public:
  /// Throws what reading a text file throws; FormatError where it holds a zero byte.
  static TokenDocuments of_text(const std::filesystem::path& path, const Tokenizer& tokenizer, Documents documents);
  /// Reads the file once, to check it. Throws FormatError, saying what to do, where it is truncated, damaged or another
  /// than FILE.json tells of; UsageError where it was made by another tokenizer.
  static TokenDocuments open(const std::filesystem::path& path, const Tokenizer& tokenizer);
  /// Either, by the file's name. `documents` is of texts; a file of tokens has its own.
  static TokenDocuments load(const std::filesystem::path& path, const Tokenizer& tokenizer, Documents documents);

  size_t size() const noexcept { return extents_.size(); }
  int64_t tokens(size_t document) const { return extents_.at(document).end - extents_[document].begin; }
  /// Tokens [begin, end) of a document, behind what `to` holds.
  void append(size_t document, int64_t begin, int64_t end, std::vector<int32_t>& to) const;
  /// How the text was cut.
  Documents documents() const noexcept { return documents_; }

 private:
  struct Extent {
    int64_t begin = 0, end = 0;
  };

  template <class T>
  void find_documents(std::span<const T> ids, int32_t end_of_text, int32_t largest, const std::string& source);

  Documents documents_ = Documents::kWhole;
  std::vector<Extent> extents_;
  std::vector<int32_t> ids_;                     // of a text
  std::shared_ptr<const MappedFile> file_ = {};  // or of a file: uint16 or, where wide_, uint32 from first_ on
  size_t first_ = 0;
  bool wide_ = false;
};

}  // namespace octet

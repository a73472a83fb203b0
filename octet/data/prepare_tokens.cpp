// SPDX-License-Identifier: Apache-2.0
#include "octet/data/prepare_tokens.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"
#include "octet/base/parallel.h"
#include "octet/data/token_documents.h"

namespace octet {
namespace {

// Tokens in a row on which two pieces must agree to be joined there: many more than any merge or rule looks ahead.
constexpr size_t kAgreement = 32;

constexpr std::string_view kSpace = " \t\n\v\f\r";

// Bytes [begin, end) of a document, and its tokens from `first` on, which no piece before it gave.
struct Piece {
  size_t begin = 0, end = 0;
  std::vector<int32_t> ids = {};
  std::vector<std::pair<int64_t, int64_t>> offsets = {};  // in the document
  size_t first = 0;
};

// How many tokens of `piece`, and of `next`, lie before the place where they are joined.
std::optional<std::pair<size_t, size_t>> find_joint(const Piece& piece, const Piece& next) {
  const auto begin = static_cast<int64_t>(next.begin);
  auto i = static_cast<size_t>(
      std::ranges::find_if(piece.offsets, [&](const auto& offset) { return offset.first >= begin; }) -
      piece.offsets.begin());
  size_t j = 0, row = 0, longest = 0;
  std::pair<size_t, size_t> joint;
  while (i < piece.ids.size() && j < next.ids.size()) {
    const auto &a = piece.offsets[i], &b = next.offsets[j];
    if (a == b && piece.ids[i] == next.ids[j]) {
      ++i, ++j, ++row;
      if (row > longest) {
        longest = row;
        joint = {i - row / 2, j - row / 2};
      }
      continue;
    }
    row = 0;
    if (a <= b) ++i;
    if (b <= a) ++j;
  }
  if (longest < kAgreement) return std::nullopt;
  return joint;
}

class Preparation {
 public:
  Preparation(const Tokenizer& tokenizer, const PrepareOptions& options, TokenFileWriter& writer)
      : tokenizer_(tokenizer),
        options_(options),
        writer_(writer),
        threads_(options.threads > 0 ? options.threads : available_threads()),
        piece_(static_cast<size_t>(std::max<int64_t>(1, options.piece_bytes))),
        overlap_(std::min(static_cast<size_t>(std::max<int64_t>(0, options.overlap_bytes)), piece_ / 2)) {}

  // `progress`: of the bytes of the text, from 0 on.
  void add_text(const std::filesystem::path& path, const std::function<void(size_t)>& progress) {
    const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    const std::span<const std::byte> bytes = file->bytes();
    source_ = path.string();
    text_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    DocumentScanner scanner(text_, options_.documents);
    std::vector<std::string_view> waiting;  // short documents
    size_t size = 0, released = 0;          // of them; of the file
    const auto finish = [&](size_t end) {
      add_short(waiting);
      waiting.clear();
      size = 0;
      file->release(bytes.subspan(released, end - released));
      released = end;
      progress(end);
    };
    while (const std::optional<std::string_view> document = scanner.next()) {
      if (document->size() > piece_) {
        finish(static_cast<size_t>(document->data() - text_.data()));
        add_long(*document, progress, *file);
        finish(scanner.position());
        continue;
      }
      waiting.push_back(*document);
      size += document->size();
      if (size >= piece_ * static_cast<size_t>(threads_)) finish(scanner.position());
    }
    finish(text_.size());
  }

 private:
  void check(std::string_view part) const {
    const size_t zero = part.find('\0');
    if (zero == std::string_view::npos) return;
    fail<FormatError>("{}: byte {} is zero, so this is no UTF-8 text. Convert it if it is UTF-16.", source_,
                      static_cast<size_t>(part.data() - text_.data()) + zero);
  }

  Encoding encode(std::string_view part) const {
    check(part);
    return tokenizer_.encode(part, {.special_tokens = SpecialTokens::kWithout, .truncation = {}});
  }

  void add_short(const std::vector<std::string_view>& documents) {
    std::vector<std::vector<int32_t>> ids(documents.size());
    parallel_for(threads_, std::ssize(documents), [&](int64_t task, int) {
      const auto i = static_cast<size_t>(task);
      ids[i] = encode(documents[i]).ids;
    });
    for (const std::vector<int32_t>& document : ids) {
      writer_.add(document);
      writer_.end_document();
    }
  }

  Piece encode_piece(std::string_view document, size_t begin, size_t end) const {
    Encoding encoding = encode(document.substr(begin, end - begin));
    Piece piece{.begin = begin, .end = end};
    piece.ids = std::move(encoding.ids);
    piece.offsets = std::move(encoding.offsets);
    for (auto& [first, last] : piece.offsets) {
      first += static_cast<int64_t>(begin);
      last += static_cast<int64_t>(begin);
    }
    return piece;
  }

  // The end of the last word that ends before `place` and not before `least`; where there is none, the first byte of a
  // character.
  static size_t place_to_cut(std::string_view document, size_t place, size_t least) {
    const size_t space = document.substr(0, place).find_last_of(kSpace);
    if (space != std::string_view::npos && space >= least) return space;
    while (place > least && (static_cast<unsigned char>(document[place]) & 0xC0) == 0x80) --place;
    return place;
  }

  void add_long(std::string_view document, const std::function<void(size_t)>& progress, const MappedFile& file) {
    const auto start = static_cast<size_t>(document.data() - text_.data());
    std::optional<Piece> last;  // whose end is not written yet
    std::vector<Piece> pieces;
    for (size_t end = 0; end < document.size();) {
      pieces.clear();
      while (std::ssize(pieces) < threads_ && end < document.size()) {
        const size_t begin = end <= 2 * overlap_ ? 0 : place_to_cut(document, end - overlap_, end - 2 * overlap_);
        const size_t wanted = end + piece_;
        end = wanted >= document.size() ? document.size() : place_to_cut(document, wanted, end + piece_ / 2);
        pieces.push_back({.begin = begin, .end = end});
      }
      parallel_for(threads_, std::ssize(pieces), [&](int64_t task, int) {
        Piece& piece = pieces[static_cast<size_t>(task)];
        piece = encode_piece(document, piece.begin, piece.end);
      });
      for (Piece& piece : pieces) {
        if (last) join(document, *last, piece);
        last = std::move(piece);
      }
      // What the next pieces still read stays.
      file.release(file.bytes().subspan(start, last->begin));
      progress(start + end);
    }
    write(*last, last->ids.size());
    writer_.end_document();
  }

  // Writes what `last` gives, and leaves the rest to `piece`; or makes one piece of both.
  void join(std::string_view document, const Piece& last, Piece& piece) {
    if (const auto joint = find_joint(last, piece); joint && joint->first >= last.first) {
      write(last, joint->first);
      piece.first = joint->second;
      return;
    }
    const size_t begin = last.begin, first = last.first;
    piece = encode_piece(document, begin, piece.end);
    piece.first = first;
  }

  void write(const Piece& piece, size_t end) {
    writer_.add(std::span(piece.ids).subspan(piece.first, end - piece.first));
  }

  const Tokenizer& tokenizer_;
  const PrepareOptions& options_;
  TokenFileWriter& writer_;
  int threads_;
  size_t piece_, overlap_;
  std::string source_;
  std::string_view text_;
};

}  // namespace

PrepareReport prepare_tokens(std::span<const std::filesystem::path> texts, const Tokenizer& tokenizer,
                             const std::filesystem::path& out, const PrepareOptions& options) {
  PrepareReport report;
  for (const std::filesystem::path& text : texts) report.text_bytes += std::ssize(MappedFile::open(text)->bytes());
  TokenFileWriter writer(out, tokenizer, options.documents);
  Preparation preparation(tokenizer, options, writer);
  int64_t before = 0;
  for (const std::filesystem::path& text : texts) {
    int64_t here = 0;
    preparation.add_text(text, [&](size_t bytes) {
      here = static_cast<int64_t>(bytes);
      options.advance(before + here, report.text_bytes);
    });
    before += here;
  }
  writer.commit();
  report.tokens = writer.tokens();
  report.documents = writer.documents();
  report.inner_ends = writer.inner_ends();
  report.bytes_per_token = writer.bytes_per_token();
  return report;
}

}  // namespace octet

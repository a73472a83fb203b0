// SPDX-License-Identifier: Apache-2.0
#include "octet/text/tokenizer_fingerprint.h"

#include <span>
#include <string_view>

#include "octet/base/sha256.h"

namespace octet {
namespace {

// What tokenizers of one vocabulary treat in different ways: case, accents, composed characters, digits, contractions,
// runs of spaces and of line ends, ideographs, symbols beyond the basic plane.
constexpr std::string_view kProbe =
    " The Quick brown fox's  4,096 naïve cafe\u0301s don't\tcost $3.50!\r\n\n   Größe: ½ ﬁn… — 東京は晴れ Привет "
    "مرحبا 🦊\u200d x_1+=y; ÀÉ\u00a0end ";

class Hash {
 public:
  void add(int64_t number) { sha_.add(std::as_bytes(std::span(&number, 1))); }
  // Its length first, so that no two lists of texts are the same bytes.
  void add(std::string_view text) {
    add(static_cast<int64_t>(text.size()));
    sha_.add(std::as_bytes(std::span(text)));
  }
  void add(std::span<const int32_t> ids) {
    add(static_cast<int64_t>(ids.size()));
    sha_.add(std::as_bytes(ids));
  }
  std::string hex() { return sha_.hex(); }

 private:
  Sha256 sha_;
};

}  // namespace

std::string tokenizer_fingerprint(const Tokenizer& tokenizer) {
  Hash hash;
  for (int32_t id = 0; id <= tokenizer.max_id(); ++id) {
    const std::optional<std::string_view> token = tokenizer.id_to_token(id);
    if (!token) continue;
    hash.add(int64_t{id});
    hash.add(*token);
  }
  const Tokenizer::Frame frame = tokenizer.frame();
  hash.add(frame.before);
  hash.add(frame.after);
  hash.add(tokenizer.encode(kProbe).ids);
  return hash.hex();
}

}  // namespace octet

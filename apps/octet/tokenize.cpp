// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "apps/octet/text_input.h"
#include "octet/base/json.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {
namespace {

struct TokenizeOptions : CommonOptions {
  std::string model;
  std::optional<std::string> file;
  std::optional<int64_t> max_length;
  bool no_special_tokens = false;
};

// Byte offsets into UTF-8 as counts of code points, as Python counts characters.
class CodePoints {
 public:
  explicit CodePoints(std::string_view text) {
    before_.reserve(text.size() + 1);
    int64_t count = 0;
    for (const char c : text) {
      if ((static_cast<unsigned char>(c) & 0xc0u) != 0x80u) ++count;
      before_.push_back(count - 1);
    }
    before_.push_back(count);
  }
  int64_t operator[](int64_t byte) const { return before_[static_cast<size_t>(byte)]; }

 private:
  std::vector<int64_t> before_;
};

std::vector<std::string> tokens_of(const Tokenizer& tokenizer, const Encoding& encoding) {
  std::vector<std::string> tokens;
  for (const int32_t id : encoding.ids) tokens.emplace_back(tokenizer.id_to_token(id).value_or("?"));
  return tokens;
}

void run(const TokenizeOptions& options) {
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  EncodeOptions encode{.special_tokens = options.no_special_tokens ? SpecialTokens::kWithout : SpecialTokens::kWith,
                       .truncation = {}};
  if (options.max_length) encode.truncation = Truncation{.max_length = *options.max_length};
  for (const std::string& line : input_lines(options.file)) {
    const Encoding encoding = tokenizer.encode(line, encode);
    if (!options.json) {
      fmt::print("{}\n", fmt::join(tokens_of(tokenizer, encoding), " "));
      continue;
    }
    const CodePoints code_points(line);
    nlohmann::ordered_json offsets = nlohmann::ordered_json::array();
    for (const auto& [begin, end] : encoding.offsets) offsets.push_back({code_points[begin], code_points[end]});
    const nlohmann::ordered_json result = {{"ids", encoding.ids},
                                           {"type_ids", encoding.type_ids},
                                           {"offsets", offsets},
                                           {"tokens", tokens_of(tokenizer, encoding)},
                                           {"text", tokenizer.decode(encoding.ids)}};
    fmt::print("{}\n", printable_json(result));
  }
}

}  // namespace

void add_tokenize(Program& program) {
  auto options = std::make_shared<TokenizeOptions>();
  Command command = program.add_subcommand("tokenize", "Show the tokens of each line of a text");
  command
      .add_option("MODEL", options->model,
                  "A directory with a tokenizer: tokenizer.json, tokenizer.model, vocab.json with merges.txt, "
                  "or vocab.txt; or a GGUF file")
      .required();
  command.add_option("--file", options->file, "Text, a line an input (default: standard input)").type_name("TEXT");
  command
      .add_option("--max-length", options->max_length,
                  "Truncate to so many tokens, special ones included (default: do not)")
      .positive()
      .type_name("N");
  command.add_flag("--no-special-tokens", options->no_special_tokens, "Leave [CLS], [SEP] and their like out");
  options->add_to(command);
  command.footer(
      "With --json: an object a line, with ids, type_ids, offsets (in code points), tokens and text (the ids "
      "decoded).\n"
      "Examples:\n"
      "  echo 'Hello, world!' | octet tokenize minilm\n"
      "  octet tokenize minilm --file sentences.txt --json");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

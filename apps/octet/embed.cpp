// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "apps/octet/text_input.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/models/sentence_encoder.h"
#include "octet/report/format.h"
#include "octet/tensor/npy.h"

namespace octet::cli {
namespace {

struct EmbedOptions : ModelOptions {
  std::optional<std::string> file, out;
};

void print_vectors(const Tensor& vectors, bool json) {
  const int64_t rows = vectors.shape()[0];
  const auto width = static_cast<size_t>(vectors.shape()[1]);
  // Nine digits bring every fp32 back to the same bits.
  if (json) fmt::print("{{\"width\": {}, \"embeddings\": [\n", width);
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = vectors.as<float>().subspan(static_cast<size_t>(r) * width, width);
    fmt::print("[{:.9g}]{}\n", fmt::join(row, ", "), json && r + 1 < rows ? "," : "");
  }
  if (json) fmt::print("]}}\n");
}

void run(const EmbedOptions& options) {
  const std::vector<std::string> lines = input_lines(options.file);
  Session session = open_session(options);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  const SentenceConfig config = read_sentence_config(options.model);
  if (!config.found) warn("the model's folder names no pooling (modules.json); mean pooling is used");
  SentenceEncoder encoder(session, tokenizer, config);
  Tensor vectors;
  {
    Progress progress("embedding", static_cast<int64_t>(lines.size()), "lines");
    vectors = encoder.encode(lines, [&](int64_t done) { progress.advance(done); });
  }
  if (encoder.truncated() > 0) warn(fmt::format("{} of {} lines were truncated", encoder.truncated(), lines.size()));
  for (const float value : vectors.as<float>()) {
    if (!std::isfinite(value))
      fail<NumericError>("{}: a sentence vector holds {}; the weights may be damaged", options.model, value);
  }
  if (!options.out) return print_vectors(vectors, options.json);
  write_npy(*options.out, vectors.view());
  const nlohmann::ordered_json facts = {
      {"rows", vectors.shape()[0]}, {"width", vectors.shape()[1]}, {"file", *options.out}};
  if (options.json) return print_json(facts);
  fmt::print("{} vectors of {} numbers → {}\n", format_count(vectors.shape()[0]), vectors.shape()[1], *options.out);
}

}  // namespace

void add_embed(Program& program) {
  auto options = std::make_shared<EmbedOptions>();
  Command command = program.add_subcommand("embed", "Make sentence vectors, one a line of text");
  options->add_to(command);
  command.add_option("--file", options->file, "Text, a line a sentence (default: standard input)").type_name("TEXT");
  command
      .add_option(
          "--out", options->out,
          "Write the vectors [lines, width] as NumPy fp32; otherwise they are printed as JSON arrays, a line each")
      .type_name("FILE.npy");
  command.footer(
      "Examples:\n"
      "  echo 'A cat sat on the mat.' | octet embed minilm\n"
      "  octet embed minilm --file sentences.txt --out vectors.npy --recipe w8a8_dynamic");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

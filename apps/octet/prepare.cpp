// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/progress.h"
#include "octet/data/prepare_tokens.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct PrepareCommand : CommonOptions {
  std::string model, out, documents = "whole";
  std::vector<std::string> data;
};

void run(const PrepareCommand& command) {
  constexpr int64_t kMebibyte = int64_t{1} << 20;
  PrepareOptions options{.documents = parse_documents(command.documents), .threads = command.threads};
  std::optional<Progress> progress;
  int64_t shown = 0;
  options.advance = [&](int64_t bytes, int64_t of) {
    if (!progress) progress.emplace("tokenizing", (of + kMebibyte - 1) / kMebibyte, "MiB");
    progress->advance(bytes / kMebibyte - std::exchange(shown, bytes / kMebibyte));
  };
  const std::vector<std::filesystem::path> texts(command.data.begin(), command.data.end());
  const PrepareReport report = prepare_tokens(texts, Tokenizer::load(command.model), command.out, options);
  progress.reset();
  if (report.inner_ends > 0) {
    warn(fmt::format("{} tokens that end a text stood inside documents; each ends a document (see --documents)",
                     format_count(report.inner_ends)));
  }
  if (command.json) {
    print_json({{"file", command.out},
                {"tokens", report.tokens},
                {"documents", report.documents},
                {"inner_ends", report.inner_ends},
                {"bytes_per_token", report.bytes_per_token},
                {"text_bytes", report.text_bytes}});
    return;
  }
  fmt::print("{} documents, {} tokens of {} bytes;  {} of text → {}\n", format_count(report.documents),
             format_count(report.tokens), report.bytes_per_token, format_bytes(report.text_bytes),
             format_bytes(report.tokens * report.bytes_per_token));
}

}  // namespace

void add_prepare(Program& program) {
  auto options = std::make_shared<PrepareCommand>();
  Command command = program.add_subcommand("prepare", "Tokenize texts once, for language models to be trained on");
  command
      .add_option("MODEL", options->model, "The model that is to be trained, or another directory with its tokenizer")
      .required();
  command.add_option("--data", options->data, "Texts, of any size").required().existing_file().type_name("FILE");
  command.add_option("--out", options->out, "The file of tokens to make, FILE.npy; FILE.npy.json is made beside it")
      .required()
      .type_name("FILE");
  command
      .add_option("--documents", options->documents,
                  "What a text holds: whole (one document), lines, blank-lines or end-of-text (documents with blank "
                  "lines, or lines <|endoftext|>, between them)")
      .capture_default_str()
      .type_name("KIND");
  options->add_to(command);
  command.footer(
      "octet train reads such a file (train_data) as it would the texts, at once and with little memory: it is mapped. "
      "NumPy\nreads it too: a row of uint16, or uint32 where the vocabulary needs it, the token that ends a text "
      "behind "
      "each document.\n"
      "Examples:\n"
      "  octet prepare smollm2 --data wiki.txt --data books.txt --out corpus.npy\n"
      "  octet prepare stories --data TinyStories-train.txt --documents end-of-text --out stories.npy\n"
      "  octet train --config examples/lm_pretrain.json --set model=stories --set train_data=stories.npy \\\n"
      "      --set eval_data=valid.txt --set documents=end-of-text --out run");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

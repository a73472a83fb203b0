// SPDX-License-Identifier: Apache-2.0
#include <map>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/progress.h"
#include "octet/ptq/export_gguf.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct ExportOptions : CommonOptions {
  std::string model, to, type, out;
};

const char* said_of(ExportedTensor::Reason reason) {
  switch (reason) {
    case ExportedTensor::Reason::kAsAsked:
      return "";
    case ExportedTensor::Reason::kRows:
      return "rows that are no multiple of 32";
    case ExportedTensor::Reason::kCodes:
      return "stored as codes, which stay";
  }
  return "";
}

void print_as_json(const ExportOptions& options, const ExportReport& report) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  for (const ExportedTensor& tensor : report.tensors) {
    nlohmann::ordered_json entry = {{"name", tensor.name},
                                    {"type", find_block(tensor.type)->name},
                                    {"bytes_before", tensor.bytes_before},
                                    {"bytes", tensor.bytes}};
    if (tensor.reason != ExportedTensor::Reason::kAsAsked) entry["reason"] = said_of(tensor.reason);
    tensors.push_back(std::move(entry));
  }
  print_json({{"architecture", report.architecture},
              {"file", options.out},
              {"bytes_before", report.bytes_before},
              {"bytes", report.bytes},
              {"notes", report.notes},
              {"tensors", tensors}});
}

void print_for_people(const ExportOptions& options, const ExportReport& report) {
  std::map<std::pair<GgufType, ExportedTensor::Reason>, std::pair<int64_t, int64_t>> counts;  // tensors, bytes
  for (const ExportedTensor& tensor : report.tensors) {
    auto& [count, bytes] = counts[{tensor.type, tensor.reason}];
    ++count;
    bytes += tensor.bytes;
  }
  for (const auto& [kind, sizes] : counts) {
    const auto& [type, reason] = kind;
    fmt::print("{} tensor{} → {} ({}){}{}\n", sizes.first, sizes.first == 1 ? "" : "s", find_block(type)->name,
               format_bytes(sizes.second), reason == ExportedTensor::Reason::kAsAsked ? "" : ":  ", said_of(reason));
  }
  fmt::print("{} → {}      {}, architecture '{}'\n", format_bytes(report.bytes_before), format_bytes(report.bytes),
             options.out, report.architecture);
}

void run(const ExportOptions& options) {
  const GgufType type = parse_gguf_type(options.type);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  std::optional<Progress> progress;
  const auto advance = [&](int64_t, int64_t total) {
    if (!progress) progress.emplace("exporting", total, "tensors");
    progress->advance();
  };
  const ExportReport report = export_gguf(checkpoint, type, options.out, advance, options.threads);
  progress.reset();
  for (const std::string& note : report.notes) warn(note);
  if (options.json) {
    print_as_json(options, report);
  } else {
    print_for_people(options, report);
  }
}

}  // namespace

void add_export(Program& program) {
  auto options = std::make_shared<ExportOptions>();
  Command command =
      program.add_subcommand("export", "Write a model for other programs: a GGUF file, as llama.cpp reads");
  command.add_option("MODEL", options->model, "A Hugging Face model directory, or a GGUF file").required();
  command.add_option("--to", options->to, "The format: gguf").required().one_of({"gguf"}).type_name("FORMAT");
  command
      .add_option("--type", options->type,
                  "What matrices and the table of embeddings become: f16, q8_0 or q4_0; normalization and biases are "
                  "F32")
      .required()
      .type_name("TYPE");
  command.add_option("--out", options->out, "The file to make; it must not exist").required().type_name("FILE");
  options->add_to(command);
  command.footer("Examples:\n  octet export smollm2 --to gguf --type q8_0 --out smollm2.q8_0.gguf");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

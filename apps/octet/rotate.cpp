// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/progress.h"
#include "octet/ptq/rotation.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct RotateOptions {
  std::string model, out;
  uint64_t seed = 0;
  bool json = false;
};

void run(const RotateOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  std::optional<Progress> progress;
  const auto advance = [&](int64_t, int64_t total) {
    if (!progress) progress.emplace("rotating", total, "tensors");
    progress->advance();
  };
  const RotationReport report = rotate_model(checkpoint, options.out, {.seed = options.seed, .advance = advance});
  progress.reset();
  if (options.json) {
    print_json({{"directory", options.out},
                {"width", report.width},
                {"block", report.block},
                {"head_width", report.head_width},
                {"head_block", report.head_block},
                {"tensors", report.tensors},
                {"untied_head", report.untied},
                {"bytes_before", report.bytes_before},
                {"bytes", report.bytes_after}});
    return;
  }
  fmt::print("{} tensors turned: hidden states {} wide in blocks of {}", report.tensors, format_count(report.width),
             format_count(report.block));
  if (report.head_width > 0)
    fmt::print(", heads of values {} wide in blocks of {}", report.head_width, report.head_block);
  fmt::print("\n{} → {}      {}\n", format_bytes(report.bytes_before), format_bytes(report.bytes_after), options.out);
  if (report.untied)
    fmt::print("the output head has a weight of its own now, as its normalization is folded into it\n");
}

}  // namespace

void add_rotate(Program& program) {
  auto options = std::make_shared<RotateOptions>();
  Command command = program.add_subcommand(
      "rotate", "Turn a float model's hidden states by a Hadamard matrix folded into its weights, before quantizing");
  command.add_option("MODEL", options->model, "A Hugging Face model directory with float weights").required();
  command.add_option("--out", options->out, "The directory to make; it must not exist").required().type_name("DIR");
  command.add_option("--seed", options->seed, "Of the random signs").capture_default_str().type_name("N");
  command.add_flag("--json", options->json, "Print results as JSON");
  command.footer(
      "What the model computes stays as it was, but for rounding. For models that normalize by root mean squares.\n"
      "Examples:\n"
      "  octet rotate smollm2 --out smollm2-rotated\n"
      "  octet quantize smollm2-rotated --recipe w8a8_dynamic --out smollm2-rotated-w8a8");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

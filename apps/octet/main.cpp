// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <cstdio>
#include <exception>

#include <fmt/format.h>

#include "apps/octet/command_line.h"
#include "apps/octet/commands.h"
#include "octet/base/error.h"

namespace octet::cli {
namespace {

constexpr int kFailure = 1, kUsage = 2;

int report(const char* what, int status) {
  // What was printed so far comes first, where both go to one terminal.
  std::fflush(stdout);
  fmt::print(stderr, "octet: {}\n", what);
  return status;
}

void run(int argc, char** argv) {
  Program program(
      "octet",
      "Quantizes transformers and runs them: 8-bit weights and activations, exact integer products, the same bits on "
      "every machine.",
      OCTET_VERSION);
  program.footer(
      "Start with:\n"
      "  octet demo\n"
      "  octet quantize MODEL --recipe w8a8_dynamic --out DIR\n"
      "`octet COMMAND --help` has each command's options and examples.");
  add_demo(program);
  add_rotate(program);
  add_quantize(program);
  add_prepare(program);
  add_train(program);
  add_lower(program);
  add_export(program);
  add_inspect(program);
  add_eval(program);
  add_compare(program);
  add_bench(program);
  add_report(program);
  add_sensitivity(program);
  add_autoquant(program);
  add_generate(program);
  add_chat(program);
  add_embed(program);
  add_logits(program);
  add_tokenize(program);
  add_accumulators(program);
  add_info(program);
  program.run(argc, argv);
}

}  // namespace
}  // namespace octet::cli

int main(int argc, char** argv) {
  using namespace octet::cli;
  // A file that reaches a size limit is reported by write() like a full disk, not by a signal.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    run(argc, argv);
  } catch (const octet::UsageError& error) {
    return report(error.what(), kUsage);
  } catch (const std::bad_alloc&) {
    return report("not enough memory", kFailure);
  } catch (const std::exception& error) {
    return report(error.what(), kFailure);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return report("standard output: cannot write", kFailure);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <cstdio>
#include <exception>

#include <fmt/format.h>

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

int run(int argc, char** argv) {
  CLI::App app(
      "Quantizes transformers and runs them: 8-bit weights and activations, exact integer products, the same bits on "
      "every machine.",
      "octet");
  app.set_version_flag("--version", OCTET_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Start with:\n"
      "  octet demo\n"
      "  octet quantize MODEL --recipe w8a8_dynamic --out DIR\n"
      "`octet COMMAND --help` has each command's options and examples.");
  add_demo(app);
  add_rotate(app);
  add_quantize(app);
  add_prepare(app);
  add_train(app);
  add_lower(app);
  add_export(app);
  add_inspect(app);
  add_eval(app);
  add_compare(app);
  add_bench(app);
  add_report(app);
  add_sensitivity(app);
  add_autoquant(app);
  add_generate(app);
  add_chat(app);
  add_embed(app);
  add_logits(app);
  add_tokenize(app);
  add_accumulators(app);
  add_info(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);  // --help, --version
  } catch (const CLI::ParseError& error) {
    return report(
        fmt::format("{}\nRun 'octet --help' or 'octet COMMAND --help' for the options.", error.what()).c_str(), kUsage);
  }
  return 0;
}

}  // namespace
}  // namespace octet::cli

int main(int argc, char** argv) {
  using namespace octet::cli;
  // A file that reaches a size limit is reported by write() like a full disk, not by a signal.
  std::signal(SIGXFSZ, SIG_IGN);
  int status = 0;
  try {
    status = run(argc, argv);
  } catch (const octet::UsageError& error) {
    return report(error.what(), kUsage);
  } catch (const std::bad_alloc&) {
    return report("not enough memory", kFailure);
  } catch (const std::exception& error) {
    return report(error.what(), kFailure);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return report("standard output: cannot write", kFailure);
  return status;
}

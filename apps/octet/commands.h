// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

// One function a subcommand, each in the file of its name: it adds the subcommand to `app`, to run when it is parsed.
namespace octet::cli {

void add_accumulators(CLI::App& app);
void add_autoquant(CLI::App& app);
void add_bench(CLI::App& app);
void add_chat(CLI::App& app);
void add_compare(CLI::App& app);
void add_demo(CLI::App& app);
void add_embed(CLI::App& app);
void add_eval(CLI::App& app);
void add_export(CLI::App& app);
void add_generate(CLI::App& app);
void add_info(CLI::App& app);
void add_inspect(CLI::App& app);
void add_lower(CLI::App& app);
void add_logits(CLI::App& app);
void add_prepare(CLI::App& app);
void add_quantize(CLI::App& app);
void add_report(CLI::App& app);
void add_rotate(CLI::App& app);
void add_sensitivity(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_train(CLI::App& app);

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "apps/octet/command_line.h"

// One function a subcommand, each in the file of its name: it adds the subcommand to `program`, to run when it is
// parsed.
namespace octet::cli {

void add_accumulators(Program& program);
void add_autoquant(Program& program);
void add_bench(Program& program);
void add_chat(Program& program);
void add_compare(Program& program);
void add_demo(Program& program);
void add_embed(Program& program);
void add_eval(Program& program);
void add_export(Program& program);
void add_generate(Program& program);
void add_info(Program& program);
void add_inspect(Program& program);
void add_lower(Program& program);
void add_logits(Program& program);
void add_prepare(Program& program);
void add_quantize(Program& program);
void add_report(Program& program);
void add_rotate(Program& program);
void add_sensitivity(Program& program);
void add_tokenize(Program& program);
void add_train(Program& program);

}  // namespace octet::cli

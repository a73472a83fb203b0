// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/cpu.h"
#include "octet/base/parallel.h"

namespace octet::cli {
namespace {

void run(const CommonOptions& options) {
  const std::string backend = make_cpu_backend({.threads = options.threads})->describe();
  std::vector<std::string> recipes = Recipe::built_in_names();
  for (const auto models : {Recipe::AppliesTo::kFloatOffline, Recipe::AppliesTo::kQuantized}) {
    for (std::string& name : Recipe::built_in_names(models)) recipes.push_back(std::move(name));
  }
  if (options.json) {
    print_json({{"version", OCTET_VERSION},
                {"cpu", cpu_features().name},
                {"processors", available_threads()},
                {"isas", cpu_isas()},
                {"backend", backend},
                {"recipes", recipes}});
    return;
  }
  fmt::print("octet      {}\n", OCTET_VERSION);
  fmt::print("processor  {}, {} available to this process\n", cpu_features().name, available_threads());
  fmt::print("kernels    {}  (can run: {}; OCTET_ISA forces one)\n", backend, fmt::join(cpu_isas(), ", "));
  fmt::print("recipes    {}\n", fmt::join(recipes, ", "));
}

}  // namespace

void add_info(Program& program) {
  auto options = std::make_shared<CommonOptions>();
  Command command = program.add_subcommand("info", "Show version, processor and the kernels chosen for it");
  options->add_to(command);
  command.footer("Examples:\n  octet info\n  OCTET_ISA=ref octet info --json");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli
